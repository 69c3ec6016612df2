//! The fold: of all records, what readers see (design §4, invariant 12).
//!
//! Changes mark keys; a turn folds marked keys into the view's editor. What this agent wrote itself is folded before the next view is
//! shown, however much else waits, so that writers read their writes.

use super::services::ServiceIx;
use super::table::{OriginIx, SlotIx};
use super::{Catalog, Host, claims};
use crate::engine::sabotage::Rule;
use crate::model::names::{NodeId, ServiceKey};
use crate::model::node::Liveness;
use crate::model::record::{Content, Kind, Scope, Seq, Uid};
use crate::model::time::Now;
use crate::view::{AgentView, Editor, Entry, RemoveReason, View};
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::Arc;

/// Instances folded in one turn: a few milliseconds.
const TURN: usize = 5_000;

/// What waits to be folded.
#[derive(Debug)]
pub(super) struct Fold {
    editor: Editor,
    /// Instances that may look different now.
    dirty: BTreeSet<(ServiceIx, Uid)>,
    /// The same, written here: to be in the next view.
    urgent: BTreeSet<(ServiceIx, Uid)>,
    /// Origins all of whose instances look different, and how far they were marked.
    refold: BTreeMap<OriginIx, Seq>,
}

impl Fold {
    pub fn new(host: &Host, me: NodeId, revision: u64) -> Self {
        let agent = AgentView {
            id: me,
            name: host.name.as_str().to_owned(),
            datacenter: host.info.datacenter.as_str().to_owned(),
            zone: host.info.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            version: host.info.version.as_str().to_owned(),
            is_ready: false,
            is_cut_off: false,
            is_leaving: false,
        };
        Self { editor: Editor::new(agent, revision), dirty: BTreeSet::new(), urgent: BTreeSet::new(), refold: BTreeMap::new() }
    }

    /// Something is marked and not folded.
    pub fn is_behind(&self) -> bool {
        !self.dirty.is_empty() || !self.refold.is_empty() || !self.urgent.is_empty()
    }

    /// What readers see, or will with the next view, of a service.
    pub fn entries(&self, key: &ServiceKey) -> &[Entry] {
        self.editor.entries(key)
    }

    /// All instances of an origin look different now.
    pub fn refold(&mut self, ix: OriginIx) {
        self.refold.insert(ix, 0);
    }

    pub fn forget_origin(&mut self, ix: OriginIx) {
        self.refold.remove(&ix);
    }
}

impl Catalog {
    /// The view's pen: revisions, members and the agent's own facts are the engine's to set.
    pub fn editor(&mut self) -> &mut Editor {
        &mut self.fold.editor
    }

    pub fn view(&self) -> &View {
        self.fold.editor.view()
    }

    /// The next view, if anything changed: with all that was written here, and as much of the rest as fits in a turn.
    pub fn publish(&mut self, now: Now) -> Option<Arc<View>> {
        self.fold_turn(now);
        self.fold.editor.publish(now)
    }

    /// An origin's word on a key is not what it was.
    pub(super) fn mark(&mut self, ix: OriginIx, uid: Uid, kind: Kind) {
        match kind {
            Kind::INSTANCE => {
                let service = self.acquire_service_of(uid);
                self.mark_instance(service, uid);
                self.table.services.release(service);
            }
            Kind::NODE => self.node_changed(ix, uid),
            Kind::OVERRIDE => self.words.mark(uid),
            Kind::ENTRY => self.entry_changed(uid),
            Kind::EVENT => self.events.mark(uid),
            _ => {}
        }
    }

    /// An instance is to be in the next view as it is now.
    pub(super) fn mark_urgent(&mut self, uid: Uid) {
        let service = self.acquire_service_of(uid);
        if service != ServiceIx::NONE && !self.fold.urgent.insert((service, uid)) {
            self.table.services.release(service);
        }
    }

    /// Takes a record out without a trace in history.
    pub(super) fn drop_slot(&mut self, ix: SlotIx) -> (Uid, Kind) {
        let slot = self.table.slot(ix);
        let (origin, service, uid, kind) = (slot.origin, slot.service, slot.uid(), slot.kind().unwrap_or(Kind(u8::MAX)));
        // Its service must be marked while it is known. A tombstone has none: what it hid knows its own.
        self.mark_instance(service, uid);
        self.table.remove(ix);
        if kind != Kind::INSTANCE || service == ServiceIx::NONE {
            self.mark(origin, uid, kind);
        }
        (uid, kind)
    }

