//! Gateways of real datacenters on loopback: whom they link with, over TLS with certificates that `tidings tls` made and by the key
//! alone, and what the others have of them when they die. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::agent::{Agent, Site, binary, free_address, text as json_text};
use lab::{wait_for, wait_until};
use serde_json::json;

/// For two pools to meet and compare what they have, on a busy machine.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// What a link needs to be dialled, refused and dialled again.
const REDIALLED_WITHIN: Duration = Duration::from_secs(60);
/// For a change to cross after a gateway was killed, as long as one a side lives. Far below what repair by the second in rank takes,
/// which would hide a gateway that never links again.
const CROSS_WITHIN: Duration = Duration::from_secs(5);
/// For everything to be there after the last of them, repair included, on a busy machine.
const COMPLETE_WITHIN: Duration = Duration::from_secs(20);
/// For a change to reach all agents of its own datacenter, and for a death to be seen there, on a busy machine.
const HOME_WITHIN: Duration = Duration::from_secs(20);
/// Between two registrations of the load. Short against a gateway's death and return, so that every stage of both has some.
const LOAD_INTERVAL: Duration = Duration::from_millis(20);
/// What a lookup from memory may take on a busy machine; whoever asks a gateway that is dead waits far longer.
const LOOKUP_WITHIN: Duration = Duration::from_secs(1);

fn tidings(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).args(arguments).output().expect("the binary runs");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are text")
}

fn authority(site: &Site, name: &str) -> PathBuf {
    let dir = site.path(name);
    std::fs::create_dir(&dir).expect("the scratch directory can be written");
    assert!(tidings(&["tls", "ca", "--out", text(&dir)]).0);
    dir
}

/// A settings file with a certificate that names `certified`.
fn settings(site: &Site, authority: &Path, certified: &str, name: &str) -> PathBuf {
    let dir = site.path(&format!("{name}.tls"));
    std::fs::create_dir(&dir).expect("the scratch directory can be written");
    let (ca, key) = (authority.join("ca.pem"), authority.join("ca-key.pem"));
    let made = tidings(&["tls", "cert", "--gateway", certified, "--ca", text(&ca), "--ca-key", text(&key), "--out", text(&dir)]);
    assert!(made.0, "{}", made.1);
    let (cert, key) = (dir.join("gateway.pem"), dir.join("gateway-key.pem"));
    let lines = format!(
        "[wan]\ntls = {{ ca = '{}', cert = '{}', key = '{}' }}\nexport = {{ \"*\" = \"full\" }}\n",
        text(&ca),
        text(&cert),
        text(&key)
    );
    let path = dir.join("tidings.toml");
    std::fs::write(&path, lines).expect("the scratch directory can be written");
    path
}

fn gateway(site: &Site, datacenter: &str, settings: &Path, wan: SocketAddr, join: &[SocketAddr]) -> Agent {
    let mut agent =
        site.agent(&format!("{datacenter}-gateway")).with(&["--datacenter", datacenter, "--gateway", "--wan", &wan.to_string()]);
    agent = agent.with(&["--config", text(settings)]);
    for seed in join {
        agent = agent.with(&["--join-wan", &seed.to_string()]);
    }
    agent
}

fn finds(agent: &Agent, service: &str, datacenter: &str) -> bool {
    let answer = agent.send("GET", &format!("/api/v1/services/{service}?dc={datacenter}"), None);
    answer.is_ok_and(|answer| answer.status == 200 && answer.json()["instances"].as_array().is_some_and(|list| !list.is_empty()))
}

#[test]
fn links_are_made_with_certificates_of_one_authority_and_no_other() {
    let site = Site::new();
    let (own, other) = (authority(&site, "own"), authority(&site, "other"));
    let [east_wan, west_wan, stranger_wan] = [free_address(), free_address(), free_address()];
    let east = gateway(&site, "east", &settings(&site, &own, "east", "east"), east_wan, &[]).start();
    let west = gateway(&site, "west", &settings(&site, &own, "west", "west"), west_wan, &[east_wan]).start();
    let stranger = gateway(&site, "north", &settings(&site, &other, "north", "north"), stranger_wan, &[east_wan]).start();
    for (agent, id) in [(&east, "at-east"), (&west, "at-west"), (&stranger, "at-north")] {
        agent.register("web", id, json!({"address": "10.0.0.1", "port": 80}));
    }
    wait_until(MEET_WITHIN, "each finds the other's", || finds(&east, "web", "west") && finds(&west, "web", "east"));
    assert!(east.log().contains("TLS, as east.gateway.tidings"), "it says how its links are");

    // It has the key, and so is in the pool; its certificate is of another authority.
    let refused = "tidings_wan_links_refused_total";
    wait_until(REDIALLED_WITHIN, "the stranger is refused again and again", || east.metric(refused).is_ok_and(|count| count >= 2.0));
    assert!(!finds(&east, "web", "north") && !finds(&stranger, "web", "east"), "nothing crosses");
    let log = east.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("a link with another gateway is refused")).collect();
    assert!(!said.is_empty() && said.iter().all(|line| line.contains("127.")), "the peer is named: {said:?}");
    let of_authority = said.iter().filter(|line| line.contains("certificate_authority")).count();
    assert!(of_authority <= 1, "once is enough: {said:?}");

    // A datacenter that is heard is not forgotten; one that nobody knows is said to be so.
    let http = format!("http://{}", east.http.address);
    let forget = |name: &str| tidings(&["datacenters", "forget", name, "--http-addr", &http]);
    let (done, said) = forget("west");
    assert!(!done && said.contains("is heard"), "{said}");
    let (done, said) = forget("mars");
    assert!(!done && said.contains("mars"), "{said}");
    let joined = tidings(&["join", "--wan", &west_wan.to_string(), "--http-addr", &http]);
    assert!(joined.0, "{}", joined.1);
}

