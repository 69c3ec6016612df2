//! A few agents without their engines: spread, catalog and membership over a network that loses, delays and parts.
//!
//! The memberships are told who is there and do not probe; every so often an agent sends what would be a probe, empty but for what the
//! spread lets ride along. Bytes are counted as datagrams weigh them, sealed and with headers; those of probes apart.

use crate::engine::catalog::config::CatalogConfig;
use crate::engine::catalog::{Catalog, Chunk, Effect as CatalogEffect, Host, Word};
use crate::engine::io::{Restored, StreamId, Token};
use crate::engine::mail::{self, Mail};
use crate::engine::membership::{Effect as MembershipEffect, Event, Me, Membership, MembershipConfig, Peer};
use crate::engine::spread::{Context, Effect, Spread, SpreadConfig};
use crate::engine::wire::{self, packet::Frame};
use crate::model::command::{Command, Condition, Registration, Target};
use crate::model::instance::Instance;
use crate::model::names::{InstanceId, Namespace, NodeId, NodeName, ServiceName};
use crate::model::node::NodeInfo;
use crate::model::record::{Head, Record, RecordState, Scope};
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
    pub spread: Spread,
    pub catalog: Catalog,
    pub members: Membership,
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
    Datagram { to: usize, from: usize, body: Bytes, kind: Kind },
    Accepted { to: usize, stream: StreamId, from: usize },
    Connected { to: usize, stream: StreamId },
    Frame { to: usize, stream: StreamId, from: usize, frame: Bytes },
    Drained { to: usize, stream: StreamId, at_ns: u64 },
    Closed { to: usize, stream: StreamId },
    Wake(usize),
    Probe(usize),
}

