//! This agent's own coordinate, pulled and pushed by each round trip that it measures: Vivaldi, with the settings of Serf.
//!
//! Each sample is a spring between two agents that rests at the measured round trip; one step moves the own end a part of the way, a small
//! one where the own place is surer than the other's. Heights, the window of adjustments and gravity are Ledlie's. Only sums, products,
//! quotients and square roots of doubles occur, which are the same on every machine.
//!
//! A liar moves nobody far: nobody is taken for surer than [`ERROR_MIN`], a pull is bounded, and who claims to be where light does not get
//! in that time is not believed at all.

use crate::model::coordinate::{Coordinate, DIMENSIONS, ERROR_PERMILLE_MAX};
use rand::RngExt;

/// Shares of a step, of the estimated error and of the place.
const ERROR_STEP: f64 = 0.25;
const PLACE_STEP: f64 = 0.25;
const ERROR_MAX: f64 = ERROR_PERMILLE_MAX as f64 / 1_000.0;
/// The least error that is believed of anybody.
const ERROR_MIN: f64 = 0.05;
/// Seconds, as all lengths here. Below it nothing is told apart.
const LENGTH_MIN: f64 = 1e-6;
const HEIGHT_MIN: f64 = 10e-6;
/// The farthest that one sample pulls the coordinate closer; all are pulled alike by one who claims to be far off, and stay where they are
/// to each other.
const STEP_MAX: f64 = 0.005;
/// A coordinate that is so much farther away than its round trip is long is a lie.
const LIE_MIN: f64 = 1.0;
/// Samples that the adjustment is the mean of.
const WINDOW: usize = 20;
/// From so far away the pull back to the origin equals the distance: it keeps all coordinates together from drifting away.
const GRAVITY_RHO: f64 = 150.0;
/// Draws for a direction.
const DRAWS_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Vivaldi {
    vector: [f64; DIMENSIONS],
    height: f64,
    adjustment: f64,
    error: f64,
    /// What the last samples were above their distances.
    excess: [f64; WINDOW],
    updates: u64,
}

impl Default for Vivaldi {
    fn default() -> Self {
        Self { vector: [0.0; DIMENSIONS], height: HEIGHT_MIN, adjustment: 0.0, error: ERROR_MAX, excess: [0.0; WINDOW], updates: 0 }
    }
}

/// What one sample says of the way to another agent.
struct Spring {
    direction: [f64; DIMENSIONS],
    /// Between the points.
    span: f64,
    /// With both heights.
    raw: f64,
}

impl Vivaldi {
    /// Samples that were taken in since the start.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    pub fn coordinate(&self) -> Coordinate {
        let us = |seconds: f64| (seconds * 1e6).round();
        Coordinate {
            vector: self.vector.map(|length| us(length) as i32),
            height_us: us(self.height) as u32,
            adjustment_us: us(self.adjustment) as i32,
            error_permille: (self.error * 1_000.0).round() as u16,
        }
    }

    /// Takes a sample in. False: the two make no sense together, or the own coordinate made none afterwards and begins anew.
    pub fn update(&mut self, rtt_us: u32, other: &Coordinate, rng: &mut impl RngExt) -> bool {
        let rtt = (f64::from(rtt_us) / 1e6).max(LENGTH_MIN);
        let spring = self.spring(other, rng);
        if spring.raw > rtt + LIE_MIN {
            return false;
        }
        self.updates += 1;
        self.step(rtt, other, &spring);
        self.adjust(rtt, other);
        self.fall();
        let is_sound = self.error.is_finite() && self.coordinate().is_plausible();
        if !is_sound {
            *self = Self { updates: self.updates, ..Self::default() };
        }
        is_sound
    }

    fn step(&mut self, rtt: f64, other: &Coordinate, spring: &Spring) {
        let adjusted = spring.raw + self.adjustment + seconds(other.adjustment_us);
        let distance = if adjusted > 0.0 { adjusted } else { spring.raw };
        let their_error = (f64::from(other.error_permille) / 1_000.0).max(ERROR_MIN);
        let weight = self.error / (self.error + their_error);
        let wrong = ((distance - rtt).abs() / rtt).min(ERROR_MAX);
        self.error = (self.error + ERROR_STEP * weight * (wrong - self.error)).clamp(ERROR_MIN, ERROR_MAX);
        let force = (PLACE_STEP * weight * (rtt - distance)).max(-STEP_MAX);
        for (own, direction) in self.vector.iter_mut().zip(spring.direction) {
            *own += direction * force;
        }
        if spring.span > LENGTH_MIN {
            let their_height = f64::from(other.height_us) / 1e6;
            self.height = (self.height + (self.height + their_height) * force / spring.span).clamp(HEIGHT_MIN, rtt.max(self.height));
        }
    }

    /// The mean of what samples are above their distances is the same for all that are told the coordinate: half for either end.
    fn adjust(&mut self, rtt: f64, other: &Coordinate) {
        let (_, raw) = self.lengths(other);
        self.excess[(self.updates % WINDOW as u64) as usize] = rtt - raw;
        self.adjustment = self.excess.iter().sum::<f64>() / (2.0 * WINDOW as f64);
    }

    fn fall(&mut self) {
        let norm = self.vector.iter().map(|length| length * length).sum::<f64>().sqrt();
        if norm > LENGTH_MIN {
            let pull = (norm / GRAVITY_RHO) * (norm / GRAVITY_RHO) / norm;
            self.vector = self.vector.map(|length| length - length * pull.min(1.0));
        }
    }

    /// The distance of the points, and the one with both heights.
    fn lengths(&self, other: &Coordinate) -> (f64, f64) {
        let squares = self.vector.iter().zip(other.vector).map(|(own, theirs)| (own - seconds(theirs)) * (own - seconds(theirs)));
        let span = squares.sum::<f64>().sqrt();
        (span, span + self.height + f64::from(other.height_us) / 1e6)
    }

    /// Away from the other; anywhere from one who stands at the same place.
    fn spring(&self, other: &Coordinate, rng: &mut impl RngExt) -> Spring {
        let (span, raw) = self.lengths(other);
        let mut direction = [0.0; DIMENSIONS];
        if span > LENGTH_MIN {
            for (at, (own, theirs)) in direction.iter_mut().zip(self.vector.iter().zip(other.vector)) {
                *at = (own - seconds(theirs)) / span;
            }
            return Spring { direction, span, raw };
        }
        for _ in 0..DRAWS_MAX {
            let drawn: [f64; DIMENSIONS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let norm = drawn.iter().map(|length| length * length).sum::<f64>().sqrt();
            if norm > LENGTH_MIN {
                direction = drawn.map(|length| length / norm);
                break;
            }
        }
        Spring { direction, span, raw }
    }
}

