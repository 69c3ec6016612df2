//! From a failed probe to Down.
//!
//! ```text
//! foca's probe fails --> accuse --> Suspect is gossiped, and who accuses; the suspect is told
//! time is up --> look: it is pinged, twice --> cut off? then it is lost to us only
//!                                          --> still Suspect at that incarnation? Down, gossiped
//! ```
//! Whoever gives a verdict has looked itself: what it heard of others, or from others too late, condemns nobody.

use super::codec::{Remark, Update};
use super::identity::Identity;
use super::rollcall::{self, SAMPLE};
use super::suspicion::{Accusation, Terms};
use super::table::{MemberState, Merged, Verdict};
use super::{Event, Membership};
use crate::engine::sabotage::Rule;
use crate::model::names::NodeId;
use crate::model::time::Now;
use foca::{Message, State};
use rand::RngExt;
use std::collections::BTreeSet;

/// A verdict that could not be given is looked at again after this.
const RETRY_MS: u64 = 500;
/// The same, where it only waits for a roll call or for losses to be discovered.
const RETRY_SOON_MS: u64 = 50;
/// Own probes that fail one after the other: in a large cluster only then the losses may be a cut of our own.
const MISSES_SUSPECT: u32 = 2;
/// Losses are still being discovered while two, or this share of all, came within this time.
const LOSING_NS: u64 = 400_000_000;
const LOSING_SHARE: usize = 32;
/// What was lost within this is told to who knows of fewer losses; after that it is old news.
const LATELY_NS: u64 = 5_000_000_000;
/// Who knows less is told of so many in a packet, and packets follow each other at this distance.
const REMIND_MAX: usize = 20;
const REMIND_LOST_NS: u64 = 20_000_000;
/// Verdicts of one turn; the rest follow in the next.
const VERDICTS_MAX: usize = 64;

impl Membership {
    /// Our own probes of a member went unanswered. foca holds it Suspect already, unless it contradicted meanwhile.
    pub(super) fn accuse(&mut self, now: Now, id: Identity, incarnation: u16) {
        let suspect = Update::new(id, incarnation, State::Suspect);
        if let Merged::Changed(change) = self.table.merge(now, &suspect, self.config.members_max) {
            self.changed(now, id.node, &change);
            self.gossip_soon(now);
        }
        let stands = self
            .table
            .find(id.node)
            .is_some_and(|member| member.state == MemberState::Suspect && member.incarnation == incarnation && member.identity() == id);
        if !stands {
            return;
        }
        // It may have been dropped by a renewal of ours.
        self.suspect(now, id.node);
        if self.suspicions.accuse(Accusation { node: id.node, incarnation, by: self.me.node }) {
            self.gossip_soon(now);
        }
        self.ping(id.node);
        self.call_roll(now);
    }

    /// As if our probe had failed, where foca knows nothing of it yet.
    pub(super) fn accuse_openly(&mut self, now: Now, id: Identity, incarnation: u16) {
        self.take_in(now, &[Update::new(id, incarnation, State::Suspect)], true);
        self.accuse(now, id, incarnation);
    }

    /// Starts the clock on a suspect.
    pub(super) fn suspect(&mut self, now: Now, node: NodeId) {
        let Some(incarnation) = self.table.find(node).map(|member| member.incarnation) else { return };
        let (min, max) = self.config.suspicion_bounds_ns(self.alive());
        // The unwell judge slowly.
        let slowed = |ns: u64| ns + ns * self.awareness.score() / 4;
        // Those who could confirm: held alive, so neither the suspect nor other suspects.
        let wanted = self.config.confirmations_wanted.min(self.table.alive());
        let terms = Terms { min_ns: slowed(min), max_ns: slowed(max), wanted, looks: self.config.looks, look_ns: self.look_wait_ns() };
        if self.suspicions.begin(now.ns, node, incarnation, terms) {
            self.counters.suspicions += 1;
        }
    }

    /// A ping beside foca's own that also says: you are suspected. The answer contradicts.
    fn ping(&mut self, node: NodeId) {
        let Some(member) = self.table.find(node) else { return };
        let (id, update) = (member.identity(), member.update());
        self.send(id, Message::Ping(0), vec![update], Vec::new());
    }

