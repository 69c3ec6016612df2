//! Invariants 7 and 9: the dead are not served for long, and the living are not held dead.
//!
//! While faults rage, suspicion may err; so this looks only where nothing was done to anybody for a while.

use super::{Checker, Scene, changed};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use tidings::model::names::NodeId;
use tidings::model::node::Liveness;
use tidings::view::{Entry, MemberState, View};

/// Detection and spread among a handful of agents take a few seconds; an agent that was itself cut off comes round within this. Who was
/// held down by the others comes back after its probation, takes everybody for alive until it has probed them, and has as long from then.
pub const DETECTED_WITHIN_NS: u64 = 20_000_000_000;
/// Healing tries old acquaintances once a minute, and what it finds has to travel.
pub const HEALED_WITHIN_NS: u64 = 120_000_000_000;

/// Which revision of each host's view was looked at last.
#[derive(Default)]
pub struct Life {
    shown: BTreeMap<HostId, u64>,
    /// How often each agent came back, and when that was seen last.
    returned: BTreeMap<HostId, (u64, u64)>,
}

impl Life {
    /// Whether an agent came back so lately that it does not know yet who is dead.
    pub(super) fn is_back_lately(&mut self, scene: &Scene<'_>, host: HostId) -> bool {
        let renewals = scene.engine(host).map_or(0, |engine| engine.membership().counters.renewals);
        let now = scene.world.now();
        let (known, at) = self.returned.entry(host).or_default();
        if *known != renewals {
            (*known, *at) = (renewals, now);
        }
        *known > 0 && now < *at + DETECTED_WITHIN_NS
    }
}

impl Checker for Life {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        let Note::View { host, view } = note else { return Ok(()) };
        let since = self.shown.insert(*host, view.revision).unwrap_or(0);
        if self.is_back_lately(scene, *host) || !scene.is_calm_for(DETECTED_WITHIN_NS) {
            return Ok(());
        }
        look(scene, *host, view, &alive(scene), changed(scene, view, since))
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let alive = alive(scene);
        let views = scene.running().filter_map(|(host, _)| Some((host, scene.view(host)?)));
        views.filter(|(host, _)| scene.is_calm_for(DETECTED_WITHIN_NS) && !self.is_back_lately(scene, *host)).try_for_each(
            |(host, view)| {
                let entries = view.services(None).flat_map(|service| service.entries.iter());
                look(scene, host, view, &alive, entries)
            },
        )
    }
}

fn alive(scene: &Scene<'_>) -> BTreeSet<NodeId> {
    scene.running().map(|(_, node)| node).collect()
}

fn look<'e>(
    scene: &Scene<'_>,
    host: HostId,
    view: &View,
    alive: &BTreeSet<NodeId>,
    entries: impl Iterator<Item = &'e Entry>,
) -> Result<(), Violation> {
    for entry in entries.filter(|entry| entry.is_available()) {
        let is_vouched_for = matches!(entry.node.liveness, Liveness::Alive | Liveness::Suspect);
        if is_vouched_for && !alive.contains(&entry.node.id) {
            let expected =
                format!("nothing of {:?}, whose agent stopped more than {} s ago", entry.node.id, DETECTED_WITHIN_NS / 1_000_000_000);
            return Err(scene.violation("dead-are-not-served", &[host], expected, format!("{entry:?}")));
        }
    }
    if scene.is_calm_for(HEALED_WITHIN_NS) {
        for member in view.members.iter().filter(|member| alive.contains(&member.id)) {
            if matches!(member.state, MemberState::Down | MemberState::Left) {
                let expected = format!("{:?} alive, {} s after the last fault", member.id, HEALED_WITHIN_NS / 1_000_000_000);
                return Err(scene.violation("living-are-held-alive", &[host], expected, format!("{:?}", member.state)));
            }
        }
    }
    Ok(())
}
