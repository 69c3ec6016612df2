//! The API against a door whose other side is a small registry: an editor that does what commands say.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value, json};

use super::*;
use crate::access::Door;
use crate::agent::handle::{Changed, DriverSide, Facts, Handle, Request as Asked};
use crate::model::command::{Command, Condition, Refusal, Reply, Target, WriteResult, Written};
use crate::model::names::{Datacenter, NodeId, NodeName, ServiceKey};
use crate::model::node::Liveness;
use crate::model::record::{Content, Key, Kind, Scope, Uid};
use crate::model::time::Now;
use crate::view::{AgentView, Changes, Editor, Entry, Node, RemoveReason, View};

const ORIGIN: NodeId = NodeId(0xabcd << 112);

/// The other side of the door.
struct Registry {
    driver: DriverSide,
    editor: Editor,
    node: Arc<Node>,
    version: u64,
    wall_ms: u64,
    seen: u64,
}

impl Registry {
    fn start() -> (App, Handle) {
        let facts = Facts {
            node: NodeName::new("n1").unwrap(),
            datacenter: Datacenter::new("dc1").unwrap(),
            zone: None,
            version: "0",
            gossip: "127.0.0.1:1".parse().unwrap(),
            advertise: "127.0.0.1:1".parse().unwrap(),
            data_dir: None,
            key: None,
            allows_scripts: false,
            started_at_ms: 0,
        };
        let agent = AgentView { id: ORIGIN, name: "n1".into(), datacenter: "dc1".into(), is_ready: true, ..AgentView::default() };
        let node = Arc::new(Node {
            id: ORIGIN,
            name: "n1".into(),
            address: "10.0.0.1".into(),
            zone: None,
            datacenter: "dc1".into(),
            metadata: Vec::new(),
            is_external: false,
            liveness: Liveness::Alive,
            word: None,
            checks: Vec::new(),
        });
        let mut editor = Editor::new(agent, 0);
        editor.block_reserved(1 << 52);
        let first = editor.publish(Now { ns: 0, wall_ms: 1 }).unwrap();
        let seen = first.revision;
        let (handle, driver) = Handle::new(facts, first);
        let registry = Registry { driver, editor, node, version: 1, wall_ms: 2, seen };
        tokio::spawn(registry.run());
        (App::new(Api::new(handle.clone(), 1), axum::Router::new(), Door::default()), handle)
    }

    async fn run(mut self) {
        loop {
            match self.driver.next().await {
                Asked::Call(call) => {
                    self.driver.turned();
                    let outcome = self.carry_out(&call.command);
                    let revision = self.publish();
                    let _ = call.reply.send(outcome.map(|reply| with_revision(reply, revision)));
                }
                Asked::Sample(reply) => drop(reply.send(Vec::new())),
                Asked::LeasesEnded => {}
                Asked::Halt => return,
            }
        }
    }

    fn publish(&mut self) -> u64 {
        self.wall_ms += 1;
        if let Some(view) = self.editor.publish(Now { ns: 0, wall_ms: self.wall_ms }) {
            let Changes::Batches(batches) = view.changes_since(self.seen) else { panic!("the journal is long enough") };
            let services = batches.iter().flat_map(|batch| batch.changes.iter().map(|change| change.service.clone())).collect();
            self.seen = view.revision;
            self.driver.show(view);
            self.driver.waker().wake(&Changed::Services(services));
        }
        self.seen
    }

