//! The last agent: nine of ten are killed at one moment; how fast it answers Consul's clients and DNS all the while, and what becomes of
//! the instances of the dead.
//!
//! Each read goes over a connection that is kept open, one after the other: what is measured is the answer, not the dialling.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::agent::{Agent, Site};
use crate::lab::wait_until;
use crate::report;

const AGENTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);
const START_WITHIN: Duration = Duration::from_secs(60);

/// What is asked, and what it is called.
const READS: [(&str, &str); 6] = [
    ("health/service, default", "/v1/health/service/web?passing"),
    ("health/service, stale", "/v1/health/service/web?stale"),
    ("health/service, consistent", "/v1/health/service/web?consistent"),
    ("health/state/any", "/v1/health/state/any"),
    ("catalog/services", "/v1/catalog/services"),
    ("catalog/nodes", "/v1/catalog/nodes"),
];

pub fn measure(seconds: usize) {
    let site = Site::new();
    let mut agents: Vec<Agent> = Vec::new();
    for n in 0..AGENTS - 1 {
        let others: Vec<&Agent> = agents.iter().take(2).collect();
        agents.push(site.agent(&format!("n{n}")).join(&others).start());
    }
    let (last, dns) = site.agent("last").join(&agents.iter().take(2).collect::<Vec<_>>()).with_dns();
    let last = last.start();
    for agent in agents.iter().chain([&last]) {
        let service = json!({"ID": format!("web-{}", agent.node), "Name": "web", "Port": 80});
        let answer = agent.send("PUT", "/v1/agent/service/register", Some(&service)).expect("an answer");
        assert_eq!(answer.status, 200, "{answer}");
    }
    let mut client = Client::connect(last.http.address);
    wait_until(START_WITHIN, "the last agent shows all", || passing(&client.get(READS[0].1)) == AGENTS);

    let killed = Instant::now();
    agents.iter_mut().for_each(Agent::kill);
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut seen = Vec::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    while killed.elapsed() < Duration::from_secs(seconds as u64) {
        for (name, path) in READS {
            let start = Instant::now();
            let body = client.get(path);
            took.entry(name).or_default().push(start.elapsed());
            if name == READS[0].0 {
                note(&mut seen, killed.elapsed(), passing(&body), &client.head);
            }
        }
        let start = Instant::now();
        ask_dns(&socket, dns);
        took.entry("DNS, A").or_default().push(start.elapsed());
        std::thread::sleep(PAUSE);
    }
    println!("{} of {AGENTS} agents killed at once; the last one asked for {seconds} s, every answer a 200 or NOERROR:", AGENTS - 1);
    for (name, samples) in &mut took {
        report(name, samples);
    }
    for (at, passing, unverified) in seen {
        println!("    after {:>6.2} s  {passing:>2} passing, header x-tidings-unverified: {unverified}", at.as_secs_f64());
    }
}

/// What changed for a reader, and when.
fn note(seen: &mut Vec<(Duration, usize, String)>, at: Duration, passing: usize, head: &str) {
    let unverified = head.lines().find_map(|line| line.strip_prefix("x-tidings-unverified:")).map_or("none", str::trim).to_owned();
    if seen.last().is_none_or(|(_, before, mark)| *before != passing || *mark != unverified) {
        seen.push((at, passing, unverified));
    }
}

fn passing(body: &[u8]) -> usize {
    serde_json::from_slice::<Value>(body).ok().and_then(|list| Some(list.as_array()?.len())).expect("a list")
}

/// A connection that is kept open.
struct Client {
    stream: TcpStream,
    /// Of the last answer, in lower case.
    head: String,
}

impl Client {
    fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).expect("the agent listens");
        stream.set_nodelay(true).expect("it is open");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is open");
        Self { stream, head: String::new() }
    }

    /// The body of an answer.
    ///
    /// # Panics
    /// When it is not a 200.
    fn get(&mut self, path: &str) -> Vec<u8> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).expect("the agent reads");
        let mut bytes = Vec::new();
        let end = loop {
            self.more(&mut bytes);
            if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        self.head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        assert!(self.head.starts_with("http/1.1 200 "), "{path}: {}", self.head);
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("answers have a length");
        let length: usize = length.trim().parse().expect("a number");
        while bytes.len() < end + length {
            self.more(&mut bytes);
        }
        bytes.split_off(end)
    }

    fn more(&mut self, bytes: &mut Vec<u8>) {
        let mut chunk = [0; 16 * 1024];
        let length = self.stream.read(&mut chunk).expect("the agent answers");
        assert!(length > 0, "the agent hung up");
        bytes.extend_from_slice(&chunk[..length]);
    }
}

/// Asks for the addresses of `web.service.consul`.
fn ask_dns(socket: &UdpSocket, at: SocketAddr) {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["web", "service", "consul", ""] {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 1, 0, 1]);
    socket.send_to(&question, at).expect("it is sent");
    let mut packet = [0; 4_096];
    let length = socket.recv(&mut packet).expect("an answer");
    assert!(length > 12 && packet[3] & 0xf == 0 && packet[7] > 0, "no addresses: {:?}", &packet[..12]);
}
