//! The second half of a turn: rooms hand each other what they found until all are quiet; then views, disk, answers and packets leave.

use super::answers::{Asker, Outcome};
use super::catalog::Word;
use super::forwarding::Due;
use super::io::{Output, StoreOp};
use super::proof::Passage;
use super::spread::Context;
use super::wire::packet::Part;
use super::{Engine, catalog, mail, membership, spread};
use crate::model::command::{Command, Refusal};
use crate::model::names::NodeId;
use crate::model::time::Now;
use crate::view::AgentView;
use bytes::Bytes;
use rand::Rng as _;
use std::net::SocketAddr;

/// Members' addresses are stored so long after one changed, in milliseconds, to gather the changes of a start.
const STORE_MEMBERS_MS: u64 = 5_000;
/// What a forwarded command weighs as a part, beside itself.
const ASK_BYTES_MAX: usize = 12;
/// Addresses that are stored: enough that one of them lives.
const STORED_MEMBERS_MAX: usize = 64;

impl Engine {
    /// What is due by the clock.
    pub(super) fn timeouts(&mut self, now: Now) {
        self.membership.handle_timeout(now);
        self.catalog.handle_timeout(now);
        let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
        self.spread.handle_timeout(now, &mut context);
        while let Some(due) = self.forwarding.next_due(now) {
            match due {
                Due::Repeat { id, to, command } => self.ask(to, id, command),
                Due::GiveUp(asked) => self.catalog.take_over(now, asked.token, asked.command),
            }
        }
        self.datacenter_timeouts(now);
        self.step_leaving(now);
        if self.rtts.look(now, &self.membership) {
            self.members.all_changed(now, self.membership.alive());
        }
        if self.store_members_at.is_some_and(|at| at <= now.ns) {
            self.store_members_at = None;
            let addrs: Vec<SocketAddr> = self.membership.peers().iter().map(|peer| peer.addr).take(STORED_MEMBERS_MAX).collect();
            self.journal.push(StoreOp::Members(addrs));
        }
    }

    /// Until every room is quiet. Each effect is taken by a room nearer to the exit, or ends in a bounded table, so that this ends.
    pub(super) fn pump(&mut self, now: Now) {
        loop {
            if let Some(effect) = self.membership.poll() {
                self.membership_effect(now, effect);
            } else if let Some(effect) = self.catalog.poll() {
                self.catalog_effect(now, effect);
            } else if let Some(effect) = self.spread.poll() {
                self.spread_effect(now, effect);
            } else if !self.pump_datacenters(now) {
                break;
            }
        }
        for (token, outcome) in self.forwarding.take_seen(|asked| self.catalog.has_seen(asked.to, &asked.command)) {
            self.decide(Asker::Client(token), outcome, true);
        }
        let mark = self.journal.pending_mark();
        for (asker, outcome) in std::mem::take(&mut self.decided) {
            self.answers.hold(asker, outcome, mark);
        }
        self.show_datacenters(now);
        self.publish(now);
        if let Some((mark, ops)) = self.journal.take() {
            self.out.push_back(Output::Persist { mark, ops });
        }
        while let Some((asker, outcome)) = self.answers.take_ready() {
            self.answer(asker, outcome);
        }
        self.send_mail(now);
        self.send_wan_mail(now);
    }

    fn membership_effect(&mut self, now: Now, effect: membership::Effect) {
        match effect {
            membership::Effect::Send { to, body, coordinate } => {
                let room = self.mail.post_swim(to, body, coordinate);
                for part in self.spread.ride_along(now, &self.catalog, room) {
                    self.mail.post(to, &part);
                }
            }
            membership::Effect::Event(event) => {
                self.member_event(now, event);
                let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
                self.spread.on_member(now, &mut context, event);
                self.member_of_lanes(now, event);
            }
        }
    }

