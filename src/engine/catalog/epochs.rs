//! Epochs: the lives of an origin, and what a new one may take the place of (protocol §2).
//!
//! Every start takes a new epoch that stands on a base: what the origin had durable when it began. A disk that was rolled back, cloned
//! or torn shows as a base below what others hold. Whoever holds more than a new life stands on keeps it and tells the origin, which
//! takes it over and goes on in yet another epoch:
//!
//! ```text
//!   disk:    (7, seq 40)          peers hold (7, seq 52): twelve changes the disk never saw, or forgot
//!   start:   epoch 8 on (7, 40)   peers refuse: 52 > 40, and say so
//!   adopts   (7, seq 52)          what was written in this life goes on top
//!   goes on: epoch 9 on (7, 52)   peers at exactly that base keep what they have
//! ```

use crate::model::record::{Base, Epoch, Head, Seq};

/// Lives of this process that are remembered: more would mean that somebody raises epochs as fast as it can.
const LIVES_MAX: usize = 32;

/// The epoch of a new life: above all that was stored or heard, and above the clock of the last one where clocks are sane.
pub(super) fn next(stored: Epoch, heard: Epoch, wall_ms: u64) -> Epoch {
    stored.saturating_add(1).max(heard.saturating_add(1)).max(wall_ms)
}

/// Whether a life that stands on `base` contains all that is held of the origin as `held`: otherwise taking it would lose changes.
pub(super) fn stands_on(base: &Base, held: &Head) -> bool {
    let place = (base.epoch, base.seq);
    // A sibling of the life that is held, which began on more than that one did: the process that lived it took its changes along.
    let is_later_sibling = base.epoch < held.epoch && place > (held.base.epoch, held.base.seq);
    place >= (held.epoch, held.seq) || is_later_sibling
}

/// Whether records held without gaps as `held`, with that sum, are what a life with `base` began with.
pub(super) fn is_base(base: &Base, held: &Head, sum: u64) -> bool {
    *base == Base { epoch: held.epoch, seq: held.seq, sum }
}

/// What this process issued, by epoch: its own words that come back are no news.
#[derive(Debug, Default)]
pub(super) struct Lives(Vec<(Epoch, Seq)>);

impl Lives {
    /// Up to `seq` was issued in `epoch`; the last one may be said again with a higher seq.
    pub fn issued(&mut self, epoch: Epoch, seq: Seq) {
        match self.0.last_mut() {
            Some((last, highest)) if *last == epoch => *highest = seq.max(*highest),
            _ => {
                if self.0.len() == LIVES_MAX {
                    self.0.remove(0);
                }
                self.0.push((epoch, seq));
            }
        }
    }

    pub fn contains(&self, epoch: Epoch, seq: Seq) -> bool {
        self.0.iter().any(|(known, highest)| *known == epoch && seq <= *highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::NodeId;
    use crate::model::record::HeadFlags;

    fn head(epoch: Epoch, seq: Seq, base: (Epoch, Seq)) -> Head {
        let base = Base { epoch: base.0, seq: base.1, sum: 0 };
        Head { origin: NodeId(1), epoch, seq, base, flags: HeadFlags::default() }
    }

    fn on(epoch: Epoch, seq: Seq) -> Base {
        Base { epoch, seq, sum: 0 }
    }

    #[test]
    fn an_epoch_is_above_what_was_stored_and_heard_whatever_the_clock_says() {
        assert_eq!(next(7, 3, 1_000), 1_000);
        assert_eq!(next(2_000, 3, 1_000), 2_001);
        assert_eq!(next(2_000, 5_000, 1_000), 5_001);
    }

    #[test]
    fn a_life_replaces_only_what_it_stands_on() {
        assert!(stands_on(&on(7, 40), &head(7, 40, (0, 0))));
        assert!(stands_on(&on(7, 40), &head(7, 30, (0, 0))), "the holder is behind");
        assert!(!stands_on(&on(7, 40), &head(7, 52, (0, 0))), "the disk lost twelve changes");
        assert!(!stands_on(&on(7, 40), &head(8, 45, (7, 42))), "the copy of the disk is older than the last life");
        assert!(stands_on(&on(7, 52), &head(8, 45, (7, 40))), "life 8 was told of 52, and goes on as 9");
        assert!(!stands_on(&on(7, 52), &head(7, 53, (0, 0))), "a third agent knows even more");
    }
}
