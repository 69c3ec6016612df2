//! Sockets with a view behind them that no engine changes; hickory-proto speaks from the other side.
#![allow(clippy::disallowed_methods, reason = "how long an answer takes is seen on a clock")]

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name as Asked, RecordType};

use super::*;
use crate::agent::handle::{Call, Changed, DriverSide, Request};
use crate::agent::testing::door;
use crate::model::command::Command;
use crate::model::instance::Instance;
use crate::model::names::{Namespace, NodeId, ServiceKey, ServiceName};
use crate::model::summary::Summary;
use crate::model::time::Now;
use crate::serve::Serving;
use crate::settings::{Flags, Settings};
use crate::view::{DatacenterView, LinkState, Summarized, View, testing};

/// For what has to happen on loopback, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn settings() -> Dns {
    let flags = Flags { is_dev: true, ..Flags::default() };
    Settings::load(flags, std::iter::empty()).unwrap().0.dns
}

/// A hundred instances of `web`, one of `outside`.
fn view() -> Arc<View> {
    let mut editor = testing::editor(NodeId(1), "dc1");
    let node = testing::node(NodeId(1), "n1", "dc1");
    let web = (0..100).map(|i| ("web", format!("10.0.0.{i}")));
    for (service, address) in web.chain([("outside", "host.example.com".to_owned())]) {
        let instance = Instance { address: address.as_str().into(), weight: 1_000, enabled: true, ..Instance::default() };
        testing::put(&mut editor, &node, service, &address, &instance);
    }
    editor.publish(Now { ns: 1, wall_ms: 1_767_225_600_000 }).unwrap()
}

struct Scene {
    serving: Option<Serving>,
    at: SocketAddr,
    handle: Handle,
    driver: DriverSide,
}

impl Scene {
    fn new(settings: &Dns, workers: usize) -> Self {
        Self::listening("127.0.0.1:0", settings, workers)
    }

    fn listening(at: &str, settings: &Dns, workers: usize) -> Self {
        let (handle, driver) = door();
        driver.published().show(view());
        let bound = bind(&[at.parse().unwrap()], workers).unwrap();
        let at = bound.listening()[0];
        Self { serving: Some(serve(bound, settings, &handle).unwrap()), at, handle, driver }
    }

    fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.at).unwrap();
        socket
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, question: &Message) -> Message {
        let socket = self.udp();
        socket.send(&question.to_vec().unwrap()).unwrap();
        let mut bytes = [0; 65_535];
        let length = socket.recv(&mut bytes).unwrap();
        Message::from_vec(&bytes[..length]).unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.handle.metrics()).lines().any(|found| found == line)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.driver.published().stop();
        self.serving.take().into_iter().for_each(Serving::join);
    }
}

fn question(id: u16, name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Asked::from_ascii(name).unwrap(), RecordType::A));
    message
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

fn read_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn every_worker_answers_over_udp_and_counts_it() {
    let scene = Scene::new(&settings(), 3);
    // Each client has a port of its own, so the system spreads them over the workers.
    for id in 1..=30 {
        let answer = scene.ask(&question(id, "web.service.consul."));
        assert!(answer.metadata.id == id && answer.metadata.truncation && answer.answers.len() < 100);
        let mut edns = Edns::new();
        edns.set_max_payload(4_096);
        let mut large = question(id, "web.service.tidings.");
        large.set_edns(edns);
        let answer = scene.ask(&large);
        assert!(!answer.metadata.truncation && answer.answers.len() == 100);
    }
    assert!(scene.metric("tidings_dns_answers_total{transport=\"udp\",rcode=\"noerror\"} 60"));
}

#[test]
fn what_was_cut_over_udp_is_whole_over_tcp_and_questions_may_follow_each_other() {
    let scene = Scene::new(&settings(), 2);
    let mut stream = scene.tcp();
    let questions: Vec<u8> = (1..=50).flat_map(|id| framed(&question(id, "web.service.consul."))).collect();
    // Cut where no message ends.
    let (front, back) = questions.split_at(questions.len() / 2 + 1);
    stream.write_all(front).unwrap();
    stream.write_all(back).unwrap();
    for id in 1..=50 {
        let answer = read_framed(&mut stream);
        assert_eq!((answer.metadata.id, answer.answers.len(), answer.metadata.truncation), (id, 100, false));
    }
}

