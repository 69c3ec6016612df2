//! What lists of all services are made of: names with their tags, kept up by the view's journal instead of read off every instance.
//!
//! A derived cache, shared by all readers: thrown away and built again whenever the journal does not reach back. It may be ahead of the
//! view that a reader holds, never behind it. It also knows since when its names have been what they are, and since when all checks have:
//! the index of services moves for registrations, not for checks that flip, and the other way round.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use super::answer;
use super::json::check;
use super::json::service::One;
use super::request::Params;
use super::subject::CONSUL;
use crate::agent::handle::Handle;
use crate::model::names::{Namespace, NodeId, ServiceKey, ServiceName};
use crate::view::{Entry, Follower, Step, View};

/// Nodes that are no longer there and still remembered, beyond as many as there are.
const NODES_GONE_MAX: usize = 64;

/// A service with instances.
#[derive(Debug, Default)]
struct Known {
    instances: u32,
    /// How often its instances have each tag.
    tags: BTreeMap<Box<str>, u32>,
}

pub struct Picture {
    drawn: Mutex<Drawn>,
    /// The revision of the names; what those wait on who want them.
    names: watch::Sender<u64>,
}

#[derive(Default)]
struct Drawn {
    follower: Follower,
    services: BTreeMap<ServiceKey, Known>,
    /// Names that are not in lower case, by what they are in it: Consul's names are looked up in any case.
    folded: BTreeMap<(Namespace, String), ServiceName>,
    names_revision: u64,
    checks_revision: u64,
    /// When what is on a node last changed, as far as it did since the picture was drawn.
    on_nodes: BTreeMap<NodeId, u64>,
    drawn_at: u64,
    /// The default namespace's names with their tags, encoded by the first who asked.
    body: Option<Bytes>,
    /// All its checks, the same way.
    checks: Option<Kept>,
}

/// An answer of checks in any state, for as long as no check changes.
#[derive(Clone)]
pub struct Kept {
    pub revision: u64,
    pub body: Bytes,
    pub unverified: u64,
}

impl Default for Picture {
    fn default() -> Self {
        Self { drawn: Mutex::default(), names: watch::Sender::new(0) }
    }
}

impl Picture {
    /// Keeps the picture up from the moment on at which somebody looks at it, and wakes those who wait for it; until the agent stops.
    pub async fn follow(&self, handle: &Handle) {
        let mut watch = handle.watch_all();
        while !handle.is_stopping() {
            let view = watch.changed().await;
            if self.lock().follower.has_begun() {
                drop(self.at(&view));
            }
        }
        // Nobody waits for an agent that has stopped.
        self.names.send_modify(|_| {});
    }

    /// Wakes when names or their tags change.
    pub fn watch_names(&self) -> watch::Receiver<u64> {
        self.names.subscribe()
    }

    /// When the names or tags of services last changed, as this agent saw it.
    pub fn names_revision(&self, view: &View) -> u64 {
        self.at(view).names_revision
    }

    /// When any check last changed, as this agent saw it.
    pub fn checks_revision(&self, view: &View) -> u64 {
        self.at(view).checks_revision.max(view.nodes_revision)
    }

    /// When a node or what is on it last changed, as this agent saw it.
    pub fn node_revision(&self, view: &View, node: &str) -> u64 {
        let Some(node) = view.node(node) else { return view.nodes_revision };
        let drawn = self.at(view);
        drawn.on_nodes.get(&node.id).copied().unwrap_or(drawn.drawn_at).max(view.nodes_revision)
    }

    /// The checks of the default namespace in any state, as the first who asked encoded them.
    pub fn checks(&self, view: &View, encode: impl FnOnce() -> (Bytes, u64)) -> Kept {
        let revision = self.checks_revision(view);
        if let Some(kept) = self.at(view).checks.as_ref().filter(|kept| kept.revision == revision) {
            return kept.clone();
        }
        let (body, unverified) = encode();
        let kept = Kept { revision, body, unverified };
        let mut drawn = self.at(view);
        // Of an older view than the picture's, it would stand for what came after it.
        if drawn.follower.is_at(view) {
            drawn.checks = Some(kept.clone());
        }
        kept
    }

    /// The default namespace's names with their tags as JSON, and their revision.
    pub fn names(&self, view: &View, params: &Params) -> (u64, Bytes) {
        let mut drawn = self.at(view);
        let Drawn { services, body, names_revision, .. } = &mut *drawn;
        let encode = || answer::encode(params, &Names(services));
        let body = if params.has("pretty") { encode() } else { body.get_or_insert_with(encode).clone() };
        (*names_revision, body)
    }

