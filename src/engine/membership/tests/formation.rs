//! Finding each other.

use super::harness::{SECOND, World};
use crate::engine::membership::Event;

#[test]
fn ten_agents_find_each_other_through_one_seed() {
    let world = World::formed(1, 10);
    assert!(world.is_whole());
    assert_eq!(world.renewals(), vec![0; 10]);
}

#[test]
fn a_dead_agent_is_gone_from_all_views() {
    let mut world = World::formed(2, 10);
    let node = world.node(3);
    world.kill(3);
    let took = world.run_until(10 * SECOND, |world| world.is_gone_everywhere(node)).expect("never detected");
    assert!(took < 5 * SECOND, "{took}");
    assert_eq!(world.count(0, |event| *event == Event::Down(node)), 1);
}
