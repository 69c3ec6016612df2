//! How far this agent trusts its own judgement (Lifeguard's local health, and a detector of silence).
//!
//! The score is 0 when all is well. It rises when others had to be told that they err about us, when those we accused answered, and when
//! our own timers fired late; it falls with each probe that is answered. Probes slow down in proportion, so a starved agent accuses less.

use super::config::MembershipConfig;

#[derive(Debug, Default)]
pub(super) struct Awareness {
    score: u64,
    score_max: u64,
    last_heard: u64,
    /// No verdicts before.
    unsure_until: u64,
}

impl Awareness {
    pub fn new(now_ns: u64, config: &MembershipConfig) -> Self {
        Self { score: 0, score_max: config.unwell_max, last_heard: now_ns, unsure_until: 0 }
    }

    pub fn score(&self) -> u64 {
        self.score
    }

    /// By how much to stretch probes.
    pub fn stretch(&self, duration_ns: u64) -> u64 {
        duration_ns * (1 + self.score)
    }

    pub fn heard(&mut self, now_ns: u64) {
        self.last_heard = now_ns;
    }

    /// A member answered a probe.
    pub fn probe_answered(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// We were suspected although we live, or someone we accused lives.
    pub fn judged_wrong(&mut self) {
        self.score = (self.score + 1).min(self.score_max);
    }

    /// Own timers fired this late; what fell due meanwhile is no evidence against anybody.
    pub fn stalled(&mut self, now_ns: u64, config: &MembershipConfig) {
        self.score = (self.score + 2).min(self.score_max);
        self.unsure_until = now_ns + config.postpone_ms * 1_000_000;
        // The silence of the pause was our own.
        self.last_heard = now_ns;
    }

    /// Whether so little was heard, with `peers` that could have spoken, that this agent is more likely deaf than they are dead. With a
    /// single peer its silence is as likely as ours.
    pub fn is_silent(&self, now_ns: u64, peers: usize, config: &MembershipConfig) -> bool {
        // The unwell probe rarely, so they are answered rarely; but they are not to be trusted for long.
        peers >= 2 && now_ns.saturating_sub(self.last_heard) >= config.silence_ms * 1_000_000 * (1 + self.score.min(2))
    }

    /// When the silence began, for who asks during one.
    pub fn last_heard(&self) -> u64 {
        self.last_heard
    }

    pub fn is_unsure(&self, now_ns: u64) -> bool {
        now_ns < self.unsure_until
    }
}