/// What a datagram is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Ping,
    Ack,
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
    ids: Vec<NodeId>,
    addrs: Vec<SocketAddr>,
    /// Of agents that are started from now on.
    pub config: SpreadConfig,
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
            ids: Vec::new(),
            addrs: Vec::new(),
            config,
            frames: 0,
            stream_bytes: 0,
        }
    }

    /// `count` agents that know each other and are ready.
    pub fn ready(seed: u64, count: usize) -> Self {
        Self::ready_with(seed, count, SpreadConfig::lan())
    }

    pub fn ready_with(seed: u64, count: usize, config: SpreadConfig) -> Self {
        let mut world = Self::new(seed, SpreadConfig { settle_ms: 0, ..config });
        for _ in 0..count {
            world.start();
        }
        // Alone, everyone is ready at once; then they meet.
        world.run_ms(10);
        assert!(world.agents.iter().all(|agent| agent.spread.is_ready()));
        world.introduce_all();
        // Until everything has been said: the agents' own nodes are the first changes.
        for _ in 0..60 {
            world.reset_figures();
            world.run_ms(1_000);
            if world.is_whole() && world.agents.iter().all(|agent| agent.datagrams == 0) {
                break;
            }
        }
        assert!(world.is_whole());
        world
    }

    pub fn now(&self) -> Now {
        Now { ns: self.now_ns, wall_ms: WALL_MS + self.now_ns / MS }
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
                checks: Vec::new(),
            },
        };
        let me = Me { node: id, addr, generation: 1, boot: at as u16 };
        self.agents.push(Agent {
            id,
            spread: Spread::new(self.config.clone(), "test", id, self.rng.random(), now),
            catalog: Catalog::new(CatalogConfig::default(), host, id, 0, &Restored::default(), now),
            members: Membership::new(MembershipConfig::lan(), me, [at as u8; 32], now),
            is_up: true,
            wake_ns: u64::MAX,
            datagrams: 0,
            bytes: 0,
            riding_bytes: 0,
            moved_ns: BTreeMap::new(),
        });
        self.by_addr.insert(addr, at);
        self.ids.push(id);
        self.addrs.push(addr);
        self.pump(at);
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
        let now = self.now();
        for page in pages {
            self.agents[at].members.apply_state(now, page).unwrap();
        }
        self.pump(at);
    }

    pub fn register(&mut self, at: usize, service: &str, id: &str) {
        self.register_as(at, service, id, sample());
    }

    pub fn register_many(&mut self, at: usize, service: &str, ids: std::ops::Range<u32>) {
        for id in ids {
            let now = self.now();
            let command = registration(service, &id.to_string(), sample());
            self.agents[at].catalog.command(now, Token(1), command);
        }
        self.pump(at);
    }

    pub fn register_as(&mut self, at: usize, service: &str, id: &str, instance: Instance<'static>) {
        self.command(at, registration(service, id, instance));
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
        let now = self.now();
        self.agents[at].catalog.command(now, Token(1), command);
        self.pump(at);
    }

    /// An agent holds another for down.
    pub fn lose(&mut self, at: usize, other: usize) {
        let node = self.agents[other].id;
        let now = self.now();
        self.agents[at].event(now, Event::Down(node));
        self.pump(at);
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now_ns + ms * MS;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now_ns = self.now_ns.max(entry.key().0);
            let arrival = entry.remove();
            self.arrive(arrival);
        }
        self.now_ns = until;
    }

    /// Runs until it holds, checked every millisecond; how long that took.
    pub fn run_until(&mut self, ms_max: u64, mut holds: impl FnMut(&World) -> bool) -> Option<u64> {
        let start = self.now_ns;
        while self.now_ns < start + ms_max * MS {
            if holds(self) {
                return Some((self.now_ns - start) / MS);
            }
            self.run_ms(1);
        }
        holds(self).then_some(ms_max)
    }

    /// Whether all agents that are up have the same heads.
    pub fn is_whole(&self) -> bool {
        let mut up = self.agents.iter().filter(|agent| agent.is_up);
        let Some(first) = up.next() else { return true };
        up.all(|agent| agent.catalog.root() == first.catalog.root())
    }

    pub fn seq(&self, at: usize, of: usize) -> u64 {
        self.agents[at].catalog.head(self.agents[of].id).map_or(0, |head| head.seq)
    }

    pub fn reset_figures(&mut self) {
        for agent in &mut self.agents {
            (agent.datagrams, agent.bytes, agent.riding_bytes) = (0, 0, 0);
            agent.spread.counters = Default::default();
        }
    }

    fn put(&mut self, at_ns: u64, arrival: Arrival) {
        self.arrivals += 1;
        self.queue.insert((at_ns.max(self.now_ns), self.arrivals), arrival);
    }

    fn delay(&mut self) -> u64 {
        self.rng.random_range(self.net.delay_ns.clone())
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = self.now();
        let at = arrival.to();
        if !self.agents[at].is_up {
            return;
        }
        let agent = &mut self.agents[at];
        let mut context = Context { catalog: &mut agent.catalog, members: &agent.members };
        match arrival {
            Arrival::Datagram { from, body, kind, .. } => {
                let bytes = (body.len() + DATAGRAM_BYTES) as u64;
                match kind {
                    Kind::Own => (agent.datagrams, agent.bytes) = (agent.datagrams + 1, agent.bytes + bytes),
                    Kind::Ping | Kind::Ack => agent.riding_bytes += body.len() as u64,
                }
                let from_peer = Peer { node: self.ids[from], addr: self.addrs[from] };
                for part in mail::parts(body) {
                    agent.spread.handle_part(now, &mut context, from_peer, part.unwrap().unwrap());
                }
                if kind == Kind::Ping {
                    self.probe(at, from, Kind::Ack);
                }
            }
            Arrival::Accepted { stream, from, .. } => {
                let peer = self.addrs[from];
                agent.spread.stream_accepted(now, &mut context, stream, peer);
            }
            Arrival::Connected { stream, .. } => agent.spread.stream_connected(now, &mut context, stream),
            Arrival::Frame { stream, from, frame, .. } => {
                let peer = Peer { node: self.ids[from], addr: self.addrs[from] };
                let frame = postcard::from_bytes(&frame).unwrap();
                agent.spread.frame(now, &mut context, stream, peer, frame);
            }
            Arrival::Drained { stream, at_ns, .. } => {
                if self.pipes.get(&(at, stream)).is_some_and(|pipe| pipe.free_ns == at_ns) {
                    agent.spread.stream_drained(now, &mut context, stream);
                }
            }
            Arrival::Closed { stream, .. } => {
                self.pipes.remove(&(at, stream));
                agent.spread.stream_closed(now, &mut context, stream);
            }
            Arrival::Wake(_) => {
                if agent.wake_ns > self.now_ns {
                    return;
                }
                agent.wake_ns = u64::MAX;
            }
            Arrival::Probe(_) => {
                let peers = agent.members.peers();
                if !peers.is_empty() {
                    let to = self.by_addr[&peers[self.rng.random_range(0..peers.len())].addr];
                    self.probe(at, to, Kind::Ping);
                }
                self.put(self.now_ns + PROBE_MS * MS, Arrival::Probe(at));
            }
        }
        self.pump(at);
    }

    fn probe(&mut self, from: usize, to: usize, kind: Kind) {
        let now = self.now();
        let agent = &mut self.agents[from];
        let parts = agent.spread.ride_along(now, &agent.catalog, wire::BODY_BYTES_MAX - PROBE_BYTES);
        let mut mail = Mail::default();
        parts.iter().for_each(|part| mail.post(self.addrs[to], part));
        let body = mail.take().next().map(|(_, body)| body).unwrap_or_default();
        self.datagram(from, to, body.into(), kind);
    }

    fn datagram(&mut self, from: usize, to: usize, body: Bytes, kind: Kind) {
        if self.net.is_cut(from, to) || self.rng.random_bool(self.net.loss) {
            return;
        }
        let at_ns = self.now_ns + self.delay();
        self.put(at_ns, Arrival::Datagram { to, from, body, kind });
    }

    /// Lets an agent do all that follows from what just happened to it.
    pub fn pump(&mut self, at: usize) {
        let now = self.now();
        let agent = &mut self.agents[at];
        let mut out = Vec::new();
        agent.settle(now, &mut out);
        let wake_ns = agent.deadline().max(self.now_ns);
        let is_sooner = wake_ns < agent.wake_ns;
        if is_sooner {
            agent.wake_ns = wake_ns;
            self.put(wake_ns, Arrival::Wake(at));
        }
        let mut mail = Mail::default();
        for effect in out {
            match effect {
                Effect::Send { to, part } => mail.post(to, &part),
                Effect::OpenStream { stream, to } => self.open_stream(at, stream, to),
                Effect::Frame { stream, frame } => self.write_frame(at, stream, &frame),
                Effect::CloseStream { stream } => self.close_stream(at, stream),
                Effect::Members { .. } => unreachable!("taken in already"),
            }
        }
        for (to, body) in mail.take() {
            if let Some(to) = self.by_addr.get(&to).copied() {
                self.datagram(at, to, body.into(), Kind::Own);
            }
        }
    }

    fn open_stream(&mut self, at: usize, stream: StreamId, to: SocketAddr) {
        let other = self.by_addr.get(&to).copied().filter(|other| self.agents[*other].is_up && !self.net.is_cut(at, *other));
        let Some(other) = other else {
            return self.put(self.now_ns + 1_000 * MS, Arrival::Closed { to: at, stream });
        };
        self.accepted += 1;
        let as_stream = StreamId(2 * self.accepted);
        let there_ns = self.now_ns + self.delay();
        let back_ns = there_ns + self.delay();
        self.pipes.insert((at, stream), Pipe { free_ns: there_ns, to: other, as_stream });
        self.pipes.insert((other, as_stream), Pipe { free_ns: there_ns, to: at, as_stream: stream });
        self.put(there_ns, Arrival::Accepted { to: other, stream: as_stream, from: at });
        self.put(back_ns, Arrival::Connected { to: at, stream });
    }

    fn write_frame(&mut self, at: usize, stream: StreamId, frame: &Frame) {
        let Some(pipe) = self.pipes.get_mut(&(at, stream)) else { return };
        let frame = Bytes::from(postcard::to_stdvec(frame).unwrap());
        assert!(frame.len() <= wire::FRAME_BODY_BYTES_MAX);
        self.frames += 1;
        self.stream_bytes += frame.len() as u64;
        if self.net.cuts.contains(&(at.min(pipe.to), at.max(pipe.to))) {
            let (to, as_stream) = (pipe.to, pipe.as_stream);
            self.put(self.now_ns + 10_000 * MS, Arrival::Closed { to: at, stream });
            return self.put(self.now_ns + 10_000 * MS, Arrival::Closed { to, stream: as_stream });
        }
        pipe.free_ns = pipe.free_ns.max(self.now_ns) + (frame.len() as u64 + 100) * 1_000_000_000 / self.net.stream_rate;
        let (free_ns, to, as_stream) = (pipe.free_ns, pipe.to, pipe.as_stream);
        self.put(free_ns + MS, Arrival::Frame { to, stream: as_stream, from: at, frame });
        self.put(free_ns, Arrival::Drained { to: at, stream, at_ns: free_ns });
    }

    /// Both ends of an agent's streams find them broken.
    pub fn break_streams_of(&mut self, at: usize) {
        let broken: Vec<(usize, StreamId)> = self.pipes.keys().copied().filter(|(end, _)| *end == at).collect();
        for (end, stream) in broken {
            let pipe = self.pipes.remove(&(end, stream)).expect("listed");
            self.put(self.now_ns + MS, Arrival::Closed { to: pipe.to, stream: pipe.as_stream });
        }
    }

    fn close_stream(&mut self, at: usize, stream: StreamId) {
        if let Some(pipe) = self.pipes.remove(&(at, stream)) {
            self.put(pipe.free_ns.max(self.now_ns) + 2 * MS, Arrival::Closed { to: pipe.to, stream: pipe.as_stream });
        }
    }
}

