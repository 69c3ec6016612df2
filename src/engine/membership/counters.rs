//! What the membership counts, for metrics and tests.

/// All counts are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that did not decode.
    pub dropped_malformed: u64,
    /// Packets for another identity than ours.
    pub dropped_misdirected: u64,
    /// Packets of members that are down or of a replaced identity.
    pub dropped_outdated_sender: u64,
    /// Own packets that came back.
    pub dropped_reflected: u64,
    /// Packets after we left.
    pub dropped_after_leaving: u64,
    /// Packets that foca refused.
    pub dropped_refused: u64,
    /// Coordinates that are absurd or a stranger's, and round trips that make none.
    pub coordinates_refused: u64,
    /// Members not taken in because the table was full.
    pub dropped_members_full: u64,
    /// Down members forgotten before their time because there were too many.
    pub forgotten_early: u64,
    /// Seeds and remembered addresses beyond what is kept.
    pub dropped_addresses_full: u64,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub bytes_received: u64,
    /// Probes that nobody answered in time.
    pub probes_failed: u64,
    /// Failed probes that were forgiven because this agent stood still or was deaf.
    pub probes_forgiven: u64,
    /// Suspicions, own and heard of.
    pub suspicions: u64,
    /// Own suspicions that turned out wrong.
    pub suspicions_refuted: u64,
    /// Down verdicts given here.
    pub verdicts: u64,
    /// Verdicts taken back at contact.
    pub verdicts_withdrawn: u64,
    /// Suspicions whose verdict was put off because of a stall or silence.
    pub verdicts_postponed: u64,
    /// Times we had to contradict a suspicion of ourselves.
    pub refutations: u64,
    /// Times we took a new generation.
    pub renewals: u64,
    pub stalls: u64,
    /// Times our members and a peer's went on differing, so that state was exchanged.
    pub digests_differed: u64,
    /// Bugs: calls that foca refused although they cannot fail.
    pub internal_errors: u64,
}
