//! Behaviour of the read side as a whole; properties against a plain map.

use super::*;
use crate::model::instance::{Health, Instance};
use crate::model::names::{Namespace, NodeId, ServiceName};
use crate::model::node::{Liveness, Override};
use crate::model::record::{Content, Key, Kind, Scope, Uid};
use crate::model::time::Now;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod entries;

const ORIGIN: NodeId = NodeId(7);

pub(super) fn agent() -> AgentView {
    AgentView {
        id: ORIGIN,
        name: "n1".into(),
        datacenter: "dc1".into(),
        zone: None,
        version: "0".into(),
        is_ready: true,
        is_cut_off: false,
        is_leaving: false,
    }
}

pub(super) fn node(name: &str, liveness: Liveness) -> Arc<Node> {
    Arc::new(Node {
        id: ORIGIN,
        name: name.into(),
        address: "10.0.0.1".into(),
        zone: Some("a".into()),
        datacenter: "dc1".into(),
        metadata: Vec::new(),
        is_external: false,
        liveness,
        word: None,
        checks: Vec::new(),
    })
}

fn service(name: &str) -> ServiceKey {
    in_namespace("default", name)
}

fn in_namespace(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey { namespace: Namespace::new(namespace).unwrap(), service: ServiceName::new(name).unwrap() }
}

fn instance() -> Instance<'static> {
    Instance { address: "10.0.0.9".into(), port: Some(80), weight: 1000, weight_warning: 500, enabled: true, ..Instance::default() }
}

fn entry_of(service: &ServiceKey, id: &str, node: &Arc<Node>, version: u64, instance: &Instance<'_>) -> Entry {
    let (namespace, name) = (service.namespace.as_str().into(), service.service.as_str().into());
    let key = Key { kind: Kind::INSTANCE, scope: Scope::Datacenter, namespace, name, id: id.into() };
    Entry::new(key.uid(ORIGIN), Content::encode(&key, instance), Arc::clone(node), version, None).unwrap()
}

fn entry(service: &ServiceKey, id: &str, node: &Arc<Node>) -> Entry {
    entry_of(service, id, node, 1, &instance())
}

/// An editor whose revisions are reserved for ever.
fn editor() -> Editor {
    let mut editor = Editor::new(agent(), 0);
    editor.block_reserved(u64::MAX >> 11);
    editor
}

fn at(wall_ms: u64) -> Now {
    Now { ns: wall_ms * 1_000_000, wall_ms }
}

fn ids(view: &View, name: &str, filter: &Filter) -> Vec<String> {
    let Some(service) = view.service("default", name) else { return Vec::new() };
    filter.select(service).map(|entry| entry.instance().unwrap().0.id.as_str().to_owned()).collect()
}

#[test]
fn a_change_moves_the_revision_of_its_service_only() {
    let (mut editor, alive) = (editor(), node("n1", Liveness::Alive));
    let (web, db) = (service("web"), service("db"));
    editor.put(&web, entry(&web, "1", &alive));
    editor.put(&db, entry(&db, "1", &alive));
    let first = editor.publish(at(1)).unwrap();
    assert_eq!(first.revision, 1 << 10);
    editor.put(&web, entry(&web, "2", &alive));
    let second = editor.publish(at(1)).unwrap();
    assert_eq!(second.revision, (1 << 10) + 1);
    assert_eq!(second.revision_of("default", "web"), second.revision);
    assert_eq!(second.revision_of("default", "db"), first.revision);
    assert_eq!(ids(&first, "web", &Filter::default()), ["1"], "a published view never changes");
    assert_eq!(second.instance_count(), 3);
}

