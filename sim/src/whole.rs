//! Whether everything is right: membership is the truth, all are ready, all of a datacenter know the same, and each knows of the others
//! what they export.

use crate::agent;
use crate::checkers::Scene;
use crate::world::HostId;
use std::collections::{BTreeMap, BTreeSet};
use tidings::engine::config::Export;
use tidings::model::names::NodeId;
use tidings::model::record::{Content, HeadFlags, Uid};
use tidings::view::{LinkState, MemberState, View};

/// What is not right yet, and where.
pub type Lack = (Vec<HostId>, String);

/// What is not right yet; none where all is.
pub fn lack(scene: &Scene<'_>) -> Option<Lack> {
    let within = (0..scene.datacenters()).find_map(|datacenter| lack_within(scene, datacenter));
    within.or_else(|| lack_between(scene))
}

fn lack_within(scene: &Scene<'_>, datacenter: u16) -> Option<Lack> {
    let running: Vec<_> = scene.running().filter(|(host, _)| scene.datacenter(*host) == datacenter).collect();
    let nodes: BTreeSet<NodeId> = running.iter().map(|(_, node)| *node).collect();
    let mut root = None;
    for (host, node) in &running {
        let engine = scene.engine(*host)?;
        let Some(view) = scene.view(*host) else { return Some((vec![*host], "no view yet".into())) };
        if !view.agent.is_ready {
            return Some((vec![*host], "not ready".into()));
        }
        if view.agent.is_cut_off {
            return Some((vec![*host], "holds itself cut off".into()));
        }
        let states: BTreeMap<NodeId, MemberState> = view.members.iter().map(|member| (member.id, member.state)).collect();
        for (other_host, other) in running.iter().filter(|(_, other)| other != node) {
            let state = states.get(other);
            if state != Some(&MemberState::Alive) {
                return Some((vec![*host, *other_host], format!("{host} holds {other_host} for {state:?}")));
            }
        }
        let alive = |state| matches!(state, MemberState::Alive | MemberState::Suspect);
        let dead = view.members.iter().find(|member| alive(member.state) && !nodes.contains(&member.id));
        if let Some(dead) = dead {
            return Some((vec![*host], format!("{host} holds {:?} for {:?}, which runs nowhere", dead.id, dead.state)));
        }
        let mine = engine.catalog().root();
        let (first, known) = *root.get_or_insert((*host, mine));
        if known != mine {
            return Some((vec![first, *host], difference(scene, first, *host)));
        }
    }
    None
}

/// What an agent lacks of another datacenter: each must hear all others, and show what they show and export.
pub fn lack_between(scene: &Scene<'_>) -> Option<Lack> {
    for datacenter in (0..scene.datacenters()).filter(|_| scene.datacenters() > 1) {
        let name = agent::datacenter(datacenter);
        let (witness, _) = scene.running().find(|(host, _)| scene.datacenter(*host) == datacenter)?;
        let exported = exported(scene, datacenter, scene.view(witness)?);
        // What is known from a copy on the disk only, each agent forgets in its own time: meanwhile they count differently.
        let all_told = scene.running().filter(|(host, _)| scene.datacenter(*host) == datacenter).filter_map(|(host, _)| scene.view(host));
        let all_told: BTreeSet<_> = all_told.map(|view| told(scene, datacenter, view)).collect();
        for (host, _) in scene.running().filter(|(host, _)| scene.datacenter(*host) != datacenter) {
            let Some(seen) = scene.view(host)?.datacenter(name.as_str()) else {
                return Some((vec![host], format!("{host} knows nothing of {name}")));
            };
            if seen.state != LinkState::Fresh {
                return Some((vec![host], format!("{host} has {name} as {:?}", seen.state)));
            }
            let found = contents(&seen.view, |_| true);
            if found != exported {
                return Some((vec![witness, host], difference_of(name.as_str(), &exported, &found)));
            }
            let heard = seen.summaries.iter().map(|one| (one.key.service.to_string(), one.summary.available)).collect();
            if !all_told.contains(&heard) {
                return Some((vec![witness, host], format!("of {name} summaries are {all_told:?} there, {heard:?} here")));
            }
        }
    }
    None
}

/// By key what is said of what may be handed out. Of an origin that died for good, others may have heard more than its own datacenter.
type Contents = BTreeMap<Uid, Content>;

/// What a datacenter exports of what a view there shows.
fn exported(scene: &Scene<'_>, datacenter: u16, view: &View) -> Contents {
    let gateway = scene.gateways(datacenter).find_map(|host| scene.world.config(host).gateway.as_ref());
    contents(view, |service| gateway.is_some_and(|gateway| gateway.export.of("default", service) == Export::Full))
}

/// By service how many instances are available there, where a datacenter tells a summary of it.
fn told(scene: &Scene<'_>, datacenter: u16, view: &View) -> BTreeMap<String, u32> {
    let gateway = scene.gateways(datacenter).find_map(|host| scene.world.config(host).gateway.as_ref());
    let is_told = |service: &str| gateway.is_some_and(|gateway| gateway.export.of("default", service) == Export::Summary);
    let services = view.services(None).filter(|service| is_told(service.key.service.as_str()));
    services.map(|service| (service.key.service.to_string(), service.counts.available)).collect()
}

fn contents(view: &View, is_meant: impl Fn(&str) -> bool) -> Contents {
    let services = view.services(None).filter(|service| is_meant(service.key.service.as_str()));
    services
        .flat_map(|service| &service.entries)
        .filter(|entry| entry.is_available())
        .map(|entry| (entry.uid, entry.content.clone()))
        .collect()
}

fn difference_of(name: &str, exported: &Contents, found: &Contents) -> String {
    let uids: BTreeSet<&Uid> = exported.keys().chain(found.keys()).collect();
    let differing: Vec<String> = uids
        .into_iter()
        .filter(|uid| exported.get(uid) != found.get(uid))
        .map(|uid| {
            let told = |contents: &Contents| contents.get(uid).map(|content| content.key().map(|key| key.id.to_string()).ok());
            format!("{uid:?} as {:?} there, {:?} here", told(exported), told(found))
        })
        .collect();
    format!("of {name} {} of {} differ: {}", differing.len(), exported.len(), differing.join("; "))
}

/// In which heads two agents differ.
fn difference(scene: &Scene<'_>, a: HostId, b: HostId) -> String {
    let heads = |host| -> BTreeMap<NodeId, (u64, u64, HeadFlags)> {
        let engine = scene.engine(host);
        engine
            .into_iter()
            .flat_map(|engine| engine.catalog().heads())
            .map(|head| (head.origin, (head.epoch, head.seq, head.flags)))
            .collect()
    };
    let (of_a, of_b) = (heads(a), heads(b));
    let origins: BTreeSet<_> = of_a.keys().chain(of_b.keys()).collect();
    let differing = origins.into_iter().filter(|origin| of_a.get(origin) != of_b.get(origin));
    let told = |heads: &BTreeMap<_, _>, host: HostId, origin: &NodeId| {
        let member = scene.engine(host).and_then(|engine| engine.membership().member(*origin));
        let state = member.map(|member| (member.state, member.left));
        format!("{:?} at {host}, which holds it for {state:?}", heads.get(origin))
    };
    let lines: Vec<String> =
        differing.map(|origin| format!("{origin:?}: {}; {}", told(&of_a, a, origin), told(&of_b, b, origin))).collect();
    format!("roots differ: {}", lines.join("; "))
}
