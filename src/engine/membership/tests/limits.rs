//! Bounds, bad input, equal outputs for equal inputs.

use super::harness::{MS, SECOND, World};
use crate::engine::membership::codec::{IDENTITY_BYTES_MAX, Packet, encode_identity};
use crate::engine::membership::identity::Identity;
use crate::engine::membership::{Effect, Me, Membership, MembershipConfig, PacketRefused};
use crate::model::names::NodeId;
use crate::model::time::Now;
use proptest::prelude::*;

const NOW: Now = Now { ns: 1_000_000_000, wall_ms: 0 };

fn membership() -> Membership {
    let me = Me { node: NodeId(1), addr: World::addr(1), generation: 1, boot: 1 };
    Membership::new(MembershipConfig::lan(), me, [1; 32], NOW)
}

#[test]
fn an_identity_takes_at_most_forty_bytes() {
    for (addr, bytes) in [("10.0.0.1:7000", 28), ("[2001:db8::1]:7000", IDENTITY_BYTES_MAX)] {
        let id = Identity { node: NodeId(u128::MAX), addr: addr.parse().unwrap(), generation: u32::MAX, boot: 0x7fff, left: false };
        let mut buf = Vec::new();
        encode_identity(&id, &mut buf);
        assert_eq!(buf.len(), bytes);
    }
    assert_eq!(IDENTITY_BYTES_MAX, 40);
}

#[test]
fn equal_inputs_and_seed_give_equal_outputs() {
    let trace = |seed| {
        let mut world = World::formed(seed, 12);
        world.loss = 0.1;
        world.kill(3);
        world.run(20 * SECOND);
        let events: Vec<_> = world.agents.iter().map(|agent| agent.events.clone()).collect();
        let counters: Vec<_> = world.agents.iter().map(|agent| agent.membership.counters).collect();
        (events, counters)
    };
    assert_eq!(trace(130), trace(130));
    assert_ne!(trace(130), trace(131));
}

#[test]
fn a_down_member_can_be_forgotten_and_a_living_one_cannot() {
    let mut world = World::formed(132, 4);
    let node = world.node(3);
    assert!(!world.agents[0].membership.forget(node));
    world.kill(3);
    world.run(10 * SECOND);
    assert!(world.agents[0].membership.forget(node));
    assert!(world.agents[0].membership.member(node).is_none());
    assert!(!world.agents[0].membership.forget(node));
    world.run(SECOND);
}

#[test]
fn the_dead_are_remembered_longer_than_reaping_and_then_forgotten() {
    let mut world = World::with(133, MembershipConfig { remember_down_ms: 600_000, ..MembershipConfig::lan() });
    world.form(3);
    let node = world.node(2);
    world.kill(2);
    world.run(500 * SECOND);
    assert!(world.agents[0].membership.member(node).is_some());
    world.run(200 * SECOND);
    assert!(world.agents[0].membership.member(node).is_none());
    let reaping_ms = 72 * 3_600_000;
    assert!(MembershipConfig::lan().remember_down_ms > reaping_ms);
}

#[test]
fn tables_stay_within_their_limits_and_count_what_they_refuse() {
    let config = MembershipConfig { members_max: 5, down_max: 2, addresses_max: 4, ..MembershipConfig::lan() };
    let mut world = World::with(134, config);
    for _ in 0..9 {
        let agent = world.start();
        world.agents[agent].membership.set_seeds((0..9).map(World::addr).collect());
        world.plan(agent);
    }
    world.run(30 * SECOND);
    for agent in &world.agents {
        assert!(agent.membership.members().count() <= 5);
        assert!(agent.membership.counters.dropped_addresses_full >= 5);
    }
    assert!(world.agents.iter().any(|agent| agent.membership.counters.dropped_members_full > 0));
    for dead in 5..9 {
        world.kill(dead);
    }
    world.run(200 * SECOND);
    for agent in world.living().collect::<Vec<_>>() {
        let down = world.agents[agent].membership.members().filter(|member| !member.is_up()).count();
        assert!(down <= 2, "{down}");
    }
}

#[test]
fn a_packet_that_is_cut_short_changes_nothing_and_is_counted() {
    let mut world = World::formed(135, 3);
    world.with_agent(0, |membership, now| membership.join(now, World::addr(77)));
    let body = {
        let mut alone = membership();
        alone.join(NOW, World::addr(0));
        let Some(Effect::Send { body, .. }) = alone.poll() else { panic!("no announcement") };
        body
    };
    for len in 0..body.len() {
        let refused = world.with_agent(0, |membership, now| membership.handle_packet(now, World::addr(1), &body[..len]));
        assert!(matches!(refused, Err(PacketRefused::Malformed(_))), "{len}");
    }
    assert_eq!(world.agents[0].membership.counters.dropped_malformed, body.len() as u64);
    assert_eq!(world.agents[0].membership.members().count(), 2);
}

#[test]
fn an_announcement_that_comes_back_is_no_member() {
    let mut alone = membership();
    alone.join(NOW, World::addr(50));
    let Some(Effect::Send { body, .. }) = alone.poll() else { panic!("no announcement") };
    assert_eq!(alone.handle_packet(NOW, World::addr(1), &body), Err(PacketRefused::Reflected));
    assert_eq!(alone.alive(), 1);
}

#[test]
fn idle_agents_say_little() {
    let mut world = World::formed(136, 10);
    world.run(30 * SECOND);
    let before: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
    world.run(60 * SECOND);
    let after: u64 = world.agents.iter().map(|agent| agent.bytes_received).sum();
    let per_second = (after - before) / 10 / 60;
    assert!(per_second < 1_500, "{per_second} bytes a node and second");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut membership = membership();
        let _ = membership.handle_packet(NOW, World::addr(9), &bytes);
        let _ = membership.apply_state(NOW, &bytes);
    }

    #[test]
    fn mutated_packets_make_nothing_panic(at in 0usize..1_000, to in any::<u8>(), turns in 1u64..20) {
        let mut world = World::new(137);
        let agents = [world.start(), world.start(), world.start()];
        for agent in agents {
            world.agents[agent].membership.set_seeds(vec![World::addr(0), World::addr(1)]);
            world.plan(agent);
        }
        world.run(turns * 100 * MS);
        world.mutate_packets(at, to);
        world.run(5 * SECOND);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 60..300)) {
        if let Ok(packet) = Packet::decode(&bytes) {
            let again = packet.encode();
            let twice = Packet::decode(&again).expect("own bytes decode").encode();
            prop_assert_eq!(again, twice);
        }
    }
}
