//! Questions and their answers, out of views that stand still; hickory-proto asks and reads.

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

#[test]
fn agents_are_instances_of_a_service_until_somebody_registers_its_name() {
    let mut scene = Scene::new(Config::default());
    let found = |scene: &mut Scene, kind| {
        let reply = scene.ask("consul.service.consul.", kind);
        reply.answers.iter().map(|record| record.data.to_string()).collect::<BTreeSet<_>>()
    };
    let targets = ["1 1 8300 n1.node.dc1.consul.", "1 1 8300 Web.Host.node.dc1.consul."];
    assert_eq!(found(&mut scene, RecordType::SRV), targets.map(str::to_owned).into());
    assert_eq!(found(&mut scene, RecordType::A), ["192.168.0.1".to_owned()].into());
    scene.put("consul", "1", |consul| consul.address = "10.0.0.1".into());
    assert_eq!(found(&mut scene, RecordType::A), ["10.0.0.1".to_owned()].into());
}

#[test]
fn names_are_found_as_the_grammar_has_them() {
    let mut scene =
        town(Config { domains: ["consul", "tidings"].iter().filter_map(|name| Name::parse(name)).collect(), ..Config::default() });
    let table: &[(&str, RecordType, &[&str])] = &[
        ("web.service.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("WEB.Service.DC1.Consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("web.service.dc1.tidings.", RecordType::ANY, &["10.0.0.1", "10.0.0.2"]),
        ("v1.web.service.consul.", RecordType::A, &["10.0.0.1"]),
        ("A.B.web.service.consul.", RecordType::A, &["10.0.0.1"]),
        ("_web._tcp.service.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("_web._v1.service.dc1.consul.", RecordType::A, &["10.0.0.1"]),
        ("_web._tcp.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("_web._v1.dc1.consul.", RecordType::A, &["10.0.0.1"]),
        ("web.query.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("six.service.consul.", RecordType::AAAA, &["fd00::6"]),
        ("here.service.consul.", RecordType::A, &["192.168.0.1"]),
        ("api.service.consul.", RecordType::A, &[]),
        ("com.example.api.service.consul.", RecordType::A, &["10.1.0.1"]),
        ("com/example/api.service.consul.", RecordType::A, &["10.1.0.1"]),
        ("my service.service.consul.", RecordType::A, &["10.1.0.2"]),
        ("group@@NAME.service.consul.", RecordType::A, &["10.1.0.3", "10.1.0.4"]),
        ("web.service.team.a.ns.consul.", RecordType::A, &["10.2.0.1"]),
        ("web.service.team.a.ns.dc1.dc.consul.", RecordType::A, &["10.2.0.1"]),
        ("web.service.default.ns.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("n1.node.consul.", RecordType::A, &["192.168.0.1"]),
        ("web.host.node.dc1.consul.", RecordType::AAAA, &["fd00::2"]),
        ("0a0B0c0d.addr.dc1.consul.", RecordType::A, &["10.11.12.13"]),
        ("fd000000000000000000000000000009.addr.consul.", RecordType::AAAA, &["fd00::9"]),
    ];
    for (name, kind, ips) in table {
        assert_eq!(scene.ips(name, *kind), *ips, "{name} {kind}");
    }
}

#[test]
fn what_is_not_there_is_told_apart_from_what_has_no_such_record() {
    let mut scene = town(Config::default());
    use ResponseCode::{NXDomain, NoError, NotImp, Refused};
    let table = [
        ("nope.service.consul.", RecordType::A, NXDomain),
        ("v2.web.service.consul.", RecordType::A, NXDomain),
        ("web.service.dc2.consul.", RecordType::A, NXDomain),
        ("web.service.dc2.dc.consul.", RecordType::A, NXDomain),
        ("web.service.x.ap.consul.", RecordType::A, NXDomain),
        ("web.connect.consul.", RecordType::A, NXDomain),
        ("n9.node.consul.", RecordType::A, NXDomain),
        ("xyz.addr.consul.", RecordType::A, NXDomain),
        ("anything.consul.", RecordType::A, NXDomain),
        ("9.0.0.10.in-addr.arpa.", RecordType::PTR, NXDomain),
        ("web.service.consul.", RecordType::AAAA, NoError),
        ("web.service.consul.", RecordType::MX, NoError),
        ("n1.node.consul.", RecordType::SRV, NoError),
        ("0a000001.addr.consul.", RecordType::AAAA, NoError),
        // What lies above names exists, or resolvers that ask label by label would stop there.
        ("consul.", RecordType::A, NoError),
        ("service.consul.", RecordType::A, NoError),
        ("dc1.consul.", RecordType::A, NoError),
        ("example.com.", RecordType::A, Refused),
        ("consul.", RecordType::AXFR, NotImp),
    ];
    for (name, kind, rcode) in table {
        if matches!(rcode, NotImp) {
            assert_eq!(scene.ask(name, kind).metadata.response_code, rcode, "{name} {kind}");
        } else {
            assert_eq!(scene.rcode(name, kind), rcode, "{name} {kind}");
        }
    }
}

#[test]
fn answers_keep_the_case_of_the_question_and_say_whose_they_are() {
    let mut scene = town(Config::default());
    let answer = scene.ask("wEb.SERVICE.consul.", RecordType::A);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == "wEb.SERVICE.consul."));
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available && answer.metadata.recursion_desired);
}

#[test]
fn srv_names_the_node_or_the_address_and_tells_it() {
    let mut scene = town(Config::default());
    scene.put("web", "1", |web| (web.address, web.port, web.weight) = ("10.0.0.1".into(), Some(8_080), 2_500));
    scene.put("web", "2", |web| (web.port, web.weight) = (Some(8_081), 500));
    scene.put("web", "6", |web| (web.address, web.port, web.weight) = ("fd00::6".into(), None, 1_000));
    let answer = scene.ask("web.service.consul.", RecordType::SRV);
    let mut found: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    found.sort();
    // Weights are fractions here, so all are in thousandths.
    let expected = [
        "1 1000 0 fd000000000000000000000000000006.addr.dc1.consul.",
        "1 2500 8080 0a000001.addr.dc1.consul.",
        "1 500 8081 n1.node.dc1.consul.",
    ];
    assert_eq!(found, expected);
    let mut glue: Vec<_> = answer.additionals.iter().map(|record| format!("{} {}", record.name, ip(record).unwrap())).collect();
    glue.sort();
    let expected = [
        "0a000001.addr.dc1.consul. 10.0.0.1",
        "fd000000000000000000000000000006.addr.dc1.consul. fd00::6",
        "n1.node.dc1.consul. 192.168.0.1",
    ];
    assert_eq!(glue, expected);
    // What SRV names is found under that name.
    assert_eq!(scene.ips("n1.node.dc1.consul.", RecordType::A), ["192.168.0.1"]);
}

#[test]
fn nodes_have_texts_and_addresses_have_names() {
    let mut scene = town(Config::default());
    let texts = scene.ask("n1.node.consul.", RecordType::TXT);
    let mut texts: Vec<_> = texts.answers.iter().map(|record| record.data.to_string()).collect();
    texts.sort();
    assert_eq!(texts, ["as it is", "rack=r1"]);
    let mut name = |asked: &str| scene.ask(asked, RecordType::PTR).answers.iter().map(|record| record.data.to_string()).collect::<String>();
    assert_eq!(name("1.0.168.192.in-addr.arpa."), "n1.node.dc1.consul.");
    assert_eq!(name("1.0.0.10.in-addr.arpa."), "web.service.dc1.consul.");
    assert_eq!(name(&format!("2{}.0.0.d.f.ip6.arpa.", ".0".repeat(27))), "Web.Host.node.dc1.consul.");
}

#[test]
fn a_domain_tells_its_authority_and_its_servers_whatever_the_name() {
    let mut scene = town(Config::default());
    for name in ["consul.", "web.service.consul.", "nothing.consul."] {
        let answer = scene.ask(name, RecordType::SOA);
        let RData::SOA(soa) = &answer.answers[0].data else { panic!("{answer}") };
        let serial = u64::from(soa.serial);
        assert!((START_MS / 1_000..=scene.now_ms / 1_000).contains(&serial), "{serial} is the time of the last change");
        assert_eq!((soa.mname.to_string(), soa.minimum), ("ns.consul.".to_owned(), 0));
        let answer = scene.ask(name, RecordType::NS);
        // The other node has an address of the other family: both are servers.
        let servers: BTreeSet<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(servers, ["n1.node.dc1.consul.", "Web.Host.node.dc1.consul."].map(str::to_owned).into());
        assert_eq!(answer.additionals.len(), 2);
    }
}

#[test]
fn host_names_lead_on_and_are_followed_while_they_are_ours() {
    let mut scene = town(Config::default());
    scene.put("alias", "1", at("web.service.consul"));
    scene.put("alias2", "1", at("alias.service.consul"));
    scene.put("outside", "1", at("host.example.com"));
    scene.put("circle", "1", at("circle.service.consul"));
    let answer = scene.ask("alias2.service.consul.", RecordType::A);
    let chain: Vec<_> = answer.answers.iter().map(|record| format!("{} {}", record.name, record.record_type())).collect();
    let expected = ["alias2.service.consul. CNAME", "alias.service.consul. CNAME", "web.service.consul. A", "web.service.consul. A"];
    assert_eq!(chain, expected);
    let answer = scene.ask("outside.service.consul.", RecordType::A);
    assert_eq!(answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>(), ["host.example.com."]);
    assert!(scene.ask("circle.service.consul.", RecordType::A).answers.len() <= 4);
    let srv = scene.ask("outside.service.consul.", RecordType::SRV);
    assert_eq!(srv.answers[0].data.to_string(), "1 1 80 host.example.com.");
}

#[test]
fn with_recursors_names_of_others_are_asked_elsewhere() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    scene.put("outside", "1", at("host.example.com"));
    let mut outcome = |message: Message| {
        let mut out = Vec::new();
        scene.responder.answer(&message.to_vec().unwrap(), &scene.view, Transport::Udp, &mut out)
    };
    assert_eq!(outcome(question("example.com.", RecordType::A)), Outcome::Forward);
    assert_eq!(outcome(question("9.0.0.10.in-addr.arpa.", RecordType::PTR)), Outcome::Forward);
    assert_eq!(outcome(question("1.0.0.10.in-addr.arpa.", RecordType::PTR)), Outcome::Answered(Rcode::NoError));
    assert_eq!(outcome(question("nope.service.consul.", RecordType::A)), Outcome::Answered(Rcode::NxDomain));
    let name = Name::parse("host.example.com").unwrap();
    let chase = Outcome::Chase { name, kind: kind::A, bytes_max: 512, has_opt: false };
    assert_eq!(outcome(question("outside.service.consul.", RecordType::A)), chase);
    let mut unwilling = question("example.com.", RecordType::A);
    unwilling.metadata.recursion_desired = false;
    assert_eq!(outcome(unwilling), Outcome::Answered(Rcode::Refused));
}

#[test]
fn what_recursors_found_stands_behind_the_alias() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    scene.put("outside", "1", at("host.example.com"));
    let mut out = Vec::new();
    let message = with_edns(question("outside.service.consul.", RecordType::A), 1_232);
    let outcome = scene.responder.answer(&message.to_vec().unwrap(), &scene.view, Transport::Udp, &mut out);
    let Outcome::Chase { name, bytes_max, has_opt, .. } = outcome else { panic!("{outcome:?}") };
    let found = [("192.0.2.1".parse().unwrap(), 60), ("192.0.2.2".parse().unwrap(), 60)];
    wire::append_answers(&mut out, has_opt, name.as_bytes(), &found, bytes_max);
    let answer = Message::from_vec(&out).unwrap();
    assert_eq!(answer.answers.iter().filter_map(ip).collect::<Vec<_>>(), found.map(|(ip, _)| ip));
    assert!(answer.edns.is_some() && answer.answers[2].name.to_ascii() == "host.example.com.");
    assert_eq!(wire::addresses(&out, 9), found);
}

