//! DNS: packets to a responder in front of a small catalog, and answers of recursors.

use std::sync::Arc;

use hickory_proto::op::Message;
use tidings::{
    dialects::dns::{Outcome, RecordType, Responder, Transport, config::Config, message, name},
    model::{
        instance::Instance,
        names::{Namespace, NodeId, ServiceKey, ServiceName},
        node::Liveness,
        record::{Content, Key, Kind, Scope},
        time::Now,
    },
    view::{AgentView, Editor, Entry, Node, View},
};

use super::Trace;

const ORIGIN: NodeId = NodeId(7);

/// What a UDP socket or a connection takes at once.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// A packet as it comes from a socket, to an agent with recursors and to one without; and as an answer of a recursor.
pub fn dns(bytes: &[u8], trace: &mut Trace) {
    thread_local! {
        static VIEW: Arc<View> = view();
    }
    let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    for recurses in [false, true] {
        let domains = ["consul", "tidings"].iter().filter_map(|domain| name::parse(domain)).collect();
        let config = Arc::new(Config { domains, recurses, ..Config::default() });
        let mut responder = Responder::new(config, 1);
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut out = Vec::new();
            // The second answer is the kept one.
            let outcomes = [(); 2].map(|()| VIEW.with(|view| responder.answer(bytes, view, transport, &mut out)));
            assert_eq!(outcomes[0], outcomes[1]);
            see(&outcomes[0], bytes, &out, trace);
        }
    }
    recursor(bytes, trace);
}

fn see(outcome: &Outcome, bytes: &[u8], out: &[u8], trace: &mut Trace) {
    match outcome {
        Outcome::Answered(rcode) => {
            assert!(out.len() <= message::TCP_BYTES_MAX && out[..2] == bytes[..2] && out[2] & 0x80 != 0);
            let answer = Message::from_vec(out).expect("what is answered is a message");
            trace.see((u16::from(*rcode), answer.answers.len().min(4), answer.additionals.len().min(4), answer.metadata.truncation));
            trace.see(answer.answers.first().map(|record| u16::from(record.record_type())));
        }
        Outcome::Ignored(why) => trace.see(format!("{why:?}")),
        Outcome::Forward => trace.see("forward"),
        Outcome::Chase { kind, .. } => trace.see(("chase", u16::from(*kind))),
    }
}

/// The same bytes from the other side.
fn recursor(bytes: &[u8], trace: &mut Trace) {
    let found = message::addresses(bytes, 16);
    trace.see(("addresses", found.len().min(4)));
    let mut query = bytes.to_vec();
    if let Some(flags) = query.get_mut(2) {
        *flags &= 0x7f;
    }
    trace.see(("answers", message::answers(bytes, &query)));
    let mut relayed = bytes.to_vec();
    tidings::dialects::dns::relay(&query, Transport::Udp, &mut relayed);
    assert!(relayed.len() <= bytes.len().max(message::UDP_BYTES_MAX));
    let owner = name::parse("host.example.com").expect("a name");
    let mut out = message::ask(7, &owner, RecordType::A).expect("a query");
    message::append_answers(&mut out, &owner, &found, message::PLAIN_UDP_BYTES_MAX);
    assert!(out.len() <= message::PLAIN_UDP_BYTES_MAX);
}

/// Questions of every kind, and an answer as recursors give them.
pub fn recorded() -> Vec<Vec<u8>> {
    const NAMES: [&str; 12] = [
        "web.service.consul",
        "V1.web.service.dc1.tidings",
        "_web._tcp.service.consul",
        "_web._tcp.consul",
        "alias.service.consul",
        "web.service.team.ns.dc1.dc.consul",
        "n1.node.consul",
        "0a000001.addr.consul",
        "1.0.0.10.in-addr.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
        "nothing.consul",
        "example.com",
    ];
    const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT, RecordType::PTR, RecordType::NS, RecordType::ANY];
    let mut all = Vec::new();
    for (i, name) in NAMES.iter().enumerate() {
        let name = name::parse(name).expect("a name");
        let mut message = message::ask(7, &name, kinds[i % kinds.len()]).expect("a query");
        all.push(message.clone());
        message.extend_from_slice(&OPT);
        message[11] = 1;
        all.push(message);
    }
    let mut answer = all[0].clone();
    answer[2] |= 0x80;
    let owner = name::parse(NAMES[0]).expect("a name");
    message::append_answers(&mut answer, &owner, &[([192, 0, 2, 1].into(), 60)], 512);
    all.push(answer);
    all
}

fn view() -> Arc<View> {
    let agent = AgentView { id: ORIGIN, name: "n1".into(), datacenter: "dc1".into(), ..AgentView::default() };
    let mut editor = Editor::new(agent, 0);
    editor.block_reserved(u64::MAX >> 11);
    let node = Arc::new(Node {
        id: ORIGIN,
        name: "n1".into(),
        address: "192.168.0.1".into(),
        zone: None,
        datacenter: "dc1".into(),
        metadata: vec![("rack".into(), "r1".into())],
        is_external: false,
        liveness: Liveness::Alive,
        word: None,
        checks: Vec::new(),
    });
    editor.set_node("n1", Some(Arc::clone(&node)));
    let many = (0..60).map(|i| ("default", "web", format!("10.0.0.{i}")));
    let others =
        [("default", "WEB", "fd00::1"), ("default", "alias", "web.service.consul"), ("default", "out", "example.com"), ("team", "web", "")];
    for (namespace, service, address) in many.chain(others.map(|(namespace, service, address)| (namespace, service, address.to_owned()))) {
        let key = Key {
            kind: Kind::INSTANCE,
            scope: Scope::Datacenter,
            namespace: namespace.into(),
            name: service.into(),
            id: address.as_str().into(),
        };
        let instance = Instance {
            address: address.as_str().into(),
            port: Some(80),
            tags: vec!["v1".into()],
            weight: 1_000,
            enabled: true,
            ..Instance::default()
        };
        let entry = Entry::new(key.uid(ORIGIN), Content::encode(&key, &instance), Arc::clone(&node), 1, None).expect("an instance");
        let names = (Namespace::new(namespace).expect("a name"), ServiceName::new(service).expect("a name"));
        editor.put(&ServiceKey { namespace: names.0, service: names.1 }, entry);
    }
    editor.publish(Now { ns: 1, wall_ms: 1_767_225_600_000 }).expect("there is news")
}
