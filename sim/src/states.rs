//! Engine states that a sweep must have seen: what was never reached was never tested.
//!
//! Each is read from an engine's counters when its process ends, or from what the run sees of it. The list is committed: taking a state
//! off it says that nobody looks there any more.

use tidings::engine::Engine;

/// A state that engines count themselves.
pub struct State {
    pub name: &'static str,
    pub count: fn(&Engine) -> u64,
}

macro_rules! states {
    ($($name:literal $count:expr),* $(,)?) => {
        &[$(State { name: $name, count: $count }),*]
    };
}

/// What engines count themselves.
pub const COUNTED: &[State] = states![
    // Membership.
    "suspicion" | engine | engine.membership().counters.suspicions,
    "suspicion-refuted" | engine | engine.membership().counters.suspicions_refuted,
    "refutation" | engine | engine.membership().counters.refutations,
    "verdict" | engine | engine.membership().counters.verdicts,
    "verdict-withdrawn" | engine | engine.membership().counters.verdicts_withdrawn,
    "verdict-postponed" | engine | engine.membership().counters.verdicts_postponed,
    "rejoin" | engine | engine.membership().counters.renewals,
    "stall" | engine | engine.membership().counters.stalls,
    "membership-exchanged" | engine | engine.membership().counters.digests_differed,
    // Catalog.
    "take-over" | engine | engine.catalog().counters.taken_over,
    "reaping" | engine | engine.catalog().counters.reaped,
    "lease-expired" | engine | engine.catalog().counters.expired,
    "yielded" | engine | engine.catalog().counters.yielded,
    "epoch-taken" | engine | engine.catalog().counters.epochs_taken,
    "adoption" | engine | engine.catalog().counters.adoptions,
    "tail-kept" | engine | engine.catalog().counters.tails_kept,
    "claim-ahead" | engine | engine.catalog().counters.claims_ahead,
    "snapshot-stale" | engine | engine.catalog().counters.snapshots_stale,
    "batch-known" | engine | engine.catalog().counters.batches_known,
    // Spread.
    "snapshot" | engine | engine.spread().counters.snapshots_received,
    "gap-repaired" | engine | engine.spread().counters.answers_sent,
    "want-repeated" | engine | engine.spread().counters.wants_repeated,
    "sketch-decoded" | engine | engine.spread().counters.sketches_decoded,
    "exchange" | engine | engine.spread().counters.exchanges,
    "pushes-full" | engine | engine.spread().counters.dropped.push_queue_full,
    "adverts-full" | engine | engine.spread().counters.dropped.advert_queue_full,
    "lacks-full" | engine | engine.spread().counters.dropped.lack_table_full,
    "answers-full" | engine | engine.spread().counters.dropped.answer_queue_full,
    "refused-busy" | engine | engine.spread().counters.streams_refused_busy,
];

/// What only the run sees.
pub const SEEN: &[&str] = &[CUT_OFF, TWIN, FORWARDED, REFUSED];
/// What the run sees where there are several datacenters.
pub const FAR: &[&str] = &[REMOTE_STALE, REMOTE_BACK, REMOTE_DOWN];
/// An agent that holds itself cut off.
pub const CUT_OFF: &str = "cut-off";
/// An agent that gave its node id up.
pub const TWIN: &str = "twin";
/// A write that another agent carried out.
pub const FORWARDED: &str = "forwarded-write";
/// A write that was refused.
pub const REFUSED: &str = "refused-write";

/// Another datacenter that was heard, and is not.
pub const REMOTE_STALE: &str = "remote-stale";
/// One that is heard again.
pub const REMOTE_BACK: &str = "remote-back";
/// An agent of another datacenter that is shown as down.
pub const REMOTE_DOWN: &str = "remote-down";

/// All of them, of one datacenter or, with `is_far`, of several.
pub fn names(is_far: bool) -> impl Iterator<Item = &'static str> {
    COUNTED.iter().map(|state| state.name).chain(SEEN.iter().copied()).chain(FAR.iter().copied().filter(move |_| is_far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let distinct: std::collections::BTreeSet<_> = names(true).collect();
        assert_eq!(distinct.len(), names(true).count());
    }
}
