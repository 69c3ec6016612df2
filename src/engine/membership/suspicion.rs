//! Suspicions and when they turn into verdicts (Lifeguard's dynamic timeout; foca's own timer is swallowed).
//!
//! ```text
//!            accused here or by hearsay            time is up            each look unanswered,
//!   (none) ------------------------------> running ------------> looking -------------------> Down, by the caller
//!     ^                                    |  ^  |                  |     not cut off
//!     |   refuted, renewed, down, left     |  |  | accusation by one more member: up earlier
//!     +------------------------------------+  +--+ stall: up later, once
//!     +-------------------------------------------------------------+
//! ```
//! Accusations from own probes travel: each agent that hears of one it lacked passes it on a few times, and its own clock runs shorter.
//!
//! The table is pure: it knows neither foca nor packets. Who accuses, and how many could, is told to it.

use crate::model::names::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One member under suspicion.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    pub incarnation: u16,
    started: u64,
    expires: u64,
    terms: Terms,
    /// Who says so from own probes. At most [`ACCUSERS_MAX`].
    accusers: BTreeSet<NodeId>,
    was_postponed: bool,
    looks_left: u8,
    /// Its time was up while no verdict could be given.
    is_lost: bool,
}

/// Accusers that are told apart.
const ACCUSERS_MAX: usize = 16;
/// An accusation that is news is passed on so often: enough to reach nearly all, and one that knows all of them suffices.
const TELLINGS: u8 = 4;
/// Accusations that wait to be passed on; further ones are not.
const UNTOLD_MAX: usize = 256;

/// One member's word against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accusation {
    pub node: NodeId,
    pub incarnation: u16,
    pub by: NodeId,
}

impl Suspicion {
    pub fn is_accused_by(&self, node: NodeId) -> bool {
        self.accusers.contains(&node)
    }

    /// Whether its verdict was put off for longer than it ran at the longest.
    pub fn is_overdue(&self, now_ns: u64) -> bool {
        now_ns > self.started + 2 * self.terms.max_ns
    }

    /// When to begin to look. A verdict falls `max` after the beginning without confirmation, `min` with all that were wanted, logarithmic
    /// between.
    fn due(&self) -> u64 {
        let Terms { min_ns, max_ns, wanted, looks, look_ns } = self.terms;
        let confirmations = self.accusers.len().saturating_sub(1).min(wanted);
        let share = if wanted == 0 { 1.0 } else { ((confirmations + 1) as f64).ln() / ((wanted + 1) as f64).ln() };
        let span = max_ns - min_ns;
        self.started + (max_ns - (span as f64 * share) as u64).saturating_sub(u64::from(looks) * look_ns)
    }
}

/// All running suspicions, at most one a member.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    running: BTreeMap<NodeId, Suspicion>,
    by_expiry: BTreeSet<(u64, NodeId)>,
    /// News to pass on, and how often yet.
    untold: VecDeque<(Accusation, u8)>,
}

/// How long a suspicion runs and what shortens it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub min_ns: u64,
    pub max_ns: u64,
    /// Confirmations beside the first accusation that shorten it all the way.
    pub wanted: usize,
    /// Pings before a verdict, and the wait after each.
    pub looks: u8,
    pub look_ns: u64,
}

impl Suspicions {
    /// Begins one, or leaves a running one of the same or a later incarnation as it is. Returns whether it is new.
    pub fn begin(&mut self, now_ns: u64, node: NodeId, incarnation: u16, terms: Terms) -> bool {
        if self.running.get(&node).is_some_and(|known| known.incarnation >= incarnation) {
            return false;
        }
        self.end(node);
        let mut suspicion = Suspicion {
            incarnation,
            started: now_ns,
            expires: 0,
            terms,
            accusers: BTreeSet::new(),
            was_postponed: false,
            looks_left: terms.looks,
            is_lost: false,
        };
        suspicion.expires = suspicion.due();
        self.by_expiry.insert((suspicion.expires, node));
        self.running.insert(node, suspicion);
        true
    }

