//! Tombstones: kept until nobody needs them any more (protocol §2, deletes).
//!
//! ```text
//! came ──tombstone_ms──> ripe ──> still has something to hide, or is on its way to somebody ──> looked at again after as long
//!                          ├────> an origin is out of sight ──> awaits it ──> heard, or given up ──┐
//!                          └───────────────────────────────────────────────────────────────────────┴──> forgotten
//! ```
//!
//! An agent that is cut off goes on writing, and what it writes nobody else knows: as long as it may return with a record that a
//! tombstone deletes, the tombstone waits for it. It was heard when it has been here for as long as tombstones are kept, which is many
//! times what repair needs to make two agents equal. Times are this agent's own and monotonic: no clock of others decides.
//!
//! No more than `awaiting_tombstones_max` wait like that: the oldest goes for one more, as if its time had come, and is counted. What
//! it deleted can return then only if a client wrote the key at an agent that was cut off, moved, was deleted elsewhere, and that many
//! deletes came since; the next word of anybody on the key ends it.

use super::table::{OriginIx, SlotIx, State};
use super::{Catalog, claims};
use crate::engine::sabotage::Rule;
use crate::model::names::NodeId;
use crate::model::record::Seq;
use crate::model::time::Now;
use std::collections::{BTreeSet, VecDeque};

/// A claim so far ahead of the own clock is not waited for, in milliseconds.
const AHEAD_MS_MAX: u64 = 86_400_000;
/// Tombstones looked at in one turn.
const TURN: usize = 1_000;
/// How often it is looked whether the origins that tombstones await were heard, in milliseconds.
const AWAIT_MS: u64 = 10_000;

/// Tombstones by the time they may go.
#[derive(Debug, Default)]
pub(super) struct Graves {
    due: BTreeSet<(u64, SlotIx, Seq)>,
    /// Ripe, but for origins that are out of sight; in the order they became so.
    awaiting: VecDeque<(SlotIx, Seq)>,
    /// When it is looked again whether those were heard.
    look_at_ns: u64,
}

impl Graves {
    pub fn deadline(&self) -> Option<u64> {
        let due = self.due.first().map(|(due_ns, ..)| *due_ns);
        due.into_iter().chain((!self.awaiting.is_empty()).then_some(self.look_at_ns)).min()
    }

    pub fn awaiting(&self) -> usize {
        self.awaiting.len()
    }
}

/// Whose words may not all be known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutOfSight {
    Nobody,
    One(OriginIx),
    Several,
}

impl OutOfSight {
    /// Whether somebody may hold what a tombstone of `origin` deletes: it itself cannot.
    pub fn concerns(self, origin: OriginIx) -> bool {
        match self {
            OutOfSight::Nobody => false,
            OutOfSight::One(one) => one != origin,
            OutOfSight::Several => true,
        }
    }
}

impl Catalog {
    /// Notes when a tombstone that came now may be forgotten.
    pub(super) fn bury(&mut self, now: Now, slot: SlotIx, seq: Seq) {
        self.graves.due.insert((now.after_ms(self.config.tombstone_ms), slot, seq));
    }

    /// Forgets tombstones whose time has come.
    pub(super) fn forget_tombstones(&mut self, now: Now) {
        let is_ripe = self.graves.due.first().is_some_and(|(due_ns, ..)| *due_ns <= now.ns);
        let is_look_due = !self.graves.awaiting.is_empty() && self.graves.look_at_ns <= now.ns;
        if !is_ripe && !is_look_due {
            return;
        }
        let away = self.out_of_sight(now);
        let mut looks = TURN;
        while let Some(grave) = self.graves.due.first().copied().filter(|(due_ns, ..)| *due_ns <= now.ns && looks > 0) {
            looks -= 1;
            self.graves.due.remove(&grave);
            let (_, ix, seq) = grave;
            self.look_at_grave(now, ix, seq, away);
        }
        if is_look_due {
            self.look_at_awaiting(now, away, looks);
        }
    }

