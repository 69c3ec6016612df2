//! Agents on a perfect network with a millisecond of delay, disks that need two, and datacenters 25 ms from each other.

use crate::engine::Engine;
use crate::engine::config::{EngineConfig, ExportPolicy, GatewayConfig, NodeConfig};
use crate::engine::io::{Input, Mark, Output, Restored, StreamId, Token};
use crate::engine::wan::imports::Import;
use crate::model::command::{Command, Refusal, Reply};
use crate::model::names::{Datacenter, NodeName};
use crate::model::time::Now;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

const DELAY_NS: u64 = 1_000_000;
const WAN_DELAY_NS: u64 = 25_000_000;
const FSYNC_NS: u64 = 2_000_000;
const WALL_MS: u64 = 1_790_000_000_000;

struct Host {
    engine: Engine,
    view: Option<Arc<View>>,
    is_alive: bool,
    has_stopped: bool,
    datacenter: String,
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
    /// Datacenters that reach no other.
    cut: BTreeSet<String>,
    /// Hosts that reach no other in their own datacenter, but each other.
    split: BTreeSet<usize>,
    /// Of a hundred datagrams between datacenters, so many are lost.
    pub wan_loss: u64,
    /// What certificates of gateways say, where it is not what they should.
    pub certificate: Option<&'static str>,
    sent: u64,
    configs: Vec<EngineConfig>,
    pub wan_bytes: u64,
    /// What of them went on streams.
    pub link_bytes: u64,
}

fn addr(host: usize) -> SocketAddr {
    ([10, 0, 0, host as u8 + 1], 7976).into()
}

fn config(host: usize, datacenter: &str) -> EngineConfig {
    let node = NodeConfig {
        name: NodeName::new(&format!("n{host}")).unwrap(),
        datacenter: Datacenter::new(datacenter).unwrap(),
        zone: None,
        advertise: addr(host),
        http_port: None,
        dns_port: None,
        version: "test".into(),
        metadata: Vec::new(),
    };
    EngineConfig { keys: vec![[7; 32]], ..EngineConfig::lan(node) }
}

fn called(site: &str) -> &str {
    site.split('~').next().unwrap_or(site)
}

fn wan_addr(host: usize) -> SocketAddr {
    ([192, 0, 2, host as u8 + 1], 7977).into()
}

/// One datacenter: its gateways, which come first, and its other agents. What follows a `~` in its name is for the test: its agents go
/// without.
#[derive(Clone)]
pub struct Site {
    pub name: &'static str,
    pub gateways: usize,
    pub others: usize,
    pub export: ExportPolicy,
}

impl Net {
    /// Datacenters that start now; each host's index follows the order given. Gateways know the first gateway of all.
    pub fn of_datacenters(sites: &[Site]) -> Self {
        let mut net = Self::new(0);
        for site in sites {
            let first = net.hosts.len();
            for at in 0..site.gateways + site.others {
                let host = net.hosts.len();
                let mut config = config(host, called(site.name));
                config.gateway = (at < site.gateways).then(|| GatewayConfig {
                    keys: vec![[8; 32]],
                    export: site.export.clone(),
                    ..GatewayConfig::wan("test", wan_addr(host))
                });
                net.start(host, config);
                net.hosts[host].datacenter = site.name.into();
                net.post(host, 0, Input::Command { token: Token(0), command: Command::SetSeeds(vec![addr(first)]) });
                net.post(host, 0, Input::Command { token: Token(0), command: Command::Join(vec![addr(first)]) });
                if at < site.gateways {
                    net.post(host, 0, Input::Command { token: Token(0), command: Command::SetWanSeeds(vec![wan_addr(0)]) });
                    net.post(host, 0, Input::Command { token: Token(0), command: Command::JoinWan(vec![wan_addr(0)]) });
                }
            }
        }
        net
    }

    /// Cuts a datacenter off from all others; streams stand and carry nothing.
    pub fn set_silent(&mut self, datacenter: &str) {
        self.cut.insert(datacenter.into());
    }

    /// Cuts a datacenter off from all others, or links it again.
    pub fn set_cut(&mut self, datacenter: &str, is_cut: bool) {
        if is_cut {
            self.cut.insert(datacenter.into());
            self.break_streams();
        } else {
            self.cut.remove(datacenter);
        }
    }

