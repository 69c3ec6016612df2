//! Deaths and leaves: how long until what an agent registered is gone from the answers of every other agent.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::fleet::{AGENTS, Fleet, Note};
use crate::report;

const SEED: u64 = 20_261_122;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const LEAVE_LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Given up after this: the death was not noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
/// A stopped process goes on after this.
const STOPPED_FOR: Duration = Duration::from_secs(60);
/// Stopped at the same time: with the one that dies meanwhile three of ten are gone, which nobody must take for a cut of its own.
const STOPPED_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Kill,
    Stop,
    LinkDown,
    Leave,
}

struct Death {
    cause: Cause,
    victim: usize,
    at: Instant,
    wall: SystemTime,
    /// Until gone from the last other agent's answers.
    noticed: Option<Duration>,
    /// When its process or link returned, and how long after that all showed it again.
    returned: Option<(Instant, Duration)>,
}

pub fn measure(deaths: usize) {
    let Some(mut fleet) = Fleet::start(SEED, LOOK_INTERVAL) else { return };
    let mut random = ChaCha12Rng::seed_from_u64(SEED);
    let mut done: Vec<Death> = Vec::new();
    let mut stopped: Vec<(usize, Instant)> = Vec::new();
    for n in 0..deaths {
        // Not in step with the agents' probes.
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_000)));
        let cause = [Cause::Kill, Cause::Stop, Cause::LinkDown][n % 3];
        if cause == Cause::Stop && stopped.len() == STOPPED_MAX {
            let (number, at) = stopped.remove(0);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            done[number].returned = Some(come_back(&mut fleet, &done[number]));
        }
        let victim = fleet.shared.all_up().into_iter().choose(&mut random).expect("most are up");
        let mut death = die(&mut fleet, cause, victim);
        match cause {
            Cause::Stop => stopped.push((n, Instant::now() + STOPPED_FOR)),
            _ => death.returned = Some(come_back(&mut fleet, &death)),
        }
        print_one(n, &death);
        done.push(death);
        while let Some(due) = stopped.iter().position(|(_, at)| *at <= Instant::now()) {
            let (number, _) = stopped.remove(due);
            done[number].returned = Some(come_back(&mut fleet, &done[number]));
        }
    }
    for (number, at) in stopped {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        done[number].returned = Some(come_back(&mut fleet, &done[number]));
    }
    summarize(&fleet, &done);
}

pub fn measure_leaves(leaves: usize) {
    let Some(mut fleet) = Fleet::start(SEED, LEAVE_LOOK_INTERVAL) else { return };
    let mut random = ChaCha12Rng::seed_from_u64(SEED);
    let mut done: Vec<Death> = Vec::new();
    for n in 0..leaves {
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_000)));
        let victim = random.random_range(0..AGENTS);
        let mut death = die(&mut fleet, Cause::Leave, victim);
        let status = fleet.agents[victim].wait_end();
        assert!(status.success(), "a leave ended with {status}");
        death.returned = Some(come_back(&mut fleet, &death));
        print_one(n, &death);
        done.push(death);
    }
    summarize(&fleet, &done);
}

/// Does it and waits until all others have noticed.
fn die(fleet: &mut Fleet, cause: Cause, victim: usize) -> Death {
    fleet.shared.set_up(victim, false);
    let (at, wall) = (Instant::now(), SystemTime::now());
    match cause {
        Cause::Kill => fleet.agents[victim].kill(),
        Cause::Stop => fleet.agents[victim].pause(),
        Cause::LinkDown => fleet.hosts[victim].link_down(),
        Cause::Leave => fleet.agents[victim].signal(libc::SIGTERM),
    }
    let others = fleet.shared.all_up();
    let gone = |agent: &usize| fleet.shared.shown(*agent, at).is_some_and(|shown| !shown.contains(&victim));
    while at.elapsed() < NOTICED_WITHIN && !others.iter().all(gone) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let noted = |agent: &usize| {
        let notes = fleet.shared.notes();
        let note = notes.iter().find(|note| note.at > at && note.observer == *agent && note.marker == victim && !note.present);
        note.map(|note| note.at - at)
    };
    let noticed = others.iter().map(noted).collect::<Option<Vec<Duration>>>().and_then(|all| all.into_iter().max());
    Death { cause, victim, at, wall, noticed, returned: None }
}