    /// What an event means for the engine itself and for the catalog's origins.
    fn member_event(&mut self, now: Now, event: membership::Event) {
        use membership::Event;
        self.mark_members(now, event);
        match event {
            Event::Up(node) => {
                self.catalog.on_member(now, node, Word::Alive);
                // The first one ever met is worth a write of its own: a crash before it would leave nobody to return to.
                let delay_ms = if std::mem::take(&mut self.knows_nobody) { 0 } else { STORE_MEMBERS_MS };
                self.store_members_at.get_or_insert(now.after_ms(delay_ms));
            }
            Event::Moved { .. } => {
                self.store_members_at.get_or_insert(now.after_ms(STORE_MEMBERS_MS));
            }
            Event::Suspected(node) => self.catalog.on_member(now, node, Word::Suspected),
            Event::Lost(node) => self.catalog.on_member(now, node, Word::Lost),
            Event::Cleared(node) => self.catalog.on_member(now, node, Word::Alive),
            Event::Down(node) => {
                self.catalog.on_member(now, node, Word::Down);
                self.origin_gone(now, node);
            }
            Event::Left(node) => {
                self.catalog.on_member(now, node, Word::Left);
                self.origin_gone(now, node);
            }
            Event::TakenOver { old, .. } => {
                self.catalog.taken_over(now, old);
                self.origin_gone(now, old);
            }
            Event::LostTwin { new } => {
                self.me_since_ms = now.wall_ms;
                self.sealer.become_agent(new, self.rng.next_u64());
                self.catalog.rename(now, new);
                self.reopen_datacenters(now);
            }
            // What was lost behind a cut stays unverified until it answers or is judged: who is dead is not served again in between.
            Event::CutOff(_) | Event::Renewed(_) | Event::Rejoined | Event::NeedState { .. } => {}
        }
    }

    /// Writes that wait for an origin's word need not wait any longer.
    fn origin_gone(&mut self, now: Now, node: NodeId) {
        for asked in self.forwarding.gone(node) {
            self.catalog.take_over(now, asked.token, asked.command);
        }
    }

    fn catalog_effect(&mut self, now: Now, effect: catalog::Effect) {
        match effect {
            catalog::Effect::Fresh { origin, seq, urgency } => {
                let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
                self.spread.offer(now, &mut context, origin, seq, urgency);
            }
            catalog::Effect::HeadMoved(origin) => {
                let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
                self.spread.head_moved(now, &mut context, origin);
                if let Some(gateway) = self.gateway.as_mut() {
                    gateway.moved(now, &self.catalog, origin);
                }
                self.imports.agent_moved(origin);
                self.members.facts_changed(now, origin);
            }
            catalog::Effect::Store(op) => self.journal.push(op),
            catalog::Effect::Reply { token, outcome, is_write } => self.decide(Asker::Client(token), outcome, is_write),
            catalog::Effect::Forward { token, to, command } => self.forward(now, token, to, command),
        }
    }

    /// Sends a write to its origin; where that cannot be, it is decided here.
    fn forward(&mut self, now: Now, token: super::io::Token, to: NodeId, command: Command) {
        let fits = postcard::experimental::serialized_size(&command).is_ok_and(|size| size + ASK_BYTES_MAX <= mail::PART_BYTES_MAX);
        if !fits || self.membership.member(to).is_none() {
            return self.catalog.take_over(now, token, command);
        }
        match self.forwarding.ask(now, token, to, command.clone()) {
            Some(id) => self.ask(to, id, command),
            None => {
                let refusal = Refusal::Busy { retry_after_ms: 1_000, why: "too many writes wait for other agents".into() };
                self.out.push_back(Output::Reply { token, outcome: Err(refusal) });
            }
        }
    }

    fn ask(&mut self, to: NodeId, id: u64, command: Command) {
        if let Some(member) = self.membership.member(to) {
            self.mail.post(member.addr, &Part::Ask { id, command });
        }
    }

    pub(super) fn spread_effect(&mut self, now: Now, effect: spread::Effect) {
        match effect {
            spread::Effect::Send { to, part } => self.mail.post(to, &part),
            spread::Effect::OpenStream { stream, to } => {
                self.streams.opened(stream, to, &mut self.sealer, &mut self.rng);
                self.out.push_back(Output::OpenStream { stream, to });
            }
            spread::Effect::Frame { stream, frame } => {
                if let Some(bytes) = self.streams.write(stream, &frame, &self.sealer, &mut self.rng) {
                    self.counters.frames_out += 1;
                    self.out.push_back(Output::StreamBytes { stream, bytes });
                }
            }
            spread::Effect::CloseStream { stream } => {
                self.streams.closed(stream);
                self.out.push_back(Output::CloseStream { stream });
            }
            spread::Effect::Members { chunk } => self.apply_members(now, &chunk),
        }
    }

