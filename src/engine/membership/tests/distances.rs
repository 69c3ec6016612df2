//! Coordinates: what they say of round trips that nobody measured, and what they cost.

use super::harness::{MS, SECOND, World};
use crate::engine::membership::MembershipConfig;
use crate::model::coordinate::{Coordinate, DIMENSIONS};
use crate::model::names::NodeId;

const ZONES: usize = 3;
/// One way, in milliseconds, between zones.
const APART_MS: [[u64; ZONES]; ZONES] = [[0, 10, 40], [10, 0, 35], [40, 35, 0]];

fn apart_ns(from: usize, to: usize) -> u64 {
    APART_MS[from % ZONES][to % ZONES] * MS
}

/// Three zones, agents in each in turn; some 2 ms of round trip inside of one.
fn zones(seed: u64, count: usize) -> World {
    let mut world = World::with(seed, MembershipConfig::lan());
    world.latency_ns = 800_000..1_200_000;
    world.distance_ns = apart_ns;
    world.form(count);
    world
}

fn true_us(world: &World, from: usize, to: usize) -> f64 {
    let own = (world.latency_ns.start + world.latency_ns.end) as f64 / 1e3;
    2.0 * apart_ns(from, to) as f64 / 1e3 + own
}

/// Of each pair: how far its zones are apart, and how far `viewer`'s estimate is off, as a share of the truth.
fn pairs(world: &World, viewer: usize) -> Vec<(u64, f64)> {
    let place = |agent: usize| world.agents[viewer].membership.coordinate(world.node(agent));
    let mut pairs = Vec::new();
    for a in 0..world.agents.len() {
        for b in a + 1..world.agents.len() {
            if let (Some(from), Some(to)) = (place(a), place(b)) {
                let estimate = f64::from(from.round_trip_us(&to));
                pairs.push((apart_ns(a, b), (estimate - true_us(world, a, b)).abs() / true_us(world, a, b)));
            }
        }
    }
    assert!(!pairs.is_empty(), "nobody told");
    pairs
}

/// The same without the distances, in ascending order.
fn errors(world: &World, viewer: usize) -> Vec<f64> {
    let mut errors: Vec<f64> = pairs(world, viewer).into_iter().map(|(_, error)| error).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// A coordinate as a part, in bytes.
const COORDINATE_BYTES: f64 = 28.0;

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[test]
fn round_trips_between_any_two_are_told_within_half_a_minute() {
    for seed in 1..5 {
        let mut world = zones(seed, 18);
        world.run(24 * SECOND);
        for viewer in 0..ZONES {
            let median = percentile(&errors(&world, viewer), 50);
            assert!(median < 0.10, "{} s, seen from {viewer}: half of all pairs are off by more than {median:.3}", world.now / SECOND);
        }
    }
}

#[test]
fn the_near_come_before_the_far_seen_from_anybody() {
    let mut world = zones(7, 18);
    world.run(30 * SECOND);
    for from in 0..world.agents.len() {
        let place = |agent: usize| world.agents[0].membership.coordinate(world.node(agent)).expect("it told");
        let mut others: Vec<usize> = (0..world.agents.len()).filter(|agent| *agent != from).collect();
        others.sort_by_key(|other| place(from).round_trip_us(&place(*other)));
        let distances: Vec<u64> = others.iter().map(|other| apart_ns(from, *other)).collect();
        assert!(distances.is_sorted(), "from {from}: {others:?}");
    }
}

#[test]
fn coordinates_cost_little_once_they_are_found() {
    let mut world = zones(8, 30);
    world.run(60 * SECOND);
    let count = |world: &World| -> (u64, u64) {
        world.agents.iter().fold((0, 0), |(bytes, told), agent| (bytes + agent.bytes_received, told + agent.coordinates_received))
    };
    let before = count(&world);
    world.run(120 * SECOND);
    let after = count(&world);
    let share = (after.1 - before.1) as f64 * COORDINATE_BYTES / (after.0 - before.0) as f64;
    assert!(share < 0.03, "{share:.4} of all that members send each other");
    assert!(after.1 > before.1 + 30 * 29, "what is known gets old otherwise");
}

#[test]
fn absurd_coordinates_and_strangers_are_refused_and_the_gone_forgotten() {
    let mut world = zones(9, 4);
    world.run(10 * SECOND);
    let (peer, stranger) = (world.node(1), NodeId(77));
    let known = world.agents[0].membership.coordinate(peer).expect("it told");
    let absurd = Coordinate { vector: [i32::MIN; DIMENSIONS], ..known };
    for (node, told) in [(peer, absurd), (stranger, known)] {
        let before = world.agents[0].membership.counters.coordinates_refused;
        world.with_agent(0, |membership, now| membership.hear_coordinate(now, node, told));
        assert_eq!(world.agents[0].membership.counters.coordinates_refused, before + 1);
    }
    assert_eq!(world.agents[0].membership.coordinate(peer), Some(known));
    assert_eq!(world.agents[0].membership.coordinate(stranger), None);
    world.kill(1);
    world.run(10 * SECOND);
    assert_eq!(world.agents[0].membership.coordinate(peer), None, "it is down");
}

#[test]
fn a_liar_spoils_few_estimates_between_others() {
    // Of eight dimensions each: what cannot be is refused, what could be nearly is the worst.
    for (far_us, off_max) in [(4_000_000, 0.15), (50_000, 0.15), (300_000, 0.4)] {
        let mut world = zones(10, 12);
        let liar = world.node(11);
        let far = Coordinate { vector: [far_us; DIMENSIONS], height_us: 0, adjustment_us: 0, error_permille: 0 };
        for _ in 0..600 {
            for agent in 0..11 {
                world.with_agent(agent, |membership, now| membership.hear_coordinate(now, liar, far));
            }
            world.run(100 * MS);
        }
        // The worst pairs are those with the liar itself.
        let all = &errors(&world, 0)[..55];
        let median = percentile(all, 50);
        assert!(median < off_max, "{far_us}: half of the pairs are off by more than {median:.3}");
        let counters = world.agents[0].membership.counters;
        assert_eq!(counters.coordinates_refused > 0, far_us > 1_000_000, "{far_us}");
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features distances::figures -- --ignored --nocapture"]
fn figures() {
    for count in [6, 18, 60, 300] {
        let mut world = zones(20, count);
        for _ in 0..5 {
            let (near, far): (Vec<_>, Vec<_>) = pairs(&world, 0).into_iter().partition(|(apart, _)| *apart == 0);
            let at = |pairs: &[(u64, f64)], percent| {
                let mut errors: Vec<f64> = pairs.iter().map(|(_, error)| *error).collect();
                errors.sort_by(f64::total_cmp);
                percentile(&errors, percent) * 100.0
            };
            println!(
                "{count} agents after {} s: off by {:.1} % at the median, {:.1} % at p90 between zones; {:.0} % and {:.0} % inside of one",
                world.now / SECOND,
                at(&far, 50),
                at(&far, 90),
                at(&near, 50),
                at(&near, 90),
            );
            world.run((if world.now < 60 * SECOND { 30 } else { 240 }) * SECOND);
        }
    }
}
