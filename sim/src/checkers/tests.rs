//! Checkers that need a whole cluster to bite: each is shown a scene with one lie in it, and the same scene without.

use super::moves::Moved;
use super::{Checker, Scene, imports, leases, life, limits, prefix, ready, visible, vouched};
use crate::agent;
use crate::history::History;
use crate::plan::{Intent, PlannedClient};
use crate::reader;
use crate::run::{Run, SECOND};
use crate::scenarios::steps;
use crate::swarm;
use crate::truth::Truth;
use crate::whole;
use crate::world::{HostId, Note};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidings::engine::config::Export;
use tidings::engine::io::StoreOp;
use tidings::engine::wire::packet::Part;
use tidings::model::record::{Content, RecordState};
use tidings::view::DatacenterView;

pub(super) const A: HostId = HostId(0);
pub(super) const B: HostId = HostId(1);

/// Three agents that know each other, and one instance, registered at the first.
pub(super) fn whole() -> Run {
    crate::log::listen(None);
    let mut run = Run::cluster(1, 3);
    steps::until_whole(&mut run, 20 * SECOND).unwrap();
    let client = steps::client(&mut run, A);
    steps::act(&mut run, client, Intent::Register).unwrap();
    swarm::until_still(&mut run).unwrap();
    run
}

fn view_of(run: &Run, host: HostId) -> Note {
    Note::View { host, view: Arc::clone(run.views[host.index()].as_ref().expect("it shows one")) }
}

#[test]
fn who_still_serves_a_dead_agents_instances_is_caught_and_who_does_not_passes() {
    let mut run = whole();
    let stale = view_of(&run, B);
    life::Life::default().note(&run.scene(), &stale).expect("its agent is alive");
    run.kill(A);
    run.run_for(life::DETECTED_WITHIN_NS / 2).unwrap();
    life::Life::default().note(&run.scene(), &stale).expect("detection takes its time");
    run.run_for(life::DETECTED_WITHIN_NS).unwrap();
    let caught = life::Life::default().note(&run.scene(), &stale).unwrap_err();
    assert_eq!(caught.checker, "dead-are-not-served");
    life::Life::default().note(&run.scene(), &view_of(&run, B)).expect("the newest view shows nothing of it");
}

#[test]
fn who_came_back_just_now_is_given_time_to_find_the_dead_and_nobody_else_is() {
    let mut run = whole();
    let mut life = life::Life::default();
    assert!(!life.is_back_lately(&run.scene(), A));
    run.world.network.isolate(A);
    run.run_for(30 * SECOND).unwrap();
    run.world.network.rejoin(A);
    let has_returned = |run: &Run| run.scene().engine(A).is_some_and(|engine| engine.membership().counters.renewals > 0);
    let within = (0..60).any(|_| run.run_for(SECOND).is_ok() && has_returned(&run));
    assert!(within, "it comes back after its probation");
    assert!(life.is_back_lately(&run.scene(), A) && !life.is_back_lately(&run.scene(), B));
    run.run_for(life::DETECTED_WITHIN_NS).unwrap();
    assert!(!life.is_back_lately(&run.scene(), A));
}

#[test]
fn who_holds_the_living_dead_long_after_all_faults_is_caught() {
    let mut run = whole();
    run.world.network.isolate(A);
    run.run_for(30 * SECOND).unwrap();
    let stale = view_of(&run, B);
    run.world.network.rejoin(A);
    run.disturbed_at = run.world.now();
    run.run_for(life::HEALED_WITHIN_NS - SECOND).unwrap();
    life::Life::default().note(&run.scene(), &stale).expect("healing takes its time");
    run.run_for(2 * SECOND).unwrap();
    let caught = life::Life::default().note(&run.scene(), &stale).unwrap_err();
    assert_eq!(caught.checker, "living-are-held-alive");
    life::Life::default().note(&run.scene(), &view_of(&run, B)).expect("it has healed");
}

#[test]
fn records_that_their_origin_never_wrote_are_caught() {
    let run = whole();
    prefix::Prefix.at_rest(&run.scene()).expect("all hold what was written");
    // A history of the same origins in which one live record says something else.
    let mut other = Truth::default();
    for host in run.world.host_ids() {
        let disk = run.world.host(host).disk.durable();
        let (head, sum) = disk.head.expect("it has written");
        let mut ops: Vec<StoreOp> =
            disk.records.iter().map(|(uid, record)| StoreOp::Record { uid: *uid, record: record.clone() }).collect();
        if let (A, Some(StoreOp::Record { record, .. })) = (host, ops.last_mut()) {
            record.state = RecordState::Live(Content::from_bytes(b"something else"));
        }
        ops.push(StoreOp::Head { head, sum });
        other.persisted(host, &ops).unwrap();
    }
    let caught = prefix::Prefix.at_rest(&Scene { truth: &other, ..run.scene() }).unwrap_err();
    assert_eq!(caught.checker, "prefix-is-true");
}

