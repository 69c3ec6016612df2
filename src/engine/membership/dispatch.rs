//! Calls into foca, and what becomes of what it asks for.

use super::codec::{self, Packet, Remark, Update};
use super::config::MembershipConfig;
use super::identity::Identity;
use super::suspicion::Accusation;
use super::swim::{ACCUSATIONS_MAX, Outbox, Sent, Swim, SwimTimer, swim_config};
use super::table::{Change, MemberState, Merged};
use super::{Effect, Event, Membership};
use crate::engine::sabotage::Rule;
use crate::model::coordinate::Coordinate;
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::Bytes;
use foca::{Header, Message};
use rand::RngExt;
use std::net::SocketAddr;

/// The probe that foca has under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub target: NodeId,
    pub number: u8,
    pub sent_ns: u64,
    pub is_answered: bool,
}

/// With more updates than this waiting to be passed on, each is passed on less often: completeness comes from the exchange of state.
const BACKLOG_LARGE: usize = 100;
/// Members at one address that are doubted at once.
const DOUBTED_MAX: usize = 8;
/// Draws for one that is alive.
const DRAWS_MAX: usize = 8;
const TRANSMISSIONS_LARGE_BACKLOG: u8 = 3;

impl Membership {
    /// Calls foca and carries out what it asked for.
    pub(super) fn swim_call(&mut self, now: Now, call: impl FnOnce(&mut Swim, &mut Outbox) -> Result<(), foca::Error>) {
        let mut outbox = Outbox::default();
        if let Err(error) = call(&mut self.swim, &mut outbox) {
            tracing::debug!(%error, "foca refuses");
            self.counters.dropped_refused += 1;
        }
        self.is_defunct |= outbox.is_defunct;
        if outbox.probe_failed.is_some() {
            self.counters.probes_failed += 1;
            self.misses = self.misses.saturating_add(1);
        }
        for sent in outbox.sends {
            self.dispatch(now, sent);
        }
        for (timer, after) in outbox.timers {
            let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            match timer {
                SwimTimer::ProbeRandomMember(_) => {
                    let after_ns = self.awareness.stretch(after_ns) / 1_000 * (900 + self.jitter() / 10);
                    self.schedule(now.ns + after_ns, timer);
                }
                SwimTimer::SendIndirectProbe { .. } => self.schedule(now.ns + self.awareness.stretch(after_ns), timer),
                // foca's way of saying that a probe failed.
                SwimTimer::ChangeSuspectToDown { member_id, incarnation, .. } => self.accuse(now, member_id, incarnation),
                SwimTimer::PeriodicAnnounce(_)
                | SwimTimer::PeriodicAnnounceDown(_)
                | SwimTimer::PeriodicGossip(_)
                | SwimTimer::RemoveDown(_) => {}
            }
        }
    }

    fn schedule(&mut self, at: u64, timer: SwimTimer) {
        self.timer_count += 1;
        self.timers.insert((at, self.timer_count), timer);
    }

    fn dispatch(&mut self, now: Now, sent: Sent) {
        let Sent { mut to, mut packet, mut header } = sent;
        let mut coordinate = None;
        if let Some(header) = &mut header {
            self.incarnation = header.src_incarnation;
            if self.is_mute(now) {
                if header.message == Message::Gossip {
                    return;
                }
                packet.truncate(codec::header_len(header));
                return self.send_bytes(&to, packet.freeze(), None);
            }
            if header.message == Message::Gossip
                && let Some(instead) = self.instead_of_suspect(to)
            {
                codec::readdress(&mut packet, header, instead);
                to = instead;
            }
            if let Message::Ping(number) = header.message {
                self.probe = Some(Probe { target: to.node, number, sent_ns: now.ns, is_answered: false });
            }
            coordinate = match header.message {
                Message::Ping(_) => self.coordinates.for_ping(now, to.node),
                Message::Ack(_) => self.coordinates.for_ack(now, to.node),
                _ => None,
            };
            let header_len = codec::header_len(header);
            // Who is suspected learns it with the very ping it is to answer.
            if matches!(header.message, Message::Ping(_) | Message::IndirectPing { .. })
                && let Some(member) = self.table.find(to.node)
                && member.state == MemberState::Suspect
            {
                codec::attach_update(&mut packet, header_len, &member.update());
            }
            if matches!(header.message, Message::Ping(_) | Message::Ack(_) | Message::Gossip) {
                for Accusation { node, incarnation, by } in self.suspicions.next_told(ACCUSATIONS_MAX) {
                    codec::attach_remark(&mut packet, header_len, &Remark::Accuse { node, incarnation, by });
                }
            }
            if matches!(header.message, Message::Ping(_) | Message::Ack(_)) {
                let lost = u16::try_from(self.lost_lately(now)).unwrap_or(u16::MAX);
                codec::attach_remark(&mut packet, header_len, &Remark::Digest { sum: self.digest(), lost });
            }
        }
        self.send_bytes(&to, packet.freeze(), coordinate);
    }

