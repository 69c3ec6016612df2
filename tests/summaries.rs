//! Two datacenters of real agents on loopback, of which one exports summaries: what the other knows at once, and what it fetches when
//! somebody asks. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use lab::agent::{Agent, Site, binary, free_address, text};
use lab::wait_until;
use serde_json::{Value, json};

/// For two pools to meet and compare what they have, on a busy machine.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// For a summary to follow what it tells of, on a busy machine.
const FOLLOW_WITHIN: Duration = Duration::from_secs(20);
/// More than DNS lets anybody wait.
const DNS_WITHIN: Duration = Duration::from_secs(10);

/// A gateway and a plain agent whose export nobody set; where the plain one answers DNS.
fn unset_datacenter(site: &Site, name: &str, wan: SocketAddr, join: Option<SocketAddr>) -> (Agent, Agent, SocketAddr) {
    let mut gateway = site.agent(&format!("{name}-gateway")).with(&["--datacenter", name, "--gateway", "--wan", &wan.to_string()]);
    if let Some(join) = join {
        gateway = gateway.with(&["--join-wan", &join.to_string()]);
    }
    let gateway = gateway.start();
    let (plain, dns) = site.agent(&format!("{name}-plain")).with(&["--datacenter", name]).join(&[&gateway]).with_dns();
    (gateway, plain.start(), dns)
}

/// A gateway and a plain agent.
fn datacenter(site: &Site, name: &str, export: &str, wan: SocketAddr, join: Option<SocketAddr>) -> (Agent, Agent) {
    let settings = site.path(&format!("{name}.toml"));
    std::fs::write(&settings, format!("[wan]\nexport = {export}\n")).expect("the scratch directory can be written");
    let settings = settings.to_str().expect("scratch paths are text").to_owned();
    let mut gateway = site.agent(&format!("{name}-gateway")).with(&["--datacenter", name, "--gateway", "--wan", &wan.to_string()]);
    gateway = gateway.with(&["--config", &settings]);
    if let Some(join) = join {
        gateway = gateway.with(&["--join-wan", &join.to_string()]);
    }
    let gateway = gateway.start();
    let plain = site.agent(&format!("{name}-plain")).with(&["--datacenter", name]).join(&[&gateway]).start();
    (gateway, plain)
}

/// A service of east as a list there shows it, by a filter on its rows.
fn row(agent: &Agent, service: &str) -> Option<Value> {
    let answer = agent.send("GET", "/api/v1/services?dc=east", None).ok().filter(|answer| answer.status == 200)?;
    answer.json()["services"].as_array()?.iter().find(|row| row["service"] == service).cloned()
}

fn ids(list: &Value) -> Vec<String> {
    let mut ids: Vec<String> = list["instances"].as_array().expect("a list").iter().map(|one| text(&one["id"])).collect();
    ids.sort();
    ids
}

