//! This agent as an origin: what it writes, the epochs it takes, and how it takes back what its disk lost (protocol §2, epochs).

use super::apply::{Applied, lineage_of_whole};
use super::history::Heard;
use super::liveness::Life;
use super::origin::Origin;
use super::services::ServiceIx;
use super::table::{Slot, SlotIx};
use super::{Catalog, Effect, Urgency, claims, epochs};
use crate::engine::io::StoreOp;
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::Advert;
use crate::model::names::NodeId;
use crate::model::record::{
    AsOf, Base, Batch, Claim, Content, Epoch, Head, HeadFlags, Kind, Lineage, Record, RecordState, Scope, Seq, Uid,
};
use crate::model::time::Now;
use std::collections::BTreeMap;

/// Keys deleted in this life whose tombstones are forgotten; more are not remembered for a copy of the disk that turns up later.
pub(super) const DELETED_MAX: usize = 65_536;

/// What this agent knows of its own lives.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// This process's own: sets its epochs apart from a twin's.
    nonce: u16,
    /// All above was written in this life.
    pub began_at: Seq,
    /// Deleted in this life, the tombstone forgotten since.
    deleted: BTreeMap<Uid, Kind>,
    /// The head changed since it was last handed to the store.
    pub is_head_unstored: bool,
}

impl Own {
    /// Of a process that has written nothing yet.
    pub fn of(nonce: u16) -> Self {
        Self { nonce, ..Self::default() }
    }

    /// Keys that were deleted in this life and have no tombstone any more.
    pub fn deleted_len(&self) -> usize {
        self.deleted.len()
    }
}

impl Catalog {
    /// Begins a life on what the last one left behind.
    pub(super) fn begin_life(&mut self, now: Now, stored: Option<(Head, u64)>, lineage: &Lineage, records: Vec<(Uid, Record)>) {
        let (head, stored_sum) = stored.filter(|(head, _)| head.origin == self.me).unzip();
        let is_first = head.is_none() && records.is_empty();
        let highest = records.iter().map(|(_, record)| record.seq).max().unwrap_or(0);
        let stored_seq = head.map_or(0, |head| head.seq);
        for (uid, record) in records {
            self.put_own_again(now, uid, record);
        }
        let epoch = epochs::next(head.map_or(0, |head| head.epoch), 0, now.wall_ms, self.own.nonce);
        let epoch = head.filter(|_| self.config.broken.is(Rule::EpochKept)).map_or(epoch, |head| head.epoch);
        let me = self.own_ix;
        let is_torn = !is_first && (Some(self.table.origin(me).sum) != stored_sum || highest > stored_seq);
        let base = match head {
            // What a torn disk lacks is not known: this life stands on nothing, so whoever holds more than nothing tells.
            Some(head) if is_torn => Base { epoch: head.epoch, seq: 0, sum: 0 },
            Some(head) => Base { epoch: head.epoch, seq: head.seq, sum: stored_sum.unwrap_or(0) },
            None => Base::default(),
        };
        if is_torn {
            tracing::warn!("the store lacks some of what was written: asking the others");
            self.counters.torn_disks += 1;
        }
        // Of what a torn disk went through, nothing is sure either.
        let mut lineage = if is_torn { Lineage::default() } else { lineage.clone() };
        if base.epoch > 0 {
            lineage.add(base.epoch, base.seq);
        }
        self.effects.push_back(Effect::Store(StoreOp::Lineage(lineage.clone())));
        self.table.change_head(me, |origin| {
            origin.epoch = epoch;
            origin.base = base;
            origin.lineage = lineage;
            origin.flags = HeadFlags::default();
            origin.seq = stored_seq.max(highest);
            // Which tombstones were forgotten is not stored.
            origin.floor = origin.seq;
            origin.changed_ns = now.ns;
        });
        self.own.began_at = self.table.origin(me).seq;
        if is_torn {
            self.restate();
        }
        self.head_moved(me);
    }

    /// Hands all that this agent wrote to the store again: it takes writes after it refused some.
    pub fn restate(&mut self) {
        self.effects.push_back(Effect::Store(StoreOp::Node { node: self.me }));
        let records = self.table.origin(self.own_ix).order.slots().map(|ix| self.table.slot(ix));
        let records: Vec<(Uid, Record)> = records.map(|slot| (slot.uid(), slot.record())).collect();
        self.effects.extend(records.into_iter().map(|(uid, record)| Effect::Store(StoreOp::Record { uid, record })));
        self.own.is_head_unstored = true;
    }