#[test]
fn members_that_are_not_stale_stay_the_very_rows_they_were() {
    let mut editor = editor();
    let row = |id, name| super::testing::member(id, name);
    editor.set_members(|_| true, vec![row(3, "c"), row(1, "a"), row(2, "b")]);
    editor.publish(at(1));
    let names = |editor: &Editor| editor.view().members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&editor), ["a", "b", "c"], "by name");
    let before = Arc::clone(&editor.view().members);
    editor.set_members(|node| node == NodeId(2), vec![row(2, "b")]);
    assert!(!editor.is_dirty() && Arc::ptr_eq(&before, &editor.view().members), "nothing is new");
    editor.set_members(|node| node == NodeId(2), vec![MemberView { state: MemberState::Down, ..row(2, "b") }]);
    assert!(editor.is_dirty());
    let after = Arc::clone(&editor.view().members);
    assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[2], &after[2]));
    assert_eq!(after[1].state, MemberState::Down);
    editor.set_members(|node| node != NodeId(3), vec![row(2, "z"), row(4, "d")]);
    assert_eq!(names(&editor), ["c", "d", "z"], "one is gone, one has come, one has another name");
}

#[test]
fn putting_the_same_again_publishes_nothing() {
    let (mut editor, alive, web) = (editor(), node("n1", Liveness::Alive), service("web"));
    editor.put(&web, entry(&web, "1", &alive));
    assert!(editor.publish(at(1)).is_some());
    editor.put(&web, entry(&web, "1", &alive));
    assert!(editor.publish(at(2)).is_none());
    // There and back again within one publication is nothing as well.
    editor.put(&web, entry_of(&web, "1", &alive, 2, &instance()));
    editor.put(&web, entry(&web, "1", &alive));
    assert!(editor.publish(at(3)).is_none());
}

#[test]
fn a_services_revision_survives_its_last_instance() {
    let (mut editor, alive, web) = (editor(), node("n1", Liveness::Alive), service("web"));
    editor.put(&web, entry(&web, "1", &alive));
    let uid = editor.entries(&web)[0].uid;
    editor.publish(at(1)).unwrap();
    editor.remove(&web, uid, RemoveReason::Deregistered);
    let gone = editor.publish(at(5)).unwrap();
    assert!(gone.service("default", "web").is_none());
    assert_eq!(gone.services(None).count(), 0);
    assert_eq!(gone.revision_of("default", "web"), gone.revision);
    assert!(gone.revision_of("default", "never") < gone.revision);
    editor.put(&service("db"), entry(&service("db"), "1", &alive));
    assert_eq!(editor.publish(at(9)).unwrap().revision_of("default", "web"), gone.revision);
}

#[test]
fn forgotten_services_count_as_the_latest_forgotten() {
    let (mut editor, alive) = (editor(), node("n1", Liveness::Alive));
    let keys: Vec<ServiceKey> = (0..16_385).map(|i| service(&format!("s{i}"))).collect();
    for key in &keys {
        editor.put(key, entry(key, "1", &alive));
    }
    editor.publish(at(1)).unwrap();
    for (i, key) in keys.iter().enumerate() {
        editor.set_service(key, Vec::new(), &[]);
        if i == 0 {
            editor.publish(at(2)).unwrap();
        }
    }
    let view = editor.publish(at(3)).unwrap();
    assert_eq!(view.revision_of("default", "s0"), 2 << 10);
    assert_eq!(view.revision_of("default", "never"), 2 << 10);
    assert_eq!(view.revision_of("default", "s1"), 3 << 10);
}

#[test]
fn unverified_entries_are_handed_out_only_where_nothing_healthy_is_left() {
    let web = service("web");
    let (alive, unverified) = (node("n1", Liveness::Alive), node("n2", Liveness::Unverified));
    let mut editor = editor();
    editor.put(&web, entry(&web, "sure", &alive));
    editor.put(&web, entry(&web, "unsure", &unverified));
    let first = editor.publish(at(1)).unwrap();
    assert_eq!(ids(&first, "web", &Filter::default()), ["sure"]);
    let down = node("n1", Liveness::Down);
    editor.replace_node(&web, &alive, &down);
    let second = editor.publish(at(2)).unwrap();
    assert_eq!(ids(&second, "web", &Filter::default()), ["unsure"]);
    let service = second.service("default", "web").unwrap();
    assert!(service.available().all(|entry| entry.standing == Standing::Unverified && !entry.node.is_verified()));
    // The unverified one was not touched, but what lookups do with it changed: a feed says so.
    let Changes::Batches(batches) = second.changes_since(first.revision) else { panic!("the journal reaches back") };
    let filter = Filter::default();
    let events: Vec<String> = batches[0].changes.iter().filter_map(|change| change.event(&filter)).map(|e| format!("{e:?}")).collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().any(|event| event.starts_with("Remove") && event.contains("AgentDown")), "{events:?}");
}