    /// Whether to keep our picture of others to ourselves: we hear nobody, or are held down. It is the one that a deaf agent spreads of
    /// the living.
    pub(super) fn is_mute(&self, now: Now) -> bool {
        self.is_silent(now) || self.probation.is_out()
    }

    /// Somebody alive to gossip to, where foca chose a suspect: it is told by pings, and after a cut most gossip would be wasted.
    fn instead_of_suspect(&mut self, to: Identity) -> Option<Identity> {
        self.table.find(to.node).filter(|member| member.state == MemberState::Suspect)?;
        for _ in 0..DRAWS_MAX {
            let peers = self.table.peers();
            let draw = self.rng.random_range(0..peers.len());
            let drawn = self.table.find(peers[draw].node)?;
            if drawn.state == MemberState::Alive {
                return Some(drawn.identity());
            }
        }
        None
    }

    fn send_bytes(&mut self, to: &Identity, body: Bytes, coordinate: Option<Coordinate>) {
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += body.len() as u64;
        self.effects.push_back(Effect::Send { to: to.addr, body, coordinate });
    }

    /// Sends a packet of our own making.
    pub(super) fn send(&mut self, to: Identity, message: Message<Identity>, updates: Vec<Update>, remarks: Vec<Remark>) {
        let header = Header { src: self.identity(), src_incarnation: self.incarnation, dst: to, message };
        let body = Packet { header, updates, remarks }.encode();
        self.send_bytes(&to, body, None);
    }

    /// Takes updates in and hands foca those that are news. `spread`: pass them on as gossip.
    pub(super) fn take_in(&mut self, now: Now, updates: &[Update], spread: bool) {
        let mut news = Vec::new();
        for update in updates {
            match self.table.merge(now, update, self.config.members_max) {
                Merged::Stale => {}
                Merged::Full => self.counters.dropped_members_full += 1,
                Merged::Changed(change) => {
                    self.changed(now, update.id().node, &change);
                    news.push(update.clone());
                }
            }
        }
        if news.is_empty() {
            return;
        }
        self.swim_call(now, |swim, outbox| swim.apply_many(news.into_iter(), spread, outbox));
        if spread {
            self.gossip_soon(now);
        }
    }

    /// What follows from a change of one member, beside foca's part.
    pub(super) fn changed(&mut self, now: Now, node: NodeId, change: &Change) {
        self.rumours.settled(node);
        let Some(member) = self.table.find(node) else { return };
        let (addr, left) = (member.addr, member.left);
        match change.replaced {
            Some(replaced) if replaced.addr != addr => {
                self.coordinates.forget(node);
                self.event(Event::Moved { node, from: replaced.addr, to: addr });
            }
            Some(_) => self.event(Event::Renewed(node)),
            None => {}
        }
        match change.is {
            MemberState::Alive => {
                let goes_on = self.config.broken.is(Rule::RefutationIgnored);
                let ended = if goes_on { None } else { self.suspicions.end(node) };
                self.cutoff.settled(node);
                if ended.is_some() && self.config.broken.is(Rule::StaleTurnUndead) {
                    self.tell_dead(node);
                }
                if !change.was_up() {
                    self.event(Event::Up(node));
                    if change.was.is_some() && self.contact == Some(node) {
                        self.seek_others_lost(now);
                    }
                } else if change.was == Some(MemberState::Suspect) {
                    self.event(Event::Cleared(node));
                }
                if ended.is_some_and(|suspicion| suspicion.is_accused_by(self.me.node)) {
                    self.counters.suspicions_refuted += 1;
                    self.awareness.judged_wrong();
                }
                let moved = change.replaced.is_some_and(|replaced| replaced.addr != addr);
                if !change.was_up() || moved {
                    self.doubt_others_at(node, addr);
                }
            }
            MemberState::Suspect => {
                if !change.was_up() {
                    self.event(Event::Up(node));
                }
                if change.was != Some(MemberState::Suspect) {
                    self.event(Event::Suspected(node));
                }
                if change.was == Some(MemberState::Alive) {
                    self.cutoff.lost(now.ns, node);
                }
                self.suspect(now, node);
            }
            MemberState::Down => {
                self.suspicions.end(node);
                self.coordinates.forget(node);
                if left {
                    self.cutoff.settled(node);
                } else if change.was == Some(MemberState::Alive) {
                    self.cutoff.lost(now.ns, node);
                }
                // Who is new here hears of those that are gone only now; their origins have to be named as everywhere else.
                if change.was_up() || change.was.is_none() {
                    self.event(if left { Event::Left(node) } else { Event::Down(node) });
                }
                if !left {
                    self.report_take_over(node, addr);
                }
            }
        }
        if self.is_lonely() && change.was == Some(MemberState::Alive) {
            self.healing.join_soon(&self.config);
        }
    }

