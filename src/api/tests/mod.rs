//! The API against a door whose other side is a small registry: an editor that does what commands say.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value, json};

use super::*;
use crate::access::Door;
use crate::agent::handle::{Changed, DriverSide, Handle, Request as Asked};
use crate::agent::testing::door_to;
use crate::model::command::{Command, Condition, Refusal, Reply, Target, WriteResult, Written};
use crate::model::names::{NodeId, ServiceKey};
use crate::model::record::{Content, Key, Kind, Scope, Uid};
use crate::model::time::Now;
use crate::view::{Changes, Editor, Entry, Node, RemoveReason, View, testing};

mod edges;
mod elsewhere;
mod near;
mod reads;
mod watching;
mod writes;

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
        let node = testing::node(ORIGIN, "n1", "dc1");
        let mut editor = testing::editor(ORIGIN, "dc1");
        let first = editor.publish(Now { ns: 0, wall_ms: 1 }).unwrap();
        let seen = first.revision;
        let (handle, driver) = door_to(first);
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
            self.driver.published().show(view);
            self.driver.published().wake(&Changed::Services(services));
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
