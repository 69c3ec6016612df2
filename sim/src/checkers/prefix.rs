//! Invariants 2 and 5: what an agent holds of an origin is what that origin wrote, up to the head the agent claims; agents without gaps
//! and with equal heads have equal sums.

use super::{Checker, Scene};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::model::names::NodeId;
use tidings::model::record::{Epoch, Head, Record, RecordState, Seq, Uid};

/// Keeps nothing.
pub struct Prefix;

impl Prefix {
    fn look(scene: &Scene<'_>, host: HostId, heads: impl Iterator<Item = Head>) -> Result<(), Violation> {
        let Some(engine) = scene.engine(host) else { return Ok(()) };
        let catalog = engine.catalog();
        for head in heads.filter(|head| head.flags.reaped.is_none()) {
            // What the origin has not handed to its disk yet, nobody else can have.
            if scene.node(host) == Some(head.origin) || !scene.truth.knows(head.origin) {
                continue;
            }
            let held = live(catalog.records(head.origin));
            if let Err((expected, mut found)) = scene.truth.compare(&head, &held) {
                found += &format!("; held as {head:?}: {:?}", held.iter().map(|(uid, record)| (*uid, record.seq)).collect::<Vec<_>>());
                let author = scene.truth.author(head.origin, head.epoch).unwrap_or(host);
                return Err(scene.violation("prefix-is-true", &[host, author], expected, found));
            }
        }
        Ok(())
    }
}

fn live(records: impl Iterator<Item = (Uid, Record)>) -> BTreeMap<Uid, Record> {
    records.filter(|(_, record)| matches!(record.state, RecordState::Live(_))).collect()
}

impl Checker for Prefix {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Handled { host } => Self::look(scene, *host, scene.moved.heads.iter().map(|(head, _)| *head)),
            _ => Ok(()),
        }
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let mut sums: BTreeMap<(NodeId, Epoch, Seq), (HostId, u64)> = BTreeMap::new();
        for (host, _) in scene.running() {
            let Some(engine) = scene.engine(host) else { continue };
            Self::look(scene, host, engine.catalog().heads())?;
            // Of an origin that died for good, what lies beyond a gap stays beyond it until the origin is given up.
            let is_gapless = |head: &Head| engine.catalog().records(head.origin).all(|(_, record)| record.seq <= head.seq);
            for head in engine.catalog().heads().filter(is_gapless) {
                let sum = engine.catalog().sum(head.origin);
                let (first, known) = *sums.entry((head.origin, head.epoch, head.seq)).or_insert((host, sum));
                if known != sum {
                    let expected = format!("the sum {known:016x} of {:?} at seq {}", head.origin, head.seq);
                    return Err(scene.violation("equal-sums", &[first, host], expected, format!("{sum:016x}")));
                }
            }
        }
        Ok(())
    }
}
