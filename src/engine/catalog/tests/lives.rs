//! Leases, checks, and the lives of agents.

use super::*;
use crate::model::command::Report;
use crate::model::instance::{Check, CheckKind};
use crate::model::record::Head;
use crate::model::time::WallMs;

fn leased(lease: Lease) -> Command {
    let mut registration = registration("web", "1", 80);
    registration.instance.lease = lease;
    Command::Register(Box::new(registration))
}

fn check(id: &'static str, kind: CheckKind<'static>, after: u16) -> Check<'static> {
    Check {
        id: id.into(),
        name: id.into(),
        notes: "".into(),
        kind,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        passing_after: after,
        warning_after: after,
        critical_after: after,
        state: Health::Passing,
        output: "".into(),
        since: WallMs(0),
        remove_after_ms: None,
    }
}

fn seq(world: &World) -> Seq {
    world.agents[0].catalog.head(node(0)).map(|head: Head| head.seq).unwrap()
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_and_then_the_instance_goes() {
    let mut world = World::new(2);
    world.write(0, leased(Lease::Ttl { ttl_ms: 1_000, remove_after_ms: 10_000 }));
    let registered = seq(&world);
    for _ in 0..10 {
        world.wait(900);
        assert_eq!(world.write(0, Command::Heartbeat { target: target("web", "1"), report: None }), WriteResult::Unchanged);
    }
    assert_eq!(seq(&world), registered, "renewals write nothing");
    world.wait(999);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(2);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    assert_eq!(seq(&world), registered + 1);
    world.settle();
    assert_eq!(world.entries(1, "web")[0].health, Health::Critical);
    // A sign of life brings it back.
    assert_eq!(world.write(1, Command::Heartbeat { target: target("web", "1"), report: None }), WriteResult::Updated);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(1_000 + 10_000 + 2);
    assert_eq!(world.see(0, "web"), []);
    world.settle();
    assert_eq!(world.see(1, "web"), []);
}

#[test]
fn with_no_time_left_an_expired_instance_goes_at_once() {
    let mut world = World::new(1);
    world.write(0, leased(Lease::Ttl { ttl_ms: 1_000, remove_after_ms: 0 }));
    world.wait(1_001);
    assert_eq!(world.see(0, "web"), []);
}

#[test]
fn after_a_restart_a_lease_gets_one_whole_ttl() {
    let mut world = World::new(1);
    world.write(0, leased(Lease::Ttl { ttl_ms: 10_000, remove_after_ms: 1_000_000 }));
    world.wait(9_000);
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.wait(9_999);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(2);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
}

#[test]
fn what_hangs_on_something_held_open_ends_with_it() {
    let mut world = World::new(1);
    let open = |world: &mut World, ttl_ms| match world.ask(0, Command::OpenLease { ttl_ms }) {
        Ok(Reply::Lease(id)) => id,
        other => panic!("{other:?}"),
    };
    let lease = open(&mut world, None);
    let mut held = registration("web", "1", 80);
    held.instance.lease = Lease::Held { remove_after_ms: 5_000 };
    held.lease = Some(lease);
    world.write(0, Command::Register(Box::new(held.clone())));
    world.wait(HOUR_MS);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.ask(0, Command::EndLease(lease)).unwrap();
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    world.wait(5_001);
    assert_eq!(world.see(0, "web"), []);

    let lease = open(&mut world, Some(1_000));
    held.lease = Some(lease);
    world.write(0, Command::Register(Box::new(held.clone())));
    world.wait(900);
    world.ask(0, Command::RenewLease(lease)).unwrap();
    world.wait(900);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(101);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    assert!(world.ask(0, Command::Register(Box::new(held.clone()))).is_err(), "that lease is gone");

    // A restart ends what was held open, after a time to come back.
    let lease = open(&mut world, None);
    held.lease = Some(lease);
    world.write(0, Command::Register(Box::new(held.clone())));
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.wait(9_000);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(1_001);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    world.wait(5_001);
    assert_eq!(world.see(0, "web"), []);
}

#[test]
fn only_transitions_of_checks_become_records() {
    let mut world = World::new(1);
    let mut checked = registration("web", "1", 80);
    checked.instance.checks = vec![check("tcp", CheckKind::Tcp { address: "10.1.2.3:80".into() }, 3)];
    world.write(0, Command::Register(Box::new(checked)));
    let before = seq(&world);
    let result = |state| Command::CheckResult { target: target("web", "1"), check: "tcp".into(), state, output: "out".into() };
    for _ in 0..2 {
        assert_eq!(world.write(0, result(Health::Critical)), WriteResult::Unchanged);
    }
    assert_eq!(world.write(0, result(Health::Passing)), WriteResult::Unchanged, "the row is broken");
    for _ in 0..2 {
        world.write(0, result(Health::Critical));
    }
    assert_eq!(seq(&world), before);
    assert_eq!(world.write(0, result(Health::Critical)), WriteResult::Updated);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    for _ in 0..10 {
        assert_eq!(world.write(0, result(Health::Critical)), WriteResult::Unchanged);
    }
    assert_eq!(seq(&world), before + 1);
}

#[test]
fn a_check_that_flaps_is_damped() {
    let mut world = World::new(1);
    let mut checked = registration("web", "1", 80);
    checked.instance.checks = vec![check("tcp", CheckKind::Tcp { address: "10.1.2.3:80".into() }, 1)];
    world.write(0, Command::Register(Box::new(checked)));
    let before = seq(&world);
    for second in 0..120 {
        world.wait(1_000);
        let state = if second % 2 == 0 { Health::Critical } else { Health::Passing };
        world.write(0, Command::CheckResult { target: target("web", "1"), check: "tcp".into(), state, output: "".into() });
    }
    assert!(seq(&world) - before <= 6, "{} records of 120 results", seq(&world) - before);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical, "what flaps is not well");
    for _ in 0..61 {
        world.wait(1_000);
        world.write(0, Command::CheckResult { target: target("web", "1"), check: "tcp".into(), state: Health::Passing, output: "".into() });
    }
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
}

