//! What each strategy promises of its distribution.

use super::*;

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let one = |(i, &weight)| Candidate { uid: Uid((i as u128 + 1) << 100), weight, distance: Distance::SameDatacenter, rtt_us: None };
    weights.iter().enumerate().map(one).collect()
}

/// How often each candidate is the first choice in `rounds` rounds.
fn tally(strategy: Strategy, candidates: &[Candidate], rounds: u64) -> Vec<u64> {
    let mut state = State::default();
    let mut tally = vec![0; candidates.len()];
    for round in 0..rounds {
        for at in choose(strategy, candidates, &mut state, round.wrapping_mul(0x2545_f491_4f6c_dd1d), &round.to_le_bytes(), 1) {
            tally[at] += 1;
        }
    }
    tally
}

/// Each share lies within five standard deviations of what the weights promise.
#[track_caller]
fn assert_shares(tally: &[u64], weights: &[u32]) {
    let (rounds, total) = (tally.iter().sum::<u64>() as f64, weights.iter().sum::<u32>() as f64);
    for (&found, &weight) in tally.iter().zip(weights) {
        let share = f64::from(weight) / total;
        let deviation = (rounds * share * (1.0 - share)).sqrt();
        assert!((found as f64 - rounds * share).abs() <= 5.0 * deviation, "{tally:?} for {weights:?}");
    }
}

#[test]
fn random_is_even_and_heeds_no_weight_but_zero() {
    assert_shares(&tally(Strategy::Random, &candidates(&[1000, 5000, 1, 0]), 30_000), &[1, 1, 1, 0]);
}

#[test]
fn round_robin_gives_everyone_a_turn() {
    let tally = tally(Strategy::RoundRobin, &candidates(&[1000; 7]), 7_000);
    assert_eq!(tally, [1000; 7]);
}

#[test]
fn round_robin_goes_on_behind_a_candidate_that_left() {
    let mut all = candidates(&[1000; 5]);
    let mut state = State::default();
    let first = choose(Strategy::RoundRobin, &all, &mut state, 9, b"", 1)[0];
    let after = choose(Strategy::RoundRobin, &all, &mut state, 9, b"", 1)[0];
    assert_eq!(after, (first + 1) % 5);
    let next = all[(after + 1) % 5].uid;
    all.remove(after);
    let chosen = choose(Strategy::RoundRobin, &all, &mut state, 9, b"", 1)[0];
    assert_eq!(all[chosen].uid, next);
}

#[test]
fn weighted_keeps_proportions_exactly_and_spreads_them_out() {
    let all = candidates(&[5000, 1000, 1000]);
    let mut state = State::default();
    let turns: Vec<usize> = (0..7).map(|_| choose(Strategy::Weighted, &all, &mut state, 0, b"", 1)[0]).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0], "the published example of the algorithm");
    assert_eq!(tally(Strategy::Weighted, &all, 7_000), [5000, 1000, 1000]);
}

#[test]
fn weighted_stays_fair_while_candidates_come_and_go() {
    let all = candidates(&[3000, 2000, 1000, 4000]);
    let mut state = State::default();
    let mut tally = [0u64; 4];
    for round in 0..60_000 {
        let present = if round / 50 % 3 == 0 { &all[..3] } else { &all[..] };
        tally[choose(Strategy::Weighted, present, &mut state, 0, b"", 1)[0]] += 1;
    }
    // A third of the rounds knows three of them, two thirds all four.
    let expected = [3.0, 2.0, 1.0].map(|weight| 20_000.0 * weight / 6.0 + 40_000.0 * weight / 10.0);
    for (found, expected) in tally.iter().zip(expected) {
        assert!((*found as f64 - expected).abs() < 0.05 * expected, "{tally:?}");
    }
    assert!(state.current.iter().map(|(_, current)| current).sum::<i64>().abs() < 4);
}

#[test]
fn hash_shares_keys_by_weight() {
    let weights = [1000, 2000, 500, 3000, 0];
    assert_shares(&tally(Strategy::Hash, &candidates(&weights), 40_000), &weights);
}

#[test]
fn hash_moves_only_the_keys_of_the_one_that_left() {
    let all = candidates(&[1000, 2000, 3000, 1000]);
    for key in 0..2_000u32 {
        let chosen = |from: &[Candidate]| from[choose(Strategy::Hash, from, &mut State::default(), 0, &key.to_le_bytes(), 1)[0]].uid;
        let (before, after) = (chosen(&all), chosen(&all[..3]));
        assert!(before == after || before == all[3].uid);
    }
}

#[test]
fn nearest_stays_near_and_heeds_weights_there() {
    let mut all = candidates(&[1000, 3000, 1000]);
    all[2].distance = Distance::Elsewhere;
    assert_shares(&tally(Strategy::Nearest, &all, 20_000), &[1, 3, 0]);
    all[2].distance = Distance::SameNode;
    assert_eq!(tally(Strategy::Nearest, &all, 100), [0, 0, 100]);
}

#[test]
fn nearest_takes_the_shortest_round_trips_and_those_about_as_short() {
    let mut all = candidates(&[1000, 1000, 1000, 1000]);
    for (candidate, rtt_us) in all.iter_mut().zip([Some(20_000), Some(10_000), Some(15_400), None]) {
        candidate.rtt_us = rtt_us;
    }
    assert_shares(&tally(Strategy::Nearest, &all, 20_000), &[0, 1, 1, 0]);
    let order = choose(Strategy::Nearest, &all, &mut State::default(), 3, b"", 4);
    assert_eq!(order[2..], [0, 3], "who is at an unknown distance comes last");
    all[0].distance = Distance::SameZone;
    assert_eq!(tally(Strategy::Nearest, &all, 100), [100, 0, 0, 0], "a zone is a boundary somebody drew");
}

#[test]
fn several_choices_are_different_ones() {
    let all = candidates(&[1000, 2000, 0, 3000, 10]);
    for strategy in Strategy::ALL {
        let mut chosen = choose(strategy, &all, &mut State::default(), 7, b"key", 9);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 3, 4], "{strategy:?}");
        assert!(choose(strategy, &[], &mut State::default(), 7, b"key", 1).is_empty());
    }
}
