//! The world: hosts with processes, disks and clocks on one network, driven event by event in virtual time.
//!
//! It takes no decision of the protocol: it hands inputs to machines and carries their outputs, as the shell does with real sockets and
//! files. What runs on the hosts is a [`Machine`]: the engine of tidings, or what an experiment compares it with.
//!
//! ```text
//! queue ──event──▶ World::step ──Input──▶ machine ──Output──▶ network, streams, disk ──event──▶ queue
//!                        └──Note──▶ the run: workload, faults, checkers
//! ```

pub mod clock;
pub mod disk;
mod host;
pub mod network;
mod queue;
mod streams;
pub mod trace;

#[cfg(test)]
mod tests;

pub use host::{Freeze, Host, HostId, Process, Traffic};

use crate::rng::Rng;
use bytes::Bytes;
use clock::Clock;
use disk::{Disk, DiskFate, Synced};
use host::RECEIVE_BUFFER_DATAGRAMS_MAX;
use network::{Conditions, Network};
use queue::{Event, Queue};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use streams::{Chunk, RETRY_NS, STALL_NS_MAX, Streams};
use tidings::engine::io::{Input, Mark, Output, Restored, StoreOp, StreamId, Token};
use tidings::model::command::{Command, Refusal, Reply};
use tidings::model::time::Now;
use tidings::view::View;
use trace::{Happening, Trace};

/// The port that all agents gossip on.
pub const GOSSIP_PORT: u16 = 7946;
/// Payloads above this are dropped on the way: what an Ethernet frame leaves to a datagram.
pub const MTU_PAYLOAD_BYTES: usize = 1_472;

/// A process whose timers are later than this has stood still, as its shell sees it.
const STALL_NS: u64 = 100_000_000;
/// How often what was written to a connection that does not stand yet looks whether it does.
const HANDSHAKE_NS: u64 = 1_000_000;
/// A machine with long work may ask for another turn at once, but not this often without time going on.
const WAKES_AN_INSTANT_MAX: u32 = 100_000;

