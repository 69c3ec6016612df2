//! Liveness of an origin: what membership says of an agent decides how its instances are served (protocol §3).

use crate::model::node::Liveness;
use crate::model::time::Now;

/// How long instances of an origin that nobody vouches for may be served, in milliseconds.
pub const UNVERIFIED_MS_MAX: u64 = 600_000;

/// Membership's word on an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    Alive,
    Suspected,
    /// Down, as others told; it has not answered us, nor has its suspicion run out here.
    Hearsay,
    /// Not answering, while this agent seems to be the one that is cut off.
    Lost,
    Down,
    /// It said goodbye.
    Left,
}

/// What is known of an origin's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// Membership knows, or knew, an agent of this id. Until then its records are held aside.
    pub is_named: bool,
    /// An earlier life of this agent knew it: its records count here until membership speaks, or is silent for too long.
    pub is_recalled: bool,
    pub word: Option<Word>,
    pub since_ns: u64,
    pub since_wall_ms: u64,
    /// Since when it is held alive without a break, suspicions aside; none while it is not.
    pub present_since_ns: Option<u64>,
}

impl Life {
    /// Of an origin that only its records name.
    pub fn unheard(now: Now) -> Self {
        Self { is_named: false, is_recalled: false, word: None, since_ns: now.ns, since_wall_ms: now.wall_ms, present_since_ns: None }
    }

    /// Of this agent itself.
    pub fn own(now: Now) -> Self {
        Self {
            is_named: true,
            is_recalled: false,
            word: Some(Word::Alive),
            since_ns: now.ns,
            since_wall_ms: now.wall_ms,
            present_since_ns: Some(now.ns),
        }
    }

    /// Whether its records compete with others'.
    pub fn counts(&self) -> bool {
        self.is_named || self.is_recalled
    }

    pub fn is_alive(&self) -> bool {
        matches!(self.word, Some(Word::Alive | Word::Suspected))
    }

    /// The table of protocol §3. `has_left` is the flag on the head: it goes before the goodbye and outlives it.
    pub fn liveness(&self, has_left: bool, now_ns: u64) -> Liveness {
        if has_left {
            return Liveness::Left;
        }
        match self.word {
            Some(Word::Alive) => Liveness::Alive,
            Some(Word::Suspected) => Liveness::Suspect,
            None | Some(Word::Hearsay | Word::Lost) if now_ns < self.unverified_until_ns() => Liveness::Unverified,
            None | Some(Word::Hearsay | Word::Lost | Word::Down) => Liveness::Down,
            Some(Word::Left) => Liveness::Left,
        }
    }

    /// When an unverified origin counts as down.
    pub fn unverified_until_ns(&self) -> u64 {
        self.since_ns.saturating_add(UNVERIFIED_MS_MAX * 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(word: Option<Word>) -> Life {
        Life { is_named: true, is_recalled: false, word, since_ns: 0, since_wall_ms: 0, present_since_ns: None }
    }

    #[test]
    fn instances_are_served_as_their_agent_lives() {
        let at_once = |word| life(word).liveness(false, 1);
        assert_eq!(at_once(Some(Word::Alive)), Liveness::Alive);
        assert_eq!(at_once(Some(Word::Suspected)), Liveness::Suspect);
        assert_eq!(at_once(Some(Word::Down)), Liveness::Down);
        assert_eq!(at_once(Some(Word::Left)), Liveness::Left);
        for word in [None, Some(Word::Hearsay), Some(Word::Lost)] {
            assert_eq!(at_once(word), Liveness::Unverified);
            assert_eq!(life(word).liveness(false, UNVERIFIED_MS_MAX * 1_000_000), Liveness::Down, "for at most ten minutes");
        }
    }

    #[test]
    fn the_left_flag_hides_an_agent_that_membership_still_holds_alive() {
        assert_eq!(life(Some(Word::Alive)).liveness(true, 1), Liveness::Left);
    }
}