/// What the command line says of a service of east.
fn shown(agent: &Agent, service: &str) -> (Option<i32>, String) {
    let http = format!("http://{}", agent.http.address);
    let arguments = ["service", service, "--dc", "east", "-o", "jsonl", "--http-addr", &http];
    let output = std::process::Command::new(binary()).args(arguments).output().expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_summary_is_known_everywhere_and_its_instances_come_when_somebody_asks() {
    let site = Site::new();
    let (wan, rules) = (free_address(), "{ \"*\" = \"summary\", \"full-*\" = \"full\", \"secret\" = \"none\" }");
    let (_east_gateway, east) = datacenter(&site, "east", rules, wan, None);
    let (west_gateway, west) = datacenter(&site, "west", "{ \"*\" = \"full\" }", free_address(), Some(wan));
    for (service, id) in [("web", "web-1"), ("web", "web-2"), ("db", "db-1"), ("full-1", "full-1"), ("secret", "secret-1")] {
        east.register(service, id, json!({"address": "10.0.0.1", "port": 80, "tags": ["v1"]}));
    }
    wait_until(MEET_WITHIN, "web is known by its summary", || row(&west, "web").is_some_and(|row| row["available"] == 2));
    wait_until(FOLLOW_WITHIN, "full-1 crosses", || row(&west, "full-1").is_some());
    let web = row(&west, "web").expect("it is listed");
    assert_eq!((&web["instances_elsewhere"], &web["passing"], &web["datacenter"]), (&json!(true), &json!(2), &json!("east")));
    assert_eq!(row(&west, "full-1").expect("it is listed")["instances_elsewhere"], Value::Null);
    assert_eq!(row(&west, "secret"), None);
    let all = west.get("/api/v1/datacenters");
    let known = all["datacenters"].as_array().expect("a list").iter().find(|known| known["datacenter"] == "east").expect("east");
    assert_eq!((&known["summaries"], &known["services"]), (&json!(2), &json!(1)));

    // Who does not say that he waits is answered at once, with what is here; that he asked brings the rest.
    let first = west.get("/api/v1/services/web?dc=east");
    assert_eq!((&first["complete"], ids(&first)), (&json!(false), vec![]));
    let asked = Instant::now();
    let whole = west.get("/api/v1/services/web?dc=east&wait=30s");
    assert!(asked.elapsed() < Duration::from_secs(30));
    assert_eq!((&whole["complete"], ids(&whole)), (&json!(true), vec!["web-1".to_owned(), "web-2".to_owned()]));
    assert_eq!((&whole["instances"][0]["datacenter"], &whole["instances"][0]["tags"]), (&json!("east"), &json!(["v1"])));
    wait_until(FOLLOW_WITHIN, "what one agent asked for is at the others, too", || {
        ids(&west_gateway.get("/api/v1/services/web?dc=east")).len() == 2
    });
    assert_eq!(ids(&west.get("/api/v1/services/web")), Vec::<String>::new(), "a plain lookup is local");

    // A person on the command line waits for them.
    let (code, db) = shown(&west, "db");
    assert!(code == Some(0) && db.contains("db-1"), "{code:?} {db}");
    assert_eq!(shown(&west, "secret").0, Some(3), "nothing is known of it");

    // The number follows at once; the instances when somebody looks and they are old.
    east.deregister("web", "web-1");
    wait_until(FOLLOW_WITHIN, "the summary follows", || {
        let known = west.get("/api/v1/services/web?dc=east");
        ids(&known) == ["web-2"]
    });
}

/// What DNS says to a question for IPv4 addresses, asked once: its rcode and how many addresses.
fn resolve(at: SocketAddr, name: &str) -> (ResponseCode, usize) {
    let mut question = Message::query();
    question.metadata.id = 7;
    question.add_query(Query::query(Name::from_ascii(name).expect("it is a name"), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    socket.set_read_timeout(Some(DNS_WITHIN)).expect("it is no zero");
    socket.send_to(&question.to_vec().expect("it is small"), at).expect("loopback takes it");
    let mut bytes = [0; 4_096];
    let length = socket.recv(&mut bytes).expect("a query is answered, whatever happens elsewhere");
    let answer = Message::from_vec(&bytes[..length]).expect("it is an answer");
    (answer.metadata.response_code, answer.answers.len())
}

#[test]
fn with_nothing_set_every_reader_finds_what_the_other_side_has() {
    let site = Site::new();
    let wan = free_address();
    let (_east_gateway, east, _) = unset_datacenter(&site, "east", wan, None);
    let (_west_gateway, west, dns) = unset_datacenter(&site, "west", free_address(), Some(wan));
    // A service of its own for each reader, so that none finds what another had fetched.
    let services = ["for-list", "For-Dns", "for-health", "for-watch", "for-cli", "for-failover"];
    for service in services {
        for at in 1..=3 {
            let body = json!({"address": format!("10.0.0.{at}"), "port": 80, "tags": ["v1"]});
            east.register(service, &format!("{service}-{at}"), body);
        }
    }
    for service in services {
        wait_until(MEET_WITHIN, "west knows the summary of each", || row(&west, service).is_some_and(|row| row["available"] == 3));
        assert_eq!(row(&west, service).expect("it is listed")["instances_elsewhere"], true, "{service} crosses by itself");
    }

    let list = west.get("/api/v1/services/for-list?dc=east&wait=20s");
    assert_eq!((ids(&list).len(), &list["complete"]), (3, &json!(true)));

    // On a busy machine a query may fail for a second or so: it is asked again then, and is never told that there is no such name.
    let mut said = Vec::new();
    wait_until(FOLLOW_WITHIN, "DNS answers", || {
        said.push(resolve(dns, "for-dns.service.east.consul."));
        said.last() == Some(&(ResponseCode::NoError, 3))
    });
    assert!(said.iter().all(|(rcode, _)| *rcode != ResponseCode::NXDomain), "{said:?}");
    assert_eq!(resolve(dns, "for-dns.service.consul."), (ResponseCode::NXDomain, 0), "a plain name is of the own datacenter");

    let mut found = None;
    wait_until(FOLLOW_WITHIN, "Consul's health answers", || {
        found = west.send("GET", "/v1/health/service/for-health?dc=east&passing=1", None).ok().filter(|answer| answer.status == 200);
        found.is_some()
    });
    let health = found.expect("it was waited for").json();
    assert_eq!(health.as_array().map(Vec::len), Some(3), "it is never told an empty list: {health}");
    let names = west.get("/v1/catalog/services?dc=east");
    assert!(services.iter().all(|service| names[service].is_array()), "{names}");

    let mut events = west.http.events("/api/v1/watch?dc=east&service=for-watch").expect("it opens");
    let mut told = Vec::new();
    let mut is_complete = false;
    while !is_complete {
        let event = events.next(FOLLOW_WITHIN).expect("its instances come");
        is_complete = event.name == "synced" && event.json()["complete"] == true;
        told.push(event.name);
    }
    assert_eq!(told.iter().filter(|name| *name == "put").count(), 3, "{told:?}");
    assert!(told.iter().all(|name| name == "put" || name == "synced"), "{told:?}");
    let watch = ["watch", "for-cli", "--dc", "east", "--once", "--http-addr", &format!("http://{}", west.http.address)];
    let told = std::process::Command::new(binary()).args(watch).output().expect("the binary runs");
    assert_eq!(String::from_utf8_lossy(&told.stdout).matches("+ for-cli/").count(), 3, "{told:?}");

    let failover = west.get("/api/v1/services/for-failover?failover&wait=20s");
    assert_eq!(ids(&failover).len(), 3);
}