/// An instance whose record takes about 150 bytes.
pub fn sample() -> Instance<'static> {
    Instance {
        address: "10.1.2.3".into(),
        port: Some(8080),
        tags: vec!["primary".into(), "v2".into()],
        metadata: vec![("commit".into(), "0123456789abcdef0123456789abcdef".into()), ("owner".into(), "payments-team".into())],
        ..Instance::default()
    }
}

fn registration(service: &str, id: &str, instance: Instance<'static>) -> Command {
    Command::Register(Box::new(Registration {
        namespace: Namespace::default(),
        service: ServiceName::new(service).unwrap(),
        id: InstanceId::new(id).unwrap(),
        scope: Scope::Datacenter,
        instance,
        condition: Condition::Always,
        lease: None,
    }))
}

/// All records an agent holds, by origin: what two agents are compared by.
pub fn everything(world: &World, at: usize) -> Vec<(NodeId, u64, Vec<Record>)> {
    let catalog = &world.agents[at].catalog;
    let live = |record: &Record| matches!(record.state, RecordState::Live(_));
    let records = |head: Head| {
        let mut reader = catalog.snapshot(head.origin).unwrap();
        let mut records = Vec::new();
        while let Chunk::Records(chunk) = reader.next(catalog, 1 << 20) {
            records.extend(chunk);
        }
        records.retain(live);
        (head.origin, head.seq, records)
    };
    catalog.heads().map(records).collect()
}

