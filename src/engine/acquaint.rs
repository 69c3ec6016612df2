//! What exchanges with every member would have brought, taken in at once.
//!
//! Agents never do this: they join over streams, in bounded turns. Clusters of thousands that begin in virtual time would spend their
//! days on that, quadratic as it is; here they begin where it ends. The same doors are used: pages of the membership, and snapshots.

use super::Engine;
use super::catalog::copy::{Collector, Copied, Piece};
use super::catalog::snapshot::Chunk;
use crate::model::time::Now;
use bytes::Bytes;

/// How one agent introduces itself: its word on itself, and all it wrote.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// A page of its membership.
    pub page: Bytes,
    pub origin: Option<Copied>,
}

impl Engine {
    /// This agent, introduced to others; to be asked before it met anybody.
    pub fn introduction(&self) -> Introduction {
        let page = self.membership.state_pages(usize::MAX).into_iter().next().unwrap_or_default();
        Introduction { page, origin: self.own_history() }
    }

    fn own_history(&self) -> Option<Copied> {
        let mut reader = self.catalog.snapshot(self.me().node)?;
        let mut collector = Collector::default();
        collector.take(Piece::Origin { head: reader.head, sum: reader.sum, lineage: reader.lineage.clone() });
        while let Chunk::Records(records) = reader.next(&self.catalog, usize::MAX) {
            collector.take(Piece::Records(records));
        }
        collector.take(Piece::Complete);
        collector.finish().pop()
    }

    /// Takes in what those say who introduced themselves: afterwards they are members, and their records are here.
    pub fn acquaint(&mut self, now: Now, with: &[Introduction]) {
        let everybody: Vec<u8> = with.iter().flat_map(|one| one.page.iter().copied()).collect();
        self.apply_members(now, &everybody);
        self.pump(now);
        let me = self.me().node;
        for copied in with.iter().filter_map(|one| one.origin.as_ref()).filter(|copied| copied.head.origin != me) {
            let Some(mut staged) = self.catalog.stage(now, copied.head, copied.sum, copied.lineage.clone()) else { continue };
            if staged.push(copied.records.clone()) {
                self.catalog.finish(now, staged);
            }
        }
        self.timeouts(now);
        self.pump(now);
    }
}
