//! Entries against a plain map, nodes in order, and the index of instances by node against a scan.

use super::super::{ByNode, KeyValue};
use super::*;
use crate::model::entry::EntryBody;
use std::collections::BTreeSet;

fn key_value(namespace: &str, key: &str, value: &str) -> KeyValue {
    let key = Key { kind: Kind::ENTRY, scope: Scope::Datacenter, namespace: namespace.into(), name: key.into(), id: "".into() };
    let content = Content::encode(&key, &EntryBody { flags: 7, value: value.as_bytes() });
    let version = value.len() as u64;
    KeyValue::new(content, version).unwrap()
}

#[test]
fn a_prefix_ends_where_its_keys_end() {
    let mut editor = editor();
    for (namespace, key) in [("default", "a"), ("default", "a/1"), ("default", "a/2"), ("default", "a0"), ("other", "a/1")] {
        editor.put_entry(key_value(namespace, key, key));
    }
    let view = editor.publish(at(1)).unwrap();
    let keys = |prefix: &str| view.entries("default", prefix).map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys("a/"), ["a/1", "a/2"]);
    assert_eq!(keys(""), ["a", "a/1", "a/2", "a0"]);
    assert_eq!(keys("b"), [""; 0]);
    let after: Vec<_> = view.entries_after("default", "a", "a/1").map(|entry| entry.key.to_string()).collect();
    assert_eq!(after, ["a/2", "a0"]);
    let found = view.entry("other", "a/1").unwrap();
    assert_eq!((found.value(), found.flags), (&b"a/1"[..], 7));
    assert_eq!(editor.entry_keys("default", "a/"), ["a/1", "a/2"]);
}

#[test]
fn a_revision_moves_for_what_is_under_the_prefix_alone_deletions_included() {
    let mut editor = editor();
    for key in ["a/1", "b/1"] {
        editor.put_entry(key_value("default", key, "x"));
    }
    let first = editor.publish(at(1)).unwrap();
    editor.remove_entry("default", "a/1");
    let second = editor.publish(at(2)).unwrap();
    assert_eq!(second.entries_revision("default", "a/"), second.revision);
    assert_eq!(second.entries_revision("default", "b/"), first.revision);
    assert_eq!(second.entries_revision("default", "never"), first.revision, "more than a reader asks with who knows nothing");
    editor.put_entry(key_value("default", "a/1", "x"));
    let third = editor.publish(at(3)).unwrap();
    assert_eq!(third.entry("default", "a/1").unwrap().created, third.revision, "it came anew");
    editor.put_entry(key_value("default", "a/1", "x"));
    assert!(editor.publish(at(4)).is_none(), "what says the same is no change");
    // Another agent's restart begins with nothing: no prefix is younger than that.
    let mut later = Editor::new(agent(), third.revision);
    later.block_reserved(u64::MAX >> 11);
    assert!(later.publish(at(5)).unwrap().entries_revision("default", "a/") >= third.revision);
}

#[test]
fn a_forgotten_deletion_counts_as_the_latest_forgotten() {
    let mut editor = editor();
    for n in 0..1_100 {
        editor.put_entry(key_value("default", &format!("k{n:04}"), "x"));
    }
    editor.publish(at(1)).unwrap();
    let mut revisions = Vec::new();
    for n in 0..1_100 {
        editor.remove_entry("default", &format!("k{n:04}"));
        revisions.push(editor.publish(at(2 + n)).unwrap().revision);
    }
    let view = editor.view();
    assert_eq!(view.entries_revision("default", "k1099"), revisions[1_099]);
    assert_eq!(view.entries_revision("default", "k0000"), revisions[1_100 - 1_024 - 1]);
    assert_eq!((view.entry_count(), view.entries("default", "").count()), (0, 0));
}

#[test]
fn nodes_are_listed_by_name_each_once() {
    let mut editor = editor();
    for name in ["n2", "n1", "n3"] {
        editor.set_node(name, Some(node(name, Liveness::Alive)));
    }
    let first = editor.publish(at(1)).unwrap();
    editor.set_node("n2", Some(node("n2", Liveness::Alive)));
    assert!(!editor.is_dirty(), "the same is no change");
    editor.set_node("n2", Some(node("n2", Liveness::Down)));
    editor.set_node("n3", None);
    let second = editor.publish(at(2)).unwrap();
    let names = |view: &View| view.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["n1", "n2", "n3"]);
    assert_eq!(names(&second), ["n1", "n2"]);
    assert_eq!(second.node("n2").unwrap().liveness, Liveness::Down);
    assert!(second.nodes_revision > first.nodes_revision && second.node("n3").is_none());
    assert_eq!(second.members_revision, first.members_revision);
}

/// Publishing one change among 20,000 entries costs a chunk and the list of chunks: the others are shared.
#[test]
fn a_change_copies_no_other_entry() {
    let mut editor = editor();
    for n in 0..20_000 {
        editor.put_entry(key_value("default", &format!("app/{n:05}"), "x"));
    }
    let first = editor.publish(at(1)).unwrap();
    editor.put_entry(key_value("default", "app/12345", "longer"));
    let second = editor.publish(at(2)).unwrap();
    let is_shared = |(a, b): (&Arc<KeyValue>, &Arc<KeyValue>)| Arc::ptr_eq(a, b);
    let copied = first.entries("default", "").zip(second.entries("default", "")).filter(|pair| !is_shared(*pair)).count();
    assert_eq!(copied, 1);
    assert_eq!(second.entry_count(), 20_000);
}

