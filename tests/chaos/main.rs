//! Chaos: five real agents on hosts of their own; one client writes at changing agents while agents are killed, paused, cut
//! off, unplugged, split and slowed; reads always answer, and after calm every agent shows exactly what the client was told.
//!
//! Needs root on Linux, else it skips. `TIDINGS_CHAOS_SEED` repeats the plan and the client's choices of an earlier run (not
//! its timing), `TIDINGS_CHAOS_SECONDS` changes its length.
#![cfg(all(feature = "agent", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod client;
mod faults;
#[path = "../lab/mod.rs"]
mod lab;
mod oracle;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Tally, Writer, everything, read_on};
use faults::{Fault, Planned, plan};
use lab::agent::{Agent, Site};
use lab::network::{Host, Lab};
use lab::wait_for;

const AGENTS: usize = 5;
const LENGTH: Duration = Duration::from_secs(60);
/// Invariant 9 of the design: membership is whole within two minutes of healing. Contents follow membership.
const CALM_WITHIN: Duration = Duration::from_secs(130);
/// After the first agreement: it has to last.
const STAYS_FOR: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);

/// What the threads of a run share.
pub struct Run {
    pub seed: u64,
    pub start: Instant,
    stop: AtomicBool,
    /// Even while the agent has to answer; changed whenever it begins or ceases to.
    phases: Vec<AtomicU64>,
    wrong: Mutex<Vec<String>>,
}

impl Run {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The agent's phase if it has to answer now.
    pub fn phase(&self, agent: usize) -> Option<u64> {
        let phase = self.phases[agent].load(Ordering::SeqCst);
        phase.is_multiple_of(2).then_some(phase)
    }

    pub fn complain(&self, what: String) {
        eprintln!("WRONG: {what}");
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn set_answering(&self, agent: usize, answering: bool) {
        let phase = &self.phases[agent];
        if phase.load(Ordering::SeqCst).is_multiple_of(2) != answering {
            phase.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
#[ignore = "minutes long, and of the machine's own timing: cargo test --test chaos -- --ignored"]
fn after_calm_every_agent_shows_what_the_client_was_told() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seed = number("TIDINGS_CHAOS_SEED").unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs()));
    let length = number("TIDINGS_CHAOS_SECONDS").map_or(LENGTH, Duration::from_secs);
    let Some(mut lab) = Lab::new(seed) else { return };
    println!("repeat with TIDINGS_CHAOS_SEED={seed} TIDINGS_CHAOS_SECONDS={}", length.as_secs());

    let site = Site::new();
    let hosts: Vec<Host> = (1..=AGENTS).map(|n| lab.host(&format!("n{n}"))).collect();
    let mut agents = site.agents_on(&hosts);
    agents.iter_mut().for_each(Agent::spawn);
    for agent in &mut agents {
        agent.wait_ready();
    }
    for agent in &agents {
        agent.wait_alive(AGENTS, CALM_WITHIN);
    }

    let run = Arc::new(Run {
        seed,
        start: Instant::now(),
        stop: AtomicBool::new(false),
        phases: (0..AGENTS).map(|_| AtomicU64::new(0)).collect(),
        wrong: Mutex::default(),
    });
    let doors: Vec<_> = agents.iter().map(|agent| agent.http.clone()).collect();
    let writer = {
        let (run, doors) = (Arc::clone(&run), doors.clone());
        std::thread::spawn(move || Writer::new(run, doors).write_on())
    };
    let readers: Vec<_> = (0..AGENTS)
        .map(|agent| {
            let (run, door) = (Arc::clone(&run), doors[agent].clone());
            std::thread::spawn(move || read_on(&run, agent, &door))
        })
        .collect();

    Nemesis { run: &run, lab: &lab, hosts: &hosts, agents: &mut agents, booting: Vec::new() }.follow(&plan(seed, AGENTS, length));
    let calm = Instant::now();
    run.stop.store(true, Ordering::SeqCst);
    let (oracle, writes) = writer.join().expect("the writer does not panic");
    let reads = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).fold(Tally::default(), Tally::add);
    println!("writes: {writes:?}; keys: {}, in doubt: {}", oracle.len(), oracle.doubtful());
    println!("reads: {reads:?}; packets: {:?}", lab.counts());

