//! Checks on nodes, checks that remove, and user events.

use super::*;
use crate::model::event::UserEvent;
use crate::model::instance::{Check, CheckKind};
use crate::model::time::WallMs;

fn check(id: &'static str, kind: CheckKind<'static>, state: Health) -> Check<'static> {
    Check {
        id: id.into(),
        name: id.into(),
        notes: "".into(),
        kind,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        passing_after: 1,
        warning_after: 1,
        critical_after: 1,
        state,
        output: "".into(),
        since: WallMs(0),
        remove_after_ms: None,
    }
}

fn ttl(id: &'static str, state: Health) -> Check<'static> {
    check(id, CheckKind::Ttl { ttl_ms: 1_000 }, state)
}

fn set(check: Check<'static>) -> Command {
    Command::SetNodeCheck { node: None, check: Box::new(check) }
}

fn report(id: &str, state: Health) -> Command {
    Command::ReportNode { node: None, report: Some(Report { check: Some(id.into()), state, output: "said".into() }) }
}

fn health(world: &mut World, at: usize) -> Health {
    world.entries(at, "web")[0].health
}

#[test]
fn the_worst_check_of_a_node_is_the_best_its_instances_can_be() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    let before = world.view(0).nodes_revision;
    world.write(0, set(ttl("disk", Health::Passing)));
    world.write(0, report("disk", Health::Critical));
    assert!(world.view(0).nodes_revision > before);
    world.settle();
    for at in 0..2 {
        assert_eq!(health(&mut world, at), Health::Critical);
        assert!(!world.entries(at, "web")[0].is_available());
        let view = world.view(at);
        assert_eq!(view.node("n0").unwrap().checks[0].output.as_str(), "said");
    }
    assert_eq!(world.write(0, set(ttl("disk", Health::Passing))), WriteResult::Unchanged, "set again, it says what it found");
    assert_eq!(health(&mut world, 0), Health::Critical);
}

#[test]
fn a_check_set_again_as_it_was_keeps_what_it_found() {
    let mut world = World::new(1);
    let tcp = || check("port", CheckKind::Tcp { address: "127.0.0.1:1".into() }, Health::Critical);
    world.register(0, "web", "1", 80);
    world.write(0, set(tcp()));
    let found = Command::NodeCheckResult { check: "port".into(), state: Health::Passing, output: "open".into() };
    assert_eq!(world.write(0, found.clone()), WriteResult::Updated);
    assert_eq!(world.write(0, found), WriteResult::Unchanged);
    assert_eq!(world.write(0, set(tcp())), WriteResult::Unchanged);
    assert_eq!(health(&mut world, 0), Health::Passing);
    assert_eq!(world.write(0, Command::RemoveNodeCheck { node: None, check: "port".into() }), WriteResult::Removed);
    assert_eq!(world.write(0, Command::RemoveNodeCheck { node: None, check: "port".into() }), WriteResult::Absent);
}

#[test]
fn a_nodes_ttl_check_that_hears_nothing_is_critical_and_survives_a_restart() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.write(0, set(ttl("a", Health::Passing)));
    world.wait(600);
    world.write(0, set(ttl("b", Health::Passing)));
    world.wait(300);
    assert_eq!(health(&mut world, 0), Health::Passing);
    world.write(0, report("b", Health::Passing));
    world.wait(101);
    assert_eq!(health(&mut world, 0), Health::Critical, "the other check gives no new time to this one");
    world.write(0, report("a", Health::Passing));
    assert_eq!(health(&mut world, 0), Health::Passing);
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.wait(999);
    assert_eq!(health(&mut world, 0), Health::Passing, "one whole TTL after a restart");
    world.wait(2);
    assert_eq!(health(&mut world, 0), Health::Critical);
    assert_eq!(world.view(0).node("n0").unwrap().checks.len(), 2);
    world.write(0, Command::ReportNode { node: None, report: None });
    assert_eq!(health(&mut world, 0), Health::Passing, "a sign of life is one for all that is silent");
    let other = Command::SetNodeCheck { node: Some(NodeName::new("n1").unwrap()), check: Box::new(ttl("x", Health::Passing)) };
    world.settle();
    assert!(matches!(world.ask(0, other), Err(Refusal::Invalid { .. })), "another agent's node is its own to check");
}

