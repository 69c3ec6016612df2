//! What happens when the cluster holds *us* down, when somebody else bears our node id, and when we go.

use super::codec::Update;
use super::identity::Identity;
use super::inbound::PacketRefused;
use super::probation;
use super::table::MemberState;
use super::{Event, Membership};
use crate::engine::sabotage::Rule;
use crate::model::names::NodeId;
use crate::model::time::Now;
use foca::{Message, State};
use rand::RngExt;

/// Another process that bears our node id. It has to be heard of twice: the first may be our own former life, which we outbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rival {
    process: (u16, std::net::IpAddr, u16),
}

/// Peers that a leaving agent tells itself; all of them in a small cluster.
const FAREWELLS_MAX: usize = 16;
/// Lost members that are looked for at once when one of them is met again.
const SEEK_MAX: usize = 8;
const SEEK_PAUSE_NS: u64 = 500_000_000;

impl Membership {
    /// An update about our own node id.
    pub(super) fn hear_of_myself(&mut self, now: Now, update: &Update) {
        let me = self.identity();
        let id = *update.id();
        self.generation_heard = self.generation_heard.max(id.generation);
        if id == me {
            self.hear_verdict_on_myself(now, update);
            return;
        }
        if !id.beats(&me) {
            // An earlier life of ours; our next packet corrects whoever said so.
            return;
        }
        if update.state() != State::Down && id.process() != me.process() {
            let rival = Rival { process: id.process() };
            let is_sure = self.rival == Some(rival) && !self.config.broken.is(Rule::TwinsTolerated);
            if is_sure && me.process() < id.process() {
                self.give_node_up(now);
                return;
            }
            self.rival = Some(rival);
        }
        self.is_outdated = true;
    }

    /// We contradict a suspicion by a higher incarnation, which every packet of ours carries; Down cannot be contradicted, only outlived.
    fn hear_verdict_on_myself(&mut self, now: Now, update: &Update) {
        let is_suspicion = update.state() == State::Suspect && update.incarnation() >= self.incarnation;
        if !is_suspicion && update.state() != State::Down {
            return;
        }
        let next = update.incarnation().saturating_add(1);
        let update = update.clone();
        self.swim_call(now, |swim, outbox| swim.apply_many([update].into_iter(), true, outbox));
        if is_suspicion && !self.is_defunct {
            // As foca has done; it tells us only with the next packet.
            self.incarnation = next;
            self.counters.refutations += 1;
            self.awareness.judged_wrong();
        }
    }

    /// A packet from our own node id: it came back to us, or is one of a former life that somebody held up, or another process has it.
    /// That one is alive for certain when it speaks of us: what it says to others may be an old recording.
    pub(super) fn meet_namesake(&mut self, now: Now, src: Identity, updates: &[Update]) -> PacketRefused {
        let me = self.identity();
        if src.boot == me.boot && src.addr == me.addr {
            self.counters.dropped_reflected += 1;
            return PacketRefused::Reflected;
        }
        self.generation_heard = self.generation_heard.max(src.generation);
        if src.addr == me.addr {
            // Nobody else lives at our address: it is a packet of a former life, held up or sent again.
            self.counters.dropped_reflected += 1;
            return PacketRefused::Reflected;
        }
        let knows_us = updates.iter().any(|update| update.id().node == me.node && update.id().process() == me.process());
        if knows_us && me.process() < src.process() && !self.config.broken.is(Rule::TwinsTolerated) {
            self.give_node_up(now);
        } else {
            let theirs = Update::new(src, 0, State::Alive);
            let own = self.own_update();
            self.send(src, Message::TurnUndead, vec![own, theirs], Vec::new());
        }
        PacketRefused::Twin
    }

    /// Back with a generation past all that were heard. What we believed of others while they held us down is in doubt.
    pub(super) fn renew(&mut self, now: Now) {
        self.me.generation = self.generation_heard.max(self.me.generation).saturating_add(1);
        self.generation_heard = self.me.generation;
        self.counters.renewals += 1;
        tracing::info!(generation = self.me.generation, "held down by others: rejoining");
        self.change_identity(now);
        self.event(Event::Rejoined);
    }

    /// Another process keeps our node id: we go on under a new one.
    fn give_node_up(&mut self, now: Now) {
        let new = NodeId(self.rng.random());
        tracing::error!(old = %self.me.node, %new, addr = %self.me.addr, "another agent has our node id (a copied data directory?); taking a new one");
        self.me.node = new;
        self.me.generation = 1;
        self.generation_heard = 1;
        self.rival = None;
        self.change_identity(now);
        self.event(Event::LostTwin { new });
    }

    fn change_identity(&mut self, now: Now) {
        (self.is_outdated, self.is_defunct) = (false, false);
        self.probation.returned(now.ns);
        self.incarnation = 0;
        self.probe = None;
        self.renewed_ns = Some(now.ns);
        let id = self.identity();
        self.swim_call(now, |swim, outbox| swim.change_identity(id, outbox));
        // foca notices that it has company only when something is applied.
        self.swim_call(now, |swim, outbox| swim.apply_many(std::iter::empty(), true, outbox));
        self.withdraw_suspicions(now);
        self.need_state();
        self.seek_others_lost(now);
        if self.is_lonely() {
            self.healing.join_soon(&self.config);
        }
    }

    /// While the others hold us down: asks for signs of life, and comes back when there have been enough.
    pub(super) fn return_due(&mut self, now: Now) {
        match self.probation.step(now.ns) {
            None => {}
            Some(probation::Step::Return) => self.renew(now),
            Some(probation::Step::Knock) => {
                let peers = self.table.peers().len();
                if peers > 0 {
                    let addr = self.table.peers()[self.rng.random_range(0..peers)].addr;
                    self.announce(Identity::stranger(addr));
                }
            }
        }
    }

    /// Announces us to those that were lost: where one is met again, others may be.
    pub(super) fn seek_others_lost(&mut self, now: Now) {
        if now.ns < self.seek_at {
            return;
        }
        self.seek_at = now.ns + SEEK_PAUSE_NS;
        let horizon = now.ns.saturating_sub(self.config.heal_recent_ms * 1_000_000);
        let lost: Vec<Identity> = self
            .table
            .recent_down()
            .take_while(|(at, _)| *at >= horizon)
            .filter(|(_, member)| !member.left)
            .take(SEEK_MAX)
            .map(|(_, member)| member.identity())
            .collect();
        for id in lost {
            self.announce(Identity::stranger(id.addr));
        }
    }

    pub(super) fn announce(&mut self, to: Identity) {
        self.send(to, Message::Announce, Vec::new(), Vec::new());
    }

    /// Says goodbye to several members at once; they pass it on. Nothing is received or sent afterwards.
    pub fn leave(&mut self, _now: Now) {
        if self.has_left {
            return;
        }
        let goodbye = Update::new(Identity { left: true, ..self.identity() }, self.incarnation, State::Down);
        let mut peers: Vec<Identity> =
            self.table.iter().filter(|member| member.state == MemberState::Alive).map(|member| member.identity()).collect();
        for chosen in 0..peers.len().min(FAREWELLS_MAX) {
            let other = self.rng.random_range(chosen..peers.len());
            peers.swap(chosen, other);
            self.send(peers[chosen], Message::Gossip, vec![goodbye.clone()], Vec::new());
        }
        self.has_left = true;
        self.timers.clear();
        self.suspicions.clear();
        self.gossip_at = None;
    }
}