    /// An outcome: of a write, it waits for disk and view.
    pub(super) fn decide(&mut self, asker: Asker, outcome: Outcome, is_write: bool) {
        if is_write && outcome.is_ok() { self.decided.push((asker, outcome)) } else { self.answer(asker, outcome) }
    }

    /// Publishes the view when its time has come: changes of a few milliseconds share one.
    fn publish(&mut self, now: Now) {
        self.show_agent();
        self.show_members(now);
        if let Some(revision) = self.catalog.editor().ask_block(now) {
            self.journal.push(StoreOp::Revision(revision));
        }
        if !self.catalog.is_behind() && !self.catalog.editor().is_dirty() {
            self.publish_at = None;
            return self.seen();
        }
        let pace_ms = self.catalog.editor().pace_ms();
        let at = *self.publish_at.get_or_insert_with(|| now.ns.max((self.published_ms + pace_ms) * 1_000_000));
        if at > now.ns {
            return;
        }
        self.publish_at = None;
        let published = self.catalog.publish(now);
        if let Some(view) = published {
            self.published_ms = now.ms();
            self.counters.views += 1;
            self.out.push_back(Output::View(view));
        }
        // Still dirty: the store has not reserved a revision yet. Its answer is the next occasion.
        if !self.catalog.editor().is_dirty() {
            self.seen();
        }
    }

    /// Every write so far stands in the view that readers have.
    fn seen(&mut self) {
        if self.answers.awaits_view() {
            self.answers.seen(self.catalog.view().revision);
        }
    }

    pub(super) fn apply_members(&mut self, now: Now, chunk: &[u8]) {
        if self.membership.apply_state(now, chunk).is_err() {
            self.counters.drop("members_chunk");
        }
    }

    /// The agent's own facts as readers see them. Only these ever change.
    fn show_agent(&mut self) {
        let me = self.membership.me().node;
        let (is_ready, is_cut_off, is_leaving) = (self.spread.is_ready(), self.membership.is_cut_off(), self.leaving.is_some());
        let shown = &self.catalog.view().agent;
        if (shown.id, shown.is_ready, shown.is_cut_off, shown.is_leaving) != (me, is_ready, is_cut_off, is_leaving) {
            let agent = AgentView { id: me, is_ready, is_cut_off, is_leaving, ..AgentView::clone(shown) };
            self.catalog.editor().set_agent(agent);
        }
    }

    pub(super) fn answer(&mut self, asker: Asker, outcome: Outcome) {
        match asker {
            Asker::Client(token) => self.out.push_back(Output::Reply { token, outcome }),
            Asker::Agent { node, addr, id } => {
                let outcome = travelling(outcome);
                self.questions.answered((node, id), &outcome);
                self.mail.post(addr, &Part::Answer { id, outcome });
            }
        }
    }

    /// Packs, seals and hands out what was posted in this turn.
    fn send_mail(&mut self, now: Now) {
        for (to, body) in self.mail.take().collect::<Vec<_>>() {
            let bytes = self.sealer.seal(&mut self.rng, &body);
            if self.sealer.keyring().is_some() {
                self.datagram_out(to, bytes);
                continue;
            }
            match self.proofs.pass(now, to, bytes, &mut self.rng) {
                Passage::Send(bytes) => self.datagram_out(to, bytes),
                Passage::Challenge(nonce) => {
                    let challenge = mail::body_of(&Part::Challenge(nonce));
                    let bytes = self.sealer.seal(&mut self.rng, &challenge);
                    self.datagram_out(to, bytes);
                }
                Passage::Wait => {}
            }
        }
    }

    pub(super) fn datagram_out(&mut self, to: SocketAddr, bytes: Bytes) {
        self.counters.datagrams_out += 1;
        self.counters.datagram_bytes_out += bytes.len() as u64;
        self.out.push_back(Output::Datagram { to, bytes });
    }
}

/// An outcome that fits a datagram: names may be long, and a refusal quotes them.
fn travelling(outcome: Outcome) -> Outcome {
    let fits = postcard::experimental::serialized_size(&outcome).is_ok_and(|size| size + ASK_BYTES_MAX <= mail::PART_BYTES_MAX);
    match outcome {
        Err(Refusal::NotFound { .. }) if !fits => Err(Refusal::NotFound { what: "the instance".into() }),
        Err(_) if !fits => Err(Refusal::Invalid { what: "its origin refuses the write, for a reason too long to travel".into() }),
        outcome => outcome,
    }
}
