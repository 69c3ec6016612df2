//! Joining: who gets what from whom over a stream, and when an agent is ready.

use super::world::{World, everything};
use crate::engine::spread::SpreadConfig;

fn cold(seed: u64, count: usize) -> World {
    let mut world = World::new(seed, SpreadConfig::lan());
    for _ in 0..count {
        world.start();
    }
    world
}

#[test]
fn a_joiner_gets_everything_from_one_member_and_is_ready() {
    let mut world = World::ready(1, 5);
    for at in 0..5 {
        world.register_many(at, "web", 0..200);
    }
    world.run_ms(3_000);
    world.config.settle_ms = 5_000;
    let joiner = world.start();
    world.register(joiner, "web", "of the joiner");
    world.introduce(joiner, &[2]);
    let took = world.run_until(2_000, |world| world.agents[joiner].spread.is_ready());
    assert!(took.is_some_and(|ms| ms < 100), "{took:?}");
    world.run_ms(1_000);
    for at in 0..5 {
        assert_eq!(world.agents[joiner].catalog.sum(world.agents[at].id), world.agents[at].catalog.sum(world.agents[at].id));
        assert!(world.agents[joiner].members.member(world.agents[at].id).is_some(), "the whole membership came along");
    }
    assert_eq!(world.seq(2, joiner), world.seq(joiner, joiner), "and it gave what it had");
}

#[test]
fn agents_that_all_start_cold_are_ready_within_ten_seconds_and_not_before_they_looked_around() {
    let mut world = cold(2, 6);
    for at in 0..6 {
        world.register(at, "web", &format!("{at}"));
    }
    world.introduce_all();
    world.run_ms(4_900);
    assert!(world.agents.iter().all(|agent| !agent.spread.is_ready() && agent.spread.roots(&agent.catalog).is_none()));
    let took = world.run_until(5_100, |world| world.agents.iter().all(|agent| agent.spread.is_ready()));
    assert!(took.is_some());
    assert!(world.is_whole());
}

#[test]
fn a_hundred_agents_that_start_cold_are_ready_within_ten_seconds() {
    let mut world = cold(9, 100);
    world.introduce_all();
    let took = world.run_until(10_000, |world| world.agents.iter().all(|agent| agent.spread.is_ready()));
    assert!(took.is_some(), "{} are", world.agents.iter().filter(|agent| agent.spread.is_ready()).count());
    let streams: u64 = world.agents.iter().map(|agent| agent.spread.counters.streams_opened).sum();
    assert!(streams < 6_000, "{streams} streams");
    world.run_ms(10_000);
    assert!(world.is_whole());
}

#[test]
fn an_agent_alone_is_ready_when_it_has_waited() {
    let mut world = cold(3, 1);
    world.run_ms(4_900);
    assert!(!world.agents[0].spread.is_ready());
    world.run_ms(200);
    assert!(world.agents[0].spread.is_ready());
}

#[test]
fn a_member_that_never_answers_does_not_keep_the_others_from_being_ready() {
    let mut world = cold(4, 4);
    world.introduce_all();
    world.agents[3].is_up = false;
    let took = world.run_until(15_000, |world| world.agents[..3].iter().all(|agent| agent.spread.is_ready()));
    assert!(took.is_some_and(|ms| ms < 10_000), "{took:?}");
}

#[test]
fn many_joiners_at_one_sponsor_take_turns() {
    let mut world = World::ready(5, 1);
    world.register_many(0, "web", 0..500);
    world.config.settle_ms = 60_000;
    let joiners: Vec<usize> = (0..12).map(|_| world.start()).collect();
    for joiner in &joiners {
        world.introduce(*joiner, &[0]);
    }
    let took = world.run_until(20_000, |world| joiners.iter().all(|joiner| world.agents[*joiner].spread.is_ready()));
    assert!(took.is_some(), "{:?}", world.agents.iter().map(|agent| agent.spread.is_ready()).collect::<Vec<_>>());
    world.run_ms(5_000);
    assert!(world.is_whole());
}