#[test]
fn suspects_stand_last() {
    let (mut editor, web) = (editor(), service("web"));
    let (alive, suspect) = (node("n1", Liveness::Alive), node("n2", Liveness::Suspect));
    for i in 0..10 {
        editor.put(&web, entry(&web, &format!("a{i}"), if i < 5 { &suspect } else { &alive }));
    }
    let view = editor.publish(at(1)).unwrap();
    let listed: Vec<bool> = view.service("default", "web").unwrap().available().map(Entry::is_suspect).collect();
    assert_eq!(listed, [[false; 5], [true; 5]].concat());
}

#[test]
fn an_operators_word_on_an_instance_wins_and_one_on_its_node_takes_away() {
    let web = service("web");
    let word = |enabled| Override { enabled, reason: "test".into(), expires_at: None, set_at: 0 };
    let disabled = Instance { enabled: false, ..instance() };
    let mut it = entry_of(&web, "1", &node("n1", Liveness::Alive), 1, &disabled);
    assert!(!it.is_enabled());
    it.word = Some(Arc::new(word(true)));
    assert!(it.is_enabled());
    it.node = Arc::new(Node { word: Some(word(false)), ..(*it.node).clone() });
    assert!(!it.is_enabled());
}

#[test]
fn filters_compose() {
    let (mut editor, alive, web) = (editor(), node("n1", Liveness::Alive), service("web"));
    let mut it = instance();
    it.tags = vec!["grpc".into(), "v2".into()];
    it.metadata = vec![("env".into(), "prod".into()), ("version".into(), "1".into())];
    editor.put(&web, entry_of(&web, "1", &alive, 1, &it));
    it.zone = Some("b".into());
    it.status = Health::Critical;
    editor.put(&web, entry_of(&web, "2", &alive, 1, &it));
    let view = editor.publish(at(1)).unwrap();
    let found = |filter: Filter| ids(&view, "web", &filter).len();
    let tags = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect();
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    assert_eq!(found(Filter::default()), 1);
    assert_eq!(found(Filter::any()), 2);
    assert_eq!(found(Filter { tags: tags(&["v2", "grpc"]), ..Filter::any() }), 2);
    assert_eq!(found(Filter { tags: tags(&["v2", "v3"]), ..Filter::any() }), 0);
    assert_eq!(found(Filter { metadata: pair("env", "prod"), ..Filter::any() }), 2);
    assert_eq!(found(Filter { metadata: pair("env", "test"), ..Filter::any() }), 0);
    assert_eq!(found(Filter { zone: Some("a".into()), ..Filter::any() }), 1, "the node's zone stands in");
    assert_eq!(found(Filter { zone: Some("b".into()), tags: tags(&["grpc"]), ..Filter::any() }), 1);
    assert_eq!(found(Filter { node: Some("n1".into()), ..Filter::any() }), 2);
    assert_eq!(found(Filter { node: Some(ORIGIN.to_string()), ..Filter::any() }), 2);
    assert_eq!(found(Filter { node: Some("n2".into()), ..Filter::any() }), 0);
    assert_eq!(found(Filter { health: HealthFilter::Is(vec![Health::Critical]), ..Filter::any() }), 1);
}

#[test]
fn services_and_namespaces_are_listed_in_order_from_anywhere() {
    let (mut editor, alive) = (editor(), node("n1", Liveness::Alive));
    let mut keys = Vec::new();
    for namespace in ["default", "a", "a-b", "z"] {
        for i in 0..300 {
            keys.push(in_namespace(namespace, &format!("s{:03}", i * 7 % 300)));
        }
    }
    for key in &keys {
        editor.put(key, entry(key, "1", &alive));
    }
    let view = editor.publish(at(1)).unwrap();
    keys.sort();
    let listed = |found: Vec<&Arc<Service>>| -> Vec<ServiceKey> { found.iter().map(|service| service.key.clone()).collect() };
    assert_eq!(listed(view.services(None).collect()), keys);
    assert_eq!(listed(view.services(Some(&keys[499])).collect()), keys[500..]);
    assert_eq!(view.namespaces().collect::<Vec<_>>(), ["a", "a-b", "default", "z"]);
    let one = Namespaces::One(Namespace::new("a").unwrap());
    assert_eq!(listed(view.services_in(&one, None).collect()), keys[..300]);
    assert_eq!(listed(view.services_in(&one, Some(&keys[10])).collect()), keys[11..300]);
    assert_eq!(listed(view.services_in(&one, Some(&keys[300])).collect()), []);
    assert_eq!(view.services_in(&Namespaces::All, None).count(), 1200);
}