    /// The origins that were awaited may have been heard by now.
    fn look_at_awaiting(&mut self, now: Now, away: OutOfSight, looks: usize) {
        if away == OutOfSight::Several {
            self.graves.look_at_ns = now.after_ms(AWAIT_MS);
            return;
        }
        let all = self.graves.awaiting.len();
        for _ in 0..all.min(looks) {
            let Some((ix, seq)) = self.graves.awaiting.pop_front() else { break };
            self.look_at_grave(now, ix, seq, away);
        }
        // The rest, if there is one, in the next turn.
        self.graves.look_at_ns = if away == OutOfSight::Nobody && all > looks { now.ns } else { now.after_ms(AWAIT_MS) };
    }

    fn look_at_grave(&mut self, now: Now, ix: SlotIx, seq: Seq, away: OutOfSight) {
        let Some(slot) = self.table.slot_at(ix, seq).filter(|slot| !slot.is_live()) else { return };
        if self.config.broken.is(Rule::TombstonesByAge) {
            self.table.remove(ix);
            return;
        }
        let origin = self.table.origin(slot.origin);
        // A registration here would get a lower claim, and lose where the tombstone is still known.
        let is_ahead = slot.claim >= now.wall_ms && slot.claim - now.wall_ms < AHEAD_MS_MAX;
        let is_told = origin.flags.reaped.is_none() && (seq > origin.seq || seq > origin.retained_above());
        if is_told || is_ahead || claims::is_hiding(&self.table, slot) {
            return self.bury(now, ix, seq);
        }
        if !away.concerns(slot.origin) {
            return self.forget_tombstone(ix);
        }
        if self.graves.awaiting.is_empty() {
            self.graves.look_at_ns = now.after_ms(AWAIT_MS);
        }
        self.graves.awaiting.push_back((ix, seq));
        if self.graves.awaiting.len() > self.config.awaiting_tombstones_max
            && let Some((oldest, seq)) = self.graves.awaiting.pop_front()
            && self.table.slot_at(oldest, seq).is_some_and(|slot| !slot.is_live())
        {
            self.counters.tombstones_early += 1;
            self.forget_tombstone(oldest);
        }
    }

    /// Forgets a tombstone, and raises its holder's floor.
    fn forget_tombstone(&mut self, ix: SlotIx) {
        let slot = self.table.slot(ix);
        let State::Deleted(kind) = slot.state else { return };
        let (uid, seq, origin_ix) = (slot.uid(), slot.seq, slot.origin);
        self.table.remove(ix);
        let origin = self.table.origin_mut(origin_ix);
        origin.floor = origin.floor.max(seq);
        if origin_ix == self.own_ix {
            self.remember_deleted(uid, kind, seq);
        }
    }

    /// Whose words may not all be known here: agents that are not here, or not for long enough.
    pub(super) fn out_of_sight(&self, now: Now) -> OutOfSight {
        let mut away = self.table.origins().filter(|(ix, _)| *ix != self.own_ix && !self.is_heard(now, *ix)).map(|(ix, _)| ix);
        match (away.next(), away.next()) {
            (None, _) => OutOfSight::Nobody,
            (Some(one), None) => OutOfSight::One(one),
            (Some(_), Some(_)) => OutOfSight::Several,
        }
    }

    /// Whether all that an origin says is known here, or does not count.
    fn is_heard(&self, now: Now, ix: OriginIx) -> bool {
        let origin = self.table.origin(ix);
        if !origin.life.counts() {
            return true;
        }
        match origin.life.present_since_ns {
            Some(since_ns) => now.ns.saturating_sub(since_ns) >= self.config.tombstone_ms.saturating_mul(1_000_000),
            // A goodbye is an agent's last word, and who was given up has none.
            None => origin.flags.reaped.is_some() || origin.flags.left && origin.held.is_empty(),
        }
    }

    /// Keeps the tombstones of `origin` above `to` while a snapshot as of there is on its way.
    pub fn hold_tombstones(&mut self, origin: NodeId, to: Seq) {
        if let Some(ix) = self.table.origin_ix(origin) {
            self.table.origin_mut(ix).retained_from.push(to);
        }
    }

    /// That snapshot has arrived, or never will.
    pub fn release_tombstones(&mut self, origin: NodeId, to: Seq) {
        let Some(ix) = self.table.origin_ix(origin) else { return };
        let retained = &mut self.table.origin_mut(ix).retained_from;
        if let Some(at) = retained.iter().position(|from| *from == to) {
            retained.swap_remove(at);
        }
    }
}
