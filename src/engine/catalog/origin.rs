//! One origin as this agent holds it: how far its history is known, and the order of its records.
//!
//! ```text
//!            contiguous                 held intervals
//!   |=========================|  gap  |======|  gap  |==|
//!   0      floor              seq     from   to
//! ```
//!
//! All that the origin did up to `seq` is folded in; what it did inside a held interval too, but not between. Only `seq` is told to
//! others (protocol §2, intervals).

use super::liveness::Life;
use super::order::Order;
use crate::engine::wire::packet::Advert;
use crate::model::names::NodeId;
use crate::model::record::{Base, Epoch, Head, HeadFlags, Lineage, Seq, Uid};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Intervals beyond a gap that are remembered of one origin. One more is forgotten and comes again with the gap's repair.
const HELD_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Origin {
    pub id: NodeId,
    pub epoch: Epoch,
    /// All up to here is known.
    pub seq: Seq,
    pub base: Base,
    /// The lives before this one that its history is made of, as far as they are known.
    pub lineage: Lineage,
    pub flags: HeadFlags,
    pub held: Held,
    /// Its records in order of seq.
    pub order: Order,
    pub live: u32,
    /// Live records that are instances.
    pub instances: u32,
    /// Over the live records; the origin's own sum where there is nothing beyond a gap.
    pub sum: u64,
    /// The highest seq of a tombstone that was forgotten here: below it, no batch is whole.
    pub floor: Seq,
    /// Heads from which snapshots are being sent: tombstones above them stay.
    pub retained_from: Vec<Seq>,
    /// At heads from here on, the records are exactly the origin's history: nothing that came was cut by somebody who knew more.
    pub exact_from: Seq,
    /// The sums differed: the next snapshot at the same head is taken too.
    pub is_disputed: bool,
    /// Since when new lives of it are refused, because more is known here than they stand on.
    pub tail_refused_ns: Option<u64>,
    /// Its claims come from a clock that is too far ahead.
    pub is_ahead: bool,
    /// Monotonic time of the last change of the head.
    pub changed_ns: u64,
    pub life: Life,
    /// The key of its node record, once that came.
    pub node_uid: Option<Uid>,
}

impl Origin {
    pub fn new(id: NodeId, life: Life, now_ns: u64) -> Self {
        Self {
            id,
            epoch: 0,
            seq: 0,
            base: Base::default(),
            lineage: Lineage::default(),
            flags: HeadFlags::default(),
            held: Held::default(),
            order: Order::default(),
            live: 0,
            instances: 0,
            sum: 0,
            floor: 0,
            retained_from: Vec::new(),
            exact_from: 0,
            is_disputed: false,
            tail_refused_ns: None,
            is_ahead: false,
            changed_ns: now_ns,
            life,
            node_uid: None,
        }
    }

    pub fn head(&self) -> Head {
        Head { origin: self.id, epoch: self.epoch, seq: self.seq, base: self.base, flags: self.flags }
    }

    /// Told to others: something is known of it, membership named it, and it was not given up.
    pub fn is_advertised(&self) -> bool {
        self.epoch > 0 && self.life.is_named && self.flags.reaped.is_none()
    }

    /// As it is told to others in brief.
    pub fn advert(&self) -> Advert {
        Advert { origin: self.id, epoch: self.epoch, seq: self.seq, flags: self.flags }
    }

    /// The lives that its history is made of, this one included.
    pub fn lives(&self) -> Lineage {
        let mut lives = self.lineage.clone();
        if self.epoch > 0 {
            lives.add(self.epoch, self.seq);
        }
        lives
    }

    /// The life that is held of it, and up to where; of who was given up, as it was then.
    pub fn last_life(&self) -> Option<(Epoch, Seq)> {
        if self.flags.reaped.is_some() { self.lineage.last() } else { (self.epoch > 0).then_some((self.epoch, self.seq)) }
    }

