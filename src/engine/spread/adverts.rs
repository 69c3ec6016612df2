//! Adverts: word of new heads, for those whom a change did not reach.
//!
//! A head that moved here is told to a few members in datagrams of its own ([`Adverts::flush`] in ticks, so that heads which move together
//! share them), and rides with packets of the membership for a while. What is told is the head as it is then.

use super::config::SpreadConfig;
use crate::engine::wire::packet::Advert;
use crate::model::names::NodeId;
use crate::model::record::{Head, HeadFlags};
use crate::model::time::Now;
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;

/// Heads in one part: 27 bytes each, 46 at the very most.
pub const HEADS_A_PART: usize = 22;

/// What decides which of two heads of one origin is ahead: a later life, then being given up, then seq, then having left.
fn rank(epoch: u64, seq: u64, flags: HeadFlags) -> (u64, bool, u64, bool, u32) {
    (epoch, flags.reaped.is_some(), seq, flags.left, flags.reaped.unwrap_or(0))
}

/// Whether one head of an origin is ahead of another.
pub fn is_further(advert: &Advert, other: &Advert) -> bool {
    rank(advert.epoch, advert.seq, advert.flags) > rank(other.epoch, other.seq, other.flags)
}

#[derive(Debug)]
struct Telling {
    copies_sent: u8,
    copies: u8,
    due_ns: u64,
    /// By when it came: later ones have higher numbers.
    number: u64,
}

#[derive(Debug)]
struct Rider {
    origin: NodeId,
    rides: u8,
    until_ns: u64,
}

/// Heads that are being told.
#[derive(Debug, Default)]
pub struct Adverts {
    telling: BTreeMap<NodeId, Telling>,
    /// No copy leaves before this: ticks keep their distance.
    tick_ns: u64,
    riders: VecDeque<Rider>,
    count: u64,
}

/// Heads whose next copy is due, and what all agents draw its addressee from.
#[derive(Debug, PartialEq, Eq)]
pub struct Flush {
    pub origins: Vec<NodeId>,
    /// The head that moved last, and the number of its copy.
    pub newest: NodeId,
    pub copy: u8,
}

impl Adverts {
    /// Heads that wait to be told.
    pub fn len(&self) -> usize {
        self.telling.len()
    }

    /// A head moved. Returns whether there was room for it.
    pub fn add(&mut self, now: Now, origin: NodeId, copies: u8, delay_ms: u64, config: &SpreadConfig) -> bool {
        self.ride(now, origin, config);
        let due_ns = now.after_ms(delay_ms);
        self.count += 1;
        let number = self.count;
        if let Some(telling) = self.telling.get_mut(&origin) {
            telling.due_ns = telling.due_ns.min(due_ns);
            telling.copies = telling.copies.max(copies);
            (telling.copies_sent, telling.number) = (0, number);
            return true;
        }
        if self.telling.len() >= config.adverts_max {
            return false;
        }
        self.telling.insert(origin, Telling { copies_sent: 0, copies, due_ns, number });
        true
    }

    fn ride(&mut self, now: Now, origin: NodeId, config: &SpreadConfig) {
        self.riders.retain(|rider| rider.until_ns > now.ns && rider.origin != origin);
        if self.riders.len() >= config.ride_heads_max * usize::from(config.rides) * 4 {
            self.riders.pop_front();
        }
        self.riders.push_back(Rider { origin, rides: config.rides, until_ns: now.after_ms(config.ride_ms) });
    }

    /// The latest heads that have rides left, at most `heads_max`.
    pub fn board(&mut self, now: Now, heads_max: usize) -> Vec<NodeId> {
        let mut aboard = Vec::new();
        for rider in self.riders.iter_mut().rev().take(heads_max) {
            if rider.until_ns > now.ns && rider.rides > 0 {
                rider.rides -= 1;
                aboard.push(rider.origin);
            }
        }
        self.riders.retain(|rider| rider.until_ns > now.ns && rider.rides > 0);
        aboard
    }

    /// When a copy is due.
    pub fn deadline(&self) -> Option<u64> {
        self.telling.values().map(|telling| telling.due_ns).min().map(|due_ns| due_ns.max(self.tick_ns))
    }

    /// The copies due now, to one and the same member; at most `heads_max`, the rest with the next tick.
    pub fn flush(&mut self, now: Now, heads_max: usize, config: &SpreadConfig) -> Option<Flush> {
        if now.ns < self.tick_ns {
            return None;
        }
        let mut origins: Vec<NodeId> = Vec::new();
        let mut newest = None;
        for (origin, telling) in self.telling.iter_mut().filter(|(_, telling)| telling.due_ns <= now.ns).take(heads_max) {
            origins.push(*origin);
            newest = newest.max(Some((telling.number, *origin, telling.copies_sent)));
            telling.copies_sent += 1;
        }
        self.telling.retain(|_, telling| telling.copies_sent < telling.copies);
        let (_, newest, copy) = newest?;
        self.tick_ns = now.after_ms(config.advert_tick_ms);
        Some(Flush { origins, newest, copy })
    }
}

/// The fraction of the ring at which a copy of a head is told, equal on all agents.
pub fn fraction(head: &Head, copy: u8) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x6164_7665_7274_2e2e);
    hasher.write(&head.origin.0.to_le_bytes());
    hasher.write(&head.seq.to_le_bytes());
    hasher.write_u8(copy);
    hasher.finish()
}
