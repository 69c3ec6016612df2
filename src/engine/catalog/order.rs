//! An origin's records in order of seq, in little more than eight bytes a record.
//!
//! Chunks of bounded length, each with its seqs as distances from the chunk's own base. An origin writes with rising seqs, so nearly
//! all insertions are at the end and nearly all removals (a key written again leaves its old place) anywhere: the last chunk fills up, and
//! neighbours that have become sparse are joined. A `BTreeMap` of the same is about twenty bytes a record, which a million records feel.

use super::table::SlotIx;
use crate::model::record::Seq;

/// Places in one chunk: what an insertion in its middle moves.
const CHUNK_MAX: usize = 512;
/// Two neighbours that hold no more than this are joined.
const JOINED_MAX: usize = CHUNK_MAX / 2;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// In ascending order of seq; none is empty.
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    base: Seq,
    /// Distance from `base`, and the slot; in ascending order.
    places: Vec<(u32, SlotIx)>,
}

impl Chunk {
    fn of(seq: Seq, slot: SlotIx) -> Self {
        Self { base: seq, places: vec![(0, slot)] }
    }

    fn distance(&self, seq: Seq) -> Option<u32> {
        u32::try_from(seq.checked_sub(self.base)?).ok()
    }

    fn last(&self) -> Seq {
        self.base + Seq::from(self.places.last().map_or(0, |(distance, _)| *distance))
    }

    fn is_full(&self) -> bool {
        self.places.len() >= CHUNK_MAX
    }
}

impl Order {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The highest seq.
    pub fn last(&self) -> Option<Seq> {
        self.chunks.last().map(Chunk::last)
    }

    pub fn get(&self, seq: Seq) -> Option<SlotIx> {
        let chunk = &self.chunks[self.chunk_of(seq)?];
        let distance = chunk.distance(seq)?;
        chunk.places.binary_search_by_key(&distance, |(distance, _)| *distance).ok().map(|at| chunk.places[at].1)
    }