    fn break_streams(&mut self) {
        let crosses = |net: &Self, host: usize, peer: usize| !net.reaches(host, peer);
        let broken: Vec<(usize, StreamId)> =
            self.streams.iter().filter(|((host, _), (peer, _))| crosses(self, *host, *peer)).map(|(end, _)| *end).collect();
        for (host, stream) in broken {
            self.streams.remove(&(host, stream));
            self.post(host, DELAY_NS, Input::StreamClosed { stream });
        }
    }

    /// Splits a datacenter: these hosts from its others; none heals.
    pub fn split(&mut self, hosts: &[usize]) {
        self.split = hosts.iter().copied().collect();
        self.break_streams();
    }

    /// A process begins anew, on an empty disk and under its old name, told otherwise what to export.
    pub fn restart(&mut self, host: usize, change: impl FnOnce(&mut EngineConfig)) {
        self.restart_as(host, [host as u8 + 1; 32], change);
    }

    /// The same by another seed: with another node id.
    pub fn restart_as(&mut self, host: usize, seed: [u8; 32], change: impl FnOnce(&mut EngineConfig)) {
        self.kill(host);
        let mut config = self.configs[host].clone();
        change(&mut config);
        self.hosts[host].engine = Engine::new(config.clone(), Restored::default(), seed, self.now());
        self.hosts[host].is_alive = true;
        self.configs[host] = config;
        self.drain(host);
        let seeds: Vec<SocketAddr> = (0..self.hosts.len()).filter(|peer| self.is_one_site(host, *peer)).map(addr).collect();
        self.post(host, 0, Input::Command { token: Token(0), command: Command::SetSeeds(seeds) });
        let pool: Vec<SocketAddr> = (0..self.hosts.len()).filter(|peer| self.configs[*peer].gateway.is_some()).map(wan_addr).collect();
        self.post(host, 0, Input::Command { token: Token(0), command: Command::SetWanSeeds(pool) });
    }

    fn is_one_site(&self, host: usize, peer: usize) -> bool {
        self.hosts[host].datacenter == self.hosts[peer].datacenter
    }

    fn is_lost(&mut self) -> bool {
        self.sent += 1;
        // Spread over a hundred without a pattern that probes could fall in with.
        self.sent.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xffff < self.wan_loss * 65_536 / 100
    }

    /// Gateways reach each other beside a split of their own datacenter.
    fn wan_reaches(&self, host: usize, peer: usize) -> bool {
        self.is_one_site(host, peer) || self.reaches(host, peer)
    }

    fn reaches(&self, host: usize, peer: usize) -> bool {
        let (here, there) = (&self.hosts[host].datacenter, &self.hosts[peer].datacenter);
        if here == there {
            return self.split.contains(&host) == self.split.contains(&peer);
        }
        !self.cut.contains(here) && !self.cut.contains(there)
    }

