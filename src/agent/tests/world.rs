//! A few agents without their engines: spread, catalog and membership over a network that loses, delays and parts.
//!
//! The memberships are told who is there and do not probe; every so often an agent sends what would be a probe, empty but for what the
//! spread lets ride along. Bytes are counted as datagrams weigh them, sealed and with headers; those of probes apart.

use crate::engine::catalog::config::CatalogConfig;
use crate::engine::catalog::{Catalog, Effect as CatalogEffect, Host, Word};
use crate::engine::io::{Restored, StreamId, Token};
use crate::engine::mail::{self, Mail};
use crate::engine::membership::{Effect as MembershipEffect, Event, Me, Membership, MembershipConfig, Peer};
use crate::engine::spread::{Context, Effect, Spread, SpreadConfig};
use crate::engine::wire::packet::{Frame, Part};
use crate::model::command::{Command, Condition, Registration, Target};
use crate::model::instance::Instance;
use crate::model::names::{InstanceId, Namespace, NodeId, NodeName, ServiceName};
use crate::model::node::NodeInfo;
use crate::model::record::{Kind, Scope};
use crate::model::time::Now;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Seal, with a counter of two bytes, and headers of UDP and IPv4.
const DATAGRAM_BYTES: usize = 76 + 28;
const MS: u64 = 1_000_000;
const WALL_MS: u64 = 1_780_000_000_000;
const PROBE_MS: u64 = 300;
/// What a packet of the membership takes of a datagram.
const PROBE_BYTES: usize = 150;

pub struct Agent {
    pub id: NodeId,
    pub addr: SocketAddr,
    pub spread: Spread,
    pub catalog: Catalog,
    pub members: Membership,
    rng: ChaCha12Rng,
    pub is_up: bool,
    wake_ns: u64,
    /// Received in datagrams that would not have been sent otherwise.
    pub datagrams: u64,
    pub bytes: u64,
    /// Received in probes.
    pub riding_bytes: u64,
    /// When its head of an origin last moved.
    pub moved_ns: BTreeMap<NodeId, u64>,
}

#[derive(Debug)]
enum Arrival {
    Datagram { to: usize, from: usize, body: Bytes, is_probe: bool },
    Accepted { to: usize, stream: StreamId, from: usize },
    Connected { to: usize, stream: StreamId },
    Frame { to: usize, stream: StreamId, from: usize, frame: Bytes },
    Drained { to: usize, stream: StreamId },
    Closed { to: usize, stream: StreamId },
    Wake(usize),
    Probe(usize),
}

/// One direction of a stream.
struct Pipe {
    /// The last byte is written at this time.
    free_ns: u64,
    /// The end that hears, and what it calls the stream.
    to: usize,
    as_stream: StreamId,
}

pub struct Net {
    pub loss: f64,
    pub delay_ns: std::ops::Range<u64>,
    /// Bytes a second of a stream.
    pub stream_rate: u64,
    /// Pairs that do not hear each other, either way.
    pub cuts: BTreeSet<(usize, usize)>,
}

impl Net {
    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    pub fn part(&mut self, one: std::ops::Range<usize>, other: std::ops::Range<usize>) {
        for a in one {
            for b in other.clone() {
                self.cuts.insert((a.min(b), a.max(b)));
            }
        }
    }
}

pub struct World {
    pub now_ns: u64,
    pub agents: Vec<Agent>,
    pub net: Net,
    rng: ChaCha12Rng,
    queue: BTreeMap<(u64, u64), Arrival>,
    arrivals: u64,
    pipes: BTreeMap<(usize, StreamId), Pipe>,
    accepted: u64,
    by_addr: BTreeMap<SocketAddr, usize>,
    config: SpreadConfig,
    pub frames: u64,
    pub stream_bytes: u64,
}

impl World {
    pub fn new(seed: u64, config: SpreadConfig) -> Self {
        Self {
            now_ns: MS,
            agents: Vec::new(),
            net: Net { loss: 0.0, delay_ns: 500_000..2_000_000, stream_rate: 1 << 30, cuts: BTreeSet::new() },
            rng: ChaCha12Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            arrivals: 0,
            pipes: BTreeMap::new(),
            accepted: 0,
            by_addr: BTreeMap::new(),
            config,
            frames: 0,
            stream_bytes: 0,
        }
    }

    /// `count` agents that know each other and are ready.
    pub fn ready(seed: u64, count: usize) -> Self {
        let config = SpreadConfig { settle_ms: 0, ..SpreadConfig::lan("test") };
        let mut world = Self::new(seed, config);
        for _ in 0..count {
            world.start();
        }
        // Alone, everyone is ready at once; then they meet.
        for agent in 0..count {
            world.turn(agent, |_, _, _| {});
        }
        assert!(world.agents.iter().all(|agent| agent.spread.is_ready()));
        world.introduce_all();
        world.run_ms(8_000);
        world
    }

