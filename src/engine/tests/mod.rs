//! Whole engines in virtual time: a handful of agents on a network without faults. Faults are the simulator's.

mod datacenters;
mod harness;
mod namesakes;
mod pace;
mod summaries;

use crate::model::command::{Command, Condition, Registration, Reply, Target, WriteResult};
use crate::model::instance::{Health, Instance};
use crate::model::names::{InstanceId, Namespace, ServiceName};
use crate::model::record::Scope;
use harness::Net;

/// Longer than agents that all start cold wait for each other.
const READY_MS: u64 = 8_000;

fn web(id: &str, port: u16) -> Registration {
    Registration {
        namespace: Namespace::default(),
        service: ServiceName::new("web").unwrap(),
        id: InstanceId::new(id).unwrap(),
        scope: Scope::Datacenter,
        instance: Instance { port: Some(port), weight: 1_000, weight_warning: 1_000, enabled: true, ..Instance::default() },
        condition: Condition::Always,
        lease: None,
    }
}

fn register(id: &str, port: u16) -> Command {
    Command::Register(Box::new(web(id, port)))
}

fn target(id: &str) -> Target {
    let registration = web(id, 1);
    Target { namespace: registration.namespace, service: registration.service, id: registration.id, uid: None }
}

fn written(reply: &Reply) -> (WriteResult, u64) {
    match reply {
        Reply::Written(written) => (written.result, written.revision),
        other => panic!("{other:?} is no write"),
    }
}

#[test]
fn one_agent_alone_is_ready_and_reads_its_own_writes() {
    let mut net = Net::new(1);
    net.run_ms(READY_MS);
    assert!(net.engine(0).is_ready());
    let reply = net.call(0, register("a", 80)).unwrap();
    let (result, revision) = written(&reply);
    assert_eq!(result, WriteResult::Created);
    let service = net.view(0).service("default", "web").cloned().expect("the view that answers a write holds it");
    assert!(service.revision <= revision && net.view(0).revision >= revision);
    assert_eq!(service.available().count(), 1);
}

#[test]
fn who_has_nobody_to_look_for_is_ready_at_once() {
    let mut net = Net::new(1);
    net.run_ms(100);
    assert!(!net.engine(0).is_ready(), "its shell has not said yet whom to look for");
    net.call(0, Command::SetSeeds(vec![([10, 0, 0, 9], 7976).into()])).unwrap();
    net.run_ms(1_000);
    assert!(!net.engine(0).is_ready(), "the seed may answer yet");
    let mut net = Net::new(2);
    net.call(0, Command::SetSeeds(vec![([10, 0, 0, 1], 7976).into()])).unwrap();
    assert!(net.engine(0).is_ready(), "itself only");
    assert!(!net.engine(1).is_ready());
    net.run_ms(500);
    assert!(net.engine(1).is_ready(), "caught up with a ready one");
}

#[test]
fn a_member_is_shown_since_it_came() {
    let mut net = Net::new(2);
    net.run_ms(READY_MS);
    let since = |net: &Net| -> Vec<u64> { net.view(0).members.iter().map(|member| member.since).collect() };
    let before = since(&net);
    assert_eq!(before.len(), 2);
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(5_000);
    assert!(net.view(0).members.iter().any(|member| member.instances == 1), "the list was made anew");
    assert_eq!(since(&net), before);
}

#[test]
fn two_agents_find_each_other_and_share_what_is_registered() {
    let mut net = Net::new(2);
    net.run_ms(READY_MS);
    assert!(net.engine(0).is_ready() && net.engine(1).is_ready());
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(100);
    assert_eq!(net.available(1, "web"), 1);
    assert_eq!(net.engine(0).catalog().root(), net.engine(1).catalog().root());
}

#[test]
fn a_write_at_another_agent_is_decided_by_its_origin() {
    let mut net = Net::new(3);
    net.run_ms(READY_MS);
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(100);
    let records_before = net.engine(0).catalog().head(net.engine(0).me().node).unwrap();
    let renewal = net.call(1, register("a", 80)).unwrap();
    assert_eq!(written(&renewal).0, WriteResult::Unchanged);
    assert_eq!(net.engine(0).catalog().head(net.engine(0).me().node).unwrap(), records_before, "a renewal writes nothing");
    let removal = net.call(2, Command::Deregister { target: target("a"), condition: Condition::Always }).unwrap();
    assert_eq!(written(&removal).0, WriteResult::Removed);
    net.run_ms(200);
    for node in 0..3 {
        assert_eq!(net.available(node, "web"), 0);
    }
}

#[test]
fn a_changed_registration_at_another_agent_moves_the_instance() {
    let mut net = Net::new(3);
    net.run_ms(READY_MS);
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(100);
    net.call(1, register("a", 81)).unwrap();
    net.run_ms(300);
    for node in 0..3 {
        let service = net.view(node).service("default", "web").cloned().unwrap();
        let ports: Vec<_> = service.available().map(|entry| entry.instance().unwrap().1.port).collect();
        assert_eq!(ports, [Some(81)]);
    }
}

#[test]
fn a_killed_agents_instances_leave_every_list() {
    let mut net = Net::new(5);
    net.run_ms(READY_MS);
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(200);
    assert_eq!(net.available(4, "web"), 1);
    net.kill(0);
    net.run_ms(5_000);
    for node in 1..5 {
        assert_eq!(net.available(node, "web"), 0, "at {node}");
        let service = net.view(node).service("default", "web").cloned().unwrap();
        assert!(service.entries.iter().all(|entry| entry.health == Health::Passing), "a death changes no record");
    }
}

#[test]
fn a_leaver_is_gone_from_every_list_within_300_ms() {
    let mut net = Net::new(5);
    net.run_ms(READY_MS);
    net.call(0, register("a", 80)).unwrap();
    net.run_ms(200);
    net.call(0, Command::Leave).unwrap();
    net.run_ms(300);
    for node in 1..5 {
        assert_eq!(net.available(node, "web"), 0, "at {node}");
    }
    assert!(net.has_stopped(0));
}