    /// A member's remark beside its updates.
    pub(super) fn heed(&mut self, now: Now, src: Identity, remark: Remark) {
        match remark {
            Remark::Accuse { node, incarnation, by } => self.hear_accusation(now, Accusation { node, incarnation, by }),
            Remark::Digest { sum, lost } => {
                self.compare_losses(now, src, usize::from(lost));
                self.compare_digest(now, src, sum);
            }
            // Read before the sender was let in.
            Remark::Standing { .. } => {}
        }
    }

    fn hear_accusation(&mut self, now: Now, accusation: Accusation) {
        let Some(member) = self.table.find(accusation.node) else { return };
        // Our own word counts while we stand by it, not when it comes back.
        if member.incarnation != accusation.incarnation || accusation.by == self.me.node {
            return;
        }
        if member.state == MemberState::Alive {
            // It came before the suspicion itself.
            let suspect = Update::new(member.identity(), member.incarnation, State::Suspect);
            self.take_in(now, &[suspect], true);
        }
        if self.suspicions.accuse(accusation) {
            self.gossip_soon(now);
        }
    }

    pub(super) fn look_wait_ns(&self) -> u64 {
        self.awareness.stretch(self.config.look_wait_ms * 1_000_000)
    }

    /// Whether silence around us says more about us than about others.
    pub(super) fn is_deaf(&self, now: Now) -> bool {
        self.awareness.is_unsure(now.ns) || self.is_silent(now)
    }

    pub(super) fn is_silent(&self, now: Now) -> bool {
        self.awareness.is_silent(now.ns, self.table.peers().len(), &self.config)
    }

    /// Suspicions whose time is up.
    pub(super) fn judge(&mut self, now: Now) {
        self.view_cutoff(now);
        for _ in 0..VERDICTS_MAX {
            let Some(node) = self.suspicions.expired(now.ns) else { return };
            let incarnation = self.suspicions.find(node).map(|suspicion| suspicion.incarnation);
            let down = self
                .table
                .find(node)
                .filter(|member| {
                    let stands = member.state == MemberState::Suspect && Some(member.incarnation) == incarnation;
                    stands || member.is_up() && self.config.broken.is(Rule::RefutationIgnored)
                })
                .map(|member| Update::new(member.identity(), member.incarnation, State::Down));
            let Some(down) = down else {
                self.suspicions.end(node);
                continue;
            };
            let is_overdue = self.suspicions.find(node).is_some_and(|suspicion| suspicion.is_overdue(now.ns));
            if !is_overdue && (self.call_roll(now) || self.is_losing(now)) {
                self.suspicions.retry(node, now.after_ms(RETRY_SOON_MS));
                continue;
            }
            if self.suspicions.look(node, now.ns + self.look_wait_ns()) {
                self.ping(node);
                continue;
            }
            if self.is_cut_off || self.probation.is_out() {
                if self.suspicions.lose(node) {
                    self.event(Event::Lost(node));
                }
                self.suspicions.retry(node, now.after_ms(RETRY_MS));
                continue;
            }
            self.pronounce(now, &down);
        }
    }

    fn pronounce(&mut self, now: Now, down: &Update) {
        let node = down.id().node;
        tracing::debug!(%node, "a suspicion expired: down");
        let verdict = if self.table.alive() == 0 || self.is_silent(now) { Verdict::Alone } else { Verdict::Own };
        self.counters.verdicts += 1;
        if let Merged::Changed(change) = self.table.merge(now, down, self.config.members_max) {
            self.table.set_verdict(node, verdict);
            self.changed(now, node, &change);
        }
        let down = down.clone();
        // A verdict given in solitude stays our own: told at the next contact it would hit the living.
        let spread = verdict != Verdict::Alone;
        self.swim_call(now, |swim, outbox| swim.apply_many([down].into_iter(), spread, outbox));
        self.gossip_soon(now);
    }