    fn put_own_again(&mut self, now: Now, uid: Uid, record: Record) {
        let me = self.me;
        let (placed, service) = self.place(me, &record);
        if placed != uid {
            // Agent-scoped, and of the id before a twin: the store refused to forget it.
            self.table.services.release(service);
            self.effects.push_back(Effect::Store(StoreOp::Forget { uid }));
            return;
        }
        let (seq, kind, is_live) = (record.seq, kind_of(&record.state), matches!(record.state, RecordState::Live(_)));
        let (_, slot) = self.table.put(self.own_ix, placed, service, record);
        self.table.services.release(service);
        if !is_live {
            self.bury(now, slot, seq);
        }
        self.mark(self.own_ix, placed, kind);
    }

    /// Writes a record of this agent's own: the next in its order.
    pub(super) fn write(&mut self, now: Now, uid: Uid, claim: Claim, state: RecordState, urgency: Urgency) -> SlotIx {
        let me = self.own_ix;
        let seq = self.table.origin(me).seq + 1;
        let record = Record { seq, claim, state };
        let (kind, is_live) = (kind_of(&record.state), matches!(record.state, RecordState::Live(_)));
        let (_, service) = self.place(self.me, &record);
        let service = if service == ServiceIx::NONE { self.acquire_service_of(uid) } else { service };
        let (_, slot) = self.table.put(me, uid, service, record.clone());
        self.table.services.release(service);
        self.table.change_head(me, |origin| {
            origin.seq = seq;
            origin.changed_ns = now.ns;
        });
        if is_live {
            self.own.deleted.remove(&uid);
        } else {
            self.bury(now, slot, seq);
        }
        self.effects.push_back(Effect::Store(StoreOp::Record { uid, record }));
        self.effects.push_back(Effect::Fresh { origin: self.me, seq, urgency });
        self.head_moved(me);
        self.mark(me, uid, kind);
        slot
    }

    /// Writes the tombstone of an own record, or over another origin's.
    pub(super) fn write_tombstone(&mut self, now: Now, uid: Uid, kind: Kind, claim: Claim) {
        self.write(now, uid, claim, RecordState::Deleted { uid, kind }, Urgency::Removal);
    }

    pub(super) fn own_content(&self, uid: Uid) -> Option<&Content> {
        self.table.find(self.own_ix, uid).and_then(|ix| self.table.slot(ix).content())
    }

    /// Gives up a key that another origin claims, or deleted, later: the loser writes its own tombstone.
    pub(super) fn yield_key(&mut self, now: Now, uid: Uid) {
        let Some(own) = self.table.find(self.own_ix, uid).map(|ix| self.table.slot(ix)).filter(|slot| slot.is_live()) else { return };
        let Some(winner) = claims::winner(&self.table, uid).map(|ix| self.table.slot(ix)) else { return };
        // For an origin that may be forgotten again nothing is given up.
        if winner.origin == self.own_ix || !self.table.origin(winner.origin).life.is_named {
            return;
        }
        // What is this agent's alone competes with nobody's, whatever a twin under its name deleted.
        if own.content().and_then(|content| content.key().ok()).is_some_and(|key| key.scope == Scope::Agent) {
            return;
        }
        let (claim, kind) = (claims::of_yielding(own, winner), own.kind().unwrap_or(Kind(u8::MAX)));
        self.counters.yielded += 1;
        self.write_tombstone(now, uid, kind, claim);
        self.leases.drop_instance(uid);
    }

    /// An own tombstone is forgotten; that the key was deleted in this life is not.
    pub(super) fn remember_deleted(&mut self, uid: Uid, kind: Kind, seq: Seq) {
        self.effects.push_back(Effect::Store(StoreOp::Forget { uid }));
        if seq > self.own.began_at {
            if self.own.deleted.len() < DELETED_MAX {
                self.own.deleted.insert(uid, kind);
            } else {
                self.counters.deleted_forgotten += 1;
            }
        }
    }

    /// A peer speaks of this agent's own history.
    pub(super) fn hear_of_self(&mut self, now: Now, advert: &Advert) -> Heard {
        let own = self.table.origin(self.own_ix).head();
        if advert.flags.reaped.is_some() {
            if advert.epoch >= own.epoch {
                self.outlive(now, advert.epoch);
            }
            return Heard::Ahead;
        }
        if self.lacks_own(advert.epoch, advert.seq) {
            return Heard::Behind(self.want(self.me));
        }
        if (advert.epoch, advert.seq) == (own.epoch, own.seq) && advert.flags == own.flags { Heard::Equal } else { Heard::Ahead }
    }

