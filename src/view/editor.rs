//! The engine's pen: collects changes and publishes the next View.
//!
//! A change costs a copy of its service's entries the first time in a publication, and a few hundred pointers of the index; nothing
//! depends on how many other services there are. Revisions are this agent's own: max(previous + 1, wall milliseconds × 2^10), taken from
//! blocks that the store knows of, so that a restart never shows one twice, wherever its clock went.

use super::datacenter::DatacenterView;
use super::entries::KeyValue;
use super::journal::{Batch, Change, RemoveReason};
use super::node::{AgentView, FiredEvent, MemberView, Node};
use super::service::{BodyBudget, Entry, Service, settle};
use super::{View, journal};
use crate::model::names::{NodeId, ServiceKey};
use crate::model::record::Uid;
use crate::model::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// Services without instances whose revision is kept. Those of any forgotten one count as the latest forgotten.
const GONE_MAX: usize = 16_384;
/// Encoded bodies that may be kept beside services, all together.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A block of revisions: what a minute of wall clock yields. One write to the store a minute, while something changes.
const BLOCK: u64 = 60_000 << 10;
/// Revisions at the end of a block that the clock does not reach: with a store that takes no more blocks, a million Views can still follow.
const RESERVE: u64 = 1 << 20;
/// The pause after a publication, while changes gather.
const PACE_MS: u64 = 2;
/// The same where a large service changed: each of its publications copies all its entries.
const LARGE_PACE_MS: u64 = 50;
const LARGE_ENTRIES: usize = 10_000;

#[derive(Debug)]
pub struct Editor {
    /// What is published, with the next changes of members and agent in it already.
    view: View,
    drafts: BTreeMap<ServiceKey, Draft>,
    /// Key-value entries as they are to be, by namespace and key; none: to go.
    entries: BTreeMap<(String, String), Option<KeyValue>>,
    /// Nodes as they are to be, by name; none: to go.
    nodes: BTreeMap<String, Option<Arc<Node>>>,
    /// Members or the agent changed.
    has_news: bool,
    /// Services without instances, in the order in which they lost their last.
    gone: VecDeque<(u64, ServiceKey)>,
    budget: Arc<BodyBudget>,
    /// Revisions up to here may be shown.
    reserved: u64,
    /// Revisions up to here were asked for.
    asked: u64,
}

/// The next state of one service.
#[derive(Debug)]
struct Draft {
    /// In ascending order of uid.
    entries: Vec<Entry>,
    /// What was done to which, and why the removed ones go.
    touched: BTreeMap<Uid, RemoveReason>,
}

impl Editor {
    /// `revision` is the end of the last reserved block, as a restart found it.
    pub fn new(agent: AgentView, revision: u64) -> Self {
        Self {
            view: View::empty(agent, revision),
            drafts: BTreeMap::new(),
            entries: BTreeMap::new(),
            nodes: BTreeMap::new(),
            has_news: true,
            gone: VecDeque::new(),
            budget: Arc::new(BodyBudget::new(BODY_BYTES_MAX)),
            reserved: revision,
            asked: revision,
        }
    }

    /// The view as it was last published, with the newest facts about members and the agent.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The entries of a service, changes that are not published yet included; in ascending order of uid.
    pub fn entries(&self, key: &ServiceKey) -> &[Entry] {
        match self.drafts.get(key) {
            Some(draft) => &draft.entries,
            None => self.view.index.find(key.namespace.as_str(), key.service.as_str()).map_or(&[], |service| &service.entries),
        }
    }

    /// Adds an entry, or puts it in the place of the one with its uid.
    pub fn put(&mut self, key: &ServiceKey, entry: Entry) {
        let entries = self.entries(key);
        let place = entries.binary_search_by_key(&entry.uid, |known| known.uid);
        if place.is_ok_and(|at| entries[at].is_same(&entry)) {
            return;
        }
        let draft = self.draft(key);
        draft.touched.insert(entry.uid, RemoveReason::Filtered);
        match place {
            Ok(at) => draft.entries[at] = entry,
            Err(at) => draft.entries.insert(at, entry),
        }
    }

    /// Takes an entry away; nothing happens where there is none.
    pub fn remove(&mut self, key: &ServiceKey, uid: Uid, reason: RemoveReason) {
        let Ok(at) = self.entries(key).binary_search_by_key(&uid, |known| known.uid) else { return };
        let draft = self.draft(key);
        draft.touched.insert(uid, reason);
        draft.entries.remove(at);
    }

