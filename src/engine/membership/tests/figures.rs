//! Figures, not checks: `cargo test --release -p tidings --lib --no-default-features membership::tests::figures -- --ignored --nocapture`.

#![allow(clippy::disallowed_methods)] // measures real time

use super::harness::{MS, SECOND, World};
use crate::engine::membership::Event;

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)] / MS
}

fn detection(count: usize, loss: f64, trials: usize) {
    let mut world = World::formed(200 + count as u64, count);
    world.loss = loss;
    let mut times = Vec::new();
    let mut false_downs = 0;
    for trial in 0..trials {
        world.run(7 * SECOND + (trial as u64 * 37 % 300) * MS);
        world.forget_events();
        let victim = world.living().nth(trial * 7 % count).expect("some live");
        let (node, addr, generation) = (world.node(victim), world.agents[victim].addr, world.agents[victim].membership.me().generation);
        world.kill(victim);
        match world.run_until(30 * SECOND, |world| world.is_gone_everywhere(node)) {
            Some(took) => times.push(took),
            None => println!("  not detected within 30 s"),
        }
        for agent in world.living().collect::<Vec<_>>() {
            false_downs += world.count(agent, |event| matches!(event, Event::Down(down) if *down != node));
        }
        let again = world.start_as(node, addr, generation + 1);
        world.agents[again].membership.set_seeds(vec![World::addr(0), World::addr(1), World::addr(2)]);
        world.plan(again);
        world.run_until(60 * SECOND, World::is_whole).expect("whole again");
    }
    times.sort_unstable();
    println!(
        "{count} agents, {} % loss, {} kills: p50 {} p90 {} p98 {} max {} ms; false downs {false_downs}; renewals {}",
        loss * 100.0,
        times.len(),
        percentile(&times, 50),
        percentile(&times, 90),
        percentile(&times, 98),
        percentile(&times, 100),
        world.renewals().iter().sum::<u64>(),
    );
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn detection_times() {
    for loss in [0.0, 0.05] {
        detection(10, loss, 200);
        detection(100, loss, 60);
        detection(1_000, loss, 15);
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn calm_with_loss() {
    for (count, seconds) in [(10, 7_200), (100, 1_200)] {
        let mut world = World::formed(300, count);
        world.loss = 0.05;
        let before: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
        world.run(seconds * SECOND);
        let after: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
        let downs: usize = (0..count).map(|agent| world.count(agent, |event| matches!(event, Event::Down(_)))).sum();
        let suspected: usize = (0..count).map(|agent| world.count(agent, |event| matches!(event, Event::Suspected(_)))).sum();
        println!(
            "{count} agents, {seconds} s, 5 % loss: {downs} false downs, {suspected} suspicions seen, {} renewals, {} B a node and second",
            world.renewals().iter().sum::<u64>(),
            (after - before) / count as u64 / seconds
        );
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn idle_bytes() {
    for count in [2, 10, 100, 1_000] {
        let mut world = World::formed(301, count);
        world.run(30 * SECOND);
        let before: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
        let packets_before: u64 = world.agents.iter().map(|agent| agent.membership.counters.packets_received).sum();
        world.run(30 * SECOND);
        let after: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
        let packets: u64 = world.agents.iter().map(|agent| agent.membership.counters.packets_received).sum();
        println!(
            "{count} agents idle: {} B and {:.1} packets received a node and second, sealing, IP and UDP included",
            (after - before) / count as u64 / 30,
            (packets - packets_before) as f64 / count as f64 / 30.0
        );
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn a_dead_rack() {
    for seed in 50..54 {
        let mut world = World::formed(seed, 30);
        for dead in 0..9 {
            world.kill(dead);
        }
        let took = world.run_until(30 * SECOND, World::is_whole).expect("the dead stay");
        println!("30 agents, 9 die at once: gone after {} ms", took / MS);
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn joining_a_thousand() {
    let mut world = World::new(302);
    let start = std::time::Instant::now();
    world.form(1_000);
    println!("1000 agents started at once through one seed: {} s of work for all of them", start.elapsed().as_secs());
    let joiner = world.start();
    world.agents[joiner].membership.set_seeds(vec![World::addr(17)]);
    world.plan(joiner);
    let took = world.run_until(10 * SECOND, World::is_whole).expect("unknown");
    println!("a joiner knows 1000 members, and they know it, after {} ms", took / MS);
    let pages = world.agents[0].membership.state_pages(16_384);
    let mut fresh = World::new(303);
    let agent = fresh.start();
    let start = std::time::Instant::now();
    for page in &pages {
        fresh.with_agent(agent, |membership, now| membership.apply_state(now, page)).expect("decodes");
    }
    println!("{} pages of state applied in {} us", pages.len(), start.elapsed().as_micros());
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn healing_times() {
    for (count, left) in [(2, 1), (3, 1), (10, 1), (10, 4), (60, 20), (100, 1), (100, 50), (100, 30)] {
        for seconds in [20, 600] {
            let mut world = World::formed(310, count);
            let (a, b): (Vec<usize>, Vec<usize>) = (0..count).partition(|agent| *agent < left);
            world.split(&a, &b);
            world.run(seconds * SECOND);
            world.heal();
            let took = world.run_until(130 * SECOND, World::is_whole).map(|took| took / MS);
            let renewals = world.renewals();
            println!(
                "{left} of {count} cut {seconds} s: whole {took:?} ms after healing; {} of {left} and {} of {} renewed; {} streams",
                renewals[..left].iter().filter(|count| **count > 0).count(),
                renewals[left..].iter().filter(|count| **count > 0).count(),
                count - left,
                world.streams
            );
        }
    }
}
