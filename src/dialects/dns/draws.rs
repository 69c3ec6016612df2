//! Lots for the order of answers: random numbers from a seed (SplitMix64).

use crate::select::random;

#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(random::STEP);
        random::mix(self.0)
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Above zero, up to one.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Each stands first in proportion to its weight, and so on among those that are left (Efraimidis and Spirakis 2006).
    pub fn sort_by_luck(&mut self, order: &mut [u32], weight: impl Fn(u32) -> u32) {
        let mut drawn: Vec<(f64, u32)> = order.iter().map(|&at| (self.unit().ln() / f64::from(weight(at)), at)).collect();
        drawn.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        for (slot, (_, at)) in order.iter_mut().zip(drawn) {
            *slot = at;
        }
    }
}
