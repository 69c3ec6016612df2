//! The whole membership over a stream: foca has no such exchange, and a joiner would need a quarter of an hour to learn a thousand members.
//!
//! Pages are bounded, so each is one bounded turn of its receiver. A Down in them is hearsay and not believed: whoever it is about is asked
//! first; who was up here is then accused like any other, who was unknown is held down (protocol section 3).

use super::codec::{self, CodecError, Update};
use super::{MemberState, Membership};
use crate::engine::sabotage::Rule;
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::{Buf, Bytes, BytesMut};
use foca::{Message, State};
use std::collections::{BTreeMap, BTreeSet};

/// For so long after its first contact an agent takes what it learns for known to everybody else. Later it passes news on: two clusters
/// meet through it.
pub(super) const NEWCOMER_NS: u64 = 10_000_000_000;
/// Unconfirmed deaths that are looked into at a time; more are taken as unknown.
pub(super) const HEARSAY_MAX: usize = 4_096;
const HEARSAY_PINGS: u8 = 3;
/// Looked at in one turn.
const RUMOURS_BURST: usize = 16;

/// What somebody said of this member.
#[derive(Debug)]
pub(super) struct Hearsay {
    told: Update,
    at: u64,
    pings_left: u8,
}

/// Those that are said to be dead where we hold them alive, or alive where we hold them dead, and when to ask each again.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    dead: BTreeMap<NodeId, Hearsay>,
    by_time: BTreeSet<(u64, NodeId)>,
}

impl Rumours {
    /// Members of whom something is told that is not believed.
    pub fn len(&self) -> usize {
        self.dead.len()
    }

    pub fn add(&mut self, now_ns: u64, told: Update) {
        let node = told.id().node;
        if self.dead.len() >= HEARSAY_MAX || self.dead.contains_key(&node) {
            return;
        }
        self.dead.insert(node, Hearsay { told, at: now_ns, pings_left: HEARSAY_PINGS });
        self.by_time.insert((now_ns, node));
    }

    pub fn settled(&mut self, node: NodeId) {
        if let Some(hearsay) = self.dead.remove(&node) {
            self.by_time.remove(&(hearsay.at, node));
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next that is due: to be pinged (true), or to be believed dead. Looked at again at `again`.
    fn step(&mut self, now_ns: u64, again: u64) -> Option<(Update, bool)> {
        let (at, node) = *self.by_time.first().filter(|(at, _)| *at <= now_ns)?;
        self.by_time.remove(&(at, node));
        let hearsay = self.dead.get_mut(&node).expect("by_time holds the dead only");
        let is_to_ping = hearsay.pings_left > 0;
        hearsay.pings_left = hearsay.pings_left.saturating_sub(1);
        hearsay.at = again;
        self.by_time.insert((again, node));
        Some((hearsay.told.clone(), is_to_ping))
    }
}

impl Membership {
    /// The full membership, ourselves included, in chunks of at most `page_bytes`.
    pub fn state_pages(&self, page_bytes: usize) -> Vec<Bytes> {
        let own = self.own_update();
        let mut pages = Vec::new();
        let mut page = BytesMut::new();
        for update in std::iter::once(own).chain(self.table.iter().map(|member| member.update())) {
            if !page.is_empty() && page.len() + codec::UPDATE_BYTES_MAX > page_bytes {
                pages.push(page.split().freeze());
            }
            codec::encode_update(&update, &mut page);
        }
        pages.push(page.freeze());
        pages
    }

    /// Takes one chunk of another member's pages in. Nothing of it is gossiped while we are new.
    ///
    /// # Errors
    /// If the chunk does not decode; what came before the fault is kept.
    pub fn apply_state(&mut self, now: Now, chunk: &[u8]) -> Result<(), CodecError> {
        if self.has_left {
            return Ok(());
        }
        self.state_wanted = None;
        let spread = !self.is_newcomer(now);
        let mut updates = Vec::new();
        let mut rest = chunk;
        let mut outcome = Ok(());
        while rest.has_remaining() {
            match codec::decode_update(&mut rest) {
                Ok(update) => updates.extend(self.weigh(now, update)),
                Err(error) => {
                    self.counters.dropped_malformed += 1;
                    outcome = Err(error);
                    break;
                }
            }
        }
        let known_before = self.digest();
        self.hear(now, &updates, spread);
        if self.digest() != known_before {
            self.exchange_pause_ns = super::inbound::EXCHANGE_PAUSE_MIN_NS;
        }
        self.settle(now);
        outcome
    }

    /// What of an update from a stream is believed.
    fn weigh(&mut self, now: Now, update: Update) -> Option<Update> {
        if update.state() != State::Down || update.id().node == self.me.node {
            return Some(update);
        }
        if update.id().left {
            return Some(update);
        }
        if self.config.broken.is(Rule::HearsayBelieved) {
            return Some(update);
        }
        match self.table.find(update.id().node) {
            Some(member) if member.state == MemberState::Down || member.identity().beats(update.id()) => {}
            Some(_) | None => self.rumours.add(now.ns, update),
        }
        None
    }

    /// Asks those about whom we were told otherwise than we hold; who does not answer is dead.
    pub(super) fn judge_rumours(&mut self, now: Now) {
        let again = now.after_ms(self.config.suspicion_min_ms);
        for _ in 0..RUMOURS_BURST {
            let Some((told, is_to_ping)) = self.rumours.step(now.ns, again) else { return };
            let node = told.id().node;
            let known = self.table.find(node).map(|member| (member.identity(), member.incarnation, member.is_up()));
            if is_to_ping || self.is_cut_off {
                let id = known.map_or(*told.id(), |(id, _, _)| id);
                self.send(id, Message::Ping(0), Vec::new(), Vec::new());
                continue;
            }
            self.rumours.settled(node);
            match known {
                Some((id, incarnation, true)) => self.accuse_openly(now, id, incarnation),
                Some((_, _, false)) => {}
                None => self.take_in(now, &[told], false),
            }
        }
    }
}
