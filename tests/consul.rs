//! Consul's clients when agents die and come back: what an agent answers when it is the only one left, and what a restart does to
//! indexes, to clients that wait, and to services that live by beats. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use lab::agent::{Agent, Site, text};
use lab::http::Answer;
use lab::{wait_for, wait_until};
use serde_json::{Value, json};

const SPREAD_WITHIN: Duration = Duration::from_secs(10);
/// For deaths to be noticed on a busy machine.
const DETECT_WITHIN: Duration = Duration::from_secs(40);
/// Any read, at any moment, on a busy machine. How fast they are is measured by `cargo bench --bench figures -- alone`.
const READ_WITHIN: Duration = Duration::from_secs(2);

const UNVERIFIED: &str = "x-tidings-unverified";

fn write(agent: &Agent, path: &str, body: Option<&Value>) {
    let answer = agent.send("PUT", path, body).unwrap_or_else(|why| panic!("PUT {path}: {why}"));
    assert_eq!(answer.status, 200, "PUT {path}: {answer}");
}

/// A read that has to succeed.
fn read(agent: &Agent, path: &str) -> Answer {
    let answer = agent.http.send("GET", path, None, READ_WITHIN).unwrap_or_else(|why| panic!("GET {path}: {why}"));
    assert_eq!(answer.status, 200, "GET {path}: {answer}");
    answer
}

fn index(answer: &Answer) -> u64 {
    answer.header("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or_else(|| panic!("no index: {answer}"))
}

/// Ids and the status of `serfHealth` in a list of `health/service`.
fn entries(list: &Value) -> Vec<(String, String)> {
    let entry = |entry: &Value| {
        let checks = entry["Checks"].as_array().expect("checks");
        let serf = checks.iter().find(|check| check["CheckID"] == "serfHealth").expect("each instance has its agent's check");
        (text(&entry["Service"]["ID"]), text(&serf["Status"]))
    };
    list.as_array().expect("a list").iter().map(entry).collect()
}

fn ids(list: &Value) -> Vec<String> {
    entries(list).into_iter().map(|(id, _)| id).collect()
}

/// The addresses of a service by DNS.
fn resolve(at: SocketAddr, name: &str) -> Vec<Ipv4Addr> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(READ_WITHIN)).expect("a timeout");
    socket.send_to(&question.to_vec().expect("a question"), at).expect("it is sent");
    let mut packet = [0; 4_096];
    let (length, _) = socket.recv_from(&mut packet).unwrap_or_else(|why| panic!("{name}: {why}"));
    let answer = Message::from_vec(&packet[..length]).expect("an answer");
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
    let address = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
    answer.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// All that a client may ask for, at an agent that may be the last one.
fn ask_everything(agent: &Agent, dns: SocketAddr) -> Answer {
    for path in [
        "/v1/health/service/web?consistent=",
        "/v1/health/service/web?stale=",
        "/v1/health/state/any",
        "/v1/catalog/services",
        "/v1/catalog/nodes",
        "/v1/catalog/service/web",
        "/v1/agent/services",
        "/v1/kv/key?raw",
    ] {
        read(agent, path);
    }
    assert!(read(agent, "/v1/status/leader").json().as_str().is_some_and(|leader| !leader.is_empty()));
    assert!(!resolve(dns, "web.service.consul.").is_empty(), "the last agent's own instance is found by name");
    read(agent, "/v1/health/service/web?passing")
}

#[test]
fn the_last_agent_goes_on_answering_and_tells_what_it_cannot_vouch_for() {
    let site = Site::new();
    let mut a = site.agent("a").start();
    let mut b = site.agent("b").join(&[&a]).start();
    let (c, dns) = site.agent("c").join(&[&a, &b]).with_dns();
    let c = c.start();
    for (n, agent) in [&a, &b, &c].into_iter().enumerate() {
        agent.wait_alive(3, SPREAD_WITHIN);
        let service = json!({"ID": format!("web-{}", agent.node), "Name": "web", "Address": format!("10.0.0.{}", n + 1), "Port": 80});
        write(agent, "/v1/agent/service/register", Some(&service));
    }
    write(&a, "/v1/kv/key", Some(&json!("value")));
    wait_until(SPREAD_WITHIN, "c shows all three, and the entry", || {
        let has_entry = c.http.get("/v1/kv/key").is_ok_and(|answer| answer.status == 200);
        has_entry && ids(&read(&c, "/v1/health/service/web?passing").json()) == ["web-a", "web-b", "web-c"]
    });

    a.kill();
    // Two of three agree on it: a is confirmed dead.
    wait_until(DETECT_WITHIN, "a's instance is critical", || {
        let passing = ask_everything(&c, dns);
        ids(&passing.json()) == ["web-b", "web-c"] && passing.header(UNVERIFIED).is_none()
    });
    let all = entries(&read(&c, "/v1/health/service/web").json());
    assert!(all.contains(&("web-a".to_owned(), "critical".to_owned())), "{all:?}");

    b.kill();
    // Alone, c may have to think that it is the one cut off.
    let look = || {
        let passing = ask_everything(&c, dns);
        let shown = ids(&passing.json());
        assert!(shown.contains(&"web-c".to_owned()), "its own instance is never gone: {shown:?}");
        let all = read(&c, "/v1/health/service/web");
        let of_b = entries(&all.json()).into_iter().find(|(id, _)| id == "web-b").map(|(_, serf)| serf);
        let is_settled = of_b.as_deref().is_none_or(|serf| serf == "critical") || all.header(UNVERIFIED).is_some();
        if is_settled { Ok(()) } else { Err(format!("b's instance is {of_b:?}, unmarked")) }
    };
    wait_for(DETECT_WITHIN, "b's instance is critical, or marked", look);
    // Where something healthy is left, what nobody vouches for is not handed out.
    assert_eq!(ids(&ask_everything(&c, dns).json()), ["web-c"]);
    assert_eq!(resolve(dns, "web.service.consul."), [Ipv4Addr::new(10, 0, 0, 3)]);
    write(&c, "/v1/kv/key", Some(&json!("a write, too")));
}

