//! Spread: registrations at one of ten agents on loopback, seen through the event streams of the nine others.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab::agent::{Agent, Site};
use crate::lab::http::{Events, Http};
use crate::report;

const AGENTS: usize = 10;
const INTERVAL: Duration = Duration::from_millis(20);
const SERVICES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn measure(registrations: usize) {
    let site = Site::new();
    let mut agents: Vec<Agent> = Vec::new();
    for n in 0..AGENTS {
        let known: Vec<&Agent> = agents.iter().take(2).collect();
        agents.push(site.agent(&format!("n{n}")).join(&known));
    }
    agents.iter_mut().for_each(Agent::spawn);
    for agent in &mut agents {
        agent.wait_ready();
    }
    for agent in &agents {
        agent.wait_alive(AGENTS, Duration::from_secs(30));
    }
    let ready = Arc::new(Barrier::new(AGENTS));
    let watchers: Vec<_> = agents[1..].iter().map(|agent| watch(agent.http.clone(), registrations, Arc::clone(&ready))).collect();
    ready.wait();
    let (sent, answered) = register(&agents[0].http, registrations);

    let seen: Vec<BTreeMap<usize, Instant>> = watchers.into_iter().map(|watcher| watcher.join().expect("a watcher returns")).collect();
    let since = |from: &[Instant]| -> Vec<Duration> {
        let pairs = seen.iter().flat_map(|seen| seen.iter().map(|(n, at)| at.saturating_duration_since(from[*n])));
        pairs.collect()
    };
    let missing: usize = seen.iter().map(|seen| registrations - seen.len()).sum();
    println!("{registrations} registrations, one every {INTERVAL:?}, at one of {AGENTS} agents; {missing} events missing");
    report("request sent to its answer", &mut sent.iter().zip(&answered).map(|(sent, answered)| *answered - *sent).collect::<Vec<_>>());
    report("request sent to the event at each other agent", &mut since(&sent));
    report("answer to the event at each other agent", &mut since(&answered));
    let last: Vec<Instant> = (0..registrations).filter_map(|n| seen.iter().filter_map(|seen| seen.get(&n)).max().copied()).collect();
    report("request sent to the event at the last agent", &mut last.iter().zip(&sent).map(|(at, sent)| *at - *sent).collect::<Vec<_>>());
}

/// Registers at a steady rate; returns when each request was sent and answered.
fn register(http: &Http, registrations: usize) -> (Vec<Instant>, Vec<Instant>) {
    let start = Instant::now();
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    for n in 0..registrations {
        std::thread::sleep((start + INTERVAL * n as u32).saturating_duration_since(Instant::now()));
        let body = json!({"address": "10.1.2.3", "port": 8080, "tags": ["blue", "grpc"], "metadata": {"version": "1.4.2", "env": "prod"}});
        sent.push(Instant::now());
        let path = format!("/api/v1/services/load-{}/instances/{n}", n % SERVICES);
        http.json("PUT", &path, Some(&body)).unwrap_or_else(|why| panic!("registration {n}: {why}"));
        answered.push(Instant::now());
    }
    (sent, answered)
}

/// Notes when each registration is seen at one agent.
fn watch(http: Http, registrations: usize, ready: Arc<Barrier>) -> JoinHandle<BTreeMap<usize, Instant>> {
    std::thread::spawn(move || {
        let mut events = http.events("/api/v1/watch").unwrap_or_else(|failure| panic!("no events: {failure}"));
        while events.next(PATIENCE).expect("the snapshot ends").name != "synced" {}
        ready.wait();
        let mut seen = BTreeMap::new();
        while seen.len() < registrations {
            let Some((n, at)) = next_put(&mut events) else { break };
            seen.entry(n).or_insert(at);
        }
        seen
    })
}

/// The number of the next registration seen; `None` when none comes for long.
fn next_put(events: &mut Events) -> Option<(usize, Instant)> {
    loop {
        let event = events.next(PATIENCE).ok()?;
        let at = Instant::now();
        if event.name != "put" {
            continue;
        }
        let body = event.json();
        let instance = body.get("instance").unwrap_or(&body);
        let number = instance["id"].as_str().and_then(|id| id.parse().ok());
        if let Some(number) = number {
            return Some((number, at));
        }
    }
}
