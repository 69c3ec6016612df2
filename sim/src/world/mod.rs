//! The world: hosts with processes, disks and clocks on one network, driven event by event in virtual time.
//!
//! It takes no decision of the protocol: it hands inputs to machines and carries their outputs, as the shell does with real sockets and
//! files. What runs on the hosts is a [`Machine`]: the engine of tidings, or what an experiment compares it with.
//!
//! ```text
//! queue ──event──▶ World::step ──Input──▶ machine ──Output──▶ network, streams, disk ──event──▶ queue
//!                        └──Note──▶ the run: workload, faults, checkers
//! ```

mod carriage;
pub mod clock;
pub mod disk;
mod fold;
mod host;
pub mod network;
mod process;
mod queue;
mod streams;
pub mod trace;

#[cfg(test)]
mod tests;

pub use host::{Freeze, Host, HostId, Process, Traffic};

use crate::rng::Rng;
use bytes::Bytes;
use clock::Clock;
use disk::Disk;
use fold::Fold;
use network::{Conditions, Network};
use queue::{Event, Queue};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use streams::Streams;
use tidings::engine::catalog::copy::Copied;
use tidings::engine::io::{Input, Output, Restored, StoreOp, Token};
use tidings::model::command::{Refusal, Reply};
use tidings::model::time::Now;
use tidings::view::View;
use trace::Trace;

/// The port that all agents gossip on.
pub const GOSSIP_PORT: u16 = 7946;
/// The port on which gateways hear other datacenters.
pub const WAN_PORT: u16 = 7947;
/// Payloads above this are dropped on the way: what an Ethernet frame leaves to a datagram.
pub const MTU_PAYLOAD_BYTES: usize = 1_472;

/// A process as the world sees it.
pub trait Machine: Sized {
    type Config: Clone;
    fn start(config: &Self::Config, boot: Boot) -> Self;
    fn handle(&mut self, now: Now, input: Input);
    fn poll(&mut self) -> Option<Output>;
    /// When it wants [`Input::Tick`], on its own monotonic clock.
    fn deadline(&self) -> Option<u64>;
    /// What it knows of others, as the shell copies it to the disk beside the store.
    fn copies(&self) -> Vec<Copied> {
        Vec::new()
    }
}

/// Which of a host's two sockets a packet or a stream comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Lan,
    Wan,
}

impl Door {
    fn of(address: SocketAddr) -> Self {
        if address.port() == WAN_PORT { Door::Wan } else { Door::Lan }
    }
}

/// A host's WAN address, by its address.
pub fn wan_of(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), WAN_PORT)
}

/// What a process finds when it starts.
pub struct Boot {
    pub address: SocketAddr,
    pub restored: Restored,
    pub seed: [u8; 32],
    pub now: Now,
}

/// What the run has to know of a step.
#[derive(Debug)]
pub enum Note {
    Started {
        host: HostId,
    },
    /// The machine has handled an input and is at rest.
    Handled {
        host: HostId,
    },
    Reply {
        host: HostId,
        token: Token,
        outcome: Result<Reply, Refusal>,
    },
    View {
        host: HostId,
        view: Arc<View>,
    },
    /// Handed to the disk, not yet durable.
    Persisted {
        host: HostId,
        ops: Vec<StoreOp>,
    },
    Sent {
        host: HostId,
        to: SocketAddr,
        bytes: Bytes,
    },
    Received {
        host: HostId,
        from: SocketAddr,
        bytes: Bytes,
    },
    /// The agent has left; its process is over.
    Stopped {
        host: HostId,
    },
    /// The machine asks again and again to be woken at one and the same instant.
    Spinning {
        host: HostId,
    },
    /// An entry of the agenda is due.
    Due(u64),
}

pub struct World<M: Machine> {
    now: u64,
    queue: Queue,
    hosts: Vec<Host<M>>,
    configs: Vec<M::Config>,
    by_address: BTreeMap<SocketAddr, HostId>,
    pub network: Network,
    streams: Streams,
    notes: VecDeque<Note>,
    /// Whether packets are noted: only few runs read them.
    pub notes_packets: bool,
    fold: Fold,
    seed: u64,
    events: u64,
}

