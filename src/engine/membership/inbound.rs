//! What a packet does.
//!
//! ```text
//! decode -> for us? -> from our own node id? (twin) -> sender up, new or later? --no--> told so, and heard no further
//!                                                            | yes
//!              sender alive -> updates -> remarks -> foca answers (Ack, Feed, ...)
//! ```
//! Updates come before foca's answer, so that an Ack to a ping that says "you are suspected" already contradicts.

use super::codec::{CodecError, Packet, Remark, Update, header_bytes};
use super::identity::Identity;
use super::swim::SwimTimer;
use super::table::{Change, Member, MemberState, Verdict};
use super::{Event, Membership, STATE_RETRY_NS, STATE_TRIES, StateWanted};
use crate::model::time::Now;
use foca::{Header, Message, State};
use std::fmt;
use std::net::SocketAddr;

/// Why a packet changed nothing. Counted too, in [`super::Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketRefused {
    Malformed(CodecError),
    /// For an identity that we are not.
    Misdirected,
    /// Its sender is down, or uses an identity that was replaced; it was told.
    OutdatedSender,
    /// We sent it ourselves.
    Reflected,
    /// Another process has our node id.
    Twin,
    /// No room for its sender.
    Full,
    /// We have left.
    Left,
}

impl fmt::Display for PacketRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::Misdirected => f.write_str("for another identity"),
            Self::OutdatedSender => f.write_str("from a member that is down or was replaced"),
            Self::Reflected => f.write_str("our own"),
            Self::Twin => f.write_str("from another process with our node id"),
            Self::Full => f.write_str("from a new member beyond the limit"),
            Self::Left => f.write_str("we have left"),
        }
    }
}

impl std::error::Error for PacketRefused {}

/// Gossip of a change should be through after this: its latest changes are then told to who does not know them ...
const REMIND_CALM_NS: u64 = 200_000_000;
const REMIND_PAUSE_NS: u64 = 50_000_000;
/// ... if they are not older than this, ...
const LATELY_NS: u64 = 15_000_000_000;
/// ... and this many at most: a packet full.
const REMIND_MAX: usize = 20;
/// Only after this the peers exchange everything.
const DIGEST_CALM_NS: u64 = 2_000_000_000;
/// Exchanges because of digests follow each other at this distance, more when they teach nothing.
pub(super) const EXCHANGE_PAUSE_MIN_NS: u64 = 2_000_000_000;
const EXCHANGE_PAUSE_MAX_NS: u64 = 300_000_000_000;
/// Who is suspected for this share of the shortest suspicion at this size could have contradicted by then: there and back, and a loss.
const CONTRADICTION_SHARE: u64 = 2;
/// A member that does not know how it stands is told at most this often.
const TELL_PAUSE_NS: u64 = 100_000_000;

impl Membership {
    /// Takes one packet. Its seal proved that a member of the cluster sent it; `from` is where it came from.
    ///
    /// # Errors
    /// Says why nothing came of it.
    pub fn handle_packet(&mut self, now: Now, from: SocketAddr, body: &[u8]) -> Result<(), PacketRefused> {
        self.counters.packets_received += 1;
        self.counters.bytes_received += body.len() as u64;
        let outcome = self.receive(now, from, body);
        self.contact = None;
        self.settle(now);
        outcome
    }

    fn receive(&mut self, now: Now, from: SocketAddr, body: &[u8]) -> Result<(), PacketRefused> {
        if self.has_left {
            self.counters.dropped_after_leaving += 1;
            return Err(PacketRefused::Left);
        }
        let packet = Packet::decode(body).map_err(|error| {
            self.counters.dropped_malformed += 1;
            tracing::debug!(%from, %error, "malformed packet");
            PacketRefused::Malformed(error)
        })?;
        let Packet { mut header, updates, remarks } = packet;
        let me = self.identity();
        if header.src.node == me.node {
            return Err(self.meet_namesake(now, header.src, &updates));
        }
        if header.message == Message::Announce && header.dst.is_stranger() {
            header.dst = me;
        }
        if header.dst != me && !(header.message == Message::Announce && header.dst.node == me.node) {
            return Err(self.misdirected(now, &header));
        }
        self.note_stall(now);
        self.awareness.heard(now.ns);
        self.probation.heard(now.ns);
        self.admit_sender(now, &header, &remarks)?;
        self.contact = Some(header.src.node);
        self.roll_call.answered(header.src.node);
        self.rumours.settled(header.src.node);
        if self.is_cut_off && self.table.find(header.src.node).is_some_and(|member| member.state == MemberState::Suspect) {
            self.withdraw_suspicions(now);
        }
        let sender = Update::new(header.src, header.src_incarnation, State::Alive);
        self.take_in(now, &[sender], true);
        if self.table.find(header.src.node).is_none() {
            return Err(PacketRefused::Full);
        }
        // What a Feed says everybody else knows, unless two clusters meet.
        let spread = header.message != Message::Feed || !self.is_newcomer(now);
        self.hear(now, &updates, spread);
        for remark in &remarks {
            self.heed(now, header.src, *remark);
        }
        self.note_answer(now, &header);
        let bytes = header_bytes(&header);
        self.swim_call(now, |swim, outbox| swim.handle_data(&bytes, outbox));
        self.want_state(now, &header);
        Ok(())
    }