    let look = || {
        let shown = agents.iter().map(|agent| Ok((agent.node.clone(), everything(&agent.http)?))).collect::<Result<_, String>>()?;
        let wrong = oracle.judge(&shown);
        if wrong.is_empty() { Ok(()) } else { Err(format!("{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"))) }
    };
    wait_for(CALM_WITHIN, "every agent shows what the client was told", look);
    println!("calm to agreement: {:?}", calm.elapsed());
    let agreed = Instant::now();
    while agreed.elapsed() < STAYS_FOR {
        look().unwrap_or_else(|why| panic!("the agreement did not last: {why}"));
        std::thread::sleep(TICK * 10);
    }
    for agent in &agents {
        agent.wait_alive(AGENTS, CALM_WITHIN);
    }

    let wrong = run.wrong.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "{} complaints, seed {seed}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(writes.done > 100 && reads.done > 500, "too little was done to prove anything");
    assert!(oracle.doubtful() * 5 < oracle.len(), "too much is in doubt to prove anything");
}

/// Follows the plan of faults.
struct Nemesis<'a> {
    run: &'a Run,
    lab: &'a Lab,
    hosts: &'a [Host],
    agents: &'a mut [Agent],
    /// Restarted, but not ready yet.
    booting: Vec<usize>,
}

impl Nemesis<'_> {
    /// Returns when the last fault is over and every agent is ready.
    fn follow(&mut self, faults: &[Planned]) {
        let start = Instant::now();
        let mut to_begin = faults.iter().peekable();
        let mut running: Vec<&Planned> = Vec::new();
        while to_begin.peek().is_some() || !running.is_empty() || !self.booting.is_empty() {
            let now = start.elapsed();
            while let Some(over) = running.iter().position(|planned| planned.until <= now) {
                let planned = running.swap_remove(over);
                println!("{now:>8.2?} over: {:?}", planned.fault);
                self.end(&planned.fault);
            }
            if let Some(planned) = to_begin.next_if(|planned| planned.at <= now) {
                println!("{now:>8.2?} {:?} for {:?}", planned.fault, planned.until - planned.at);
                self.begin(&planned.fault);
                running.push(planned);
            }
            self.note_ready();
            std::thread::sleep(TICK);
        }
    }

    fn begin(&mut self, fault: &Fault) {
        for agent in fault.silences() {
            self.run.set_answering(agent, false);
        }
        match fault {
            Fault::Kill(agent) => self.kill(*agent),
            Fault::KillTwo(one, other) => {
                self.kill(*one);
                self.kill(*other);
            }
            Fault::Pause(agent) => self.agents[*agent].pause(),
            Fault::Isolate(agent) => drop(self.lab.around(&self.hosts[*agent]).cut()),
            Fault::Unplug(agent) => self.hosts[*agent].link_down(),
            Fault::Split(side) => {
                let (left, right): (Vec<_>, Vec<_>) = self.hosts.iter().enumerate().partition(|(n, _)| side.contains(n));
                let hosts = |side: Vec<(usize, &'_ Host)>| side.into_iter().map(|(_, host)| host.clone()).collect::<Vec<_>>();
                let (left, right) = (hosts(left), hosts(right));
                self.lab.split(&left.iter().collect::<Vec<_>>(), &right.iter().collect::<Vec<_>>());
            }
            Fault::OneWay(from, to) => self.lab.cut_one_way(&self.hosts[*from], &self.hosts[*to]),
            Fault::Slow { delay, jitter, loss } => drop(self.lab.everywhere().delay(*delay).jitter(*jitter).loss(*loss)),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill(agent) => self.boot(*agent),
            Fault::KillTwo(one, other) => {
                self.boot(*one);
                self.boot(*other);
            }
            Fault::Pause(agent) => {
                self.agents[*agent].resume();
                self.run.set_answering(*agent, true);
            }
            Fault::Unplug(agent) => self.hosts[*agent].link_up(),
            Fault::Isolate(_) | Fault::Split(_) | Fault::OneWay(..) | Fault::Slow { .. } => self.lab.heal(),
        }
    }

    fn kill(&mut self, agent: usize) {
        self.booting.retain(|booting| *booting != agent);
        self.agents[agent].kill();
    }

    fn boot(&mut self, agent: usize) {
        self.agents[agent].spawn();
        self.booting.push(agent);
    }

    fn note_ready(&mut self) {
        self.booting.retain(|&agent| {
            let ready = self.agents[agent].is_ready();
            if ready {
                self.run.set_answering(agent, true);
            }
            !ready
        });
    }
}
