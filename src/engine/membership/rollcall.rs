//! Roll call: while several are lost, a sample of the members held alive is pinged before anybody is judged.
//!
//! Losses are discovered one probe at a time, so the first suspicions of a cut expire while most of the lost still count as held. Who misses
//! the call becomes suspect at once, and the cut-off viewer sees what its list would have said seconds later.

use crate::model::names::NodeId;
use std::collections::BTreeSet;

/// Members that are pinged: all of a small cluster, enough to start the avalanche in a large one.
pub(super) const SAMPLE: usize = 16;
/// Each is given twice the time of the one before: machines that share a stalled disk or processor answer late together.
const PINGS: u8 = 3;
/// What a roll call found holds for so long.
const FRESH_NS: u64 = 3_000_000_000;

#[derive(Debug, Default)]
pub(super) struct RollCall {
    missing: BTreeSet<NodeId>,
    has_answer: bool,
    pings_left: u8,
    at: Option<u64>,
    closed: Option<u64>,
}

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Step {
    /// Ping these.
    Ping(Vec<NodeId>),
    /// These did not answer.
    Close(Vec<NodeId>),
}

impl RollCall {
    pub fn begin(&mut self, now_ns: u64, called: BTreeSet<NodeId>) {
        self.missing = called;
        self.has_answer = false;
        self.pings_left = PINGS;
        self.at = Some(now_ns);
    }

    pub fn answered(&mut self, node: NodeId) {
        self.has_answer |= self.missing.remove(&node);
    }

    pub fn is_open(&self) -> bool {
        self.at.is_some()
    }

    pub fn is_fresh(&self, now_ns: u64) -> bool {
        self.closed.is_some_and(|closed| now_ns < closed + FRESH_NS)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.at
    }

    pub fn step(&mut self, now_ns: u64, wait_ns: u64) -> Option<Step> {
        self.at.filter(|at| *at <= now_ns)?;
        if self.pings_left > 0 && !self.missing.is_empty() {
            self.pings_left -= 1;
            self.at = Some(now_ns + (wait_ns << (PINGS - 1 - self.pings_left)));
            return Some(Step::Ping(self.missing.iter().copied().collect()));
        }
        self.at = None;
        self.closed = Some(now_ns);
        let missing = std::mem::take(&mut self.missing);
        // Where nobody answers, it is more likely the caller who is deaf.
        Some(Step::Close(if self.has_answer { missing.into_iter().collect() } else { Vec::new() }))
    }
}
