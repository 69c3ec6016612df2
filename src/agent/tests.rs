//! Real agents in one process, over loopback.
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

use std::path::Path;
use std::time::Instant;

use super::testing::settings;
use super::*;
use crate::model::command::{Condition, Refusal, Registration, Reply, Target, WriteResult};
use crate::model::instance::{Check, CheckKind, Health, Instance, Lease};
use crate::model::names::{InstanceId, Namespace, ServiceKey, ServiceName};
use crate::model::record::Scope;
use crate::view::MemberState;

const SOON: Duration = Duration::from_secs(10);

async fn agent(node: &str, dir: Option<&Path>, join: Option<&Agent>) -> Agent {
    let seed = join.map(|agent| agent.handle().facts().advertise);
    Agent::start(&settings(node, dir, seed), Ports::default()).await.unwrap()
}

/// Waits until a view is as wanted, woken by the agent.
async fn seen(agent: &Agent, what: &str, is_met: impl Fn(&View) -> bool) -> Duration {
    let mut watch = agent.handle().watch_all();
    let started = Instant::now();
    let waiting = async {
        let mut view = agent.handle().view();
        while !is_met(&view) {
            view = watch.changed().await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{what} is not seen: {:?}", agent.handle().view().members));
    started.elapsed()
}

fn alive(count: usize) -> impl Fn(&View) -> bool {
    move |view| view.members.iter().filter(|member| member.state == MemberState::Alive).count() == count && view.agent.is_ready
}

fn shows(service: &'static str, count: usize) -> impl Fn(&View) -> bool {
    move |view| view.service("default", service).map_or(0, |found| found.available().count()) == count
}

fn registration(service: &str, id: &str, instance: Instance<'static>) -> Command {
    Command::Register(Box::new(Registration {
        namespace: Namespace::default(),
        service: ServiceName::new(service).unwrap(),
        id: InstanceId::new(id).unwrap(),
        scope: Scope::Datacenter,
        instance,
        condition: Condition::Always,
        lease: None,
    }))
}

fn instance() -> Instance<'static> {
    Instance { address: "10.0.0.1".into(), port: Some(80), weight: 1000, weight_warning: 1000, enabled: true, ..Instance::default() }
}

fn key(service: &str) -> ServiceKey {
    ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).unwrap() }
}

fn target(service: &str, id: &str) -> Target {
    let service = ServiceName::new(service).unwrap();
    Target { namespace: Namespace::default(), service, id: InstanceId::new(id).unwrap(), uid: None }
}

fn written(reply: Result<Reply, Refusal>) -> WriteResult {
    match reply {
        Ok(Reply::Written(written)) => written.result,
        other => panic!("not written: {other:?}"),
    }
}

#[tokio::test]
async fn two_agents_find_each_other_and_share_what_is_registered() {
    let a = agent("a", None, None).await;
    let b = agent("b", None, Some(&a)).await;
    seen(&a, "b", alive(2)).await;
    seen(&b, "a", alive(2)).await;
    let mut web = b.handle().watch([key("web")]);
    let mut other = b.handle().watch([key("other")]);
    assert_eq!(written(a.handle().call(registration("web", "1", instance())).await), WriteResult::Created);
    assert!(shows("web", 1)(&a.handle().view()), "who was answered reads his write");
    tokio::time::timeout(SOON, async { while !shows("web", 1)(&*web.changed().await) {} }).await.expect("the watcher of web is woken");
    assert!(tokio::time::timeout(Duration::from_millis(50), other.changed()).await.is_err(), "nobody else is");
    assert_eq!(
        written(b.handle().call(Command::Deregister { target: target("web", "1"), condition: Condition::Always }).await),
        WriteResult::Removed
    );
    seen(&a, "the deregistration", shows("web", 0)).await;
    assert_eq!(b.leave(SOON).await, Ended::Left);
    seen(&a, "the leave", alive(1)).await;
}

#[tokio::test]
async fn what_is_acknowledged_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let a = agent("a", Some(dir.path()), None).await;
    seen(&a, "itself", alive(1)).await;
    for id in ["1", "2", "3"] {
        assert_eq!(written(a.handle().call(registration("web", id, instance())).await), WriteResult::Created);
    }
    let id = a.handle().view().agent.id;
    let again = Agent::start(&settings("a", Some(dir.path()), None), Ports::default()).await.err().expect("the directory is in use");
    assert!(again.to_string().contains("another agent"), "{again}");
    let crashed = a.handle().clone();
    a.crash().await;
    assert!(crashed.is_stopping() && crashed.call(Command::ListKeys).await.is_err());
    let a = agent("a", Some(dir.path()), None).await;
    seen(&a, "its registrations", shows("web", 3)).await;
    assert_eq!(a.handle().view().agent.id, id);
    assert_eq!(a.leave(SOON).await, Ended::Left);
}