impl<M: Machine> World<M> {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            now: 0,
            queue: Queue::default(),
            hosts: Vec::new(),
            configs: Vec::new(),
            by_address: BTreeMap::new(),
            network: Network::new(seed, conditions),
            streams: Streams::default(),
            notes: VecDeque::new(),
            notes_packets: false,
            fold: Fold::default(),
            seed,
            events: 0,
        }
    }

    /// True time in nanoseconds since the world began.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The hash of all that has happened: equal seeds give equal ones.
    pub fn hash(&self) -> u64 {
        self.fold.0
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn host_ids(&self) -> impl Iterator<Item = HostId> + use<M> {
        (0..self.hosts.len() as u32).map(HostId)
    }

    pub fn host(&self, host: HostId) -> &Host<M> {
        &self.hosts[host.index()]
    }

    pub fn host_mut(&mut self, host: HostId) -> &mut Host<M> {
        &mut self.hosts[host.index()]
    }

    pub fn machine(&self, host: HostId) -> Option<&M> {
        self.host(host).machine()
    }

    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    pub fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        self.by_address.get(&address).copied()
    }

    /// The address that a host of that number has unless it moves.
    pub fn address_of(number: u32) -> SocketAddr {
        let [_, high, middle, low] = (number + 1).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, high, middle, low)), GOSSIP_PORT)
    }

    /// Adds a host with an empty disk and no process.
    pub fn add_host(&mut self, zone: u16, clock: Clock, config: M::Config) -> HostId {
        let id = HostId(self.hosts.len() as u32);
        let address = Self::address_of(id.0);
        self.by_address.insert(address, id);
        self.by_address.insert(wan_of(address), id);
        self.network.add_host(zone);
        self.configs.push(config);
        self.hosts.push(Host {
            address,
            clock,
            disk: Disk::new(Rng::new(self.seed, "disk", u64::from(id.0))),
            process: None,
            boot: 0,
            frozen: None,
            waiting: VecDeque::new(),
            datagrams_waiting: 0,
            held_back: Vec::new(),
            wake_at: None,
            woken_at: 0,
            wakes_now: 0,
            streams_accepted: 0,
            traffic: Traffic::default(),
            certificate: None,
            trace: Trace::default(),
            seeds: Rng::new(self.seed, "process", u64::from(id.0)),
        });
        id
    }

    pub fn config(&self, host: HostId) -> &M::Config {
        &self.configs[host.index()]
    }

    pub fn config_mut(&mut self, host: HostId) -> &mut M::Config {
        &mut self.configs[host.index()]
    }

    /// Gives a host another address; what is on its way to the old one is lost.
    pub fn readdress(&mut self, host: HostId, address: SocketAddr) {
        let old = std::mem::replace(&mut self.host_mut(host).address, address);
        for (old, new) in [(old, address), (wan_of(old), wan_of(address))] {
            self.by_address.remove(&old);
            self.by_address.insert(new, host);
        }
    }

    /// Puts an entry on the agenda.
    pub fn call_at(&mut self, at: u64, entry: u64) {
        self.queue.push(at.max(self.now), Event::Due(entry));
    }

    pub fn next_at(&self) -> Option<u64> {
        self.queue.next_at()
    }

    pub fn note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Lets time pass to `at` where nothing is due before.
    pub fn idle_until(&mut self, at: u64) {
        debug_assert!(self.next_at().is_none_or(|next| next >= at), "something is due before");
        self.now = self.now.max(at);
    }

    /// Lets the next event happen; false where there is none.
    pub fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        debug_assert!(at >= self.now, "time goes forward");
        self.now = at;
        self.events += 1;
        crate::log::set_now(at);
        match event {
            Event::Wake { host, boot } => self.wake(host, boot),
            Event::Datagram { to, door, from, bytes } => self.arrive(to, door, from, bytes),
            Event::Dial { connection } => self.dial(connection),
            Event::Flow { connection, side } => self.flow(connection, side),
            Event::Drained { connection, side } => self.drained(connection, side),
            Event::Synced { host, boot } => self.synced(host, boot),
            Event::Found { host, boot, input, ns } => {
                if self.host(host).boot == boot {
                    self.deliver_as_of(host, input, ns);
                }
            }
            Event::Due(entry) => self.notes.push_back(Note::Due(entry)),
        }
        true
    }
}