impl Agent {
    /// Rooms hand each other what they found until all are quiet.
    fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.catalog.deadline().is_some_and(|at| at <= now.ns) {
            self.catalog.handle_timeout(now);
        }
        self.spread.handle_timeout(now, &mut Context { catalog: &mut self.catalog, members: &self.members });
        loop {
            if let Some(effect) = self.members.poll() {
                if let MembershipEffect::Event(event) = effect {
                    self.event(now, event);
                }
            } else if let Some(effect) = self.catalog.poll() {
                let mut context = Context { catalog: &mut self.catalog, members: &self.members };
                match effect {
                    CatalogEffect::Fresh { origin, seq, urgency } => self.spread.offer(now, &mut context, origin, seq, urgency),
                    CatalogEffect::HeadMoved(origin) => {
                        self.moved_ns.insert(origin, now.ns);
                        self.spread.head_moved(now, &mut context, origin);
                    }
                    CatalogEffect::Reply { outcome, .. } => {
                        outcome.unwrap();
                    }
                    CatalogEffect::Forward { .. } | CatalogEffect::Store(_) => {}
                }
            } else if let Some(effect) = self.spread.poll() {
                match effect {
                    Effect::Members { chunk } => self.members.apply_state(now, &chunk).unwrap(),
                    effect => out.push(effect),
                }
            } else {
                return;
            }
        }
    }

    fn event(&mut self, now: Now, event: Event) {
        match event {
            Event::Up(node) | Event::Cleared(node) => self.catalog.on_member(now, node, Word::Alive),
            Event::Down(node) => self.catalog.on_member(now, node, Word::Down),
            Event::Left(node) => self.catalog.on_member(now, node, Word::Left),
            _ => {}
        }
        self.spread.on_member(now, &mut Context { catalog: &mut self.catalog, members: &self.members }, event);
    }

    fn deadline(&self) -> u64 {
        [self.catalog.deadline(), self.spread.deadline()].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

impl Arrival {
    fn to(&self) -> usize {
        match self {
            Arrival::Datagram { to, .. }
            | Arrival::Accepted { to, .. }
            | Arrival::Connected { to, .. }
            | Arrival::Frame { to, .. }
            | Arrival::Drained { to, .. }
            | Arrival::Closed { to, .. }
            | Arrival::Wake(to)
            | Arrival::Probe(to) => *to,
        }
    }
}
