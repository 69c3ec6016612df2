//! Protocol section 3, leases: what nobody renews is not handed out by the agent that keeps it, and what is renewed is handed out by all.

use super::{Checker, Scene};
use crate::history::{Operation, Outcome};
use crate::plan::{Intent, Kept};
use crate::violation::Violation;
use crate::workload::Client;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::model::command::WriteResult;
use tidings::model::names::NodeId;

const SECOND: u64 = 1_000_000_000;
/// An agent looks at its timers at least this often: after a longer pause it had stood still.
const PAUSE_NS_MAX: u64 = 2 * SECOND;
/// What was asked of one agent may be carried out by another one this much later.
const ASKED_NS: u64 = 3 * SECOND;
/// Between the end of a lease and a view without it.
const SHOWN_NS: u64 = 2 * SECOND;

/// Since when each process has kept its leases as they are.
#[derive(Default)]
pub struct Leases {
    kept: BTreeMap<HostId, Standing>,
}

/// A process and the last instant at which it gave its leases a whole TTL again.
#[derive(Debug, Clone, Copy)]
struct Standing {
    since: u64,
    seen_at: u64,
    node: NodeId,
    adoptions: u64,
    was_frozen: bool,
}

impl Standing {
    /// It runs, under this name, and has taken back so many words of earlier lives; or it, or only its packets, stand still.
    fn follow(&mut self, now: u64, node: NodeId, adoptions: u64, is_frozen: bool) {
        if self.is_resuming(now) || node != self.node || adoptions != self.adoptions {
            self.since = now;
        }
        *self = Self { since: self.since, seen_at: now, node, adoptions, was_frozen: is_frozen };
    }

    /// Whether it stood still until now: what it, and others by way of it, were asked in the meantime is carried out in this moment.
    fn is_resuming(&self, now: u64) -> bool {
        self.was_frozen || now > self.seen_at + PAUSE_NS_MAX
    }
}

impl Leases {
    /// The last instant at which a client's lease may have begun anew at an agent.
    fn renewed_at(&self, scene: &Scene<'_>, client: &Client, at: HostId) -> u64 {
        let since = |host: HostId| self.kept.get(&host).map_or(0, |kept| kept.since);
        let signs = scene.history.of_client(client.number).map(|operation| {
            let answered_at = match &operation.outcome {
                Outcome::Acknowledged { at, .. } => *at,
                // An agent that stood still carries out later what it was asked.
                _ => since(operation.host),
            };
            answered_at.max(operation.asked_at) + ASKED_NS
        });
        signs.max().unwrap_or(0).max(since(at))
    }

    /// What an agent itself keeps and shows.
    fn look(&self, scene: &Scene<'_>, host: HostId) -> Result<(), Violation> {
        let (Some(view), Some(node), Some(engine)) = (scene.view(host), scene.node(host), scene.engine(host)) else { return Ok(()) };
        // The first view after a pause may come before anything ran out, and that of an adoption before the adoption is noted.
        let adoptions = engine.catalog().counters.adoptions;
        let is_beginning = |kept: &Standing| kept.is_resuming(scene.world.now()) || kept.node != node || kept.adoptions != adoptions;
        if self.kept.get(&host).is_none_or(is_beginning) {
            return Ok(());
        }
        for client in scene.clients.iter().filter(|client| client.planned.keeps == Kept::Instance) {
            let Some(ttl_ms) = client.planned.ttl_ms else { continue };
            let shown = view.service("default", client.service().as_str()).and_then(|service| service.find(client.uid(node)));
            if shown.is_none_or(|entry| entry.node.id != node || !entry.is_available()) {
                continue;
            }
            let renewed_at = self.renewed_at(scene, client, host);
            if scene.world.now() > renewed_at + ttl_ms * 1_000_000 + SHOWN_NS {
                let expected = format!("client {} not available: no sign of life for {} ms", client.number, ttl_ms);
                let found = format!("{shown:?}, whose lease began last at {:.3} s", renewed_at as f64 / SECOND as f64);
                return Err(scene.violation("leases-run-out", &[host], expected, found));
            }
        }
        Ok(())
    }
}

