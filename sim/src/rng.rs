//! Random numbers: one seeded ChaCha12 for each purpose, so that drawing more for one never shifts what another draws.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Seeded random numbers of one purpose.
#[derive(Debug, Clone)]
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// The generator of one purpose of one seed: distinct purposes have nothing in common.
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        // A purpose is a short word of this crate; what does not fit could only make two of them equal.
        for (slot, byte) in key[16..].iter_mut().zip(purpose.bytes()) {
            *slot = byte;
        }
        Self(ChaCha12Rng::from_seed(key))
    }

    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Bytes for the seed of something else.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In `[0, end)`; zero where that is empty.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// In `[from, to]`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of `choices`, which has at least one.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_indices_draw_apart_and_again_the_same() {
        let draw = |purpose, index| Rng::new(7, purpose, index).number();
        assert_eq!(draw("network", 1), draw("network", 1));
        assert_ne!(draw("network", 1), draw("network", 2));
        assert_ne!(draw("network", 1), draw("disk", 1));
    }

    #[test]
    fn ranges_reach_both_ends_and_nothing_else() {
        let mut rng = Rng::new(1, "test", 0);
        let drawn: std::collections::BTreeSet<_> = (0..1_000).map(|_| rng.between(3, 6)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(rng.below(0), 0);
    }
}