    /// Whether the records are exactly the origin's at `seq`.
    pub fn is_gapless(&self) -> bool {
        self.held.is_empty() && self.order.last().is_none_or(|last| last <= self.seq)
    }

    /// The sum over the live records, where it is the origin's own at `seq`.
    pub fn exact_sum(&self) -> Option<u64> {
        (self.is_gapless() && self.exact_from <= self.seq).then_some(self.sum)
    }

    /// What is known beyond `seq`, for whoever takes part of it.
    pub fn known_to(&self) -> Seq {
        let last = self.order.last().unwrap_or(0);
        self.seq.max(last).max(self.exact_from)
    }

    /// Its share of the root.
    pub fn root_term(&self) -> u64 {
        if self.is_advertised() { head_term(&self.head()) } else { 0 }
    }

    /// Tombstones above this seq stay for the snapshots that are on their way.
    pub fn retained_above(&self) -> Seq {
        self.retained_from.iter().copied().min().unwrap_or(Seq::MAX)
    }
}

/// One head's share of a root: what two agents compare.
pub fn head_term(head: &Head) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x6865_6164_7320_726f);
    hasher.write(&head.origin.0.to_le_bytes());
    hasher.write(&head.epoch.to_le_bytes());
    hasher.write(&head.seq.to_le_bytes());
    hasher.write_u8(u8::from(head.flags.left));
    hasher.write(&head.flags.reaped.map_or(0, |day| u64::from(day) + 1).to_le_bytes());
    hasher.finish()
}

/// Intervals `(from, to]` beyond a gap, ascending, none touching another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held(Vec<(Seq, Seq)>);

impl Held {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether all of `(from, to]` is held.
    pub fn covers(&self, from: Seq, to: Seq) -> bool {
        self.0.iter().any(|(start, end)| *start <= from && to <= *end)
    }

    /// Remembers an interval; says whether all stayed within the limit.
    pub fn insert(&mut self, mut from: Seq, mut to: Seq) -> bool {
        self.0.retain(|(start, end)| {
            let touches = *start <= to && from <= *end;
            if touches {
                from = from.min(*start);
                to = to.max(*end);
            }
            !touches
        });
        let at = self.0.partition_point(|(start, _)| *start < from);
        self.0.insert(at, (from, to));
        let is_within = self.0.len() <= HELD_MAX;
        // Forgetting what is known is safe; forgetting that something is missing is not.
        self.0.truncate(HELD_MAX);
        is_within
    }

    /// How far history is known without a gap, from `seq` on; what lies below is held no more.
    pub fn advance(&mut self, mut seq: Seq) -> Seq {
        let passed = self.0.iter().take_while(|(from, to)| {
            let is_reached = *from <= seq;
            if is_reached {
                seq = seq.max(*to);
            }
            is_reached
        });
        let passed = passed.count();
        self.0.drain(..passed);
        seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overflow_forgets_a_held_interval_never_a_gap() {
        let mut held = Held::default();
        for n in 0..HELD_MAX as Seq {
            assert!(held.insert(10 * n + 5, 10 * n + 6));
        }
        assert!(!held.insert(100_000, 100_001));
        assert_eq!(held.advance(4), 4, "the gap before the first is still there");
        assert!(!held.covers(100_000, 100_001));
    }

    proptest! {
        /// Against a set of single numbers.
        #[test]
        fn held_intervals_are_the_numbers_in_them(intervals in prop::collection::vec((0..60_u64, 1..8_u64), 0..30)) {
            let mut held = Held::default();
            let mut numbers = std::collections::BTreeSet::new();
            let mut seq = 0;
            for (from, len) in intervals {
                held.insert(from, from + len);
                numbers.extend(from + 1..=from + len);
                seq = held.advance(seq);
                while numbers.contains(&(seq + 1)) {
                    seq += 1;
                }
                prop_assert_eq!(held.advance(seq), seq);
            }
        }
    }
}