#[test]
fn a_gateway_with_another_datacenters_certificate_does_not_start() {
    let site = Site::new();
    let own = authority(&site, "own");
    let refusal = gateway(&site, "west", &settings(&site, &own, "east", "west"), free_address(), &[]).refused();
    assert!(refusal.said.contains("it is of datacenter \"east\"") && refusal.said.contains("--gateway west"), "{}", refusal.said);
    assert_eq!(refusal.status.code(), Some(2), "{}", refusal.said);
}

/// Two gateways and two plain agents of one datacenter.
struct Datacenter {
    gateways: Vec<Agent>,
    plain: Vec<Agent>,
}

impl Datacenter {
    fn start(site: &Site, name: &str, wan: [SocketAddr; 2], pool: &[SocketAddr]) -> Datacenter {
        let export = site.path(&format!("{name}.toml"));
        std::fs::write(&export, "[wan]\nexport = { \"*\" = \"full\" }\n").expect("the scratch directory can be written");
        let mut gateways: Vec<Agent> = Vec::new();
        for (n, own) in wan.iter().enumerate() {
            let mut agent = site.agent(&format!("{name}-gateway-{n}")).with(&["--datacenter", name, "--config", text(&export)]);
            agent = agent.with(&["--gateway", "--wan", &own.to_string()]);
            for seed in pool.iter().filter(|seed| *seed != own) {
                agent = agent.with(&["--join-wan", &seed.to_string()]);
            }
            gateways.push(agent.join(&gateways.iter().collect::<Vec<_>>()));
        }
        let mut gateways: Vec<Agent> = gateways.into_iter().map(Agent::start).collect();
        let known: Vec<&Agent> = gateways.iter().collect();
        let plain: Vec<Agent> =
            (0..2).map(|n| site.agent(&format!("{name}-plain-{n}")).with(&["--datacenter", name]).join(&known).start()).collect();
        gateways.iter_mut().for_each(|gateway| gateway.join_also(&plain.iter().collect::<Vec<_>>()));
        Datacenter { gateways, plain }
    }

    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.gateways.iter().chain(&self.plain)
    }
}

fn east_and_west(site: &Site) -> (Datacenter, Datacenter) {
    let pool = [free_address(), free_address(), free_address(), free_address()];
    let east = Datacenter::start(site, "east", [pool[0], pool[1]], &pool);
    let west = Datacenter::start(site, "west", [pool[2], pool[3]], &pool);
    for (from, to, name) in [(&east, &west, "east"), (&west, &east, "west")] {
        from.plain[0].register("first", name, json!({"address": "10.0.0.1", "port": 80}));
        for agent in to.agents() {
            wait_until(MEET_WITHIN, &format!("{} finds {name}'s", agent.node), || finds(agent, "first", name));
        }
    }
    (east, west)
}

/// The ids of a service in a datacenter, sorted, as `agent` has them.
fn ids(agent: &Agent, service: &str, datacenter: &str) -> Result<Vec<String>, String> {
    let list = agent.http.json("GET", &format!("/api/v1/services/{service}?dc={datacenter}&limit=10000"), None)?;
    let instances = list["instances"].as_array().ok_or_else(|| format!("no list of instances: {list}"))?;
    let mut ids: Vec<String> = instances.iter().map(|one| json_text(&one["id"])).collect();
    ids.sort();
    Ok(ids)
}

/// Kills each of the four, one after the other, and starts it again; between the two something new crosses both ways.
fn kill_in_turn(east: &mut Datacenter, west: &mut Datacenter) {
    for turn in 0..2 {
        for kills_east in [true, false] {
            let victim = if kills_east { &mut east.gateways[turn] } else { &mut west.gateways[turn] };
            victim.kill();
            let id = format!("without-{}", victim.node);
            for (from, to, name) in [(&*east, &*west, "east"), (&*west, &*east, "west")] {
                from.plain[0].register("meanwhile", &id, json!({"address": "10.0.0.1", "port": 80}));
                wait_until(CROSS_WITHIN, &format!("{id} of {name} crosses"), || {
                    ids(&to.plain[1], "meanwhile", name).is_ok_and(|ids| ids.contains(&id))
                });
            }
            let side = if kills_east { &mut *east } else { &mut *west };
            side.gateways[turn].restart();
            // The other gateway of this side is next: one of the two is in its place by then.
            for agent in side.agents() {
                agent.wait_alive(4, HOME_WITHIN);
            }
        }
    }
}

