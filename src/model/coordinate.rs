//! Where an agent stands in the space of round trips: the distance of two coordinates estimates the round trip between their agents, also
//! between two that never spoke. Agents find them together ([`crate::engine::membership`]); here is what they are and how far they are apart.
//!
//! After Dabek et al., "Vivaldi" (2004), and Ledlie et al., "Network Coordinates in the Wild" (2007): a point, on a stick whose height is
//! the way in and out of its site, and a correction for what no space explains. Whole microseconds: equal at all agents, small on the wire,
//! and without the numbers that are none.

use serde::{Deserialize, Serialize};

/// As many as Serf's coordinates have.
pub const DIMENSIONS: usize = 8;
/// No round trip on Earth is so long, in microseconds: what claims to lie farther out is no coordinate.
const REACH_US: i32 = 5_000_000;
/// An error beyond this says no more: all that is known may be wrong. In thousandths.
pub const ERROR_PERMILLE_MAX: u16 = 1_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinate {
    /// In microseconds.
    pub vector: [i32; DIMENSIONS],
    pub height_us: u32,
    /// Added to a distance, once for either end.
    pub adjustment_us: i32,
    /// How far estimates from here are off, as a share of the round trip, in thousandths.
    pub error_permille: u16,
}

impl Coordinate {
    /// Whether an agent on Earth could stand there.
    pub fn is_plausible(&self) -> bool {
        let within = |us: i32| (-REACH_US..=REACH_US).contains(&us);
        self.vector.into_iter().all(within)
            && self.height_us <= REACH_US.unsigned_abs()
            && within(self.adjustment_us)
            && self.error_permille <= ERROR_PERMILLE_MAX
    }

    /// The estimated round trip in microseconds, at least one.
    pub fn round_trip_us(&self, other: &Self) -> u32 {
        let plain = i64::from(self.span_us(other)) + i64::from(self.height_us) + i64::from(other.height_us);
        let adjusted = plain + i64::from(self.adjustment_us) + i64::from(other.adjustment_us);
        // A correction that leaves nothing corrects too much.
        let us = if adjusted > 0 { adjusted } else { plain };
        u32::try_from(us.max(1)).unwrap_or(u32::MAX)
    }

    /// How far the two points lie apart, without their sticks.
    pub fn span_us(&self, other: &Self) -> u32 {
        let square = |(a, b): (&i32, &i32)| i64::from(*a).abs_diff(i64::from(*b)).pow(2);
        let squares = self.vector.iter().zip(&other.vector).map(square).fold(0_u64, u64::saturating_add);
        u32::try_from(squares.isqrt()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: i32, y: i32, height_us: u32) -> Coordinate {
        Coordinate { vector: [x, y, 0, 0, 0, 0, 0, 0], height_us, adjustment_us: 0, error_permille: 100 }
    }

    #[test]
    fn a_round_trip_is_the_way_between_the_points_and_down_both_sticks() {
        assert_eq!(at(0, 0, 0).round_trip_us(&at(3_000, 4_000, 0)), 5_000);
        assert_eq!(at(0, 0, 200).round_trip_us(&at(3_000, 4_000, 100)), 5_300);
        let corrected = Coordinate { adjustment_us: -1_000, ..at(0, 0, 200) };
        assert_eq!(corrected.round_trip_us(&at(3_000, 4_000, 100)), 4_300);
        let beyond = Coordinate { adjustment_us: -9_000, ..at(0, 0, 200) };
        assert_eq!(beyond.round_trip_us(&at(3_000, 4_000, 100)), 5_300, "a correction never turns a distance around");
        assert_eq!(at(0, 0, 0).round_trip_us(&at(0, 0, 0)), 1);
    }

    #[test]
    fn what_no_agent_could_mean_is_told_apart_and_harmless() {
        assert!(at(REACH_US, -REACH_US, 10).is_plausible());
        for absurd in [
            at(REACH_US + 1, 0, 0),
            at(0, i32::MIN, 0),
            at(0, 0, u32::MAX),
            Coordinate { adjustment_us: i32::MIN, ..at(0, 0, 0) },
            Coordinate { error_permille: ERROR_PERMILLE_MAX + 1, ..at(0, 0, 0) },
        ] {
            assert!(!absurd.is_plausible(), "{absurd:?}");
            let _ = absurd.round_trip_us(&at(i32::MAX, i32::MAX, u32::MAX));
        }
    }
}
