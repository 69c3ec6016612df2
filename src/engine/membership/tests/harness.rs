//! A network of memberships in virtual time: latency, loss, cuts in one direction or both, pauses, kills. Deterministic.

use crate::engine::membership::{Effect, Event, Me, MemberState, Membership, MembershipConfig};
use crate::model::coordinate::Coordinate;
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

pub struct Agent {
    pub membership: Membership,
    pub addr: SocketAddr,
    pub is_dead: bool,
    is_paused: bool,
    /// What its socket holds while it is paused.
    socket: VecDeque<(SocketAddr, Bytes, Option<Coordinate>)>,
    started_ns: u64,
    pub events: Vec<(u64, Event)>,
    pub bytes_received: u64,
    pub coordinates_received: u64,
}

/// From where, to where, what, and the coordinate that rides along.
type Packet = (SocketAddr, SocketAddr, Bytes, Option<Coordinate>);

pub struct World {
    pub now: u64,
    pub agents: Vec<Agent>,
    pub config: MembershipConfig,
    rng: ChaCha12Rng,
    by_addr: BTreeMap<SocketAddr, usize>,
    packets: BTreeMap<(u64, u64), Packet>,
    packet_count: u64,
    deadlines: BTreeSet<(u64, usize)>,
    planned: Vec<Option<u64>>,
    pub loss: f64,
    pub latency_ns: std::ops::Range<u64>,
    /// What the way between two agents takes beyond that.
    pub distance_ns: fn(usize, usize) -> u64,
    /// Packets from the first to the second do not arrive.
    cut: BTreeSet<(usize, usize)>,
    /// Answers `NeedState` by an exchange over a perfect stream.
    pub has_streams: bool,
    /// Compares foca's lists with ours after each run: for small worlds.
    pub mirror_checks: bool,
    pub streams: u64,
}