#[test]
fn a_journal_that_is_too_short_says_so() {
    let (mut editor, alive, web) = (editor(), node("n1", Liveness::Alive), service("web"));
    editor.put(&web, entry(&web, "1", &alive));
    let first = editor.publish(at(1)).unwrap();
    assert!(matches!(first.changes_since(first.revision), Changes::Batches(batches) if batches.is_empty()));
    assert!(matches!(first.changes_since(first.revision + 1), Changes::Resync), "that revision is not of this agent");
    for version in 2..10_000 {
        editor.put(&web, entry_of(&web, "1", &alive, version, &instance()));
        editor.publish(at(1)).unwrap();
    }
    let last = editor.publish(at(1)).unwrap_or_else(|| Arc::new(editor.view().clone()));
    assert!(matches!(last.changes_since(first.revision), Changes::Resync));
    let Changes::Batches(batches) = last.changes_since(last.revision - 8000) else { panic!("8,000 changes are kept") };
    assert_eq!(batches.len(), 8000);
    assert!(batches.is_sorted_by_key(|batch| batch.revision));
}

#[test]
fn no_revision_is_shown_before_it_is_reserved() {
    let (alive, web) = (node("n1", Liveness::Alive), service("web"));
    let mut editor = Editor::new(agent(), 500);
    editor.put(&web, entry(&web, "1", &alive));
    assert!(editor.publish(at(1)).is_none());
    let block = editor.ask_block(at(1)).unwrap();
    assert!(editor.ask_block(at(1)).is_none(), "one question at a time");
    editor.block_reserved(block);
    assert_eq!(editor.publish(at(1)).unwrap().revision, 1 << 10);
    // The clock has run past the block and the store takes no more: lookups go on to change, one revision at a time.
    editor.put(&web, entry(&web, "2", &alive));
    let late = editor.publish(at(10_000_000)).unwrap();
    assert!(late.revision < block);
    editor.put(&web, entry(&web, "3", &alive));
    assert_eq!(editor.publish(at(10_000_001)).unwrap().revision, late.revision + 1);
    assert!(editor.ask_block(at(10_000_001)).is_some());
}

#[test]
fn bodies_are_encoded_once_and_their_bytes_given_back() {
    let (mut editor, alive, web) = (editor(), node("n1", Liveness::Alive), service("web"));
    editor.put(&web, entry(&web, "1", &alive));
    let view = editor.publish(at(1)).unwrap();
    let service = view.service("default", "web").unwrap();
    let first = service.bodies.get_or_encode(Body::List, || bytes::Bytes::from_static(b"once"));
    assert_eq!(service.bodies.get_or_encode(Body::List, || unreachable!("it is kept")), first);
    let small = Arc::new(service::BodyBudget::new(4));
    let lone = |name| Service::new(super::tests::service(name), 1, Vec::new(), &small);
    let (a, b) = (lone("a"), lone("b"));
    a.bodies.get_or_encode(Body::List, || "1234".into());
    b.bodies.get_or_encode(Body::List, || "1".into());
    assert_eq!((small.taken(), format!("{:?}", b.bodies)), (4, "0 kept".into()));
    drop(a);
    assert_eq!(small.taken(), 0);
}

