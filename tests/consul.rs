//! Consul's clients when agents die and come back: what an agent answers when it is the only one left, and what a restart does to
//! indexes, to clients that wait, and to services that live by beats; and Consul's command line. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use lab::agent::{Agent, Site, binary, text};
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

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const DEFINED: &str = r#"
node_name = "c1"
colour    = "blue"
ports {
  dns = -1
}
service {
  id   = "web-1"
  name = "web"
  port = 80
  meta {
    team = "red"
  }
  check {
    id     = "one"
    name   = "One"
    ttl    = "1h"
    status = "passing"
  }
  check {
    id   = "two"
    name = "Two"
    ttl  = "1h"
  }
}
service {
  name = "db"
}
"#;

/// Runs `tidings consul …` against an agent; what it printed, if it ended well.
fn consul(at: SocketAddr, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binary()).arg("consul").args(arguments).env("CONSUL_HTTP_ADDR", at.to_string()).output().expect("it runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

#[test]
fn consuls_command_line_takes_hcl_with_definitions_and_edits_entries() {
    let site = Site::new();
    let at = site.agent("c1");
    let (http, gossip) = (at.http.address, at.gossip);
    let (dir, data) = (site.path("conf.d"), site.path("data"));
    std::fs::create_dir(&dir).expect("the scratch directory can be written");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("the scratch directory can be written");
    write("a.hcl", DEFINED);
    write("b.json", r#"{"services": [{"name": "cache", "check": {"ttl": "1h"}}]}"#);
    let start = || {
        let mut command = Command::new(binary());
        command.args(["consul", "agent", "-server", "-insecure", "-bind", &gossip.ip().to_string(), "-client", &http.ip().to_string()]);
        command.args(["-http-port", &http.port().to_string(), &format!("-serf-lan-port={}", gossip.port())]);
        command.arg("-config-dir").arg(&dir).arg("-data-dir").arg(&data);
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(site.path("log")).expect("the scratch directory can be written");
        Process(command.stderr(log).spawn().expect("it runs"))
    };
    let ids = || {
        let services = at.http.json("GET", "/v1/agent/services", None)?;
        Ok::<Vec<String>, String>(services.as_object().expect("an object").keys().cloned().collect())
    };
    let wait_ids = |wanted: &[&str]| {
        let look = || ids().and_then(|ids| if ids == wanted { Ok(()) } else { Err(format!("it shows {ids:?}")) });
        wait_for(SPREAD_WITHIN, &format!("{wanted:?} are registered"), look)
    };

    let first = start();
    wait_ids(&["cache", "db", "web-1"]);
    let checks = at.http.json("GET", "/v1/health/checks/web", None).expect("an answer");
    assert_eq!(checks.as_array().expect("a list").iter().map(|check| text(&check["CheckID"])).collect::<Vec<_>>(), ["one", "two"]);
    let log = std::fs::read_to_string(site.path("log")).expect("a log");
    assert!(log.contains("colour is ignored"), "{log}");

    assert_eq!(consul(http, &["kv", "put", "a/b", "one two"]).as_deref(), Ok("Success! Data written to: a/b\n"));
    assert_eq!(consul(http, &["kv", "put", "-flags=7", "a/é?", "x"]).as_deref(), Ok("Success! Data written to: a/é?\n"));
    assert_eq!(consul(http, &["kv", "get", "a/b"]).as_deref(), Ok("one two\n"));
    assert_eq!(consul(http, &["kv", "get", "-recurse", "a/"]).as_deref(), Ok("a/b:one two\na/é?:x\n"));
    assert_eq!(consul(http, &["kv", "get", "-keys", ""]).as_deref(), Ok("a/\n"));
    assert!(consul(http, &["kv", "get", "-detailed", "a/é?"]).is_ok_and(|said| said.contains("Flags            7\n")));
    assert!(consul(http, &["kv", "put", "-cas", "a/b", "x"]).is_err_and(|why| why.contains("501")));
    assert_eq!(consul(http, &["kv", "delete", "a/b"]).as_deref(), Ok("Success! Deleted key: a/b\n"));
    assert!(consul(http, &["kv", "get", "a/b"]).is_err_and(|why| why.contains("No key exists at: a/b")));
    assert_eq!(consul(http, &["kv", "delete", "-recurse", "a"]).as_deref(), Ok("Success! Deleted keys with prefix: a\n"));

    // What a client registered is nobody's to take away.
    let own = at.http.send("PUT", "/v1/agent/service/register", Some(&json!({"Name": "own"})), READ_WITHIN).expect("an answer");
    assert_eq!(own.status, 200, "{own}");
    std::fs::remove_file(dir.join("b.json")).expect("it is there");
    assert_eq!(consul(http, &["reload"]).as_deref(), Ok("Configuration reload triggered\n"));
    wait_ids(&["db", "own", "web-1"]);
    drop(first);
    write("a.hcl", &DEFINED.replace("\"db\"", "\"db2\""));
    let _second = start();
    wait_ids(&["db2", "own", "web-1"]);
}
