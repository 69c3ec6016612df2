//! Invariants 6 and 12: one visible record a key, the highest claim; the view equals the fold of the records; a feed's changes fold to
//! the snapshot of the same revision; revisions rise, over restarts, too.

use super::{Checker, Scene};
use crate::violation::Violation;
use crate::workload::{kept, written_by};
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::model::names::{NodeId, ServiceKey};
use tidings::model::record::{Kind, RecordState, Uid};
use tidings::view::{Changes, Entry, View};

/// What a follower of each agent's feed has.
#[derive(Default)]
pub struct Visible {
    followed: BTreeMap<HostId, Followed>,
}

#[derive(Default)]
struct Followed {
    /// Over all lives of the host: a disk that was rolled back may repeat revisions, an intact one never.
    revision: u64,
    entries: BTreeMap<(ServiceKey, Uid), Entry>,
}

impl Followed {
    /// Follows the feed to a new view.
    ///
    /// # Errors
    /// What does not fit, as (expected, found).
    fn follow(&mut self, view: &View, is_compared: bool) -> Result<(), (String, String)> {
        if view.revision <= self.revision {
            return Err((format!("a revision above {}", self.revision), view.revision.to_string()));
        }
        match view.changes_since(self.revision) {
            Changes::Resync => self.entries = snapshot(view),
            Changes::Batches(batches) => {
                for change in batches.iter().flat_map(|batch| batch.changes.iter()) {
                    let key = (change.service.clone(), change.uid());
                    match &change.after {
                        Some(entry) => self.entries.insert(key, entry.clone()),
                        None => self.entries.remove(&key),
                    };
                }
            }
        }
        self.revision = view.revision;
        if is_compared { self.compare(view) } else { Ok(()) }
    }

    /// # Errors
    /// How what the feed told differs from the view, as (expected, found).
    fn compare(&self, view: &View) -> Result<(), (String, String)> {
        let snapshot = snapshot(view);
        if self.entries.len() != snapshot.len() {
            return Err((format!("{} entries, as in the snapshot", snapshot.len()), format!("{} by the feed", self.entries.len())));
        }
        for ((key, fed), (snapshot_key, shown)) in self.entries.iter().zip(&snapshot) {
            // A node's own change comes as a change of its entries; revisions and standing may follow without one.
            let is_same = key == snapshot_key && fed.content == shown.content && fed.node == shown.node && fed.word == shown.word;
            if !is_same {
                return Err((format!("{shown:?} {:?}", shown.node), format!("{fed:?} {:?} by the feed", fed.node)));
            }
        }
        Ok(())
    }
}

fn snapshot(view: &View) -> BTreeMap<(ServiceKey, Uid), Entry> {
    let services = view.services(None);
    services.flat_map(|service| service.entries.iter().map(|entry| ((service.key.clone(), entry.uid), entry.clone()))).collect()
}

impl Checker for Visible {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                // A process that starts knows less than its last life: its followers take a snapshot.
                let is_told_backwards = !scene.is_sharp;
                let followed = self.followed.entry(*host).or_default();
                followed.entries.clear();
                if is_told_backwards {
                    followed.revision = 0;
                }
            }
            Note::View { host, view } => {
                let followed = self.followed.entry(*host).or_default();
                if let Err((expected, found)) = followed.follow(view, scene.is_small()) {
                    return Err(scene.violation("feed-folds-to-view", &[*host], expected, found));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (host, _) in scene.running() {
            let (Some(view), Some(followed)) = (scene.view(host), self.followed.get(&host)) else { continue };
            if let Err((expected, found)) = followed.compare(view) {
                return Err(scene.violation("feed-folds-to-view", &[host], expected, found));
            }
        }
        // A process on an older disk of a node id's, whose latest life went with the only disk that held it, has its word from before.
        let is_latest = |host, node| {
            let head = scene.engine(host).and_then(|engine| engine.catalog().head(node));
            head.map(|head| head.epoch) == scene.truth.newest(node).map(|(epoch, _)| epoch)
        };
        let alive: Vec<NodeId> = scene.running().filter(|(host, node)| is_latest(*host, *node)).map(|(_, node)| node).collect();
        for uid in scene.truth.keys() {
            // A key that somebody wrote who is gone for good is settled when he is reaped, and not before.
            if !scene.truth.authors(uid).iter().all(|author| alive.contains(author)) {
                continue;
            }
            let Some((origin, record)) = scene.truth.visible(uid, |_| true) else { continue };
            let home = scene.running().find(|(_, node)| *node == origin).map(|(host, _)| scene.datacenter(host));
            for (host, _) in scene.running().filter(|(host, _)| Some(scene.datacenter(*host)) == home) {
                let Some(view) = scene.view(host) else { continue };
                let shown = find(view, uid);
                if let Err((expected, found)) = keeps_nodes_and_entries(view, uid, &record.state) {
                    return Err(scene.violation(
                        "highest-claim-is-visible",
                        &[host],
                        expected,
                        format!("{found}; {}", scene.truth.story(uid)),
                    ));
                }
                let expected = match &record.state {
                    RecordState::Live(content) if is_instance(content) => Some((origin, content)),
                    _ => None,
                };
                let found = shown.map(|entry| (entry.node.id, &entry.content));
                if expected != found {
                    let hosts = [host, scene.truth.newest(origin).and_then(|(epoch, _)| scene.truth.author(origin, epoch)).unwrap_or(host)];
                    let expected = format!("{uid:?} as {origin:?} has it: {record:?}");
                    return Err(scene.violation(
                        "highest-claim-is-visible",
                        &hosts,
                        expected,
                        format!("{shown:?}; {}", scene.truth.story(uid)),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a view shows an entry or an external node as the visible record has it.
///
/// # Errors
/// What differs, as (expected, found).
fn keeps_nodes_and_entries(view: &View, uid: Uid, state: &RecordState) -> Result<(), (String, String)> {
    let (kind, expected) = match state {
        RecordState::Live(content) => (content.key().map_or(Kind(u8::MAX), |key| key.kind), written_by(content)),
        RecordState::Deleted { kind, .. } => (*kind, None),
    };
    if !matches!(kind, Kind::ENTRY | Kind::NODE) {
        return Ok(());
    }
    let found = kept(view).find(|(shown, _)| *shown == uid).and_then(|(_, operation)| operation);
    if expected == found { Ok(()) } else { Err((format!("{uid:?} as operation {expected:?} wrote it"), format!("{found:?}"))) }
}

fn is_instance(content: &tidings::model::record::Content) -> bool {
    content.key().is_ok_and(|key| key.kind == tidings::model::record::Kind::INSTANCE)
}

fn find(view: &View, uid: Uid) -> Option<&Entry> {
    view.services(None).find_map(|service| service.find(uid))
}
