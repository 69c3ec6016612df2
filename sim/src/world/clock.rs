//! Clocks of one host: a monotonic one that drifts, and a wall clock that is off and jumps.

use serde::{Deserialize, Serialize};
use tidings::model::time::Now;

/// The wall clock of a host with a true clock when the world begins: a day in 2027, far from any edge.
pub const WALL_START_MS: u64 = 1_800_000_000_000;

const PPM: i128 = 1_000_000;
const NEVER_NS: u64 = u64::MAX / 4;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// How much faster than true time the host's crystal swings, in parts per million; fixed for its life.
    pub drift_ppm: i32,
    /// How far the wall clock is ahead.
    pub offset_ms: i64,
}

impl Clock {
    /// What this host reads at the true instant `at`, in a process started at `started`.
    pub fn now(&self, started: u64, at: u64) -> Now {
        let wall = (WALL_START_MS as i64).saturating_add((self.swung(at) / 1_000_000) as i64).saturating_add(self.offset_ms);
        Now { ns: self.swung(at - started), wall_ms: wall.max(0) as u64 }
    }

    /// The first true instant at which the process's monotonic clock shows `ns`. What lies centuries ahead is as good as never.
    pub fn instant(&self, started: u64, ns: u64) -> u64 {
        let ns = ns.min(NEVER_NS);
        let rate = PPM + i128::from(self.drift_ppm);
        let mut passed = (i128::from(ns) * PPM / rate) as u64;
        while self.swung(passed) < ns {
            passed += 1; // rounding leaves a step or two
        }
        started.saturating_add(passed)
    }

    fn swung(&self, passed: u64) -> u64 {
        (i128::from(passed) + i128::from(passed) * i128::from(self.drift_ppm) / PPM).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_the_instant_computed_and_not_before() {
        for drift_ppm in [-200, 0, 3, 200] {
            let clock = Clock { drift_ppm, offset_ms: 0 };
            for ns in [0, 1, 999, 1_000_001, 123_456_789_012, NEVER_NS] {
                let at = clock.instant(50, ns);
                assert!(clock.now(50, at).ns >= ns);
                assert!(at == 50 || clock.now(50, at - 1).ns < ns);
            }
        }
    }

    #[test]
    fn a_deadline_that_never_comes_is_found_at_once() {
        for drift_ppm in [-200, 0, 200] {
            let clock = Clock { drift_ppm, offset_ms: 0 };
            assert_eq!(clock.instant(0, u64::MAX), clock.instant(0, NEVER_NS));
        }
    }

    #[test]
    fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
        let mut clock = Clock::default();
        let before = clock.now(0, 1_000_000_000);
        clock.offset_ms = -5_000;
        let after = clock.now(0, 1_000_000_000);
        assert_eq!(after.ns, before.ns);
        assert_eq!(after.wall_ms, before.wall_ms - 5_000);
    }
}