#[test]
fn what_is_no_question_gets_no_answer_and_disturbs_nobody() {
    let scene = Scene::new(&settings(), 1);
    let socket = scene.udp();
    let mut response = question(1, "web.service.consul.").to_vec().unwrap();
    response[2] |= 0x80;
    [&b""[..], b"short", &response].iter().for_each(|bytes| assert!(socket.send(bytes).is_ok()));
    socket.send(&question(9, "web.service.consul.").to_vec().unwrap()).unwrap();
    let mut bytes = [0; 4_096];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(Message::from_vec(&bytes[..length]).unwrap().metadata.id, 9, "the first answer is to the first question");
    assert!(scene.metric("tidings_dns_ignored_total{reason=\"short\"} 2"));
    assert!(scene.metric("tidings_dns_ignored_total{reason=\"response\"} 1"));
    // A length that no query has ends its connection, not the others.
    let (mut bad, mut good) = (scene.tcp(), scene.tcp());
    bad.write_all(&[0xff; 64]).unwrap();
    // Closed, or reset because not all was read.
    assert!(!matches!(bad.read(&mut [0; 16]), Ok(1..)));
    good.write_all(&framed(&question(3, "web.service.consul."))).unwrap();
    assert_eq!(read_framed(&mut good).metadata.id, 3);
}

#[test]
fn a_burst_is_answered_to_the_last_query() {
    let scene = Scene::new(&settings(), 1);
    let socket = scene.udp();
    // More than two batches, and fewer answers than a client's socket holds.
    const QUERIES: u16 = 80;
    (0..QUERIES).for_each(|id| assert!(socket.send(&question(id, "web.service.consul.").to_vec().unwrap()).is_ok()));
    // Longer than any query is, in the middle of them.
    socket.send(&[0; 5_000]).unwrap();
    let mut bytes = [0; 4_096];
    let mut answered: Vec<u16> =
        (0..QUERIES).map(|_| socket.recv(&mut bytes).map(|_| u16::from_be_bytes([bytes[0], bytes[1]])).unwrap()).collect();
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..QUERIES));
    let counted = std::iter::repeat_with(|| scene.metric("tidings_dns_ignored_total{reason=\"long\"} 1"));
    assert!(counted.take(1_000).any(|is_counted| is_counted));
}

/// A socket that is connected takes an answer from nobody but whom it asked.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for (at, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.3")] {
        if std::net::UdpSocket::bind(at).is_err() {
            eprintln!("skipped: this host has no {at}");
            continue;
        }
        let mut scene = Scene::listening(at, &settings(), 2);
        scene.at = SocketAddr::new(asked.parse().unwrap(), scene.at.port());
        let socket = UdpSocket::bind((if asked.contains(':') { "::1" } else { "127.0.0.1" }, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(scene.at).unwrap();
        for id in 1..=3 {
            socket.send(&question(id, "web.service.consul.").to_vec().unwrap()).unwrap();
            let mut bytes = [0; 4_096];
            let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{asked} on {at}: {error}"));
            assert_eq!(Message::from_vec(&bytes[..length]).unwrap().metadata.id, id);
        }
    }
}

#[test]
fn a_port_that_is_taken_is_refused_with_what_to_type() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = udp.local_addr().unwrap();
    let refused = bind(&[at], 2).err().expect("UDP is taken").to_string();
    assert!(refused.contains(&format!("{at} is taken for DNS")) && refused.contains("--dns 127.0.0.1:") && refused.contains("--no-dns"));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(bind(&[tcp.local_addr().unwrap()], 1).is_err());
    let scene = Scene::new(&settings(), 2);
    assert!(bind(&[scene.at], 1).is_err(), "though its owner shares it");
    let refused = bind(&["192.0.2.1:53".parse().unwrap()], 1).err().unwrap().to_string();
    assert!(refused.contains("192.0.2.1"), "{refused}");
}