impl Checker for Leases {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                if let Some(node) = scene.node(*host) {
                    let now = scene.world.now();
                    self.kept.insert(*host, Standing { since: now, seen_at: now, node, adoptions: 0, was_frozen: false });
                }
            }
            Note::Handled { host } => {
                if let (Some(kept), Some(engine)) = (self.kept.get_mut(host), scene.engine(*host)) {
                    let (node, adoptions) = (engine.membership().me().node, engine.catalog().counters.adoptions);
                    kept.follow(scene.world.now(), node, adoptions, scene.world.host(*host).frozen.is_some());
                }
            }
            Note::View { host, .. } => self.look(scene, *host)?,
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (host, _) in scene.running() {
            self.look(scene, host)?;
        }
        let alive: Vec<NodeId> = scene.running().map(|(_, node)| node).collect();
        for client in scene.clients.iter().filter(|client| client.planned.keeps == Kept::Instance) {
            let (Some(ttl_ms), Some(last)) = (client.planned.ttl_ms, scene.history.of_client(client.number).next_back()) else { continue };
            // A later word of somebody who is gone for good counts for some as long as he is not given up.
            let is_settled = scene.truth.authors(last.uid).iter().all(|author| alive.contains(author));
            if !is_settled || !is_sure_to_live(last, ttl_ms * 1_000_000, scene) {
                continue;
            }
            let home = scene.datacenter(last.host);
            for (host, _) in scene.running().filter(|(host, _)| scene.datacenter(*host) == home) {
                let view = scene.view(host);
                let shown = view.and_then(|view| view.service("default", client.service().as_str())?.find(last.uid));
                if shown.is_none_or(|entry| !entry.is_available()) {
                    let expected = format!("client {} available, whose heartbeat {} was acknowledged", client.number, last.id);
                    let found = format!("{shown:?}; {}", scene.truth.story(last.uid));
                    return Err(scene.violation("renewed-leases-live", &[host, last.host], expected, found));
                }
            }
        }
        Ok(())
    }
}

/// Whether a client's last word was a heartbeat that found its instance when all was right, and lately enough to hold.
fn is_sure_to_live(last: &Operation, ttl_ns: u64, scene: &Scene<'_>) -> bool {
    let Outcome::Acknowledged { at, written } = &last.outcome else { return false };
    let is_found = last.intent == Intent::Heartbeat && written.result != WriteResult::Absent;
    is_found && scene.resting_since.is_some_and(|since| last.asked_at > since) && scene.world.now() < at + ttl_ns / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_count_anew_after_a_pause_a_freeze_or_under_another_name_and_not_otherwise() {
        let (node, other) = (NodeId(1), NodeId(2));
        let begun = Standing { since: 0, seen_at: 0, node, adoptions: 0, was_frozen: false };
        let since = |steps: &[(u64, NodeId, u64, bool)]| {
            let mut standing = begun;
            for (second, node, adoptions, is_frozen) in steps {
                standing.follow(second * SECOND, *node, *adoptions, *is_frozen);
            }
            standing.since / SECOND
        };
        assert_eq!(since(&[(1, node, 0, false), (2, node, 0, false)]), 0);
        assert_eq!(since(&[(1, node, 0, false), (9, node, 0, false), (10, node, 0, false)]), 9, "it stood still");
        assert_eq!(since(&[(1, node, 0, true), (2, node, 0, true), (3, node, 0, false), (4, node, 0, false)]), 3, "its packets did");
        assert_eq!(since(&[(1, other, 0, false), (2, other, 0, false)]), 1);
        assert_eq!(since(&[(1, node, 1, false), (2, node, 1, false)]), 1);
    }
}