#[test]
fn consistent_reads_are_answered_or_refused_as_it_is_set() {
    let site = Site::new();
    let file = site.path("tidings.toml");
    std::fs::write(&file, "[consul]\nconsistent = \"refused\"\n").expect("the scratch directory can be written");
    let agent = site.agent("a").with(&["--config", file.to_str().expect("a path")]).start();
    let answer = agent.http.get("/v1/catalog/services?consistent").expect("an answer");
    assert_eq!(answer.status, 501, "{answer}");
    assert!(String::from_utf8_lossy(&answer.body).contains("consul.consistent"), "{answer}");
    read(&agent, "/v1/catalog/services?stale");
    std::fs::write(&file, "[consul]\nconsistent = \"always\"\n").expect("the scratch directory can be written");
    let refusal = site.agent("b").with(&["--config", file.to_str().expect("a path")]).refused();
    assert!(refusal.said.contains("local or refused"), "{}", refusal.said);
}

/// What has an index that may never go back.
const INDEXED: &[&str] = &[
    "/v1/catalog/services",
    "/v1/catalog/nodes",
    "/v1/catalog/service/web",
    "/v1/catalog/service/unknown",
    "/v1/catalog/node/a",
    "/v1/health/service/web",
    "/v1/health/service/gone",
    "/v1/health/checks/web",
    "/v1/health/node/a",
    "/v1/health/state/any",
    "/v1/kv/key",
    "/v1/kv/gone",
    "/v1/kv/?recurse",
];

fn indexes(agent: &Agent) -> Vec<u64> {
    let one = |path: &&str| index(&agent.http.get(path).unwrap_or_else(|why| panic!("{path}: {why}")));
    INDEXED.iter().map(one).collect()
}

/// A client that waits for changes of `web` as Consul's do, over the agent's death and return.
struct Waiter {
    answers: AtomicU64,
    index: AtomicU64,
    is_over: AtomicBool,
}

impl Waiter {
    fn run(&self, http: &lab::http::Http) {
        while !self.is_over.load(Ordering::SeqCst) {
            let known = self.index.load(Ordering::SeqCst);
            let path = format!("/v1/health/service/web?index={known}&wait=60s");
            match http.send("GET", &path, None, Duration::from_secs(70)) {
                Ok(answer) => {
                    let next = index(&answer);
                    assert!(next >= known, "the index went back from {known} to {next}");
                    self.index.store(next, Ordering::SeqCst);
                    self.answers.fetch_add(1, Ordering::SeqCst);
                }
                // The agent is away.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }
}

#[test]
fn a_restart_takes_no_index_back_and_leaves_no_client_hanging_or_spinning() {
    let site = Site::new();
    let mut agent = site.agent("a").start();
    let web = |tag: &str| json!({"ID": "web-1", "Name": "web", "Port": 80, "Tags": [tag], "Check": {"TTL": "10m"}});
    write(&agent, "/v1/agent/service/register", Some(&web("one")));
    write(&agent, "/v1/agent/check/pass/service:web-1?note=fine", None);
    write(&agent, "/v1/agent/service/register", Some(&json!({"Name": "gone"})));
    write(&agent, "/v1/agent/service/deregister/gone", None);
    write(&agent, "/v1/kv/key", Some(&json!("value")));
    write(&agent, "/v1/kv/gone", Some(&json!("value")));
    assert_eq!(agent.send("DELETE", "/v1/kv/gone", None).expect("an answer").status, 200);

    let waiter = Waiter { answers: AtomicU64::new(0), index: AtomicU64::new(0), is_over: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let http = agent.http.clone();
        scope.spawn(|| waiter.run(&{ http }));
        // Whatever happens, the scope must not wait for a client that nobody ends.
        let _end = End(&waiter.is_over);
        for round in 0..3 {
            let known = waiter.answers();
            write(&agent, "/v1/agent/service/register", Some(&web(&format!("before-{round}"))));
            wait_until(SPREAD_WITHIN, "the client hears of a change", || waiter.answers() > known);
            let before = indexes(&agent);
            agent.kill();
            agent.restart();
            for (path, (before, after)) in INDEXED.iter().zip(before.iter().zip(indexes(&agent))) {
                assert!(after >= *before, "round {round}, {path}: {before} before the restart, {after} after it");
            }

            let services = read(&agent, "/v1/agent/services").json();
            assert_eq!(services["web-1"]["Tags"], json!([format!("before-{round}")]), "the service is there: {services}");
            let health = read(&agent, "/v1/health/checks/web").json();
            assert_eq!(health[0]["Status"], "passing", "as its client left it: {health}");
            write(&agent, "/v1/agent/check/pass/service:web-1", None);

            // Once it has found the agent again it waits: a client that spins would be answered hundreds of times.
            let returned = waiter.answers();
            std::thread::sleep(Duration::from_secs(1));
            assert!(waiter.answers() <= returned + 4, "the client was answered {} times in a second", waiter.answers() - returned);
            let known = waiter.answers();
            write(&agent, "/v1/agent/service/register", Some(&web(&format!("after-{round}"))));
            wait_until(SPREAD_WITHIN, "the client hears of a change after the restart", || waiter.answers() > known);
        }
        drop(_end);
        // Lets the client's last wait end.
        write(&agent, "/v1/agent/service/deregister/web-1", None);
    });
}

/// Ends a client, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
