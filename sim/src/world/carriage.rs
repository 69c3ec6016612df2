//! What carries bytes between hosts: datagrams over the network, and the segments of streams.

use super::host::RECEIVE_BUFFER_DATAGRAMS_MAX;
use super::queue::Event;
use super::streams::{self, Chunk, RETRY_NS, STALL_NS_MAX};
use super::trace::Happening;
use super::{Door, HostId, MTU_PAYLOAD_BYTES, Machine, Note, World, wan_of};
use bytes::Bytes;
use std::net::SocketAddr;
use tidings::engine::io::{Input, StreamId};

impl<M: Machine> World<M> {
    pub(super) fn send(&mut self, host: HostId, to: SocketAddr, bytes: Bytes) {
        let known = &mut self.hosts[host.index()];
        known.traffic.datagrams_out += 1;
        known.traffic.bytes_out += bytes.len() as u64;
        let door = Door::of(to);
        let from = if door == Door::Wan { wan_of(known.address) } else { known.address };
        if self.notes_packets {
            self.notes.push_back(Note::Sent { host, to, bytes: bytes.clone() });
        }
        let Some(&target) = self.by_address.get(&to) else { return };
        if self.network.is_far(host, target) {
            self.hosts[host.index()].traffic.far_bytes_out += bytes.len() as u64;
        }
        if bytes.len() > MTU_PAYLOAD_BYTES {
            return;
        }
        for flight in self.network.send(self.now, host, target, bytes).into_iter().flatten() {
            self.queue.push(self.now + flight.delay_ns, Event::Datagram { to: target, door, from, bytes: flight.bytes });
        }
    }

    /// A datagram out of nowhere, as an attacker or a lost cousin sends it: to the socket of the kind that it seems to come from.
    pub fn inject(&mut self, to: HostId, from: SocketAddr, bytes: Bytes) {
        self.queue.push(self.now, Event::Datagram { to, door: Door::of(from), from, bytes });
    }

    pub(super) fn arrive(&mut self, to: HostId, door: Door, from: SocketAddr, bytes: Bytes) {
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
        self.deliver(
            to,
            match door {
                Door::Lan => Input::Datagram { from, bytes },
                Door::Wan => Input::WanDatagram { from, bytes },
            },
        );
    }

    pub(super) fn open(&mut self, host: HostId, stream: StreamId, to: SocketAddr) {
        let at = self.now;
        let known = &mut self.hosts[host.index()];
        known.trace.note(at, Happening::StreamOut("open", stream.0));
        known.traffic.streams_opened += 1;
        // Nobody at that address: packets to it are lost, as on a real network.
        let target = self.by_address.get(&to).copied().unwrap_or(host);
        let connection = self.streams.dial(at, (host, known.boot, stream), target, Door::of(to));
        if target == host {
            let arrives = self.line_up(connection, 0, at + STALL_NS_MAX, Chunk::Closed);
            debug_assert!(arrives.is_some(), "the connection was just made");
            return;
        }
        let delay = self.network.segment_delay(host, target);
        self.queue.push(at + delay, Event::Dial { connection });
    }

    pub(super) fn dial(&mut self, connection: u64) {
        let at = self.now;
        let Some(known) = self.streams.connection(connection) else { return };
        let (door, from, to) = (known.door, known.ends[0].host, known.ends[1].host);
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
        let written_before = self.streams.accepted(connection, boot, id);
        self.line_up(connection, 0, back, Chunk::Connected);
        // The opener sends them when it hears that the connection stands.
        let flows_at = back + self.network.segment_delay(from, to);
        for _ in 0..written_before {
            self.queue.push(flows_at, Event::Flow { connection, side: 1 });
        }
        let from = &self.hosts[from.index()];
        let peer = SocketAddr::new(from.address.ip(), 40_000 + (connection % 20_000) as u16);
        let input = match door {
            Door::Lan => Input::StreamAccepted { stream: id, peer },
            Door::Wan => Input::WanStreamAccepted { stream: id, peer, datacenter: from.certificate.clone() },
        };
        self.deliver(to, input);
    }

    pub(super) fn write(&mut self, host: HostId, boot: u32, stream: StreamId, mut bytes: Bytes) {
        let at = self.now;
        let Some((connection, side)) = self.streams.find(host, boot, stream) else { return };
        let far = self.streams.connection(connection).map(|known| known.ends[1 - side].host);
        let is_far = far.is_some_and(|far| self.network.is_far(host, far));
        let traffic = &mut self.hosts[host.index()].traffic;
        traffic.stream_bytes_out += bytes.len() as u64;
        traffic.far_bytes_out += if is_far { bytes.len() as u64 } else { 0 };
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

    pub(super) fn drained(&mut self, connection: u64, side: usize) {
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
    pub(super) fn hang_up(&mut self, connection: u64, side: usize) {
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

    pub(super) fn line_up(&mut self, connection: u64, side: usize, arrives_at: u64, chunk: Chunk) -> Option<u64> {
        let end = &mut self.streams.connection(connection)?.ends[side];
        let at = end.line_up(arrives_at, chunk);
        // Written before the connection stands: it waits for that.
        if end.id.is_some() {
            self.queue.push(at, Event::Flow { connection, side });
        }
        Some(at)
    }

    pub(super) fn flow(&mut self, connection: u64, side: usize) {
        let at = self.now;
        let Some(known) = self.streams.connection(connection) else { return };
        let (near, far) = (known.ends[side].host, known.ends[1 - side].host);
        let end = &mut known.ends[side];
        let reaches = self.network.reaches(far, near) || far == near;
        let Some(stream) = end.id else { return };
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
}
