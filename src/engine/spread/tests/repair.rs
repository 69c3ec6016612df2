//! Repair: that what was lost is found, with how little, and that nothing is looked for where nothing is missing.

use super::world::{World, everything};

fn exchanges(world: &World) -> u64 {
    world.agents.iter().map(|agent| agent.spread.counters.exchanges).sum()
}

fn in_vain(world: &World) -> u64 {
    world.agents.iter().map(|agent| agent.spread.counters.exchanges_in_vain).sum()
}

fn streams(world: &World) -> u64 {
    world.agents.iter().map(|agent| agent.spread.counters.streams_opened).sum()
}

#[test]
fn what_was_lost_is_found_by_one_sketch_and_then_there_is_silence() {
    let mut world = World::ready(1, 30);
    world.net.part(0..1, 1..30);
    for at in [3, 9, 17] {
        world.register(at, "web", &format!("{at}"));
    }
    // Long enough that nothing rides any more.
    world.run_ms(6_000);
    assert!(!world.is_whole());
    world.net.cuts.clear();
    world.reset_figures();
    let took = world.run_until(30_000, World::is_whole);
    assert!(took.is_some_and(|ms| ms < 8_000), "{took:?}");
    assert!(exchanges(&world) >= 1);
    assert_eq!((in_vain(&world), streams(&world)), (0, 0));
    world.run_ms(10_000);
    world.reset_figures();
    world.run_ms(60_000);
    assert_eq!(world.agents.iter().map(|agent| agent.datagrams).sum::<u64>(), 0, "nothing is sent when nothing happens");
}

#[test]
fn more_than_a_sketch_holds_is_found_by_a_larger_one_and_still_more_by_pages() {
    for changed in [40, 150] {
        let mut world = World::ready(2, 160);
        world.net.part(0..1, 1..160);
        for at in 1..=changed {
            world.register(at, "web", &format!("{at}"));
        }
        world.run_ms(8_000);
        world.net.cuts.clear();
        world.reset_figures();
        let took = world.run_until(60_000, World::is_whole);
        assert!(took.is_some_and(|ms| ms < 15_000), "{changed}: {took:?}");
    }
}

#[test]
fn halves_that_were_apart_become_one() {
    let mut world = World::ready(3, 20);
    world.net.part(0..10, 10..20);
    for at in 0..20 {
        world.register_many(at, "web", (at as u32 * 100)..(at as u32 * 100 + 60));
    }
    world.run_ms(8_000);
    world.net.cuts.clear();
    let took = world.run_until(60_000, World::is_whole);
    assert!(took.is_some_and(|ms| ms < 15_000), "{took:?}");
    for at in 1..20 {
        assert!(everything(&world, at) == everything(&world, 0));
    }
}

#[test]
fn changes_on_their_way_are_not_mistaken_for_differences() {
    let mut world = World::ready(4, 50);
    for round in 0..120_u32 {
        world.register(round as usize % 50, "web", &format!("{round}"));
        world.run_ms(500);
    }
    world.run_ms(5_000);
    assert_eq!(exchanges(&world), 0);
}

#[test]
fn a_difference_is_found_while_everything_changes() {
    let mut world = World::ready(5, 20);
    world.net.part(0..1, 1..20);
    world.register(13, "quiet", "1");
    world.run_ms(6_000);
    world.net.cuts.clear();
    let (quiet, seq) = (13, world.seq(13, 13));
    let mut took = None;
    for round in 0..6_000_u32 {
        let at = 1 + round as usize % 12;
        world.register(at, "busy", &format!("{round}"));
        world.run_ms(10);
        if world.seq(0, quiet) == seq {
            took = Some(round * 10);
            break;
        }
    }
    assert!(took.is_some_and(|ms| ms < 30_000), "{took:?}");
}

/// What looking for differences costs where there are none.
#[test]
fn exchanges_that_find_nothing_are_few_among_a_hundred_changes_a_second() {
    let mut world = World::ready(6, 50);
    world.net.loss = 0.05;
    for round in 0..6_000_u32 {
        world.register(round as usize % 50, "busy", &format!("{}", round % 500));
        world.run_ms(10);
    }
    let vain = in_vain(&world);
    assert!(vain * 100 < 6_000, "{vain} exchanges in vain for 6,000 changes");
}