    /// What foca says at the end of a suspicion that did not outlast its contradiction.
    fn tell_dead(&mut self, node: NodeId) {
        if let Some(id) = self.table.find(node).map(|member| member.identity()) {
            self.send(id, Message::TurnUndead, Vec::new(), Vec::new());
        }
    }

    /// A member came up at an address: who else is held there is gone. One that is still held alive gets its chance to contradict; it
    /// may be on its way to another address.
    fn doubt_others_at(&mut self, node: NodeId, addr: SocketAddr) {
        let others: Vec<(NodeId, Option<Update>)> = self
            .table
            .at(addr)
            .filter(|other| other.node != node && !other.left)
            .map(|other| (other.node, other.is_up().then(|| other.update())))
            .take(DOUBTED_MAX)
            .collect();
        for (old, update) in others {
            match update {
                None => self.event(Event::TakenOver { old, by: node }),
                // Only who met the newcomer itself accuses, or all members would.
                Some(update) if self.contact == Some(node) => self.doubted.push(update),
                Some(_) => {}
            }
        }
    }

    fn report_take_over(&mut self, old: NodeId, addr: SocketAddr) {
        let other = self.table.at(addr).find(|other| other.node != old && other.state == MemberState::Alive).map(|other| other.node);
        // Where this agent lives now, nobody else does.
        let by = if addr == self.me.addr && old != self.me.node { Some(self.me.node) } else { other };
        if let Some(by) = by {
            self.event(Event::TakenOver { old, by });
        }
    }

    /// News waits a moment for company, then goes out, unless a round just did.
    pub(super) fn gossip_soon(&mut self, now: Now) {
        let earliest = self.gossiped_ns.map_or(0, |last| last + self.config.gossip_period_ms * 1_000_000);
        let at = now.after_ms(self.config.gossip_delay_ms).max(earliest);
        self.gossip_at = Some(self.gossip_at.map_or(at, |planned| planned.min(at)));
    }

    /// What every call ends with: follows foca's and the cluster's size.
    pub(super) fn settle(&mut self, now: Now) {
        for doubted in std::mem::take(&mut self.doubted) {
            self.accuse_openly(now, *doubted.id(), doubted.incarnation());
        }
        match (self.has_left, self.is_outdated, self.is_defunct) {
            (false, true, _) => self.renew(now),
            (false, false, true) => self.probation.put_out(now.ns),
            _ => {}
        }
        self.adjust_transmissions();
        self.view_cutoff(now);
    }

    fn adjust_transmissions(&mut self) {
        let wanted = if self.swim.updates_backlog() > BACKLOG_LARGE {
            TRANSMISSIONS_LARGE_BACKLOG
        } else {
            // What goes to suspects is as good as lost.
            let wasted = self.alive() as u64 * 10 / (self.table.alive() as u64 + 1);
            let wanted = u64::from(MembershipConfig::transmissions(self.alive())) * wasted.min(30) / 10;
            wanted as u8
        };
        if wanted != self.transmissions {
            self.transmissions = wanted;
            if self.swim.set_config(swim_config(&self.config, wanted)).is_err() {
                self.counters.internal_errors += 1;
            }
        }
    }
}
