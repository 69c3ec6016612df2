//! The cut-off viewer (protocol section 1): who lost at least as many members as it kept, and two or more, takes itself for the one that
//! is cut off. Its verdicts then wait; the lost stay suspect and go on being probed.

use crate::model::names::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Who stopped being alive here, and when. Bounded by the members' table.
#[derive(Debug, Default)]
pub(super) struct CutOff {
    since: BTreeMap<NodeId, u64>,
    by_time: BTreeSet<(u64, NodeId)>,
}

impl CutOff {
    /// A member is no longer held alive; not for who left of its own will.
    pub fn lost(&mut self, now_ns: u64, node: NodeId) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.since.entry(node) {
            entry.insert(now_ns);
            self.by_time.insert((now_ns, node));
        }
    }

    /// A member is alive again, or known to be gone.
    pub fn settled(&mut self, node: NodeId) {
        if let Some(at) = self.since.remove(&node) {
            self.by_time.remove(&(at, node));
        }
    }

    /// How many were lost within the window. What was lost before counts no more: a cluster that really shrank by half gives its verdicts
    /// then.
    pub fn lost_lately(&mut self, now_ns: u64, window_ns: u64) -> usize {
        while let Some(&(at, node)) = self.by_time.first()
            && at + window_ns <= now_ns
        {
            self.by_time.pop_first();
            self.since.remove(&node);
        }
        self.since.len()
    }

    /// Who was lost since `since_ns`.
    pub fn lost_since(&self, since_ns: u64) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.by_time.range((since_ns, NodeId(0))..).map(|(_, node)| *node)
    }

    /// Whether an agent that holds `held` members alive, itself included, is the one cut off.
    pub fn is_cut_off(&mut self, now_ns: u64, held: usize, window_ns: u64) -> bool {
        let lost = self.lost_lately(now_ns, window_ns);
        // "At most half of held and lost together" is "no more than were lost".
        lost >= 2 && held <= lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(nodes: u128, at: u64) -> CutOff {
        let mut cut = CutOff::default();
        for node in 0..nodes {
            cut.lost(at, NodeId(node));
        }
        cut
    }

    #[test]
    fn one_lost_member_never_cuts_a_viewer_off() {
        assert!(!lost(1, 0).is_cut_off(1, 1, 60));
    }

    #[test]
    fn who_keeps_half_or_less_is_cut_off_and_who_keeps_more_is_not() {
        assert!(lost(9, 0).is_cut_off(1, 1, 60));
        assert!(lost(5, 0).is_cut_off(1, 5, 60));
        assert!(!lost(3, 0).is_cut_off(1, 7, 60));
    }

    #[test]
    fn what_was_lost_a_window_ago_is_the_new_normal() {
        assert!(lost(9, 0).is_cut_off(59, 1, 60));
        assert!(!lost(9, 0).is_cut_off(60, 1, 60));
    }

    #[test]
    fn who_came_back_is_not_lost() {
        let mut cut = lost(2, 0);
        cut.settled(NodeId(0));
        assert!(!cut.is_cut_off(1, 1, 60));
    }
}
