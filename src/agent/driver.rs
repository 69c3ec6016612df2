//! The one thread that owns the engine: hands it what came, carries out what it says, sleeps until its next deadline.
//!
//! ```text
//! datagrams ─┐                       ┌─> datagrams
//! streams ───┤                       ├─> streams
//! commands ──┼─> Engine::handle ─────┼─> replies
//! store ─────┤    Engine::poll       ├─> views
//! time ──────┘                       └─> store
//! ```
//!
//! Nothing here waits for disk, peer or reader. After a stall (the process was stopped, the machine was asleep or overloaded) what
//! waits in the socket is handed in as of the moment before the expired timers, which are handled after it: an answer that came in
//! time is not judged by when it was read.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::clock::Clock;
use super::copy::Copier;
use super::handle::{Answer, Call, DriverSide, Request, TURN_INTERVAL};
use super::metrics::{self, Sample};
use super::store::{Progress, Writer};
use super::streams::Streams;
use super::wake::WakeThread;
use crate::engine::Engine;
use crate::engine::io::{Input, Mark, Output, Token};
use crate::model::command::Command;
use crate::model::time::Now;

/// Longer than any datagram that is not refused for its length.
const DATAGRAM_BYTES: usize = 2_048;
/// What is taken from one source before the others have their turn.
const DATAGRAMS_A_TURN: usize = 256;
const CALLS_A_TURN: usize = 256;
const STREAM_INPUTS_A_TURN: usize = 16;
/// Timers that fire so late mean that this thread did not run.
const STALL: Duration = Duration::from_millis(50);
/// What may wait in the socket after a stall: more than its buffer holds.
const DATAGRAMS_A_STALL: usize = 65_536;

/// What the driver counts itself.
#[derive(Debug, Default)]
pub struct Counters {
    pub turns: u64,
    pub stalls: u64,
    /// Datagrams the kernel did not take.
    pub datagrams_unsent: u64,
}

pub struct Driver {
    engine: Engine,
    clock: Clock,
    door: DriverSide,
    wake: WakeThread,
    local: Port,
    /// A gateway's, towards other datacenters.
    wan: Option<Port>,
    streams: Streams,
    /// None: everything counts as durable at once.
    store: Option<Writer>,
    copier: Option<Copier>,
    told: Progress,
    waiting: HashMap<Token, (oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    last_token: u64,
    last_now: Now,
    has_stopped: bool,
    counters: Counters,
}

/// The outside world of one engine.
pub struct World {
    pub clock: Clock,
    pub door: DriverSide,
    pub wake: WakeThread,
    pub udp: std::net::UdpSocket,
    /// A gateway's socket towards other datacenters.
    pub wan: Option<std::net::UdpSocket>,
    pub streams: Streams,
    pub store: Option<Writer>,
    /// None: nothing is copied.
    pub copier: Option<Copier>,
}

impl Driver {
    /// Must be called on the runtime that will [`run`](Driver::run) it.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn new(engine: Engine, world: World) -> io::Result<Driver> {
        let World { clock, door, wake, udp, wan, streams, store, copier } = world;
        Ok(Driver {
            engine,
            last_now: clock.now(),
            clock,
            door,
            wake,
            local: Port::new(udp)?,
            wan: wan.map(Port::new).transpose()?,
            streams,
            store,
            copier,
            told: Progress::default(),
            waiting: HashMap::new(),
            last_token: 0,
            has_stopped: false,
            counters: Counters::default(),
        })
    }

