//! The HTTP API in front of a whole engine, to which a script of requests happens.
//!
//! A step's operation is the method, its operand the target, a newline, the body.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, header::CONTENT_TYPE},
};
use serde_json::Value;
use tidings::{
    access::Door,
    agent::handle::{Answer, Call, Changed, DriverSide, Facts, Handle, Request as Asked},
    api::{Api, App, Transport},
    dialects::consul::{self, Consul},
    engine::{
        Engine,
        io::{Input, Output, Restored, Token},
    },
    model::time::Now,
    view::View,
};
use tokio::time::timeout;

use super::{Trace, engine::config, script};

const METHODS: [&str; 6] = ["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD"];

/// How long an answer or the end of its body is awaited in real time: what blocks for longer is meant to.
const PATIENCE: Duration = Duration::from_millis(20);

const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What Consul answers with 500 although the request is at fault: its clients match on the texts.
pub const DELIBERATE: &[&str] = &[
    "No path to datacenter",
    "does not have associated TTL",
    "Must provide ",
    "Missing node registration",
    "Missing service registration",
    "No node found with name",
];

/// Requests of Consul's clients: paths with all kinds of tails, parameters, filters, bodies in either case.
const CONSUL: [(&str, &str, &str); 34] = [
    (
        "PUT",
        "/v1/agent/service/register?replace-existing-checks=true",
        r#"{"ID":"web-1","Name":"web","Tags":["a","v-789c"],"Port":80,"Meta":{"v":"1"},"Weights":{"Passing":5},"EnableTagOverride":true,
        "TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":81}},"Connect":{"Native":true},"Check":null,
        "Checks":[{"TTL":"15s","DeregisterCriticalServiceAfter":"1m5s"},{"name":"h","http":"http://x","interval":10000000000,"header":{"a":["b"]}}]}"#,
    ),
    ("PUT", "/v1/agent/service/register", r#"{"name":"db","id":"x","enabletagoverride":false,"tagged_addresses":null,"checks":null}"#),
    ("PUT", "/v1/agent/check/register", r#"{"Name":"c","ServiceID":"web-1","TCP":"127.0.0.1:1","Interval":"1s"}"#),
    ("PUT", "/v1/agent/check/pass/service%3Aweb-1%3A1?note=fine", ""),
    ("PUT", "/v1/agent/check/update/service:web-1:1", r#"{"Status":"warning","Output":"slow"}"#),
    ("PUT", "/v1/agent/check/fail/unknown", ""),
    ("PUT", "/v1/agent/service/maintenance/web-1?enable=true&reason=why", ""),
    ("PUT", "/v1/agent/maintenance?enable=false", ""),
    ("GET", "/v1/agent/services?filter=Port==80", ""),
    ("GET", "/v1/agent/checks?filter=Status!=passing", ""),
    ("GET", "/v1/agent/service/web-1?hash=1&wait=1ms", ""),
    ("GET", "/v1/agent/health/service/name/web?format=text", ""),
    ("GET", "/v1/agent/self", ""),
    (
        "PUT",
        "/v1/catalog/register",
        r#"{"Node":"ext","Address":"10.0.0.1","NodeMeta":{"k":"v"},"Service":{"Service":"far","Port":5},"Check":{"Name":"c1","Status":"passing"}}"#,
    ),
    ("PUT", "/v1/catalog/deregister", r#"{"Node":"ext"}"#),
    ("GET", "/v1/catalog/services?node-meta=k:v&filter=a%20in%20ServiceTags", ""),
    ("GET", "/v1/catalog/services?index=1&wait=1ms&stale", ""),
    ("GET", "/v1/catalog/service/WEB?tag=a&tag=b&near=_agent", ""),
    ("GET", "/v1/catalog/nodes?filter=Meta.k%20matches%20%22^v%22&ns=default", ""),
    ("GET", "/v1/catalog/node/n0?pretty", ""),
    ("GET", "/v1/catalog/node-services/n0?index=7&wait=1.5ms&dc=dc1", ""),
    ("GET", "/v1/health/service/web?passing=1&tag=a&cached=&max_stale=1s", ""),
    ("GET", "/v1/health/service/web?filter=not%20(Checks.Status==critical%20or%20Service.Meta[%22v%22]%20is%20empty)", ""),
    ("GET", "/v1/health/connect/web?dc=nowhere", ""),
    ("GET", "/v1/health/state/any?filter=CheckID==serfHealth%20and%20ServiceTags%20is%20empty", ""),
    ("GET", "/v1/health/node/n0?consistent&stale", ""),
    ("PUT", "/v1/kv/a%2Fb?flags=42", "value"),
    ("GET", "/v1/kv/?recurse&keys&separator=/", ""),
    ("GET", "/v1/kv/a/b?raw&index=1&wait=1ms", ""),
    ("DELETE", "/v1/kv/a?recurse=1", ""),
    ("PUT", "/v1/event/fire/x?node=^n&service=web&tag=a", "payload"),
    ("GET", "/v1/event/list?name=x&index=1&wait=1ms", ""),
    ("GET", "/v1/coordinate/node/n0", ""),
    ("PUT", "/v1/agent/service/deregister/web-1", ""),
];

const TOKEN: Token = Token(1);

/// Turns until a command has to be answered.
const TURNS_MAX: usize = 20_000;

/// A script of requests.
pub fn http(bytes: &[u8], trace: &mut Trace) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs nothing");
    runtime.block_on(async {
        let (mut agent, handle) = Agent::start();
        let consul = consul::router(Consul::new(handle.clone(), consul::Settings::default(), 1));
        let app = App::new(Api::new(handle.clone(), 1), consul, Door::default());
        for (method, operand) in script::steps(bytes) {
            let method = METHODS[usize::from(method) % METHODS.len()];
            let (target, body) = operand.split_at(operand.iter().position(|byte| *byte == b'\n').unwrap_or(operand.len()));
            let request = Request::builder().method(method).uri(target).header("host", "localhost");
            let Ok(request) = request.body(Body::from(body.get(1..).unwrap_or_default().to_vec())) else {
                trace.see("no request");
                continue;
            };
            // What an impatient step before left behind is no doing of this one.
            while let Some(call) = agent.driver.try_next_call() {
                agent.call(call);
            }
            let before = handle.view().revision;
            let mut app = app.clone();
            let answered = async { timeout(PATIENCE, ask(&mut app, request, trace)).await.ok() };
            let status = tokio::select! {
                status = answered => status,
                () = agent.run() => unreachable!("nobody stops the agent"),
            };
            if let Some(400..=499) = status {
                assert_eq!(handle.view().revision, before, "a refused request changed something");
            }
        }
    });
}

/// One of each kind of request, alone and all in a row.
pub fn recorded() -> Vec<Vec<u8>> {
    const REGISTRATION: &str = r#"{"address":"10.1.2.3","port":8080,"secure_port":null,"addresses":{"wan":{"address":"203.0.113.9","port":18080}},
        "tags":["grpc"],"metadata":{"version":"1.4.2"},"weight":1.5,"weight_warning":1,"zone":"a","enabled":true,"status":"passing","ttl":"15s",
        "remove_after":"150s","checks":[{"id":"live","kind":"http","url":"http://10.1.2.3:8080/health","method":"GET","headers":{"a":"b"},
        "interval":"10s","timeout":"2s","passing_after":1,"warning_after":1,"critical_after":3,"skip_tls_verify":false},{"kind":"ttl","ttl":"5s"},
        {"kind":"tcp","address":"10.1.2.3:80"},{"kind":"grpc","address":"10.1.2.3:80","service":"s","tls":true},{"kind":"alias","service":"db"}],
        "scope":"datacenter","ext":{"eureka":{"hostName":"web1.example"}}}"#;
    const BATCH: &str = r#"[{"op":"register","service":"a","id":"1","port":1},{"op":"heartbeat","service":"web","id":"1"},
        {"op":"deregister","service":"a","id":"1"}]"#;
    let one = "/api/v1/services/web/instances/1";
    let heartbeat = format!("{one}/heartbeat");
    let drain = format!("{one}/override");
    let requests = [
        ("PUT", one, REGISTRATION),
        ("PUT", one, r#"{"port":80}"#),
        ("PATCH", one, r#"{"tags":["a"],"metadata":{"x":null},"weight":2}"#),
        ("GET", one, ""),
        ("PUT", &heartbeat, r#"{"status":"warning","output":"slow"}"#),
        ("PUT", &drain, r#"{"enabled":false,"reason":"drain","expires":"2h"}"#),
        ("DELETE", &drain, ""),
        ("PUT", "/api/v1/members/n0/override", r#"{"enabled":false,"reason":"drain"}"#),
        ("POST", "/api/v1/batch", BATCH),
        ("GET", "/api/v1/services?prefix=w&limit=2&after=a", ""),
        ("GET", "/api/v1/services/web?tag=grpc&health=passing&metadata=version:1.4.2&near=n0&revision=1&wait=1ms", ""),
        ("GET", "/api/v1/services/web/pick?strategy=hash&key=k&n=2", ""),
        ("GET", "/api/v1/instances?limit=1&namespace=*", ""),
        ("GET", "/api/v1/watch?service=web", ""),
        ("GET", "/api/v1/http_sd", ""),
        ("GET", "/api/v1/members", ""),
        ("GET", "/api/v1/status", ""),
        ("GET", "/api/v1/events", ""),
        ("POST", "/api/v1/join", r#"{"addresses":["10.0.0.9:7976"]}"#),
        ("POST", "/api/v1/keys", r#"{"key":"AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk="}"#),
        ("GET", "/metrics", ""),
        ("DELETE", one, ""),
    ];
    let mut all = Vec::new();
    let mut scripts = Vec::new();
    for (method, target, body) in requests.into_iter().chain(CONSUL) {
        let operation = METHODS.iter().position(|known| *known == method).expect("a known method") as u8;
        let operand = format!("{target}\n{body}");
        let mut script = Vec::new();
        script::put(&mut script, operation, operand.as_bytes());
        all.extend_from_slice(&script);
        scripts.push(script);
    }
    scripts.push(all);
    scripts
}

/// The same as method, target and body.
pub fn requests() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let all = recorded().pop().expect("the last script has all");
    let split = |(method, operand): (u8, &[u8])| {
        let (target, body) = operand.split_at(operand.iter().position(|byte| *byte == b'\n').unwrap_or(operand.len()));
        (METHODS[usize::from(method) % METHODS.len()], target.to_vec(), body.get(1..).unwrap_or_default().to_vec())
    };
    script::steps(&all).map(split).collect()
}

/// Asks and looks at the answer; what it says is the status.
async fn ask(app: &mut App, request: Request<Body>, trace: &mut Trace) -> u16 {
    let method = request.method().clone();
    let response = app.answer(request, Transport::Tcp).await;
    let status = response.status().as_u16();
    let is = |kind| response.headers().get(CONTENT_TYPE).is_some_and(|is| is == kind);
    let is_problem = is("application/problem+json");
    let bytes = timeout(PATIENCE, to_bytes(response.into_body(), ANSWER_BYTES_MAX)).await;
    if status == 500 && method != "HEAD" {
        let bytes = bytes.as_ref().expect("an error has an end").as_ref().expect("an error is short");
        let text = String::from_utf8_lossy(bytes);
        assert!(DELIBERATE.iter().any(|known| text.contains(known)), "a request is refused with a reason, or carried out: {text}");
    }
    let mut kind = None;
    if is_problem && method != "HEAD" {
        let bytes = bytes.expect("a problem has an end").expect("a problem is short");
        let problem: Value = serde_json::from_slice(&bytes).expect("a problem is JSON");
        assert_eq!(problem["status"], status);
        kind = problem["type"].as_str().map(str::to_owned);
        assert!(kind.is_some(), "a problem has a type");
    }
    trace.see((method.as_str(), status, kind));
    status
}

/// An engine behind the handle, whose time goes on only while it owes an answer.
struct Agent {
    engine: Engine,
    driver: DriverSide,
    now: Now,
}

impl Agent {
    fn start() -> (Self, Handle) {
        let config = config(0);
        let now = Now { ns: 0, wall_ms: super::engine::WALL_MS };
        let facts = Facts {
            node: config.node.name.clone(),
            datacenter: config.node.datacenter.clone(),
            zone: None,
            version: "1",
            gossip: config.node.advertise,
            advertise: config.node.advertise,
            wan: None,
            data_dir: None,
            key: None,
            allows_scripts: false,
            started_at_ms: now.wall_ms,
        };
        let view = Arc::new(View::default());
        let (handle, driver) = Handle::new(facts, view);
        let mut agent = Self { engine: Engine::new(config, Restored::default(), [1; 32], now), driver, now };
        for _ in 0..TURNS_MAX {
            agent.settle();
            if handle.view().revision > 0 {
                return (agent, handle);
            }
            agent.pass_time();
        }
        panic!("an engine that shows no view")
    }

    async fn run(&mut self) {
        loop {
            match self.driver.next().await {
                Asked::Call(call) => self.call(call),
                Asked::Sample(_) | Asked::LeasesEnded | Asked::Halt => {}
            }
        }
    }

    /// Runs the engine until it has answered.
    fn call(&mut self, call: Call) {
        self.engine.handle(self.now, Input::Command { token: TOKEN, command: call.command });
        for _ in 0..TURNS_MAX {
            if let Some(outcome) = self.settle() {
                // Who asked may have gone.
                let _ = call.reply.send(outcome);
                return;
            }
            self.pass_time();
        }
        panic!("a command without an answer");
    }

    /// Does what the engine wants; its answer to the command, if it gave one.
    fn settle(&mut self) -> Option<Answer> {
        let mut answer = None;
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Persist { mark, .. } => self.engine.handle(self.now, Input::Durable { mark }),
                Output::OpenStream { stream, .. } => self.engine.handle(self.now, Input::StreamClosed { stream }),
                Output::View(view) => {
                    self.driver.published().show(view);
                    self.driver.published().wake(&Changed::Any);
                }
                Output::Reply { token: TOKEN, outcome } => answer = Some(outcome),
                _ => {}
            }
        }
        answer
    }

    /// Goes on to the next deadline.
    fn pass_time(&mut self) {
        let ns = self.engine.deadline().expect("an engine always waits for something").max(self.now.ns);
        self.now = Now { ns, wall_ms: super::engine::WALL_MS + ns / 1_000_000 };
        self.engine.handle(self.now, Input::Tick);
    }
}