    /// The name that a service goes by which is asked for in another case.
    pub fn spelled(&self, view: &View, namespace: &Namespace, name: &str) -> Option<ServiceName> {
        let drawn = self.at(view);
        let lower = name.to_lowercase();
        let plain = ServiceName::new(&lower).ok().filter(|name| view.service(namespace.as_str(), name.as_str()).is_some());
        plain.or_else(|| drawn.folded.get(&(namespace.clone(), lower)).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, Drawn> {
        // A panic half way leaves a picture that the next change of the view may not mend: it is drawn anew.
        self.drawn.lock().unwrap_or_else(|poisoned| {
            self.drawn.clear_poison();
            let mut drawn = PoisonError::into_inner(poisoned);
            *drawn = Drawn::default();
            drawn
        })
    }

    /// The picture of that view, or of a later one.
    fn at(&self, view: &View) -> MutexGuard<'_, Drawn> {
        let mut drawn = self.lock();
        drawn.follow(view);
        let revision = drawn.names_revision;
        self.names.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        drawn
    }
}

impl Drawn {
    fn follow(&mut self, view: &View) {
        match self.follower.step(view) {
            Step::Nothing => {}
            Step::Changes(batches) => {
                for batch in batches {
                    for change in &batch.changes {
                        self.note(&change.service, change.before.as_ref(), change.after.as_ref(), batch.revision);
                    }
                }
                if self.on_nodes.len() > 2 * view.nodes.len() + NODES_GONE_MAX {
                    self.on_nodes.retain(|id, _| view.nodes.iter().any(|node| node.id == *id));
                }
            }
            Step::Anew => self.draw(view),
        }
    }

    fn draw(&mut self, view: &View) {
        let before = std::mem::take(&mut self.services);
        self.folded.clear();
        for service in view.services(None) {
            for one in service.entries.iter().filter_map(One::of) {
                self.add(&service.key, &one);
            }
        }
        (self.checks_revision, self.drawn_at, self.on_nodes) = (view.revision, view.revision, BTreeMap::new());
        let is_same = before.len() == self.services.len()
            && before.iter().zip(&self.services).all(|(old, new)| old.0 == new.0 && old.1.is_same(new.1));
        if self.names_revision == 0 || !is_same {
            self.names_changed(view.revision);
        }
    }

    fn note(&mut self, service: &ServiceKey, before: Option<&Entry>, after: Option<&Entry>, revision: u64) {
        for entry in before.into_iter().chain(after) {
            self.on_nodes.insert(entry.node.id, revision);
        }
        let (before, after) = (before.and_then(One::of), after.and_then(One::of));
        if !has_same_checks(before.as_ref(), after.as_ref()) {
            self.checks_revision = revision;
        }
        if let (Some(before), Some(after)) = (&before, &after)
            && before.instance.tags == after.instance.tags
        {
            return;
        }
        // Added before it is taken away, so that what both have never seems to be gone.
        let has_come = after.is_some_and(|after| self.add(service, &after));
        let has_gone = before.is_some_and(|before| self.remove(service, &before));
        if has_come || has_gone {
            self.names_changed(revision);
        }
    }

    fn names_changed(&mut self, revision: u64) {
        (self.names_revision, self.body) = (revision, None);
    }

    /// Says whether the name or a tag is new.
    fn add(&mut self, service: &ServiceKey, one: &One<'_>) -> bool {
        let is_new = !self.services.contains_key(service);
        let lower = service.service.as_str().to_lowercase();
        if is_new && lower != service.service.as_str() {
            self.folded.insert((service.namespace.clone(), lower), service.service.clone());
        }
        let known = self.services.entry(service.clone()).or_default();
        known.instances += 1;
        one.instance.tags.iter().fold(is_new, |is_new, tag| match known.tags.get_mut(tag.as_str()) {
            Some(count) => {
                *count += 1;
                is_new
            }
            None => {
                known.tags.insert(tag.as_str().into(), 1);
                true
            }
        })
    }

