//! What clients ask for, and at which agent it is decided.

use super::*;
use crate::model::limits;
use crate::model::record::Head;

fn head_of(world: &World, at: usize) -> Head {
    world.agents[at].catalog.head(node(at)).unwrap()
}

#[test]
fn what_is_registered_is_seen_here_at_once_and_elsewhere_when_told() {
    let mut world = World::new(2);
    assert_eq!(world.register(0, "web", "1", 80), WriteResult::Created);
    assert_eq!(world.see(0, "web"), [("1".into(), 80)]);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), [("1".into(), 80)]);
    assert_eq!(world.deregister(0, "web", "1"), WriteResult::Removed);
    assert_eq!(world.deregister(0, "web", "1"), WriteResult::Absent);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), []);
}

#[test]
fn the_same_registration_again_is_a_renewal_and_no_change() {
    let mut world = World::new(1);
    world.register(0, "web", "1", 80);
    let before = head_of(&world, 0);
    assert_eq!(world.register(0, "web", "1", 80), WriteResult::Unchanged);
    assert_eq!(head_of(&world, 0), before);
    assert_eq!(world.register(0, "web", "1", 81), WriteResult::Updated);
    assert_eq!(world.see(0, "web"), [("1".into(), 81)]);
}

#[test]
fn beats_round_robin_change_nothing_anywhere() {
    let mut world = World::new(3);
    let mut beating = registration("web", "1", 80);
    beating.instance.lease = Lease::Ttl { ttl_ms: 1_000, remove_after_ms: 10_000 };
    world.write(0, Command::Register(Box::new(beating.clone())));
    world.settle();
    let before: Vec<u64> = world.agents.iter().map(|agent| agent.catalog.root()).collect();
    for beat in 0..9 {
        world.wait(500);
        let command = match beat % 2 {
            0 => Command::Heartbeat { target: target("web", "1"), report: None },
            _ => Command::Register(Box::new(beating.clone())),
        };
        assert_eq!(world.write(beat % 3, command), WriteResult::Unchanged);
    }
    world.settle();
    assert_eq!(world.agents.iter().map(|agent| agent.catalog.root()).collect::<Vec<_>>(), before);
    assert_eq!(world.entries(2, "web")[0].health, Health::Passing);
}

#[test]
fn a_changed_registration_moves_the_instance_and_the_loser_gives_it_up() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    assert_eq!(world.register(1, "web", "1", 81), WriteResult::Updated);
    world.settle();
    for at in 0..3 {
        assert_eq!(world.see(at, "web"), [("1".into(), 81)]);
        assert_eq!(world.entries(at, "web")[0].node.name, "n1");
    }
    assert_eq!(world.agents[0].catalog.counters.yielded, 1);
    assert!(world.agents[0].disk.records.iter().any(|(_, record)| matches!(record.state, RecordState::Deleted { .. })));
}

#[test]
fn a_clock_that_is_behind_still_moves_what_a_fast_clock_wrote() {
    let mut world = World::new(2);
    world.now.wall_ms += 600_000;
    world.register(0, "web", "1", 80);
    world.now.wall_ms -= 600_000;
    world.settle();
    assert!(world.agents[1].catalog.counters.claims_ahead > 0, "a clock ten minutes ahead is flagged");
    world.register(1, "web", "1", 81);
    world.settle();
    assert_eq!(world.see(0, "web"), [("1".into(), 81)]);
    // Other keys are not dragged along.
    world.register(1, "web", "2", 82);
    let disk = &world.agents[1].disk;
    assert_eq!(disk.records.iter().filter(|(_, record)| record.claim <= START_MS + 1_000).count(), 2, "the node and the second instance");
}

#[test]
fn agents_keep_their_own_in_agent_scope() {
    let mut world = World::new(3);
    let mut own = registration("web", "1", 80);
    own.scope = Scope::Agent;
    world.write(0, Command::Register(Box::new(own.clone())));
    world.write(1, Command::Register(Box::new(own)));
    world.settle();
    assert_eq!(world.see(2, "web").len(), 2);
    let beat = Command::Heartbeat { target: target("web", "1"), report: None };
    assert_eq!(world.ask(2, beat.clone()), Err(Refusal::Ambiguous));
    assert_eq!(world.write(1, beat), WriteResult::Unchanged, "an agent's own is meant first");
    world.deregister(0, "web", "1");
    world.settle();
    assert_eq!(world.deregister(2, "web", "1"), WriteResult::Removed, "the only one left is meant, and its origin removes it");
    world.settle();
    assert_eq!(world.see(1, "web"), []);
}

#[test]
fn a_write_for_a_living_origin_is_its_to_decide() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let epoch = head_of(&world, 1);
    assert_eq!(world.deregister(1, "web", "1"), WriteResult::Removed);
    assert_eq!(head_of(&world, 1), epoch, "the asking agent wrote nothing");
    world.settle();
    assert_eq!(world.see(1, "web"), []);
}

