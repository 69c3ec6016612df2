//! Whose changes go first when not all can go (protocol.md §4, Order).
//!
//! Between origins the most urgent waiting change decides, then the fewer waiting changes, then the longer wait; what has waited too long
//! goes before all that. Inside an origin seq order holds. Queues hold intervals, not records: a key that changes while it waits is
//! sent once, as it is then.

use crate::engine::catalog::Urgency;
use crate::engine::wire::packet::Reach;
use crate::model::names::NodeId;
use crate::model::record::{Epoch, Seq};
use crate::model::time::Now;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Changes of one origin that wait to be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub epoch: Epoch,
    pub from: Seq,
    pub to: Seq,
    /// None: all members.
    pub reach: Option<Reach>,
    pub urgency: Urgency,
    pub since_ns: u64,
}

impl Waiting {
    /// Both at once: one interval, to the members of either.
    fn joined(self, other: Waiting) -> Waiting {
        if self.epoch != other.epoch {
            return if self.epoch > other.epoch { self } else { other };
        }
        Waiting {
            epoch: self.epoch,
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            reach: self.reach.zip(other.reach).map(|(a, b)| Reach { first: a.first.min(b.first), last: a.last.max(b.last) }),
            urgency: self.urgency.max(other.urgency),
            since_ns: self.since_ns.min(other.since_ns),
        }
    }
}

/// By origin, at most one entry each.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<NodeId, Waiting>,
}

impl Queue {
    /// Origins that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds to what waits of an origin; false where there are `origins_max` others.
    pub fn push(&mut self, origin: NodeId, waiting: Waiting, origins_max: usize) -> bool {
        if let Some(before) = self.waiting.get_mut(&origin) {
            *before = before.joined(waiting);
            return true;
        }
        if self.waiting.len() >= origins_max {
            return false;
        }
        self.waiting.insert(origin, waiting);
        true
    }

    pub fn find(&self, origin: NodeId) -> Option<&Waiting> {
        self.waiting.get(&origin)
    }

    /// Says that it is more urgent than was known.
    pub fn raise(&mut self, origin: NodeId, urgency: Urgency) {
        if let Some(waiting) = self.waiting.get_mut(&origin) {
            waiting.urgency = waiting.urgency.max(urgency);
        }
    }

    /// Changes up to `seq` were handed on.
    pub fn passed(&mut self, origin: NodeId, seq: Seq) {
        if let Some(waiting) = self.waiting.get_mut(&origin) {
            waiting.from = seq;
            if waiting.from >= waiting.to {
                self.waiting.remove(&origin);
            }
        }
    }

    pub fn remove(&mut self, origin: NodeId) {
        self.waiting.remove(&origin);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The origins in the order in which their changes should go.
    pub fn in_order(&self, now: Now, aging_ms: u64) -> Vec<NodeId> {
        let aged_ns = now.ns.saturating_sub(aging_ms * 1_000_000);
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .map(|(origin, waiting)| {
                let is_aged = waiting.since_ns < aged_ns;
                let size = if is_aged { 0 } else { (waiting.to - waiting.from).max(1).ilog2() };
                let urgency = (!is_aged).then_some(waiting.urgency);
                ((Reverse(is_aged), Reverse(urgency), size, waiting.since_ns, *origin), *origin)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, origin)| origin).collect()
    }
}
