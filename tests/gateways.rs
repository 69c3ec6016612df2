//! Gateways of real datacenters over TLS on loopback, with certificates that `tidings tls` made. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::agent::{Agent, Site, binary, free_address};
use lab::wait_until;
use serde_json::json;

/// For two pools to meet and compare what they have, on a busy machine.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// What a link needs to be dialled, refused and dialled again.
const REDIALLED_WITHIN: Duration = Duration::from_secs(60);

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
