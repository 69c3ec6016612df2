//! An origin's history as a whole, read in turns while it goes on (protocol §2, snapshots).

use super::Catalog;
use super::history::encoded_bytes;
use crate::model::names::NodeId;
use crate::model::record::{Head, Lineage, Record, Seq};

/// A cursor over an origin's records, in order of seq: what changes meanwhile moves to the end and is read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReader {
    /// The contiguous head at the start: what the snapshot is as of.
    pub head: Head,
    /// The sum over the live records then, where they were exactly the origin's.
    pub sum: Option<u64>,
    /// The lives it is made of.
    pub lineage: Lineage,
    after: Seq,
}

/// A turn's worth of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Records(Vec<Record>),
    End,
    /// The origin began another life, or was given up: this snapshot cannot be completed.
    Broken,
}

impl Catalog {
    /// Begins a snapshot of an origin that is told to others. While it is read, keep its tombstones: [`Catalog::hold_tombstones`].
    pub fn snapshot(&self, origin: NodeId) -> Option<SnapshotReader> {
        let origin = self.known(origin).filter(|origin| origin.is_advertised())?;
        Some(SnapshotReader { head: origin.head(), sum: origin.exact_sum(), lineage: origin.lineage.clone(), after: 0 })
    }
}

impl SnapshotReader {
    /// The next records, of about `bytes_max` encoded; at least one.
    pub fn next(&mut self, catalog: &Catalog, bytes_max: usize) -> Chunk {
        let origin = catalog.known(self.head.origin).filter(|origin| origin.epoch == self.head.epoch && origin.flags.reaped.is_none());
        let Some(origin) = origin else { return Chunk::Broken };
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (seq, ix) in origin.order.behind(self.after) {
            let record = catalog.table.slot(ix).record();
            bytes += encoded_bytes(&record);
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            self.after = seq;
            records.push(record);
        }
        if records.is_empty() { Chunk::End } else { Chunk::Records(records) }
    }
}
