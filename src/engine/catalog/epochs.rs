//! Epochs: the lives of an origin, and what a new one may take the place of (protocol §2).
//!
//! Every start takes a new epoch that stands on a base: what the origin had durable when it began. A disk that was rolled back, cloned
//! or torn shows as a base below what others hold. Whoever holds more than a new life stands on keeps it and tells the origin, which
//! takes it over and goes on in yet another epoch. Which lives a history is made of, and how much of each, is its lineage: numbers of
//! epochs alone would let a life pass that began on a disk which lost a life in between.
//!
//! ```text
//!   disk:    (7, seq 40)          peers hold (7, seq 52): twelve changes the disk never saw, or forgot
//!   start:   epoch 8 on (7, 40)   peers refuse: 52 > 40, and say so
//!   adopts   (7, seq 52)          what was written in this life goes on top
//!   goes on: epoch 9 on (7, 52)   peers at exactly that base keep what they have; lineage: .. (7, 52) (8, 43)
//! ```

use crate::model::record::{Base, Epoch, Head, Lineage, Seq};

/// How far apart two processes set their epochs that begin on copies of one disk in the same millisecond.
const APART_MAX: u64 = 4_096;

/// The epoch of a new life: above all that was stored or heard, and above the clock of the last one where clocks are sane; `nonce` is this
/// process's own.
pub(super) fn next(stored: Epoch, heard: Epoch, wall_ms: u64, nonce: u16) -> Epoch {
    stored.saturating_add(1).max(heard.saturating_add(1)).max(wall_ms).saturating_add(u64::from(nonce) % APART_MAX)
}

/// Whether a life with this base and lineage holds what was written in `epoch` up to `seq`: otherwise taking it where that is held would
/// lose changes.
pub(super) fn holds(base: &Base, lineage: &Lineage, (epoch, seq): (Epoch, Seq)) -> bool {
    base.epoch == epoch && base.seq >= seq || lineage.contains(epoch, seq)
}

/// Whether records held without gaps as `held`, with that sum, are what a life with `base` began with.
pub(super) fn is_base(base: &Base, held: &Head, sum: u64) -> bool {
    *base == Base { epoch: held.epoch, seq: held.seq, sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(epoch: Epoch, seq: Seq) -> Base {
        Base { epoch, seq, sum: 0 }
    }

    #[test]
    fn an_epoch_is_above_what_was_stored_and_heard_whatever_the_clock_says() {
        assert_eq!(next(7, 3, 1_000, 0), 1_000);
        assert_eq!(next(2_000, 3, 1_000, 0), 2_001);
        assert_eq!(next(2_000, 5_000, 1_000, 0), 5_001);
        assert_ne!(next(7, 3, 1_000, 1), next(7, 3, 1_000, 2), "two copies of a disk that start at once");
    }

    #[test]
    fn a_life_replaces_only_what_it_holds() {
        let lives = |lives: &[(Epoch, Seq)]| Lineage::from(lives.to_vec());
        let first = lives(&[(7, 40)]);
        assert!(holds(&on(7, 40), &first, (7, 40)));
        assert!(holds(&on(7, 40), &first, (7, 30)), "the holder is behind");
        assert!(!holds(&on(7, 40), &first, (7, 52)), "the disk lost twelve changes");
        assert!(!holds(&on(7, 40), &first, (8, 45)), "the copy of the disk is older than the last life");
        assert!(!holds(&on(9, 41), &lives(&[(7, 40), (9, 41)]), (8, 45)), "nor has a life in between made it good");
        assert!(holds(&on(7, 52), &lives(&[(7, 52), (8, 45)]), (8, 45)), "life 8 was told of 52, and goes on as 9");
        assert!(!holds(&on(7, 52), &lives(&[(7, 52), (8, 45)]), (7, 53)), "a third agent knows even more");
    }
}
