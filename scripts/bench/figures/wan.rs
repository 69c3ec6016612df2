//! Two datacenters of real agents on hosts of their own: two gateways and two plain agents each, 50 ms and 1 % of loss each way between
//! them. What crosses, how fast, and what it costs on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::agent::{Agent, Site};
use crate::lab::http::{Events, Http};
use crate::lab::network::{Host, Lab};
use crate::lab::wait_until;
use crate::report;

const ONE_WAY: Duration = Duration::from_millis(50);
const LOSS: f64 = 0.01;
const WAN_PORT: u16 = 7977;
const MEET_WITHIN: Duration = Duration::from_secs(60);
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Hosts of a datacenter: the first two are gateways.
pub const HOSTS: usize = 4;
const GATEWAYS: usize = 2;

pub struct World {
    lab: Lab,
    hosts: Vec<Host>,
    pub agents: Vec<Agent>,
    _site: Site,
}

impl World {
    /// East is hosts 0 to 3, west 4 to 7.
    pub fn start(seed: u64) -> Option<World> {
        let mut lab = Lab::new(seed)?;
        let site = Site::new();
        let hosts: Vec<Host> = (0..2 * HOSTS).map(|n| lab.host(&format!("{}{}", ["east", "west"][n / HOSTS], n % HOSTS))).collect();
        let (east, west) = hosts.split_at(HOSTS);
        set_apart(&lab, &hosts, false);
        let pool: Vec<String> = [0, 1, HOSTS, HOSTS + 1].iter().map(|n| hosts[*n].at(WAN_PORT).to_string()).collect();
        let settings = site.path("wan.toml");
        std::fs::write(&settings, "[wan]\nexport = { \"*\" = \"full\" }\n").expect("the scratch directory can be written");
        let settings = settings.display().to_string();
        let mut agents: Vec<Agent> = Vec::new();
        for (side, name) in [(east, "east"), (west, "west")] {
            for (n, mut agent) in site.agents_on(side).into_iter().enumerate() {
                agent = agent.with(&["--datacenter", name]);
                if n < GATEWAYS {
                    let advertised = side[n].at(WAN_PORT).to_string();
                    let listen = format!("0.0.0.0:{WAN_PORT}");
                    agent = agent.with(&["--config", &settings, "--gateway", "--wan", &listen, "--advertise-wan", &advertised]);
                    for seed in pool.iter().filter(|seed| **seed != advertised) {
                        agent = agent.with(&["--join-wan", seed]);
                    }
                }
                agents.push(agent);
            }
        }
        agents.iter_mut().for_each(Agent::spawn);
        for agent in &mut agents {
            agent.wait_ready();
        }
        let world = World { lab, hosts, agents, _site: site };
        for (n, agent) in world.agents.iter().enumerate() {
            let other = ["west", "east"][n / HOSTS];
            wait_until(MEET_WITHIN, &format!("{} hears {other}", agent.node), || is_fresh(agent, other));
        }
        Some(world)
    }

    /// Lets nothing pass between the datacenters, or what passed at first.
    pub fn set_apart(&self, is_cut: bool) {
        set_apart(&self.lab, &self.hosts, is_cut);
    }

    pub fn wan_bytes(&self) -> u64 {
        let (east, west): (Vec<&Host>, Vec<&Host>) = (self.hosts[..HOSTS].iter().collect(), self.hosts[HOSTS..].iter().collect());
        self.lab.bytes_between(&east, &west)
    }
}

fn set_apart(lab: &Lab, hosts: &[Host], is_cut: bool) {
    let (east, west) = hosts.split_at(HOSTS);
    for (a, b) in east.iter().flat_map(|a| west.iter().map(move |b| (a, b))) {
        let link = lab.link(a, b).heal().delay(ONE_WAY).loss(LOSS);
        if is_cut {
            link.cut();
        }
    }
}

fn is_fresh(agent: &Agent, datacenter: &str) -> bool {
    let Ok(all) = agent.http.json("GET", "/api/v1/datacenters", None) else { return false };
    all["datacenters"].as_array().is_some_and(|all| all.iter().any(|one| one["datacenter"] == datacenter && one["state"] == "fresh"))
}

pub fn register(http: &Http, service: &str, id: &str, port: u32) {
    let body = json!({"address": "10.1.2.3", "port": port, "tags": ["blue", "grpc"], "metadata": {"version": "1.4.2", "env": "prod"}});
    let path = format!("/api/v1/services/{service}/instances/{id}");
    http.json("PUT", &path, Some(&body)).unwrap_or_else(|why| panic!("registration {service}/{id}: {why}"));
}

/// What one agent hears of the other datacenter, from now on.
fn follow(http: &Http, datacenter: &str) -> Events {
    let mut events = http.events(&format!("/api/v1/watch?dc={datacenter}")).unwrap_or_else(|failure| panic!("no events: {failure}"));
    while events.next(PATIENCE).expect("the snapshot ends").name != "synced" {}
    events
}

