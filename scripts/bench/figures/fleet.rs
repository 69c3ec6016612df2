//! Ten agents on hosts of their own under load, and observers that ask each of them all the time who is there.
//!
//! Each agent has registered one instance of the service `marker`, named after itself. An observer asks its agent for the list
//! and notes when a marker goes or comes; what it notes is what the figures are made of.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::json;

use crate::lab::agent::{Agent, Site};
use crate::lab::http::Http;
use crate::lab::network::{Host, Lab};
use crate::lab::wait_until;

pub const AGENTS: usize = 10;
const LOAD_INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
/// For all agents that are up to show all markers of agents that are up.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// An observer's note: at this moment the marker was gone from the answers of its agent, or back in them.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub at: Instant,
    pub observer: usize,
    pub marker: usize,
    pub present: bool,
}

pub struct Fleet {
    pub lab: Lab,
    pub hosts: Vec<Host>,
    pub agents: Vec<Agent>,
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    _site: Site,
}

/// What an agent showed last, and when it was asked.
struct Look {
    asked: Instant,
    markers: BTreeSet<usize>,
}

#[derive(Default)]
pub struct Shared {
    stop: AtomicBool,
    /// Nothing is being done to these.
    up: [AtomicBool; AGENTS],
    shown: [Mutex<Option<Look>>; AGENTS],
    notes: Mutex<Vec<Note>>,
    pub accepted: AtomicU64,
    pub failed: AtomicU64,
}

impl Shared {
    pub fn is_up(&self, agent: usize) -> bool {
        self.up[agent].load(Ordering::SeqCst)
    }

    pub fn set_up(&self, agent: usize, up: bool) {
        self.up[agent].store(up, Ordering::SeqCst);
    }

    pub fn all_up(&self) -> BTreeSet<usize> {
        (0..AGENTS).filter(|agent| self.is_up(*agent)).collect()
    }

    /// What the agent showed when it was last asked, if that was after `since`.
    pub fn shown(&self, agent: usize, since: Instant) -> Option<BTreeSet<usize>> {
        let shown = self.shown[agent].lock().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().filter(|look| look.asked > since).map(|look| look.markers.clone())
    }

    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fleet {
    /// Starts everything; observers ask every `look_interval`.
    pub fn start(seed: u64, look_interval: Duration) -> Option<Fleet> {
        let mut lab = Lab::new(seed)?;
        let site = Site::new();
        let hosts: Vec<Host> = (0..AGENTS).map(|n| lab.host(&format!("n{n}"))).collect();
        let mut agents = site.agents_on(&hosts);
        agents.iter_mut().for_each(Agent::spawn);
        for agent in &mut agents {
            agent.wait_ready();
        }
        for agent in &agents {
            agent.wait_alive(AGENTS, SETTLE_WITHIN);
            agent.register("marker", &agent.node, json!({"port": 1}));
        }
        let shared = Arc::new(Shared::default());
        (0..AGENTS).for_each(|agent| shared.set_up(agent, true));
        let doors: Vec<Http> = agents.iter().map(|agent| agent.http.clone()).collect();
        let mut threads = Vec::new();
        for (observer, door) in doors.iter().cloned().enumerate() {
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || observe(&shared, observer, &door, look_interval)));
        }
        let mut fleet = Fleet { lab, hosts, agents, shared, threads, _site: site };
        fleet.settle();
        let shared = Arc::clone(&fleet.shared);
        fleet.threads.push(std::thread::spawn(move || load(&shared, &doors, seed)));
        Some(fleet)
    }

    /// Waits until every agent that is up shows the markers of all that are up; returns how long that took.
    pub fn settle(&self) -> Duration {
        let start = Instant::now();
        wait_until(SETTLE_WITHIN, "all agents that are up show each other", || {
            let up = self.shared.all_up();
            up.iter().all(|agent| self.shared.shown(*agent, start).is_some_and(|shown| shown.is_superset(&up)))
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn observe(shared: &Shared, observer: usize, door: &Http, look_interval: Duration) {
    let mut last: BTreeSet<usize> = BTreeSet::new();
    while !shared.stop.load(Ordering::SeqCst) {
        std::thread::sleep(look_interval);
        if !shared.is_up(observer) {
            continue;
        }
        let asked = Instant::now();
        let Ok(answer) = door.send("GET", "/api/v1/services/marker", None, PATIENCE) else { continue };
        if answer.status != 200 || !shared.is_up(observer) {
            continue;
        }
        let at = Instant::now();
        let body = answer.json();
        let id = |instance: &serde_json::Value| instance["id"].as_str()?.strip_prefix('n')?.parse().ok();
        let now: BTreeSet<usize> = body["instances"].as_array().into_iter().flatten().filter_map(id).collect();
        let mut notes = shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for &marker in last.symmetric_difference(&now) {
            notes.push(Note { at, observer, marker, present: now.contains(&marker) });
        }
        drop(notes);
        last.clone_from(&now);
        *shared.shown[observer].lock().unwrap_or_else(PoisonError::into_inner) = Some(Look { asked, markers: now });
    }
}

/// Registers fresh instances at a steady rate at random agents that are up.
fn load(shared: &Shared, doors: &[Http], seed: u64) {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let start = Instant::now();
    for n in 0_u32.. {
        std::thread::sleep((start + LOAD_INTERVAL * n).saturating_duration_since(Instant::now()));
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let agent = random.random_range(0..doors.len());
        if !shared.is_up(agent) {
            continue;
        }
        let path = format!("/api/v1/services/load-{}/instances/{n}", n % 50);
        let body = json!({"address": "10.1.2.3", "port": 8080, "tags": ["blue"], "metadata": {"version": "1.4.2"}});
        match doors[agent].send("PUT", &path, Some(&body), PATIENCE) {
            Ok(answer) if matches!(answer.status, 200 | 201) => shared.accepted.fetch_add(1, Ordering::SeqCst),
            _ => shared.failed.fetch_add(1, Ordering::SeqCst),
        };
    }
}
