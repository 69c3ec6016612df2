//! The native API of a real agent, over real sockets: every route of the document, every rule of api.md §1, golden JSON.
//!
//! The goldens are in `tests/golden/api`; `TIDINGS_TEST_BLESS=1` renews them.
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod lab;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::agent::{Agent, Site};
use lab::http::{Answer, Event};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

fn one_agent(site: &Site) -> Agent {
    site.agent("n1").start()
}

fn instance(service: &str, id: &str) -> String {
    format!("/api/v1/services/{service}/instances/{id}")
}

#[track_caller]
fn send(agent: &Agent, method: &str, path: &str, body: Option<Value>) -> Answer {
    agent.send(method, path, body.as_ref()).unwrap_or_else(|failure| panic!("{method} {path}: {failure}"))
}

/// A request with headers of its own: status, head and body.
#[track_caller]
fn raw(agent: &Agent, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(agent.http.address).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    let (line, rest) = request.split_once('\n').map_or((request, ""), |(line, rest)| (line, rest));
    let (head, body) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let headers: String = head.lines().map(|header| format!("{header}\r\n")).collect();
    let host = if headers.to_ascii_lowercase().contains("host:") { String::new() } else { format!("host: {}\r\n", agent.http.address) };
    let request = format!("{line} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the agent answers in text and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// Replaces what differs from run to run by its kind.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                let kind = match name.as_str() {
                    "uid" | "node_id" => Some("<id>"),
                    "revision" => Some("<revision>"),
                    "registered_at" | "changed_at" | "since" | "started_at" | "set_at" | "expires_at" | "at" => Some("<instant>"),
                    "uptime" => Some("<duration>"),
                    "data_dir" | "key" | "gossip" => Some("<its own>"),
                    "version" => Some("<version>"),
                    "http_port" => Some("<port>"),
                    _ => None,
                };
                match kind {
                    // The version of an agent, not the one in somebody's metadata.
                    Some("<version>") if value.as_str() != Some(env!("CARGO_PKG_VERSION")) => {}
                    Some(kind) if !value.is_null() => *value = kind.into(),
                    _ if name == "address" && value.as_str().is_some_and(is_of_this_run) => *value = "<address>".into(),
                    _ => steady(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}

/// The agent's own addresses are loopback, with ports that are free.
fn is_of_this_run(text: &str) -> bool {
    text.starts_with("127.")
}

#[track_caller]
fn assert_golden(name: &str, mut value: Value) {
    steady(&mut value);
    let found = serde_json::to_string_pretty(&value).expect("JSON can be written") + "\n";
    let path = format!("{}/tests/golden/api/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TIDINGS_TEST_BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().expect("it has one")).expect("goldens can be written");
        std::fs::write(&path, &found).expect("goldens can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, golden, "{name}: TIDINGS_TEST_BLESS=1 renews what is meant to change");
}

/// api.md's own example.
fn full() -> Value {
    json!({
        "address": "10.1.2.3", "port": 8080, "secure_port": null, "addresses": {"wan": {"address": "203.0.113.9", "port": 18080}},
        "tags": ["grpc"], "metadata": {"version": "1.4.2", "env": "prod", "protocol": "grpc"},
        "weight": 1, "weight_warning": 1, "zone": "a", "enabled": true, "status": "passing", "ttl": "15s", "remove_after": "150s",
        "checks": [{"id": "live", "kind": "ttl", "ttl": "30s"}],
        "scope": "datacenter", "ext": {"eureka": {"hostName": "web1.example", "vipAddress": "web"}}
    })
}

#[test]
fn answers_look_as_the_goldens_do() {
    let site = Site::new();
    let agent = one_agent(&site);
    assert_golden("registered", agent.register("web", "web-1", full()));
    assert_golden("unchanged", agent.register("web", "web-1", full()));
    agent.register("web", "web-2", json!({"port": 1, "status": "critical"}));
    assert_golden("list", agent.get("/api/v1/services/web"));
    assert_golden("list-any", agent.get("/api/v1/services/web?health=critical&ext=true"));
    assert_golden("instance", agent.get(&instance("web", "web-1")));
    assert_golden("services", agent.get("/api/v1/services"));
    assert_golden("instances", agent.get("/api/v1/instances"));
    assert_golden("pick", agent.get("/api/v1/services/web/pick?strategy=hash&key=a"));
    lab::wait_until(PATIENCE, "the member's instances are counted", || agent.get("/api/v1/members")["members"][0]["instances"] == 2);
    assert_golden("members", agent.get("/api/v1/members"));
    assert_golden("status", agent.get("/api/v1/status"));
    assert_golden("datacenters", agent.get("/api/v1/datacenters"));
    assert_golden("http_sd", agent.get("/api/v1/http_sd"));
    assert_golden("empty", agent.get("/api/v1/services/none"));
    assert_golden("problem", send(&agent, "PUT", &instance("web", "x"), Some(json!({"port": 70_000}))).json());
    assert_golden("deregistered", agent.deregister("web", "web-2"));
    assert_golden("absent", agent.deregister("web", "web-2"));
    let batch =
        json!({"items": [{"op": "register", "service": "db", "id": "1", "port": 1}, {"op": "heartbeat", "service": "web", "id": "web-1"}]});
    assert_golden("batch", send(&agent, "POST", "/api/v1/batch", Some(batch)).json());
}

#[test]
fn every_route_of_the_document_is_there_and_every_answer_has_a_revision() {
    let site = Site::new();
    let agent = one_agent(&site);
    let document = agent.get("/api/v1/openapi.json");
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().expect("there are paths") {
        for method in operations.as_object().expect("a path has operations").keys() {
            if path == "/api/v1/leave" || path == "/api/v1/watch" {
                continue;
            }
            let asked = path.replace("{service}", "s").replace("{id}", "0000000a").replace("{node}", "nobody");
            let answer = send(&agent, &method.to_ascii_uppercase(), &asked, None);
            assert!(answer.status != 405 && answer.status < 500, "{method} {asked}: {answer}");
            assert!(answer.header("tidings-revision").is_some_and(|revision| revision.parse::<u64>().is_ok()), "{method} {asked}");
            if answer.status >= 400 {
                assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {asked}");
                assert_ne!(answer.json()["type"], "tidings:no-such-route", "{method} {asked}");
            }
            routes += 1;
        }
    }
    assert!(routes > 25, "{routes}");
    let page = send(&agent, "GET", "/ui/", None);
    assert!(page.status == 200 && String::from_utf8_lossy(&page.body).contains("<title>tidings</title>"));
    assert!(agent.metric("tidings_api_requests_total").expect("metrics are there") > f64::from(routes));
}

#[test]
fn a_write_is_read_at_once_where_it_was_made() {
    let site = Site::new();
    let agent = one_agent(&site);
    for round in 0..50 {
        let written = agent.register("web", "1", json!({"port": 1, "metadata": {"round": round.to_string()}}));
        let list = agent.get("/api/v1/services/web");
        assert_eq!(list["instances"][0]["metadata"]["round"], round.to_string());
        assert!(list["revision"].as_u64() >= written["revision"].as_u64(), "{list}");
        assert_eq!(written["result"], if round == 0 { "created" } else { "updated" });
    }
}

#[test]
fn conditions_are_decided_on_what_is_visible() {
    let site = Site::new();
    let agent = one_agent(&site);
    let put = |headers: &str, port: u16| raw(&agent, &format!("PUT {}\n{headers}\n\n{{\"port\":{port}}}", instance("web", "1")));
    assert_eq!(put("if-match: *", 1).0, 412);
    assert_eq!(put("if-none-match: *", 1).0, 201);
    let (status, _, problem) = put("if-none-match: *", 1);
    assert!(status == 412 && problem.contains("tidings:condition-failed"), "{problem}");
    let tag = || send(&agent, "GET", &instance("web", "1"), None).header("etag").expect("an instance has an ETag").to_owned();
    let first = tag();
    assert_eq!(put(&format!("if-match: {first}"), 2).0, 200);
    let second = tag();
    assert_ne!(first, second);
    let (status, head, _) = put(&format!("if-match: {first}"), 3);
    assert!(status == 412 && head.contains(&second), "{head}");
    assert_eq!(raw(&agent, &format!("GET {}\nif-none-match: {second}", instance("web", "1"))).0, 304);
    assert_eq!(raw(&agent, &format!("DELETE {}\nif-match: {first}", instance("web", "1"))).0, 412);
    assert_eq!(raw(&agent, &format!("DELETE {}\nif-match: {second}", instance("web", "1"))).0, 200);
}

#[test]
fn a_patch_keeps_what_it_does_not_name() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "web-1", full());
    let patch = json!({"metadata": {"env": null, "color": "blue"}, "tags": ["a"], "enabled": false});
    assert_eq!(send(&agent, "PATCH", &instance("web", "web-1"), Some(patch)).json()["result"], "updated");
    let one = agent.get(&instance("web", "web-1"));
    assert_eq!(one["metadata"], json!({"color": "blue", "protocol": "grpc", "version": "1.4.2"}));
    assert_eq!((&one["tags"], &one["enabled"], &one["ttl"]), (&json!(["a"]), &json!(false), &json!("15s")));
    assert_eq!(one["ext"], full()["ext"]);
    assert_eq!(agent.ids("web"), Ok(vec![]));
}

#[test]
fn an_instance_that_is_not_renewed_turns_critical_and_goes() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "1", json!({"port": 1, "ttl": "300ms", "remove_after": "700ms"}));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert_eq!(send(&agent, "PUT", &format!("{}/heartbeat", instance("web", "1")), None).status, 200);
        assert_eq!(agent.ids("web"), Ok(vec!["1".to_owned()]));
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.wait_ids("web", &[], Duration::from_secs(3));
    let critical = agent.get("/api/v1/services/web?health=any");
    if let Some(one) = critical["instances"].get(0) {
        assert_eq!((one["health"].as_str(), one["why"][0]["by"].as_str()), (Some("critical"), Some("lease")), "{one}");
    }
    lab::wait_until(Duration::from_secs(3), "it is removed", || {
        agent.get("/api/v1/services/web?health=any")["instances"].as_array().is_some_and(Vec::is_empty)
    });
    let late = send(&agent, "PUT", &format!("{}/heartbeat", instance("web", "1")), None);
    assert_eq!((late.status, late.json()["type"].as_str()), (404, Some("tidings:not-found")));
}