/// Notes when each of so many instances is first seen.
fn note_puts(mut events: Events, wanted: usize) -> BTreeMap<String, Instant> {
    let mut seen = BTreeMap::new();
    while seen.len() < wanted {
        let Ok(event) = events.next(PATIENCE) else { break };
        let at = Instant::now();
        let body = event.json();
        let instance = body.get("instance").unwrap_or(&body);
        if let ("put", Some(id)) = (event.name.as_str(), instance["id"].as_str()) {
            seen.entry(id.to_owned()).or_insert(at);
        }
    }
    seen
}

pub fn measure(registrations: usize) {
    let Some(mut world) = World::start(1) else { return };
    println!("two datacenters of {HOSTS}, {GATEWAYS} gateways each; {ONE_WAY:?} and {LOSS} of loss each way between them");
    bytes(&world);
    lag(&world, registrations);
    deaths(&mut world, 8);
}

fn lag(world: &World, registrations: usize) {
    let watchers: Vec<_> = world.agents[HOSTS..]
        .iter()
        .map(|agent| {
            let events = follow(&agent.http, "east");
            std::thread::spawn(move || note_puts(events, registrations))
        })
        .collect();
    let start = Instant::now();
    let mut sent = BTreeMap::new();
    for n in 0..registrations {
        std::thread::sleep((start + Duration::from_millis(50) * n as u32).saturating_duration_since(Instant::now()));
        let id = format!("lag-{n}");
        sent.insert(id.clone(), Instant::now());
        register(&world.agents[2 + n % 2].http, &format!("load-{}", n % 10), &id, 8080);
    }
    let seen: Vec<BTreeMap<String, Instant>> = watchers.into_iter().map(|watcher| watcher.join().expect("a watcher returns")).collect();
    let missing: usize = seen.iter().map(|seen| registrations - seen.keys().filter(|id| sent.contains_key(*id)).count()).sum();
    let mut lags: Vec<Duration> = seen.iter().flatten().filter_map(|(id, at)| Some(*at - *sent.get(id)?)).collect();
    println!("{registrations} registrations, one every 50 ms, at the plain agents of one; {missing} events missing at the other's {HOSTS}");
    report("request sent to the event in the other datacenter", &mut lags);
}

