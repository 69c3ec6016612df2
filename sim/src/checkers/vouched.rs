//! Invariant 11, as far as life and age go: nobody is shown as down whom a linked gateway of its own datacenter holds alive, and nothing
//! is shown as fresh that has long not been heard of.
//!
//! Links take their time to be found dead, words theirs to travel: each is looked at once a second, and must not last.

use super::{Checker, Scene};
use crate::agent;
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use tidings::engine::membership::MemberState;
use tidings::model::names::NodeId;
use tidings::model::node::Liveness;
use tidings::view::{DatacenterView, LinkState};

const LOOK_NS: u64 = 1_000_000_000;
/// A link that says nothing is given up after 25 s; then its gateway says so, and all others hear it.
pub const SETTLED_WITHIN_NS: u64 = 60_000_000_000;

/// Since when something is so that must not stay.
#[derive(Default)]
pub struct Vouched {
    looked: BTreeMap<HostId, u64>,
    since: BTreeMap<(HostId, Wrong), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// Shown as down, while a gateway that is linked holds it alive.
    Down(NodeId),
    /// Shown as heard, while nothing comes from that datacenter.
    Heard(u16),
}

impl Vouched {
    /// What is wrong at a host just now.
    pub(super) fn wrongs(scene: &Scene<'_>, host: HostId) -> BTreeSet<Wrong> {
        let mut wrongs = BTreeSet::new();
        let Some(view) = scene.view(host) else { return wrongs };
        let here = scene.datacenter(host);
        for number in (0..scene.datacenters()).filter(|number| *number != here) {
            let Some(seen) = view.datacenter(agent::datacenter(number).as_str()) else { continue };
            wrongs.extend(downs(scene, seen).into_iter().map(Wrong::Down));
            if seen.state != LinkState::Stale && is_silent(scene, host, number) {
                wrongs.insert(Wrong::Heard(number));
            }
        }
        wrongs
    }

    /// # Errors
    /// What has been wrong for too long.
    fn observe(&mut self, host: HostId, at: u64, wrongs: &BTreeSet<Wrong>) -> Result<(), (Wrong, u64)> {
        self.since.retain(|(known, wrong), _| *known != host || wrongs.contains(wrong));
        for wrong in wrongs {
            let since = *self.since.entry((host, *wrong)).or_insert(at);
            if at - since > SETTLED_WITHIN_NS {
                return Err((*wrong, since));
            }
        }
        Ok(())
    }
}

/// Agents of another datacenter that are shown as down, and are not: they run, and a gateway that is linked holds them alive.
fn downs(scene: &Scene<'_>, seen: &DatacenterView) -> BTreeSet<NodeId> {
    if seen.state == LinkState::Stale {
        return BTreeSet::new();
    }
    let entries = seen.view.services(None).flat_map(|service| service.entries.iter());
    let mut down: BTreeSet<NodeId> = entries.filter(|entry| entry.node.liveness == Liveness::Down).map(|entry| entry.node.id).collect();
    if down.is_empty() {
        return down;
    }
    let linked: BTreeSet<NodeId> =
        seen.links.iter().filter(|link| link.state != LinkState::Stale).flat_map(|link| &link.peers).map(|(node, _)| *node).collect();
    let running: BTreeMap<NodeId, HostId> = scene.running().map(|(host, node)| (node, host)).collect();
    let gateways: Vec<_> = linked.iter().filter_map(|node| scene.engine(*running.get(node)?)).collect();
    down.retain(|node| {
        let holds_alive = |engine: &&tidings::engine::Engine| {
            let membership = engine.membership();
            membership.me().node == *node || membership.member(*node).is_some_and(|member| member.state == MemberState::Alive)
        };
        running.contains_key(node) && gateways.iter().any(holds_alive)
    });
    down
}

/// Whether no gateway of a datacenter reaches one here, and the host hears all gateways here.
fn is_silent(scene: &Scene<'_>, host: HostId, of: u16) -> bool {
    let network = &scene.world.network;
    let here: Vec<HostId> = scene.gateways(scene.datacenter(host)).collect();
    let there: Vec<HostId> = scene.gateways(of).collect();
    let hears_all = here.iter().all(|gateway| network.reaches(*gateway, host) && network.reaches(host, *gateway));
    hears_all && !there.iter().any(|from| here.iter().any(|to| network.reaches(*from, *to)))
}

impl Checker for Vouched {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        if scene.datacenters() == 1 {
            return Ok(());
        }
        match note {
            Note::Started { host } => self.since.retain(|(at, _), _| at != host),
            Note::Handled { host } => {
                let now = scene.world.now();
                if scene.world.host(*host).frozen.is_some() || self.looked.get(host).is_some_and(|at| now < at + LOOK_NS) {
                    return Ok(());
                }
                self.looked.insert(*host, now);
                if let Err((wrong, since)) = self.observe(*host, now, &Self::wrongs(scene, *host)) {
                    let (name, expected) = match wrong {
                        Wrong::Down(_) => ("vouched-for-is-not-down", "nobody down for whom a linked gateway vouches"),
                        Wrong::Heard(_) => ("age-is-told", "a datacenter of which nothing is heard, as stale"),
                    };
                    let links = scene
                        .view(*host)
                        .map(|view| view.datacenters.iter().map(|seen| (&seen.name, seen.state, &seen.links)).collect::<Vec<_>>());
                    let found = format!("{wrong:?} since {:.3} s; {links:?}", since as f64 / 1e9);
                    return Err(scene.violation(name, &[*host], expected.into(), found));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bites_on_what_lasts_and_forgets_what_came_right() {
        let (host, wrong) = (HostId(0), Wrong::Heard(1));
        let (some, none) = (BTreeSet::from([wrong]), BTreeSet::new());
        let mut vouched = Vouched::default();
        vouched.observe(host, 5, &some).unwrap();
        vouched.observe(host, 5 + SETTLED_WITHIN_NS, &some).expect("words take their time");
        vouched.observe(host, 6 + SETTLED_WITHIN_NS, &none).unwrap();
        vouched.observe(host, 7 + SETTLED_WITHIN_NS, &some).expect("it came right in between");
        vouched.observe(HostId(1), 8 + 2 * SETTLED_WITHIN_NS, &some).expect("another host's is its own");
        assert_eq!(vouched.observe(host, 8 + 2 * SETTLED_WITHIN_NS, &some), Err((wrong, 7 + SETTLED_WITHIN_NS)));
    }
}