    fn carry_out(&mut self, command: &Command) -> Result<Reply, Refusal> {
        match command {
            Command::Register(registration) => {
                let key = registration.key();
                let uid = key.uid(ORIGIN);
                let service = ServiceKey { namespace: registration.namespace.clone(), service: registration.service.clone() };
                let known = self.known(&service, uid);
                check(registration.condition, known.as_ref())?;
                let is_same = known.as_ref().is_some_and(|known| registration.instance.is_same_registration(&known.instance().unwrap().1));
                let result = match known {
                    Some(_) if is_same => return Ok(Reply::Written(Written { uid, result: WriteResult::Unchanged, revision: 0 })),
                    Some(_) => WriteResult::Updated,
                    None => WriteResult::Created,
                };
                self.version += 1;
                let content = Content::encode(&key, &registration.instance);
                self.editor.put(&service, Entry::new(uid, content, Arc::clone(&self.node), self.version, None).unwrap());
                Ok(Reply::Written(Written { uid, result, revision: 0 }))
            }
            Command::Deregister { target, condition } => {
                let (service, uid) = self.meant(target);
                let known = self.known(&service, uid);
                check(*condition, known.as_ref())?;
                self.editor.remove(&service, uid, RemoveReason::Deregistered);
                let result = if known.is_some() { WriteResult::Removed } else { WriteResult::Absent };
                Ok(Reply::Written(Written { uid, result, revision: 0 }))
            }
            Command::Heartbeat { target, .. } => {
                let (service, uid) = self.meant(target);
                if self.known(&service, uid).is_none() {
                    return Err(Refusal::NotFound { what: target.id.to_string() });
                }
                Ok(Reply::Written(Written { uid, result: WriteResult::Unchanged, revision: 0 }))
            }
            Command::Batch(commands) => {
                let replies = commands.iter().map(|command| self.carry_out(command)).collect::<Result<Vec<_>, _>>()?;
                let written =
                    replies.into_iter().map(|reply| if let Reply::Written(written) = reply { written } else { panic!("a write") });
                Ok(Reply::Batch(written.collect()))
            }
            Command::UseKey(_) => Err(Refusal::Busy { retry_after_ms: 2_500, why: "test".into() }),
            Command::RemoveKey(_) => Err(Refusal::Unavailable { why: "test".into() }),
            Command::Forget(_) => Err(Refusal::TooLarge { bytes: 2, bytes_max: 1 }),
            Command::InstallKey(_) => Err(Refusal::Ambiguous),
            Command::ListKeys => Ok(Reply::Keys(vec![crate::model::command::KeyId(7)])),
            Command::Join(_) | Command::Leave => Ok(Reply::Done),
            other => Err(Refusal::Invalid { what: format!("{other:?} is not tried here") }),
        }
    }

    fn known(&self, service: &ServiceKey, uid: Uid) -> Option<Entry> {
        self.editor.entries(service).iter().find(|entry| entry.uid == uid).cloned()
    }

    fn meant(&self, target: &Target) -> (ServiceKey, Uid) {
        let key = Key {
            kind: Kind::INSTANCE,
            scope: Scope::Datacenter,
            namespace: target.namespace.as_str().into(),
            name: target.service.as_str().into(),
            id: target.id.as_str().into(),
        };
        (ServiceKey { namespace: target.namespace.clone(), service: target.service.clone() }, key.uid(ORIGIN))
    }
}

fn check(condition: Condition, known: Option<&Entry>) -> Result<(), Refusal> {
    let version = known.map(|entry| entry.version);
    let holds = match condition {
        Condition::Always | Condition::NotAfter(_) => true,
        Condition::Absent => version.is_none(),
        Condition::Version(wanted) => version == Some(wanted),
    };
    if holds { Ok(()) } else { Err(Refusal::Condition { version }) }
}

fn with_revision(reply: Reply, revision: u64) -> Reply {
    match reply {
        Reply::Written(written) => Reply::Written(Written { revision, ..written }),
        Reply::Batch(all) => Reply::Batch(all.into_iter().map(|written| Written { revision, ..written }).collect()),
        other => other,
    }
}

struct Answer {
    status: u16,
    response: Response<Body>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn revision(&self) -> u64 {
        self.header("tidings-revision").parse().expect("every answer has a revision")
    }

    async fn json(self) -> Value {
        let bytes = axum::body::to_bytes(self.response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)))
    }
}

async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8500");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().answer(request.body(body.into()).unwrap(), Transport::Tcp).await;
    let answer = Answer { status: response.status().as_u16(), response };
    answer.revision();
    answer
}

async fn get(app: &App, path: &str) -> Answer {
    ask(app, "GET", path, &[], Body::empty()).await
}

async fn put(app: &App, service: &str, id: &str, body: Value) -> Answer {
    ask(app, "PUT", &format!("/api/v1/services/{service}/instances/{id}"), &[], body.to_string()).await
}

