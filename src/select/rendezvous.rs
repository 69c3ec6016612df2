//! Weighted rendezvous hashing: each candidate draws a number from (key, uid) and the best by weight wins.
//!
//! With score = weight / −log₂(draw), each wins in proportion to its weight, and whoever comes or goes moves only the keys that it wins
//! or loses. Logarithms are taken in whole numbers: floating point differs between machines, and all agents must agree.

use super::Candidate;
use siphasher::sip::SipHasher13;
use std::cmp::Ordering;
use std::hash::Hasher;

/// Binary digits of a logarithm behind the point.
const FRACTION_BITS: u32 = 32;

/// Orders `places` from best to worst.
pub(super) fn rank(candidates: &[Candidate], places: &mut [usize], key: &[u8]) {
    let mut scored: Vec<(Score, usize)> = places.iter().map(|&at| (Score::of(&candidates[at], key), at)).collect();
    scored.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
    for (place, (_, at)) in places.iter_mut().zip(scored) {
        *place = at;
    }
}

/// `weight / cost`, kept as a fraction so that comparing is exact.
#[derive(Debug, PartialEq, Eq)]
struct Score {
    weight: u64,
    /// −log₂ of the draw; at least 1 in the last place.
    cost: u64,
    uid: u128,
}

impl Score {
    fn of(candidate: &Candidate, key: &[u8]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0x7469_6469_6e67_7321, 0x7069_636b);
        hasher.write(&candidate.uid.0.to_le_bytes());
        hasher.write(key);
        Self { weight: u64::from(candidate.weight), cost: cost(hasher.finish()), uid: candidate.uid.0 }
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (u128::from(self.weight) * u128::from(other.cost), u128::from(other.weight) * u128::from(self.cost));
        a.cmp(&b).then(self.uid.cmp(&other.uid))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// −log₂(draw / 2^64) in units of 2^−[`FRACTION_BITS`].
fn cost(draw: u64) -> u64 {
    let draw = draw | 1;
    let zeros = draw.leading_zeros();
    // The mantissa in [1, 2) with 63 digits behind the point; squaring it shifts out one digit of its logarithm at a time.
    let mut mantissa = draw << zeros;
    let mut fraction = 0u64;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let is_two_or_more = (square >> 127) as u64;
        fraction = fraction << 1 | is_two_or_more;
        mantissa = (square >> (63 + is_two_or_more)) as u64;
    }
    let one = 1u64 << FRACTION_BITS;
    (u64::from(zeros + 1) * one - fraction).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_logarithms() {
        for draw in [1u64, 3, 1 << 20, 123_456_789_012, u64::MAX / 3, u64::MAX / 2, u64::MAX - 5] {
            let expected = 64.0 - ((draw | 1) as f64).log2();
            let found = cost(draw) as f64 / f64::from(2u32).powi(FRACTION_BITS as i32);
            assert!((expected - found).abs() < 1e-6, "{draw}: {expected} {found}");
        }
    }
}
