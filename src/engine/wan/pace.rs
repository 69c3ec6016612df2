//! How soon what the own datacenter's origins write crosses to others: what takes something out of lists at once, all else when it has
//! gathered company.
//!
//! Records say themselves what they are, so that all gateways judge alike whatever way a change came to them: a tombstone removes; an
//! instance that is critical under a claim older than its last change has failed, for a registration makes a new claim and a flip of
//! health none; an override is an operator's word.

use super::config::ExportPolicy;
use super::crossing::lets_through;
use crate::engine::catalog::{Catalog, ORIGINS_MAX};
use crate::model::instance::{Health, Instance};
use crate::model::names::NodeId;
use crate::model::record::{Epoch, Head, Kind, Record, RecordState, Seq};
use std::collections::BTreeMap;

/// Records of one move that are looked at: beyond, it is a bulk, which waits for company in any case.
const LOOK_MAX: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurry {
    /// It takes something out of lists.
    AtOnce,
    Gathers,
}

/// An origin, as far as its records were looked at.
#[derive(Debug, Clone, Copy)]
struct Place {
    epoch: Epoch,
    seq: Seq,
    has_left: bool,
}

impl From<&Head> for Place {
    fn from(head: &Head) -> Self {
        Self { epoch: head.epoch, seq: head.seq, has_left: head.flags.left }
    }
}

#[derive(Debug, Default)]
pub struct Pace {
    seen: BTreeMap<NodeId, Place>,
}

impl Pace {
    /// Learns who is there, so that of what each writes next it is known where it begins; and forgets who is not.
    pub fn follow(&mut self, catalog: &Catalog) {
        self.seen.retain(|origin, _| catalog.head(*origin).is_some());
        for head in catalog.heads() {
            if self.seen.len() < ORIGINS_MAX {
                self.seen.entry(head.origin).or_insert(Place::from(&head));
            }
        }
    }

    /// An origin moved.
    pub fn moved(&mut self, catalog: &Catalog, policy: &ExportPolicy, origin: NodeId) -> Hurry {
        let Some((head, before)) = catalog.head(origin).and_then(|head| Some((head, self.seen.get_mut(&origin)?))) else {
            return Hurry::Gathers;
        };
        let before = std::mem::replace(before, Place::from(&head));
        if before.epoch != head.epoch {
            return Hurry::Gathers;
        }
        let has_gone = head.flags.left && !before.has_left;
        let mut news = catalog.records_after(origin, before.seq).take(LOOK_MAX);
        if has_gone || news.any(|record| takes_out(&record) && lets_through(policy, &record)) { Hurry::AtOnce } else { Hurry::Gathers }
    }
}

/// Whether a record takes something out of lists.
fn takes_out(record: &Record) -> bool {
    let content = match &record.state {
        RecordState::Deleted { .. } => return true,
        RecordState::Live(content) => content,
    };
    match content.key().map(|key| key.kind) {
        Ok(Kind::OVERRIDE) => true,
        Ok(Kind::INSTANCE) => content
            .decode::<Instance<'_>>()
            .is_ok_and(|(_, instance)| instance.health() == Health::Critical && record.claim < instance.changed_at.0),
        _ => false,
    }
}
