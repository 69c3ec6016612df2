//! Two datacenters of real agents on loopback: a gateway each, and a plain agent that knows nothing of the other side but what its
//! gateway says. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::SocketAddr;
use std::time::Duration;

use lab::agent::{Agent, Site, free_address};
use lab::{wait_for, wait_until};
use serde_json::{Value, json};

/// For two pools to meet and compare what they have, on a busy machine.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// For a change to cross, on a busy machine.
const CROSS_WITHIN: Duration = Duration::from_secs(20);
/// For a datacenter that fell silent to be called stale.
const MISS_WITHIN: Duration = Duration::from_secs(90);

/// A gateway and a plain agent.
struct Datacenter {
    gateway: Agent,
    plain: Agent,
    wan: SocketAddr,
}

fn datacenter(site: &Site, name: &str, join: Option<SocketAddr>) -> Datacenter {
    let (wan, settings) = (free_address(), site.path(&format!("{name}.toml")));
    std::fs::write(&settings, "[wan]\nexport = { \"*\" = \"full\" }\n").expect("the scratch directory can be written");
    let (wan_text, settings) = (wan.to_string(), settings.display().to_string());
    let mut gateway = site.agent(&format!("{name}-gateway")).with(&["--datacenter", name, "--gateway", "--wan", &wan_text]);
    gateway = gateway.with(&["--config", &settings]);
    if let Some(join) = join {
        gateway = gateway.with(&["--join-wan", &join.to_string()]);
    }
    let gateway = gateway.start();
    let plain = site.agent(&format!("{name}-plain")).with(&["--datacenter", name]).join(&[&gateway]).start();
    Datacenter { gateway, plain, wan }
}

fn ids(list: &Value) -> Vec<String> {
    list["instances"].as_array().expect("a list").iter().map(|one| lab::agent::text(&one["id"])).collect()
}

/// What an agent has of a service in a datacenter; none while it does not know that one.
fn seen(agent: &Agent, service: &str, datacenter: &str) -> Option<Value> {
    let answer = agent.send("GET", &format!("/api/v1/services/{service}?dc={datacenter}"), None).ok()?;
    (answer.status == 200).then(|| answer.json())
}

fn wait_seen(agent: &Agent, service: &str, datacenter: &str, wanted: &[&str], limit: Duration) -> Duration {
    wait_until(limit, &format!("{service} in {datacenter} is {wanted:?}"), || {
        seen(agent, service, datacenter).is_some_and(|list| ids(&list) == wanted)
    })
}

fn state(agent: &Agent, datacenter: &str) -> Option<(String, String)> {
    let all = agent.get("/api/v1/datacenters");
    let known = all["datacenters"].as_array()?.iter().find(|known| known["datacenter"] == datacenter)?;
    Some((lab::agent::text(&known["state"]), lab::agent::text(&known["age"])))
}

#[test]
fn what_is_registered_in_one_is_found_in_the_other_and_survives_a_cut_with_its_age() {
    let site = Site::new();
    let mut east = datacenter(&site, "east", None);
    let west = datacenter(&site, "west", Some(east.wan));
    east.plain.register("web", "east-1", json!({"address": "10.0.0.1", "port": 80}));
    wait_seen(&west.plain, "web", "east", &["east-1"], MEET_WITHIN);
    west.plain.register("web", "west-1", json!({"address": "10.0.0.2", "port": 80}));
    wait_seen(&east.plain, "web", "west", &["west-1"], CROSS_WITHIN);
    assert_eq!(ids(&west.plain.get("/api/v1/services/web")), ["west-1"], "a plain lookup is local");
    let mut everywhere = ids(&west.plain.get("/api/v1/services/web?dc=*"));
    everywhere.sort();
    assert_eq!(everywhere, ["east-1", "west-1"]);
    let unknown = west.plain.send("GET", "/api/v1/services/web?dc=mars", None).expect("an answer");
    assert_eq!((unknown.status, unknown.json()["allowed"].as_str()), (404, Some("east, west")));

    // The local one goes: failover finds the other datacenter's, from memory.
    west.plain.send("DELETE", "/api/v1/services/web/instances/west-1", None).expect("an answer");
    wait_seen(&east.plain, "web", "west", &[], CROSS_WITHIN);
    assert_eq!(ids(&west.plain.get("/api/v1/services/web?failover")), ["east-1"]);

    // The only gateway dies: what is known stays, and says since when nobody hears it.
    wait_until(CROSS_WITHIN, "east is heard", || {
        state(&west.plain, "east").is_some_and(|(state, age)| (state.as_str(), age.as_str()) == ("fresh", "0s"))
    });
    east.gateway.kill();
    wait_until(MISS_WITHIN, "east is stale", || state(&west.plain, "east").is_some_and(|(state, _)| state == "stale"));
    let (list, _) = wait_for(CROSS_WITHIN, "an age", || {
        let list = seen(&west.plain, "web", "east").ok_or("east is forgotten")?;
        if list["instances"][0]["age"] == "0s" { Err(format!("{list}")) } else { Ok(list) }
    });
    assert_eq!(ids(&list), ["east-1"]);

    // It comes back, and with it what happened meanwhile.
    east.plain.register("web", "east-2", json!({"address": "10.0.0.3", "port": 80}));
    east.gateway.restart();
    wait_until(MEET_WITHIN, "both are found", || {
        let mut found = seen(&west.plain, "web", "east").map(|list| ids(&list)).unwrap_or_default();
        found.sort();
        found == ["east-1", "east-2"] && state(&west.plain, "east").is_some_and(|(state, _)| state == "fresh")
    });
}