#[test]
fn who_is_not_ready_long_after_all_faults_is_caught() {
    let mut run = whole();
    run.run_for(ready::READY_WITHIN_NS).unwrap();
    let late = run.add_agents(1, &|_| {})[0];
    run.start(late);
    let note = Note::Handled { host: late };
    ready::Ready::default().note(&run.scene(), &note).expect("it has only just started");
    let caught = ready::Ready::default().note(&Scene { disturbed_at: 0, ..run.scene() }, &note).unwrap_err();
    assert_eq!(caught.checker, "all-are-ready");
    let old = Note::Handled { host: A };
    ready::Ready::default().note(&Scene { disturbed_at: 0, ..run.scene() }, &old).expect("the others are ready");
}

#[test]
fn a_revision_that_comes_again_is_caught_and_a_new_one_passes() {
    let mut run = whole();
    let first = view_of(&run, B);
    let mut checker = visible::Visible::default();
    checker.note(&run.scene(), &first).unwrap();
    let client = steps::client(&mut run, A);
    steps::act(&mut run, client, Intent::Register).unwrap();
    swarm::until_still(&mut run).unwrap();
    checker.note(&run.scene(), &view_of(&run, B)).expect("the feed leads from one to the other");
    checker.at_rest(&run.scene()).unwrap();
    let caught = checker.note(&run.scene(), &first).unwrap_err();
    assert_eq!(caught.checker, "feed-folds-to-view");
}

#[test]
fn a_view_without_the_highest_claim_is_caught_at_rest() {
    let mut run = whole();
    let before = run.views[B.index()].clone();
    let client = steps::client(&mut run, A);
    steps::act(&mut run, client, Intent::Register).unwrap();
    swarm::until_still(&mut run).unwrap();
    visible::Visible::default().at_rest(&run.scene()).expect("all show it");
    run.views[B.index()] = before;
    let caught = visible::Visible::default().at_rest(&run.scene()).unwrap_err();
    assert_eq!(caught.checker, "highest-claim-is-visible");
}

#[test]
fn what_lacks_is_said_until_nothing_does() {
    let mut run = whole();
    assert_eq!(whole::lack(&run.scene()), None);
    run.kill(A);
    let lacks = whole::lack(&run.scene()).expect("the others hold it alive yet");
    assert!(lacks.1.contains("runs nowhere"), "{}", lacks.1);
    run.run_for(30 * SECOND).unwrap();
    assert_eq!(whole::lack(&run.scene()), None, "two who hold the third for down are whole");
}

#[test]
fn a_summary_that_is_not_how_things_are_is_said() {
    crate::log::listen(None);
    let mut run = Run::cluster(1, 0);
    let sites = run.add_datacenters(&[(2, 1), (2, 1)], 25_000_000, &|_| {});
    let (gateway, here, there) = (sites[0][0], sites[0][1], sites[1][1]);
    run.kill(gateway);
    run.world.config_mut(gateway).gateway.as_mut().unwrap().export = agent::export(1, &BTreeSet::from([0]), Export::Full);
    run.start(gateway);
    steps::until_whole(&mut run, 90 * SECOND).unwrap();
    let before = run.views[there.index()].clone();
    let client = steps::client(&mut run, here);
    steps::act(&mut run, client, Intent::Register).unwrap();
    // Its own datacenter knows; a summary is told once a second.
    run.run_for(SECOND / 20).unwrap();
    let lacks = whole::lack(&run.scene()).expect("it takes its time");
    assert!(lacks.1.contains("summaries"), "{}", lacks.1);
    steps::until_whole(&mut run, 20 * SECOND).unwrap();
    run.views[there.index()] = before;
    assert!(whole::lack(&run.scene()).is_some_and(|(_, what)| what.contains("summaries")));
}