#[test]
fn gateways_that_are_killed_in_turn_lose_nothing() {
    let site = Site::new();
    let (mut east, mut west) = east_and_west(&site);
    let (http, is_over) = (east.plain[1].http.clone(), AtomicBool::new(false));
    // Every other one goes again at once, so that what is taken back has to cross as well.
    let load = || {
        let mut kept = Vec::new();
        for n in 0.. {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let (id, body) = (format!("load-{n:05}"), json!({"address": "10.0.0.1", "port": 80}));
            let path = format!("/api/v1/services/load/instances/{id}");
            http.json("PUT", &path, Some(&body)).expect("a plain agent takes a registration whatever its gateways do");
            if n % 2 == 0 {
                kept.push(id);
            } else {
                http.json("DELETE", &path, None).expect("a plain agent takes a deregistration whatever its gateways do");
            }
            std::thread::sleep(LOAD_INTERVAL);
        }
        kept
    };
    let kept = std::thread::scope(|scope| {
        let load = scope.spawn(load);
        let _ends = OnDrop(&is_over);
        kill_in_turn(&mut east, &mut west);
        is_over.store(true, Ordering::SeqCst);
        load.join().expect("every write is taken")
    });
    assert!(kept.len() > 4, "registrations went on: {}", kept.len());
    for agent in west.agents() {
        wait_for(COMPLETE_WITHIN, &format!("{} has all that is left, once, and nothing that went", agent.node), || {
            let found = ids(agent, "load", "east")?;
            if found == kept { Ok(()) } else { Err(format!("{} of {}", found.len(), kept.len())) }
        });
    }
}

/// Ends the load also when what it runs beside fails, which would wait for it for ever.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn lookups_are_answered_while_every_gateway_is_dead() {
    let site = Site::new();
    let (mut east, mut west) = east_and_west(&site);
    east.gateways.iter_mut().chain(&mut west.gateways).for_each(Agent::kill);
    let [asked, other] = &west.plain[..] else { panic!("there are two") };
    let look = |path: &str| {
        let answer = asked.http.send("GET", path, None, LOOKUP_WITHIN);
        answer.unwrap_or_else(|failure| panic!("{path} is not answered from memory: {failure}"))
    };
    let shown = |path: &str| {
        let answer = look(path);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let list = answer.json();
        list["instances"].as_array().expect("a list").iter().map(|one| json_text(&one["id"])).collect::<Vec<_>>()
    };
    // While nobody here knows that they are dead.
    assert_eq!(shown("/api/v1/services/first"), ["west"]);
    assert_eq!(shown("/api/v1/services/first?dc=east"), ["east"]);

    // And when everybody does.
    asked.wait_alive(2, HOME_WITHIN);
    assert_eq!(shown("/api/v1/services/first"), ["west"]);
    assert_eq!(shown("/api/v1/services/first?dc=east"), ["east"], "what is known of others stays");
    let unknown = look("/api/v1/services/first?dc=mars");
    assert_eq!((unknown.status, unknown.json()["allowed"].as_str()), (404, Some("east, west")));
    other.register("late", "late-1", json!({"address": "10.0.0.1", "port": 80}));
    asked.wait_ids("late", &["late-1"], HOME_WITHIN);
    assert_eq!(shown("/api/v1/services/nowhere"), Vec::<String>::new());
}

#[test]
fn a_gateway_with_another_key_is_refused_counted_and_named_once() {
    let site = Site::new();
    let other_key = site.path("other-key");
    site.make_key(&other_key);
    let [east_wan, stranger_wan] = [free_address(), free_address()];
    let east = site.agent("east-gateway").with(&["--datacenter", "east", "--gateway", "--wan", &east_wan.to_string()]).start();
    let stranger = site.agent("north-gateway").with_key(Some(&other_key)).with(&["--datacenter", "north", "--gateway"]);
    let stranger = stranger.with(&["--wan", &stranger_wan.to_string(), "--join-wan", &east_wan.to_string()]).start();
    east.register("web", "at-east", json!({"address": "10.0.0.1", "port": 80}));
    stranger.register("web", "at-north", json!({"address": "10.0.0.2", "port": 80}));

    let refused = "tidings_gossip_dropped_total{reason=\"unknown_key\"}";
    wait_until(REDIALLED_WITHIN, "the stranger is refused again and again", || east.metric(refused).is_ok_and(|count| count >= 2.0));
    let log = east.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("packets are refused") && line.contains("WAN")).collect();
    assert_eq!(said.len(), 1, "once is enough: {said:?}");
    assert!(said[0].contains(&stranger_wan.to_string()) && said[0].contains("unknown_key"), "who and why: {said:?}");

    // Neither has heard of the other, and each is well.
    for (agent, own, foreign) in [(&east, "at-east", "north"), (&stranger, "at-north", "east")] {
        let answer = agent.send("GET", &format!("/api/v1/services/web?dc={foreign}"), None).expect("an answer");
        assert_eq!(answer.status, 404, "{} knows nothing of {foreign}: {answer}", agent.node);
        assert_eq!(agent.ids("web").expect("a ready agent answers"), [own]);
    }
}
