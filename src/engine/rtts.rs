//! Round trips as readers see them: membership's estimates, shown so coarsely that their jitter makes no views.

use super::membership::Membership;
use crate::model::names::NodeId;
use crate::model::time::Now;
use std::collections::BTreeMap;

/// Estimates are compared with what is shown this often, in milliseconds.
const LOOK_MS: u64 = 10_000;
/// An estimate is shown anew once it is so far from what is shown, in percent of that.
const MOVED_PERCENT: u32 = 25;

#[derive(Debug, Default)]
pub struct Rtts {
    /// In microseconds.
    shown: BTreeMap<NodeId, u32>,
    looked_ns: Option<u64>,
}

impl Rtts {
    /// Takes over estimates that moved; says whether any did. Probes wake the engine often enough: it needs no timer.
    pub fn look(&mut self, now: Now, membership: &Membership) -> bool {
        if self.looked_ns.is_some_and(|looked_ns| now.ns < looked_ns + LOOK_MS * 1_000_000) {
            return false;
        }
        self.looked_ns = Some(now.ns);
        self.take(membership.members().filter_map(|member| Some((member.node, member.rtt_us?))))
    }

    fn take(&mut self, estimates: impl Iterator<Item = (NodeId, u32)>) -> bool {
        let before = std::mem::take(&mut self.shown);
        let mut has_moved = false;
        for (node, rtt_us) in estimates {
            let known = before.get(&node).copied().filter(|known| !has_moved_far(*known, rtt_us));
            has_moved |= known.is_none();
            self.shown.insert(node, known.unwrap_or(rtt_us));
        }
        has_moved
    }

    /// The round trip to a member in microseconds, as it is shown.
    pub fn of(&self, node: NodeId) -> Option<u32> {
        self.shown.get(&node).copied()
    }
}

fn has_moved_far(shown: u32, estimate: u32) -> bool {
    u64::from(shown.abs_diff(estimate)) * 100 > u64::from(shown) * u64::from(MOVED_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_estimate_that_moved_by_more_than_a_quarter_is_shown_anew() {
        let mut rtts = Rtts::default();
        let node = NodeId(1);
        assert!(rtts.take([(node, 400)].into_iter()));
        for jitter in [300, 500, 450] {
            assert!(!rtts.take([(node, jitter)].into_iter()));
            assert_eq!(rtts.of(node), Some(400));
        }
        assert!(rtts.take([(node, 501)].into_iter()));
        assert_eq!(rtts.of(node), Some(501));
        assert!(!rtts.take(std::iter::empty()), "who is gone is shown anew for other reasons");
        assert_eq!(rtts.of(node), None);
    }
}
