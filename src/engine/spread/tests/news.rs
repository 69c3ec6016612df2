//! New changes: that they reach everyone, how fast, and what it costs.

use super::world::World;

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
#[ignore = "measures"]
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