#[test]
fn a_ttl_check_that_hears_nothing_is_critical_until_it_does() {
    let mut world = World::new(1);
    let mut checked = registration("web", "1", 80);
    checked.instance.checks = vec![check("a", CheckKind::Ttl { ttl_ms: 1_000 }, 1), check("b", CheckKind::Ttl { ttl_ms: 5_000 }, 1)];
    world.write(0, Command::Register(Box::new(checked)));
    let beat = |check: Option<&str>, state| {
        let report = Some(Report { check: check.map(str::to_owned), state, output: "said".into() });
        Command::Heartbeat { target: target("web", "1"), report }
    };
    world.wait(900);
    assert_eq!(world.write(0, beat(Some("a"), Health::Passing)), WriteResult::Unchanged);
    world.wait(900);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing);
    world.wait(101);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    assert_eq!(world.write(0, beat(Some("a"), Health::Warning)), WriteResult::Updated);
    assert_eq!(world.entries(0, "web")[0].health, Health::Warning);
    assert!(matches!(world.ask(0, beat(Some("c"), Health::Passing)), Err(Refusal::NotFound { .. })));
    world.wait(6_000);
    assert_eq!(world.entries(0, "web")[0].health, Health::Critical);
    assert_eq!(world.write(0, Command::Heartbeat { target: target("web", "1"), report: None }), WriteResult::Updated);
    assert_eq!(world.entries(0, "web")[0].health, Health::Passing, "a sign of life of the instance revives what was silent");
}

#[test]
fn a_death_is_one_word_and_no_record() {
    let mut world = World::new(2);
    for id in 0..100 {
        world.register(0, "web", &id.to_string(), 80);
    }
    world.settle();
    let root = world.agents[1].catalog.root();
    world.agents[1].catalog.on_member(world.now, node(0), Word::Suspected);
    assert!(world.entries(1, "web").iter().all(|entry| entry.is_available() && entry.is_suspect()));
    world.agents[1].catalog.on_member(world.now, node(0), Word::Down);
    assert!(world.entries(1, "web").iter().all(|entry| !entry.is_available()));
    assert_eq!(world.agents[1].catalog.root(), root);
    world.agents[1].catalog.on_member(world.now, node(0), Word::Alive);
    assert!(world.entries(1, "web").iter().all(Entry::is_available));
}

#[test]
fn what_nobody_vouches_for_is_served_for_ten_minutes_and_only_alone() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    let now = world.now;
    world.agents[2].catalog.on_member(now, node(0), Word::Lost);
    assert_eq!(world.entries(2, "web")[0].node.liveness, Liveness::Unverified);
    world.wait(300_000);
    world.agents[2].catalog.on_member(world.now, node(0), Word::Hearsay);
    world.wait(299_000);
    assert_eq!(world.entries(2, "web")[0].node.liveness, Liveness::Unverified, "another doubt does not begin anew");
    world.wait(1_001);
    assert_eq!(world.entries(2, "web")[0].node.liveness, Liveness::Down);
}