#[test]
fn long_answers_are_cut_to_size_and_say_so() {
    let fill = |config: Config| {
        let mut scene = Scene::new(config);
        for i in 0..200 {
            scene.put("many", &i.to_string(), move |many| many.address = format!("10.0.{}.{}", i / 250, i % 250).into());
        }
        scene
    };
    let mut scene = fill(Config::default());
    let a = || question("many.service.consul.", RecordType::A);
    let plain = scene.send(&a(), Transport::Udp).unwrap();
    assert!(plain.metadata.truncation && (25..=30).contains(&plain.answers.len()), "{}", plain.answers.len());
    let more = scene.send(&with_edns(a(), 1_232), Transport::Udp).unwrap();
    assert!(more.metadata.truncation && (70..=75).contains(&more.answers.len()), "{}", more.answers.len());
    // However much a client says that it takes.
    let all = scene.send(&with_edns(a(), u16::MAX), Transport::Udp).unwrap();
    assert!(!all.metadata.truncation && all.answers.len() == 200);
    let srv = scene.send(&with_edns(question("many.service.consul.", RecordType::SRV), u16::MAX), Transport::Udp).unwrap();
    assert!(srv.metadata.truncation && srv.answers.len() > 80);
    let tcp = scene.send(&question("many.service.consul.", RecordType::SRV), Transport::Tcp).unwrap();
    assert!(!tcp.metadata.truncation && tcp.answers.len() == 200 && tcp.additionals.len() == 200);

    let mut quiet = fill(Config { tells_truncation: false, udp_answers_max: 3, ..Config::default() });
    let three = quiet.send(&a(), Transport::Udp).unwrap();
    assert!(!three.metadata.truncation && three.answers.len() == 3);
    let mut few = fill(Config { addresses_max: 5, ..Config::default() });
    assert_eq!(few.send(&a(), Transport::Tcp).unwrap().answers.len(), 5);
    let five = few.send(&a(), Transport::Udp).unwrap();
    assert!(!five.metadata.truncation && five.answers.len() == 5);
}

