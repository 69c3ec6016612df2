//! Agents on a perfect network with a millisecond of delay, and disks that need two.

use crate::engine::Engine;
use crate::engine::config::{EngineConfig, NodeConfig};
use crate::engine::io::{Input, Mark, Output, Restored, StreamId, Token};
use crate::model::command::{Command, Refusal, Reply};
use crate::model::names::{Datacenter, NodeName};
use crate::model::time::Now;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

const DELAY_NS: u64 = 1_000_000;
const FSYNC_NS: u64 = 2_000_000;
const WALL_MS: u64 = 1_790_000_000_000;

struct Host {
    engine: Engine,
    view: Option<Arc<View>>,
    is_alive: bool,
    has_stopped: bool,
}

pub struct Net {
    ns: u64,
    hosts: Vec<Host>,
    events: BTreeMap<(u64, u64), (usize, Input)>,
    event_count: u64,
    /// Both ends of each stream.
    streams: BTreeMap<(usize, StreamId), (usize, StreamId)>,
    accepted: u64,
    replies: BTreeMap<Token, Result<Reply, Refusal>>,
    tokens: u64,
}

fn addr(host: usize) -> SocketAddr {
    ([10, 0, 0, host as u8 + 1], 7976).into()
}

impl Net {
    /// Agents that all start now and have the first one for their seed.
    pub fn new(count: usize) -> Self {
        let mut net = Self {
            ns: 0,
            hosts: Vec::new(),
            events: BTreeMap::new(),
            event_count: 0,
            streams: BTreeMap::new(),
            accepted: 0,
            replies: BTreeMap::new(),
            tokens: 0,
        };
        for host in 0..count {
            let node = NodeConfig {
                name: NodeName::new(&format!("n{host}")).unwrap(),
                datacenter: Datacenter::new("dc1").unwrap(),
                zone: None,
                advertise: addr(host),
                http_port: None,
                dns_port: None,
                is_gateway: false,
                version: "test".into(),
                metadata: Vec::new(),
            };
            let config = EngineConfig { keys: vec![[7; 32]], ..EngineConfig::lan(node) };
            let engine = Engine::new(config, Restored::default(), [host as u8 + 1; 32], net.now());
            net.hosts.push(Host { engine, view: None, is_alive: true, has_stopped: false });
            net.drain(host);
        }
        for host in 1..count {
            net.post(host, 0, Input::Command { token: Token(0), command: Command::SetSeeds(vec![addr(0)]) });
            net.post(host, 0, Input::Command { token: Token(0), command: Command::Join(vec![addr(0)]) });
        }
        net
    }

    pub fn engine(&self, host: usize) -> &Engine {
        &self.hosts[host].engine
    }

    pub fn view(&self, host: usize) -> &View {
        self.hosts[host].view.as_deref().expect("every agent publishes a view when it starts")
    }

    pub fn available(&self, host: usize, service: &str) -> usize {
        self.view(host).service("default", service).map_or(0, |service| service.available().count())
    }

    pub fn has_stopped(&self, host: usize) -> bool {
        self.hosts[host].has_stopped
    }

    pub fn kill(&mut self, host: usize) {
        self.hosts[host].is_alive = false;
    }

    /// Hands a command in and runs until it is answered.
    pub fn call(&mut self, host: usize, command: Command) -> Result<Reply, Refusal> {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.post(host, 0, Input::Command { token, command });
        for _ in 0..3_000 {
            self.run_ms(1);
            if let Some(outcome) = self.replies.remove(&token) {
                return outcome;
            }
        }
        panic!("no answer in three seconds");
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.ns + ms * 1_000_000;
        loop {
            let event_at = self.events.first_key_value().map(|((at, _), _)| *at);
            let deadlines = self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive);
            let due = deadlines.filter_map(|(at, host)| host.engine.deadline().map(|deadline| (deadline, at))).min();
            let next = [event_at, due.map(|(deadline, _)| deadline)].into_iter().flatten().min().unwrap_or(u64::MAX);
            if next > until {
                break;
            }
            self.ns = self.ns.max(next);
            if event_at.is_some_and(|at| at <= self.ns) {
                let (_, (host, input)) = self.events.pop_first().expect("there is one");
                self.handle(host, input);
            } else if let Some((_, host)) = due {
                self.handle(host, Input::Tick);
            }
        }
        self.ns = until;
    }

    fn now(&self) -> Now {
        Now { ns: self.ns, wall_ms: WALL_MS + self.ns / 1_000_000 }
    }

    fn post(&mut self, host: usize, delay_ns: u64, input: Input) {
        self.event_count += 1;
        self.events.insert((self.ns + delay_ns, self.event_count), (host, input));
    }

    fn handle(&mut self, host: usize, input: Input) {
        if self.hosts[host].is_alive {
            let now = self.now();
            self.hosts[host].engine.handle(now, input);
            self.drain(host);
        }
    }

    fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].engine.poll() {
            match output {
                Output::Datagram { to, bytes } => {
                    if let Some(peer) = self.host_at(to) {
                        self.post(peer, DELAY_NS, Input::Datagram { from: addr(host), bytes });
                    }
                }
                Output::OpenStream { stream, to } => self.open(host, stream, to),
                Output::StreamBytes { stream, bytes } => {
                    if let Some(&(peer, theirs)) = self.streams.get(&(host, stream)) {
                        self.post(peer, DELAY_NS, Input::StreamBytes { stream: theirs, bytes });
                        self.post(host, DELAY_NS, Input::StreamDrained { stream });
                    }
                }
                Output::CloseStream { stream } => {
                    if let Some((peer, theirs)) = self.streams.remove(&(host, stream)) {
                        self.post(peer, DELAY_NS, Input::StreamClosed { stream: theirs });
                    }
                }
                Output::Reply { token, outcome } => {
                    self.replies.insert(token, outcome);
                }
                Output::View(view) => self.hosts[host].view = Some(view),
                Output::Persist { mark, .. } => self.post(host, FSYNC_NS, Input::Durable { mark: Mark(mark.0) }),
                Output::WanDatagram { .. } | Output::OpenWanStream { .. } => panic!("no host here is a gateway"),
                Output::Stopped => (self.hosts[host].has_stopped, self.hosts[host].is_alive) = (true, false),
            }
        }
    }

    fn open(&mut self, host: usize, stream: StreamId, to: SocketAddr) {
        match self.host_at(to).filter(|peer| self.hosts[*peer].is_alive) {
            Some(peer) => {
                self.accepted += 2;
                let theirs = StreamId(self.accepted);
                self.streams.insert((host, stream), (peer, theirs));
                self.streams.insert((peer, theirs), (host, stream));
                self.post(peer, DELAY_NS, Input::StreamAccepted { stream: theirs, peer: addr(host) });
                self.post(host, 2 * DELAY_NS, Input::StreamConnected { stream });
            }
            None => self.post(host, DELAY_NS, Input::StreamClosed { stream }),
        }
    }

    fn host_at(&self, to: SocketAddr) -> Option<usize> {
        (0..self.hosts.len()).find(|host| addr(*host) == to)
    }
}

#[test]
fn equal_seeds_give_equal_histories() {
    let trace = || {
        let mut net = Net::new(3);
        net.run_ms(2_000);
        let counters: BTreeSet<String> = net.hosts.iter().map(|host| format!("{:?}", host.engine.counters())).collect();
        (net.event_count, counters)
    };
    assert_eq!(trace(), trace());
}
