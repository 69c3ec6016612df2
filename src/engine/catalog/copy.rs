//! What others wrote, copied in turns for a restart that finds nobody to ask, and taken in again (design §5, store).
//!
//! A copy is read like snapshots are, origin by origin, and taken in like one. The origins in it are known to the catalog without
//! membership's word, so their instances are unverified: handed out for ten minutes, and only where nothing better is left. Whoever
//! of them membership names is as it says from then on, and repair goes on from the copy's heads instead of from nothing. Whom it has
//! not named a minute after the first that answered is gone since the copy, and forgotten.
//!
//! The agent's own records are no part of it: those are in the store, and durable.

use super::Catalog;
use super::liveness::Life;
use super::origin::Origin;
use super::snapshot::{Chunk, SnapshotReader};
use crate::model::names::NodeId;
use crate::model::record::{Head, Lineage, Record};
use crate::model::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// All that was known of one other origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub head: Head,
    /// Over the live records, where they are exactly the origin's at the head.
    pub sum: Option<u64>,
    pub lineage: Lineage,
    pub records: Vec<Record>,
}

/// A turn's worth of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// The next origin, as of this head.
    Origin { head: Head, sum: Option<u64>, lineage: Lineage },
    /// Of the origin that was named last.
    Records(Vec<Record>),
    /// The origin is complete.
    Complete,
    /// It changed its life meanwhile: what came of it counts for nothing.
    Broken,
}

/// Reads a copy while the catalog goes on.
#[derive(Debug, Default)]
pub struct CopyReader {
    origins: VecDeque<NodeId>,
    current: Option<SnapshotReader>,
}

impl CopyReader {
    /// The next piece, of about `bytes_max` encoded; none when the copy is complete.
    pub fn next(&mut self, catalog: &Catalog, bytes_max: usize) -> Option<Piece> {
        if let Some(reader) = &mut self.current {
            let piece = match reader.next(catalog, bytes_max) {
                Chunk::Records(records) => return Some(Piece::Records(records)),
                Chunk::End => Piece::Complete,
                Chunk::Broken => Piece::Broken,
            };
            self.current = None;
            return Some(piece);
        }
        let next = std::iter::from_fn(|| self.origins.pop_front()).find_map(|origin| catalog.snapshot(origin));
        let reader = self.current.insert(next?);
        Some(Piece::Origin { head: reader.head, sum: reader.sum, lineage: reader.lineage.clone() })
    }
}

impl Catalog {
    /// Begins a copy of what others wrote.
    pub fn copy(&self) -> CopyReader {
        let others = self.table.origins().filter(|(ix, origin)| *ix != self.own_ix && origin.is_advertised());
        CopyReader { origins: others.map(|(_, origin)| origin.id).collect(), current: None }
    }

    /// Takes in what an earlier life copied of another origin.
    pub(super) fn recall(&mut self, now: Now, copied: &Copied) {
        let id = copied.head.origin;
        if id == self.me || self.table.origin_ix(id).is_some() {
            return;
        }
        // Membership named it to the life that copied it, not to this one: it counts here, and nobody is told of it.
        let life = Life { is_recalled: true, ..Life::unheard(now) };
        let ix = self.table.add_origin(Origin::new(id, life, now.ns));
        self.reaping.recalled.insert(id);
        self.refresh_life(now, ix);
        let Some(mut staged) = self.stage(now, copied.head, copied.sum, copied.lineage.clone()) else { return };
        if staged.push(copied.records.clone()) {
            self.finish(now, staged);
        }
    }
}

/// Puts the pieces of a copy together again; what is out of order or incomplete is left out.
#[derive(Debug, Default)]
pub struct Collector {
    current: Option<Copied>,
    complete: Vec<Copied>,
}

impl Collector {
    pub fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Origin { head, sum, lineage } => self.current = Some(Copied { head, sum, lineage, records: Vec::new() }),
            Piece::Records(records) => {
                if let Some(current) = &mut self.current {
                    current.records.extend(records);
                }
            }
            Piece::Complete => self.complete.extend(self.current.take()),
            Piece::Broken => self.current = None,
        }
    }

    pub fn finish(self) -> Vec<Copied> {
        self.complete
    }
}