fn removing(state: Health) -> Command {
    let mut checked = registration("web", "1", 80);
    checked.instance.checks =
        vec![Check { remove_after_ms: Some(60_000), ..check("tcp", CheckKind::Tcp { address: "a:1".into() }, state) }];
    Command::Register(Box::new(checked))
}

fn found(state: Health) -> Command {
    Command::CheckResult { target: target("web", "1"), check: "tcp".into(), state, output: "out".into() }
}

#[test]
fn an_instance_goes_when_its_check_was_critical_for_too_long_without_a_break() {
    let mut world = World::new(2);
    world.write(0, removing(Health::Passing));
    world.wait(HOUR_MS);
    world.write(0, found(Health::Critical));
    world.wait(59_000);
    world.write(0, found(Health::Passing));
    world.wait(HOUR_MS);
    assert_eq!(world.see(0, "web").len(), 1, "it was well in time");
    world.write(0, found(Health::Critical));
    world.wait(30_000);
    assert_eq!(world.write(0, removing(Health::Critical)), WriteResult::Unchanged, "registering again is no break");
    world.wait(29_999);
    assert_eq!(world.see(0, "web").len(), 1);
    world.wait(2);
    assert_eq!(world.see(0, "web"), []);
    world.settle();
    assert_eq!(world.see(1, "web"), []);
}

#[test]
fn a_restarted_agent_first_finds_out_what_is_still_critical() {
    let mut world = World::new(1);
    world.write(0, removing(Health::Critical));
    world.wait(59_000);
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.wait(59_000);
    assert_eq!(world.see(0, "web").len(), 1);
    world.wait(1_001);
    assert_eq!(world.see(0, "web"), []);
}

#[test]
fn a_silent_ttl_check_removes_its_instance_too() {
    let mut world = World::new(1);
    let mut checked = registration("web", "1", 80);
    checked.instance.checks = vec![Check { remove_after_ms: Some(60_000), ..ttl("beat", Health::Passing) }];
    world.write(0, Command::Register(Box::new(checked)));
    world.wait(1_000 + 59_999);
    assert_eq!(world.see(0, "web").len(), 1);
    world.wait(2);
    assert_eq!(world.see(0, "web"), []);
}

fn fire(n: u128) -> Command {
    Command::FireEvent(Box::new(UserEvent { uuid: n, name: "deploy".into(), payload: vec![n as u8], ..UserEvent::default() }))
}

fn fired(world: &mut World, at: usize) -> Vec<u128> {
    world.view(at).user_events.iter().map(|fired| fired.event.uuid).collect()
}

#[test]
fn events_come_in_order_everywhere_and_take_no_more_than_their_ring() {
    let mut world = World::new(6);
    for n in 0..130 {
        world.write(0, fire(n));
    }
    world.settle();
    let newest: Vec<u128> = (66..130).collect();
    for at in 0..6 {
        assert_eq!(fired(&mut world, at), newest);
    }
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.wait(1_000);
    world.write(0, fire(130));
    assert_eq!(fired(&mut world, 0), (67..131).collect::<Vec<_>>(), "a restart goes on in the ring");
    for at in 1..6 {
        for n in 0..64 {
            world.wait(1);
            world.write(at, fire(1_000 * at as u128 + n));
        }
    }
    world.settle();
    let expected = fired(&mut world, 0);
    assert_eq!(expected.len(), 256);
    assert_eq!(expected[0], 2_000, "the newest 256 of all agents, oldest first");
    for at in 1..6 {
        assert_eq!(fired(&mut world, at), expected);
    }
    let large = Command::FireEvent(Box::new(UserEvent { payload: vec![0; 16 * 1024 + 1], ..UserEvent::default() }));
    assert_eq!(world.ask(0, large), Err(Refusal::TooLarge { bytes: 16_385, bytes_max: 16_384 }));
}