    fn start(&mut self, host: usize, config: EngineConfig) {
        let datacenter = config.node.datacenter.to_string();
        self.configs.push(config.clone());
        let engine = Engine::new(config, Restored::default(), [host as u8 + 1; 32], self.now());
        self.hosts.push(Host { engine, view: None, is_alive: true, has_stopped: false, datacenter });
        self.drain(host);
    }

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
            cut: BTreeSet::new(),
            split: BTreeSet::new(),
            wan_loss: 0,
            certificate: None,
            sent: 0,
            configs: Vec::new(),
            wan_bytes: 0,
            link_bytes: 0,
        };
        for host in 0..count {
            net.start(host, config(host, "dc1"));
        }
        for host in 1..count {
            net.post(host, 0, Input::Command { token: Token(0), command: Command::SetSeeds(vec![addr(0)]) });
            net.post(host, 0, Input::Command { token: Token(0), command: Command::Join(vec![addr(0)]) });
        }
        net
    }

    pub fn wall_ms(&self) -> u64 {
        self.now().wall_ms
    }

    pub fn engine(&self, host: usize) -> &Engine {
        &self.hosts[host].engine
    }

    /// What a host keeps of another datacenter, and the time, for words that no link says.
    pub fn import(&mut self, host: usize, datacenter: &str) -> (Now, &mut Import) {
        let (now, name) = (self.now(), Datacenter::new(datacenter).expect("a name"));
        (now, self.hosts[host].engine.imports.find(&name).expect("it is known"))
    }

    pub fn view(&self, host: usize) -> &View {
        self.hosts[host].view.as_deref().expect("every agent publishes a view when it starts")
    }

    pub fn available(&self, host: usize, service: &str) -> usize {
        self.view(host).service("default", service).map_or(0, |service| service.available().count())
    }

    pub fn is_alive(&self, host: usize) -> bool {
        self.hosts[host].is_alive
    }

    pub fn has_stopped(&self, host: usize) -> bool {
        self.hosts[host].has_stopped
    }

    pub fn kill(&mut self, host: usize) {
        self.hosts[host].is_alive = false;
        let ends: Vec<_> = self.streams.iter().filter(|((at, _), _)| *at == host).map(|(end, peer)| (*end, *peer)).collect();
        for (end, (peer, stream)) in ends {
            self.streams.remove(&end);
            self.streams.remove(&(peer, stream));
            self.post(peer, DELAY_NS, Input::StreamClosed { stream });
        }
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
                    if let Some(peer) = self.host_at(to).filter(|peer| self.reaches(host, *peer)) {
                        self.post(peer, DELAY_NS, Input::Datagram { from: addr(host), bytes });
                    }
                }
                Output::OpenStream { stream, to } => self.open(host, stream, to),
                Output::StreamBytes { stream, bytes } => {
                    if let Some(&(peer, theirs)) = self.streams.get(&(host, stream)).filter(|(peer, _)| self.reaches(host, *peer)) {
                        let is_far = self.hosts[host].datacenter != self.hosts[peer].datacenter;
                        let far_bytes = if is_far { bytes.len() as u64 } else { 0 };
                        self.wan_bytes += far_bytes;
                        self.link_bytes += far_bytes;
                        self.post(peer, if is_far { WAN_DELAY_NS } else { DELAY_NS }, Input::StreamBytes { stream: theirs, bytes });
                        self.post(host, DELAY_NS, Input::StreamDrained { stream });
                    }
                }
                Output::CloseStream { stream } => {
                    if let Some((peer, theirs)) = self.streams.remove(&(host, stream)).filter(|(peer, _)| self.reaches(host, *peer)) {
                        self.post(peer, DELAY_NS, Input::StreamClosed { stream: theirs });
                    }
                }
                Output::Reply { token, outcome } => {
                    self.replies.insert(token, outcome);
                }
                Output::View(view) => self.hosts[host].view = Some(view),
                Output::Persist { mark, .. } => self.post(host, FSYNC_NS, Input::Durable { mark: Mark(mark.0) }),
                Output::WanDatagram { to, bytes } => {
                    self.wan_bytes += bytes.len() as u64;
                    let peer = (0..self.hosts.len()).find(|peer| wan_addr(*peer) == to).filter(|peer| self.wan_reaches(host, *peer));
                    let is_lost = self.is_lost();
                    if let Some(peer) = peer.filter(|_| !is_lost) {
                        self.post(peer, WAN_DELAY_NS, Input::WanDatagram { from: wan_addr(host), bytes });
                    }
                }
                Output::OpenWanStream { stream, to, datacenter } => self.open_wan(host, stream, to, datacenter.as_str()),
                Output::Stopped => (self.hosts[host].has_stopped, self.hosts[host].is_alive) = (true, false),
            }
        }
    }

    fn open(&mut self, host: usize, stream: StreamId, to: SocketAddr) {
        match self.host_at(to).filter(|peer| self.hosts[*peer].is_alive && self.reaches(host, *peer)) {
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

    fn open_wan(&mut self, host: usize, stream: StreamId, to: SocketAddr, datacenter: &str) {
        let peer = (0..self.hosts.len()).find(|peer| wan_addr(*peer) == to);
        match peer
            .filter(|peer| self.hosts[*peer].is_alive && self.reaches(host, *peer) && called(&self.hosts[*peer].datacenter) == datacenter)
        {
            Some(peer) => {
                let datacenter = self.certificate.map(|name| Datacenter::new(name).unwrap());
                self.accepted += 2;
                let theirs = StreamId(self.accepted);
                self.streams.insert((host, stream), (peer, theirs));
                self.streams.insert((peer, theirs), (host, stream));
                self.post(peer, WAN_DELAY_NS, Input::WanStreamAccepted { stream: theirs, peer: wan_addr(host), datacenter });
                self.post(host, 2 * WAN_DELAY_NS, Input::StreamConnected { stream });
            }
            None => self.post(host, WAN_DELAY_NS, Input::StreamClosed { stream }),
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
