//! Readiness: whether this agent knows enough to speak for its datacenter (protocol.md §4).
//!
//! ```text
//!   not ready ──── caught up with one ready member ───────────────────────────► ready, for good
//!       ├── settle_ms passed, and reconciled once with every member in reach ──►
//!       └── nobody to look for: no seeds, and nobody met in a former life ─────►
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
    /// Whom to compare roots with next.
    compare_at: usize,
    /// Exchanges with members that are not known to be ready keep their distance.
    equals_not_before_ns: u64,
}

/// Members whose roots are asked for in one turn.
const COMPARED_A_TURN: usize = 128;

/// With fewer members than this, an exchange with each is as cheap as comparing roots first.
const COMPARED_FROM: usize = 9;

impl Readiness {
    pub fn new(now: Now) -> Self {
        Self {
            is_ready: false,
            started_ns: now.ns,
            reconciled: BTreeSet::new(),
            ready: BTreeSet::new(),
            attempts: BTreeMap::new(),
            compare_at: 0,
            equals_not_before_ns: 0,
        }
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

    /// Whom to exchange with next, ready ones first; those in `busy` are being exchanged with. Others are met one by one: agents that
    /// all start cold have the same in a few rounds, and find that out by comparing roots.
    pub fn candidate(&mut self, now: Now, peers: &[Peer], busy: &BTreeSet<NodeId>, draw: usize, config: &SpreadConfig) -> Option<Peer> {
        let is_open = |peer: &Peer| {
            !busy.contains(&peer.node)
                && !self.reconciled.contains(&peer.node)
                && self.attempts.get(&peer.node).is_none_or(|attempts| attempts.not_before_ns <= now.ns)
        };
        let ready = peers.iter().find(|peer| is_open(peer) && self.ready.contains(&peer.node));
        if ready.is_some() || now.ns < self.equals_not_before_ns {
            return ready.copied();
        }
        let (later, sooner) = peers.split_at(draw % peers.len().max(1));
        let equal = sooner.iter().chain(later).find(|peer| is_open(peer)).copied();
        if equal.is_some() {
            self.equals_not_before_ns = now.after_ms(config.equals_pause_ms);
        }
        equal
    }

    /// The members to compare roots with in this turn.
    pub fn compare(&mut self, peers: &[Peer]) -> Vec<Peer> {
        if self.is_ready || peers.len() < COMPARED_FROM {
            return Vec::new();
        }
        let from = self.compare_at % peers.len();
        self.compare_at = from + COMPARED_A_TURN;
        let turn = peers.iter().cycle().skip(from).take(COMPARED_A_TURN.min(peers.len()));
        turn.filter(|peer| !self.reconciled.contains(&peer.node)).copied().collect()
    }

    /// Time passed: perhaps there is nobody left to wait for.
    pub fn settle(&mut self, now: Now, peers: &[Peer], config: &SpreadConfig) {
        let is_settled = now.ns.saturating_sub(self.started_ns) >= config.settle_ms * 1_000_000;
        let is_out_of_reach = |node: NodeId| self.attempts.get(&node).is_some_and(|attempts| attempts.failed >= ATTEMPTS_MAX);
        if !self.is_ready && is_settled && peers.iter().all(|peer| self.reconciled.contains(&peer.node) || is_out_of_reach(peer.node)) {
            self.become_ready();
        }
    }

    /// There is nobody to wait for.
    pub fn on_its_own(&mut self) {
        if !self.is_ready {
            self.become_ready();
        }
    }

    fn become_ready(&mut self) {
        self.is_ready = true;
        self.reconciled.clear();
        self.ready.clear();
        self.attempts.clear();
    }
}
