//! DNS of a real agent, asked by dig: what one registers over HTTP is found by name. Skips with a reason where there is no dig.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod lab;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use lab::agent::{Agent, Site};
use serde_json::json;

/// What dig prints of a question; none where there is no dig.
fn dig(at: SocketAddr, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("dig");
    command.arg(format!("@{}", at.ip())).args(["-p", &at.port().to_string(), "+time=5", "+tries=2"]).args(arguments);
    match command.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(why) => {
            eprintln!("skipped: dig does not run ({why})");
            None
        }
    }
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

fn register(agent: &Agent, service: &str, id: &str, body: serde_json::Value) {
    let answer = agent.send("PUT", &format!("/api/v1/services/{service}/instances/{id}"), Some(&body)).expect("the agent answers");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn what_is_registered_over_http_is_found_by_name_at_another_agent() {
    let site = Site::new();
    let first = site.agent("n1").start();
    let (second, at) = site.agent("n2").join(&[&first]).with_dns();
    let second = second.start();
    for i in 1..=40 {
        register(&first, "Web", &format!("w{i}"), json!({"address": format!("10.0.0.{i}"), "port": 8_000 + i, "tags": ["blue"]}));
    }
    lab::wait_until(std::time::Duration::from_secs(10), "n2 holds all of them", || {
        let list = second.http.get("/api/v1/services/Web").expect("the agent answers");
        serde_json::from_slice::<serde_json::Value>(&list.body)
            .is_ok_and(|list| list["instances"].as_array().is_some_and(|all| all.len() == 40))
    });
    let Some(all) = dig(at, &["+short", "blue.web.service.consul"]) else { return };
    assert_eq!(lines(&all).len(), 40, "{all}");
    let cut = dig(at, &["+noedns", "+ignore", "web.service.dc1.tidings"]).expect("there is dig");
    assert!(cut.contains("flags: qr aa tc rd"), "{cut}");
    // Without being told to ignore it, dig asks again over TCP, as every resolver does.
    let whole = dig(at, &["+noedns", "+short", "web.service.consul"]).expect("there is dig");
    assert_eq!(lines(&whole).len(), 40, "{whole}");
    let srv = dig(at, &["+short", "+tcp", "_web._blue.service.consul", "SRV"]).expect("there is dig");
    assert!(lines(&srv).contains("1 1 8007 0a000007.addr.dc1.consul."), "{srv}");
    let node = dig(at, &["+short", "n1.node.consul"]).expect("there is dig");
    assert_eq!(node.trim(), first.gossip.ip().to_string());
    let servers = dig(at, &["+short", "consul", "NS"]).expect("there is dig");
    assert_eq!(lines(&servers), lines("n1.node.dc1.consul.\nn2.node.dc1.consul."));
    let none = dig(at, &["nothing.service.consul"]).expect("there is dig");
    assert!(none.contains("status: NXDOMAIN") && none.contains("SOA"), "{none}");
}

#[test]
fn a_taken_port_is_one_clear_line_and_members_tell_theirs() {
    let site = Site::new();
    let (agent, at) = site.agent("n1").with_dns();
    let agent = agent.start();
    let members = agent.http.get("/api/v1/members").expect("the agent answers");
    let members: serde_json::Value = serde_json::from_slice(&members.body).expect("JSON");
    assert_eq!(members["members"][0]["dns_port"], at.port());
    let refusal = site.agent("n2").with_dns_at(at).refused();
    assert!(refusal.said.contains(&format!("{at} is taken for DNS")) && refusal.said.contains("--no-dns"), "{}", refusal.said);
}
