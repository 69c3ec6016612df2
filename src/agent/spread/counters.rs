//! What the spread did, by kind and reason; read by metrics, the simulator and tests.

/// Counted since the agent started; bytes are those of encoded parts, before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub deltas_sent: u64,
    pub delta_bytes_sent: u64,
    pub deltas_received: u64,
    /// Deltas that told nothing new.
    pub deltas_known: u64,
    pub advert_parts_sent: u64,
    pub advert_bytes_sent: u64,
    /// Heads that went along with packets of the membership.
    pub adverts_ridden: u64,
    pub want_parts_sent: u64,
    pub want_bytes_sent: u64,
    /// Wants that were sent again.
    pub wants_repeated: u64,
    /// Deltas that were asked for.
    pub answers_sent: u64,
    pub answer_bytes_sent: u64,
    pub repair_parts_sent: u64,
    pub repair_bytes_sent: u64,
    /// Exchanges over heads that this agent began: sketches, pages.
    pub exchanges: u64,
    /// Of them, those that found nothing.
    pub exchanges_in_vain: u64,
    pub sketches_decoded: u64,
    pub sketches_undecoded: u64,
    pub streams_opened: u64,
    pub streams_accepted: u64,
    pub streams_completed: u64,
    pub streams_refused_busy: u64,
    pub snapshots_sent: u64,
    pub snapshots_received: u64,
    pub dropped: Dropped,
}

/// What was not sent, not taken in or given up, by reason. Everything here is a copy that repair brings again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Changes of more origins waiting than `pushes_max`.
    pub push_queue_full: u64,
    /// Changes above a gap that found no budget.
    pub push_above_gap: u64,
    pub advert_queue_full: u64,
    pub lack_table_full: u64,
    pub answer_queue_full: u64,
    /// Wants given up after `want_attempts_max`.
    pub want_given_up: u64,
    /// Requests of repair above its budget.
    pub repair_budget: u64,
    /// Changes of an epoch whose base did not come along.
    pub base_unknown: u64,
    /// Packets that are no part of any sketch.
    pub bad_sketch: u64,
    /// Streams whose peer said what does not belong there.
    pub stream_nonsense: u64,
    pub stream_idle: u64,
}