async fn ids(app: &App, path: &str) -> Vec<String> {
    let list = get(app, path).await.json().await;
    list["instances"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_registered_is_read_at_once_as_api_md_shows_it() {
    let (app, _) = Registry::start();
    let body =
        json!({"port": 8080, "tags": ["grpc"], "metadata": {"env": "prod"}, "addresses": {"wan": {"address": "203.0.113.9", "port": 1}}});
    let created = put(&app, "web", "web-1", body.clone()).await;
    assert_eq!(created.status, 201);
    let tag = created.header("etag").to_owned();
    let revision = created.revision();
    let created = created.json().await;
    assert_eq!((created["result"].as_str(), created["revision"].as_u64()), (Some("created"), Some(revision)));
    let list = get(&app, "/api/v1/services/web").await;
    assert_eq!(list.revision(), revision);
    let list = list.json().await;
    let mut one = list["instances"][0].clone();
    for (field, is_instant) in [("registered_at", true), ("changed_at", true), ("uid", false), ("node_id", false)] {
        let text = one.as_object_mut().unwrap().shift_remove(field).unwrap();
        let text = text.as_str().unwrap();
        assert!(if is_instant { text.len() == 24 && text.ends_with('Z') } else { text.len() == 32 }, "{field}: {text}");
    }
    assert_eq!(
        one,
        json!({
            "id": "web-1", "service": "web", "namespace": "default", "scope": "datacenter", "datacenter": "dc1", "age": "0s", "node": "n1",
            "zone": null, "address": "10.0.0.1", "port": 8080, "secure_port": null,
            "addresses": {"wan": {"address": "203.0.113.9", "port": 1}}, "tags": ["grpc"], "metadata": {"env": "prod"}, "weight": 1,
            "health": "passing", "enabled": true, "verified": true, "available": true, "revision": revision, "source": "native"
        })
    );
    let head: Vec<&str> = list.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(head, ["service", "namespace", "datacenter", "revision", "complete", "next", "instances"]);
    let again = put(&app, "web", "web-1", body).await;
    assert_eq!((again.status, again.header("etag")), (200, tag.as_str()));
    assert_eq!(again.json().await["result"], "unchanged");
    let detail = get(&app, "/api/v1/services/web/instances/web-1").await;
    assert_eq!(detail.header("etag"), tag);
    let detail = detail.json().await;
    assert_eq!(detail["why"][0], json!({"by": "agent", "id": "n1", "state": "alive", "output": ""}));
    assert_eq!((&detail["checks"], &detail["override"]), (&json!([]), &Value::Null));
    let gone = ask(&app, "DELETE", "/api/v1/services/web/instances/web-1", &[], Body::empty()).await.json().await;
    assert_eq!(gone["result"], "removed");
    let absent = ask(&app, "DELETE", "/api/v1/services/web/instances/web-1", &[], Body::empty()).await;
    assert_eq!((absent.status, absent.json().await["result"].as_str()), (200, Some("absent")));
    let empty = get(&app, "/api/v1/services/web").await;
    assert_eq!((empty.status, empty.revision()), (200, gone["revision"].as_u64().unwrap()));
    assert_eq!(get(&app, "/api/v1/services/web/instances/web-1").await.status, 404);
}

#[tokio::test]
async fn names_may_hold_what_a_path_may_not() {
    let (app, _) = Registry::start();
    assert_eq!(put(&app, "group@@a%2Fb%23c%3Ad%25", "1%2F2", json!({"port": 1})).await.status, 201);
    let list = get(&app, "/api/v1/services/group@@a%2Fb%23c%3Ad%25").await.json().await;
    assert_eq!((list["service"].as_str(), list["instances"][0]["id"].as_str()), (Some("group@@a/b#c:d%"), Some("1/2")));
    let long = "x".repeat(769);
    for name in ["%2E", "%2e%2e", "a%0Ab", "%ff", &long] {
        let refused = put(&app, name, "1", json!({"port": 1})).await;
        assert_eq!((refused.status, refused.json().await["type"].as_str()), (400, Some("tidings:bad-name")), "{name}");
    }
    for path in ["/api/v1/services//instances/1", "/api/v1/services/a/instances/"] {
        assert_eq!(get(&app, path).await.json().await["type"], "tidings:bad-name", "{path}");
    }
}

#[tokio::test]
async fn conditions_hold_or_nothing_is_written() {
    let (app, _) = Registry::start();
    let path = "/api/v1/services/web/instances/1";
    let body = || json!({"port": 1}).to_string();
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "*")], body()).await.status, 412);
    let created = ask(&app, "PUT", path, &[("if-none-match", "*")], body()).await;
    assert_eq!(created.status, 201);
    let tag = created.header("etag").to_owned();
    let refused = ask(&app, "PUT", path, &[("if-none-match", "*")], body()).await;
    assert_eq!((refused.status, refused.header("etag")), (412, tag.as_str()));
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "\"0000000000000000\"")], body()).await.status, 412);
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "\"other\"")], body()).await.status, 412);
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "*")], json!({"port": 2}).to_string()).await.status, 200);
    let seen = get(&app, path).await.header("etag").to_owned();
    assert_ne!(seen, tag);
    assert_eq!(ask(&app, "GET", path, &[("if-none-match", &seen)], Body::empty()).await.status, 304);
    assert_eq!(ask(&app, "DELETE", path, &[("if-match", &tag)], Body::empty()).await.status, 412);
    assert_eq!(ask(&app, "DELETE", path, &[("if-match", &seen)], Body::empty()).await.status, 200);
    let list = get(&app, "/api/v1/services/web").await.header("etag").to_owned();
    assert_eq!(ask(&app, "GET", "/api/v1/services/web", &[("if-none-match", &list)], Body::empty()).await.status, 304);
}

