//! Invariant 11, as far as records go: what an agent holds as its own datacenter's was written there, what it shows of another was
//! written in that one, and nothing of it goes away but by its origin's word.

use super::life::HEALED_WITHIN_NS;
use super::{Checker, Scene};
use crate::agent;
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use tidings::model::names::NodeId;
use tidings::model::record::Uid;
use tidings::view::{DatacenterView, View};

/// What each agent showed last of each other datacenter.
#[derive(Default)]
pub struct Imports {
    shown: BTreeMap<(HostId, String), Shown>,
    /// Origins that somebody of their own datacenter gave up.
    given_up: BTreeSet<NodeId>,
    /// Hosts whose links are or were down: since when, and when that was seen last.
    cut_off: BTreeMap<HostId, (u64, u64)>,
}

#[derive(Default)]
struct Shown {
    revision: u64,
    /// By key, whose word it was.
    entries: BTreeMap<Uid, NodeId>,
}

impl Imports {
    fn look(&mut self, scene: &Scene<'_>, host: HostId, view: &View) -> Result<(), Violation> {
        let here = scene.datacenter(host);
        for number in (0..scene.datacenters()).filter(|number| *number != here) {
            let name = agent::datacenter(number).to_string();
            let shown = self.shown.get(&(host, name.clone()));
            match view.datacenter(&name) {
                None if shown.is_some_and(|shown| !shown.entries.is_empty()) => {
                    let expected = format!("{name}, which was known, whatever its age");
                    return Err(scene.violation("imports-are-kept", &[host], expected, "nothing of it".into()));
                }
                Some(seen) if shown.is_none_or(|shown| shown.revision != seen.view.revision) => {
                    let entries = entries_of(scene, host, number, seen)?;
                    if let Some(shown) = shown {
                        self.kept(scene, host, shown, &entries)?;
                    }
                    self.shown.insert((host, name), Shown { revision: seen.view.revision, entries });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether all that is not shown any more has gone by somebody's word: a delete, another life, a leave, a mark of its datacenter, or that
    /// nobody there knows it any more.
    fn kept(&self, scene: &Scene<'_>, host: HostId, before: &Shown, now: &BTreeMap<Uid, NodeId>) -> Result<(), Violation> {
        for (uid, origin) in before.entries.iter().filter(|(uid, _)| !now.contains_key(uid)) {
            let is_over = scene.truth.lives(*origin) > 1 || scene.truth.has_left(*origin) || self.given_up.contains(origin);
            // Who took it over may have left, or been given up, since.
            let has_gone = |author: &NodeId| scene.truth.has_left(*author) || self.given_up.contains(author);
            let is_over = is_over || scene.truth.authors(*uid).iter().any(has_gone);
            // Where all who knew of it are gone, its datacenter has forgotten it.
            let is_over = is_over || self.is_told_nowhere(scene, host, *origin, *uid);
            if !is_over && scene.truth.deleted(*uid).is_none() {
                let expected = format!("{uid:?}, which {origin:?} never took back");
                return Err(scene.violation("imports-are-kept", &[host], expected, scene.truth.story(*uid)));
            }
        }
        Ok(())
    }

    /// Whether nobody in an origin's own datacenter shows that instance of it and tells others of the origin. Who knows it only from a copy
    /// on its disk, and from no member, tells nobody; nor does one whom nothing reached for as long as the word that an origin is unknown
    /// there is doubted, until it has had the time to find the others again.
    fn is_told_nowhere(&self, scene: &Scene<'_>, by: HostId, origin: NodeId, uid: Uid) -> bool {
        let shows = |host| scene.view(host)?.services(None).find_map(|service| service.find(uid)).map(|entry| entry.node.id);
        let tells = |host| scene.engine(host).is_some_and(|engine| engine.catalog().heads().any(|head| head.origin == origin));
        let authors = scene.truth.hosts_of(origin);
        let is_there = |host| authors.iter().any(|author| scene.datacenter(*author) == scene.datacenter(host));
        let doubted_ns = scene.world.config(by).wan.unknown_ms * 1_000_000;
        let is_heard = |host| self.cut_off.get(&host).is_none_or(|(since, until)| *until < since + doubted_ns);
        !scene.running().any(|(host, _)| is_there(host) && shows(host) == Some(origin) && tells(host) && is_heard(host))
    }

    fn see_links(&mut self, scene: &Scene<'_>) {
        let (network, now) = (&scene.world.network, scene.world.now());
        self.cut_off.retain(|host, (_, until)| network.isolated().any(|isolated| isolated == *host) || now < *until + HEALED_WITHIN_NS);
        for host in network.isolated() {
            self.cut_off.entry(host).or_insert((now, now)).1 = now;
        }
    }
}

/// What is shown of a datacenter, each entry looked up in what origins wrote.
fn entries_of(scene: &Scene<'_>, host: HostId, of: u16, seen: &DatacenterView) -> Result<BTreeMap<Uid, NodeId>, Violation> {
    let mut entries = BTreeMap::new();
    for entry in seen.view.services(None).flat_map(|service| service.entries.iter()) {
        let origin = entry.node.id;
        let was_written = scene.truth.hosts_of(origin).iter().any(|author| scene.datacenter(*author) == of);
        if !was_written || !scene.truth.said(origin, entry.uid, &entry.content) {
            let expected = format!("of {} what its own origins wrote", seen.name);
            return Err(scene.violation("imports-are-true", &[host], expected, format!("{entry:?}; {}", scene.truth.story(entry.uid))));
        }
        entries.insert(entry.uid, origin);
    }
    Ok(entries)
}

impl Checker for Imports {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        if scene.datacenters() == 1 {
            return Ok(());
        }
        self.see_links(scene);
        match note {
            // A new process may know nothing of others.
            Note::Started { host } => {
                self.shown.retain(|(at, _), _| at != host);
            }
            Note::Handled { host } if scene.engine(*host).is_some() => {
                self.given_up.extend(scene.reaped(*host).map(|head| head.origin));
                for (head, _) in &scene.moved.heads {
                    let authors = scene.truth.hosts_of(head.origin);
                    if !authors.is_empty() && authors.iter().all(|author| scene.datacenter(*author) != scene.datacenter(*host)) {
                        let expected = format!("origins of {} only", agent::datacenter(scene.datacenter(*host)));
                        return Err(scene.violation("local-is-local", &[*host, authors[0]], expected, format!("{head:?}")));
                    }
                }
            }
            Note::View { host, view } => self.look(scene, *host, view)?,
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        scene.running().filter_map(|(host, _)| Some((host, scene.view(host)?))).try_for_each(|(host, view)| self.look(scene, host, view))
    }
}