    /// All places behind `after`, in order.
    pub fn behind(&self, after: Seq) -> impl Iterator<Item = (Seq, SlotIx)> + '_ {
        let first = self.chunks.partition_point(|chunk| chunk.last() <= after);
        self.chunks[first..].iter().flat_map(move |chunk| {
            let start = chunk.places.partition_point(|(distance, _)| chunk.base + Seq::from(*distance) <= after);
            chunk.places[start..].iter().map(|(distance, slot)| (chunk.base + Seq::from(*distance), *slot))
        })
    }

    /// All slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotIx> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.places.iter().map(|(_, slot)| *slot))
    }

    /// Puts a slot at its place. What was there before is displaced and returned.
    pub fn insert(&mut self, seq: Seq, slot: SlotIx) -> Option<SlotIx> {
        if self.chunks.is_empty() {
            // Most origins never have another: the room for four that a first `push` takes would cost more than all else here.
            self.chunks.reserve_exact(1);
        }
        let Some(at) = self.chunk_of(seq) else {
            // Before all: a chunk of its own, which its neighbour takes in as soon as both are sparse.
            self.chunks.insert(0, Chunk::of(seq, slot));
            self.join(0);
            return None;
        };
        let chunk = &mut self.chunks[at];
        let Some(distance) = chunk.distance(seq) else {
            self.chunks.insert(at + 1, Chunk::of(seq, slot));
            return None;
        };
        match chunk.places.binary_search_by_key(&distance, |(distance, _)| *distance) {
            Ok(place) => return Some(std::mem::replace(&mut chunk.places[place].1, slot)),
            Err(place) if !chunk.is_full() => chunk.places.insert(place, (distance, slot)),
            Err(CHUNK_MAX) => self.chunks.insert(at + 1, Chunk::of(seq, slot)),
            Err(_) => {
                self.split(at);
                return self.insert(seq, slot);
            }
        }
        None
    }

    pub fn remove(&mut self, seq: Seq) {
        let Some(at) = self.chunk_of(seq) else { return };
        let chunk = &mut self.chunks[at];
        let Some(distance) = chunk.distance(seq) else { return };
        let Ok(place) = chunk.places.binary_search_by_key(&distance, |(distance, _)| *distance) else { return };
        chunk.places.remove(place);
        if chunk.places.is_empty() {
            self.chunks.remove(at);
        } else {
            self.join(at);
        }
    }

    /// The chunk in which a seq stands or would stand: the last that begins at or before it.
    fn chunk_of(&self, seq: Seq) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk.base <= seq).checked_sub(1)
    }

    fn split(&mut self, at: usize) {
        let chunk = &mut self.chunks[at];
        let upper = chunk.places.split_off(CHUNK_MAX / 2);
        let base = chunk.base + Seq::from(upper[0].0);
        let shift = upper[0].0;
        let places = upper.into_iter().map(|(distance, slot)| (distance - shift, slot)).collect();
        self.chunks.insert(at + 1, Chunk { base, places });
    }

    /// Joins a chunk with the neighbour that leaves the result small, if there is one.
    fn join(&mut self, at: usize) {
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            let Some(right) = self.chunks.get(left + 1) else { continue };
            if self.chunks[left].places.len() + right.places.len() > JOINED_MAX || self.chunks[left].distance(right.last()).is_none() {
                continue;
            }
            let right = self.chunks.remove(left + 1);
            let left = &mut self.chunks[left];
            let shift = left.distance(right.base).expect("its last place, which is not lower, was just seen to be within reach");
            left.places.extend(right.places.into_iter().map(|(distance, slot)| (shift + distance, slot)));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    fn agrees(order: &Order, model: &BTreeMap<Seq, SlotIx>, after: Seq) {
        assert_eq!(order.is_empty(), model.is_empty());
        assert_eq!(order.last(), model.keys().last().copied());
        assert_eq!(order.get(after), model.get(&after).copied());
        let expected: Vec<_> = model.range((Excluded(after), Unbounded)).map(|(seq, slot)| (*seq, *slot)).collect();
        assert_eq!(order.behind(after).collect::<Vec<_>>(), expected);
        assert_eq!(order.slots().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
        assert!(order.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.places.len())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes in whatever order, near and far, it is a sorted map.
        #[test]
        fn is_a_sorted_map(steps in prop::collection::vec((0_u8..4, 0_u64..3_000, any::<u32>()), 1..2_000)) {
            let (mut order, mut model) = (Order::default(), BTreeMap::new());
            for (kind, seq, slot) in steps {
                // Distances beyond four bytes too.
                let seq = if slot.is_multiple_of(7) { seq << 40 } else { seq };
                if kind == 0 {
                    order.remove(seq);
                    model.remove(&seq);
                } else {
                    prop_assert_eq!(order.insert(seq, SlotIx(slot)), model.insert(seq, SlotIx(slot)));
                }
            }
            for after in [0, 1_500, 2_999, 1_500 << 40] {
                agrees(&order, &model, after);
            }
        }
    }

    #[test]
    fn keys_that_are_written_again_and_again_leave_no_sparse_chunks() {
        const KEYS: u64 = 10_000;
        let (mut order, mut model) = (Order::default(), BTreeMap::new());
        for seq in 0..10 * KEYS {
            let slot = SlotIx((seq % KEYS) as u32);
            assert_eq!(order.insert(seq, slot), None);
            model.insert(seq, slot);
            // All but each hundredth key move on to their new place.
            if seq >= KEYS && !slot.0.is_multiple_of(100) {
                order.remove(seq - KEYS);
                model.remove(&(seq - KEYS));
            }
        }
        agrees(&order, &model, 5 * KEYS);
        let chunks = order.chunks.len();
        assert!(chunks <= 4 * model.len() / CHUNK_MAX + 2, "{chunks} chunks hold {} places", model.len());
    }
}
