//! New changes: that they reach everyone, how fast, and what it costs.

use super::world::World;
use crate::engine::spread::SpreadConfig;
use crate::model::instance::Instance;

#[test]
fn a_change_reaches_everyone_without_loss_in_one_copy_each() {
    let mut world = World::ready(1, 50);
    world.reset_figures();
    world.register(7, "web", "1");
    let seq = world.seq(7, 7);
    let took = world.run_until(200, |world| (0..50).all(|at| world.seq(at, 7) == seq));
    assert!(took.is_some_and(|ms| ms < 20), "{took:?}");
    world.run_ms(5_000);
    let received: u64 = world.agents.iter().map(|agent| agent.spread.counters.deltas_received).sum();
    assert_eq!(received, 49);
    assert!(world.agents.iter().all(|agent| agent.spread.counters.want_parts_sent == 0));
    assert!(world.is_whole());
}

/// One change among `agents`, with 5 % loss: the time until all have it, and the bytes each received for it.
fn spread_one(world: &mut World, from: usize, id: u32) -> (u64, u64) {
    world.reset_figures();
    world.register(from, "web", &format!("instance-{id}"));
    let (seq, agents) = (world.seq(from, from), world.agents.len());
    let took = world.run_until(20_000, |world| (0..agents).all(|at| world.seq(at, from) == seq)).expect("it arrives");
    world.run_ms(5_000);
    let bytes: u64 = world.agents.iter().map(|agent| agent.bytes).sum();
    (took, bytes / agents as u64)
}

/// `cargo test --release -p tidings --lib --no-default-features figures_of_spread -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn figures_of_spread() {
    for (agents, changes) in [(100, 30), (1_000, 10)] {
        let mut world = World::ready(2, agents);
        world.net.loss = 0.05;
        let mut took = Vec::new();
        let mut bytes = Vec::new();
        for change in 0..changes {
            let (ms, a_node) = spread_one(&mut world, (change * 37) % agents, change as u32);
            took.push(ms);
            bytes.push(a_node);
        }
        let sum = |field: fn(&crate::engine::spread::Counters) -> u64| {
            world.agents.iter().map(|agent| field(&agent.spread.counters)).sum::<u64>() as f64 / agents as f64
        };
        println!(
            "of the last one, an agent sent: {:.2} deltas ({:.0} B), {:.2} adverts ({:.0} B), {:.2} wants ({:.0} B, {:.2} repeated), {:.2} answers ({:.0} B), {:.2} known, {:.2} rode; streams {:.2}, repair {:.2}",
            sum(|c| c.deltas_sent),
            sum(|c| c.delta_bytes_sent),
            sum(|c| c.advert_parts_sent),
            sum(|c| c.advert_bytes_sent),
            sum(|c| c.want_parts_sent),
            sum(|c| c.want_bytes_sent),
            sum(|c| c.wants_repeated),
            sum(|c| c.answers_sent),
            sum(|c| c.answer_bytes_sent),
            sum(|c| c.deltas_known),
            sum(|c| c.adverts_ridden),
            sum(|c| c.streams_opened),
            sum(|c| c.repair_parts_sent)
        );
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        println!(
            "{agents} agents, 5 % loss, {changes} changes: all reached after {} ms (p50), {} ms (p99), {} ms (most); {} B a node and change",
            at(50),
            at(99),
            took[took.len() - 1],
            bytes.iter().sum::<u64>() / bytes.len() as u64
        );
    }
}

#[test]
fn a_record_too_large_for_a_datagram_is_fetched_by_everyone() {
    let mut world = World::ready(3, 30);
    let value = "x".repeat(20_000);
    world.register_as(4, "web", "large", Instance { metadata: vec![("schema".into(), value.into())], ..Instance::default() });
    let seq = world.seq(4, 4);
    let took = world.run_until(10_000, |world| (0..30).all(|at| world.seq(at, 4) == seq));
    assert!(took.is_some_and(|ms| ms < 2_000), "{took:?}");
    // A small one behind it is not held up for long.
    world.register(4, "web", "small");
    let took = world.run_until(10_000, |world| (0..30).all(|at| world.seq(at, 4) == seq + 1));
    assert!(took.is_some_and(|ms| ms < 500), "{took:?}");
}

#[test]
fn a_flood_at_one_agent_starves_nobody_and_stays_within_the_budget() {
    let mut world = World::ready(4, 10);
    world.reset_figures();
    for batch in 0..20 {
        world.register_many(0, "flood", batch * 500..(batch + 1) * 500);
        world.run_ms(5);
    }
    world.register(5, "web", "urgent");
    let seq = world.seq(5, 5);
    let took = world.run_until(5_000, |world| (0..10).all(|at| world.seq(at, 5) == seq));
    assert!(took.is_some_and(|ms| ms < 500), "{took:?}");
    let took = world.run_until(60_000, World::is_whole);
    assert!(took.is_some_and(|ms| ms < 20_000), "{took:?}");
}

#[test]
fn a_deregistration_overtakes_registrations_that_wait() {
    let tight =
        SpreadConfig { bytes_a_second: 50_000, burst_bytes: 4_000, repair_bytes_a_second: 1, repair_burst_bytes: 1, ..SpreadConfig::lan() };
    let mut world = World::ready_with(5, 3, tight);
    world.register(1, "web", "1");
    world.run_ms(2_000);
    world.register_many(0, "flood", 0..300);
    world.run_ms(20);
    world.deregister(1, "web", "1");
    let seq = world.seq(1, 1);
    let took = world.run_until(5_000, |world| (0..3).all(|at| world.seq(at, 1) == seq));
    assert!(took.is_some_and(|ms| ms < 1_000), "{took:?}");
    assert!(!world.is_whole(), "the flood is still on its way");
}

#[test]
fn two_agents_and_an_unsteady_link_end_whole() {
    let mut world = World::ready(6, 2);
    world.net.loss = 0.4;
    for round in 0..200_u32 {
        world.register(round as usize % 2, "web", &format!("{}", round % 30));
        world.run_ms(20);
    }
    let took = world.run_until(30_000, World::is_whole);
    assert!(took.is_some(), "{took:?}");
}

#[test]
fn own_changes_that_cannot_leave_for_long_make_the_agent_refuse_more() {
    let tight = SpreadConfig { bytes_a_second: 500, burst_bytes: 500, ..SpreadConfig::lan() };
    let mut world = World::ready_with(7, 2, tight);
    world.register_many(0, "flood", 0..500);
    world.run_ms(9_000);
    assert_eq!(world.agents[0].spread.congestion(world.now()), None);
    world.run_ms(2_000);
    assert!(world.agents[0].spread.congestion(world.now()).is_some());
}

#[test]
fn an_agent_alone_goes_on_accepting() {
    let tight = SpreadConfig { bytes_a_second: 500, burst_bytes: 500, ..SpreadConfig::lan() };
    let mut world = World::ready_with(7, 1, tight);
    world.register_many(0, "flood", 0..500);
    world.run_ms(20_000);
    assert_eq!(world.agents[0].spread.congestion(world.now()), None);
}