#[test]
fn a_lease_that_outlives_its_client_is_caught_and_a_renewed_one_passes() {
    let mut run = whole();
    let mut checker = leases::Leases::default();
    checker.note(&run.scene(), &Note::Started { host: A }).unwrap();
    let client = run.add_client(PlannedClient { ttl_ms: Some(6_000), ..run.clients[0].planned });
    steps::act(&mut run, client, Intent::Register).unwrap();
    for _ in 0..15 {
        run.run_for(SECOND).unwrap();
        checker.note(&run.scene(), &Note::Handled { host: A }).unwrap();
    }
    checker.at_rest(&run.scene()).expect("its client renews it");
    let silent = History::default();
    let caught = checker.at_rest(&Scene { history: &silent, ..run.scene() }).unwrap_err();
    assert_eq!(caught.checker, "leases-run-out");
}

#[test]
fn a_view_without_a_renewed_instance_is_caught() {
    let mut run = whole();
    let before = run.views[B.index()].clone();
    let client = run.add_client(PlannedClient { ttl_ms: Some(60_000), ..run.clients[0].planned });
    steps::act(&mut run, client, Intent::Register).unwrap();
    run.rest(10 * SECOND).unwrap();
    steps::act(&mut run, client, Intent::Heartbeat).unwrap();
    leases::Leases::default().at_rest(&run.scene()).expect("all show it");
    run.views[B.index()] = before;
    let caught = leases::Leases::default().at_rest(&run.scene()).unwrap_err();
    assert_eq!(caught.checker, "renewed-leases-live");
}

#[test]
fn who_sends_roots_before_it_is_ready_is_caught() {
    let mut run = whole();
    let late = run.add_agents(1, &|_| {})[0];
    run.start(late);
    let label = run.world.config(late).label.clone();
    let roots = reader::sealed(&label, None, 1, &[3, reader::ROOTS, 0, 0]);
    let sent = |host| Note::Sent { host, to: run.world.host(A).address, bytes: roots.clone() };
    ready::Ready::default().note(&run.scene(), &sent(A)).expect("it is ready");
    let caught = ready::Ready::default().note(&run.scene(), &sent(late)).unwrap_err();
    assert_eq!(caught.checker, "unready-are-silent");
    let swim = reader::sealed(&label, None, 1, &[2, reader::SWIM, 0]);
    let sent = Note::Sent { host: late, to: run.world.host(A).address, bytes: swim };
    ready::Ready::default().note(&run.scene(), &sent).expect("it looks for company");
}

#[test]
fn who_speaks_of_the_catalog_when_nothing_moves_is_caught_and_who_answers_a_write_is_not() {
    let mut run = whole();
    run.rest(10 * SECOND).expect("nobody speaks");
    let label = run.world.config(B).label.clone();
    let adverts = reader::body_of(&Part::Adverts(Vec::new()));
    let sent = Note::Sent { host: B, to: run.world.host(A).address, bytes: reader::sealed(&label, None, 1, &adverts) };
    let mut checker = limits::Limits::default();
    checker.note(&Scene { resting_since: None, ..run.scene() }, &sent).expect("there is something to say");
    let caught = checker.note(&run.scene(), &sent).unwrap_err();
    assert_eq!(caught.checker, "rest-is-silence");
    let wants = reader::body_of(&Part::Wants(Vec::new()));
    let asks = Note::Sent { host: B, to: run.world.host(A).address, bytes: reader::sealed(&label, None, 1, &wants) };
    let lied_at = Some(run.world.now() - SECOND);
    checker.note(&Scene { lied_at, ..run.scene() }, &asks).expect("it asks for a head that somebody invented");
    assert_eq!(checker.note(&Scene { lied_at, ..run.scene() }, &sent).unwrap_err().checker, "rest-is-silence");
    assert_eq!(checker.note(&run.scene(), &asks).unwrap_err().checker, "rest-is-silence");
    let moved = Moved { heads: vec![(run.scene().engine(B).and_then(|engine| engine.catalog().heads().next()).unwrap(), 0)], gone: vec![] };
    checker.note(&Scene { moved: &moved, ..run.scene() }, &Note::Handled { host: B }).unwrap();
    checker.note(&run.scene(), &sent).expect("a head has just moved");
}

/// Two datacenters of two agents each, the first a gateway, that know each other; and an instance registered at the first of all.
fn linked() -> Run {
    crate::log::listen(None);
    let mut run = Run::new(1, crate::world::network::Conditions::LAN);
    run.add_datacenters(&[(2, 1), (2, 1)], 10_000_000, &|_| {});
    swarm::until_whole(&mut run, 60 * SECOND).unwrap();
    let client = steps::client(&mut run, A);
    steps::act(&mut run, client, Intent::Register).unwrap();
    // Right after a start agents may yet turn out to be another one's twin.
    run.run_for(20 * SECOND).unwrap();
    swarm::until_still(&mut run).unwrap();
    run
}

