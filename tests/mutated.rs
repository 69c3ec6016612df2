//! A real agent's HTTP and DNS under requests and packets that were changed at random: nothing is answered with a 500 that is not meant
//! (reference texts of Consul), nothing panics, and memory does not grow.
//!
//! ```text
//! cargo test --test mutated                                        2,000 of each
//! cargo test --release --test mutated -- --ignored --nocapture     100,000 of each; TIDINGS_SEED=N draws others
//! ```
//!
//! Everything is sent twice: what the first time leaves behind is there already the second time, so that memory which still grows is lost.
//! What opens no socket is mutated by tests/fuzz without one. As root the agent is alone in a network namespace; else requests that would
//! let it check something by a connection are left out.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;
#[path = "fuzz/src/mutation.rs"]
mod mutation;
#[allow(dead_code, unused_imports, reason = "the doors without sockets are opened by tests/corpus.rs")]
#[path = "fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use lab::agent::{Agent, Site};
#[cfg(target_os = "linux")]
use lab::network::Lab;
use lab::resident::Resident;
use mutation::{below, mutate};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;

/// Clients at one time.
const CLIENTS: usize = 8;
/// What blocks for longer is meant to.
const PATIENCE: Duration = Duration::from_millis(60);
/// An answer is read to here; streams of events have no end.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The longest mutated request or packet in bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// What may be resident beyond what was after the first time: buffers that happened to be in use, and their places in the heap.
const GROWTH_KB_MAX: u64 = 8 * 1024;
/// Ports of an agent that has a network of its own.
const DNS_PORT: u16 = 8600;
/// One agent must not end, and join nobody.
const LEFT_OUT: [&str; 2] = ["leave", "join"];
/// Parts of checks that open connections.
const DIALLING: [&str; 4] = ["http", "tcp", "grpc", "address"];

/// An agent to knock at, and where to knock from.
struct Door {
    agent: Agent,
    dns: SocketAddr,
    from: Arc<Resident>,
    /// Whether it may open whatever connections it is told to.
    is_alone: bool,
}

impl Door {
    /// Starts an agent, alone in a network where that can be had, and does something with it.
    fn open(knock: impl FnOnce(&Door)) {
        let site = Site::new();
        #[cfg(target_os = "linux")]
        if let Some(mut lab) = Lab::new(1) {
            let host = lab.host("n0");
            let dns = SocketAddr::from(([127, 0, 0, 1], DNS_PORT));
            let agent = site.agent_on(&host).with_dns_at(dns).start();
            return knock(&Door { agent, dns, from: host.resident(), is_alone: true });
        }
        let (agent, dns) = site.agent("n0").with_dns();
        let from = Arc::new(Resident::here().expect("a thread can be started"));
        knock(&Door { agent: agent.start(), dns, from, is_alone: false });
    }

    fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    }

    /// Does something twice, and compares what the agent holds in memory.
    fn assert_no_growth(&self, what: &str, knock: impl Fn()) {
        knock();
        let before = self.resident_kb();
        knock();
        let after = self.resident_kb();
        println!("{what}: {before} kB resident after the first time, {after} after the second");
        assert!(after <= before + GROWTH_KB_MAX, "{what}: the second time took {} kB more", after - before);
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let socket = self.from.tcp_socket(self.agent.http.address)?;
        socket.connect_timeout(&self.agent.http.address.into(), Duration::from_secs(5))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }
}