    /// One member says so from own probes. Returns whether that is news to be passed on.
    pub fn accuse(&mut self, accusation: Accusation) -> bool {
        let Accusation { node, incarnation, by } = accusation;
        let Some(suspicion) = self.running.get_mut(&node) else { return false };
        if suspicion.incarnation != incarnation || suspicion.accusers.len() >= ACCUSERS_MAX || !suspicion.accusers.insert(by) {
            return false;
        }
        // Beyond those that shorten it, nobody needs to know.
        let is_of_use = suspicion.terms.wanted > 0 && suspicion.accusers.len() <= suspicion.terms.wanted + 1;
        if is_of_use && self.untold.len() < UNTOLD_MAX {
            self.untold.push_back((accusation, TELLINGS));
        }
        let due = suspicion.due();
        if !suspicion.was_postponed && due < suspicion.expires {
            self.by_expiry.remove(&(suspicion.expires, node));
            suspicion.expires = due;
            self.by_expiry.insert((due, node));
        }
        is_of_use
    }

    /// Up to `max` accusations to put on a packet.
    pub fn next_told(&mut self, max: usize) -> Vec<Accusation> {
        let mut told = Vec::new();
        for _ in 0..self.untold.len() {
            if told.len() == max {
                break;
            }
            let Some((accusation, left)) = self.untold.pop_front() else { break };
            if !self.stands(&accusation) {
                continue;
            }
            told.push(accusation);
            if left > 1 {
                self.untold.push_back((accusation, left - 1));
            }
        }
        told
    }

    pub fn has_untold(&mut self) -> bool {
        while let Some((accusation, _)) = self.untold.front() {
            if self.stands(accusation) {
                return true;
            }
            self.untold.pop_front();
        }
        false
    }

    fn stands(&self, accusation: &Accusation) -> bool {
        self.running.get(&accusation.node).is_some_and(|suspicion| suspicion.incarnation == accusation.incarnation)
    }

    /// Whether there is a look left before the verdict on this one, which expired; it expires again at `again`.
    pub fn look(&mut self, node: NodeId, again: u64) -> bool {
        let Some(suspicion) = self.running.get_mut(&node).filter(|suspicion| suspicion.looks_left > 0) else { return false };
        suspicion.looks_left -= 1;
        // From here on it has its own pace.
        suspicion.was_postponed = true;
        self.retry(node, again);
        true
    }

    /// Verdicts that would fall before `until` fall then; once a suspicion.
    pub fn postpone(&mut self, until: u64) -> usize {
        let due: Vec<_> = self.by_expiry.range(..(until, NodeId(u128::MAX))).copied().collect();
        let mut postponed = 0;
        for (expires, node) in due {
            let suspicion = self.running.get_mut(&node).expect("by_expiry holds running suspicions only");
            if suspicion.was_postponed {
                continue;
            }
            suspicion.was_postponed = true;
            self.move_expiry(node, expires, until);
            postponed += 1;
        }
        postponed
    }

    /// Its time is up and no verdict can be given. Returns whether that is so for the first time.
    pub fn lose(&mut self, node: NodeId) -> bool {
        self.running.get_mut(&node).is_some_and(|suspicion| !std::mem::replace(&mut suspicion.is_lost, true))
    }

    /// Looks at this one again at `at`: it expired while its verdict could not be given.
    pub fn retry(&mut self, node: NodeId, at: u64) {
        if let Some(expires) = self.running.get(&node).map(|suspicion| suspicion.expires) {
            self.move_expiry(node, expires, at);
        }
    }

    fn move_expiry(&mut self, node: NodeId, from: u64, to: u64) {
        self.by_expiry.remove(&(from, node));
        self.by_expiry.insert((to, node));
        self.running.get_mut(&node).expect("the caller found it").expires = to;
    }

