//! Questions and their answers, out of views that stand still; hickory-proto asks and reads.

mod elsewhere;
mod kept;
mod names;
mod records;
mod recursion;
mod sizes;
mod strangers;

use super::config::ServiceTtl;
use super::*;
use crate::model::instance::{Health, Instance};
use crate::model::names::{Namespace, NodeId, ServiceKey, ServiceName};
use crate::model::node::Liveness;
use crate::model::record::{Content, Key, Kind as RecordKind, Scope};
use crate::model::time::Now;
use crate::view::{AgentView, Editor, Entry, Node, RemoveReason};
use hickory_proto::op::{Edns, Message, Query as Question, ResponseCode};
use hickory_proto::rr::{Name as Asked, RData, Record, RecordType};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const ORIGIN: NodeId = NodeId(7);
/// 2026-01-01, in Unix milliseconds.
const START_MS: u64 = 1_767_225_600_000;

fn node(name: &str, address: &str) -> Arc<Node> {
    Arc::new(Node {
        id: ORIGIN,
        name: name.into(),
        address: address.into(),
        zone: None,
        datacenter: "dc1".into(),
        metadata: vec![("rack".into(), "r1".into()), ("rfc1035-note".into(), "as it is".into())],
        is_external: false,
        liveness: Liveness::Alive,
        word: None,
        checks: Vec::new(),
    })
}

/// A catalog, and a responder in front of it.
struct Scene {
    editor: Editor,
    now_ms: u64,
    view: Arc<View>,
    responder: Responder,
}

impl Scene {
    fn new(config: Config) -> Self {
        let agent = AgentView { id: ORIGIN, name: "n1".into(), datacenter: "dc1".into(), is_ready: true, ..AgentView::default() };
        let mut editor = Editor::new(agent, 0);
        editor.block_reserved(u64::MAX >> 11);
        ["n1", "Web.Host"].iter().zip(["192.168.0.1", "fd00::2"]).for_each(|(name, at)| editor.set_node(name, Some(node(name, at))));
        let responder = Responder::new(Arc::new(config), 1);
        let mut scene = Self { editor, now_ms: START_MS, view: Arc::new(View::default()), responder };
        scene.publish();
        scene
    }

    fn publish(&mut self) {
        self.now_ms += 1_000;
        self.view = self.editor.publish(Now { ns: self.now_ms * 1_000_000, wall_ms: self.now_ms }).unwrap();
    }

    fn put(&mut self, service: &str, id: &str, change: impl FnOnce(&mut Instance<'static>)) {
        self.put_in("default", service, id, change);
    }

    fn put_in(&mut self, namespace: &str, service: &str, id: &str, change: impl FnOnce(&mut Instance<'static>)) {
        let mut instance = Instance { port: Some(80), weight: 1_000, weight_warning: 1_000, enabled: true, ..Instance::default() };
        change(&mut instance);
        let key = ServiceKey { namespace: Namespace::new(namespace).unwrap(), service: ServiceName::new(service).unwrap() };
        let own =
            Key { kind: RecordKind::INSTANCE, scope: Scope::Datacenter, namespace: namespace.into(), name: service.into(), id: id.into() };
        let entry = Entry::new(own.uid(ORIGIN), Content::encode(&own, &instance), node("n1", "192.168.0.1"), self.now_ms, None).unwrap();
        self.editor.put(&key, entry);
        self.publish();
    }

    fn remove(&mut self, service: &str) {
        let key = ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).unwrap() };
        let uids: Vec<_> = self.editor.entries(&key).iter().map(|entry| entry.uid).collect();
        uids.into_iter().for_each(|uid| self.editor.remove(&key, uid, RemoveReason::Deregistered));
        self.publish();
    }

    /// Asks, over TCP.
    fn ask(&mut self, name: &str, kind: RecordType) -> Message {
        self.send(&question(name, kind), Transport::Tcp).expect("it is answered")
    }

    fn send(&mut self, message: &Message, transport: Transport) -> Option<Message> {
        let mut out = Vec::new();
        match self.responder.answer(&message.to_vec().unwrap(), &self.view, transport, &mut out) {
            Outcome::Answered(_) => {}
            _ => return None,
        }
        let limit = match (transport, &message.edns) {
            (Transport::Tcp, _) => 65_535,
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(512, 4_096),
        };
        assert!(out.len() <= limit, "{} bytes for {limit}", out.len());
        let answer = Message::from_vec(&out).expect("hickory reads it");
        assert_eq!((answer.metadata.id, &answer.queries), (message.metadata.id, &message.queries));
        Some(answer)
    }

    fn ips(&mut self, name: &str, kind: RecordType) -> Vec<String> {
        let answer = self.ask(name, kind);
        let mut ips: Vec<String> = answer.answers.iter().filter_map(ip).map(|ip| ip.to_string()).collect();
        ips.sort();
        ips
    }

    fn rcode(&mut self, name: &str, kind: RecordType) -> ResponseCode {
        let answer = self.ask(name, kind);
        let has_soa = answer.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)));
        assert_eq!(has_soa, answer.answers.is_empty() && answer.metadata.response_code != ResponseCode::Refused, "{name} {kind}");
        answer.metadata.response_code
    }
}

/// `/` stands for a dot inside a label.
fn question(name: &str, kind: RecordType) -> Message {
    let labels: Vec<Vec<u8>> = name.trim_end_matches('.').split('.').map(|label| label.replace('/', ".").into_bytes()).collect();
    let mut name = Asked::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(name, kind));
    message
}

fn with_edns(mut message: Message, bytes: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(bytes);
    message.set_edns(edns);
    message
}

fn ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

fn at(address: &'static str) -> impl FnOnce(&mut Instance<'static>) {
    move |instance| instance.address = address.into()
}

/// Some services of every kind of name and health.
fn town(config: Config) -> Scene {
    let mut scene = Scene::new(config);
    scene.put("web", "1", |web| (web.address, web.tags) = ("10.0.0.1".into(), vec!["V1".into(), "a.b".into()]));
    scene.put("web", "2", |web| (web.address, web.status) = ("10.0.0.2".into(), Health::Warning));
    scene.put("web", "3", |web| (web.address, web.status) = ("10.0.0.3".into(), Health::Critical));
    scene.put("web", "4", |web| (web.address, web.enabled) = ("10.0.0.4".into(), false));
    scene.put("web", "5", |web| (web.address, web.weight) = ("10.0.0.5".into(), 0));
    scene.put("six", "1", at("fd00::6"));
    scene.put("here", "1", |_| ());
    scene.put("com.example.api", "1", at("10.1.0.1"));
    scene.put("My Service", "1", at("10.1.0.2"));
    scene.put("GROUP@@name", "1", at("10.1.0.3"));
    scene.put("group@@name", "1", at("10.1.0.4"));
    scene.put_in("Team.A", "web", "1", at("10.2.0.1"));
    scene
}