#[test]
fn changes_during_a_slow_snapshot_end_in_the_same_map() {
    let mut world = World::ready(6, 3);
    world.register_many(0, "web", 0..3_000);
    // Deletes that are forgotten: only a snapshot can tell of what is left.
    for id in 0..50 {
        world.deregister(0, "web", &format!("{id}"));
    }
    world.run_ms(700_000);
    world.net.stream_rate = 20_000;
    world.config.settle_ms = 3_600_000;
    let joiner = world.start();
    world.introduce(joiner, &[1]);
    for round in 0..40_u32 {
        world.run_ms(250);
        world.deregister(0, "web", &format!("{}", 100 + round));
        world.register(0, "web", &format!("{}", 2_000 - round));
        world.register(0, "db", &format!("{round}"));
    }
    let took = world.run_until(600_000, |world| world.agents[joiner].spread.is_ready());
    assert!(took.is_some());
    world.net.stream_rate = 1 << 30;
    world.run_ms(10_000);
    assert!(world.agents[joiner].spread.counters.snapshots_received > 0);
    assert!(everything(&world, joiner) == everything(&world, 1));
}

#[test]
fn a_snapshot_that_takes_longer_than_tombstones_are_kept_brings_nothing_deleted_back() {
    let config = SpreadConfig { chunk_bytes: 1_024, stream_bytes_max: 512, ..SpreadConfig::lan() };
    let mut world = World::ready_with(7, 2, config);
    world.register_many(0, "web", 0..2_000);
    world.deregister(0, "web", "0");
    world.run_ms(700_000);
    world.net.stream_rate = 60;
    world.config.settle_ms = 36_000_000;
    let joiner = world.start();
    world.introduce(joiner, &[1]);
    // The joiner hears nothing but the stream.
    world.net.part(0..1, joiner..joiner + 1);
    for id in 1..120 {
        world.run_ms(1_000);
        world.deregister(0, "web", &format!("{id}"));
    }
    let took = world.run_until(3_600_000, |world| world.agents[joiner].spread.is_ready()).expect("it ends");
    assert!(took > 600_000, "{took} ms: too fast to show anything");
    world.net.cuts.clear();
    world.net.stream_rate = 1 << 30;
    world.run_ms(20_000);
    // The second knows all three; the first never met the joiner.
    assert!(everything(&world, joiner) == everything(&world, 1));
}

#[test]
fn a_stream_that_breaks_is_resumed_elsewhere_without_what_came_already() {
    let mut world = World::ready(8, 4);
    for at in 0..4 {
        world.register_many(at, "web", (at as u32 * 1_000)..(at as u32 * 1_000 + 500));
    }
    world.run_ms(3_000);
    world.net.stream_rate = 10_000;
    world.config.settle_ms = 3_600_000;
    let joiner = world.start();
    world.introduce(joiner, &[1]);
    world.run_ms(1_500);
    let has = |world: &World| {
        (0..4)
            .filter(|at| world.agents[joiner].catalog.sum(world.agents[*at].id) == world.agents[*at].catalog.sum(world.agents[*at].id))
            .count()
    };
    let before = has(&world);
    assert!((1..4).contains(&before), "{before} of 4");
    let bytes = world.stream_bytes;
    world.agents[1].is_up = false;
    world.break_streams_of(1);
    world.lose(joiner, 1);
    let took = world.run_until(60_000, |world| world.agents[joiner].spread.is_ready());
    assert!(took.is_some());
    assert_eq!(has(&world), 4);
    assert!(world.stream_bytes - bytes < 3 * bytes, "{} then {}", bytes, world.stream_bytes - bytes);
}

#[test]
fn who_becomes_ready_in_the_middle_of_an_exchange_does_not_make_the_other_ready() {
    for seed in 0..40 {
        let mut world = World::ready(seed, 1);
        world.register_many(0, "web", 0..40);
        world.config.settle_ms = 60_000;
        let joiners = [world.start(), world.start()];
        world.introduce(joiners[0], &[0]);
        world.introduce(joiners[1], &[joiners[0]]);
        for _ in 0..2_000 {
            world.run_ms(1);
            for joiner in joiners.iter().filter(|joiner| world.agents[**joiner].spread.is_ready()) {
                assert_eq!(world.seq(*joiner, 0), world.seq(0, 0), "seed {seed}: ready, and it knows less than a ready one told");
            }
        }
        assert!(joiners.iter().all(|joiner| world.agents[*joiner].spread.is_ready()), "seed {seed}");
    }
}
