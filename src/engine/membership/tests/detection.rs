//! Noticing deaths, and no others.

use super::harness::{MS, SECOND, World};
use crate::engine::membership::codec::Update;
use crate::engine::membership::{Event, MemberState};
use foca::State;

fn downs(world: &World) -> usize {
    (0..world.agents.len()).map(|agent| world.count(agent, |event| matches!(event, Event::Down(_)))).sum()
}

#[test]
fn a_killed_agent_of_ten_is_gone_from_all_views_within_three_seconds() {
    for seed in 20..40 {
        let mut world = World::formed(seed, 10);
        let node = world.node(3);
        world.kill(3);
        let took = world.run_until(10 * SECOND, |world| world.is_gone_everywhere(node)).expect("never detected");
        assert!(took < 3 * SECOND, "seed {seed}: {} ms", took / MS);
        for viewer in world.living().collect::<Vec<_>>() {
            assert_eq!(world.count(viewer, |event| *event == Event::Down(node)), 1, "told once");
        }
        assert_eq!(downs(&world), 9, "and nobody else");
    }
}

#[test]
fn a_verdict_on_whom_nobody_suspected_lets_the_member_contradict() {
    let mut world = World::formed(41, 10);
    let node = world.node(3);
    // A judge of whom only a part gets out: its suspicion came to nobody, its verdict comes twice.
    for _ in 0..2 {
        world.with_agent(0, |membership, now| {
            let member = membership.table.find(node).expect("all know all");
            let verdict = Update::new(member.identity(), member.incarnation, State::Down);
            membership.hear(now, &[verdict], true);
        });
        assert_eq!(world.agents[0].membership.member(node).map(|member| member.state), Some(MemberState::Suspect));
    }
    let took = world.run_until(2 * SECOND, |world| (0..10).all(|viewer| viewer == 3 || world.sees_alive(viewer, 3)));
    assert!(took.is_some(), "it is here, and says so");
    world.run(5 * SECOND);
    assert_eq!(downs(&world), 0);
}

#[test]
fn a_verdict_on_whom_one_suspects_for_long_is_taken_over() {
    let mut world = World::formed(42, 10);
    let node = world.node(3);
    world.kill(3);
    let suspected = |world: &World| world.agents[0].membership.member(node).is_some_and(|member| member.state == MemberState::Suspect);
    world.run_until(5 * SECOND, suspected).expect("it is missed");
    world.run(500 * MS);
    assert_eq!(downs(&world), 0, "nobody has judged yet");
    world.with_agent(0, |membership, now| {
        let member = membership.table.find(node).expect("all know all");
        let verdict = Update::new(member.identity(), member.incarnation, State::Down);
        membership.hear(now, &[verdict], true);
    });
    assert_eq!(world.agents[0].membership.member(node).map(|member| member.state), Some(MemberState::Down));
}

#[test]
fn one_of_two_and_one_of_three_die_in_time() {
    for count in [2, 3] {
        for seed in 40..50 {
            let mut world = World::formed(seed, count);
            let node = world.node(1);
            world.kill(1);
            let took = world.run_until(10 * SECOND, |world| world.is_gone_everywhere(node)).expect("never detected");
            assert!(took < 3 * SECOND, "{count}, seed {seed}: {} ms", took / MS);
        }
    }
}

#[test]
fn a_dead_rack_of_thirty_per_cent_is_gone_in_time() {
    let mut world = World::formed(50, 30);
    for dead in 0..9 {
        world.kill(dead);
    }
    let took = world.run_until(30 * SECOND, World::is_whole).expect("the dead stay");
    assert!(took < 4 * SECOND, "{} ms", took / MS);
    assert!(world.living().all(|agent| !world.agents[agent].membership.is_cut_off()));
}

#[test]
fn nobody_is_declared_down_in_ten_minutes_of_five_per_cent_loss() {
    let mut world = World::new(51);
    world.loss = 0.05;
    world.latency_ns = MS..3 * MS;
    world.form(10);
    world.run(600 * SECOND);
    assert_eq!(downs(&world), 0);
    assert_eq!(world.renewals(), vec![0; 10]);
    assert!(world.is_whole());
}

#[test]
fn agents_that_stall_for_half_a_second_now_and_then_stay_members() {
    let mut world = World::formed(52, 10);
    for turn in 0..200 {
        let starved = [turn % 10, (turn * 7 + 3) % 10, (turn * 3 + 1) % 10];
        for agent in starved {
            world.pause(agent);
        }
        world.run(500 * MS);
        for agent in starved {
            world.resume(agent);
        }
        world.run(500 * MS);
    }
    assert_eq!(downs(&world), 0);
    assert_eq!(world.renewals(), vec![0; 10]);
}

#[test]
fn an_agent_that_hears_nothing_is_removed_and_removes_nobody() {
    let mut world = World::formed(53, 10);
    let others: Vec<usize> = (1..10).collect();
    world.cut_one_way(&others, &[0]);
    world.run(20 * SECOND);
    assert!((1..10).all(|viewer| !world.sees_up(viewer, 0)));
    assert_eq!((1..10).filter(|&other| world.sees_up(0, other)).count(), 9);
    assert!(world.agents[0].membership.is_cut_off());
    assert!((1..10).all(|a| (1..10).all(|b| a == b || world.sees_alive(a, b))));
    world.heal();
    let took = world.run_until(60 * SECOND, World::is_whole).expect("not healed");
    assert!(took < 5 * SECOND, "{} ms", took / MS);
    assert_eq!(world.renewals()[1..], [0; 9]);
}

#[test]
fn an_agent_whose_packets_get_lost_is_removed() {
    let mut world = World::formed(54, 10);
    let others: Vec<usize> = (1..10).collect();
    world.cut_one_way(&[0], &others);
    let node = world.node(0);
    let took = world.run_until(20 * SECOND, |world| (1..10).all(|viewer| !world.sees_up(viewer, 0)));
    assert!(took.expect("never") < 4 * SECOND);
    world.heal();
    world.run_until(60 * SECOND, World::is_whole).expect("not healed");
    assert_eq!(world.renewals()[1..], [0; 9]);
    assert!(world.agents[1].membership.member(node).is_some_and(|member| member.state == MemberState::Alive));
}

#[test]
fn two_agents_that_cannot_reach_each_other_but_all_others_stay_members() {
    let mut world = World::formed(55, 6);
    world.split(&[0], &[1]);
    world.run(120 * SECOND);
    assert_eq!(downs(&world), 0);
}

#[test]
fn the_round_trip_of_peers_is_known() {
    let mut world = World::formed(56, 5);
    world.run(20 * SECOND);
    for member in world.agents[0].membership.members() {
        let rtt_us = member.rtt_us.expect("probed many times");
        assert!((1_000..4_000).contains(&rtt_us), "{rtt_us}");
    }
}
