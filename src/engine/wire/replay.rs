//! Which counters of a sender were seen: each sealed datagram is accepted once.
//!
//! A sender numbers what it seals; a receiver keeps a sliding window of the last numbers of each (sender, boot). Only what a key has
//! opened gets here, so an outsider can't fill the table with senders of its invention. It can send again what it recorded of earlier
//! boots, which is why one sender's boots are bounded apart from all others'. A window that was evicted would let the same datagram
//! through once more; like the duplicates of cleartext, which have no windows at all, that must be harmless: everything agents say
//! is idempotent, ordered by incarnation, epoch and seq.

use std::collections::BTreeMap;

use crate::model::names::NodeId;

/// How far behind the highest number seen a datagram may still arrive: the sender's datagrams to everyone count, so this is about a
/// tenth of a second of reordering at the most any agent sends.
pub const WINDOW: u64 = 1_024;

/// Windows kept in all, some 200 bytes each: members of the largest cluster with a restart each.
pub const WINDOWS_MAX: usize = 16_384;

/// Windows kept a sender: boots of the last minutes, whose datagrams may still be under way, and then some.
pub const BOOTS_A_SENDER_MAX: usize = 16;

const WORDS: usize = WINDOW as usize / 64;

/// The windows of all senders.
#[derive(Debug, Default)]
pub struct ReplayTable {
    windows: BTreeMap<(NodeId, u64), Used>,
    /// Rises with each datagram, to know the least recently used window.
    turn: u64,
}

#[derive(Debug)]
struct Used {
    turn: u64,
    window: Window,
}

impl ReplayTable {
    /// Whether `counter` is new from this boot of the sender; from now on it is not.
    pub fn accept(&mut self, sender: NodeId, boot: u64, counter: u64) -> bool {
        self.turn += 1;
        if let Some(used) = self.windows.get_mut(&(sender, boot)) {
            let fresh = used.window.accept(counter);
            if fresh {
                used.turn = self.turn;
            }
            return fresh;
        }
        self.make_room(sender);
        let mut window = Window::default();
        window.accept(counter);
        self.windows.insert((sender, boot), Used { turn: self.turn, window });
        true
    }

    /// Windows kept now.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether nothing was accepted yet.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn make_room(&mut self, sender: NodeId) {
        let boots = || self.windows.range((sender, 0)..=(sender, u64::MAX));
        let evicted = if boots().count() >= BOOTS_A_SENDER_MAX {
            boots().min_by_key(|(_, used)| used.turn)
        } else if self.windows.len() >= WINDOWS_MAX {
            self.windows.iter().min_by_key(|(_, used)| used.turn)
        } else {
            return;
        };
        if let Some((&key, _)) = evicted {
            self.windows.remove(&key);
        }
    }
}

/// The last [`WINDOW`] numbers up to the highest seen, one bit each.
#[derive(Debug, Default)]
struct Window {
    /// One above the highest number seen; zero before the first.
    end: u64,
    /// Number n has bit n modulo [`WINDOW`].
    seen: [u64; WORDS],
}

impl Window {
    fn accept(&mut self, counter: u64) -> bool {
        if counter == u64::MAX || counter.saturating_add(WINDOW) < self.end {
            return false;
        }
        if counter >= self.end {
            self.slide(counter + 1);
        }
        let (word, bit) = (counter % WINDOW / 64, 1 << (counter % 64));
        let word = &mut self.seen[word as usize];
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Moves the window so that it ends at `end`; the numbers it newly holds are unseen.
    fn slide(&mut self, end: u64) {
        if end - self.end >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for number in self.end..end {
                self.seen[(number % WINDOW / 64) as usize] &= !(1 << (number % 64));
            }
        }
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn a_number_is_accepted_once() {
        let mut table = ReplayTable::default();
        assert!(table.accept(A, 1, 5));
        assert!(!table.accept(A, 1, 5));
        assert!(table.accept(A, 1, 3), "late, not repeated");
        assert!(!table.accept(A, 1, 3));
        assert!(table.accept(A, 2, 5), "another boot counts by itself");
        assert!(table.accept(B, 1, 5), "so does another sender");
    }

    #[test]
    fn what_fell_out_of_the_window_is_refused() {
        let mut table = ReplayTable::default();
        assert!(table.accept(A, 1, 10_000));
        assert!(table.accept(A, 1, 10_000 - WINDOW + 1), "the oldest inside");
        assert!(!table.accept(A, 1, 10_000 - WINDOW), "the youngest outside");
        assert!(!table.accept(A, 1, u64::MAX), "a counter can't get there");
    }

    #[test]
    fn the_table_stays_within_its_limits() {
        let mut table = ReplayTable::default();
        for boot in 0..100 {
            assert!(table.accept(A, boot, 1));
            assert!(table.accept(B, 7, boot));
        }
        assert_eq!(table.len(), BOOTS_A_SENDER_MAX + 1);
        assert!(!table.accept(A, 99, 1), "the latest boots are the ones kept");
        assert!(!table.accept(B, 7, 50), "another sender's boots cost nobody else a window");
        for sender in 0..WINDOWS_MAX as u128 + 10 {
            table.accept(NodeId(1_000 + sender), 1, 1);
        }
        assert_eq!(table.len(), WINDOWS_MAX);
        assert!(!table.accept(NodeId(1_000 + WINDOWS_MAX as u128), 1, 1));
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_a_set(counters in prop::collection::vec(prop_oneof![0..4_000_u64, 0..200_u64, any::<u64>()], 1..400)) {
            let mut window = Window::default();
            let (mut seen, mut highest) = (BTreeSet::new(), None);
            for counter in counters {
                let inside = counter != u64::MAX && highest.is_none_or(|highest: u64| counter > highest || highest - counter < WINDOW);
                prop_assert_eq!(window.accept(counter), inside && seen.insert(counter));
                if inside {
                    highest = highest.max(Some(counter));
                }
            }
        }
    }
}