const ELSEWHERE: HostId = HostId(3);

#[test]
fn what_is_shown_of_another_datacenter_and_was_never_written_there_is_caught() {
    let run = linked();
    let shown = view_of(&run, ELSEWHERE);
    let scene = Scene { truth: &Truth::default(), ..run.scene() };
    imports::Imports::default().note(&run.scene(), &shown).expect("it was written there");
    assert_eq!(imports::Imports::default().note(&scene, &shown).unwrap_err().checker, "imports-are-true");
}

#[test]
fn what_goes_away_of_another_datacenter_without_its_word_is_caught_and_a_delete_is_not() {
    let mut run = linked();
    let mut imports = imports::Imports::default();
    imports.note(&run.scene(), &view_of(&run, ELSEWHERE)).unwrap();
    let nothing = Note::View { host: ELSEWHERE, view: Arc::default() };
    assert_eq!(imports.note(&run.scene(), &nothing).unwrap_err().checker, "imports-are-kept");
    steps::act(&mut run, 0, Intent::Deregister).unwrap();
    run.run_for(5 * SECOND).unwrap();
    imports.note(&run.scene(), &view_of(&run, ELSEWHERE)).expect("it was deleted there");
}

#[test]
fn what_was_written_by_one_who_is_cut_off_may_be_forgotten_after_as_long_as_that_is_doubted() {
    let mut run = linked();
    let mut view = (**run.views[ELSEWHERE.index()].as_ref().unwrap()).clone();
    let emptied = DatacenterView { view: Arc::default(), ..(*view.datacenters[0]).clone() };
    view.datacenters = vec![Arc::new(emptied)].into();
    let nothing = Note::View { host: ELSEWHERE, view: Arc::new(view) };
    let doubted_ns = run.world.config(ELSEWHERE).wan.unknown_ms * 1_000_000;
    let mut imports = imports::Imports::default();
    imports.note(&run.scene(), &view_of(&run, ELSEWHERE)).unwrap();
    let goes_after = |imports: &mut imports::Imports, run: &mut Run, ns: u64| {
        run.run_for(ns).unwrap();
        imports.note(&run.scene(), &nothing)
    };
    run.kill(B);
    run.world.network.isolate(A);
    assert_eq!(goes_after(&mut imports, &mut run, 0).unwrap_err().checker, "imports-are-kept");
    assert_eq!(goes_after(&mut imports, &mut run, doubted_ns - SECOND).unwrap_err().checker, "imports-are-kept");
    goes_after(&mut imports, &mut run, SECOND).expect("nobody there tells of it");
    imports.note(&run.scene(), &view_of(&run, ELSEWHERE)).unwrap();
    run.world.network.rejoin(A);
    goes_after(&mut imports, &mut run, life::HEALED_WITHIN_NS - SECOND).expect("it may not have been found again");
    imports.note(&run.scene(), &view_of(&run, ELSEWHERE)).unwrap();
    assert_eq!(goes_after(&mut imports, &mut run, 2 * SECOND).unwrap_err().checker, "imports-are-kept");
}

#[test]
fn a_datacenter_of_which_nothing_is_heard_is_wrong_as_fresh_and_right_as_stale() {
    let mut run = linked();
    let (here, there) = ([A, B], [HostId(2), ELSEWHERE]);
    let wrongs = |run: &Run| vouched::Vouched::wrongs(&run.scene(), ELSEWHERE).len();
    assert_eq!(wrongs(&run), 0, "it is heard");
    steps::split(&mut run, &here, &there);
    run.run_for(2 * SECOND).unwrap();
    assert_eq!(wrongs(&run), 1, "the link is not given up yet");
    run.run_for(vouched::SETTLED_WITHIN_NS).unwrap();
    assert_eq!(wrongs(&run), 0, "it says how old its word is");
}

#[test]
fn an_origin_of_another_datacenter_among_the_own_ones_is_caught() {
    let run = linked();
    let origin = run.node(A).expect("it runs");
    let head = run.world.machine(A).and_then(|engine| engine.catalog().head(origin)).expect("it has written");
    let moved = Moved { heads: vec![(head, 0)], gone: Vec::new() };
    let scene = Scene { moved: &moved, ..run.scene() };
    imports::Imports::default().note(&scene, &Note::Handled { host: B }).expect("it is of this datacenter");
    let caught = imports::Imports::default().note(&scene, &Note::Handled { host: ELSEWHERE }).unwrap_err();
    assert_eq!(caught.checker, "local-is-local");
}