    /// Whether somebody holds words of this agent that it does not know: its disk lost them, or a twin wrote them.
    pub(super) fn lacks_own(&self, epoch: Epoch, seq: Seq) -> bool {
        !self.table.origin(self.own_ix).lives().contains(epoch, seq)
    }

    /// Own words come back in a batch.
    pub(super) fn own_history(&mut self, now: Now, batch: Batch) -> Applied {
        let advert = Advert { origin: batch.origin, epoch: batch.epoch, seq: batch.to, flags: batch.flags };
        match self.hear_of_self(now, &advert) {
            // One of several batches leaves out what changed again after it: that is no history to go on from.
            Heard::Behind(_) if batch.from == 0 && matches!(batch.as_of, AsOf::Newest { .. }) => {
                let head = Head { origin: batch.origin, epoch: batch.epoch, seq: batch.to, base: batch.base, flags: batch.flags };
                self.adopt(now, head, &lineage_of_whole(&batch), batch.as_of.sum(), batch.records)
            }
            Heard::Behind(want) => Applied { needs_snapshot: true, gap: Some(want), ..Applied::default() },
            _ => Applied::default(),
        }
    }

    /// Goes on in a higher epoch than `heard`, with the same history.
    pub(super) fn outlive(&mut self, now: Now, heard: Epoch) {
        let own = self.table.origin(self.own_ix);
        let base = Base { epoch: own.epoch, seq: own.seq, sum: own.sum };
        self.take_epoch(now, heard, base);
    }

    fn take_epoch(&mut self, now: Now, heard: Epoch, base: Base) {
        let own = self.table.origin(self.own_ix);
        let (mut lineage, seq) = (own.lives(), own.seq);
        lineage.add(base.epoch, base.seq);
        let epoch = epochs::next(own.epoch, heard, now.wall_ms, self.own.nonce);
        self.counters.epochs_taken += 1;
        self.effects.push_back(Effect::Store(StoreOp::Lineage(lineage.clone())));
        self.table.change_head(self.own_ix, |origin| {
            (origin.epoch, origin.base, origin.lineage) = (epoch, base, lineage);
            origin.changed_ns = now.ns;
        });
        self.effects.push_back(Effect::Fresh { origin: self.me, seq, urgency: Urgency::Repair });
        self.head_moved(self.own_ix);
    }

    /// Takes back what the disk lost: the history as peers hold it becomes this agent's own, and what was written in this life goes on
    /// top, under seqs and an epoch that nobody has seen.
    pub(super) fn adopt(&mut self, now: Now, head: Head, lineage: &Lineage, sum: Option<u64>, records: Vec<Record>) -> Applied {
        if !self.lacks_own(head.epoch, head.seq) {
            self.counters.snapshots_stale += 1;
            return Applied::default();
        }
        self.counters.adoptions += 1;
        let base = self.table.origin(self.own_ix).base;
        let mut theirs = lineage.clone();
        theirs.add(head.epoch, head.seq);
        let goes_on = base.epoch == 0 || theirs.contains(base.epoch, base.seq);
        self.table.origin_mut(self.own_ix).lineage.merge(&theirs);
        if goes_on {
            self.adopt_whole(now, head, sum, records);
        } else {
            self.adopt_branch(now, head, records);
        }
        let uids: Vec<Uid> = self.slots_of(self.own_ix).into_iter().map(|ix| self.table.slot(ix).uid()).collect();
        for uid in uids {
            self.yield_key(now, uid);
        }
        self.announce_node(now);
        Applied { advanced: true, ..Applied::default() }
    }