/// A process as the world sees it.
pub trait Machine: Sized {
    type Config: Clone;
    fn start(config: &Self::Config, boot: Boot) -> Self;
    fn handle(&mut self, now: Now, input: Input);
    fn poll(&mut self) -> Option<Output>;
    /// When it wants [`Input::Tick`], on its own monotonic clock.
    fn deadline(&self) -> Option<u64>;
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
        self.by_address.remove(&old);
        self.by_address.insert(address, host);
    }

    /// Starts the host's process, if none runs.
    pub fn start(&mut self, host: HostId) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        if known.is_up() {
            return;
        }
        known.boot += 1;
        let boot =
            Boot { address: known.address, restored: known.disk.durable().clone(), seed: known.seeds.seed(), now: known.clock.now(at, at) };
        known.process = Some(Process { machine: M::start(&self.configs[host.index()], boot), started_at: at, last_ns: 0 });
        known.trace.note(at, Happening::Started);
        self.fold.word(at ^ u64::from(host.0));
        self.notes.push_back(Note::Started { host });
        self.drain(host);
    }

    /// Kills the host's process: its memory and what its kernel held for it are gone.
    pub fn kill(&mut self, host: HostId) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        if known.process.take().is_none() {
            return;
        }
        known.disk.crash(at);
        known.frozen = None;
        known.waiting.clear();
        known.datagrams_waiting = 0;
        known.held_back.clear();
        known.wake_at = None;
        known.trace.note(at, Happening::Killed);
        self.fold.word(at ^ !u64::from(host.0));
        let boot = known.boot;
        for (connection, side) in self.streams.of_process(host, boot) {
            self.hang_up(connection, side);
        }
    }

    /// Changes what a dead process's disk holds.
    pub fn suffer(&mut self, host: HostId, fate: DiskFate) {
        debug_assert!(!self.host(host).is_up(), "a disk changes under no running process");
        self.host_mut(host).disk.suffer(fate);
    }

    pub fn freeze(&mut self, host: HostId, how: Freeze) {
        let at = self.now;
        let known = self.host_mut(host);
        if known.is_up() && known.frozen.is_none() {
            known.frozen = Some(how);
            known.trace.note(at, Happening::Frozen);
        }
    }

    /// Lets a frozen process go on. It does as the shell does: one that finds its timers late empties its socket first, as of before they
    /// were due.
    pub fn thaw(&mut self, host: HostId) {
        let at = self.now;
        let known = self.host_mut(host);
        if known.frozen.take().is_none() {
            return;
        }
        known.trace.note(at, Happening::Thawed);
        known.datagrams_waiting = 0;
        let (boot, clock) = (known.boot, known.clock);
        let held_back = std::mem::take(&mut known.held_back);
        let waiting = std::mem::take(&mut known.waiting);
        let before_timers = known.process.as_ref().and_then(|process| {
            let late_ns = clock.now(process.started_at, at).ns.checked_sub(process.machine.deadline()?)?;
            (late_ns > STALL_NS).then(|| clock.now(process.started_at, at).ns.saturating_sub(late_ns + 1).max(process.last_ns))
        });
        for (to, bytes) in held_back {
            self.send(host, to, bytes);
        }
        let (datagrams, rest): (Vec<Input>, Vec<Input>) = waiting.into_iter().partition(|input| matches!(input, Input::Datagram { .. }));
        for input in datagrams {
            self.queue.push(at, Event::Found { host, boot, input, ns: before_timers });
        }
        for input in rest.into_iter().chain([Input::Tick]) {
            self.queue.push(at, Event::Found { host, boot, input, ns: None });
        }
    }

    /// Hands a command to the host's process, as its clients do; false where none runs.
    pub fn command(&mut self, host: HostId, token: Token, command: Command) -> bool {
        if !self.host(host).is_up() {
            return false;
        }
        self.deliver(host, Input::Command { token, command });
        true
    }

    /// A datagram out of nowhere, as an attacker or a lost cousin sends it.
    pub fn inject(&mut self, to: HostId, from: SocketAddr, bytes: Bytes) {
        self.queue.push(self.now, Event::Datagram { to, from, bytes });
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
            Event::Datagram { to, from, bytes } => self.arrive(to, from, bytes),
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

    fn wake(&mut self, host: HostId, boot: u32) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        if known.boot != boot || known.wake_at != Some(at) {
            return;
        }
        known.wake_at = None;
        known.wakes_now = if known.woken_at == at { known.wakes_now + 1 } else { 1 };
        known.woken_at = at;
        if known.wakes_now > WAKES_AN_INSTANT_MAX {
            return self.notes.push_back(Note::Spinning { host });
        }
        if known.frozen == Some(Freeze::Whole) {
            return; // thawing ticks
        }
        let Some(process) = &known.process else { return };
        let is_due = process.machine.deadline().is_some_and(|ns| known.clock.instant(process.started_at, ns) <= at);
        if is_due {
            self.deliver(host, Input::Tick);
        } else {
            self.set_wake(host);
        }
    }

    fn arrive(&mut self, to: HostId, from: SocketAddr, bytes: Bytes) {
        let at = self.now;
        let known = &mut self.hosts[to.index()];
        known.traffic.datagrams_in += 1;
        known.traffic.bytes_in += bytes.len() as u64;
        if !known.is_up() {
            return;
        }
        if known.frozen.is_some() {
            if known.datagrams_waiting == RECEIVE_BUFFER_DATAGRAMS_MAX {
                known.traffic.overflowed += 1;
                return;
            }
            known.datagrams_waiting += 1;
        }
        known.trace.note(at, Happening::DatagramIn { from, bytes: bytes.len() });
        if self.notes_packets {
            self.notes.push_back(Note::Received { host: to, from, bytes: bytes.clone() });
        }
        self.deliver(to, Input::Datagram { from, bytes });
    }

    fn synced(&mut self, host: HostId, boot: u32) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        if known.boot != boot || !known.is_up() {
            return;
        }
        if known.frozen == Some(Freeze::Whole) {
            // A stopped process hears of it when it goes on; until then the disk rests, too.
            self.queue.push(at + RETRY_NS, Event::Synced { host, boot });
            return;
        }
        let synced = known.disk.synced(at);
        if let Some(took) = known.disk.begin() {
            self.queue.push(at + took, Event::Synced { host, boot });
        }
        let input = match synced {
            Some(Synced::Durable(mark)) => {
                self.hosts[host.index()].trace.note(at, Happening::Durable(mark.0));
                Input::Durable { mark }
            }
            Some(Synced::Failed(mark)) => Input::NotDurable { mark, why: "no space left on device".into() },
            None => return,
        };
        self.deliver(host, input);
    }

    /// Hands an input to a process, or puts it where it waits while the process is frozen.
    fn deliver(&mut self, host: HostId, input: Input) {
        self.deliver_as_of(host, input, None);
    }

    fn deliver_as_of(&mut self, host: HostId, input: Input, ns: Option<u64>) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        match known.frozen {
            Some(Freeze::Whole) => return known.waiting.push_back(input),
            Some(Freeze::Packets) if !matches!(input, Input::Tick | Input::Durable { .. } | Input::NotDurable { .. }) => {
                return known.waiting.push_back(input);
            }
            _ => {}
        }
        let Some(process) = &mut known.process else { return };
        if let Input::Command { command, .. } = &input {
            known.trace.note(at, Happening::Command(summary(command)));
        }
        self.fold.input(at, host, &input);
        let now = known.clock.now(process.started_at, at);
        let now = Now { ns: ns.unwrap_or(now.ns).max(process.last_ns), ..now };
        process.last_ns = now.ns;
        process.machine.handle(now, input);
        self.drain(host);
    }

    fn drain(&mut self, host: HostId) {
        while let Some(output) = self.hosts[host.index()].process.as_mut().and_then(|process| process.machine.poll()) {
            self.carry(host, output);
        }
        self.set_wake(host);
        if self.host(host).is_up() {
            self.notes.push_back(Note::Handled { host });
        }
    }

    fn carry(&mut self, host: HostId, output: Output) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        let boot = known.boot;
        match output {
            Output::Datagram { to, bytes } => {
                known.trace.note(at, Happening::DatagramOut { to, bytes: bytes.len() });
                if known.frozen == Some(Freeze::Packets) {
                    known.held_back.push((to, bytes));
                } else {
                    self.send(host, to, bytes);
                }
            }
            Output::OpenStream { stream, to } => self.open(host, stream, to),
            Output::StreamBytes { stream, bytes } => {
                known.trace.note(at, Happening::StreamOut("bytes", stream.0));
                self.write(host, boot, stream, bytes);
            }
            Output::CloseStream { stream } => {
                known.trace.note(at, Happening::StreamOut("close", stream.0));
                if let Some((connection, side)) = self.streams.find(host, boot, stream) {
                    self.hang_up(connection, side);
                }
            }
            Output::Reply { token, outcome } => {
                let said = match &outcome {
                    Ok(reply) => format!("#{} {reply:?}", token.0),
                    Err(refusal) => format!("#{} refused: {refusal}", token.0),
                };
                known.trace.note(at, Happening::Reply(said));
                self.notes.push_back(Note::Reply { host, token, outcome });
            }
            Output::View(view) => {
                known.trace.note(at, Happening::View);
                self.notes.push_back(Note::View { host, view });
            }
            Output::Persist { mark, ops } => self.persist(host, mark, ops),
            Output::Stopped => {
                known.trace.note(at, Happening::Left);
                self.notes.push_back(Note::Stopped { host });
            }
        }
    }

    fn persist(&mut self, host: HostId, mark: Mark, ops: Vec<StoreOp>) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        known.trace.note(at, Happening::Persist { mark: mark.0, ops: ops.len() });
        self.fold.word(mark.0);
        self.notes.push_back(Note::Persisted { host, ops: ops.clone() });
        if let Some(took) = known.disk.persist(mark, ops) {
            self.queue.push(at + took, Event::Synced { host, boot: known.boot });
        }
    }

    fn send(&mut self, host: HostId, to: SocketAddr, bytes: Bytes) {
        let known = &mut self.hosts[host.index()];
        known.traffic.datagrams_out += 1;
        known.traffic.bytes_out += bytes.len() as u64;
        let from = known.address;
        if self.notes_packets {
            self.notes.push_back(Note::Sent { host, to, bytes: bytes.clone() });
        }
        let Some(&target) = self.by_address.get(&to) else { return };
        if bytes.len() > MTU_PAYLOAD_BYTES {
            return;
        }
        for flight in self.network.send(host, target, bytes).into_iter().flatten() {
            self.queue.push(self.now + flight.delay_ns, Event::Datagram { to: target, from, bytes: flight.bytes });
        }
    }

    fn open(&mut self, host: HostId, stream: StreamId, to: SocketAddr) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        known.trace.note(at, Happening::StreamOut("open", stream.0));
        known.traffic.streams_opened += 1;
        // Nobody at that address: packets to it are lost, as on a real network.
        let target = self.by_address.get(&to).copied().unwrap_or(host);
        let connection = self.streams.dial(at, (host, known.boot, stream), target);
        if target == host {
            let arrives = self.line_up(connection, 0, at + STALL_NS_MAX, Chunk::Closed);
            debug_assert!(arrives.is_some(), "the connection was just made");
            return;
        }
        let delay = self.network.segment_delay(host, target);
        self.queue.push(at + delay, Event::Dial { connection });
    }

    fn dial(&mut self, connection: u64) {
        let at = self.now;
        let Some(known) = self.streams.connection(connection) else { return };
        let (from, to) = (known.ends[0].host, known.ends[1].host);
        if !(self.network.reaches(from, to) && self.network.reaches(to, from)) {
            if at - known.dialled_at < STALL_NS_MAX {
                self.queue.push(at + 1_000_000_000, Event::Dial { connection });
            } else {
                self.line_up(connection, 0, at, Chunk::Closed);
            }
            return;
        }
        let back = at + self.network.segment_delay(to, from);
        let target = &mut self.hosts[to.index()];
        if !target.is_up() {
            self.line_up(connection, 0, back, Chunk::Closed);
            return;
        }
        target.streams_accepted += 2;
        let (boot, id) = (target.boot, StreamId(target.streams_accepted));
        target.trace.note(at, Happening::StreamIn("accepted", id.0));
        self.streams.accepted(connection, boot, id);
        self.line_up(connection, 0, back, Chunk::Connected);
        let peer = self.hosts[from.index()].address;
        self.deliver(to, Input::StreamAccepted { stream: id, peer: SocketAddr::new(peer.ip(), 40_000 + (connection % 20_000) as u16) });
    }

    fn write(&mut self, host: HostId, boot: u32, stream: StreamId, mut bytes: Bytes) {
        let at = self.now;
        let Some((connection, side)) = self.streams.find(host, boot, stream) else { return };
        self.hosts[host.index()].traffic.stream_bytes_out += bytes.len() as u64;
        let (segment, speed) = (self.streams.segment_bytes(), self.streams.bytes_a_second);
        while !bytes.is_empty() {
            let piece = bytes.split_to(segment.min(bytes.len()));
            let Some(known) = self.streams.connection(connection) else { return };
            let far = known.ends[1 - side].host;
            let left_at = known.ends[side].write(at, piece.len(), speed);
            if !std::mem::replace(&mut known.ends[side].is_drain_due, true) {
                self.queue.push(left_at, Event::Drained { connection, side });
            }
            let delay = self.network.segment_delay(host, far);
            self.line_up(connection, 1 - side, left_at + delay, Chunk::Bytes(piece));
        }
    }

    /// Whether bulk takes longer than it should.
    pub fn has_slow_streams(&self) -> bool {
        self.streams.bytes_a_second < streams::BYTES_A_SECOND
    }

    /// Sets what each stream carries in one direction.
    pub fn set_stream_speed(&mut self, bytes_a_second: u64) {
        self.streams.bytes_a_second = bytes_a_second;
    }

    fn drained(&mut self, connection: u64, side: usize) {
        let Some(known) = self.streams.connection(connection) else { return };
        let end = &mut known.ends[side];
        if end.written_at > self.now {
            return self.queue.push(end.written_at, Event::Drained { connection, side });
        }
        end.is_drain_due = false;
        if let (false, Some(stream), host) = (end.is_closed, end.id, end.host) {
            self.deliver(host, Input::StreamDrained { stream });
        }
    }

    /// Ends a connection from one side: the other hears of it after what was written before.
    fn hang_up(&mut self, connection: u64, side: usize) {
        let Some(known) = self.streams.connection(connection) else { return };
        let (near, far) = (known.ends[side].host, known.ends[1 - side].host);
        let left_at = known.ends[side].written_at.max(self.now);
        let far_is_named = known.ends[1 - side].id.is_some();
        let delay = self.network.segment_delay(near, far);
        if far_is_named {
            self.line_up(connection, 1 - side, left_at + delay, Chunk::Closed);
        } else {
            self.streams.close(connection, 1 - side);
        }
        self.streams.close(connection, side);
    }

    fn line_up(&mut self, connection: u64, side: usize, arrives_at: u64, chunk: Chunk) -> Option<u64> {
        let at = self.streams.connection(connection)?.ends[side].line_up(arrives_at, chunk);
        self.queue.push(at, Event::Flow { connection, side });
        Some(at)
    }

    fn flow(&mut self, connection: u64, side: usize) {
        let at = self.now;
        let Some(known) = self.streams.connection(connection) else { return };
        let (near, far) = (known.ends[side].host, known.ends[1 - side].host);
        let end = &mut known.ends[side];
        let reaches = self.network.reaches(far, near) || far == near;
        let Some(stream) = end.id else {
            // Written before the connection stood: it waits for that.
            return self.queue.push(at + HANDSHAKE_NS, Event::Flow { connection, side });
        };
        if !reaches && !end.stall(at) {
            return self.queue.push(at + RETRY_NS, Event::Flow { connection, side });
        }
        let chunk = if reaches { end.take() } else { Some(Chunk::Closed) };
        if end.is_closed {
            return;
        }
        let (input, what) = match chunk {
            None => return,
            Some(Chunk::Connected) => (Input::StreamConnected { stream }, "connected"),
            Some(Chunk::Bytes(bytes)) => (Input::StreamBytes { stream, bytes }, "bytes"),
            Some(Chunk::Closed) => {
                if !reaches {
                    self.hang_up(connection, side);
                } else {
                    self.streams.close(connection, 1 - side);
                    self.streams.close(connection, side);
                }
                (Input::StreamClosed { stream }, "closed")
            }
        };
        self.hosts[near.index()].trace.note(at, Happening::StreamIn(what, stream.0));
        self.deliver(near, input);
    }

    fn set_wake(&mut self, host: HostId) {
        let known = &mut self.hosts[host.index()];
        let Some(process) = &known.process else { return };
        let Some(ns) = process.machine.deadline() else { return };
        let at = known.clock.instant(process.started_at, ns).max(self.now);
        if known.wake_at.is_none_or(|set| at < set) {
            known.wake_at = Some(at);
            self.queue.push(at, Event::Wake { host, boot: known.boot });
        }
    }
}