    /// Makes `entries` all that the service has. What vanishes without a reason in `removed` counts as deregistered.
    pub fn set_service(&mut self, key: &ServiceKey, mut entries: Vec<Entry>, removed: &[(Uid, RemoveReason)]) {
        entries.sort_unstable_by_key(|entry| entry.uid);
        entries.dedup_by_key(|entry| entry.uid);
        let vanished = self.entries(key).iter().map(|entry| entry.uid);
        let vanished: Vec<Uid> = vanished.filter(|uid| entries.binary_search_by_key(uid, |entry| entry.uid).is_err()).collect();
        for uid in vanished {
            let reason = removed.iter().find(|(removed, _)| *removed == uid).map_or(RemoveReason::Deregistered, |(_, reason)| *reason);
            self.remove(key, uid, reason);
        }
        for entry in entries {
            self.put(key, entry);
        }
    }

    /// Tells a service that a node is not what it was; `old` is the very one its entries hold.
    pub fn replace_node(&mut self, key: &ServiceKey, old: &Arc<Node>, new: &Arc<Node>) {
        if Arc::ptr_eq(old, new) || !self.entries(key).iter().any(|entry| Arc::ptr_eq(&entry.node, old)) {
            return;
        }
        let draft = self.draft(key);
        for entry in draft.entries.iter_mut().filter(|entry| Arc::ptr_eq(&entry.node, old)) {
            entry.move_to(Arc::clone(new));
            draft.touched.insert(entry.uid, RemoveReason::Filtered);
        }
    }

    /// A key-value entry as it is to be, changes that are not published yet included.
    pub fn entry(&self, namespace: &str, key: &str) -> Option<&KeyValue> {
        match self.entries.get(&(namespace.to_owned(), key.to_owned())) {
            Some(draft) => draft.as_ref(),
            None => self.view.entry(namespace, key).map(|entry| &**entry),
        }
    }

    pub fn put_entry(&mut self, entry: KeyValue) {
        let is_same = self.entry(&entry.namespace, &entry.key).is_some_and(|known| known.is_same(&entry));
        if !is_same {
            self.entries.insert((entry.namespace.to_string(), entry.key.to_string()), Some(entry));
        }
    }

    /// Takes a key-value entry away; nothing happens where there is none.
    pub fn remove_entry(&mut self, namespace: &str, key: &str) {
        if self.entry(namespace, key).is_some() {
            self.entries.insert((namespace.to_owned(), key.to_owned()), None);
        }
    }

    /// The names of all entries under a prefix, changes that are not published yet included.
    pub fn entry_keys(&self, namespace: &str, prefix: &str) -> Vec<String> {
        let published = self.view.entries(namespace, prefix).map(|entry| entry.key.to_string());
        let mut keys: std::collections::BTreeSet<String> = published.collect();
        let drafts = self.entries.range((namespace.to_owned(), prefix.to_owned())..);
        for ((_, key), draft) in drafts.take_while(|((of, key), _)| of == namespace && key.starts_with(prefix)) {
            if draft.is_some() {
                keys.insert(key.clone())
            } else {
                keys.remove(key)
            };
        }
        keys.into_iter().collect()
    }