#[test]
fn an_instance_of_a_dead_agent_is_taken_over_by_its_heartbeat() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    world.agents[1].catalog.on_member(world.now, node(0), Word::Down);
    assert!(!world.entries(1, "web")[0].is_available());
    assert_eq!(world.write(1, Command::Heartbeat { target: target("web", "1"), report: None }), WriteResult::Updated);
    assert!(world.entries(1, "web")[0].is_available());
    assert_eq!(world.entries(1, "web")[0].node.name, "n1");
}

#[test]
fn a_silent_origin_is_taken_over_where_the_client_is() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let now = world.now;
    world.agents[1].catalog.command(now, Token(900), Command::Deregister { target: target("web", "1"), condition: Condition::Always });
    world.agents[1].drain();
    let (token, to, command) = world.agents[1].forwards.pop().unwrap();
    assert_eq!(to, node(0));
    world.agents[1].catalog.take_over(now, token, command);
    world.agents[1].drain();
    assert!(matches!(world.agents[1].replies.pop(), Some((Token(900), Ok(Reply::Written(w)))) if w.result == WriteResult::Removed));
    world.settle();
    assert_eq!(world.see(0, "web"), []);
}

#[test]
fn a_removal_whose_answer_is_lost_is_still_said_to_be_one() {
    let mut world = World::new(2);
    for id in ["1", "2"] {
        world.register(0, "web", id, 80);
    }
    world.settle();
    let now = world.now;
    let removal = |id| Command::Deregister { target: target("web", id), condition: Condition::Always };
    let all = Command::Batch(vec![removal("2"), removal("3")]);
    for (token, command) in [(Token(900), removal("1")), (Token(901), Command::Batch(vec![removal("2")])), (Token(902), all)] {
        world.agents[1].catalog.command(now, token, command);
        world.agents[1].drain();
        let Some((token, _, command)) = world.agents[1].forwards.pop() else {
            // A batch with something that nobody holds is decided here, and says so.
            let Some((_, Ok(Reply::Batch(all)))) = world.agents[1].replies.pop() else { panic!("it is answered") };
            assert_eq!(all.iter().map(|one| one.result).collect::<Vec<_>>(), [WriteResult::Absent, WriteResult::Absent]);
            continue;
        };
        let (done, _) = world.agents[0].catalog.forwarded(now, node(1), command.clone());
        assert!(done.is_ok());
        world.agents[0].drain();
        world.tell(0, 1);
        // The answer never comes.
        world.agents[1].catalog.take_over(now, token, command);
        world.agents[1].drain();
        let result = match world.agents[1].replies.pop() {
            Some((_, Ok(Reply::Written(one)))) => one.result,
            Some((_, Ok(Reply::Batch(all)))) => all[0].result,
            other => panic!("{other:?}"),
        };
        assert_eq!(result, WriteResult::Removed, "of {token:?}");
    }
    assert_eq!(world.deregister(1, "web", "1"), WriteResult::Absent, "but not a second time");
}

#[test]
fn conditions_hold_against_what_is_visible() {
    let mut world = World::new(1);
    let mut absent = registration("web", "1", 80);
    absent.condition = Condition::Absent;
    assert_eq!(world.write(0, Command::Register(Box::new(absent.clone()))), WriteResult::Created);
    let version = world.entries(0, "web")[0].version;
    let refused = world.ask(0, Command::Register(Box::new(absent)));
    assert_eq!(refused, Err(Refusal::Condition { version: Some(version) }));
    let mut newer = registration("web", "1", 81);
    newer.condition = Condition::Version(version);
    assert_eq!(world.write(0, Command::Register(Box::new(newer.clone()))), WriteResult::Updated);
    newer.instance.port = Some(82);
    assert!(matches!(world.ask(0, Command::Register(Box::new(newer))), Err(Refusal::Condition { .. })));
    let stale = Command::Deregister { target: target("web", "1"), condition: Condition::Version(version) };
    assert!(matches!(world.ask(0, stale), Err(Refusal::Condition { .. })));
    assert_eq!(world.see(0, "web"), [("1".into(), 81)]);
}

#[test]
fn a_record_above_the_limit_is_refused_whole() {
    let mut world = World::new(1);
    let mut large = registration("web", "1", 80);
    large.instance.tags = (0..5).map(|_| "x".repeat(limits::TAG_BYTES_MAX).into()).collect();
    let before = head_of(&world, 0);
    assert!(matches!(world.ask(0, Command::Register(Box::new(large))), Err(Refusal::TooLarge { .. })));
    assert_eq!(head_of(&world, 0), before);
}