    fn mark_instance(&mut self, service: ServiceIx, uid: Uid) {
        if service == ServiceIx::NONE {
            return;
        }
        let is_own = self.table.find(self.own_ix, uid).is_some();
        let marked = if is_own { &mut self.fold.urgent } else { &mut self.fold.dirty };
        if marked.insert((service, uid)) {
            self.table.services.acquire(service);
        }
    }

    /// The service of an instance by what any origin holds of it; acquired for the caller.
    pub(super) fn acquire_service_of(&mut self, uid: Uid) -> ServiceIx {
        let service = self.table.chain(uid).map(|ix| self.table.slot(ix).service).find(|service| *service != ServiceIx::NONE);
        let service = service.unwrap_or(ServiceIx::NONE);
        self.table.services.acquire(service);
        service
    }

    /// Folds what was written here, and a turn's worth of the rest.
    pub(super) fn fold_turn(&mut self, now: Now) {
        self.fold_words(now);
        self.end_doomed(now);
        self.purge(now);
        self.fold_entries_turn();
        self.fold_events();
        while let Some((service, uid)) = self.fold.urgent.pop_first() {
            self.fold_instance(service, uid);
        }
        let mut budget = TURN;
        while budget > 0 {
            if let Some((service, uid)) = self.fold.dirty.pop_first() {
                self.fold_instance(service, uid);
                budget -= 1;
            } else if let Some((ix, after)) = self.fold.refold.pop_first() {
                self.mark_origin(ix, after, budget);
            } else {
                return;
            }
        }
    }

    /// Marks the next instances of an origin that looks different as a whole.
    fn mark_origin(&mut self, ix: OriginIx, after: Seq, max: usize) {
        let slots = self.table.origin(ix).order.behind(after).take(max);
        let slots: Vec<(Seq, SlotIx)> = slots.collect();
        for (_, slot) in &slots {
            let slot = self.table.slot(*slot);
            self.mark_instance(slot.service, slot.uid());
        }
        if let Some((last, _)) = slots.last().filter(|_| slots.len() == max) {
            self.fold.refold.insert(ix, *last);
        }
    }

    fn fold_instance(&mut self, service: ServiceIx, uid: Uid) {
        if let Some(key) = self.table.services.key(service).cloned() {
            match self.entry_of(uid) {
                Ok(entry) => self.fold.editor.put(&key, entry),
                Err(_) if self.config.broken.is(Rule::RemovalsUnseen) => {}
                Err(reason) => {
                    let before = self.fold.editor.entries(&key);
                    let before = before.binary_search_by_key(&uid, |entry| entry.uid).ok().map(|at| &before[at]);
                    let is_expired = before.is_some_and(|entry| entry.instance().is_ok_and(|(_, instance)| instance.is_expired));
                    let reason = if is_expired && reason == RemoveReason::Deregistered { RemoveReason::Expired } else { reason };
                    self.fold.editor.remove(&key, uid, reason);
                }
            }
        }
        self.table.services.release(service);
    }

    /// The entry readers see of an instance, or why they see none.
    fn entry_of(&mut self, uid: Uid) -> Result<Entry, RemoveReason> {
        let Some(slot) = claims::visible(&self.table, uid) else {
            self.externals.unplace(uid);
            return Err(RemoveReason::Deregistered);
        };
        let content = slot.content().ok_or(RemoveReason::Deregistered)?.clone();
        let node = match content.key().map(|key| key.scope) {
            Ok(Scope::Node(name)) => Arc::clone(self.externals.place(uid, &name).ok_or(RemoveReason::Deregistered)?),
            _ => {
                let (node, is_listed) = self.shown(slot.origin).ok_or(RemoveReason::AgentDown)?;
                if node.liveness == Liveness::Left {
                    return Err(RemoveReason::Left);
                }
                if !is_listed {
                    return Err(RemoveReason::AgentDown);
                }
                Arc::clone(node)
            }
        };
        let version = version_of(&content);
        let word = self.words.on_instance(uid);
        Entry::new(uid, content, node, version, word).map_err(|_| {
            self.counters.undecodable += 1;
            RemoveReason::Deregistered
        })
    }
}

/// Names what a record says: equal content, equal version, at all agents.
pub(super) fn version_of(content: &Content) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x7665_7273_696f_6e20);
    hasher.write(content.as_bytes());
    hasher.finish()
}