/// A datagram's UDP, IP and sealing, in bytes.
const OVERHEAD: u64 = 28 + 110;
const SOCKET_PACKETS_MAX: usize = 200;

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, MembershipConfig::lan())
    }

    pub fn with(seed: u64, config: MembershipConfig) -> Self {
        Self {
            now: SECOND,
            agents: Vec::new(),
            config,
            rng: ChaCha12Rng::seed_from_u64(seed),
            by_addr: BTreeMap::new(),
            packets: BTreeMap::new(),
            packet_count: 0,
            deadlines: BTreeSet::new(),
            planned: Vec::new(),
            loss: 0.0,
            latency_ns: 500_000..2 * MS,
            distance_ns: |_, _| 0,
            cut: BTreeSet::new(),
            has_streams: true,
            mirror_checks: false,
            streams: 0,
        }
    }

    /// A formed cluster of `count`, all joined through the first, and calm.
    pub fn formed(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed);
        world.mirror_checks = count <= 16;
        world.form(count);
        world
    }

    pub fn form(&mut self, count: usize) {
        for _ in 0..count {
            let agent = self.start();
            if agent > 0 {
                let seed = self.agents[0].addr;
                self.agents[agent].membership.set_seeds(vec![seed]);
                self.plan(agent);
            }
        }
        let whole = self.run_until(60 * SECOND, |world| world.is_whole());
        assert!(whole.is_some(), "{count} agents do not find each other");
        self.run(5 * SECOND);
        self.forget_events();
    }

    pub fn addr(index: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 7_000))
    }

    /// A new agent with an address of its own, knowing nobody.
    pub fn start(&mut self) -> usize {
        let node = NodeId(self.rng.random());
        let addr = Self::addr(self.agents.len());
        self.start_as(node, addr, 1)
    }

    pub fn start_as(&mut self, node: NodeId, addr: SocketAddr, generation: u32) -> usize {
        let me = Me { node, addr, generation, boot: self.rng.random() };
        let index = self.agents.len();
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let membership = Membership::new(self.config.clone(), me, seed, Now { ns: 0, wall_ms: 0 });
        self.agents.push(Agent {
            membership,
            addr,
            is_dead: false,
            is_paused: false,
            socket: VecDeque::new(),
            started_ns: self.now,
            events: Vec::new(),
            bytes_received: 0,
            coordinates_received: 0,
        });
        self.by_addr.insert(addr, index);
        self.planned.push(None);
        self.plan(index);
        index
    }

    pub fn node(&self, agent: usize) -> NodeId {
        self.agents[agent].membership.me().node
    }

    pub fn clock(&self, agent: usize) -> Now {
        Now { ns: self.now - self.agents[agent].started_ns, wall_ms: self.now / MS }
    }

    /// Does something with an agent, and carries out what follows from it.
    pub fn with_agent<R>(&mut self, agent: usize, act: impl FnOnce(&mut Membership, Now) -> R) -> R {
        let now = self.clock(agent);
        let result = act(&mut self.agents[agent].membership, now);
        self.drain(agent);
        result
    }

    fn drain(&mut self, agent: usize) {
        while let Some(effect) = self.agents[agent].membership.poll() {
            match effect {
                Effect::Send { to, body, coordinate } => self.transmit(agent, to, body, coordinate),
                Effect::Event(event) => {
                    self.agents[agent].events.push((self.now, event));
                    if let Event::NeedState { addr, .. } = event
                        && self.has_streams
                    {
                        self.exchange(agent, addr);
                    }
                }
            }
        }
        self.plan(agent);
    }

    pub fn plan(&mut self, agent: usize) {
        if let Some(at) = self.planned[agent].take() {
            self.deadlines.remove(&(at, agent));
        }
        let state = &self.agents[agent];
        if state.is_dead || state.is_paused {
            return;
        }
        if let Some(at) = state.membership.deadline() {
            let at = at.saturating_add(state.started_ns).max(self.now);
            self.planned[agent] = Some(at);
            self.deadlines.insert((at, agent));
        }
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, body: Bytes, coordinate: Option<Coordinate>) {
        assert!(body.len() <= self.config.packet_bytes_max, "a packet of {} bytes", body.len());
        if self.rng.random_bool(self.loss) {
            return;
        }
        let Some(&target) = self.by_addr.get(&to) else { return };
        if self.cut.contains(&(from, target)) {
            return;
        }
        let at = self.now + self.rng.random_range(self.latency_ns.clone()) + (self.distance_ns)(from, target);
        self.packet_count += 1;
        self.packets.insert((at, self.packet_count), (self.agents[from].addr, to, body, coordinate));
    }

    fn exchange(&mut self, agent: usize, addr: SocketAddr) {
        let Some(&peer) = self.by_addr.get(&addr) else { return };
        if self.agents[peer].is_dead || self.agents[peer].is_paused || self.cut.contains(&(agent, peer)) || peer == agent {
            return;
        }
        self.streams += 1;
        let theirs = self.agents[peer].membership.state_pages(16_384);
        let ours = self.agents[agent].membership.state_pages(16_384);
        for (to, pages) in [(agent, theirs), (peer, ours)] {
            for page in pages {
                assert!(page.len() <= 16_384);
                let now = self.clock(to);
                self.agents[to].membership.apply_state(now, &page).expect("own pages decode");
            }
            self.drain(to);
        }
    }

    /// Changes one byte of each packet that is on its way.
    pub fn mutate_packets(&mut self, at: usize, to: u8) {
        for (_, _, body, _) in self.packets.values_mut() {
            let mut bytes = body.to_vec();
            let len = bytes.len();
            bytes[at % len] = to;
            *body = bytes.into();
        }
    }

    /// One event. Returns false if nothing is left before `until`.
    fn step(&mut self, until: u64) -> bool {
        let packet = self.packets.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let timer = self.deadlines.first().map_or(u64::MAX, |(at, _)| *at);
        if packet.min(timer) > until {
            self.now = until;
            return false;
        }
        if packet <= timer {
            let ((at, _), (from, to, body, coordinate)) = self.packets.pop_first().expect("its key was read");
            self.now = at;
            let target = self.by_addr[&to];
            let agent = &mut self.agents[target];
            if agent.is_dead {
                return true;
            }
            if agent.is_paused {
                if agent.socket.len() < SOCKET_PACKETS_MAX {
                    agent.socket.push_back((from, body, coordinate));
                }
                return true;
            }
            self.receive(target, from, &body, coordinate);
        } else {
            let (at, agent) = *self.deadlines.first().expect("its key was read");
            self.now = at;
            let now = self.clock(agent);
            self.agents[agent].membership.handle_timeout(now);
            self.drain(agent);
        }
        true
    }

    fn receive(&mut self, target: usize, from: SocketAddr, body: &[u8], coordinate: Option<Coordinate>) {
        let now = self.clock(target);
        let sender = self.node(self.by_addr[&from]);
        let agent = &mut self.agents[target];
        agent.bytes_received += body.len() as u64 + OVERHEAD;
        if let Some(coordinate) = coordinate {
            agent.coordinates_received += 1;
            agent.membership.hear_coordinate(now, sender, coordinate);
        }
        let _refused = agent.membership.handle_packet(now, from, body);
        self.drain(target);
    }

    pub fn run(&mut self, duration: u64) {
        let until = self.now + duration;
        while self.step(until) {}
        if self.mirror_checks {
            for agent in &self.agents {
                agent.membership.assert_mirrors_foca();
            }
        }
    }

    /// Runs until the condition holds; how long that took, or None after `limit`.
    pub fn run_until(&mut self, limit: u64, condition: impl Fn(&Self) -> bool) -> Option<u64> {
        let start = self.now;
        while self.now < start + limit {
            self.run(10 * MS);
            if condition(self) {
                return Some(self.now - start);
            }
        }
        None
    }

    pub fn kill(&mut self, agent: usize) {
        self.agents[agent].is_dead = true;
        self.plan(agent);
    }

    pub fn pause(&mut self, agent: usize) {
        self.agents[agent].is_paused = true;
        self.plan(agent);
    }

    /// It finds what its socket kept, and then that its timers are late.
    pub fn resume(&mut self, agent: usize) {
        self.agents[agent].is_paused = false;
        while let Some((from, body, coordinate)) = self.agents[agent].socket.pop_front() {
            self.receive(agent, from, &body, coordinate);
        }
        self.plan(agent);
    }

    pub fn cut_one_way(&mut self, from: &[usize], to: &[usize]) {
        for &a in from {
            self.cut.extend(to.iter().map(|&b| (a, b)));
        }
    }

    pub fn split(&mut self, left: &[usize], right: &[usize]) {
        self.cut_one_way(left, right);
        self.cut_one_way(right, left);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.agents.len()).filter(|agent| !self.agents[*agent].is_dead && !self.agents[*agent].is_paused)
    }

    pub fn sees_alive(&self, viewer: usize, other: usize) -> bool {
        self.agents[viewer].membership.member(self.node(other)).is_some_and(|member| member.state == MemberState::Alive)
    }

    pub fn sees_up(&self, viewer: usize, other: usize) -> bool {
        self.agents[viewer].membership.member(self.node(other)).is_some_and(|member| member.is_up())
    }

    /// Every living agent holds exactly the living ones alive.
    pub fn is_whole(&self) -> bool {
        let living: Vec<usize> = self.living().collect();
        living.iter().all(|&a| self.agents[a].membership.alive() == living.len() && living.iter().all(|&b| a == b || self.sees_alive(a, b)))
    }

    pub fn is_gone_everywhere(&self, node: NodeId) -> bool {
        self.living().all(|viewer| self.agents[viewer].membership.member(node).is_none_or(|member| !member.is_up()))
    }

    pub fn forget_events(&mut self) {
        for agent in &mut self.agents {
            agent.events.clear();
        }
    }

    pub fn count(&self, agent: usize, wanted: impl Fn(&Event) -> bool) -> usize {
        self.agents[agent].events.iter().filter(|(_, event)| wanted(event)).count()
    }

    pub fn renewals(&self) -> Vec<u64> {
        self.agents.iter().map(|agent| agent.membership.counters.renewals).collect()
    }
}
