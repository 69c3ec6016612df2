//! Readiness: whether this agent knows enough to speak for its datacenter (protocol.md §4).
//!
//! ```text
//!   not ready ──── caught up with one ready member ───────────────────────────► ready, for good
//!       └── settle_ms passed, and reconciled once with every member in reach ──►
//! ```
//!
//! Agents that are not ready reconcile with each other as equals: a union of partial maps is always safe.

use super::config::SpreadConfig;
use crate::engine::membership::Peer;
use crate::model::names::NodeId;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// After so many attempts in vain a member counts as out of reach.
const ATTEMPTS_MAX: u8 = 3;

#[derive(Debug, Default)]
struct Attempts {
    failed: u8,
    not_before_ns: u64,
}

#[derive(Debug)]
pub struct Readiness {
    is_ready: bool,
    started_ns: u64,
    /// Members whose map and ours were made one.
    reconciled: BTreeSet<NodeId>,
    /// Members known to be ready.
    ready: BTreeSet<NodeId>,
    attempts: BTreeMap<NodeId, Attempts>,
}

impl Readiness {
    pub fn new(now: Now) -> Self {
        Self { is_ready: false, started_ns: now.ns, reconciled: BTreeSet::new(), ready: BTreeSet::new(), attempts: BTreeMap::new() }
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// A member showed that it is ready.
    pub fn met_ready(&mut self, node: NodeId) {
        if !self.is_ready {
            self.ready.insert(node);
        }
    }

    /// What a member has is here, and it knows what we have.
    pub fn reconciled(&mut self, node: NodeId, peer_is_ready: bool) {
        if self.is_ready {
            return;
        }
        self.reconciled.insert(node);
        if peer_is_ready {
            self.become_ready();
        }
    }

    pub fn is_reconciled(&self, node: NodeId) -> bool {
        self.reconciled.contains(&node)
    }

    /// An exchange with it ended early.
    pub fn failed(&mut self, now: Now, node: NodeId, retry_ms: u64, is_its_fault: bool) {
        if !self.is_ready {
            let attempts = self.attempts.entry(node).or_default();
            attempts.failed = attempts.failed.saturating_add(u8::from(is_its_fault));
            attempts.not_before_ns = now.after_ms(retry_ms);
        }
    }

    /// It is gone: what is left of it does not count.
    pub fn gone(&mut self, node: NodeId) {
        self.ready.remove(&node);
        self.attempts.remove(&node);
    }

    /// Whom to exchange with next, ready ones first; those in `busy` are being exchanged with.
    pub fn candidate(&self, now: Now, peers: &[Peer], busy: &BTreeSet<NodeId>) -> Option<Peer> {
        let is_open = |peer: &&Peer| {
            !busy.contains(&peer.node)
                && !self.reconciled.contains(&peer.node)
                && self.attempts.get(&peer.node).is_none_or(|attempts| attempts.not_before_ns <= now.ns)
        };
        let mut open = peers.iter().filter(is_open);
        let first = open.clone().next().copied();
        open.find(|peer| self.ready.contains(&peer.node)).copied().or(first)
    }

    /// Time passed: perhaps there is nobody left to wait for.
    pub fn settle(&mut self, now: Now, peers: &[Peer], config: &SpreadConfig) {
        let is_settled = now.ns.saturating_sub(self.started_ns) >= config.settle_ms * 1_000_000;
        let is_out_of_reach = |node: NodeId| self.attempts.get(&node).is_some_and(|attempts| attempts.failed >= ATTEMPTS_MAX);
        if !self.is_ready && is_settled && peers.iter().all(|peer| self.reconciled.contains(&peer.node) || is_out_of_reach(peer.node)) {
            self.become_ready();
        }
    }

    pub fn settled_ns(&self, config: &SpreadConfig) -> u64 {
        self.started_ns.saturating_add(config.settle_ms * 1_000_000)
    }

    fn become_ready(&mut self) {
        self.is_ready = true;
        self.reconciled.clear();
        self.ready.clear();
        self.attempts.clear();
    }
}