#[test]
fn who_leaves_is_absent_until_it_returns() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    world.ask(0, Command::Leave).unwrap();
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), []);
    world.agents[1].catalog.on_member(world.now, node(0), Word::Left);
    world.settle();
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.agents[1].catalog.on_member(world.now, node(0), Word::Alive);
    assert_eq!(world.see(1, "web"), [], "not before its new life is known");
    assert_eq!(world.tell(0, 1), 0, "coming back costs no snapshot");
    assert_eq!(world.see(1, "web"), [("1".into(), 80)]);
}

#[test]
fn the_dead_are_listed_for_an_hour_and_given_up_after_three_days() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    world.wait(HOUR_MS - 1_000);
    assert_eq!(world.see(1, "web").len(), 1);
    world.wait(1_001);
    assert_eq!(world.see(1, "web"), []);
    world.wait(70 * HOUR_MS);
    assert!(world.agents[1].catalog.heads().any(|head| head.origin == node(0)));
    world.wait(2 * HOUR_MS);
    for at in 1..3 {
        assert!(!world.agents[at].catalog.heads().any(|head| head.origin == node(0)), "given up");
        assert!(world.agents[at].catalog.head(node(0)).unwrap().flags.reaped.is_some());
    }
    assert_eq!(world.agents[1].catalog.root(), world.agents[2].catalog.root());
    // Seven days later nobody remembers.
    world.wait(8 * 24 * HOUR_MS);
    assert!(world.agents[1].catalog.head(node(0)).is_none());
}

#[test]
fn who_was_given_up_and_returns_takes_a_higher_epoch() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    world.agents[1].catalog.on_member(world.now, node(0), Word::Down);
    world.wait(74 * HOUR_MS);
    let epoch = world.agents[0].catalog.head(node(0)).unwrap().epoch;
    assert!(world.agents[1].catalog.head(node(0)).unwrap().flags.reaped.is_some());
    world.agents[1].catalog.on_member(world.now, node(0), Word::Alive);
    world.settle();
    assert!(world.agents[0].catalog.head(node(0)).unwrap().epoch > epoch);
    assert_eq!(world.see(1, "web"), [("1".into(), 80)]);
}

#[test]
fn a_mark_has_no_effect_where_the_origin_lives() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    // One agent was cut off from node 0, gives it up, and tells another that still sees it.
    world.agents[1].catalog.on_member(world.now, node(0), Word::Down);
    world.ask(1, Command::Forget(node(0))).unwrap();
    let Supply::Batch(mark) = world.agents[1].catalog.batch_after(node(0), 0, 0, 0, usize::MAX) else { panic!("the mark is told") };
    let applied = world.agents[2].catalog.apply(world.now, mark);
    assert_eq!(world.see(2, "web").len(), 1);
    let told = applied.tell_origin.expect("the origin must hear of it");
    let now = world.now;
    world.agents[0].catalog.hear(now, &told);
    world.agents[0].drain();
    world.tell(0, 2);
    assert_eq!(world.see(2, "web").len(), 1);
    world.agents[1].catalog.on_member(world.now, node(0), Word::Alive);
    world.settle();
    assert_eq!(world.see(1, "web").len(), 1);
    assert!(matches!(world.ask(1, Command::Forget(node(0))), Err(Refusal::Invalid { .. })), "who lives is not forgotten");
}

#[test]
fn a_mark_is_refused_when_it_is_old_or_from_the_future() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let now = world.now;
    world.agents[1].catalog.on_member(now, node(0), Word::Down);
    let head = world.agents[1].catalog.head(node(0)).unwrap();
    let today = (now.wall_ms / (24 * HOUR_MS)) as u32;
    for day in [today - 7, today + 2] {
        let flags = crate::model::record::HeadFlags { left: false, reaped: Some(day) };
        let advert = crate::engine::wire::packet::Advert { origin: node(0), epoch: head.epoch, seq: head.seq, flags };
        world.agents[1].catalog.hear(now, &advert);
        assert_eq!(world.agents[1].catalog.head(node(0)).unwrap().flags.reaped, None);
    }
}

#[test]
fn a_wiped_disk_on_the_same_host_ends_the_old_id_at_once() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    world.agents[1].catalog.taken_over(world.now, node(0));
    assert_eq!(world.see(1, "web"), []);
    assert!(!world.agents[1].catalog.heads().any(|head| head.origin == node(0)));
}