fn seconds(us: i32) -> f64 {
    f64::from(us) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    fn median(mut errors: Vec<f64>) -> f64 {
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    }

    /// Points of a plane with sticks: what coordinates can say in full.
    fn truth(at: usize, other: usize) -> f64 {
        let place = |at: usize| ((at * 37 % 101) as f64 * 1e-3, (at * 59 % 97) as f64 * 1e-3, (at % 5) as f64 * 1e-3);
        let ((x, y, up), (u, v, high)) = (place(at), place(other));
        ((x - u) * (x - u) + (y - v) * (y - v)).sqrt() + up + high + 5e-4
    }

    #[test]
    fn agents_in_a_plane_find_places_that_tell_their_round_trips() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut agents = vec![Vivaldi::default(); 30];
        for _ in 0..150 {
            for at in 0..agents.len() {
                let other = (at + rng.random_range(1..agents.len())) % agents.len();
                let theirs = agents[other].coordinate();
                assert!(agents[at].update((truth(at, other) * 1e6) as u32, &theirs, &mut rng));
            }
        }
        let mut errors = Vec::new();
        for at in 0..agents.len() {
            for other in at + 1..agents.len() {
                let estimate = f64::from(agents[at].coordinate().round_trip_us(&agents[other].coordinate())) / 1e6;
                errors.push((estimate - truth(at, other)).abs() / truth(at, other));
            }
        }
        let error = median(errors);
        assert!(error < 0.1, "the median error is {error:.3}");
    }

    #[test]
    fn a_liar_moves_nobody_farther_than_a_step_and_nothing_becomes_senseless() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let at = |us| Coordinate { vector: [us; DIMENSIONS], height_us: 50, adjustment_us: 0, error_permille: 0 };
        let mut own = Vivaldi::default();
        let before = own.coordinate();
        assert!(!own.update(1, &at(5_000_000), &mut rng), "nobody is there after a microsecond");
        assert_eq!(own.coordinate(), before);
        assert!(own.update(1, &at(300_000), &mut rng));
        assert!(own.coordinate().span_us(&before) <= (STEP_MAX * 1e6) as u32 + 1);
        for us in [i32::MAX, i32::MIN, 5_000_000, 300_000, 0] {
            for rtt_us in [0, 1, 77, 900_000, u32::MAX] {
                for _ in 0..200 {
                    own.update(rtt_us, &at(us), &mut rng);
                    assert!(own.coordinate().is_plausible(), "{:?}", own.coordinate());
                }
            }
        }
    }
}
