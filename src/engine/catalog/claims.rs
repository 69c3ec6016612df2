//! Claims: which of several origins' words on one key counts (protocol §2).
//!
//! A claim is hybrid time: max(own clock, highest claim seen for the key + 1). It is never altered on the way, and no clock but that of
//! the key follows a peer that is ahead.

use super::table::{Slot, SlotIx, Table};
use crate::engine::sabotage::Rule;
use crate::model::record::{Claim, Uid};

/// A claim this far ahead of the own clock betrays a clock that is wrong, in milliseconds.
pub const AHEAD_MS_MAX: u64 = 60_000;

/// The word that counts: of the highest claim; of equal ones a delete, then the higher origin's. Origins that membership named to
/// no life of this agent have no say.
pub(super) fn winner(table: &Table, uid: Uid) -> Option<SlotIx> {
    let rank = |ix: &SlotIx| {
        let slot = table.slot(*ix);
        let is_ignored = table.broken.is(Rule::ClaimsIgnored) || table.broken.is(Rule::DeletesOwnOnly) && !slot.is_live();
        (if is_ignored { 0 } else { slot.claim }, !slot.is_live(), table.origin(slot.origin).id)
    };
    table.chain(uid).filter(|ix| table.origin(table.slot(*ix).origin).life.counts()).max_by_key(rank)
}

/// The record readers see of a key.
pub(super) fn visible(table: &Table, uid: Uid) -> Option<&Slot> {
    winner(table, uid).map(|ix| table.slot(ix)).filter(|slot| slot.is_live())
}

/// A new claim on a key: above all that was seen for it.
pub(super) fn next(table: &Table, uid: Uid, wall_ms: u64) -> Claim {
    let highest = table.chain(uid).map(|ix| table.slot(ix).claim).max();
    highest.map_or(wall_ms, |highest| highest.saturating_add(1).max(wall_ms))
}

/// The claim of the tombstone with which an origin gives up a key to `winner`: its own, unless that would delete an equal one.
pub(super) fn of_yielding(own: &Slot, winner: &Slot) -> Claim {
    if winner.is_live() && winner.claim == own.claim { own.claim.saturating_sub(1) } else { own.claim }
}

/// Whether a tombstone still has something to hide: another origin's record of its key, with its claim or a lower one.
pub(super) fn is_hiding(table: &Table, tombstone: &Slot) -> bool {
    table.chain(tombstone.uid()).any(|ix| {
        let slot = table.slot(ix);
        slot.origin != tombstone.origin && slot.is_live() && slot.claim <= tombstone.claim
    })
}
