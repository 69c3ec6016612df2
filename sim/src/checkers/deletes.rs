//! Invariant 4: once an agent's head covers a delete of (key, claim), it never serves a record of that key with that claim or a lower
//! one, from any origin.

use super::{Checker, Scene, changed};
use crate::violation::Violation;
use crate::workload::kept;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::model::names::NodeId;
use tidings::model::record::{Claim, Epoch, Record, RecordState, Seq, Uid};
use tidings::view::{Entry, View};

/// What each process knows to be deleted.
#[derive(Default)]
pub struct Deletes {
    heads: BTreeMap<(HostId, NodeId), (Epoch, Seq)>,
    /// By whose delete it is.
    covered: BTreeMap<(HostId, Uid, NodeId), Claim>,
    /// The revision of the view that was looked at last.
    shown: BTreeMap<HostId, u64>,
}

impl Deletes {
    fn forget(&mut self, host: HostId) {
        self.heads.retain(|(at, _), _| *at != host);
        self.covered.retain(|(at, ..), _| *at != host);
    }

    /// A delete is known there from now on.
    fn cover(&mut self, host: HostId, uid: Uid, origin: NodeId, claim: Claim) {
        let known = self.covered.entry((host, uid, origin)).or_default();
        *known = claim.max(*known);
    }

    /// # Errors
    /// The claim up to which the key is deleted there.
    fn serve(&self, host: HostId, uid: Uid, claim: Claim) -> Result<(), Claim> {
        let deleted = self.covered.range((host, uid, NodeId(0))..=(host, uid, NodeId(u128::MAX))).map(|(_, deleted)| *deleted).max();
        match deleted {
            Some(deleted) if claim <= deleted => Err(deleted),
            _ => Ok(()),
        }
    }

    /// An origin is known there no more: its deletes count only while they hide what another one says.
    fn forget_origin(&mut self, host: HostId, origin: NodeId, is_hiding: impl Fn(Uid, Claim) -> bool) {
        self.heads.remove(&(host, origin));
        self.covered.retain(|(at, uid, by), claim| *at != host || *by != origin || is_hiding(*uid, *claim));
    }

    fn learn(&mut self, scene: &Scene<'_>, host: HostId) {
        let Some(engine) = scene.engine(host) else { return };
        for origin in &scene.moved.gone {
            // What is deleted itself needs nobody to hide it.
            let live =
                engine.catalog().heads().flat_map(|head| engine.catalog().records(head.origin)).filter(|(_, record)| is_live(record));
            let lowest = live.fold(BTreeMap::new(), |mut lowest: BTreeMap<Uid, Claim>, (uid, record)| {
                let claim = lowest.entry(uid).or_insert(record.claim);
                *claim = record.claim.min(*claim);
                lowest
            });
            self.forget_origin(host, *origin, |uid, claim| lowest.get(&uid).is_some_and(|held| *held <= claim));
        }
        for (head, _) in &scene.moved.heads {
            let now = (head.epoch, head.seq);
            let before = self.heads.insert((host, head.origin), now);
            if before == Some(now) {
                continue;
            }
            let from = before.filter(|(epoch, _)| *epoch == head.epoch).map_or(0, |(_, seq)| seq);
            for (uid, record) in scene.truth.written(head.origin, head.epoch, from, head.seq) {
                // A batch holds the latest word on each key only: who is not yet there may have skipped a delete that was written over.
                let is_latest = scene.truth.latest(head.origin, head.epoch, uid, Seq::MAX).is_none_or(|latest| latest.seq <= record.seq);
                if let RecordState::Deleted { .. } = record.state
                    && is_latest
                {
                    self.cover(host, uid, head.origin, record.claim);
                }
            }
        }
    }
}

