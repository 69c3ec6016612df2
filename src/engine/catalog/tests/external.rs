//! External nodes: no agent answers for them, so no agent's death touches them.

use super::*;
use crate::model::instance::{Check, CheckKind};
use crate::model::node::NodeInfo;
use crate::model::time::WallMs;

fn info(address: &str) -> NodeInfo<'static> {
    let host = host("unused").info;
    NodeInfo { address: address.to_owned().into(), metadata: vec![("external-node".into(), "true".into())], ..host }
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn register_node(address: &str) -> Command {
    Command::RegisterNode { name: node_name("db-1"), info: Box::new(info(address)) }
}

fn deregister_node() -> Command {
    Command::DeregisterNode { name: node_name("db-1") }
}

fn on_it(id: &str) -> Registration {
    Registration { scope: Scope::Node("db-1".into()), ..registration("db", id, 5432) }
}

fn register(id: &str) -> Command {
    Command::Register(Box::new(on_it(id)))
}

fn check(state: Health) -> Check<'static> {
    Check {
        id: "ping".into(),
        name: "ping".into(),
        notes: "".into(),
        kind: CheckKind::Ttl { ttl_ms: 1_000 },
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

#[test]
fn instances_are_shown_with_the_node_they_are_on() {
    let mut world = World::new(2);
    assert!(matches!(world.ask(0, register("1")), Err(Refusal::NotFound { .. })), "the node comes first");
    assert_eq!(world.write(0, register_node("192.0.2.1")), WriteResult::Created);
    assert_eq!(world.write(0, register("1")), WriteResult::Created);
    world.settle();
    assert_eq!(world.write(1, register_node("192.0.2.1")), WriteResult::Unchanged);
    let entry = &world.entries(1, "db")[0];
    assert!(entry.node.is_external && entry.is_available());
    assert_eq!((entry.node.name.as_str(), entry.node.address.as_str()), ("db-1", "192.0.2.1"));
    assert_eq!(entry.node.metadata, [("external-node".to_owned(), "true".to_owned())]);
    let revision = world.view(1).nodes_revision;
    world.wait(5);
    assert_eq!(world.write(1, register_node("192.0.2.2")), WriteResult::Updated);
    world.settle();
    for at in 0..2 {
        assert_eq!(world.entries(at, "db")[0].node.address, "192.0.2.2");
        let names: Vec<String> = world.view(at).nodes.iter().map(|node| node.name.clone()).collect();
        assert_eq!(names, ["db-1", "n0", "n1"]);
    }
    assert!(world.view(1).nodes_revision > revision);
}

#[test]
fn they_live_until_they_are_deregistered_whatever_becomes_of_their_origin() {
    let mut world = World::new(3);
    world.write(0, register_node("192.0.2.1"));
    world.write(0, register("1"));
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
        assert!(world.entries(at, "db")[0].is_available(), "its origin is down: nobody asked it");
    }
    world.wait(2 * HOUR_MS);
    assert!(world.entries(1, "db")[0].is_available(), "and no longer listed");
    world.ask(1, Command::Forget(node(0))).unwrap();
    assert!(world.entries(1, "db")[0].is_available(), "who gives the origin up issues it anew at once");
    world.wait(30_000);
    for (from, to) in [(1, 2), (2, 1)] {
        world.tell(from, to);
    }
    for at in 1..3 {
        assert!(world.agents[at].catalog.head(node(0)).unwrap().flags.reaped.is_some());
        assert!(world.entries(at, "db")[0].is_available());
    }
    assert_eq!(world.write(2, deregister_node()), WriteResult::Removed);
    assert_eq!(world.entries(2, "db").len(), 0);
    world.wait(1);
    world.tell(2, 1);
    assert_eq!(world.entries(1, "db").len(), 0, "deregistered at another agent: gone");
    assert!(world.view(1).node("db-1").is_none());
    world.wait(5);
    world.write(1, register_node("192.0.2.1"));
    assert_eq!(world.entries(1, "db").len(), 0, "the new node is a new one");
}