/// Kills a plain agent of the east; when its instance is gone there, and when in the west.
fn deaths(world: &mut World, times: usize) {
    let (mut here, mut there, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..times {
        let id = format!("dies-{n}");
        register(&world.agents[3].http, "mortal", &id, 1);
        let shows = |http: &Http, dc: &str| {
            let list = http.json("GET", &format!("/api/v1/services/mortal{dc}"), None).unwrap_or(Value::Null);
            list["instances"].as_array().is_some_and(|all| all.iter().any(|one| one["id"] == id.as_str() && one["available"] != false))
        };
        let (local, remote) = (world.agents[2].http.clone(), world.agents[HOSTS + 2].http.clone());
        wait_until(PATIENCE, "it is found on both sides", || shows(&local, "") && shows(&remote, "?dc=east"));
        world.agents[3].kill();
        let killed = Instant::now();
        let (mut gone_here, mut gone_there) = (None, None);
        while gone_here.is_none() || gone_there.is_none() {
            assert!(killed.elapsed() < PATIENCE, "the dead are served: {gone_here:?} {gone_there:?}");
            gone_here = gone_here.or_else(|| (!shows(&local, "")).then(|| killed.elapsed()));
            gone_there = gone_there.or_else(|| (!shows(&remote, "?dc=east")).then(|| killed.elapsed()));
            std::thread::sleep(Duration::from_millis(5));
        }
        if let (Some(local), Some(remote)) = (gone_here, gone_there) {
            here.push(local);
            there.push(remote);
            after.push(remote.saturating_sub(local));
        }
        world.agents[3].restart();
        world.agents[2].wait_alive(HOSTS, MEET_WITHIN);
    }
    report("kill -9 to gone in its own datacenter", &mut here);
    report("kill -9 to gone in the other", &mut there);
    report("the other later than its own", &mut after);
}

fn bytes(world: &World) {
    let pairs = (GATEWAYS * GATEWAYS) as u64;
    let idle_s = 60;
    std::thread::sleep(Duration::from_secs(20));
    let before = world.wan_bytes();
    std::thread::sleep(Duration::from_secs(idle_s));
    let idle = (world.wan_bytes() - before) / idle_s;
    println!("idle for {idle_s} s: {idle} B/s between the datacenters, {} B/s a pair of gateways, with headers of IP", idle / pairs);
    // What is idle runs on and is taken off.
    let cost = |what: &str, changes: u64, act: &mut dyn FnMut()| {
        let (before, since) = (world.wan_bytes(), Instant::now());
        act();
        wait_settled(world);
        let bytes = (world.wan_bytes() - before).saturating_sub(idle * since.elapsed().as_secs());
        println!("{what}: {} B each, {changes} in {:.1} s", bytes / changes, since.elapsed().as_secs_f64());
    };
    let http = world.agents[2].http.clone();
    for (what, port) in [("new ids, a hundred at a time", 1), ("registered anew with another port, a hundred at a time", 2)] {
        cost(what, 1_000, &mut || {
            for batch in 0..10 {
                (0..100).for_each(|n| register(&http, &format!("batch-{batch}"), &format!("id-{n}"), port));
                std::thread::sleep(Duration::from_millis(500));
            }
        });
    }
    let instances =
        || (0..10).flat_map(|batch| (0..100).map(move |n| (n == 99, format!("/api/v1/services/flips-{batch}/instances/id-{n}"))));
    for (_, instance) in instances() {
        let body = json!({"address": "10.1.2.3", "port": 1, "tags": ["blue", "grpc"], "metadata": {"version": "1.4.2", "env": "prod"}, "ttl": "1h"});
        http.json("PUT", &instance, Some(&body)).unwrap_or_else(|why| panic!("{instance}: {why}"));
    }
    wait_settled(world);
    for (what, status) in [("gone critical, a hundred in a request", "critical"), ("passing again, a hundred in a request", "passing")] {
        cost(what, 1_000, &mut || {
            for batch in 0..10 {
                let beat =
                    |n: u32| json!({"op": "heartbeat", "service": format!("flips-{batch}"), "id": format!("id-{n}"), "status": status});
                let items = json!({"items": (0..100).map(beat).collect::<Vec<_>>()});
                http.json("POST", "/api/v1/batch", Some(&items)).unwrap_or_else(|why| panic!("a batch: {why}"));
                std::thread::sleep(Duration::from_millis(500));
            }
        });
    }
    // What goes away goes at once: a client that says it one by one fills no batch.
    cost("gone critical again, one request each", 1_000, &mut || {
        for (is_last, instance) in instances() {
            let body = json!({"status": "critical"});
            http.json("PUT", &format!("{instance}/heartbeat"), Some(&body)).unwrap_or_else(|why| panic!("{instance}: {why}"));
            if is_last {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    });
    cost("1,000 registrations a second for 10 s, by four clients", 10_000, &mut || {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let http = world.agents[2 + client % 2].http.clone();
                std::thread::spawn(move || {
                    let start = Instant::now();
                    for n in 0..2_500_u32 {
                        std::thread::sleep((start + Duration::from_millis(4) * n).saturating_duration_since(Instant::now()));
                        register(&http, &format!("fast-{client}"), &format!("id-{}", n % 1_000), n);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("a client returns"));
    });
}

/// Until the other side shows the last that was written.
fn wait_settled(world: &World) {
    let id = format!("mark-{}", world.wan_bytes());
    register(&world.agents[2].http, "marks", &id, 1);
    register(&world.agents[3].http, "marks", &format!("{id}-too"), 1);
    wait_until(PATIENCE, "the other datacenter shows what was written last", || {
        let list = world.agents[HOSTS + 3].http.json("GET", "/api/v1/services/marks?dc=east", None).unwrap_or(Value::Null);
        let ids = list["instances"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|one| one["id"].as_str().is_some_and(|at| at.starts_with(&id))).count());
        ids == 2
    });
}

/// Gateways killed in turn while registrations go on, and the same without.
pub fn measure_kills(seconds: usize) {
    let calm = run_kills(seconds, false);
    let rough = run_kills(seconds, true);
    if let (Some(calm), Some(rough)) = (calm, rough) {
        println!("bytes with kills over bytes without: {:.2}", rough as f64 / calm as f64);
    }
}

fn run_kills(seconds: usize, are_killed: bool) -> Option<u64> {
    let mut world = World::start(2)?;
    let wanted = seconds * 20;
    let events = follow(&world.agents[HOSTS + 2].http, "east");
    let watcher = std::thread::spawn(move || note_puts(events, wanted));
    let (http, is_over) = (world.agents[2].http.clone(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&is_over);
    let before = world.wan_bytes();
    let writer = std::thread::spawn(move || {
        let (start, mut sent) = (Instant::now(), BTreeMap::new());
        for n in 0..wanted {
            std::thread::sleep((start + Duration::from_millis(50) * n as u32).saturating_duration_since(Instant::now()));
            let id = format!("kept-{n}");
            sent.insert(id.clone(), Instant::now());
            register(&http, &format!("load-{}", n % 10), &id, 8080);
        }
        done.store(true, Ordering::SeqCst);
        sent
    });
    let mut kills = 0;
    // One side loses one gateway at a time: the other of the two is up and knows its datacenter again.
    while !is_over.load(Ordering::SeqCst) {
        if are_killed {
            let victim = [0, HOSTS, 1, HOSTS + 1][kills % 4];
            world.agents[victim].kill();
            kills += 1;
            std::thread::sleep(Duration::from_secs(2));
            world.agents[victim].restart();
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    let sent = writer.join().expect("the writer returns");
    let seen = watcher.join().expect("the watcher returns");
    let missing = sent.keys().filter(|id| !seen.contains_key(*id)).count();
    let bytes = world.wan_bytes() - before;
    println!("{seconds} s, {kills} gateways killed: {wanted} registrations, {missing} missing, {bytes} B between the datacenters");
    let mut lags: Vec<Duration> = seen.iter().filter_map(|(id, at)| Some(*at - *sent.get(id)?)).collect();
    report("request sent to the event in the other datacenter", &mut lags);
    Some(bytes)
}