#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 80, "{} bytes; a million of them matter", size_of::<Entry>());
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Put { service: u8, id: u8, node: u8, version: u8, health: u8, tag: u8 },
    Remove { service: u8, id: u8 },
    Turn { node: u8, liveness: u8 },
    Publish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, 0..6u8, 0..3u8, 0..3u8, 0..3u8, 0..2u8).prop_map(|(service, id, node, version, health, tag)| Step::Put {
            service, id, node, version, health, tag
        }),
        2 => (0..3u8, 0..6u8).prop_map(|(service, id)| Step::Remove { service, id }),
        1 => (0..3u8, 0..5u8).prop_map(|(node, liveness)| Step::Turn { node, liveness }),
        3 => Just(Step::Publish),
    ];
    proptest::collection::vec(step, 1..80)
}

/// What a reader with a filter holds: uid to content and whether it is verified.
type Held = BTreeMap<Uid, (Vec<u8>, bool, u64)>;

fn snapshot(view: &View, filter: &Filter) -> Held {
    view.services(None).flat_map(|service| filter.select(service)).map(|entry| (entry.uid, held(entry))).collect()
}

fn held(entry: &Entry) -> (Vec<u8>, bool, u64) {
    (entry.content.as_bytes().to_vec(), entry.node.is_verified(), entry.revision)
}

proptest! {
    /// Invariant 12: a feed's deltas, folded, are the snapshot of the same revision, whatever the filter and wherever the reader began.
    #[test]
    fn a_feed_folds_to_the_snapshot(steps in steps()) {
        let filters = [
            Filter::default(),
            Filter::any(),
            Filter { tags: vec!["t1".into()], ..Filter::default() },
            Filter { node: Some("n2".into()), health: HealthFilter::Is(vec![Health::Passing]), ..Filter::any() },
        ];
        let livenesses = [Liveness::Alive, Liveness::Suspect, Liveness::Unverified, Liveness::Down, Liveness::Left];
        let services: Vec<ServiceKey> = (0..3).map(|i| service(&format!("s{i}"))).collect();
        let mut nodes: Vec<Arc<Node>> = (0..3).map(|i| node(&format!("n{i}"), Liveness::Alive)).collect();
        let mut editor = editor();
        let mut views = vec![editor.publish(at(1)).unwrap()];
        for step in steps.into_iter().chain([Step::Publish]) {
            match step {
                Step::Put { service, id, node, version, health, tag } => {
                    let mut it = instance();
                    it.status = [Health::Passing, Health::Warning, Health::Critical][usize::from(health)];
                    it.tags = vec![["t0", "t1"][usize::from(tag)].into()];
                    let key = &services[usize::from(service)];
                    let id = format!("i{id}");
                    editor.put(key, entry_of(key, &id, &nodes[usize::from(node)], u64::from(version), &it));
                }
                Step::Remove { service, id } => {
                    let key = &services[usize::from(service)];
                    let uid = entry(key, &format!("i{id}"), &nodes[0]).uid;
                    editor.remove(key, uid, RemoveReason::Deregistered);
                }
                Step::Turn { node, liveness } => {
                    let old = &mut nodes[usize::from(node)];
                    let new = Arc::new(Node { liveness: livenesses[usize::from(liveness)], ..(**old).clone() });
                    for key in &services {
                        editor.replace_node(key, old, &new);
                    }
                    *old = new;
                }
                Step::Publish => views.extend(editor.publish(at(1))),
            }
        }
        prop_assert!(views.is_sorted_by(|a, b| a.revision < b.revision));
        let last = views.last().unwrap();
        for filter in &filters {
            for from in &views {
                let mut held_now = snapshot(from, filter);
                let Changes::Batches(batches) = last.changes_since(from.revision) else { panic!("so few are all kept") };
                for event in batches.iter().flat_map(|batch| &batch.changes).filter_map(|change| change.event(filter)) {
                    match event {
                        Event::Put(entry) => drop(held_now.insert(entry.uid, held(entry))),
                        Event::Remove(entry, _) => prop_assert!(held_now.remove(&entry.uid).is_some()),
                    }
                }
                prop_assert_eq!(&held_now, &snapshot(last, filter));
            }
        }
        let total: usize = last.services(None).map(|service| service.entries.len()).sum();
        prop_assert_eq!(last.instance_count(), total as u64);
        for service in last.services(None) {
            prop_assert!(service.entries.is_sorted_by(|a, b| a.uid < b.uid));
            prop_assert_eq!(service.counts.available as usize, service.available().count());
        }
    }
}