    /// Turns until the engine has left, or is halted.
    pub async fn run(mut self) {
        self.carry_out();
        while !self.has_stopped {
            match self.wait().await {
                Woken::Request(Request::Halt) => break,
                Woken::Request(Request::Call(call)) => self.command(call),
                Woken::Request(Request::Sample(reply)) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(self.sample());
                }
                Woken::Stream(input) => self.hand_in(input),
                Woken::Request(Request::LeasesEnded) | Woken::Due => {}
            }
            self.turn();
        }
        self.door.published().stop();
        if let Some(copier) = self.copier.take().filter(|_| self.has_stopped) {
            copier.finish(self.engine.catalog());
        }
        if let Some(store) = self.store.take() {
            // This blocks, and nothing is left to be blocked.
            let progress = store.close();
            if let Some((_, why)) = progress.failed {
                tracing::warn!(%why, "the last changes could not be stored");
            }
        }
    }

    /// Waits for the first thing to do; the rest is taken by [`turn`](Driver::turn) without waiting.
    async fn wait(&mut self) -> Woken {
        let copy_due = self.copier.as_ref().map_or(u64::MAX, Copier::deadline);
        let due = self.engine.deadline().unwrap_or(u64::MAX).min(copy_due).min(self.last_now.ns + nanoseconds(TURN_INTERVAL));
        let due = tokio::time::Instant::from_std(self.clock.instant(due));
        let progressed = async {
            match &self.store {
                Some(store) => store.progressed().await,
                None => std::future::pending().await,
            }
        };
        let from_afar = async {
            match &self.wan {
                Some(port) => port.udp.readable().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // An error shows again when the socket is read.
            _ = self.local.udp.readable() => Woken::Due,
            _ = from_afar => Woken::Due,
            request = self.door.next() => Woken::Request(request),
            () = progressed => Woken::Due,
            input = self.streams.next() => Woken::Stream(input),
            () = tokio::time::sleep_until(due) => Woken::Due,
        }
    }

    /// Takes what is there from every source, then lets due timers fire.
    fn turn(&mut self) {
        self.counters.turns += 1;
        let is_dry = self.datagrams();
        self.store_progress();
        for _ in 0..STREAM_INPUTS_A_TURN {
            let Some(input) = self.streams.try_next() else { break };
            self.hand_in(input);
        }
        for _ in 0..CALLS_A_TURN {
            let Some(call) = self.door.try_next_call() else { break };
            self.command(call);
        }
        for lease in self.door.take_ended_leases() {
            let token = self.token();
            self.hand_in(Input::Command { token, command: Command::EndLease(lease) });
        }
        let now = self.clock.now();
        let is_due = self.engine.deadline().is_some_and(|at| at <= now.ns);
        let is_time = now.ns >= self.last_now.ns + nanoseconds(TURN_INTERVAL);
        if is_dry && is_due || is_time {
            self.hand_in(Input::Tick);
        }
        if let Some(copier) = &mut self.copier {
            copier.turn(now.ns, self.engine.catalog());
        }
        self.door.turned();
    }

    /// Reads the sockets; says whether nothing is left in them.
    fn datagrams(&mut self) -> bool {
        let started = self.clock.now();
        let late_ns = self.engine.deadline().map_or(0, |at| started.ns.saturating_sub(at));
        let has_stalled = late_ns > nanoseconds(STALL);
        let mut as_of = None;
        let mut count_max = DATAGRAMS_A_TURN;
        if has_stalled {
            self.counters.stalls += 1;
            tracing::debug!(late_ms = late_ns / 1_000_000, "the engine was not run in time");
            // The wall clock is what it is; only timers must not fire yet.
            let before_timers = started.ns.saturating_sub(late_ns + 1).max(self.last_now.ns);
            as_of = Some(Now { ns: before_timers, wall_ms: started.wall_ms });
            count_max = DATAGRAMS_A_STALL;
        }
        let is_dry = self.read(as_of, count_max, |driver| Some(&driver.local), |from, bytes| Input::Datagram { from, bytes });
        self.read(as_of, count_max, |driver| driver.wan.as_ref(), |from, bytes| Input::WanDatagram { from, bytes }) && is_dry
    }

    /// Hands in what waits in one socket, at most `count_max`; says whether nothing is left.
    fn read(
        &mut self,
        as_of: Option<Now>,
        count_max: usize,
        port: fn(&Driver) -> Option<&Port>,
        input: fn(SocketAddr, Bytes) -> Input,
    ) -> bool {
        let mut buffer = [0; DATAGRAM_BYTES];
        for _ in 0..count_max {
            let Some(port) = port(self) else { return true };
            match port.udp.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let input = input(canonical(from), Bytes::copy_from_slice(&buffer[..length]));
                    self.hand_in_at(as_of.unwrap_or_else(|| self.clock.now()), input);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return true,
                // The kernel tells of an earlier datagram of ours; the next read goes on.
                Err(why) => tracing::trace!(%why, "the socket told of an error"),
            }
        }
        false
    }

    fn store_progress(&mut self) {
        let Some(store) = &self.store else { return };
        let progress = store.progress();
        if progress == self.told {
            return;
        }
        if progress.durable > self.told.durable {
            self.hand_in(Input::Durable { mark: progress.durable });
        }
        if let Some((mark, why)) = progress.failed.clone().filter(|_| progress.failed != self.told.failed) {
            self.hand_in(Input::NotDurable { mark, why });
        }
        self.told = progress;
    }

    fn command(&mut self, call: Call) {
        let token = self.token();
        self.waiting.insert(token, (call.reply, call.permit));
        self.hand_in(Input::Command { token, command: call.command });
    }

    fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    fn hand_in(&mut self, input: Input) {
        self.hand_in_at(self.clock.now(), input);
    }

    fn hand_in_at(&mut self, now: Now, input: Input) {
        self.last_now = now;
        self.engine.handle(now, input);
        self.carry_out();
    }

    /// Drains what the engine has to say.
    fn carry_out(&mut self) {
        // What is durable at once is told after the drain, or the engine would be asked while it speaks.
        let mut durable = None;
        loop {
            while let Some(output) = self.engine.poll() {
                let Some(output) = self.streams.output(output) else { continue };
                match output {
                    Output::Datagram { to, bytes } => self.counters.datagrams_unsent += self.local.send(to, &bytes),
                    Output::WanDatagram { to, bytes } => {
                        // Only gateways have something to say there.
                        self.counters.datagrams_unsent += self.wan.as_ref().map_or(1, |port| port.send(to, &bytes));
                    }
                    Output::Reply { token, outcome } => {
                        if let Some((reply, _permit)) = self.waiting.remove(&token) {
                            // Whoever asked may have given up.
                            let _ = reply.send(outcome);
                        }
                    }
                    Output::View(view) => {
                        self.door.published().show(view);
                        self.wake.view_shown();
                    }
                    Output::Persist { mark, ops } => match &self.store {
                        Some(store) => store.persist(mark, ops),
                        None => durable = Some(mark),
                    },
                    Output::Stopped => self.has_stopped = true,
                    Output::OpenStream { .. } | Output::OpenWanStream { .. } | Output::StreamBytes { .. } | Output::CloseStream { .. } => {
                        unreachable!("the streams took it above")
                    }
                }
            }
            let Some(mark) = durable.take() else { return };
            self.durable_at_once(mark);
        }
    }

    /// Without a store nothing survives the process, so nothing has to wait.
    fn durable_at_once(&mut self, mark: Mark) {
        self.engine.handle(self.last_now, Input::Durable { mark });
    }

    fn sample(&self) -> Sample {
        metrics::sample(&self.engine, &self.counters, self.streams.stalled, &self.door.published().view())
    }
}

/// One of our addresses that take datagrams.
struct Port {
    udp: UdpSocket,
    is_ipv6: bool,
}

impl Port {
    fn new(udp: std::net::UdpSocket) -> io::Result<Port> {
        let udp = UdpSocket::from_std(udp)?;
        Ok(Port { is_ipv6: udp.local_addr()?.is_ipv6(), udp })
    }

    /// Says how many datagrams the kernel did not take: this one, or none.
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> u64 {
        let to = if self.is_ipv6 { mapped(to) } else { to };
        match self.udp.try_send_to(bytes, to) {
            Ok(_) => 0,
            Err(why) => {
                // Lost like on any network: gossip repairs it.
                tracing::trace!(%to, %why, "a datagram was not sent");
                1
            }
        }
    }
}

enum Woken {
    Request(Request),
    Stream(Input),
    /// Something else is there to be taken, or it is time.
    Due,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A peer that speaks IPv4 to an IPv6 socket is one peer, not two.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An IPv4 address as an IPv6 socket has it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
