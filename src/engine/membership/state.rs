//! The whole membership over a stream: foca has no such exchange, and a joiner would need a quarter of an hour to learn a thousand members.
//!
//! Pages are bounded, so each is one bounded turn of its receiver. A Down in them is hearsay and not believed: who is known is suspected,
//! who is not is asked before it is held dead (protocol section 3).

use super::codec::{self, CodecError, Update};
use super::table::{Merged, Verdict};
use super::{MemberState, Membership};
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::{Buf, Bytes, BytesMut};
use foca::{Message, State};

/// For so long after its first contact an agent takes what it learns for known to everybody else. Later it passes news on: two clusters
/// meet through it.
pub(super) const NEWCOMER_NS: u64 = 10_000_000_000;
/// Unconfirmed deaths that are looked into at a time; more are taken as unknown.
const HEARSAY_MAX: usize = 4_096;
const HEARSAY_PINGS: u8 = 3;
/// Pings to hearsay dead of one turn.
const HEARSAY_BURST: usize = 16;

/// Somebody said that this unknown member is dead.
#[derive(Debug)]
pub(super) struct Hearsay {
    down: Update,
    at: u64,
    pings_left: u8,
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
        self.hear(now, &updates, spread);
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
        match self.table.find(update.id().node) {
            Some(member) if member.state == MemberState::Down || member.identity().beats(update.id()) => None,
            Some(_) => Some(Update::new(*update.id(), update.incarnation(), State::Suspect)),
            None => {
                if self.hearsay.len() < HEARSAY_MAX {
                    self.hearsay.insert(update.id().node, Hearsay { down: update, at: now.ns, pings_left: HEARSAY_PINGS });
                }
                None
            }
        }
    }

    pub(super) fn hearsay_deadline(&self) -> Option<u64> {
        self.hearsay.values().map(|hearsay| hearsay.at).min()
    }

    /// Asks those that are said to be dead; who does not answer is.
    pub(super) fn judge_hearsay(&mut self, now: Now) {
        if self.hearsay.is_empty() {
            return;
        }
        let due: Vec<NodeId> =
            self.hearsay.iter().filter(|(_, hearsay)| hearsay.at <= now.ns).map(|(node, _)| *node).take(HEARSAY_BURST).collect();
        let wait_ms = self.config.suspicion_min_ms;
        for node in due {
            let Some(hearsay) = self.hearsay.get_mut(&node) else { continue };
            if hearsay.pings_left == 0 && !self.is_cut_off {
                let down = hearsay.down.clone();
                self.hearsay.remove(&node);
                if let Merged::Changed(change) = self.table.merge(now, &down, self.config.members_max) {
                    self.table.set_verdict(node, Verdict::Heard);
                    self.changed(now, node, &change);
                    self.event(super::Event::Down(node));
                    self.swim_call(now, |swim, outbox| swim.apply_many([down].into_iter(), false, outbox));
                }
                continue;
            }
            hearsay.pings_left = hearsay.pings_left.saturating_sub(1);
            hearsay.at = now.after_ms(wait_ms);
            let id = *hearsay.down.id();
            self.send(id, Message::Ping(0), Vec::new(), Vec::new());
        }
    }
}