/// One step of a random history of entries.
#[derive(Debug, Clone)]
enum Turn {
    Put(u16, u8),
    Remove(u16),
    Publish,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        5 => (0..400u16, 0..4u8).prop_map(|(key, value)| Turn::Put(key, value)),
        3 => (0..400u16).prop_map(Turn::Remove),
        1 => Just(Turn::Publish),
    ];
    proptest::collection::vec(turn, 1..600)
}

fn name(key: u16) -> (String, String) {
    (["a", "b"][usize::from(key % 2)].to_owned(), format!("{}/{}", key % 7, key))
}

proptest! {
    #[test]
    fn entries_are_a_map_with_revisions(turns in turns()) {
        let mut editor = editor();
        let mut map: BTreeMap<(String, String), (String, u64, u64)> = BTreeMap::new();
        let mut drafts: BTreeMap<(String, String), Option<String>> = BTreeMap::new();
        // The latest change of each name, deletions included.
        let mut changed: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut wall = 0;
        let floor = editor.publish(at(0)).unwrap().revision;
        for turn in turns.into_iter().chain([Turn::Publish]) {
            match turn {
                Turn::Put(key, value) => {
                    let (namespace, key) = name(key);
                    let value = "v".repeat(usize::from(value));
                    editor.put_entry(key_value(&namespace, &key, &value));
                    drafts.insert((namespace, key), Some(value));
                }
                Turn::Remove(key) => {
                    let (namespace, key) = name(key);
                    editor.remove_entry(&namespace, &key);
                    drafts.insert((namespace, key), None);
                }
                Turn::Publish => {
                    wall += 1;
                    let Some(view) = editor.publish(at(wall)) else { continue };
                    for (name, draft) in std::mem::take(&mut drafts) {
                        let known = map.get(&name).cloned();
                        match (known, draft) {
                            (Some((value, ..)), Some(new)) if value == new => continue,
                            (Some((_, created, _)), Some(new)) => drop(map.insert(name.clone(), (new, created, view.revision))),
                            (None, Some(new)) => drop(map.insert(name.clone(), (new, view.revision, view.revision))),
                            (Some(_), None) => drop(map.remove(&name)),
                            (None, None) => continue,
                        }
                        changed.insert(name, view.revision);
                    }
                }
            }
        }
        let view = editor.view();
        prop_assert_eq!(view.entry_count(), map.len());
        for namespace in ["a", "b", "c"] {
            for prefix in ["", "1", "1/", "3/1", "6/", "9"] {
                let found: Vec<_> = view.entries(namespace, prefix).map(|e| (e.key.to_string(), e.value().len(), e.created, e.modified)).collect();
                let under = map.iter().filter(|((of, key), _)| of == namespace && key.starts_with(prefix));
                let expected: Vec<_> = under.map(|((_, key), (value, c, m))| (key.clone(), value.len(), *c, *m)).collect();
                prop_assert_eq!(&found, &expected);
                let newest = changed.iter().filter(|((of, key), _)| of == namespace && key.starts_with(prefix)).map(|(_, at)| *at).max();
                prop_assert_eq!(view.entries_revision(namespace, prefix), newest.unwrap_or(floor).max(floor));
            }
        }
    }

    #[test]
    fn the_index_by_node_is_what_a_scan_finds(steps in steps()) {
        let services: Vec<ServiceKey> = (0..3).map(|i| service(&format!("s{i}"))).collect();
        let mut nodes: Vec<Arc<Node>> =
            (0..3).map(|i| Arc::new(Node { id: NodeId(i), ..(*node(&format!("n{i}"), Liveness::Alive)).clone() })).collect();
        let mut editor = editor();
        let (mut index, mut lazy) = (ByNode::default(), ByNode::default());
        for (at_step, step) in steps.into_iter().chain([Step::Publish]).enumerate() {
            match step {
                Step::Put { service, id, node, version, .. } => {
                    let key = &services[usize::from(service)];
                    editor.put(key, entry_of(key, &format!("i{id}"), &nodes[usize::from(node)], u64::from(version), &instance()));
                }
                Step::Remove { service, id } => {
                    let key = &services[usize::from(service)];
                    let uid = entry(key, &format!("i{id}"), &nodes[0]).uid;
                    editor.remove(key, uid, RemoveReason::Deregistered);
                }
                Step::Turn { node, .. } => {
                    let old = &mut nodes[usize::from(node)];
                    let new = Arc::new(Node { address: format!("10.0.0.{at_step}"), ..(**old).clone() });
                    services.iter().for_each(|key| editor.replace_node(key, old, &new));
                    *old = new;
                }
                Step::Publish => {
                    let Some(view) = editor.publish(at(1)) else { continue };
                    index.follow(&view);
                    let scan = |id: u128| -> BTreeSet<(ServiceKey, Uid)> {
                        let entries = view.services(None).flat_map(|service| service.entries.iter().map(|entry| (service.key.clone(), entry)));
                        entries.filter(|(_, entry)| entry.node.id == NodeId(id)).map(|(key, entry)| (key, entry.uid)).collect()
                    };
                    for id in 0..3 {
                        let on_it: BTreeSet<_> = index.on(NodeId(id)).map(|(key, uid)| (key.clone(), uid)).collect();
                        prop_assert_eq!(on_it, scan(id));
                    }
                }
            }
        }
        lazy.follow(editor.view());
        index.follow(editor.view());
        for id in 0..3 {
            prop_assert!(lazy.on(NodeId(id)).eq(index.on(NodeId(id))), "begun late, it is the same");
        }
    }
}
