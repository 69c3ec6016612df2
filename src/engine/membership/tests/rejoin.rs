//! Coming back: paused, restarted, cloned, wiped.

use super::harness::{MS, SECOND, World};
use crate::engine::membership::Event;
use crate::model::names::NodeId;

#[test]
fn an_agent_stopped_for_a_minute_is_back_within_two_seconds_and_declares_nobody_down() {
    for seed in 100..110 {
        let mut world = World::formed(seed, 10);
        world.pause(4);
        world.run(60 * SECOND);
        assert!((0..10).all(|viewer| viewer == 4 || !world.sees_up(viewer, 4)));
        world.resume(4);
        let took = world.run_until(20 * SECOND, World::is_whole).expect("it does not come back");
        assert!(took < 2 * SECOND, "seed {seed}: {} ms", took / MS);
        world.run(30 * SECOND);
        assert_eq!(world.count(4, |event| matches!(event, Event::Down(_))), 0);
        let renewals = world.renewals();
        assert!(renewals.iter().enumerate().all(|(agent, count)| agent == 4 || *count == 0), "{renewals:?}");
    }
}

#[test]
fn a_restarted_agent_is_back_at_once_whatever_generation_it_starts_with() {
    for generation in [1, 2, 9] {
        let mut world = World::formed(110, 6);
        let (node, addr) = (world.node(2), world.agents[2].addr);
        world.kill(2);
        world.run(200 * MS);
        let again = world.start_as(node, addr, generation);
        world.agents[again].membership.remember(vec![World::addr(0)]);
        world.plan(again);
        let took = world.run_until(10 * SECOND, World::is_whole).expect("not back");
        assert!(took < 2 * SECOND, "{} ms", took / MS);
        world.run(30 * SECOND);
        assert!(world.is_whole());
        assert_eq!(world.node(again), node);
        assert!((0..6).all(|other| other == 2 || world.renewals()[other] == 0));
    }
}

#[test]
fn a_generation_that_was_heard_of_is_jumped_over_in_one_leap() {
    let mut world = World::formed(111, 4);
    let (node, addr) = (world.node(2), world.agents[2].addr);
    world.kill(2);
    let later = world.start_as(node, addr, 50);
    world.agents[later].membership.remember(vec![World::addr(0)]);
    world.plan(later);
    world.run_until(10 * SECOND, World::is_whole).expect("not joined");
    world.kill(later);
    let rolled_back = world.start_as(node, addr, 3);
    world.agents[rolled_back].membership.remember(vec![World::addr(0)]);
    world.plan(rolled_back);
    world.run_until(10 * SECOND, World::is_whole).expect("not back");
    let membership = &world.agents[rolled_back].membership;
    assert_eq!(membership.me().generation, 51);
    assert_eq!(membership.counters.renewals, 1);
}

#[test]
fn an_agent_that_moved_to_another_address_is_renamed() {
    let mut world = World::formed(112, 5);
    let node = world.node(2);
    let (from, to) = (world.agents[2].addr, World::addr(999));
    world.kill(2);
    let moved = world.start_as(node, to, 2);
    world.agents[moved].membership.remember(vec![World::addr(0)]);
    world.plan(moved);
    world.run_until(10 * SECOND, World::is_whole).expect("not back");
    assert_eq!(world.count(0, |event| *event == Event::Moved { node, from, to }), 1);
}

#[test]
fn of_two_clones_the_lower_nonce_takes_a_new_id_and_both_stay() {
    for seed in 113..123 {
        let mut world = World::formed(seed, 5);
        let (node, addr) = (world.node(2), World::addr(500));
        let clone = world.start_as(node, addr, 1);
        world.agents[clone].membership.set_seeds(vec![World::addr(0), World::addr(1)]);
        world.plan(clone);
        let lower = [2, clone].into_iter().min_by_key(|agent| world.agents[*agent].membership.me().boot).unwrap();
        let took = world.run_until(60 * SECOND, World::is_whole).expect("they fight on");
        assert!(took < 10 * SECOND, "seed {seed}: {} ms", took / MS);
        assert_ne!(world.node(2), world.node(clone));
        assert_ne!(world.node(lower), node, "seed {seed}");
        assert_eq!(world.count(lower, |event| matches!(event, Event::LostTwin { .. })), 1);
        world.run(60 * SECOND);
        assert!(world.is_whole());
        let renewals: u64 = world.renewals().iter().sum();
        assert!(renewals <= 6, "they outbid each other {renewals} times");
    }
}

#[test]
fn a_wiped_disk_at_the_same_address_takes_over_from_the_old_id() {
    for pause in [300 * MS, 10 * SECOND] {
        let mut world = World::formed(124, 6);
        let (old, addr) = (world.node(2), world.agents[2].addr);
        world.kill(2);
        world.run(pause);
        let again = world.start_as(NodeId(77), addr, 1);
        world.agents[again].membership.set_seeds(vec![World::addr(0)]);
        world.plan(again);
        let took = world.run_until(10 * SECOND, World::is_whole).expect("the old one stays");
        assert!(took < 3 * SECOND, "{} ms", took / MS);
        world.run(SECOND);
        for viewer in [0, 1, 3, 4, 5] {
            assert!(world.count(viewer, |event| *event == Event::TakenOver { old, by: NodeId(77) }) >= 1, "{viewer}");
        }
        assert_eq!(world.renewals().iter().sum::<u64>(), 0);
    }
}

#[test]
fn who_comes_and_goes_waits_longer_each_time_and_is_marked_unstable() {
    let mut world = World::formed(125, 5);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.pause(1);
        world.run(10 * SECOND);
        world.resume(1);
        waits.push(world.run_until(40 * SECOND, World::is_whole).expect("it does not come back"));
        world.run(SECOND);
    }
    assert!(waits[0] < 2 * SECOND, "{waits:?}");
    assert!(waits[1] > 4 * SECOND && waits[2] > 25 * SECOND, "{waits:?}");
    let now = world.clock(0);
    let membership = &world.agents[0].membership;
    assert!(membership.member(world.node(1)).is_some_and(|member| member.is_unstable(now)));
    assert!(membership.member(world.node(2)).is_some_and(|member| !member.is_unstable(now)));
}