#[test]
fn an_operators_word_outlives_the_agent_it_was_written_at() {
    let mut world = World::new(3);
    world.register(1, "web", "1", 80);
    world.settle();
    let of = OverrideTarget::Instance(target("web", "1"));
    let word = Override { enabled: false, reason: "drain".into(), expires_at: None, set_at: 0 };
    world.write(0, Command::SetOverride { of, word });
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    let reaper = 1;
    world.ask(reaper, Command::Forget(node(0))).unwrap();
    let mut living = World { now: world.now, agents: world.agents.split_off(1), tokens: 1_000 };
    let mark = living.agents[0].catalog.batch_after(node(0), 0, 0, 0, usize::MAX);
    let Supply::Batch(mark) = mark else { panic!("the mark is told") };
    living.agents[1].catalog.apply(living.now, mark);
    living.settle();
    living.wait(60_000);
    living.settle();
    for at in 0..2 {
        assert!(!living.entries(at, "web")[0].is_available(), "the word is still said");
    }
    let writers = living.agents.iter().filter(|agent| {
        agent
            .disk
            .records
            .iter()
            .any(|(_, record)| matches!(&record.state, RecordState::Live(content) if content.key().unwrap().kind == Kind::OVERRIDE))
    });
    assert_eq!(writers.count(), 1, "one of those who gave it up issued it anew");
}

#[test]
fn an_agent_that_lost_its_id_to_a_twin_goes_on_with_its_services_under_another() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let now = world.now;
    world.agents[0].catalog.rename(now, node(7));
    world.agents[0].drain();
    assert_eq!(world.agents[0].disk.node, Some(node(7)));
    world.agents[1].catalog.on_member(now, node(7), Word::Alive);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), [("1".into(), 80)]);
    assert_eq!(world.entries(1, "web")[0].node.id, node(7));
    let disk = &world.agents[0].disk;
    assert_eq!(disk.head.unwrap().0.origin, node(7));
    // The twin takes over what was said in its name, and nothing of it is served twice.
    let head = world.agents[0].catalog.head(node(0)).unwrap();
    let mut twin = Agent::start(0, Restored::default(), Now { ns: 0, wall_ms: START_MS });
    for other in [1, 7] {
        twin.catalog.on_member(now, node(other), Word::Alive);
    }
    world.agents.push(twin);
    world.agents[0].catalog.on_member(now, node(0), Word::Alive);
    world.settle();
    assert!(world.agents[0].catalog.head(node(0)).unwrap().epoch >= head.epoch, "no head went back");
    for at in 0..3 {
        assert_eq!(world.entries(at, "web").iter().map(|entry| entry.node.id).collect::<Vec<_>>(), [node(7)]);
    }
    let disk = &world.agents[0].disk;
    assert_eq!(disk.records.len(), 2, "the node and the instance");
}

#[test]
fn an_id_that_was_given_up_to_a_twin_of_whom_nothing_is_heard_is_given_up_for_good() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let now = world.now;
    world.agents[0].catalog.rename(now, node(7));
    let is_marked = |world: &World| world.agents[0].catalog.head(node(0)).unwrap().flags.reaped.is_some();
    world.wait(59_000);
    assert!(!is_marked(&world), "the twin may still be heard");
    world.wait(2_000);
    assert!(is_marked(&world));
    assert_eq!(world.see(0, "web"), [("1".into(), 80)], "under the new id");
}

#[test]
fn when_what_a_twin_said_of_its_host_is_taken_back_the_hosts_own_word_counts_again() {
    let mut world = World::new(1);
    let now = world.now;
    let catalog = &mut world.agents[0].catalog;
    let own = catalog.own_ix;
    let shown = |catalog: &Catalog| catalog.node_record(own).map(|(name, _)| name);
    let before = shown(catalog);
    assert!(before.is_some());
    let key = crate::model::record::Key { kind: Kind::NODE, scope: Scope::Agent, namespace: "".into(), name: "twin".into(), id: "".into() };
    let content = commands::encode(&key, &catalog.host.info.clone()).unwrap();
    let uid = key.uid(node(0));
    catalog.write(now, uid, 5, RecordState::Live(content), Urgency::Metadata);
    assert_eq!(shown(catalog).as_deref(), Some("twin"));
    catalog.write_tombstone(now, uid, Kind::NODE, 5);
    assert_eq!(shown(catalog), before);
}