    /// Not for us as we are. The sender is shown who is here, unless it asked in the same way: it may know an earlier life of ours, or
    /// somebody who lived at our address.
    fn misdirected(&mut self, now: Now, header: &Header<Identity>) -> PacketRefused {
        self.counters.dropped_misdirected += 1;
        let is_request = matches!(header.message, Message::Ping(_) | Message::IndirectPing { .. } | Message::PingReq { .. });
        let is_up = self.table.find(header.src.node).is_some_and(|member| member.is_up() && member.identity() == header.src);
        if is_request && is_up && self.may_tell(now, header.src) {
            self.send(header.src, Message::Gossip, Vec::new(), Vec::new());
        }
        PacketRefused::Misdirected
    }

    /// Whether to listen to this sender. A verdict that is worth less than its presence is withdrawn; otherwise it is told how it stands.
    fn admit_sender(&mut self, now: Now, header: &Header<Identity>, remarks: &[Remark]) -> Result<(), PacketRefused> {
        let src = header.src;
        let Some(member) = self.table.find(src.node) else { return Ok(()) };
        let known = member.identity();
        if src.beats(&known) || (src == known && member.is_up()) {
            return Ok(());
        }
        if src == known && (self.may_withdraw(member) || self.gives_in(src, header, remarks)) {
            self.withdraw(now, src, header.src_incarnation);
            return Ok(());
        }
        self.counters.dropped_outdated_sender += 1;
        let update = member.update();
        if self.may_tell(now, src) {
            let standing = Remark::Standing { alive: u32::try_from(self.alive()).unwrap_or(u32::MAX) };
            self.send(src, Message::TurnUndead, vec![update], vec![standing]);
        }
        Err(PacketRefused::OutdatedSender)
    }

    fn may_tell(&mut self, now: Now, src: Identity) -> bool {
        let told = self.table.find(src.node).and_then(|member| member.told_ns);
        let may = told.is_none_or(|at| now.ns >= at + TELL_PAUSE_NS);
        if may {
            self.table.set_told(now, src.node);
        }
        may
    }

    /// A verdict given in solitude, or before we were held down ourselves, is worth nothing once the member speaks.
    fn may_withdraw(&self, member: &Member) -> bool {
        member.verdict == Verdict::Alone || self.probation.is_out() || self.renewed_ns.is_some_and(|renewed| member.since.ns <= renewed)
    }

    /// Two that hold each other down: the one that holds fewer alive gives in, and renews itself.
    fn gives_in(&self, src: Identity, header: &Header<Identity>, remarks: &[Remark]) -> bool {
        let standing = remarks.iter().find_map(|remark| match remark {
            Remark::Standing { alive } => Some(*alive as usize),
            Remark::Accuse { .. } | Remark::Digest { .. } => None,
        });
        header.message == Message::TurnUndead && standing.is_some_and(|alive| (alive, src.node) > (self.alive(), self.me.node))
    }

    fn withdraw(&mut self, now: Now, id: Identity, incarnation: u16) {
        tracing::info!(node = %id.node, "a verdict is withdrawn: the member is here");
        self.counters.verdicts_withdrawn += 1;
        self.table.revive(now, id.node, incarnation);
        self.swim_call(now, |swim, outbox| swim.handle_timer(SwimTimer::RemoveDown(id), outbox));
        let alive = Update::new(id, incarnation, State::Alive);
        self.swim_call(now, |swim, outbox| swim.apply_many([alive].into_iter(), true, outbox));
        self.changed(now, id.node, &Change { was: Some(MemberState::Down), is: MemberState::Alive, replaced: None });
        self.gossip_soon(now);
        self.seek_others_lost(now);
    }

    /// What was held against the others came from behind a cut, or from a life that is over: they are alive until probed anew.
    pub(super) fn withdraw_suspicions(&mut self, now: Now) {
        for node in self.suspicions.nodes() {
            let Some(member) = self.table.find(node).filter(|member| member.state == MemberState::Suspect) else { continue };
            let (id, incarnation) = (member.identity(), member.incarnation);
            self.suspicions.end(node);
            self.table.revive(now, node, incarnation);
            // foca takes nothing back: the member has to be gone first.
            let (down, alive) = (Update::new(id, incarnation, State::Down), Update::new(id, incarnation, State::Alive));
            self.swim_call(now, |swim, outbox| swim.apply_many([down].into_iter(), false, outbox));
            self.swim_call(now, |swim, outbox| swim.handle_timer(SwimTimer::RemoveDown(id), outbox));
            self.swim_call(now, |swim, outbox| swim.apply_many([alive].into_iter(), true, outbox));
            self.changed(now, node, &Change { was: Some(MemberState::Suspect), is: MemberState::Alive, replaced: None });
        }
        self.suspicions.clear();
    }