#[test]
fn a_very_large_answer_over_tcp_is_read_to_its_end() {
    let mut scene = Scene::new(Config::default());
    for i in 0..1_500_u32 {
        scene.put("huge", &i.to_string(), move |huge| huge.address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).to_string().into());
    }
    let srv = scene.ask("huge.service.consul.", RecordType::SRV);
    // Beyond the reach of pointers names are written out.
    assert!(srv.answers.len() > 1_000 && srv.additionals.iter().all(|record| record.name.to_ascii().contains(".addr.")));
}

#[test]
fn who_stands_first_is_drawn_by_weight() {
    let mut scene = Scene::new(Config::default());
    for (id, weight) in [("1", 1_000), ("2", 2_000), ("3", 5_000)] {
        scene.put("web", id, move |web| (web.address, web.weight) = (format!("10.0.0.{id}").into(), weight));
        scene.put("even", id, move |even| even.address = format!("10.0.0.{id}").into());
    }
    for (service, shares) in [("web", [1.0, 2.0, 5.0]), ("even", [1.0, 1.0, 1.0])] {
        let mut first: BTreeMap<String, f64> = BTreeMap::new();
        const ROUNDS: usize = 8_000;
        for _ in 0..ROUNDS {
            let answer = scene.ask(&format!("{service}.service.consul."), RecordType::A);
            assert_eq!(answer.answers.len(), 3);
            *first.entry(ip(&answer.answers[0]).unwrap().to_string()).or_default() += 1.0;
        }
        for (found, share) in first.values().zip(shares) {
            let expected = ROUNDS as f64 * share / shares.iter().sum::<f64>();
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "{service}: {first:?}");
        }
    }
}