/// Undoes it and waits until all agents that are up show each other.
fn come_back(fleet: &mut Fleet, death: &Death) -> (Instant, Duration) {
    let start = Instant::now();
    match death.cause {
        Cause::Kill | Cause::Leave => {
            fleet.agents[death.victim].restart();
        }
        Cause::Stop => fleet.agents[death.victim].resume(),
        Cause::LinkDown => fleet.hosts[death.victim].link_up(),
    }
    fleet.shared.set_up(death.victim, true);
    fleet.settle();
    (start, start.elapsed())
}

fn print_one(n: usize, death: &Death) {
    println!("{n:>3} {:?} of n{}: noticed by all after {:?}", death.cause, death.victim, death.noticed);
}

fn summarize(fleet: &Fleet, done: &[Death]) {
    for cause in [Cause::Kill, Cause::Stop, Cause::LinkDown, Cause::Leave] {
        let of_cause: Vec<&Death> = done.iter().filter(|death| death.cause == cause).collect();
        if of_cause.is_empty() {
            continue;
        }
        let missed = of_cause.iter().filter(|death| death.noticed.is_none()).count();
        let mut noticed: Vec<Duration> = of_cause.iter().filter_map(|death| death.noticed).collect();
        report(&format!("{cause:?} to gone from every other's answers"), &mut noticed);
        let above = |seconds| noticed.iter().filter(|time| **time > Duration::from_secs(seconds)).count();
        println!("    above 3 s: {}; above 5 s: {}; not noticed in {NOTICED_WITHIN:?}: {missed}", above(3), above(5));
        let mut returned: Vec<Duration> = of_cause.iter().filter_map(|death| death.returned.map(|(_, took)| took)).collect();
        report(&format!("{cause:?}: start of return to shown by all"), &mut returned);
    }
    let false_alarms: Vec<Note> = fleet.shared.notes().into_iter().filter(|note| is_false_alarm(note, done)).collect();
    println!("healthy agents missed from an answer: {}", false_alarms.len());
    for note in false_alarms.iter().take(20) {
        println!(
            "    n{} missed n{}, {:?} after the start, for {:?}",
            note.observer,
            note.marker,
            note.at - done[0].at,
            missed_for(note, fleet)
        );
    }
    for observer in false_alarms.iter().map(|note| note.observer).collect::<BTreeSet<usize>>() {
        println!("    what n{observer} said of the cluster, started at {:?}:", done[0].wall);
        let log = fleet.agents[observer].log();
        log.lines()
            .filter(|line| line.contains("view of the cluster") || line.contains("rejoining"))
            .for_each(|line| println!("      {line}"));
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::SeqCst);
    println!("registrations meanwhile: {} accepted, {} not", count(&fleet.shared.accepted), count(&fleet.shared.failed));
    println!("packets: {:?}", fleet.lab.counts());
}

/// Until the marker was back at that observer.
fn missed_for(note: &Note, fleet: &Fleet) -> Option<Duration> {
    let notes = fleet.shared.notes();
    let back =
        notes.iter().find(|back| back.at > note.at && back.observer == note.observer && back.marker == note.marker && back.present)?;
    Some(back.at - note.at)
}

/// Whether a marker went although nothing was being done to its agent, nor to the one that missed it.
fn is_false_alarm(note: &Note, done: &[Death]) -> bool {
    let disturbed = |agent: usize| {
        done.iter().any(|death| {
            let until = death.returned.map(|(back, took)| back + took);
            death.victim == agent && death.at <= note.at && until.is_none_or(|until| note.at <= until)
        })
    };
    !note.present && !disturbed(note.marker) && !disturbed(note.observer)
}
