//! Random numbers that spread load and guard nothing: SplitMix64.

use std::sync::atomic::{AtomicU64, Ordering};

/// What its state rises by from one number to the next.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a state.
pub fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers for all who share it.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// `seed` is fresh entropy.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn roll(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}