#[test]
fn what_was_registered_while_the_node_ended_elsewhere_goes_with_it() {
    let mut world = World::new(2);
    world.write(0, register_node("192.0.2.1"));
    world.settle();
    world.write(1, register("late"));
    world.write(0, deregister_node());
    world.wait(5);
    world.write(0, register_node("192.0.2.9"));
    world.write(0, deregister_node());
    world.settle();
    world.wait(1);
    world.settle();
    world.wait(5);
    world.write(0, register_node("192.0.2.9"));
    world.settle();
    for at in 0..2 {
        assert_eq!(world.entries(at, "db").len(), 0);
    }
}

#[test]
fn leaving_takes_nothing_external_along() {
    let mut world = World::new(2);
    world.write(0, register_node("192.0.2.1"));
    world.write(0, register("1"));
    world.ask(0, Command::Leave).unwrap();
    world.tell(0, 1);
    world.agents[1].catalog.on_member(world.now, node(0), Word::Left);
    assert!(world.entries(1, "db")[0].is_available());
}

#[test]
fn any_agent_says_how_they_are_and_no_timer_does() {
    let mut world = World::new(2);
    let mut node = info("192.0.2.1");
    node.checks = vec![check(Health::Passing)];
    let name = node_name("db-1");
    world.write(0, Command::RegisterNode { name: name.clone(), info: Box::new(node) });
    let mut checked = on_it("1");
    checked.instance.checks = vec![check(Health::Passing)];
    world.write(0, Command::Register(Box::new(checked.clone())));
    world.wait(HOUR_MS);
    world.settle();
    assert_eq!(world.entries(1, "db")[0].health, Health::Passing, "nobody is there to be silent");
    checked.instance.checks = vec![check(Health::Critical)];
    assert_eq!(world.write(1, Command::Register(Box::new(checked.clone()))), WriteResult::Updated, "the word of a client counts");
    world.settle();
    assert_eq!(world.entries(0, "db")[0].health, Health::Critical);
    checked.instance.checks = vec![check(Health::Passing)];
    world.wait(5);
    world.write(1, Command::Register(Box::new(checked)));
    assert_eq!(world.entries(1, "db")[0].health, Health::Passing);
    let set = |state| Command::SetNodeCheck { node: Some(name.clone()), check: Box::new(check(state)) };
    assert_eq!(world.write(1, set(Health::Warning)), WriteResult::Updated);
    assert_eq!(world.write(1, set(Health::Warning)), WriteResult::Unchanged);
    world.settle();
    assert_eq!(world.entries(0, "db")[0].health, Health::Warning, "the worst of a node's checks is the best of its instances");
    world.wait(5);
    assert_eq!(world.write(0, register_node("192.0.2.1")), WriteResult::Unchanged, "checks that a registration does not name stay");
    let leased = Registration {
        instance: Instance { lease: Lease::Ttl { ttl_ms: 1_000, remove_after_ms: 0 }, ..on_it("2").instance },
        ..on_it("2")
    };
    assert!(matches!(world.ask(0, Command::Register(Box::new(leased))), Err(Refusal::Invalid { .. })));
}

#[test]
fn an_agent_has_its_name_before_an_external_node() {
    let mut world = World::new(2);
    let taken = Command::RegisterNode { name: node_name("n1"), info: Box::new(info("192.0.2.1")) };
    world.settle();
    assert!(matches!(world.ask(0, taken.clone()), Err(Refusal::Invalid { .. })));
    // Before the agent came, nothing spoke against it.
    let mut world = World::new(1);
    world.write(0, taken);
    let mut both = World::new(2);
    both.agents.swap_remove(0);
    world.agents.push(both.agents.remove(0));
    world.introduce();
    world.settle();
    for at in 0..2 {
        let names: Vec<(String, bool)> = world.view(at).nodes.iter().map(|node| (node.name.clone(), node.is_external)).collect();
        assert_eq!(names, [("n0".to_owned(), false), ("n1".to_owned(), false), ("n1~external".to_owned(), true)]);
    }
}

#[test]
fn a_twins_external_nodes_go_on_under_its_new_id() {
    let mut world = World::new(2);
    world.write(0, register_node("192.0.2.1"));
    world.write(0, register("1"));
    world.settle();
    let now = world.now;
    world.agents[0].catalog.rename(now, node(7));
    world.agents[0].drain();
    world.agents[1].catalog.on_member(now, node(7), Word::Alive);
    world.tell(0, 1);
    for at in 0..2 {
        assert_eq!(world.entries(at, "db").len(), 1);
    }
}