/// East as dc1 knows it: `far` by its summary and, with so many instances, as it was fetched so long ago.
fn view_with_east(fetched: Option<(u8, Duration)>, wall_ms: u64) -> Arc<View> {
    let (mut own, mut east) = (testing::editor(NodeId(1), "dc1"), testing::editor(NodeId(1), "east"));
    let node = testing::node(NodeId(7), "e1", "east");
    let names = std::iter::once("near").chain((0..fetched.map_or(0, |(count, _)| count)).map(|_| "far"));
    for (at, service) in names.enumerate() {
        let address = format!("10.9.0.{at}");
        let instance = Instance { address: address.as_str().into(), weight: 1_000, enabled: true, ..Instance::default() };
        testing::put(&mut east, &node, service, &address, &instance);
    }
    let key = ServiceKey { namespace: Namespace::default(), service: ServiceName::new("far").unwrap() };
    let summary = Summary { instances: 1, available: 1, ..Summary::default() };
    let known = testing::datacenter(&mut east, "east", 5, LinkState::Fresh, 20_000, None);
    let fetched_ms = |ago: Duration| crate::agent::clock::wall_ms() - u64::try_from(ago.as_millis()).unwrap();
    let fetched = fetched.map(|(_, ago)| (key.clone(), fetched_ms(ago))).into_iter().collect();
    let known = DatacenterView { summaries: Arc::new([Summarized { key, summary, revision: 7 }]), fetched, ..(*known).clone() };
    own.set_datacenters(vec![Arc::new(known)]);
    own.publish(Now { ns: 1, wall_ms }).unwrap()
}

fn fetch_asked(driver: &mut DriverSide) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    match runtime.block_on(driver.next()) {
        Request::Call(Call { command: Command::Fetch { datacenter, service, .. }, .. }) => format!("{service} of {datacenter}"),
        _ => panic!("something else than a fetch"),
    }
}

#[test]
fn a_query_for_what_is_known_by_its_summary_waits_for_its_instances_and_holds_up_nobody() {
    let mut scene = Scene::new(&settings(), 1);
    scene.driver.published().show(view_with_east(None, 10));
    let (waiting, other) = (scene.udp(), scene.udp());
    waiting.send(&question(7, "far.service.east.consul.").to_vec().unwrap()).unwrap();
    let mut stream = scene.tcp();
    stream.write_all(&framed(&question(8, "far.service.east.consul."))).unwrap();
    assert_eq!(fetch_asked(&mut scene.driver), "far of east");
    let mut bytes = [0; 4_096];
    other.send(&question(9, "near.service.east.consul.").to_vec().unwrap()).unwrap();
    let length = other.recv(&mut bytes).unwrap();
    assert_eq!(Message::from_vec(&bytes[..length]).unwrap().answers.len(), 1, "another query of the same worker");
    scene.driver.published().show(view_with_east(Some((1, Duration::ZERO)), 20));
    scene.driver.published().wake(&Changed::Any);
    let length = waiting.recv(&mut bytes).unwrap();
    for (id, answer) in [(7, Message::from_vec(&bytes[..length]).unwrap()), (8, read_framed(&mut stream))] {
        assert_eq!((answer.metadata.id, answer.metadata.response_code, answer.answers.len()), (id, ResponseCode::NoError, 1));
    }
}

#[test]
fn a_query_for_what_does_not_come_fails_in_time_and_is_no_missing_name() {
    let scene = Scene::new(&settings(), 1);
    scene.driver.published().show(view_with_east(None, 10));
    let began = Instant::now();
    let answer = scene.ask(&question(7, "far.service.east.consul."));
    assert_eq!((answer.metadata.response_code, answer.authorities.len()), (ResponseCode::ServFail, 0));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(scene.ask(&question(8, "none.service.east.consul.")).metadata.response_code, ResponseCode::NXDomain);
    assert!(scene.metric("tidings_dns_answers_total{transport=\"udp\",rcode=\"servfail\"} 1"));
}

