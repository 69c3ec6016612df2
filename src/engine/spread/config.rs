//! The spread's timings and limits.

use crate::engine::sabotage::Broken;

/// Durations are milliseconds, rates bytes a second. `lan` and `wan` are the two settings in use; tests and experiments alter fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadConfig {
    /// Members that one agent hands a change to in full; each of them takes care of a share of the others.
    pub fanout: usize,
    /// Own changes that come within this share datagrams; the first of them does not wait.
    pub coalesce_ms: u64,
    /// Members that each agent tells of a new head in datagrams of its own ...
    pub advert_copies: u8,
    /// ... beginning so long after it came, when the change itself has most likely arrived everywhere ...
    pub advert_delay_ms: u64,
    /// ... one after the other in this time, so that heads which move together share datagrams.
    pub advert_tick_ms: u64,
    /// Of a change too large for a datagram only the head is pushed: to so many members at once.
    pub advert_copies_large: u8,
    /// Packets of the membership that carry a new head along ...
    pub rides: u8,
    /// ... while it is younger than this.
    pub ride_ms: u64,
    /// New heads in one such packet.
    pub ride_heads_max: usize,
    /// Heads waiting to be told; above, the oldest are left to repair.
    pub adverts_max: usize,
    /// What somebody else advertised is asked for after this, unless it comes by itself.
    pub want_grace_ms: u64,
    /// Pause before it is asked for again, at another advertiser; after `want_attempts_quick` doubles up to `want_retry_max_ms`.
    pub want_retry_ms: u64,
    pub want_attempts_quick: u8,
    pub want_retry_max_ms: u64,
    /// After so many attempts it is left to repair.
    pub want_attempts_max: u8,
    /// Origins that may be lacked at once; further ones are left to repair.
    pub lacks_max: usize,
    /// A want is answered by at most so many datagrams; what needs more is fetched over a stream.
    pub answer_parts_max: usize,
    /// Wants that wait for the budget.
    pub answers_max: usize,
    /// Origins whose changes wait for the budget.
    pub pushes_max: usize,
    /// What all spreading may send, datagrams of repair and streams apart: rate and burst.
    pub bytes_a_second: u64,
    pub burst_bytes: u64,
    /// Of it, to one peer.
    pub peer_bytes_a_second: u64,
    pub peer_burst_bytes: u64,
    /// Kept for repair, beside the rest.
    pub repair_bytes_a_second: u64,
    pub repair_burst_bytes: u64,
    /// A change that has waited so long goes first, whatever it is.
    pub aging_ms: u64,
    /// Registrations are refused while own changes have waited longer than this and there is somebody to send them to.
    pub congested_ms: u64,
    /// A difference must outlive this much calm before it is looked into: what is on its way arrives sooner.
    pub calm_ms: u64,
    /// Fewer heads than this move while it is calm.
    pub calm_moves_max: usize,
    /// Pause between pages of heads where there is no calm, once something was lost; doubles up to `page_max_ms` while they find
    /// nothing, and stays there.
    pub page_ms: u64,
    pub page_max_ms: u64,
    /// Heads of a disagreement that are sent as pages; with more, a stream is opened.
    pub page_heads_max: usize,
    /// An agent alone, or among others that are not ready, waits so long for one that is.
    pub settle_ms: u64,
    /// Exchanges an agent has open at once; a second one only while the first says nothing for `exchange_retry_ms`.
    pub exchanges_open_max: usize,
    /// Pause between exchanges with members that are not known to be ready.
    pub equals_pause_ms: u64,
    /// Exchanges an agent sponsors at once.
    pub sponsored_max: usize,
    /// Fetches an agent serves at once, and has open.
    pub fetches_max: usize,
    /// Bytes handed to a stream and not yet written.
    pub stream_bytes_max: usize,
    /// Bytes of one chunk, before compression: room for the largest record, which would be told as part of a snapshot otherwise.
    pub chunk_bytes: usize,
    /// Frames made in one turn, over all streams.
    pub turn_frames_max: usize,
    /// A stream on which nothing moved for so long is given up: links below `stream_bytes_max` in this time are too slow.
    pub stream_idle_ms: u64,
    /// Pause before a peer is tried again that was busy or broke off.
    pub exchange_retry_ms: u64,
    pub broken: Broken,
}

impl SpreadConfig {
    /// One datacenter.
    pub fn lan() -> Self {
        Self {
            fanout: 4,
            coalesce_ms: 5,
            advert_copies: 3,
            advert_delay_ms: 30,
            advert_tick_ms: 20,
            advert_copies_large: 8,
            rides: 6,
            ride_ms: 3_000,
            ride_heads_max: 8,
            adverts_max: 8_192,
            want_grace_ms: 15,
            want_retry_ms: 50,
            want_attempts_quick: 4,
            want_retry_max_ms: 1_000,
            want_attempts_max: 10,
            lacks_max: 16_384,
            answer_parts_max: 8,
            answers_max: 4_096,
            pushes_max: 4_096,
            bytes_a_second: 8 << 20,
            burst_bytes: 1 << 20,
            peer_bytes_a_second: 2 << 20,
            peer_burst_bytes: 128 << 10,
            repair_bytes_a_second: 512 << 10,
            repair_burst_bytes: 64 << 10,
            aging_ms: 5_000,
            congested_ms: 10_000,
            calm_ms: 3_000,
            calm_moves_max: 10,
            page_ms: 1_000,
            page_max_ms: 64_000,
            page_heads_max: 320,
            settle_ms: 5_000,
            exchanges_open_max: 2,
            equals_pause_ms: 100,
            sponsored_max: 3,
            fetches_max: 8,
            stream_bytes_max: 256 << 10,
            chunk_bytes: 72 << 10,
            turn_frames_max: 16,
            stream_idle_ms: 60_000,
            exchange_retry_ms: 500,
            broken: Broken::default(),
        }
    }
}