    /// Where several are lost, sees who else is before anybody is judged. Returns whether the answers are still to come.
    fn call_roll(&mut self, now: Now) -> bool {
        let window_ns = self.config.cutoff_window_ms * 1_000_000;
        if self.roll_call.is_open() {
            return true;
        }
        let is_small = self.table.peers().len() <= SAMPLE;
        if self.cutoff.lost_lately(now.ns, window_ns) < 2 || self.roll_call.is_fresh(now.ns) || !(is_small || self.misses >= MISSES_SUSPECT)
        {
            return false;
        }
        let mut called = BTreeSet::new();
        let peers = self.table.peers().len();
        // Suspects are drawn as well and skipped, hence a few more draws than members wanted.
        for _ in 0..peers.min(SAMPLE) * 4 {
            let peer = self.table.peers()[self.rng.random_range(0..peers)].node;
            let is_alive = self.table.find(peer).is_some_and(|member| member.state == MemberState::Alive);
            if is_alive && called.len() < SAMPLE {
                called.insert(peer);
            }
        }
        self.roll_call.begin(now.ns, called);
        true
    }

    /// The steps of a roll call that are due. Who missed it is suspected.
    pub(super) fn take_roll(&mut self, now: Now) {
        let wait_ns = self.look_wait_ns();
        match self.roll_call.step(now.ns, wait_ns) {
            None => {}
            Some(rollcall::Step::Ping(called)) => {
                for id in called.iter().filter_map(|node| self.table.find(*node)).map(|member| member.identity()).collect::<Vec<_>>() {
                    self.send(id, Message::Ping(0), Vec::new(), Vec::new());
                }
            }
            Some(rollcall::Step::Close(_)) if self.awareness.is_unsure(now.ns) => {}
            Some(rollcall::Step::Close(missing)) => {
                for node in missing {
                    let Some(member) = self.table.find(node).filter(|member| member.state == MemberState::Alive) else { continue };
                    let suspect = Update::new(member.identity(), member.incarnation, State::Suspect);
                    self.take_in(now, std::slice::from_ref(&suspect), true);
                    self.suspicions.accuse(Accusation { node, incarnation: suspect.incarnation(), by: self.me.node });
                    self.ping(node);
                }
            }
        }
    }

    /// Members lost in these seconds.
    pub(super) fn lost_lately(&self, now: Now) -> usize {
        self.cutoff.lost_since(now.ns.saturating_sub(LATELY_NS)).count()
    }

    /// While many are being lost, who knows of more tells who knows of less: its picture of a cut would come too late. Only what was lost
    /// just now is told, so that a cut's suspicions do not flood the other side when it heals.
    fn compare_losses(&mut self, now: Now, src: Identity, theirs: usize) {
        let ours = self.lost_lately(now);
        if theirs > ours + 1 {
            self.behind_until = now.ns + LOSING_NS;
        } else if ours > theirs + 1 && now.ns >= self.remind_lost_at {
            self.remind_lost_at = now.ns + REMIND_LOST_NS;
            let skip = self.rng.random_range(0..ours);
            let lost = self.cutoff.lost_since(now.ns.saturating_sub(LATELY_NS)).cycle().skip(skip).take(ours.min(REMIND_MAX));
            let updates = lost.filter_map(|node| self.table.find(node)).map(|member| member.update()).collect();
            self.send(src, Message::Gossip, updates, Vec::new());
        }
    }

    /// Whether the lost are still being discovered: the list decides when it has caught up.
    fn is_losing(&self, now: Now) -> bool {
        let lately = self.cutoff.lost_since(now.ns.saturating_sub(LOSING_NS)).count();
        now.ns < self.behind_until || lately >= 2.max(self.table.alive() / LOSING_SHARE)
    }

    /// Whether we are the one cut off; tells of a change.
    pub(super) fn view_cutoff(&mut self, now: Now) {
        let window_ns = self.config.cutoff_window_ms * 1_000_000;
        let alive = self.table.alive();
        let by_losses = self.cutoff.is_cut_off(now.ns, alive + 1, window_ns);
        // Who hears nobody holds nobody, whatever its list says; after the window that is the new normal, as with losses.
        let silent_since = self.awareness.last_heard();
        let by_silence = self.is_silent(now) && now.ns < silent_since + window_ns;
        let is_cut_off = (by_losses || by_silence) && !self.config.broken.is(Rule::CutOffUnseen);
        if is_cut_off == self.is_cut_off {
            return;
        }
        self.is_cut_off = is_cut_off;
        tracing::info!(is_cut_off, "view of the cluster");
        self.event(Event::CutOff(is_cut_off));
        if !is_cut_off {
            // What was held against the others came from behind the cut.
            self.suspicions.restart(now.ns);
            self.need_state();
        }
    }
}
