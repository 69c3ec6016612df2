//! Roll call: before a verdict while several are lost, a sample of the members held alive is pinged, to see how many still are.
//!
//! Losses are discovered one probe at a time, so the first suspicions of a cut expire while most of the lost still count as held. The
//! sample tells the cut-off viewer at once what its list will say in a while.

use crate::model::names::NodeId;
use std::collections::BTreeSet;

/// Members that are pinged; enough to tell a half from a third.
pub(super) const SAMPLE: usize = 16;
/// What a roll call found holds for so long.
const FRESH_NS: u64 = 2_000_000_000;

#[derive(Debug, Default)]
pub(super) struct RollCall {
    missing: BTreeSet<NodeId>,
    called: usize,
    closes: u64,
}

impl RollCall {
    pub fn begin(&mut self, called: impl Iterator<Item = NodeId>, closes: u64) {
        self.missing = called.collect();
        self.called = self.missing.len();
        self.closes = closes;
    }

    pub fn answered(&mut self, node: NodeId) {
        self.missing.remove(&node);
    }

    /// This member is not held alive any more, which the list of the lost counts already.
    pub fn lost(&mut self, node: NodeId) {
        if self.missing.remove(&node) {
            self.called -= 1;
        }
    }

    /// When the answers count, if one is under way.
    pub fn closes(&self, now_ns: u64) -> Option<u64> {
        (now_ns < self.closes).then_some(self.closes)
    }

    pub fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns >= self.closes && now_ns < self.closes + FRESH_NS && self.closes > 0
    }

    /// How many of `alive` members are missing, by the sample; none if it is old.
    pub fn missing_of(&self, now_ns: u64, alive: usize) -> usize {
        if !self.is_fresh(now_ns) || self.called == 0 {
            return 0;
        }
        alive * self.missing.len() / self.called
    }
}