#[test]
fn what_was_fetched_long_ago_is_told_where_nothing_newer_comes_in_time() {
    let mut scene = Scene::new(&settings(), 1);
    let seconds = Duration::from_secs;
    scene.driver.published().show(view_with_east(Some((1, seconds(15))), 10));
    let began = Instant::now();
    assert_eq!(scene.ask(&question(6, "far.service.east.consul.")).answers.len(), 1);
    assert!(began.elapsed() < seconds(1), "what others use waits for nothing: {:?}", began.elapsed());
    assert_eq!(fetch_asked(&mut scene.driver), "far of east", "and is fetched anew");
    scene.driver.published().show(view_with_east(Some((1, seconds(200))), 20));
    let began = Instant::now();
    assert_eq!(scene.ask(&question(7, "far.service.east.consul.")).answers.len(), 1);
    assert!(began.elapsed() >= seconds(1), "{:?}", began.elapsed());
    let waiting = scene.udp();
    waiting.send(&question(8, "far.service.east.consul.").to_vec().unwrap()).unwrap();
    let mut bytes = [0; 4_096];
    waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(waiting.recv(&mut bytes).is_err(), "it waits");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    scene.driver.published().show(view_with_east(Some((3, seconds(0))), 30));
    scene.driver.published().wake(&Changed::Any);
    let length = waiting.recv(&mut bytes).unwrap();
    assert_eq!(Message::from_vec(&bytes[..length]).unwrap().answers.len(), 3);
}

/// A name server that answers each query with `reply`; stops with the first one that it does not answer.
fn recursor(reply: impl Fn(Message) -> Option<Message> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let thread = std::thread::Builder::new();
    let thread = thread.spawn(move || {
        let mut bytes = [0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            let Some(answer) = reply(Message::from_vec(&bytes[..length]).unwrap()) else { return };
            // Something forged comes first: it is not taken for the answer.
            let mut forged = answer.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            socket.send_to(&forged.to_vec().unwrap(), from).unwrap();
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    (at, thread.unwrap())
}

fn with_rcode(question: Message, rcode: ResponseCode) -> Message {
    let mut answer = question.into_response();
    answer.metadata.response_code = rcode;
    answer
}

fn with_address(question: Message) -> Message {
    use hickory_proto::rr::{RData, Record, rdata};
    let name = question.queries[0].name().clone();
    let mut answer = with_rcode(question, ResponseCode::NoError);
    answer.add_answer(Record::from_rdata(name, 60, RData::A(rdata::A::new(192, 0, 2, 1))));
    answer
}

#[test]
fn names_of_others_are_asked_of_one_recursor_after_the_other() {
    let (refuses, first) = recursor(|question| Some(with_rcode(question, ResponseCode::ServFail)));
    let (silent, second) = recursor(|_| None);
    let (knows, third) = recursor(|question| Some(with_address(question)));
    let settings = Dns { recursors: vec![refuses, silent, knows], recursor_timeout: Duration::from_millis(300), ..settings() };
    let scene = Scene::new(&settings, 1);
    let answer = scene.ask(&question(77, "www.example.com."));
    assert_eq!((answer.metadata.id, answer.answers.len()), (77, 1));
    let answer = scene.ask(&question(78, "outside.service.consul."));
    let records: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!((answer.metadata.id, records), (78, vec!["host.example.com.".to_owned(), "192.0.2.1".to_owned()]));
    assert!(answer.metadata.recursion_available);
    assert!(scene.metric("tidings_dns_recursions_total{outcome=\"answered\"} 2"));
    // Nothing waits for what was lost: the one that fell silent has ended, the others end with the test.
    second.join().unwrap();
    drop((first, third));
}

#[test]
fn without_a_recursor_that_knows_a_question_fails_and_an_alias_stays() {
    let (refuses, thread) = recursor(|question| Some(with_rcode(question, ResponseCode::Refused)));
    let scene = Scene::new(&Dns { recursors: vec![refuses], ..settings() }, 1);
    assert_eq!(scene.ask(&question(1, "www.example.com.")).metadata.response_code, ResponseCode::ServFail);
    let answer = scene.ask(&question(2, "outside.service.consul."));
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
    assert!(scene.metric("tidings_dns_recursions_total{outcome=\"failed\"} 2"));
    drop(thread);
}