    /// Their history began where this life did: it takes the place of all that was there before it.
    fn adopt_whole(&mut self, now: Now, head: Head, sum: Option<u64>, records: Vec<Record>) {
        let me = self.own_ix;
        let began_at = self.own.began_at;
        // With no claim where the tombstone is forgotten: it has nothing to hide but what comes back now.
        let mut touched: BTreeMap<Uid, (Option<Claim>, RecordState)> = BTreeMap::new();
        for (uid, kind) in std::mem::take(&mut self.own.deleted) {
            touched.insert(uid, (None, RecordState::Deleted { uid, kind }));
        }
        for ix in self.slots_of(me) {
            let slot = self.table.slot(ix);
            if slot.seq > began_at {
                touched.insert(slot.uid(), (Some(slot.claim), slot.record().state));
            }
            let (uid, _) = self.drop_slot(ix);
            self.leases.drop_instance(uid);
            self.effects.push_back(Effect::Store(StoreOp::Forget { uid }));
        }
        let highest = records.iter().map(|record| record.seq).max().unwrap_or(0).max(head.seq);
        let issued = self.table.origin(me).seq;
        for record in records {
            let (uid, service) = self.place(self.me, &record);
            self.table.services.release(service);
            self.effects.push_back(Effect::Store(StoreOp::Record { uid, record: record.clone() }));
            self.put_own_again(now, uid, record);
            self.resume_lease(now, uid);
        }
        self.table.change_head(me, |origin| {
            origin.seq = highest.max(issued);
            origin.floor = origin.seq;
        });
        self.own.began_at = self.table.origin(me).seq;
        self.take_epoch(now, head.epoch, Base { epoch: head.epoch, seq: head.seq, sum: sum.unwrap_or(0) });
        // Peers at exactly that base miss nothing that lies between it and here.
        self.table.origin_mut(me).floor = head.seq;
        for (uid, (claim, state)) in touched {
            let adopted = self.table.find(me, uid).map(|ix| self.table.slot(ix));
            // What this life wrote is later, whatever its clock said: a live record goes above what was deleted, too.
            let is_live = matches!(state, RecordState::Live(_));
            // A delete may hide another origin's record, or one that is not here yet.
            let is_needed = claim.is_some() || adopted.is_some_and(Slot::is_live);
            let claim = claim.unwrap_or(0);
            let claim = adopted.map_or(claim, |slot| claim.max(slot.claim + u64::from(is_live)));
            if is_needed {
                self.write(now, uid, claim, state, Urgency::Repair);
                self.resume_lease(now, uid);
            }
        }
    }

    /// Their history and this one parted before this life began: a disk lost what they have, and went on without it, or a twin did. What
    /// was said on a key with the higher claim counts, as between origins; of equal ones a delete, then what is here.
    fn adopt_branch(&mut self, now: Now, head: Head, records: Vec<Record>) {
        self.outlive(now, head.epoch);
        for record in records {
            let (uid, service) = self.place(self.me, &record);
            self.table.services.release(service);
            let is_live = matches!(record.state, RecordState::Live(_));
            let counts = match self.table.find(self.own_ix, uid).map(|ix| self.table.slot(ix)) {
                Some(own) => record.claim > own.claim || record.claim == own.claim && own.is_live() && !is_live,
                None => !self.own.deleted.contains_key(&uid),
            };
            if counts {
                self.leases.drop_instance(uid);
                self.write(now, uid, record.claim, record.state, Urgency::Repair);
                self.resume_lease(now, uid);
            }
        }
    }

    /// A twin keeps this agent's id: goes on as `new`, with its own services, under new claims.
    ///
    /// The history under the old id stays, as any origin's: the twin takes over what was written in this life like a lost tail, and gives
    /// up what goes on under the new id.
    pub fn rename(&mut self, now: Now, new: NodeId) {
        if new == self.me || self.table.origin_ix(new).is_some() {
            return;
        }
        let old_ix = self.own_ix;
        let mut contents = Vec::new();
        for slot in self.slots_of(old_ix).into_iter().map(|ix| self.table.slot(ix)) {
            let (uid, kind) = (slot.uid(), slot.kind().unwrap_or(Kind(u8::MAX)));
            // The host is announced anew; events were said, under the old id.
            let goes_on = |content: &&Content| content.key().is_ok_and(|key| key.scope != Scope::Agent || kind == Kind::INSTANCE);
            contents.extend(slot.content().filter(goes_on).map(|content| (kind, content.clone())));
            self.leases.drop_instance(uid);
            self.effects.push_back(Effect::Store(StoreOp::Forget { uid }));
        }
        self.host.info.checks = self.node_record(old_ix).map_or_else(Vec::new, |(_, info)| info.checks);
        self.leave_to_twin(now, old_ix);
        self.me = new;
        self.own_ix = self.table.add_origin(Origin::new(new, Life::own(now), now.ns));
        self.own = Own::of(self.own.nonce);
        self.effects.push_back(Effect::Store(StoreOp::Node { node: new }));
        self.refresh_life(now, old_ix);
        self.refresh_life(now, self.own_ix);
        self.begin_life(now, None, &Lineage::default(), Vec::new());
        for (kind, content) in contents {
            let Ok(uid) = content.key().map(|key| key.uid(new)) else { continue };
            let claim = claims::next(&self.table, uid, now.wall_ms);
            self.write(now, uid, claim, RecordState::Live(content), Urgency::Registration);
            if kind == Kind::INSTANCE {
                self.resume_lease(now, uid);
            }
        }
        self.announce_node(now);
    }
}

pub(super) fn kind_of(state: &RecordState) -> Kind {
    match state {
        RecordState::Live(content) => content.key().map_or(Kind(u8::MAX), |key| key.kind),
        RecordState::Deleted { kind, .. } => *kind,
    }
}