    pub fn end(&mut self, node: NodeId) -> Option<Suspicion> {
        let suspicion = self.running.remove(&node)?;
        self.by_expiry.remove(&(suspicion.expires, node));
        Some(suspicion)
    }

    /// All that are suspected.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.running.keys().copied().collect()
    }

    pub fn clear(&mut self) {
        self.running.clear();
        self.by_expiry.clear();
        self.untold.clear();
    }

    /// All begin anew, unconfirmed: what was held against them is in doubt.
    pub fn restart(&mut self, now_ns: u64) {
        self.by_expiry.clear();
        for (node, suspicion) in &mut self.running {
            suspicion.accusers.clear();
            suspicion.started = now_ns;
            suspicion.was_postponed = false;
            suspicion.looks_left = suspicion.terms.looks;
            suspicion.is_lost = false;
            suspicion.expires = suspicion.due();
            self.by_expiry.insert((suspicion.expires, *node));
        }
    }

    pub fn find(&self, node: NodeId) -> Option<&Suspicion> {
        self.running.get(&node)
    }

    /// The next one that is due by `now_ns`; it stays in the table until the caller ends or retries it.
    pub fn expired(&self, now_ns: u64) -> Option<NodeId> {
        self.by_expiry.first().filter(|(at, _)| *at <= now_ns).map(|(_, node)| *node)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.by_expiry.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: NodeId = NodeId(1);
    const TERMS: Terms = Terms { min_ns: 100, max_ns: 300, wanted: 3, looks: 0, look_ns: 0 };

    fn table(wanted: usize) -> Suspicions {
        let mut table = Suspicions::default();
        assert!(table.begin(1_000, X, 0, Terms { wanted, ..TERMS }));
        table
    }

    #[test]
    fn nobody_confirms_and_it_runs_to_the_end() {
        let mut table = table(3);
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(10) });
        assert_eq!(table.deadline(), Some(1_300));
        assert_eq!(table.expired(1_299), None);
        assert_eq!(table.expired(1_300), Some(X));
    }

    #[test]
    fn each_independent_confirmation_shortens_it_and_repetitions_do_not() {
        let mut table = table(3);
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(10) });
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(11) });
        assert_eq!(table.deadline(), Some(1_200));
        assert!(!table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(11) }));
        assert_eq!(table.deadline(), Some(1_200));
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(12) });
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(13) });
        assert_eq!(table.deadline(), Some(1_100));
    }

    #[test]
    fn where_nobody_could_confirm_it_is_short() {
        let mut table = table(0);
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(10) });
        assert_eq!(table.deadline(), Some(1_100));
    }

    #[test]
    fn an_accusation_of_another_incarnation_counts_for_nothing() {
        let mut table = table(3);
        assert!(!table.accuse(Accusation { node: X, incarnation: 1, by: NodeId(10) }));
        assert!(!table.accuse(Accusation { node: NodeId(2), incarnation: 0, by: NodeId(10) }));
    }

    #[test]
    fn a_later_incarnation_starts_anew() {
        let mut table = table(3);
        assert!(!table.begin(1_050, X, 0, TERMS));
        assert!(table.begin(1_050, X, 1, TERMS));
        assert_eq!(table.deadline(), Some(1_350));
        assert_eq!(table.find(X).map(|suspicion| suspicion.accusers.len()), Some(0));
    }

    #[test]
    fn a_verdict_is_postponed_once_and_confirmations_do_not_undo_that() {
        let mut table = table(3);
        table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(10) });
        assert_eq!(table.postpone(1_500), 1);
        for accuser in 11..14 {
            table.accuse(Accusation { node: X, incarnation: 0, by: NodeId(accuser) });
        }
        assert_eq!(table.deadline(), Some(1_500));
        assert_eq!(table.postpone(1_900), 0);
        assert_eq!(table.deadline(), Some(1_500));
    }
}
