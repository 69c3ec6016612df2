//! Cuts of the network, and their healing (protocol section 1, invariant 9).

use super::harness::{MS, SECOND, World};
use crate::engine::membership::Event;

fn healed(world: &mut World, limit: u64) -> u64 {
    world.heal();
    let took = world.run_until(130 * SECOND, World::is_whole).expect("membership is not whole");
    assert!(took < limit, "healed after {} ms", took / MS);
    took
}

#[test]
fn two_nodes_cut_60s() {
    for seed in 60..70 {
        let mut world = World::formed(seed, 2);
        world.split(&[0], &[1]);
        world.run(60 * SECOND);
        assert!(!world.sees_up(0, 1) && !world.sees_up(1, 0), "each holds the other down");
        healed(&mut world, 10 * SECOND);
        assert_eq!(world.renewals(), vec![0; 2]);
    }
}

#[test]
fn one_of_ten_cut_60s() {
    for seed in 70..80 {
        let mut world = World::formed(seed, 10);
        let others: Vec<usize> = (1..10).collect();
        world.split(&[0], &others);
        world.run(60 * SECOND);
        assert!(others.iter().all(|&viewer| !world.sees_up(viewer, 0)));
        healed(&mut world, 10 * SECOND);
        assert_eq!(world.renewals()[1..], [0; 9], "no healthy one renewed");
    }
}

#[test]
fn one_of_ten_cut_for_two_hours_heals_without_renewing_the_others() {
    let mut world = World::formed(80, 10);
    let others: Vec<usize> = (1..10).collect();
    world.split(&[0], &others);
    world.run(7_200 * SECOND);
    healed(&mut world, 60 * SECOND);
    assert_eq!(world.renewals()[1..], [0; 9]);
}

#[test]
fn halves_and_minorities_heal_after_cuts_short_and_long() {
    for (count, left) in [(4, 2), (10, 5), (10, 4), (30, 10), (60, 20)] {
        for seconds in [20, 60, 600] {
            let mut world = World::formed(81, count);
            let (a, b): (Vec<usize>, Vec<usize>) = (0..count).partition(|agent| *agent < left);
            world.split(&a, &b);
            world.run(seconds * SECOND);
            healed(&mut world, 60 * SECOND);
            if left * 2 < count {
                let of_majority = &world.renewals()[left..];
                assert_eq!(of_majority, vec![0; count - left], "{count}/{left} after {seconds} s");
            }
        }
    }
}

#[test]
fn an_even_split_shorter_than_the_window_declares_nobody_down() {
    let mut world = World::formed(82, 10);
    let (a, b): (Vec<usize>, Vec<usize>) = (0..10).partition(|agent| *agent < 5);
    world.split(&a, &b);
    world.run(40 * SECOND);
    assert!((0..10).all(|agent| world.agents[agent].membership.is_cut_off()));
    assert!((0..10).all(|agent| world.count(agent, |event| matches!(event, Event::Down(_))) == 0));
    healed(&mut world, 10 * SECOND);
    assert_eq!(world.renewals(), vec![0; 10]);
}

#[test]
fn many_cuts_at_once_heal() {
    let mut world = World::formed(83, 9);
    for a in 0..9_usize {
        for b in 0..9 {
            if a / 3 != b / 3 {
                world.cut_one_way(&[a], &[b]);
            }
        }
    }
    world.run(300 * SECOND);
    healed(&mut world, 120 * SECOND);
}

#[test]
fn everybody_alone_for_ten_minutes_and_back() {
    let mut world = World::formed(84, 6);
    for a in 0..6 {
        for b in 0..6 {
            world.cut_one_way(&[a], &[b]);
        }
    }
    world.run(600 * SECOND);
    healed(&mut world, 60 * SECOND);
}

#[test]
fn a_cluster_that_really_shrank_to_a_third_agrees_after_the_window() {
    let mut world = World::formed(85, 9);
    for dead in 0..6 {
        world.kill(dead);
    }
    world.run(30 * SECOND);
    assert!(world.agents[8].membership.is_cut_off(), "at first they take themselves for cut off");
    let took = world.run_until(60 * SECOND, World::is_whole).expect("the dead stay");
    assert!(took < 50 * SECOND);
    assert!(!world.agents[8].membership.is_cut_off());
}