    /// Updates from a member that is up. What concerns ourselves goes its own way.
    pub(super) fn hear(&mut self, now: Now, updates: &[Update], spread: bool) {
        let mut others = Vec::with_capacity(updates.len());
        for update in updates.iter().filter(|update| update.state() != State::Down) {
            let is_held_down = self.table.find(update.id().node).is_some_and(|member| !member.is_up() && member.identity() == *update.id());
            if is_held_down {
                // Two pictures meet. What it answers, if it does, decides which of the two is right.
                self.rumours.add(now.ns, update.clone());
            }
        }
        for update in updates {
            if update.id().node == self.me.node {
                self.hear_of_myself(now, update);
            } else if self.is_doubtful(now, update) {
                others.push(Update::new(*update.id(), update.incarnation(), State::Suspect));
            } else {
                others.push(update.clone());
            }
        }
        self.take_in(now, &others, spread);
    }

    /// A verdict that is good for a suspicion only: that of fellows in the same cut-off corner, or one on a member that was not suspected
    /// here for as long as it takes to contradict. Where gossip gets around, the suspicion came long before the verdict; a judge of whom
    /// only a part gets out did not let the member know.
    fn is_doubtful(&self, now: Now, update: &Update) -> bool {
        if update.state() != State::Down || update.id().left {
            return false;
        }
        let (suspicion_min_ns, _) = self.config.suspicion_bounds_ns(self.alive());
        let is_hasty = |member: &Member| match member.state {
            MemberState::Alive => true,
            MemberState::Suspect => now.ns < member.since.ns + suspicion_min_ns / CONTRADICTION_SHARE,
            MemberState::Down => false,
        };
        let member = self.table.find(update.id().node).filter(|member| member.identity() == *update.id());
        self.is_cut_off || member.is_some_and(is_hasty)
    }

    fn note_answer(&mut self, now: Now, header: &Header<Identity>) {
        let Some(probe) = &mut self.probe else { return };
        let is_answer = match header.message {
            Message::Ack(number) => number == probe.number && header.src.node == probe.target,
            Message::ForwardedAck { origin, probe_number } => probe_number == probe.number && origin.node == probe.target,
            _ => false,
        };
        if !is_answer || probe.is_answered {
            return;
        }
        probe.is_answered = true;
        self.awareness.probe_answered();
        self.misses = 0;
        if matches!(header.message, Message::Ack(_)) {
            let sample_us = (now.ns.saturating_sub(probe.sent_ns) / 1_000).min(u64::from(u32::MAX)) as u32;
            let target = probe.target;
            self.table.set_rtt(target, sample_us);
            self.take_sample(target, sample_us);
        }
    }

    /// Whether we have known anybody for a few seconds only.
    pub(super) fn is_newcomer(&self, now: Now) -> bool {
        self.first_contact_ns.is_none_or(|first| now.ns < first + super::state::NEWCOMER_NS)
    }

    /// Sums over our members and a peer's. They differ for a moment with every change. If they still do when its gossip should be through,
    /// the peer is told the latest changes again; if they go on differing, the two exchange all they know. Where that teaches nothing (two
    /// may disagree about a third that one of them cannot reach) it gets rare.
    pub(super) fn compare_digest(&mut self, now: Now, src: Identity, sum: u64) {
        if sum != self.digest() && now.ns >= self.table.changed_ns() + REMIND_CALM_NS && now.ns >= self.remind_at {
            let lately: Vec<Update> =
                self.table.changed_since(now.ns.saturating_sub(LATELY_NS)).take(REMIND_MAX).map(|member| member.update()).collect();
            if !lately.is_empty() {
                self.remind_at = now.ns + REMIND_PAUSE_NS;
                self.send(src, Message::Gossip, lately, Vec::new());
            }
        }
        let is_calm = now.ns >= self.table.changed_ns() + DIGEST_CALM_NS;
        if sum == self.digest() || !is_calm || now.ns < self.exchange_at || self.is_cut_off {
            return;
        }
        self.exchange_at = now.ns + self.exchange_pause_ns / 1_000 * self.jitter();
        self.exchange_pause_ns = (self.exchange_pause_ns * 2).min(EXCHANGE_PAUSE_MAX_NS);
        self.counters.digests_differed += 1;
        self.need_state();
    }

    /// Over ourselves and all that are up.
    pub(super) fn digest(&self) -> u64 {
        self.table.digest().wrapping_add(self.identity().fingerprint())
    }

    fn want_state(&mut self, now: Now, header: &Header<Identity>) {
        self.first_contact_ns.get_or_insert(now.ns);
        let Some(wanted) = &mut self.state_wanted else { return };
        let is_alive = self.table.find(header.src.node).is_some_and(|member| member.state == MemberState::Alive);
        if wanted.not_before > now.ns || !is_alive {
            return;
        }
        wanted.not_before = now.ns + STATE_RETRY_NS;
        wanted.tries -= 1;
        if wanted.tries == 0 {
            self.state_wanted = None;
        }
        self.event(Event::NeedState { node: header.src.node, addr: header.src.addr });
    }

    /// The picture may be old: the next member that speaks is asked for its own.
    pub(super) fn need_state(&mut self) {
        self.state_wanted = Some(StateWanted { not_before: 0, tries: STATE_TRIES });
    }
}
