//! Choosing among instances: pure strategies over (candidates, state, one random number).
//!
//! ```text
//! Random      any, each as likely as another
//! RoundRobin  each in turn, in the order of uids, so that comings and goings disturb nobody's turn
//! Weighted    in turn by weight, spread out evenly: smooth weighted round robin as nginx does it
//! Hash        the same for the same key at every agent: weighted rendezvous hashing
//! Nearest     the least distance, and the shortest round trip among those; among about equals random by weight
//! ```
//!
//! `random` makes the numbers that callers bring.
//!
//! The caller keeps a [`State`] for each service and brings the randomness; what counts load or time belongs to the client. A weight of
//! zero takes no traffic under any strategy.

pub mod random;
mod rendezvous;
#[cfg(test)]
mod tests;

use crate::model::record::Uid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Random,
    RoundRobin,
    Weighted,
    Hash,
    Nearest,
}

impl Strategy {
    pub const ALL: [Strategy; 5] = [Strategy::Random, Strategy::RoundRobin, Strategy::Weighted, Strategy::Hash, Strategy::Nearest];

    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Random => "random",
            Strategy::RoundRobin => "round_robin",
            Strategy::Weighted => "weighted",
            Strategy::Hash => "hash",
            Strategy::Nearest => "nearest",
        }
    }
}

/// One to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub uid: Uid,
    /// In thousandths.
    pub weight: u32,
    pub distance: Distance,
    /// The estimated round trip to it, in microseconds; none where nobody knows.
    pub rtt_us: Option<u32>,
}

/// Round trips that are no longer than the shortest times this over a hundred, ...
const ABOUT_PERCENT: u64 = 150;
/// ... and so many microseconds, are as good as the shortest: load spreads over all that are near, and estimates are no better.
const ABOUT_US: u64 = 500;

/// How far away an instance is, as far as names tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    SameNode,
    SameZone,
    SameDatacenter,
    Elsewhere,
}

/// What turn-taking strategies remember of one service. Never larger than the list they last saw.
#[derive(Debug, Clone, Default)]
pub struct State {
    last: Option<Uid>,
    /// The current weights of smooth round robin, in ascending order of uid; they add up to about zero.
    current: Vec<(Uid, i64)>,
}

/// Chooses up to `n` different candidates and returns their places, the first choice first.
///
/// `key` matters to [`Strategy::Hash`] alone. `random` is one number of 64 evenly distributed bits.
pub fn choose(strategy: Strategy, candidates: &[Candidate], state: &mut State, random: u64, key: &[u8], n: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..candidates.len()).filter(|&at| candidates[at].weight > 0).collect();
    let n = n.min(left.len());
    let mut draws = Draws(random);
    match strategy {
        Strategy::Random => draw(&mut left, n, |left| draws.below(left.len() as u64) as usize),
        Strategy::RoundRobin => draw(&mut left, n, |left| {
            let place = in_turn(candidates, left, state.last, &mut draws);
            state.last = Some(candidates[left[place]].uid);
            place
        }),
        Strategy::Weighted => {
            state.align(candidates, &left);
            draw(&mut left, n, |left| state.smooth(candidates, left))
        }
        Strategy::Hash => {
            rendezvous::rank(candidates, &mut left, key);
            left.truncate(n);
            left
        }
        Strategy::Nearest => draw(&mut left, n, |left| nearest(candidates, left, &mut draws)),
    }
}

/// Takes `n` out of `left`, one after the other, each at the place `pick` says.
fn draw(left: &mut Vec<usize>, n: usize, mut pick: impl FnMut(&[usize]) -> usize) -> Vec<usize> {
    (0..n)
        .map(|_| {
            let place = pick(left);
            left.remove(place)
        })
        .collect()
}

/// Whose uid follows the last one's; the first turn goes to anyone, or all agents would begin with the same.
fn in_turn(candidates: &[Candidate], left: &[usize], last: Option<Uid>, draws: &mut Draws) -> usize {
    let Some(last) = last else { return draws.below(left.len() as u64) as usize };
    let uid = |place: &usize| candidates[left[*place]].uid;
    let following = (0..left.len()).filter(|place| uid(place) > last).min_by_key(uid);
    following.or_else(|| (0..left.len()).min_by_key(uid)).unwrap_or(0)
}

/// One of the nearest, as likely as its weight is large.
fn nearest(candidates: &[Candidate], left: &[usize], draws: &mut Draws) -> usize {
    let least = left.iter().map(|&at| candidates[at].distance).min();
    let is_least = |candidate: &&Candidate| Some(candidate.distance) == least;
    let shortest = left.iter().map(|&at| &candidates[at]).filter(is_least).filter_map(|candidate| candidate.rtt_us).min();
    let longest = shortest.map_or(u64::MAX, |us| u64::from(us) * ABOUT_PERCENT / 100 + ABOUT_US);
    let is_near = |candidate: &&Candidate| is_least(candidate) && candidate.rtt_us.map_or(u64::MAX, u64::from) <= longest;
    let near = || (0..left.len()).filter(|&place| is_near(&&candidates[left[place]]));
    let weight = |place: usize| u64::from(candidates[left[place]].weight);
    let mut point = draws.below(near().map(weight).sum());
    for place in near() {
        match point.checked_sub(weight(place)) {
            Some(rest) => point = rest,
            None => return place,
        }
    }
    0
}

impl State {
    /// Forgets who is gone, and lets newcomers begin at zero.
    fn align(&mut self, candidates: &[Candidate], left: &[usize]) {
        let mut uids: Vec<Uid> = left.iter().map(|&at| candidates[at].uid).collect();
        uids.sort_unstable();
        if self.current.iter().map(|(uid, _)| *uid).eq(uids.iter().copied()) {
            return;
        }
        let old = std::mem::take(&mut self.current);
        let known = |uid: &Uid| old.binary_search_by_key(uid, |(uid, _)| *uid).map_or(0, |at| old[at].1);
        self.current = uids.iter().map(|uid| (*uid, known(uid))).collect();
        // Who left took a debt along. Only differences decide, so all share it, and nothing drifts away from zero for ever.
        let share = self.current.iter().map(|(_, current)| current).sum::<i64>() / (self.current.len().max(1) as i64);
        self.current.iter_mut().for_each(|(_, current)| *current -= share);
    }

    /// nginx's rule: everyone gains his weight, the richest is chosen and pays the sum of all weights.
    fn smooth(&mut self, candidates: &[Candidate], left: &[usize]) -> usize {
        let mut total = 0;
        let mut best: Option<(i64, usize, usize)> = None;
        for (place, &at) in left.iter().enumerate() {
            let weight = i64::from(candidates[at].weight);
            total += weight;
            let Ok(slot) = self.current.binary_search_by_key(&candidates[at].uid, |(uid, _)| *uid) else { continue };
            let current = &mut self.current[slot].1;
            *current += weight;
            if best.is_none_or(|(most, _, _)| *current > most) {
                best = Some((*current, place, slot));
            }
        }
        let Some((_, place, slot)) = best else { return 0 };
        self.current[slot].1 -= total;
        place
    }
}

/// Further numbers drawn from one random number: SplitMix64.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, evenly up to a share of bound / 2^64; zero where the bound is.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