#[test]
fn kept_answers_follow_the_catalog() {
    let mut scene = Scene::new(Config::default());
    assert_eq!(scene.rcode("web.service.consul.", RecordType::A), ResponseCode::NXDomain);
    scene.put("web", "1", at("10.0.0.1"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1"]);
    scene.put("web", "2", at("10.0.0.2"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1", "10.0.0.2"]);
    // A service that is only written otherwise belongs to the same name, from the moment it is there.
    scene.put("WEB", "1", at("10.0.0.3"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    scene.remove("web");
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.3"]);
    scene.remove("WEB");
    assert_eq!(scene.rcode("web.service.consul.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!((scene.responder.cache.len(), scene.responder.cache_bytes), (0, 0), "and nothing stays behind");
}

#[test]
fn kept_answers_stay_within_their_bounds() {
    let mut scene = Scene::new(Config::default());
    scene.put("web", "1", |web| (web.address, web.tags) = ("10.0.0.1".into(), (0..200).map(|i| format!("t{i}").into()).collect()));
    for i in 0..CACHE_ANSWERS_MAX * 2 {
        let name = format!("t{}.web.service.consul.", i % 200);
        // Each spelling of a name is one to DNS.
        let name = if i % 2 == 0 { name.to_uppercase() } else { name };
        scene.ask(&name, RecordType::A);
    }
    assert_eq!(scene.responder.cache.len(), 200);
    #[allow(clippy::disallowed_methods, reason = "a sum has no order")]
    let counted: usize = scene.responder.cache.iter().map(|(key, cached)| key.len() + cached.prepared.size()).sum();
    assert_eq!(scene.responder.cache_bytes, counted);
}

#[test]
fn the_longest_prefix_decides_how_long_an_answer_may_be_kept() {
    let service_ttl = ServiceTtl::new([("*", 1), ("w*", 2), ("we*", 3), ("Web", 4)]);
    let mut scene = town(Config { service_ttl, node_ttl_s: 9, ..Config::default() });
    scene.put("west", "1", at("10.0.0.1"));
    scene.put("wild", "1", at("10.0.0.1"));
    for (name, ttl) in [("web.service", 4), ("west.service", 3), ("wild.service", 2), ("here.service", 1), ("n1.node", 9)] {
        assert_eq!(scene.ask(&format!("{name}.consul."), RecordType::A).answers[0].ttl, ttl, "{name}");
    }
}

#[test]
fn warning_instances_can_be_left_out() {
    let mut scene = town(Config { only_passing: true, ..Config::default() });
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1"]);
}

#[test]
fn both_families_of_an_instance_are_found() {
    let mut scene = Scene::new(Config::default());
    scene.put("both", "1", |both| {
        let endpoint = |address: &'static str| crate::model::instance::Endpoint { address: address.into(), port: 80 };
        both.address = "10.0.0.1".into();
        both.addresses = vec![("lan_ipv6".into(), endpoint("fd00::1"))];
    });
    assert_eq!(scene.ips("both.service.consul.", RecordType::A), ["10.0.0.1"]);
    assert_eq!(scene.ips("both.service.consul.", RecordType::AAAA), ["fd00::1"]);
}

#[test]
fn messages_that_ask_nothing_get_what_they_deserve() {
    let mut scene = town(Config::default());
    let mut outcome = |bytes: &[u8]| {
        let mut out = Vec::new();
        (scene.responder.answer(bytes, &scene.view, Transport::Udp, &mut out), out)
    };
    assert_eq!(outcome(b"").0, Outcome::Ignored(Ignored::Short));
    assert_eq!(outcome(&[0; 11]).0, Outcome::Ignored(Ignored::Short));
    let good = question("web.service.consul.", RecordType::A).to_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(outcome(&changed(2, 0x81)).0, Outcome::Ignored(Ignored::Response), "or two servers could talk for ever");
    for (bytes, rcode) in [
        (changed(2, 0x20), Rcode::NotImp),
        (changed(5, 0), Rcode::FormErr),
        (changed(5, 2), Rcode::FormErr),
        (changed(12, 0xc0), Rcode::FormErr),
        (changed(12, 64), Rcode::FormErr),
        (changed(12, 60), Rcode::FormErr),
        (changed(good.len() - 1, 3), Rcode::Refused),
        (good[..good.len() - 1].to_vec(), Rcode::FormErr),
        (
            with_edns(question("consul.", RecordType::A), 1_232)
                .to_vec()
                .map(|mut bytes| {
                    let version = bytes.len() - 5;
                    bytes[version] = 1;
                    bytes
                })
                .unwrap(),
            Rcode::BadVers,
        ),
    ] {
        let (outcome, out) = outcome(&bytes);
        assert_eq!(outcome, Outcome::Answered(rcode), "{bytes:?}");
        assert_eq!(
            Message::from_vec(&out).unwrap().metadata.id,
            Message::from_vec(&good).map_or(0, |_| u16::from_be_bytes([bytes[0], bytes[1]]))
        );
    }
}

#[test]
fn a_hundred_thousand_mutated_packets_leave_no_trace() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    let names = ["v1.web.service.dc1.consul.", "_web._tcp.consul.", "n1.node.consul.", "1.0.0.10.in-addr.arpa.", "0a000001.addr.consul."];
    let kinds = [RecordType::A, RecordType::SRV, RecordType::TXT, RecordType::PTR, RecordType::ANY];
    let packets: Vec<Vec<u8>> =
        names.iter().flat_map(|name| kinds.map(|kind| with_edns(question(name, kind), 1_400).to_vec().unwrap())).collect();
    let mut draws = Draws::new(1);
    let mut out = Vec::new();
    let mut answered = 0;
    for round in 0..100_000_usize {
        let mut bytes = packets[round % packets.len()].clone();
        for _ in 0..=draws.below(4) {
            let at = draws.below(bytes.len() as u64) as usize;
            bytes[at] = draws.below(256) as u8;
        }
        if draws.below(8) == 0 {
            bytes.truncate(draws.below(bytes.len() as u64) as usize);
        }
        if let Outcome::Answered(_) = scene.responder.answer(&bytes, &scene.view, Transport::Udp, &mut out) {
            answered += 1;
            assert!(out.len() <= 4_096 && out[2] & 0x80 != 0 && out[..2] == bytes[..2]);
            // Reading costs more than answering here.
            assert!(round % 16 != 0 || Message::from_vec(&out).is_ok(), "{bytes:?}");
        }
    }
    assert!(answered > 50_000, "{answered}");
    assert!(scene.responder.cache.len() <= CACHE_ANSWERS_MAX && scene.responder.cache_bytes <= CACHE_BYTES_MAX);
    assert!(out.capacity() <= 8 * 1024, "{}", out.capacity());
}

proptest! {
    /// Whatever comes in, what goes out is a message that somebody else can read, within the client's bounds.
    #[test]
    fn any_bytes_get_a_message_or_silence(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            (proptest::collection::vec((0_usize..80, any::<u8>()), 0..6), 0_usize..80).prop_map(|(changes, cut)| {
                let mut bytes = with_edns(question("v1.web.service.dc1.consul.", RecordType::SRV), 1_400).to_vec().unwrap();
                for (at, to) in changes {
                    let length = bytes.len();
                    bytes[at % length] = to;
                }
                bytes.truncate(bytes.len() - cut.saturating_sub(60));
                bytes
            }),
        ],
    ) {
        let mut scene = town(Config::default());
        let mut out = Vec::new();
        if let Outcome::Answered(_) = scene.responder.answer(&bytes, &scene.view, Transport::Udp, &mut out) {
            prop_assert!(out.len() <= 4_096 && out[2] & 0x80 != 0 && out[..2] == bytes[..2]);
            prop_assert!(Message::from_vec(&out).is_ok());
        }
    }
}
