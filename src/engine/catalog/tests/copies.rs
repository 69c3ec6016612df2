//! Restarts on a copy of what others wrote.

use super::*;
use crate::engine::catalog::copy::{Collector, Copied};
use crate::engine::catalog::liveness::UNVERIFIED_MS_MAX;
use crate::view::Standing;

/// A copy of what an agent holds of others, as its shell makes one.
fn copy_of(agent: &Agent) -> Vec<Copied> {
    let (mut reader, mut collector) = (agent.catalog.copy(), Collector::default());
    while let Some(piece) = reader.next(&agent.catalog, 200) {
        collector.take(piece);
    }
    collector.finish()
}

/// Agent 1 starts again with what its store and its copy hold, and nobody answers it.
fn restarted_alone(world: &World) -> World {
    let disk = Restored { copies: copy_of(&world.agents[1]), ..world.agents[1].disk.clone() };
    World { now: world.now, agents: vec![Agent::start(1, disk, world.now)], tokens: 1_000 }
}

#[test]
fn who_restarts_alone_hands_out_the_copy_unverified_and_not_for_long() {
    let mut world = World::new(2);
    world.register(0, "web", "theirs", 80);
    world.register(0, "both", "theirs", 80);
    world.register(1, "both", "ours", 81);
    world.settle();
    let mut alone = restarted_alone(&world);
    let standing = |world: &mut World, service: &str| -> Vec<(u16, Standing)> {
        let entries = world.entries(0, service);
        entries.iter().map(|entry| (entry.instance().unwrap().1.port.unwrap(), entry.standing)).collect()
    };
    assert_eq!(standing(&mut alone, "web"), [(80, Standing::Unverified)]);
    let mut both = standing(&mut alone, "both");
    both.sort_by_key(|(port, _)| *port);
    assert_eq!(both, [(80, Standing::Hidden), (81, Standing::Available)], "own instances are vouched for");
    alone.wait(UNVERIFIED_MS_MAX);
    assert_eq!(standing(&mut alone, "web"), []);
    assert_eq!(standing(&mut alone, "both"), [(81, Standing::Available)]);
}

#[test]
fn whoever_answers_is_verified_and_repair_goes_on_from_the_copy() {
    let mut world = World::new(2);
    for n in 0..20 {
        world.register(0, "web", &n.to_string(), 80);
    }
    world.settle();
    let copies = copy_of(&world.agents[1]);
    world.deregister(0, "web", "0");
    world.register(0, "web", "new", 80);
    world.restart(1, Restored { copies, ..world.agents[1].disk.clone() });
    assert_eq!(world.tell(0, 1), 0, "a batch from the copy's head is enough");
    assert_eq!(world.entries(1, "web").len(), 20);
    assert!(world.entries(1, "web").iter().all(|entry| entry.standing == Standing::Available));
    world.settle();
    assert_eq!(world.agents[0].catalog.root(), world.agents[1].catalog.root());
}

#[test]
fn an_origin_given_up_since_the_copy_is_told_to_nobody_and_soon_forgotten() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    let copies = copy_of(&world.agents[1]);
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    world.ask(2, Command::Forget(node(0))).unwrap();
    let disk = Restored { copies, ..world.agents[1].disk.clone() };
    let mut living = World { now: world.now, agents: world.agents.split_off(1), tokens: 1_000 };
    living.agents[0] = Agent::start(1, disk, living.now);
    living.agents[0].catalog.on_member(living.now, node(2), Word::Alive);
    assert_eq!(living.entries(0, "web").len(), 1, "nobody said otherwise yet");
    living.settle();
    assert_eq!(living.see(1, "web"), []);
    living.wait(60_000);
    assert_eq!(living.see(0, "web"), []);
}

#[test]
fn a_copy_that_changes_while_it_is_read_is_as_of_its_heads() {
    let mut world = World::new(2);
    for n in 0..20 {
        world.register(0, "web", &n.to_string(), 80);
    }
    world.settle();
    let (mut reader, mut collector) = (world.agents[1].catalog.copy(), Collector::default());
    for n in 0.. {
        let Some(piece) = reader.next(&world.agents[1].catalog, 200) else { break };
        collector.take(piece);
        if n < 10 {
            world.register(0, "web", &n.to_string(), 81);
            world.settle();
        }
    }
    world.restart(1, Restored { copies: collector.finish(), ..world.agents[1].disk.clone() });
    world.settle();
    assert_eq!(world.see(0, "web"), world.see(1, "web"));
    assert_eq!(world.agents[0].catalog.root(), world.agents[1].catalog.root());
}