/// A command in a few words, for the trace.
fn summary(command: &Command) -> String {
    let mut text = format!("{command:?}");
    if text.len() > 160 {
        let mut end = 160;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Folds all inputs of all machines into one number.
#[derive(Debug, Default, Clone, Copy)]
struct Fold(u64);

impl Fold {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("chunks of eight have eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn input(&mut self, at: u64, host: HostId, input: &Input) {
        self.word(at);
        self.word(u64::from(host.0));
        match input {
            Input::Datagram { bytes, .. } => self.bytes(bytes),
            Input::StreamBytes { stream, bytes } => {
                self.word(stream.0);
                self.bytes(bytes);
            }
            Input::StreamAccepted { stream, .. } => self.word(stream.0 ^ 1 << 60),
            Input::StreamConnected { stream } => self.word(stream.0 ^ 2 << 60),
            Input::StreamDrained { stream } => self.word(stream.0 ^ 3 << 60),
            Input::StreamClosed { stream } => self.word(stream.0 ^ 4 << 60),
            Input::Command { token, .. } => self.word(token.0 ^ 5 << 60),
            Input::Durable { mark } => self.word(mark.0 ^ 6 << 60),
            Input::NotDurable { mark, .. } => self.word(mark.0 ^ 7 << 60),
            Input::Tick => self.word(8 << 60),
        }
    }
}