#[test]
fn a_report_changes_health_and_says_why() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "1", json!({"port": 1, "checks": [{"id": "db", "kind": "ttl", "ttl": "1h"}]}));
    let report = json!({"check": "db", "status": "critical", "output": "no connection"});
    assert_eq!(send(&agent, "PUT", &format!("{}/heartbeat", instance("web", "1")), Some(report)).status, 200);
    let list = agent.get("/api/v1/services/web?health=any");
    let why = &list["instances"][0]["why"][0];
    assert_eq!(
        (&why["by"], &why["id"], &why["state"], &why["output"]),
        (&json!("check"), &json!("db"), &json!("critical"), &json!("no connection"))
    );
    assert_eq!(agent.ids("web"), Ok(vec![]));
    assert_eq!(agent.get("/api/v1/services")["services"][0]["critical"], 1);
}

#[test]
fn an_operators_word_survives_registration_and_expires() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "1", json!({"port": 1}));
    let path = format!("{}/override", instance("web", "1"));
    let word = json!({"enabled": false, "reason": "maintenance"});
    assert_eq!(send(&agent, "PUT", &path, Some(word)).status / 100, 2);
    assert_eq!(agent.ids("web"), Ok(vec![]));
    agent.register("web", "1", json!({"port": 2}));
    assert_eq!(agent.ids("web"), Ok(vec![]));
    let one = agent.get(&instance("web", "1"));
    assert_eq!((&one["override"]["reason"], &one["why"][0]["by"], &one["port"]), (&json!("maintenance"), &json!("override"), &json!(2)));
    assert_eq!(send(&agent, "DELETE", &path, None).status, 200);
    assert_eq!(agent.ids("web"), Ok(vec!["1".to_owned()]));
    assert_eq!(send(&agent, "PUT", "/api/v1/members/n1/override", Some(json!({"enabled": false, "expires": "1s"}))).status / 100, 2);
    assert_eq!(agent.ids("web"), Ok(vec![]));
    agent.wait_ids("web", &["1"], Duration::from_secs(5));
    assert_eq!(send(&agent, "DELETE", "/api/v1/members/n1/override", None).status, 200);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let site = Site::new();
    let agent = one_agent(&site);
    let item = |service: &str, port: u32| json!({"op": "register", "service": service, "id": "1", "port": port});
    let wrong = send(&agent, "POST", "/api/v1/batch", Some(json!([item("a", 1), item("b", 70_000)])));
    assert_eq!((wrong.status, wrong.json()["pointer"].as_str()), (422, Some("/1/port")));
    assert_eq!(agent.ids("a"), Ok(vec![]));
    let missing = json!([item("a", 1), {"op": "heartbeat", "service": "none", "id": "1"}]);
    assert_eq!(send(&agent, "POST", "/api/v1/batch", Some(missing)).status, 404);
    assert_eq!(agent.ids("a"), Ok(vec![]), "what came before the refused one is not done either");
    let all: Vec<Value> = (0..1_000).map(|i| item(&format!("s{}", i % 10), 1 + i)).collect();
    let done = send(&agent, "POST", "/api/v1/batch", Some(all.into())).json();
    assert_eq!(done["results"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(agent.get("/api/v1/services?limit=5")["services"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_blocking_read_ends_with_the_change() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "1", json!({"port": 1}));
    let revision = agent.get("/api/v1/services/web")["revision"].as_u64().expect("a list has one");
    let path = format!("/api/v1/services/web?revision={revision}&wait=20s");
    let started = Instant::now();
    let (list, took) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| agent.http.send("GET", &path, None, Duration::from_secs(30)).expect("it ends"));
        std::thread::sleep(Duration::from_millis(300));
        agent.register("other", "1", json!({"port": 1}));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reading.is_finished(), "another service does not concern it");
        agent.register("web", "2", json!({"port": 1}));
        (reading.join().expect("it does not panic"), started.elapsed())
    });
    assert_eq!((list.status, list.json()["instances"].as_array().map(Vec::len)), (200, Some(2)));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let now = agent.get("/api/v1/services/web")["revision"].clone();
    let quiet = send(&agent, "GET", &format!("/api/v1/services/web?revision={now}&wait=200ms"), None);
    assert_eq!((quiet.status, quiet.header("tidings-revision")), (304, Some(now.to_string().as_str())));
}

