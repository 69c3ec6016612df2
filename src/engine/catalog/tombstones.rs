//! Tombstones: kept until nobody needs them any more (protocol §2, deletes).

use super::table::{SlotIx, State};
use super::{Catalog, claims};
use crate::model::names::NodeId;
use crate::model::record::Seq;
use crate::model::time::Now;
use std::collections::BTreeSet;

/// A claim so far ahead of the own clock is not waited for, in milliseconds.
const AHEAD_MS_MAX: u64 = 86_400_000;
/// Tombstones looked at in one turn.
const TURN: usize = 1_000;

/// Tombstones by the time they may go.
#[derive(Debug, Default)]
pub(super) struct Graves(BTreeSet<(u64, SlotIx, Seq)>);

impl Graves {
    pub fn deadline(&self) -> Option<u64> {
        self.0.first().map(|(due_ns, ..)| *due_ns)
    }
}

impl Catalog {
    /// Notes when a tombstone that came now may be forgotten.
    pub(super) fn bury(&mut self, now: Now, slot: SlotIx, seq: Seq) {
        self.graves.0.insert((now.after_ms(self.config.tombstone_ms), slot, seq));
    }

    /// Forgets tombstones whose time has come, and raises their holders' floors.
    pub(super) fn forget_tombstones(&mut self, now: Now) {
        for _ in 0..TURN {
            let Some(grave) = self.graves.0.first().copied().filter(|(due_ns, ..)| *due_ns <= now.ns) else { return };
            self.graves.0.remove(&grave);
            let (_, ix, seq) = grave;
            let Some(slot) = self.table.slot_at(ix, seq) else { continue };
            let State::Deleted(kind) = slot.state else { continue };
            let (uid, origin_ix) = (slot.uid(), slot.origin);
            let origin = self.table.origin(origin_ix);
            // A registration here would get a lower claim, and lose where the tombstone is still known.
            let is_ahead = slot.claim >= now.wall_ms && slot.claim - now.wall_ms < AHEAD_MS_MAX;
            let is_needed = seq > origin.seq || seq > origin.retained_above() || is_ahead || claims::is_hiding(&self.table, slot);
            #[cfg(feature = "sabotage")]
            if self.config.sabotage == Some(crate::engine::sabotage::Rule::TombstonesByAge) {
                self.table.remove(ix);
                continue;
            }
            if is_needed {
                self.bury(now, ix, seq);
                continue;
            }
            self.table.remove(ix);
            let origin = self.table.origin_mut(origin_ix);
            origin.floor = origin.floor.max(seq);
            if origin_ix == self.own_ix {
                self.remember_deleted(uid, kind, seq);
            }
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