#[test]
fn a_batch_is_carried_out_whole_or_not_at_all() {
    let mut world = World::new(1);
    let good = Command::Register(Box::new(registration("web", "1", 80)));
    let beat = |id| Command::Heartbeat { target: target("web", id), report: None };
    let before = head_of(&world, 0);
    assert!(matches!(world.ask(0, Command::Batch(vec![good.clone(), beat("2")])), Err(Refusal::NotFound { .. })));
    assert_eq!(head_of(&world, 0), before, "nothing changed");
    let Ok(Reply::Batch(written)) = world.ask(0, Command::Batch(vec![good, beat("1")])) else { panic!("both are valid") };
    assert_eq!(written.iter().map(|one| one.result).collect::<Vec<_>>(), [WriteResult::Created, WriteResult::Unchanged]);
    assert!(matches!(world.ask(0, Command::Batch(vec![Command::Leave])), Err(Refusal::Invalid { .. })));
}

#[test]
fn a_batch_of_beats_goes_to_the_origin_of_all() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.register(0, "web", "2", 80);
    world.settle();
    let before = head_of(&world, 1);
    let beats = ["1", "2"].map(|id| Command::Heartbeat { target: target("web", id), report: None });
    let Ok(Reply::Batch(written)) = world.ask(1, Command::Batch(beats.into())) else { panic!("both are known") };
    assert!(written.iter().all(|one| one.result == WriteResult::Unchanged));
    assert_eq!(head_of(&world, 1), before);
}

#[test]
fn what_is_not_known_is_not_found() {
    let mut world = World::new(1);
    let beat = Command::Heartbeat { target: target("web", "1"), report: None };
    assert!(matches!(world.ask(0, beat), Err(Refusal::NotFound { .. })));
    assert!(matches!(world.ask(0, Command::RenewLease(LeaseId(7))), Err(Refusal::NotFound { .. })));
    assert!(matches!(world.ask(0, Command::Forget(node(7))), Err(Refusal::NotFound { .. })));
}

#[test]
fn an_operators_word_survives_registration_and_ends_with_its_time() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let word = Override { enabled: false, reason: "drain".into(), expires_at: Some(world.now.wall_ms + 60_000), set_at: 0 };
    let of = OverrideTarget::Instance(target("web", "1"));
    assert_eq!(world.write(1, Command::SetOverride { of: of.clone(), word: word.clone() }), WriteResult::Created);
    world.settle();
    assert!((0..2).all(|at| !world.entries(at, "web")[0].is_available()));
    world.register(0, "web", "1", 81);
    world.settle();
    assert!((0..2).all(|at| !world.entries(at, "web")[0].is_available()));
    world.wait(60_001);
    assert!((0..2).all(|at| world.entries(at, "web")[0].is_available()), "its time is over");
    world.write(0, Command::SetOverride { of: of.clone(), word });
    world.write(
        0,
        Command::SetOverride { of: of.clone(), word: Override { enabled: false, reason: "x".into(), expires_at: None, set_at: 0 } },
    );
    world.settle();
    assert!(!world.entries(1, "web")[0].is_available());
    assert_eq!(world.write(1, Command::ClearOverride { of: of.clone() }), WriteResult::Removed);
    world.settle();
    assert!((0..2).all(|at| world.entries(at, "web")[0].is_available()));
    assert_eq!(world.write(0, Command::ClearOverride { of }), WriteResult::Absent);
}

#[test]
fn a_word_on_a_node_is_on_all_its_instances() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.register(1, "web", "2", 80);
    world.settle();
    let of = OverrideTarget::Node(NodeName::new("n0").unwrap());
    let word = Override { enabled: false, reason: "drain".into(), expires_at: None, set_at: 0 };
    world.write(1, Command::SetOverride { of: of.clone(), word });
    world.settle();
    for at in 0..2 {
        let available: Vec<String> =
            world.entries(at, "web").iter().filter(|entry| entry.is_enabled()).map(|entry| entry.node.name.clone()).collect();
        assert_eq!(available, ["n1"]);
        assert!(world.agents[at].catalog.member_facts(node(0)).unwrap().word.is_some());
    }
    world.write(0, Command::ClearOverride { of });
    world.settle();
    assert!(world.entries(1, "web").iter().all(Entry::is_enabled));
}

#[test]
fn of_two_nodes_of_one_name_the_older_keeps_it_while_it_lives() {
    let mut world = World::new(3);
    let now = world.now;
    world.wait(5);
    let later = world.now;
    world.agents[2].catalog.set_host(later, host("n0"));
    world.agents[2].drain();
    world.settle();
    let name = |world: &World, of: usize| world.agents[1].catalog.member_facts(node(of)).unwrap().name;
    assert_eq!(name(&world, 0), "n0");
    assert_eq!(name(&world, 2), format!("n0~{:04x}", 0));
    assert!(world.agents[1].catalog.member_facts(node(2)).unwrap().is_name_taken);
    assert_eq!(world.agents[1].catalog.agents_named("n2").count(), 0, "the old name is free");
    world.agents[1].catalog.on_member(now, node(0), Word::Down);
    assert_eq!(name(&world, 2), "n0");
}
