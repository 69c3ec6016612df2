//! Finding each other, and leaving.

use super::harness::{MS, SECOND, World};
use crate::engine::membership::codec::{Update, encode_update};
use crate::engine::membership::identity::Identity;
use crate::engine::membership::{Event, MembershipConfig};
use crate::model::names::NodeId;

#[test]
fn ten_agents_find_each_other_through_one_seed() {
    let world = World::formed(1, 10);
    assert!(world.is_whole());
    assert_eq!(world.renewals(), vec![0; 10]);
}

#[test]
fn agents_that_are_each_others_seeds_and_start_cold_are_whole_within_seconds() {
    for loss in [0.0, 0.05] {
        let mut world = World::new(3);
        world.loss = loss;
        let all: Vec<_> = (0..10).map(World::addr).collect();
        for agent in 0..10 {
            world.start();
            world.agents[agent].membership.set_seeds(all.clone());
            world.plan(agent);
        }
        let took = world.run_until(30 * SECOND, World::is_whole).expect("never whole");
        assert!(took < 5 * SECOND, "{} ms", took / MS);
    }
}

#[test]
fn islands_that_formed_on_their_own_meet_through_a_seed_that_came_late() {
    // 0 and 1 know each other, so do 2 and 3, and 2 alone knows 0.
    let mut world = World::new(4);
    for _ in 0..4 {
        world.start();
    }
    for (agent, seeds) in [(0, vec![1]), (1, vec![0]), (2, vec![3, 0]), (3, vec![2])] {
        world.agents[agent].membership.set_seeds(seeds.into_iter().map(World::addr).collect());
        world.plan(agent);
    }
    let took = world.run_until(30 * SECOND, World::is_whole).expect("never whole");
    assert!(took < 5 * SECOND, "{} ms", took / MS);
}

#[test]
fn joining_never_gives_up() {
    let mut world = World::new(5);
    let joiner = world.start();
    let seed = World::addr(1);
    world.agents[joiner].membership.set_seeds(vec![seed]);
    world.plan(joiner);
    world.run(3_600 * SECOND);
    let host = world.start();
    assert_eq!(world.agents[host].addr, seed);
    let took = world.run_until(60 * SECOND, World::is_whole).expect("gave up");
    assert!(took < 20 * SECOND, "{} ms", took / MS);
}

#[test]
fn a_joiner_knows_all_members_within_a_second_and_they_know_it() {
    let mut world = World::formed(6, 150);
    let joiner = world.start();
    let seed = world.agents[17].addr;
    world.agents[joiner].membership.set_seeds(vec![seed]);
    world.plan(joiner);
    let took = world.run_until(5 * SECOND, World::is_whole).expect("unknown");
    assert!(took < SECOND, "{} ms", took / MS);
}

#[test]
fn a_leaver_is_known_to_have_left_within_300_ms_and_no_suspicion_arises() {
    for (count, loss) in [(2, 0.0), (10, 0.05), (100, 0.05)] {
        let mut world = World::formed(7, count);
        world.loss = loss;
        let node = world.node(1);
        world.with_agent(1, |membership, now| membership.leave(now));
        world.kill(1);
        let took = world.run_until(2 * SECOND, |world| world.is_gone_everywhere(node)).expect("not told");
        assert!(took <= 300 * MS, "{count}: {} ms", took / MS);
        for viewer in world.living().collect::<Vec<_>>() {
            assert!(world.agents[viewer].membership.member(node).is_some_and(|member| member.left), "{count}: {viewer}");
            assert_eq!(world.count(viewer, |event| *event == Event::Left(node)), 1);
            assert_eq!(world.count(viewer, |event| matches!(event, Event::Down(_))), 0);
        }
    }
}

#[test]
fn who_left_comes_back_with_its_next_generation() {
    let mut world = World::formed(8, 4);
    let (node, addr) = (world.node(1), world.agents[1].addr);
    world.with_agent(1, |membership, now| membership.leave(now));
    world.kill(1);
    world.run(10 * SECOND);
    let again = world.start_as(node, addr, 2);
    world.agents[again].membership.set_seeds(vec![World::addr(0)]);
    world.plan(again);
    let took = world.run_until(10 * SECOND, World::is_whole).expect("not back");
    assert!(took < SECOND, "{} ms", took / MS);
    assert_eq!(world.agents[again].membership.counters.renewals, 0);
}

/// A page as an agent would send it that holds `count` members down which nobody here ever met.
fn page_of_the_dead(count: usize) -> Vec<u8> {
    let mut page = Vec::new();
    for dead in 0..count {
        let id = Identity { node: NodeId(dead as u128 + 1), addr: World::addr(1_000 + dead), generation: 1, boot: 0, left: false };
        encode_update(&Update::new(id, 0, foca::State::Down), &mut page);
    }
    page
}

#[test]
fn a_joiner_that_meets_300_dead_never_shows_them_and_bothers_nobody_with_them() {
    let mut world = World::formed(9, 20);
    let page = page_of_the_dead(300);
    for agent in 0..20 {
        world.with_agent(agent, |membership, now| membership.apply_state(now, &page)).expect("decodes");
    }
    world.run(10 * SECOND);
    let knows_the_dead =
        |world: &World, agent: usize| world.agents[agent].membership.members().filter(|member| !member.is_up()).count() == 300;
    assert!((0..20).all(|agent| knows_the_dead(&world, agent)));
    let joiner = world.start();
    world.agents[joiner].membership.set_seeds(vec![World::addr(0)]);
    world.plan(joiner);
    world.run(SECOND);
    assert!(world.is_whole());
    assert_eq!(world.agents[joiner].membership.members().count(), 20, "unknown until they were asked");
    world.run(10 * SECOND);
    assert!(knows_the_dead(&world, joiner));
    assert_eq!(world.count(joiner, |event| matches!(event, Event::Up(_))), 20, "no dead member came up");
    let verdicts: u64 = world.agents.iter().map(|agent| agent.membership.counters.verdicts).sum();
    assert_eq!(verdicts, 0, "nobody judged the dead again");
}

#[test]
fn hearsay_of_a_death_is_not_believed_of_who_answers() {
    let mut world = World::formed(10, 4);
    // 3 is down in the eyes of 0 only: it is cut from 0, and 0's word is kept from the others.
    world.has_streams = false;
    let pages = {
        let mut liar = World::formed(10, 4);
        liar.kill(3);
        liar.run(20 * SECOND);
        liar.agents[0].membership.state_pages(16_384)
    };
    let joiner = world.start();
    for page in pages {
        world.with_agent(joiner, |membership, now| membership.apply_state(now, &page)).expect("decodes");
    }
    world.run(10 * SECOND);
    assert!(world.is_whole(), "3 lives and everybody agrees");
    assert_eq!(world.renewals()[3], 0);
}

#[test]
fn the_wan_pool_forms_too() {
    let mut world = World::with(11, MembershipConfig::wan());
    world.latency_ns = 20 * MS..120 * MS;
    world.loss = 0.02;
    world.form(8);
    assert!(world.is_whole());
}