    /// Says whether the name or a tag is gone.
    fn remove(&mut self, service: &ServiceKey, one: &One<'_>) -> bool {
        let Some(known) = self.services.get_mut(service) else { return false };
        let mut is_gone = false;
        for tag in &one.instance.tags {
            if let Some(count) = known.tags.get_mut(tag.as_str()) {
                *count -= 1;
                if *count == 0 {
                    known.tags.remove(tag.as_str());
                    is_gone = true;
                }
            }
        }
        known.instances -= 1;
        if known.instances == 0 {
            self.services.remove(service);
            self.folded.remove(&(service.namespace.clone(), service.service.as_str().to_lowercase()));
            is_gone = true;
        }
        is_gone
    }
}

impl Known {
    fn is_same(&self, other: &Known) -> bool {
        self.tags.keys().eq(other.tags.keys())
    }
}

/// Whether an instance's checks are shown alike in both states; one that is not there has none.
fn has_same_checks(before: Option<&One<'_>>, after: Option<&One<'_>>) -> bool {
    match (before, after) {
        (None, None) => true,
        (Some(one), None) | (None, Some(one)) => check::of_instance(one).is_empty(),
        (Some(before), Some(after)) => {
            let (a, b) = (&before.instance, &after.instance);
            if check::of_instance(before).is_empty() && check::of_instance(after).is_empty() {
                return true;
            }
            a.checks == b.checks
                && (a.status, a.lease, a.is_expired, a.enabled) == (b.status, b.lease, b.is_expired, b.enabled)
                && a.tags == b.tags
                && before.entry.word == after.entry.word
        }
    }
}

/// The default namespace's services as `catalog/services` lists them, Consul's own among them.
struct Names<'a>(&'a BTreeMap<ServiceKey, Known>);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let namespace = Namespace::default();
        let registered = self.0.iter().filter(|(key, _)| key.namespace == namespace);
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::from([(CONSUL, Vec::new())]);
        all.extend(registered.map(|(key, known)| (key.service.as_str(), known.tags.keys().map(|tag| &**tag).collect())));
        all.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::instance::Instance;
    use crate::model::node::Liveness;
    use crate::model::record::{Content, Key, Kind, Scope};
    use crate::model::time::Now;
    use crate::view::{AgentView, Editor, Node, RemoveReason};

    fn node() -> Arc<Node> {
        Arc::new(Node {
            id: NodeId(1),
            name: "n1".to_owned(),
            address: "10.0.0.1".to_owned(),
            zone: None,
            datacenter: "dc1".to_owned(),
            metadata: Vec::new(),
            is_external: false,
            liveness: Liveness::Alive,
            word: None,
            checks: Vec::new(),
        })
    }

    fn entry(service: &ServiceKey, id: &str, tags: &[&str], version: u64) -> Entry {
        let (namespace, name) = (service.namespace.as_str().into(), service.service.as_str().into());
        let key = Key { kind: Kind::INSTANCE, scope: Scope::Agent, namespace, name, id: id.into() };
        let instance = Instance { tags: tags.iter().map(|tag| (*tag).into()).collect(), enabled: true, ..Instance::default() };
        Entry::new(key.uid(NodeId(1)), Content::encode(&key, &instance), node(), version, None).unwrap()
    }

    /// SplitMix64: the same history in each run.
    fn random(state: &mut u64) -> usize {
        *state = state.wrapping_add(crate::select::random::STEP);
        crate::select::random::mix(*state) as usize
    }

    #[test]
    fn what_is_kept_up_is_what_would_be_drawn_anew_and_moves_when_it_differs() {
        let agent = AgentView { id: NodeId(1), ..AgentView::default() };
        let mut editor = Editor::new(agent, 0);
        editor.block_reserved(1 << 52);
        let (kept, lazy, params, mut state) = (Picture::default(), Picture::default(), Params::default(), 7);
        let (mut seen, mut seen_revision, mut moved) = (Bytes::new(), 0, 0);
        for step in 1..600_u64 {
            let name = ["Web", "web2", "db"][random(&mut state) % 3];
            let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::new(name).unwrap() };
            let tags = [&["a"][..], &["a", "b"], &[], &["a", "a"]][random(&mut state) % 4];
            let entry = entry(&service, ["1", "2"][random(&mut state) % 2], tags, step);
            if random(&mut state).is_multiple_of(3) {
                editor.remove(&service, entry.uid, RemoveReason::Deregistered);
            } else {
                editor.put(&service, entry);
            }
            let Some(view) = editor.publish(Now { ns: 0, wall_ms: step }) else { continue };
            let (revision, body) = kept.names(&view, &params);
            let anew = Picture::default();
            assert_eq!(body, anew.names(&view, &params).1);
            if random(&mut state).is_multiple_of(5) {
                assert_eq!(body, lazy.names(&view, &params).1, "several changes at once");
            }
            for name in ["WEB", "dB", "WEB2"] {
                assert_eq!(kept.spelled(&view, &service.namespace, name), anew.spelled(&view, &service.namespace, name));
            }
            assert!(revision <= view.revision);
            if seen_revision > 0 {
                assert_eq!(revision != seen_revision, body != seen, "{seen:?} {body:?}");
                moved += u32::from(body != seen);
            }
            (seen, seen_revision) = (body, revision);
        }
        assert!(moved > 50, "it moved {moved} times only");
    }
}