fn seed() -> u64 {
    std::env::var("TIDINGS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// A mutated request as bytes; whether it is still one whole request.
fn mutated_request(rng: &mut ChaCha12Rng, seeds: &[(&'static str, Vec<u8>, Vec<u8>)]) -> (Vec<u8>, bool) {
    let (method, target, body) = &seeds[below(rng, seeds.len())];
    let (_, other_target, other_body) = &seeds[below(rng, seeds.len())];
    let (mut target, mut body) = (target.clone(), body.clone());
    for _ in 0..=below(rng, 4) {
        match below(rng, 3) {
            0 => mutate(&mut target, other_target, rng),
            1 => mutate(&mut body, other_body, rng),
            _ => {}
        }
    }
    body.truncate(INPUT_BYTES_MAX);
    let method = if below(rng, 8) == 0 { ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"][below(rng, 6)] } else { method };
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(&target);
    bytes.extend_from_slice(format!(" HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    let is_raw = below(rng, 16) == 0;
    if is_raw {
        let whole = bytes.clone();
        mutate(&mut bytes, &whole, rng);
    }
    (bytes, !is_raw)
}

/// What a request says in any encoding of its characters, in lower case.
fn plain(bytes: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%')
            .then(|| std::str::from_utf8(after.get(..2)?).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .flatten();
        decoded.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).to_ascii_lowercase()
}

fn may_be_sent(request: &[u8], is_alone: bool) -> bool {
    let plain = plain(request);
    let has = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    // The line that every request has names the protocol, which is no check.
    !has(&LEFT_OUT) && (is_alone || !plain.split_once("\r\n\r\n").is_some_and(|(_, body)| DIALLING.iter().any(|word| body.contains(word))))
}

/// The status and text of an answer; none if the agent hung up or lets this one wait.
fn answer(stream: &mut TcpStream) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            match length {
                Some(length) if bytes.len() >= end + 4 + length => {
                    return Some((status, String::from_utf8_lossy(&bytes[end + 4..]).into_owned()));
                }
                // Events: they begin, and that is enough.
                None => return Some((status, String::new())),
                Some(_) => {}
            }
        }
        let length = stream.read(&mut chunk).ok().filter(|length| *length > 0 && bytes.len() < ANSWER_BYTES_MAX)?;
        bytes.extend_from_slice(&chunk[..length]);
    }
}

/// Sends so many mutated requests by several clients, the same ones each time; returns how often each status came.
fn knock_http(door: &Door, count: usize) -> BTreeMap<u16, usize> {
    let seeds = targets::requests();
    let client = |number: usize| {
        let mut rng = ChaCha12Rng::seed_from_u64(seed() << 8 | number as u64);
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        let mut connection = None;
        for _ in 0..count / CLIENTS {
            let (request, is_whole) = loop {
                let drawn = mutated_request(&mut rng, &seeds);
                if may_be_sent(&drawn.0, door.is_alone) {
                    break drawn;
                }
            };
            let mut stream = match connection.take() {
                Some(stream) => stream,
                None => door.connect().unwrap_or_else(|why| panic!("the agent takes no connections: {why}")),
            };
            let answered = stream.write_all(&request).ok().and_then(|()| answer(&mut stream));
            let Some((status, text)) = answered else {
                *statuses.entry(0).or_default() += 1;
                continue;
            };
            *statuses.entry(status).or_default() += 1;
            let is_meant = status != 500 || targets::DELIBERATE.iter().any(|known| text.contains(known));
            assert!(is_meant && status < 600, "{status} {text:?} for {:?}", String::from_utf8_lossy(&request));
            if is_whole && !text.is_empty() && status < 400 {
                connection = Some(stream);
            }
        }
        statuses
    };
    let mut all = BTreeMap::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = &client;
                scope.spawn(move || client(number))
            })
            .collect();
        for client in clients {
            for (status, count) in client.join().expect("a client that found nothing") {
                *all.entry(status).or_insert(0) += count;
            }
        }
    });
    all
}

/// Sends so many mutated packets, and asks a good question from time to time.
fn knock_dns(door: &Door, count: usize) {
    const BETWEEN: usize = 50;
    let seeds = targets::recorded("dns", |_| Vec::new());
    let mut rng = ChaCha12Rng::seed_from_u64(seed());
    let at = door.dns;
    let socket = door.from.run(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
    let (mut answers, mut packet) = (0_usize, [0; 65_536]);
    for n in 0..count {
        let mut bytes = seeds[below(&mut rng, seeds.len())].clone();
        for _ in 0..=below(&mut rng, 6) {
            let other = below(&mut rng, seeds.len());
            mutate(&mut bytes, &seeds[other], &mut rng);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        // The number by which good questions are told.
        if bytes.len() >= 2 {
            bytes[0] &= 0x7f;
        }
        if n % 16 == 0 {
            knock_dns_tcp(door, &bytes);
        } else {
            let _ = socket.send_to(&bytes, at);
        }
        if n % BETWEEN == 0 {
            answers += ask_well(&socket, at, &mut packet);
        }
    }
    println!("{count} packets, {answers} answers");
    assert!(answers > count / 100, "only {answers} of {count} were answered");
}

/// Asks for the zone's SOA until it comes; returns how many other answers came before.
fn ask_well(socket: &UdpSocket, at: SocketAddr, packet: &mut [u8]) -> usize {
    const QUESTION: &[u8] = b"\xff\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06consul\x00\x00\x06\x00\x01";
    const TRIES: usize = 50;
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut others = 0;
    for _ in 0..TRIES {
        socket.send_to(QUESTION, at).expect("it is sent");
        while let Ok((length, _)) = socket.recv_from(packet) {
            if length > 12 && packet[..2] == QUESTION[..2] {
                assert_eq!((packet[3] & 0xf, packet[7]), (0, 1), "the zone has a SOA: {:?}", &packet[..length]);
                return others;
            }
            others += 1;
        }
    }
    panic!("a good question is not answered any more");
}

fn knock_dns_tcp(door: &Door, bytes: &[u8]) {
    let socket = door.from.tcp_socket(door.dns).expect("a socket");
    socket.connect(&door.dns.into()).expect("DNS takes connections");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length = u16::try_from(bytes.len()).expect("inputs are short");
    let _ = stream.write_all(&[&length.to_be_bytes(), bytes].concat());
    // An answer, or the end.
    let _ = stream.read(&mut [0; 64]);
}

fn knock(count: usize) {
    Door::open(|door| {
        door.assert_no_growth("HTTP", || {
            let statuses = knock_http(door, count);
            println!("{count} requests, by status (0: no answer): {statuses:?}");
            assert!([200, 400, 404].iter().all(|status| statuses.contains_key(status)), "mutation leads somewhere: {statuses:?}");
        });
        door.assert_no_growth("DNS", || knock_dns(door, count));
        let alive = door.agent.get("/api/v1/status");
        assert_eq!(alive["node"], "n0", "{alive}");
    });
}

#[test]
fn two_thousand_mutated_requests_and_packets_do_no_harm() {
    knock(2_000);
}

#[test]
#[ignore = "minutes long: cargo test --release --test mutated -- --ignored --nocapture"]
fn a_hundred_thousand_mutated_requests_and_packets_do_no_harm() {
    knock(100_000);
}