#[test]
fn a_watcher_sees_what_happens_and_resumes_by_its_id() {
    let site = Site::new();
    let agent = one_agent(&site);
    agent.register("web", "1", json!({"port": 1}));
    let mut events = agent.http.events("/api/v1/watch?service=web").expect("it opens");
    let mut next = || events.next(PATIENCE).expect("it comes");
    assert_eq!((next().name, next().name), ("put".to_owned(), "synced".to_owned()));
    agent.register("db", "1", json!({"port": 1}));
    agent.register("web", "2", json!({"port": 1}));
    let Event { name, id, data } = next();
    assert_eq!((name.as_str(), serde_json::from_str::<Value>(&data).expect("JSON")["id"].as_str()), ("put", Some("2")));
    agent.deregister("web", "1");
    let removed = next();
    assert_eq!((removed.name.as_str(), removed.json()["reason"].as_str()), ("remove", Some("deregistered")));
    let resume = |id: &str| {
        let mut stream = TcpStream::connect(agent.http.address).expect("the agent listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
        let request = format!("GET /api/v1/watch?service=web HTTP/1.1\r\nhost: {}\r\nlast-event-id: {id}\r\n\r\n", agent.http.address);
        stream.write_all(request.as_bytes()).expect("the agent reads");
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains("event: ") || !text.ends_with("\n\n\r\n") {
            let length = stream.read(&mut buffer).expect("the agent answers");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        text
    };
    let told = resume(&id);
    assert!(told.contains("event: remove") && !told.contains("resync"), "{told}");
    assert!(resume("0123456789abcdef0123456789abcdef-1").contains("event: resync"));
}

#[test]
fn each_kind_of_bad_request_gets_its_problem_and_changes_nothing() {
    let site = Site::new();
    let agent = one_agent(&site);
    let before = agent.get("/api/v1/status")["instances"].clone();
    let one = instance("web", "1");
    let long = "x".repeat(769);
    for (method, path, body, status, kind) in [
        ("PUT", one.clone(), json!({"port": 65_536}), 422, "bad-port"),
        ("PUT", one.clone(), json!({"port": "1"}), 400, "bad-shape"),
        ("PUT", one.clone(), json!({"prot": 1}), 400, "unknown-field"),
        ("PUT", one.clone(), json!({}), 400, "missing-field"),
        ("PUT", one.clone(), json!({"port": 1, "weight": 65_536}), 422, "bad-weight"),
        ("PUT", one.clone(), json!({"port": 1, "ttl": "25h"}), 422, "bad-duration"),
        ("PUT", one.clone(), json!({"port": 1, "address": "a b"}), 422, "bad-address"),
        ("PUT", one.clone(), json!({"port": 1, "status": "x"}), 422, "bad-value"),
        ("PUT", one.clone(), json!({"port": 1, "tags": vec!["x"; 513]}), 422, "too-many"),
        ("PUT", one.clone(), json!({"port": 1, "checks": [{"kind": "script", "args": ["x"]}]}), 422, "bad-check"),
        ("PUT", one.clone(), json!({"port": 1, "remove_after": "1s"}), 422, "invalid"),
        ("PUT", one.clone(), json!({"port": 1, "tags": vec!["x".repeat(16_000); 5]}), 413, "too-large"),
        ("PUT", format!("{one}?namespace=a"), json!({"port": 1, "namespace": "b"}), 400, "disagreement"),
        ("PUT", format!("{one}?namespce=a"), json!({"port": 1}), 400, "unknown-parameter"),
        ("PUT", format!("{one}?namespace=a%2Fb"), json!({"port": 1}), 400, "bad-name"),
        ("PUT", instance(&long, "1"), json!({"port": 1}), 400, "bad-name"),
        ("PUT", instance("%2E%2E", "1"), json!({"port": 1}), 400, "bad-name"),
        ("PUT", instance("", "1"), json!({"port": 1}), 400, "bad-name"),
        ("PUT", format!("{one}/heartbeat"), json!({"status": "passing"}), 404, "not-found"),
        ("PATCH", one.clone(), json!({"port": 1}), 404, "not-found"),
        ("GET", "/api/v1/services/web?wait=11m".into(), Value::Null, 400, "bad-parameter"),
        ("GET", "/api/v1/services/web?dc=mars".into(), Value::Null, 404, "unknown-datacenter"),
        ("GET", "/api/v1/instances?after=zz".into(), Value::Null, 400, "bad-cursor"),
        ("GET", "/api/v9".into(), Value::Null, 404, "no-such-route"),
        ("POST", "/api/v1/services/web".into(), Value::Null, 405, "no-such-method"),
        ("POST", "/api/v1/keys".into(), json!({"key": "x"}), 422, "bad-value"),
        ("POST", "/api/v1/keys/0000000a".into(), Value::Null, 404, "not-found"),
        ("DELETE", "/api/v1/members/nobody".into(), Value::Null, 404, "not-found"),
    ] {
        let answer = send(&agent, method, &path, Some(body).filter(|body| !body.is_null()));
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (status, Some(format!("tidings:{kind}").as_str())),
            "{method} {path}: {answer}"
        );
    }
    for (request, status) in [
        ("GET /healthz\nhost: evil.example", 421),
        ("POST /api/v1/leave\norigin: http://evil.example", 403),
        ("PUT /api/v1/services/web/instances/1\n\n{", 400),
        ("PUT /api/v1/services/web/instances/1\nif-match: \"a\"\n\n{\"port\":1}", 412),
    ] {
        let (found, head, body) = raw(&agent, request);
        assert!(found == status && head.contains("application/problem+json"), "{request}: {head} {body}");
    }
    assert_eq!(agent.get("/api/v1/status")["instances"], before);
    assert_eq!(agent.ids("web"), Ok(vec![]));
}

#[test]
fn keys_are_installed_used_and_removed() {
    let site = Site::new();
    let agent = one_agent(&site);
    let ids = || -> Vec<String> {
        let keys = agent.get("/api/v1/keys");
        keys["keys"].as_array().expect("a list").iter().map(|key| lab::agent::text(&key["id"])).collect()
    };
    let first = ids();
    let path = site.path("second");
    site.make_key(&path);
    let key = std::fs::read_to_string(path).expect("it was written");
    assert_eq!(send(&agent, "POST", "/api/v1/keys", Some(json!({"key": key.trim()}))).status, 200);
    let both = ids();
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert_eq!(send(&agent, "POST", &format!("/api/v1/keys/{}", both[1]), None).status, 200);
    assert_eq!(ids()[0], both[1]);
    assert_eq!(send(&agent, "DELETE", &format!("/api/v1/keys/{}", first[0]), None).status, 200);
    assert_eq!(ids(), [both[1].clone()]);
}

#[test]
fn two_agents_show_the_same_and_take_each_others_writes() {
    let site = Site::new();
    let first = one_agent(&site);
    let second = site.agent("n2").join(&[&first]).start();
    second.wait_alive(2, PATIENCE);
    first.register("web", "1", json!({"port": 1, "ttl": "10m"}));
    second.wait_ids("web", &["1"], PATIENCE);
    // A renewal at the other agent is forwarded: nothing is taken over, nothing changes.
    let beat = send(&second, "PUT", &format!("{}/heartbeat", instance("web", "1")), None);
    assert_eq!(beat.status, 200);
    assert_eq!(second.get(&instance("web", "1"))["node"], "n1");
    assert_eq!(second.deregister("web", "1")["result"], "removed");
    assert_eq!(second.ids("web"), Ok(vec![]), "read your writes");
    first.wait_ids("web", &[], PATIENCE);
    let mut events = second.http.events("/api/v1/watch").expect("it opens");
    assert_eq!(events.next(PATIENCE).expect("it comes").name, "synced");
    first.register("web", "2", json!({"port": 1}));
    assert_eq!(events.next(PATIENCE).expect("it comes").json()["id"], "2");
}