    pub fn now(&self) -> Now {
        Now { ns: self.now_ns, wall_ms: WALL_MS + self.now_ns / MS }
    }

    pub fn ms(&self) -> u64 {
        self.now_ns / MS
    }

    /// A new agent that knows nobody.
    pub fn start(&mut self) -> usize {
        let at = self.agents.len();
        let id = NodeId(self.rng.random::<u128>());
        let addr: SocketAddr = ([10, (at >> 16) as u8, (at >> 8) as u8, at as u8], 7400).into();
        let now = self.now();
        let host = Host {
            name: NodeName::new(&format!("node-{at}")).unwrap(),
            info: NodeInfo {
                address: "10.0.0.1".into(),
                gossip: Some(addr),
                http_port: None,
                dns_port: None,
                datacenter: "dc1".into(),
                zone: None,
                is_gateway: false,
                version: "1".into(),
                metadata: Vec::new(),
            },
        };
        let me = Me { node: id, addr, generation: 1, boot: at as u16 };
        self.agents.push(Agent {
            id,
            addr,
            spread: Spread::new(self.config.clone(), id, now),
            catalog: Catalog::new(CatalogConfig::default(), host, id, &Restored::default(), now),
            members: Membership::new(MembershipConfig::lan(), me, [at as u8; 32], now),
            rng: ChaCha12Rng::seed_from_u64(self.rng.random()),
            is_up: true,
            wake_ns: u64::MAX,
            datagrams: 0,
            bytes: 0,
            riding_bytes: 0,
            moved_ns: BTreeMap::new(),
        });
        self.by_addr.insert(addr, at);
        self.turn(at, |_, _, _| {});
        let probe_ns = self.now_ns + self.rng.random_range(0..PROBE_MS * MS);
        self.put(probe_ns, Arrival::Probe(at));
        at
    }

    /// Everyone learns of everyone.
    pub fn introduce_all(&mut self) {
        let pages: Vec<Bytes> = self.agents.iter().flat_map(|agent| agent.members.state_pages(1_000)).collect();
        for at in 0..self.agents.len() {
            self.learn(at, &pages);
        }
    }

    /// An agent and those who are there already learn of each other.
    pub fn introduce(&mut self, newcomer: usize, to: &[usize]) {
        let own = self.agents[newcomer].members.state_pages(1_000);
        for other in to {
            let theirs = self.agents[*other].members.state_pages(1_000);
            self.learn(*other, &own[..1]);
            self.learn(newcomer, &theirs[..1]);
        }
    }

    fn learn(&mut self, at: usize, pages: &[Bytes]) {
        let pages = pages.to_vec();
        self.turn(at, |agent, now, _| {
            for page in &pages {
                agent.members.apply_state(now, page).unwrap();
            }
        });
    }

    pub fn register(&mut self, at: usize, service: &str, id: &str) {
        let instance = Instance {
            address: "10.1.2.3".into(),
            port: Some(8080),
            tags: vec!["primary".into(), "v2".into()],
            metadata: vec![("commit".into(), "0123456789abcdef0123456789abcdef".into()), ("owner".into(), "payments-team".into())],
            ..Instance::default()
        };
        self.register_as(at, service, id, instance);
    }

    pub fn register_as(&mut self, at: usize, service: &str, id: &str, instance: Instance<'static>) {
        let registration = Registration {
            namespace: Namespace::default(),
            service: ServiceName::new(service).unwrap(),
            id: InstanceId::new(id).unwrap(),
            scope: Scope::Datacenter,
            instance,
            condition: Condition::Always,
            lease: None,
        };
        self.command(at, Command::Register(Box::new(registration)));
    }

    pub fn deregister(&mut self, at: usize, service: &str, id: &str) {
        let target = Target {
            namespace: Namespace::default(),
            service: ServiceName::new(service).unwrap(),
            id: InstanceId::new(id).unwrap(),
            uid: None,
        };
        self.command(at, Command::Deregister { target, condition: Condition::Always });
    }

    pub fn command(&mut self, at: usize, command: Command) {
        self.turn(at, |agent, now, _| agent.catalog.command(now, Token(1), command));
    }

    /// Something happens at an agent: it does all that follows.
    pub fn turn(&mut self, at: usize, happen: impl FnOnce(&mut Agent, Now, &mut World)) {
        let now = self.now();
        let mut agent = std::mem::replace(&mut self.agents[at], None_::agent());
        happen(&mut agent, now, self);
        agent.pump(now);
        self.deliver(at, &mut agent, None);
        self.agents[at] = agent;
        self.rearm(at);
    }
}