    /// The node of that name, changes that are not published yet included.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name).map_or_else(|| self.view.node(name), Option::as_ref)
    }

    /// The node of that name is as given from now on, or gone.
    pub fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        if self.node(name) != node.as_ref() {
            self.nodes.insert(name.to_owned(), node);
        }
    }

    /// The newest user events, oldest first.
    pub fn set_user_events(&mut self, events: Vec<Arc<FiredEvent>>) {
        if *self.view.user_events != *events {
            self.view.user_events = events.into();
            self.view.user_events_revision = 0;
            self.has_news = true;
        }
    }

    /// Members of whom something may be new: those among `is_stale` are as `rows` says, in any order, or gone.
    pub fn set_members(&mut self, is_stale: impl Fn(NodeId) -> bool, rows: Vec<MemberView>) {
        let mut rows: BTreeMap<NodeId, MemberView> = rows.into_iter().map(|row| (row.id, row)).collect();
        let (mut has_changed, mut is_in_order) = (false, true);
        let mut members = Vec::with_capacity(self.view.members.len() + rows.len());
        for known in self.view.members.iter() {
            match rows.remove(&known.id) {
                Some(row) if row != **known => {
                    has_changed = true;
                    is_in_order &= row.name == known.name;
                    members.push(Arc::new(row));
                }
                None if is_stale(known.id) => has_changed = true,
                _ => members.push(Arc::clone(known)),
            }
        }
        if !has_changed && rows.is_empty() {
            return;
        }
        is_in_order &= rows.is_empty();
        members.extend(rows.into_values().map(Arc::new));
        if !is_in_order {
            members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        }
        self.view.members = members.into();
        // Zero until it is published: no revision is known yet.
        self.view.members_revision = 0;
        self.has_news = true;
    }

    /// All other datacenters, in any order. Their own revisions are set here.
    pub fn set_datacenters(&mut self, mut datacenters: Vec<Arc<DatacenterView>>) {
        datacenters.sort_by(|a, b| a.name.cmp(&b.name));
        self.view.datacenters = datacenters.into();
        self.view.datacenters_revision = 0;
        self.has_news = true;
    }

    pub fn set_agent(&mut self, agent: AgentView) {
        if *self.view.agent != agent {
            self.view.agent = Arc::new(agent);
            self.has_news = true;
        }
    }

    /// Whether there is something to publish.
    pub fn is_dirty(&self) -> bool {
        self.has_news || !self.drafts.is_empty() || !self.entries.is_empty() || !self.nodes.is_empty()
    }

    /// How long to gather changes after the last publication before the next, in milliseconds.
    pub fn pace_ms(&self) -> u64 {
        let is_large = self.drafts.values().any(|draft| draft.entries.len() > LARGE_ENTRIES);
        if is_large { LARGE_PACE_MS } else { PACE_MS }
    }

    /// The end of the block of revisions that the store is to reserve now, if it is time to ask for one.
    pub fn ask_block(&mut self, now: Now) -> Option<u64> {
        let next = self.clock_revision(now);
        // Asked for again once half of it is used, so that nobody waits for the store.
        (next + BLOCK / 2 > self.asked).then(|| {
            self.asked = next + BLOCK;
            self.asked
        })
    }

    /// Revisions up to `revision` are durably reserved.
    pub fn block_reserved(&mut self, revision: u64) {
        self.reserved = self.reserved.max(revision);
    }

    /// The store failed to reserve: asks again at the next occasion.
    pub fn block_refused(&mut self) {
        self.asked = self.reserved;
    }

    /// The next View, if anything changed and a revision is reserved for it.
    pub fn publish(&mut self, now: Now) -> Option<Arc<View>> {
        if !self.is_dirty() {
            return None;
        }
        let revision = self.clock_revision(now).min(self.reserved.saturating_sub(RESERVE)).max(self.view.revision + 1);
        if revision > self.reserved {
            return None;
        }
        let mut changes = Vec::new();
        for (key, draft) in std::mem::take(&mut self.drafts) {
            self.settle_service(key, draft, revision, &mut changes);
        }
        let is_settled = !self.settle_entries(revision) & !self.settle_nodes(revision) & changes.is_empty();
        if is_settled && !std::mem::take(&mut self.has_news) {
            return None;
        }
        self.has_news = false;
        for shown in [&mut self.view.members_revision, &mut self.view.user_events_revision, &mut self.view.datacenters_revision] {
            if *shown == 0 {
                *shown = revision;
            }
        }
        if self.view.floor == 0 {
            // Zero is what readers that know nothing ask with: a service that is not there must differ from it.
            self.view.floor = revision;
            self.view.nodes_revision = self.view.nodes_revision.max(revision);
        }
        if self.view.entries.floor == 0 {
            self.view.entries.floor = revision;
        }
        self.view.revision = revision;
        self.view.journal.push(Batch { revision, changes: changes.into() });
        self.forget_gone();
        Some(Arc::new(self.view.clone()))
    }

    fn clock_revision(&self, now: Now) -> u64 {
        (now.wall_ms << 10).max(self.view.revision + 1)
    }

    /// The draft of a service, begun from what is published.
    fn draft(&mut self, key: &ServiceKey) -> &mut Draft {
        let index = &self.view.index;
        self.drafts.entry(key.clone()).or_insert_with(|| {
            let known = index.find(key.namespace.as_str(), key.service.as_str());
            let entries = known.map_or_else(Vec::new, |service| service.entries.to_vec());
            Draft { entries, touched: BTreeMap::new() }
        })
    }

    /// Turns a draft into the next state of its service and notes what readers see of it.
    fn settle_service(&mut self, key: ServiceKey, draft: Draft, revision: u64, changes: &mut Vec<Change>) {
        let Draft { mut entries, touched } = draft;
        let old = self.view.index.find(key.namespace.as_str(), key.service.as_str()).cloned();
        let old_entries: &[Entry] = old.as_ref().map_or(&[], |service| &service.entries);
        settle(&mut entries);
        let before = changes.len();
        note_changes(&key, old_entries, &mut entries, &touched, revision, changes);
        if changes.len() == before {
            return;
        }
        self.view.instances = self.view.instances + entries.len() as u64 - old_entries.len() as u64;
        match (old_entries.is_empty(), entries.is_empty()) {
            (true, false) => self.view.names.insert(key.clone()),
            (false, true) => {
                self.view.names.remove(&key);
                self.gone.push_back((revision, key.clone()));
            }
            _ => {}
        }
        self.view.index.put(Arc::new(Service::new(key, revision, entries, &self.budget)));
    }

    /// Says whether an entry came, changed or went.
    fn settle_entries(&mut self, revision: u64) -> bool {
        let mut has_changed = false;
        for ((namespace, key), draft) in std::mem::take(&mut self.entries) {
            has_changed |= match draft {
                // There and back again within one publication is nothing.
                Some(entry) if self.view.entry(&namespace, &key).is_some_and(|known| known.is_same(&entry)) => false,
                Some(entry) => {
                    self.view.entries.put(entry, revision);
                    true
                }
                None => self.view.entries.remove(&namespace, &key, revision),
            };
        }
        has_changed
    }

    /// Says whether a node came, changed or went. The list is copied: nodes are few, and rarely change.
    fn settle_nodes(&mut self, revision: u64) -> bool {
        let drafts = std::mem::take(&mut self.nodes);
        let is_news = |(name, draft): (&String, &Option<Arc<Node>>)| self.view.node(name) != draft.as_ref();
        if !drafts.iter().any(is_news) {
            return false;
        }
        let kept = self.view.nodes.iter().filter(|node| !drafts.contains_key(&node.name)).cloned();
        let mut nodes: Vec<Arc<Node>> = kept.chain(drafts.values().flatten().cloned()).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.view.nodes = nodes.into();
        self.view.nodes_revision = revision;
        true
    }

    /// Forgets the revisions of services that went longest ago.
    fn forget_gone(&mut self) {
        while self.gone.len() > GONE_MAX {
            let Some((revision, key)) = self.gone.pop_front() else { return };
            let known = self.view.index.find(key.namespace.as_str(), key.service.as_str());
            // It may have come back since, and gone again: then a later mention stands for it.
            if known.is_some_and(|service| service.revision == revision) {
                self.view.index.remove(&key);
                self.view.floor = self.view.floor.max(revision);
            }
        }
    }
}

