//! What came from outside, routed to the room it is for.

use super::answers::Asker;
use super::forwarding::Served;
use super::io::{Mark, Output, StreamId, Token};
use super::mail::{self, BadBody};
use super::spread::{Context, Peer};
use super::wire::packet::{Frame, Part};
use super::{Engine, operator};
use crate::model::command::{Command, Refusal};
use crate::model::names::ServiceKey;
use crate::model::time::Now;
use std::net::SocketAddr;

impl Engine {
    pub(super) fn datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        self.counters.datagrams_in += 1;
        self.counters.datagram_bytes_in += bytes.len() as u64;
        let opened = match self.sealer.open(bytes) {
            Ok(opened) => opened,
            Err(refused) => {
                self.strangers.knock(from, refused);
                return self.counters.drop(refused.name());
            }
        };
        if !opened.proven {
            self.proofs.received(from, bytes.len());
        }
        let peer = Peer { node: opened.sender, addr: from };
        for part in mail::parts(opened.body) {
            match part {
                Ok(Some(part)) => self.part(now, peer, part),
                Ok(None) => self.counters.drop("part_unknown"),
                Err(BadBody::Length) => self.counters.drop("part_length"),
            }
        }
    }

    fn part(&mut self, now: Now, peer: Peer, part: Part) {
        match part {
            Part::Swim(body) => {
                if self.membership.handle_packet(now, peer.addr, &body).is_err() {
                    self.counters.drop("swim_packet");
                }
            }
            Part::Ask { id, command } => self.asked(now, peer, id, command),
            Part::Answer { id, outcome } => match self.forwarding.answered(id, peer.node) {
                Some(asked) if outcome.is_ok() => self.forwarding.hold(now, asked, outcome),
                Some(asked) => self.decide(Asker::Client(asked.token), outcome, true),
                None => self.counters.drop("answer_late"),
            },
            Part::Challenge(nonce) => self.mail.post(peer.addr, &Part::Echo(nonce)),
            Part::Echo(nonce) => {
                let held = self.proofs.echoed(peer.addr, nonce);
                held.into_iter().for_each(|bytes| self.datagram_out(peer.addr, bytes));
            }
            Part::Coordinate(coordinate) => self.membership.hear_coordinate(now, peer.node, coordinate),
            Part::Lane { lane, part } => self.lane_part(now, peer, lane, &part),
            Part::Datacenters(mentions) => self.take_mentions(now, peer, mentions),
            Part::Fetch { datacenter, namespace, service } => self.fetch(now, &datacenter, ServiceKey { namespace, service }),
            Part::Forgotten { datacenter, at_ms } => self.take_forgotten(now, &datacenter, at_ms),
            other => {
                if let Part::Roots(roots) = &other {
                    self.compare_datacenters(now, peer, *roots);
                }
                let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
                self.spread.handle_part(now, &mut context, peer, other);
            }
        }
    }

    /// Another agent's client wrote what is this agent's to decide.
    fn asked(&mut self, now: Now, peer: Peer, id: u64, command: Command) {
        let asker = Asker::Agent { node: peer.node, addr: peer.addr, id };
        match self.questions.take((peer.node, id)) {
            Served::New => {}
            Served::UnderWay => return,
            Served::Answered(outcome) => return self.answer(asker, outcome),
        }
        if let Some(refusal) = self.refusal(now, &command) {
            return self.answer(asker, Err(refusal));
        }
        let (outcome, is_write) = self.catalog.forwarded(now, peer.node, command);
        self.decide(asker, outcome, is_write);
    }

    pub(super) fn command(&mut self, now: Now, token: Token, command: Command) {
        if operator::is_for_operator(&command) {
            return self.operator(now, token, command);
        }
        match self.refusal(now, &command) {
            Some(refusal) => self.answer(Asker::Client(token), Err(refusal)),
            None => self.catalog.command(now, token, command),
        }
    }

    /// Why no write is taken now, whatever it says.
    fn refusal(&self, now: Now, command: &Command) -> Option<Refusal> {
        if self.leaving.is_some() {
            return Some(Refusal::Unavailable { why: "the agent is leaving".into() });
        }
        // Signs of life write nothing while nothing changes: they go on where registrations cannot.
        if matches!(
            command,
            Command::Heartbeat { .. }
                | Command::RenewLease(_)
                | Command::CheckResult { .. }
                | Command::ReportNode { .. }
                | Command::NodeCheckResult { .. }
        ) {
            return None;
        }
        if let Some(why) = self.journal.failure() {
            return Some(Refusal::Unavailable { why: format!("the write cannot be made durable: {why}; nothing changed") });
        }
        self.spread.congestion(now)
    }

    pub(super) fn stream_accepted(&mut self, now: Now, stream: StreamId, peer: SocketAddr) {
        if self.streams.accepted(stream, peer) {
            let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
            self.spread.stream_accepted(now, &mut context, stream, peer);
        } else {
            self.counters.drop("streams_full");
            self.out.push_back(Output::CloseStream { stream });
        }
    }

    pub(super) fn stream_connected(&mut self, now: Now, stream: StreamId) {
        if self.link_connected(stream) {
            return;
        }
        if let Some((spread, mut context)) = self.lane_of(stream) {
            return spread.stream_connected(now, &mut context, stream);
        }
        let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
        self.spread.stream_connected(now, &mut context, stream);
    }

    pub(super) fn stream_bytes(&mut self, now: Now, stream: StreamId, bytes: &[u8]) {
        if self.link_bytes(now, stream, bytes) {
            return;
        }
        self.streams.push(stream, bytes);
        loop {
            match self.streams.pop(stream, &mut self.sealer) {
                Ok(Some(arrived)) => {
                    self.counters.frames_in += 1;
                    let Some(addr) = self.streams.peer(stream) else { return };
                    let peer = Peer { node: arrived.sender, addr };
                    if let Frame::Lane(lane) = arrived.frame {
                        if !self.enter_lane(now, stream, addr, lane) {
                            self.counters.drop("lane_unknown");
                            self.out.push_back(Output::CloseStream { stream });
                            return self.stream_closed(now, stream);
                        }
                        continue;
                    }
                    if let Some((spread, mut context)) = self.lane_of(stream) {
                        spread.frame(now, &mut context, stream, peer, arrived.frame);
                        continue;
                    }
                    let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
                    self.spread.frame(now, &mut context, stream, peer, arrived.frame);
                }
                Ok(None) => return,
                Err(broken) => {
                    self.counters.drop(broken.0);
                    self.out.push_back(Output::CloseStream { stream });
                    return self.stream_closed(now, stream);
                }
            }
        }
    }

    pub(super) fn stream_drained(&mut self, now: Now, stream: StreamId) {
        if let Some((spread, mut context)) = self.lane_of(stream) {
            return spread.stream_drained(now, &mut context, stream);
        }
        let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
        self.spread.stream_drained(now, &mut context, stream);
    }

    pub(super) fn stream_closed(&mut self, now: Now, stream: StreamId) {
        if self.link_closed(now, stream) {
            return;
        }
        self.streams.closed(stream);
        if let Some((spread, mut context)) = self.lane_of(stream) {
            spread.stream_closed(now, &mut context, stream);
            self.lanes.remove(&stream);
            return;
        }
        let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
        self.spread.stream_closed(now, &mut context, stream);
    }

    pub(super) fn durable(&mut self, mark: Mark) {
        if self.journal.failure().is_some() {
            // What it refused before, it lacks.
            self.catalog.restate();
        }
        if let Some(revision) = self.journal.durable(mark) {
            self.catalog.editor().block_reserved(revision);
        }
        self.answers.durable(mark);
    }

    pub(super) fn not_durable(&mut self, why: &str) {
        self.journal.failed(why.to_owned());
        self.catalog.editor().block_refused();
        for (asker, outcome) in self.answers.fail(why) {
            self.answer(asker, outcome);
        }
    }
}