#[tokio::test]
async fn a_held_lease_ends_with_its_guard() {
    let a = agent("a", None, None).await;
    seen(&a, "itself", alive(1)).await;
    let lease = a.handle().open_lease(None).await.unwrap();
    let held = Instance { lease: Lease::Held { remove_after_ms: 0 }, ..instance() };
    let Command::Register(mut registration) = registration("web", "1", held) else { unreachable!() };
    registration.lease = Some(lease.id());
    assert_eq!(written(a.handle().call(Command::Register(registration)).await), WriteResult::Created);
    seen(&a, "the instance", shows("web", 1)).await;
    drop(lease);
    seen(&a, "its end", |view| view.service("default", "web").is_none()).await;
}

#[tokio::test]
async fn checks_follow_what_is_registered_and_stop_with_it() {
    let a = agent("a", None, None).await;
    seen(&a, "itself", alive(1)).await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = |address: SocketAddr| Check {
        id: "live".into(),
        name: "live".into(),
        notes: "".into(),
        kind: CheckKind::Tcp { address: address.to_string().into() },
        interval_ms: 100,
        timeout_ms: 1_000,
        passing_after: 1,
        warning_after: 1,
        critical_after: 2,
        state: Health::Critical,
        output: "".into(),
        since: Default::default(),
        remove_after_ms: None,
    };
    let checked = Instance { checks: vec![check(server.local_addr().unwrap())], ..instance() };
    written(a.handle().call(registration("web", "1", checked)).await);
    seen(&a, "a passing check", shows("web", 1)).await;
    drop(server);
    seen(&a, "a critical check", |view| {
        view.service("default", "web").is_some_and(|web| web.entries.iter().all(|entry| entry.health == Health::Critical))
    })
    .await;
    let alias = Check { kind: CheckKind::Alias { service: "web".into() }, ..check(([127, 0, 0, 1], 1).into()) };
    written(a.handle().call(registration("proxy", "1", Instance { checks: vec![alias], ..instance() })).await);
    written(a.handle().call(registration("web", "1", instance())).await);
    seen(&a, "the alias passes with the service", shows("proxy", 1)).await;
}

#[tokio::test]
async fn checks_of_the_node_are_run_and_decide_on_all_that_is_on_it() {
    let a = agent("a", None, None).await;
    seen(&a, "itself", alive(1)).await;
    written(a.handle().call(registration("web", "1", instance())).await);
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = Check {
        id: "port".into(),
        name: "port".into(),
        notes: "".into(),
        kind: CheckKind::Tcp { address: server.local_addr().unwrap().to_string().into() },
        interval_ms: 100,
        timeout_ms: 1_000,
        passing_after: 1,
        warning_after: 1,
        critical_after: 1,
        state: Health::Critical,
        output: "".into(),
        since: Default::default(),
        remove_after_ms: None,
    };
    written(a.handle().call(Command::SetNodeCheck { node: None, check: Box::new(check) }).await);
    let serving = |is: bool| move |view: &View| view.service("default", "web").is_some_and(|web| (web.counts.available == 1) == is);
    seen(&a, "what the check found", serving(true)).await;
    drop(server);
    seen(&a, "the port closed", serving(false)).await;
    written(a.handle().call(Command::RemoveNodeCheck { node: None, check: "port".into() }).await);
    seen(&a, "the end of the check", serving(true)).await;
}

#[tokio::test]
async fn metrics_tell_of_the_engine() {
    let a = agent("a", None, None).await;
    seen(&a, "itself", alive(1)).await;
    let text = a.handle().metrics().await;
    assert!(text.contains("\ntidings_membership_alive 1\n"), "{text}");
    assert!(text.contains("tidings_driver_turns_total"), "{text}");
    assert!(text.contains("\ntidings_engine_held{table=\"membership_members\"} 0\n"), "{text}");
    assert!(text.contains("\ntidings_engine_limit{table=\"membership_members\"} 65536\n"), "{text}");
    assert!(a.handle().since_last_turn() < Duration::from_secs(5));
}