impl Deletes {
    /// The view may be a little older than the heads: it is held against what was known when it was made.
    fn serves<'e>(&self, scene: &Scene<'_>, host: HostId, entries: impl Iterator<Item = &'e Entry>) -> Result<(), Violation> {
        let Some(engine) = scene.engine(host) else { return Ok(()) };
        for entry in entries {
            let Some(claim) = engine.catalog().claim(entry.node.id, entry.uid) else { continue };
            if let Err(deleted) = self.serve(host, entry.uid, claim) {
                let expected = format!("nothing of {:?} up to claim {deleted}", entry.uid);
                let found = format!("{entry:?} with claim {claim}; {}", scene.truth.story(entry.uid));
                return Err(scene.violation("stays-deleted", &[host], expected, found));
            }
        }
        Ok(())
    }

    /// The same of entries and external nodes. Readers are not told whose record they see: no origin may have one above the delete.
    fn keeps(&self, scene: &Scene<'_>, host: HostId, view: &View) -> Result<(), Violation> {
        let Some(engine) = scene.engine(host) else { return Ok(()) };
        for (uid, operation) in kept(view) {
            // What was written this very moment is not durable yet; what a copy recalls is told to nobody.
            let told = engine.catalog().heads().map(|head| head.origin);
            let origins = scene.truth.authors(uid).iter().copied().chain(told);
            let Some(claim) = origins.filter_map(|origin| engine.catalog().claim(origin, uid)).max() else { continue };
            if let Err(deleted) = self.serve(host, uid, claim) {
                let expected = format!("nothing of {uid:?} up to claim {deleted}");
                let found = format!("operation {operation:?} with claim {claim}; {}", scene.truth.story(uid));
                return Err(scene.violation("stays-deleted", &[host], expected, found));
            }
        }
        Ok(())
    }
}

fn is_live(record: &Record) -> bool {
    matches!(record.state, RecordState::Live(_))
}

impl Checker for Deletes {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                self.shown.remove(host);
                self.forget(*host);
            }
            Note::Handled { host } => self.learn(scene, *host),
            Note::View { host, view } => {
                let since = self.shown.insert(*host, view.revision).unwrap_or(0);
                self.serves(scene, *host, changed(scene, view, since))?;
                self.keeps(scene, *host, view)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        scene.running().filter_map(|(host, _)| Some((host, scene.view(host)?))).try_for_each(|(host, view)| {
            let entries = view.services(None).flat_map(|service| service.entries.iter());
            self.serves(scene, host, entries)?;
            self.keeps(scene, host, view)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId(0);
    const X: Uid = Uid(1);
    const A: NodeId = NodeId(1);

    #[test]
    fn bites_on_a_record_with_the_deleted_claim_or_a_lower_one() {
        let mut deletes = Deletes::default();
        deletes.cover(HOST, X, A, 10);
        deletes.cover(HOST, X, NodeId(2), 8);
        assert_eq!(deletes.serve(HOST, X, 10), Err(10));
        assert_eq!(deletes.serve(HOST, X, 9), Err(10));
    }

    #[test]
    fn lets_pass_a_higher_claim_another_key_and_an_agent_that_has_not_heard() {
        let mut deletes = Deletes::default();
        deletes.cover(HOST, X, A, 10);
        assert_eq!(deletes.serve(HOST, X, 11), Ok(()));
        assert_eq!(deletes.serve(HOST, Uid(2), 9), Ok(()));
        assert_eq!(deletes.serve(HostId(1), X, 9), Ok(()));
        deletes.forget_origin(HOST, A, |_, _| true);
        assert_eq!(deletes.serve(HOST, X, 9), Err(10), "it hides what another says");
        deletes.forget_origin(HOST, A, |_, _| false);
        assert_eq!(deletes.serve(HOST, X, 9), Ok(()), "written anew after the reaped origin's deletes were forgotten");
        deletes.cover(HOST, X, A, 10);
        deletes.forget(HOST);
        assert_eq!(deletes.serve(HOST, X, 9), Ok(()));
    }
}
