//! A datacenter's catalog as it crosses to others: what the export policy lets through, under epochs that tell editions apart.
//!
//! An origin's name, seqs and claims stay what they are. Its epoch crosses with the policy's edition in its lowest bits, so that a new
//! edition is a new epoch over there: what was held is replaced as a whole, and no copy mixes two policies. What is left out of a batch
//! is left out at all receivers alike; a batch still claims its whole interval.

use super::config::{EDITION_MAX, ExportPolicy};
use super::pace::Pace;
use crate::engine::catalog::{Catalog, Chunk, Supply, head_term};
use crate::engine::spread::pack;
use crate::engine::wire::packet::{Advert, Frame};
use crate::model::names::NodeId;
use crate::model::record::{AsOf, Base, Batch, Epoch, Head, Seq};

/// Editions and one bit that is always set: below each crossed epoch there is one that is nobody's, for it to stand on.
const EDITION_BITS: u32 = 12;
const _: () = assert!((EDITION_MAX as u64) < 1 << (EDITION_BITS - 1));

/// Records of one snapshot frame, in bytes before compression.
const SNAPSHOT_CHUNK_BYTES: usize = 60 * 1_024;

pub struct Crossing<'a> {
    pub catalog: &'a Catalog,
    pub policy: &'a ExportPolicy,
    /// What of it is held back.
    pub pace: &'a Pace,
}

impl Crossing<'_> {
    fn epoch(&self, epoch: Epoch) -> Epoch {
        epoch << EDITION_BITS | u64::from(self.policy.edition.min(EDITION_MAX)) << 1 | 1
    }

    /// A life or edition begins on nothing: receivers take it as a whole.
    fn head_of(&self, head: Head) -> Head {
        let seq = self.pace.held_at(head.origin, head.epoch).map_or(head.seq, |seq| seq.min(head.seq));
        let epoch = self.epoch(head.epoch);
        Head { seq, epoch, base: Base { epoch: epoch - 1, seq: 0, sum: 0 }, ..head }
    }

    pub fn head(&self, origin: NodeId) -> Option<Head> {
        let head = self.catalog.head(origin).filter(|head| head.epoch > 0 && head.flags.reaped.is_none())?;
        Some(self.head_of(head))
    }

    pub fn heads(&self) -> Vec<Head> {
        self.catalog.heads().map(|head| self.head_of(head)).collect()
    }

    /// What follows `from` of the present epoch, as far as it fits; none where only a snapshot helps.
    pub fn batch_after(&self, origin: NodeId, from: Seq, bytes_max: usize) -> Option<Batch> {
        let head = self.catalog.head(origin)?;
        let mut batch = match self.catalog.batch_after(origin, head.epoch, from, 0, bytes_max) {
            Supply::Batch(batch) => batch,
            Supply::Nothing | Supply::Snapshot | Supply::Unknown => return None,
        };
        let crossed = self.head_of(head);
        (batch.epoch, batch.base) = (crossed.epoch, crossed.base);
        // Sums are over all records: receivers have fewer.
        if let AsOf::Newest { .. } = batch.as_of {
            batch.as_of = AsOf::Later(batch.to);
        }
        batch.to = batch.to.min(crossed.seq);
        batch.records.retain(|record| record.seq <= batch.to && self.policy.lets_through(record));
        Some(batch)
    }

    /// All of an origin, as the frames that say it.
    pub fn snapshot(&self, origin: NodeId) -> Option<(Head, Vec<Frame>)> {
        let mut reader = self.catalog.snapshot(origin)?;
        let head = self.head_of(reader.head);
        let mut frames = vec![Frame::SnapshotStart { head, sum: None }];
        let mut count = 0;
        loop {
            match reader.next(self.catalog, SNAPSHOT_CHUNK_BYTES) {
                Chunk::Records(mut records) => {
                    records.retain(|record| self.policy.lets_through(record));
                    count += records.len() as u64;
                    if !records.is_empty() {
                        frames.push(Frame::SnapshotRecords(pack(&records)));
                    }
                }
                Chunk::End => break,
                Chunk::Broken => return None,
            }
        }
        frames.push(Frame::SnapshotEnd { records: count });
        Some((head, frames))
    }
}

/// What both sides of a link compare: the sum over the heads of all that crosses.
pub fn root_of(adverts: impl Iterator<Item = Advert>) -> u64 {
    adverts.fold(0, |sum, advert| sum.wrapping_add(advert_term(&advert)))
}

/// One head's share of it: without the base, which does not outlive a snapshot.
fn advert_term(advert: &Advert) -> u64 {
    head_term(&Head { origin: advert.origin, epoch: advert.epoch, seq: advert.seq, base: Base::default(), flags: advert.flags })
}
