//! Processes on their hosts: they start and die, stand still and go on, are handed inputs, and what they put out is carried away.

use super::disk::{DiskFate, Synced};
use super::queue::Event;
use super::streams::RETRY_NS;
use super::trace::Happening;
use super::{Boot, Freeze, HostId, Machine, Note, Process, WAN_PORT, World};
use std::net::{Ipv4Addr, SocketAddr};
use tidings::engine::io::{Input, Mark, Output, StoreOp, Token};
use tidings::model::command::Command;
use tidings::model::time::Now;

/// A process whose timers are later than this has stood still, as its shell sees it.
const STALL_NS: u64 = 100_000_000;
/// A machine with long work may ask for another turn at once, but not this often without time going on.
const WAKES_AN_INSTANT_MAX: u32 = 100_000;

impl<M: Machine> World<M> {
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
        let Some(process) = known.process.take() else { return };
        known.disk.crash(at);
        known.disk.keep_copies(|| process.machine.copies());
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
        let (datagrams, rest): (Vec<Input>, Vec<Input>) =
            waiting.into_iter().partition(|input| matches!(input, Input::Datagram { .. } | Input::WanDatagram { .. }));
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

    /// Does something to a process by another way than an input, and carries away what it puts out.
    pub fn reach(&mut self, host: HostId, act: impl FnOnce(&mut M, Now)) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        let Some(process) = &mut known.process else { return };
        let now = known.clock.now(process.started_at, at);
        act(&mut process.machine, now);
        self.drain(host);
    }

    pub(super) fn wake(&mut self, host: HostId, boot: u32) {
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

    pub(super) fn synced(&mut self, host: HostId, boot: u32) {
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
    pub(super) fn deliver(&mut self, host: HostId, input: Input) {
        self.deliver_as_of(host, input, None);
    }

    pub(super) fn deliver_as_of(&mut self, host: HostId, input: Input, ns: Option<u64>) {
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

    pub(super) fn drain(&mut self, host: HostId) {
        while let Some(output) = self.hosts[host.index()].process.as_mut().and_then(|process| process.machine.poll()) {
            self.carry(host, output);
        }
        self.set_wake(host);
        if self.host(host).is_up() {
            self.notes.push_back(Note::Handled { host });
        }
    }

    pub(super) fn carry(&mut self, host: HostId, output: Output) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        let boot = known.boot;
        match output {
            Output::Datagram { to, bytes } | Output::WanDatagram { to, bytes } => {
                known.trace.note(at, Happening::DatagramOut { to, bytes: bytes.len() });
                if known.frozen == Some(Freeze::Packets) {
                    known.held_back.push((to, bytes));
                } else {
                    self.send(host, to, bytes);
                }
            }
            Output::OpenStream { stream, to } => self.open(host, stream, to),
            Output::OpenWanStream { stream, to, datacenter } => {
                // The dialler's side of the handshake: a certificate that names another datacenter ends it.
                let certified = self.host_at(to).and_then(|target| self.host(target).certificate.as_ref());
                let is_other = certified.is_some_and(|certified| *certified != datacenter);
                let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), WAN_PORT);
                self.open(host, stream, if is_other { nowhere } else { to });
            }
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

    pub(super) fn persist(&mut self, host: HostId, mark: Mark, ops: Vec<StoreOp>) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        known.trace.note(at, Happening::Persist { mark: mark.0, ops: ops.len() });
        self.fold.word(mark.0);
        self.notes.push_back(Note::Persisted { host, ops: ops.clone() });
        if let Some(took) = known.disk.persist(mark, ops) {
            self.queue.push(at + took, Event::Synced { host, boot: known.boot });
        }
    }

    pub(super) fn set_wake(&mut self, host: HostId) {
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