#[tokio::test]
async fn a_patch_merges_and_keeps_the_rest() {
    let (app, _) = Registry::start();
    let path = "/api/v1/services/web/instances/1";
    let body = json!({"port": 1, "tags": ["a"], "metadata": {"x": "1", "y": "2"}, "ttl": "15s", "ext": {"eureka": {"a": 1}}});
    put(&app, "web", "1", body).await;
    let patch = json!({"metadata": {"x": null, "z": "3"}, "weight": 2.5, "enabled": false}).to_string();
    let patched = ask(&app, "PATCH", path, &[], patch).await;
    assert_eq!((patched.status, patched.json().await["result"].as_str()), (200, Some("updated")));
    let one = get(&app, path).await.json().await;
    assert_eq!((&one["metadata"], &one["weight"], &one["enabled"]), (&json!({"y": "2", "z": "3"}), &json!(2.5), &json!(false)));
    assert_eq!((&one["tags"], &one["ttl"], &one["ext"]), (&json!(["a"]), &json!("15s"), &json!({"eureka": {"a": 1}})));
    assert_eq!(one["why"].as_array().unwrap()[0]["state"], "disabled");
    assert_eq!(ids(&app, "/api/v1/services/web").await.len(), 0, "disabled instances take no traffic");
    assert_eq!(ids(&app, "/api/v1/services/web?health=any").await.len(), 1);
    for (patch, kind) in [
        (json!({"port": null}), "tidings:missing-field"),
        (json!({"prot": 1}), "tidings:unknown-field"),
        (json!({"scope": "agent"}), "tidings:invalid"),
        (json!([]), "tidings:bad-shape"),
    ] {
        assert_eq!(ask(&app, "PATCH", path, &[], patch.to_string()).await.json().await["type"], kind, "{patch}");
    }
    assert_eq!(ask(&app, "PATCH", path, &[("if-match", "\"0000000000000000\"")], "{}").await.status, 412);
    assert_eq!(ask(&app, "PATCH", "/api/v1/services/web/instances/no", &[], "{}").await.status, 404);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_names_the_place() {
    let (app, _) = Registry::start();
    let items = json!({"items": [
        {"op": "register", "service": "a", "id": "1", "port": 1},
        {"op": "register", "service": "b", "id": "1", "port": 2, "tags": ["x"]},
        {"op": "heartbeat", "service": "a", "id": "1", "status": "passing"},
        {"op": "deregister", "service": "b", "id": "1"},
    ]});
    let done = ask(&app, "POST", "/api/v1/batch", &[], items.to_string()).await.json().await;
    let results: Vec<&str> = done["results"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["created", "created", "unchanged", "removed"]);
    let wrong =
        json!([{"op": "register", "service": "c", "id": "1", "port": 1}, {"op": "register", "service": "c", "id": "2", "port": 70_000}]);
    let refused = ask(&app, "POST", "/api/v1/batch", &[], wrong.to_string()).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json().await["pointer"], "/1/port");
    assert_eq!(ids(&app, "/api/v1/services/c").await.len(), 0);
    let many = Value::Array(vec![json!({"op": "deregister", "service": "a", "id": "1"}); 1_001]);
    assert_eq!(ask(&app, "POST", "/api/v1/batch", &[], many.to_string()).await.json().await["type"], "tidings:too-many");
    for (item, pointer) in [
        (json!({"service": "a", "id": "1"}), "/0/op"),
        (json!({"op": "x", "service": "a", "id": "1"}), "/0/op"),
        (json!({"op": "heartbeat", "service": "a", "id": "1", "port": 1}), "/0/port"),
        (json!({"op": "register", "service": "", "id": "1", "port": 1}), "/0/service"),
    ] {
        let refused = ask(&app, "POST", "/api/v1/batch", &[], json!([item]).to_string()).await;
        assert_eq!(refused.json().await["pointer"], pointer, "{item}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_read_wakes_for_its_service_alone() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1})).await;
    let revision = get(&app, "/api/v1/services/web").await.revision();
    let start = tokio::time::Instant::now();
    let path = format!("/api/v1/services/web?revision={revision}&wait=30s");
    let waiting = tokio::spawn({
        let (app, path) = (app.clone(), path.clone());
        async move { get(&app, &path).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    put(&app, "db", "1", json!({"port": 1})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished(), "another service does not concern it");
    put(&app, "web", "2", json!({"port": 1})).await;
    let answer = waiting.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(11));
    assert!(answer.revision() > revision);
    // In either direction: a revision that is ahead of ours is another agent's, or of another life.
    assert_eq!(get(&app, "/api/v1/services/web?revision=9007199254740991&wait=30s").await.status, 200);
    let now = get(&app, "/api/v1/services/web").await.revision();
    let quiet = get(&app, &format!("/api/v1/services/web?revision={now}&wait=30s")).await;
    assert_eq!((quiet.status, quiet.revision()), (304, now));
    assert_eq!(get(&app, &format!("/api/v1/services/web?revision={now}")).await.status, 304);
    let never = get(&app, "/api/v1/services/never").await;
    assert_eq!(get(&app, &format!("/api/v1/services/never?revision={}&wait=1s", never.revision())).await.status, 304);
    for query in ["wait=soon", "wait=601s", "wait=1s&revision=-1", "revision=x", "wait=1s&wait=2s"] {
        assert_eq!(get(&app, &format!("/api/v1/services/web?{query}")).await.json().await["type"], "tidings:bad-parameter", "{query}");
    }
}

#[tokio::test]
async fn pages_hold_everything_once_and_in_order() {
    let (app, _) = Registry::start();
    for service in ["a", "b", "c"] {
        for id in 0..7 {
            put(&app, service, &id.to_string(), json!({"port": 1})).await;
        }
    }
    for (path, total) in [("/api/v1/instances", 21), ("/api/v1/services/b", 7), ("/api/v1/services/b?namespace=*", 7)] {
        let (mut seen, mut next) = (Vec::new(), None::<String>);
        loop {
            let more = if path.contains('?') { '&' } else { '?' };
            let after = next.as_ref().map(|next| format!("&after={next}")).unwrap_or_default();
            let page = get(&app, &format!("{path}{more}limit=4{after}")).await.json().await;
            let instances = page["instances"].as_array().unwrap();
            assert!(instances.len() <= 4 && page["revision"].is_u64());
            seen.extend(instances.iter().map(|one| one["uid"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(cursor) => next = Some(cursor.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen.len(), total, "{path}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), total, "{path}");
    }
    let first = get(&app, "/api/v1/services?limit=2").await.json().await;
    let second = get(&app, &format!("/api/v1/services?limit=2&after={}", first["next"].as_str().unwrap())).await.json().await;
    assert_eq!((first["services"][1]["service"].as_str(), second["services"][0]["service"].as_str()), (Some("b"), Some("c")));
    assert_eq!(second["next"], Value::Null);
    assert_eq!(second["services"][0]["passing"], 7);
    assert_eq!(get(&app, "/api/v1/services?prefix=b").await.json().await["services"].as_array().unwrap().len(), 1);
    for cursor in ["xyz", "00", "é"] {
        assert_eq!(
            get(&app, &format!("/api/v1/instances?after={}", cursor.replace('é', "%C3%A9"))).await.json().await["type"],
            "tidings:bad-cursor"
        );
    }
    assert_eq!(get(&app, "/api/v1/instances?limit=0").await.status, 400);
}

#[tokio::test]
async fn filters_narrow_and_namespaces_keep_apart() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1, "tags": ["a", "b"], "metadata": {"env": "prod"}, "zone": "z1"})).await;
    put(&app, "web", "2", json!({"port": 1, "tags": ["a"], "status": "critical"})).await;
    put(&app, "web", "3?namespace=other", json!({"port": 1})).await;
    for (query, expected) in [
        ("", vec!["1"]),
        ("?tag=a", vec!["1"]),
        ("?tag=a&tag=b&health=any", vec!["1"]),
        ("?health=critical", vec!["2"]),
        ("?health=passing,critical&zone=z1", vec!["1"]),
        ("?metadata=env%3Dprod", vec!["1"]),
        ("?metadata=env%3Dtest", vec![]),
        ("?node=n1", vec!["1"]),
        ("?node=n2", vec![]),
        ("?namespace=other", vec!["3"]),
        ("?namespace=*", vec!["1", "3"]),
        ("?dc=dc1", vec!["1"]),
    ] {
        assert_eq!(ids(&app, &format!("/api/v1/services/web{query}")).await, expected, "{query}");
    }
    let unhealthy = get(&app, "/api/v1/services/web?health=critical").await.json().await;
    assert_eq!(unhealthy["instances"][0]["why"][0]["by"], "client");
    let far = get(&app, "/api/v1/services/web?dc=mars").await;
    assert_eq!(far.status, 404);
    assert_eq!(far.json().await["allowed"], "dc1");
    let wrong = get(&app, "/api/v1/services/web?tags=a").await.json().await;
    assert!(wrong["detail"].as_str().unwrap().contains("did you mean \"tag\"?"), "{wrong}");
    let twice =
        ask(&app, "PUT", "/api/v1/services/web/instances/9?namespace=a", &[], json!({"port": 1, "namespace": "b"}).to_string()).await;
    assert_eq!(twice.json().await["type"], "tidings:disagreement");
}

#[tokio::test]
async fn a_pick_follows_its_strategy() {
    let (app, _) = Registry::start();
    for id in 0..4 {
        put(&app, "web", &id.to_string(), json!({"port": 1})).await;
    }
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.extend(ids(&app, "/api/v1/services/web/pick?strategy=round_robin").await);
    }
    assert_eq!(turns[..4], turns[4..]);
    turns.sort();
    assert_eq!(turns, ["0", "0", "1", "1", "2", "2", "3", "3"]);
    let hashed = ids(&app, "/api/v1/services/web/pick?strategy=hash&key=user-7&n=2").await;
    assert_eq!(hashed, ids(&app, "/api/v1/services/web/pick?strategy=hash&key=user-7&n=2").await);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?n=9").await.len(), 4);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?strategy=weighted").await.len(), 1);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?strategy=nearest&tag=x").await.len(), 0);
    assert_eq!(get(&app, "/api/v1/services/web/pick?strategy=hash").await.status, 400);
    assert_eq!(
        get(&app, "/api/v1/services/web/pick?strategy=best").await.json().await["allowed"],
        "random, round_robin, weighted, hash, nearest"
    );
}

#[tokio::test]
async fn each_refusal_becomes_one_problem() {
    let (app, _) = Registry::start();
    let key = json!({"key": "00".repeat(32)}).to_string();
    for (method, path, body, status, kind) in [
        ("POST", "/api/v1/keys/00000001", String::new(), 429, "tidings:busy"),
        ("DELETE", "/api/v1/keys/00000001", String::new(), 503, "tidings:unavailable"),
        ("DELETE", "/api/v1/keys/x", String::new(), 400, "tidings:bad-name"),
        ("POST", "/api/v1/keys", key, 422, "tidings:ambiguous"),
        ("POST", "/api/v1/keys", json!({"key": "short"}).to_string(), 422, "tidings:bad-value"),
        ("PUT", "/api/v1/services/a/instances/1/heartbeat", String::new(), 404, "tidings:not-found"),
        ("PUT", "/api/v1/services/a/instances/1/override", json!({"enabled": false}).to_string(), 422, "tidings:invalid"),
        ("PUT", "/api/v1/members/n1/override", json!({"reason": "x"}).to_string(), 400, "tidings:missing-field"),
        ("PUT", "/api/v1/members/n1/override", json!({"enabled": false, "expires": "0s"}).to_string(), 422, "tidings:bad-duration"),
        ("PUT", "/api/v1/services/a/instances/1", "{".to_owned(), 400, "tidings:bad-json"),
        ("PUT", "/api/v1/services/a/instances/1", String::new(), 400, "tidings:bad-json"),
        ("PUT", "/api/v1/services/a/instances/1", " ".repeat(600_000), 413, "tidings:too-large"),
        ("PUT", "/api/v1/services/a/instances/1", "[".repeat(100_000), 400, "tidings:bad-json"),
        ("DELETE", "/api/v1/members/nobody", String::new(), 404, "tidings:not-found"),
        ("POST", "/api/v1/services/a", String::new(), 405, "tidings:no-such-method"),
        ("GET", "/api/v2", String::new(), 404, "tidings:no-such-route"),
        ("POST", "/api/v1/join", json!({"addresses": ["not an address"]}).to_string(), 422, "tidings:bad-address"),
    ] {
        let answer = ask(&app, method, path, &[], body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(!answer.header("retry-after").is_empty(), matches!(status, 429 | 503), "{method} {path}");
        let problem = answer.json().await;
        assert_eq!((problem["type"].as_str(), problem["status"].as_u64()), (Some(kind), Some(u64::from(status))), "{problem}");
    }
    let busy = ask(&app, "POST", "/api/v1/keys/00000001", &[], Body::empty()).await;
    assert_eq!(busy.header("retry-after"), "3");
}

#[tokio::test]
async fn foreign_pages_and_names_are_turned_away() {
    let (app, _) = Registry::start();
    let send = async |host: &str, origin: Option<&str>, method: &str| {
        let mut request = Request::builder().method(method).uri("/api/v1/leave").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        app.clone().answer(request.body(Body::empty()).unwrap(), Transport::Tcp).await.status().as_u16()
    };
    assert_eq!(send("evil.example", None, "GET").await, 421);
    assert_eq!(send("localhost:8500", Some("http://evil.example"), "POST").await, 403);
    assert_eq!(send("localhost:8500", Some("http://localhost:8500"), "POST").await, 200);
    let request = Request::builder().uri("/healthz").header("host", "anything").body(Body::empty()).unwrap();
    assert_eq!(app.clone().answer(request, Transport::Unix).await.status().as_u16(), 200);
}

#[tokio::test]
async fn the_document_promises_what_the_router_keeps() {
    use crate::schema::openapi::OPERATIONS;
    use utoipa::openapi::path::HttpMethod;
    let (app, _) = Registry::start();
    for it in OPERATIONS {
        let method = match it.method {
            HttpMethod::Get => "GET",
            HttpMethod::Put => "PUT",
            HttpMethod::Post => "POST",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
            _ => panic!("no such operation is known"),
        };
        let path = it.path.replace("{service}", "s").replace("{id}", "00000001").replace("{node}", "n");
        let answer = ask(&app, method, &path, &[], Body::empty()).await;
        assert!(answer.status != 405, "{method} {path}");
        if answer.status == 404 {
            assert_ne!(answer.json().await["type"], "tidings:no-such-route", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn supervisors_and_scrapers_are_served() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 8080, "address": "::1", "tags": ["a"], "metadata": {"metrics.path": "/m"}})).await;
    assert_eq!(get(&app, "/healthz").await.status, 200);
    assert_eq!(get(&app, "/readyz").await.status, 200);
    let targets = get(&app, "/api/v1/http_sd?tag=a").await.json().await;
    assert_eq!(targets[0]["targets"], json!(["[::1]:8080"]));
    assert_eq!(targets[0]["labels"]["__meta_tidings_metadata_metrics_path"], "/m");
    assert_eq!(targets[0]["labels"]["__meta_tidings_tags"], ",a,");
    let metrics = axum::body::to_bytes(get(&app, "/metrics").await.response.into_body(), 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.ends_with("# EOF\n") && metrics.contains("tidings_api_requests_total{status=\"2xx\"} "), "{metrics}");
    let status = get(&app, "/api/v1/status").await.json().await;
    assert_eq!((status["node"].as_str(), status["instances"].as_u64(), status["ready"].as_bool()), (Some("n1"), Some(1), Some(true)));
    assert_eq!(get(&app, "/api/v1/keys").await.json().await["keys"], json!([{"id": "00000007", "in_use": true}]));
    assert_eq!(get(&app, "/").await.header("location"), "/ui/");
    assert!(get(&app, "/ui/").await.header("content-security-policy").contains("default-src 'none'"));
}

mod watching {
    use futures_util::StreamExt as _;

    use super::*;

    /// One event: name, id, data.
    type Said = (String, String, Value);

    struct Reader {
        stream: axum::body::BodyDataStream,
        text: String,
    }

    impl Reader {
        async fn open(app: &App, query: &str, last_id: Option<&str>) -> Self {
            let headers: Vec<(&str, &str)> = last_id.iter().map(|id| ("last-event-id", *id)).collect();
            let answer = ask(app, "GET", &format!("/api/v1/watch{query}"), &headers, Body::empty()).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
            Self { stream: answer.response.into_body().into_data_stream(), text: String::new() }
        }

        /// The next event or comment; none at the end of the stream.
        async fn next(&mut self) -> Option<Said> {
            while !self.text.contains("\n\n") {
                let bytes = self.stream.next().await?.unwrap();
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            let (block, rest) = self.text.split_once("\n\n").map(|(block, rest)| (block.to_owned(), rest.to_owned())).unwrap();
            self.text = rest;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
            let data = field("data:");
            let name = if block.starts_with(':') { block.clone() } else { field("event:") };
            Some((name, field("id:"), serde_json::from_str(&data).unwrap_or(Value::Null)))
        }

        async fn names(&mut self, count: usize) -> Vec<String> {
            let mut names = Vec::new();
            for _ in 0..count {
                let (name, _, data) = self.next().await.unwrap();
                names.push(format!("{name} {}", data["id"].as_str().unwrap_or_default()).trim().to_owned());
            }
            names
        }
    }

    async fn delete(app: &App, service: &str, id: &str) {
        ask(app, "DELETE", &format!("/api/v1/services/{service}/instances/{id}"), &[], Body::empty()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_the_snapshot_then_what_changes() {
        let (app, _) = Registry::start();
        put(&app, "web", "1", json!({"port": 1})).await;
        let mut all = Reader::open(&app, "", None).await;
        let mut web = Reader::open(&app, "?service=web", None).await;
        assert_eq!(all.names(2).await, ["put 1", "synced"]);
        assert_eq!(web.names(2).await, ["put 1", "synced"]);
        put(&app, "db", "2", json!({"port": 1})).await;
        put(&app, "web", "3", json!({"port": 1})).await;
        delete(&app, "web", "1").await;
        assert_eq!(all.names(3).await, ["put 2", "put 3", "remove 1"]);
        let (name, id, data) = web.next().await.unwrap();
        assert_eq!((name.as_str(), data["id"].as_str(), data["port"].as_u64()), ("put", Some("3"), Some(1)));
        assert_eq!(id, format!("{ORIGIN}-{}", data["revision"]));
        let (_, _, removed) = web.next().await.unwrap();
        assert_eq!((removed["reason"].as_str(), removed["service"].as_str()), (Some("deregistered"), Some("web")));
        assert_eq!(web.next().await.unwrap().0, ": keep-alive");
    }

    #[tokio::test]
    async fn a_reader_resumes_where_it_was_cut_off() {
        let (app, _) = Registry::start();
        put(&app, "web", "1", json!({"port": 1})).await;
        let mut reader = Reader::open(&app, "", None).await;
        assert_eq!(reader.names(1).await, ["put 1"]);
        let (_, id, _) = reader.next().await.unwrap();
        drop(reader);
        put(&app, "web", "2", json!({"port": 1})).await;
        delete(&app, "web", "1").await;
        let mut resumed = Reader::open(&app, "", Some(&id)).await;
        assert_eq!(resumed.names(2).await, ["put 2", "remove 1"]);
        for foreign in ["00000000000000000000000000000000-5".to_owned(), format!("{ORIGIN}-99999999999999"), "x".to_owned()] {
            let mut again = Reader::open(&app, "", Some(&foreign)).await;
            assert_eq!(again.names(3).await, ["resync", "put 2", "synced"], "{foreign}");
        }
    }

    #[tokio::test]
    async fn a_filtered_reader_hears_of_what_no_longer_matches() {
        let (app, _) = Registry::start();
        let mut reader = Reader::open(&app, "?tag=a&namespace=*", None).await;
        assert_eq!(reader.names(1).await, ["synced"]);
        put(&app, "web", "0", json!({"port": 1})).await;
        put(&app, "web", "1", json!({"port": 1, "tags": ["a"]})).await;
        put(&app, "web", "1", json!({"port": 2, "tags": ["b"]})).await;
        put(&app, "web", "2", json!({"port": 1, "tags": ["a"]})).await;
        ask(&app, "PATCH", "/api/v1/services/web/instances/2", &[], json!({"status": "critical"}).to_string()).await;
        assert_eq!(reader.names(1).await, ["put 1"]);
        let (name, _, data) = reader.next().await.unwrap();
        assert_eq!((name.as_str(), data["reason"].as_str()), ("remove", Some("filtered")));
        assert_eq!(reader.names(2).await, ["put 2", "remove 2"]);
    }

    #[tokio::test]
    async fn a_reader_too_far_behind_is_closed() {
        let (app, _) = Registry::start();
        let mut reader = Reader::open(&app, "", None).await;
        let (_, id, _) = reader.next().await.unwrap();
        let value = "x".repeat(8_000);
        for round in 0..120 {
            let metadata: serde_json::Map<String, Value> = (0..5).map(|i| (format!("k{i}"), json!(format!("{round}{value}")))).collect();
            assert!(put(&app, "web", "1", json!({"port": 1, "metadata": metadata})).await.status < 300);
        }
        assert!(reader.next().await.is_none());
        // Its last id lies more than it can be told at once behind: it would be closed again and again, were it not told to start anew.
        let mut again = Reader::open(&app, "", Some(&id)).await;
        assert_eq!(again.names(3).await, ["resync", "put 1", "synced"]);
    }

    #[tokio::test]
    async fn ten_thousand_readers_cost_one_encoding() {
        let (app, handle) = Registry::start();
        let mut readers = Vec::new();
        for _ in 0..100 {
            let mut reader = Reader::open(&app, "", None).await;
            reader.next().await.unwrap();
            readers.push(reader);
        }
        let before = handle.view().revision;
        put(&app, "web", "1", json!({"port": 1})).await;
        for reader in &mut readers {
            assert_eq!(reader.names(1).await, ["put 1"]);
        }
        let view: Arc<View> = handle.view();
        let Changes::Batches(batches) = view.changes_since(before) else { panic!("it is there") };
        assert!(batches[0].changes[0].encoded.get().is_some(), "the bytes are kept beside the change");
    }
}