/// Walks old and new entries side by side, both in order of uid; marks what changed with its revision and notes it.
fn note_changes(
    key: &ServiceKey,
    old: &[Entry],
    new: &mut [Entry],
    touched: &BTreeMap<Uid, RemoveReason>,
    revision: u64,
    changes: &mut Vec<Change>,
) {
    let mut note = |before: Option<&Entry>, after: Option<&Entry>, reason| {
        let encoded = OnceLock::new();
        changes.push(Change { service: key.clone(), before: before.cloned(), after: after.cloned(), reason, encoded });
    };
    let mut old = old.iter().peekable();
    for entry in new {
        while let Some(gone) = old.next_if(|before| before.uid < entry.uid) {
            note(Some(gone), None, touched.get(&gone.uid).copied().unwrap_or(RemoveReason::Deregistered));
        }
        let before = old.next_if(|before| before.uid == entry.uid);
        // What nobody touched can only have changed its standing.
        let is_same =
            before.is_some_and(|before| before.standing == entry.standing && (!touched.contains_key(&entry.uid) || before.is_same(entry)));
        if is_same {
            entry.revision = before.map_or(revision, |before| before.revision);
        } else {
            entry.revision = revision;
            note(before, Some(entry), RemoveReason::Filtered);
        }
    }
    for gone in old {
        note(Some(gone), None, touched.get(&gone.uid).copied().unwrap_or(RemoveReason::Deregistered));
    }
}

/// The journal holds at least what one ordinary publication brings.
const _: () = assert!(journal::CHANGES_MAX >= LARGE_ENTRIES);
