//! How soon what the own datacenter's origins write crosses to others: what takes something out of lists at once, all else when it has
//! gathered company, and the ups and downs of an instance when they have settled.
//!
//! ```text
//!   fails ──► crosses at once ──► recovers ──► crosses          the first time
//!   fails ──► crosses at once ──► recovers, fails, recovers …   again within half a minute: held back until it keeps still
//! ```
//!
//! An origin's history crosses without gaps, so what is held back is its end: its head stays, for all links alike, before the first flip
//! held back. Whatever else the origin writes lets all of it go, with the instance as it is then: nothing waits for a flapping neighbour.
//!
//! Records say themselves what they are, so that all gateways judge alike whatever way a change came to them: a tombstone removes; an
//! instance that is critical under a claim older than its last change has failed, for a registration makes a new claim and a flip of
//! health none; an override is an operator's word.

use super::config::ExportPolicy;
use crate::engine::catalog::{Catalog, ORIGINS_MAX};
use crate::model::instance::{Health, Instance};
use crate::model::names::NodeId;
use crate::model::record::{Claim, Epoch, Head, Kind, Record, RecordState, Seq, Uid};
use crate::model::time::Now;
use std::collections::BTreeMap;

/// Records of one move that are looked at: beyond, it is a bulk, which waits for company in any case.
const LOOK_MAX: usize = 1_024;
/// Instances whose failures are remembered; those of others are never held back.
const FAILED_MAX: usize = 4_096;
/// An instance that fails again so soon after it failed is flapping, in milliseconds.
const CALM_MS: u64 = 30_000;
/// What flaps crosses once it has kept still for so long, in milliseconds,
const STILL_MS: u64 = 5_000;
/// or as it is, once it was held back for so long.
const HELD_MS_MAX: u64 = 60_000;
/// A failure has crossed by then, in milliseconds. What recovers sooner may be up over there still: of that nothing is held back.
const SAID_MS: u64 = 100;

/// In ascending order of haste.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hurry {
    /// It waits until it keeps still.
    Held,
    Gathers,
    /// It takes something out of lists.
    AtOnce,
}

/// How far somebody is with an origin: this gateway with looking at it, or the other side of a link with taking it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub epoch: Epoch,
    pub seq: Seq,
    pub has_left: bool,
}

impl From<&Head> for Place {
    fn from(head: &Head) -> Self {
        Self { epoch: head.epoch, seq: head.seq, has_left: head.flags.left }
    }
}

/// An instance that failed not long ago.
#[derive(Debug, Clone, Copy)]
struct Failed {
    claim: Claim,
    /// How often in a row, none of them long after the one before.
    times: u32,
    last_ns: u64,
    /// It is at this moment.
    is_down: bool,
    /// It is down as it crossed last, whatever it is now.
    is_held: bool,
}

/// What of an origin is held back.
#[derive(Debug, Clone, Copy)]
struct Hold {
    epoch: Epoch,
    /// Up to here it crosses.
    seq: Seq,
    since_ns: u64,
    until_ns: u64,
}

#[derive(Debug, Default)]
pub struct Pace {
    seen: BTreeMap<NodeId, Place>,
    failed: BTreeMap<(NodeId, Uid), Failed>,
    holds: BTreeMap<NodeId, Hold>,
    /// Failures that found no room.
    pub left_out: u64,
}

impl Pace {
    /// Learns who is there, so that of what each writes next it is known where it begins; forgets who is not, and what is long past.
    pub fn follow(&mut self, now: Now, catalog: &Catalog) {
        self.seen.retain(|origin, _| catalog.head(*origin).is_some());
        for head in catalog.heads() {
            if self.seen.len() < ORIGINS_MAX {
                self.seen.entry(head.origin).or_insert(Place::from(&head));
            }
        }
        self.failed.retain(|_, failed| failed.is_held || now.ns.saturating_sub(failed.last_ns) < CALM_MS * 1_000_000);
    }

    /// An origin moved.
    pub fn moved(&mut self, now: Now, catalog: &Catalog, policy: &ExportPolicy, origin: NodeId) -> Hurry {
        let hurry = self.look_at(now, catalog, policy, origin);
        if hurry != Hurry::Held {
            self.let_go(origin);
        }
        hurry
    }

    /// As far as an origin crosses, where that is not all.
    pub fn held_at(&self, origin: NodeId, epoch: Epoch) -> Option<Seq> {
        self.holds.get(&origin).filter(|hold| hold.epoch == epoch).map(|hold| hold.seq)
    }

    /// When something has been held back for long enough.
    pub fn deadline(&self) -> Option<u64> {
        self.holds.values().map(|hold| hold.until_ns).min()
    }

    /// Lets go what has been held back for long enough; says of whom.
    pub fn let_go_due(&mut self, now: Now) -> Vec<NodeId> {
        let due: Vec<NodeId> = self.holds.iter().filter(|(_, hold)| hold.until_ns <= now.ns).map(|(origin, _)| *origin).collect();
        due.iter().for_each(|origin| self.let_go(*origin));
        due
    }

    fn let_go(&mut self, origin: NodeId) {
        if self.holds.remove(&origin).is_some() {
            let its = self.failed.range_mut((origin, Uid(0))..=(origin, Uid(u128::MAX)));
            its.for_each(|(_, failed)| failed.is_held = false);
        }
    }

    fn look_at(&mut self, now: Now, catalog: &Catalog, policy: &ExportPolicy, origin: NodeId) -> Hurry {
        let head = catalog.head(origin).filter(|head| head.flags.reaped.is_none());
        let Some((head, before)) = head.and_then(|head| Some((head, self.seen.get_mut(&origin)?))) else { return Hurry::Gathers };
        let before = std::mem::replace(before, Place::from(&head));
        if before.epoch != head.epoch {
            return Hurry::Gathers;
        }
        if head.flags.left && !before.has_left {
            return Hurry::AtOnce;
        }
        let mut hurry = None;
        for (at, record) in catalog.records_after(origin, before.seq).enumerate() {
            if at == LOOK_MAX {
                return hurry.max(Some(Hurry::Gathers)).unwrap_or(Hurry::Gathers);
            }
            let of_this = self.judge(now, origin, &record);
            // What is not seen over there need not be taken out there.
            let is_seen = of_this != Hurry::AtOnce || policy.lets_through(&record);
            hurry = hurry.max(Some(if is_seen { of_this } else { Hurry::Gathers }));
        }
        // Nothing is left of what it wrote: that is no reason to go on, nor to wait.
        let is_held = hurry == Some(Hurry::Held) || hurry.is_none() && self.holds.contains_key(&origin);
        if is_held {
            let begins = Hold { epoch: head.epoch, seq: before.seq, since_ns: now.ns, until_ns: 0 };
            let hold = self.holds.entry(origin).or_insert(begins);
            hold.until_ns = now.after_ms(STILL_MS).min(hold.since_ns + HELD_MS_MAX * 1_000_000);
        }
        if is_held { Hurry::Held } else { hurry.unwrap_or(Hurry::Gathers) }
    }

    fn judge(&mut self, now: Now, origin: NodeId, record: &Record) -> Hurry {
        let content = match &record.state {
            RecordState::Deleted { uid, .. } => {
                self.failed.remove(&(origin, *uid));
                return Hurry::AtOnce;
            }
            RecordState::Live(content) => content,
        };
        match content.key().map(|key| key.kind) {
            Ok(Kind::OVERRIDE) => Hurry::AtOnce,
            Ok(Kind::INSTANCE) => {
                let Ok((key, instance)) = content.decode::<Instance<'_>>() else { return Hurry::Gathers };
                let is_down = instance.health() == Health::Critical;
                self.judge_instance(now, (origin, key.uid(origin)), record.claim, is_down, record.claim < instance.changed_at.0)
            }
            _ => Hurry::Gathers,
        }
    }

    fn judge_instance(&mut self, now: Now, name: (NodeId, Uid), claim: Claim, is_down: bool, has_flipped: bool) -> Hurry {
        let Some(failed) = self.failed.get_mut(&name).filter(|failed| failed.claim == claim) else {
            // It was registered anew, or was well for long.
            self.failed.remove(&name);
            if !(is_down && has_flipped) {
                return Hurry::Gathers;
            }
            if self.failed.len() < FAILED_MAX {
                self.failed.insert(name, Failed { claim, times: 1, last_ns: now.ns, is_down, is_held: false });
            } else {
                self.left_out += 1;
            }
            return Hurry::AtOnce;
        };
        let was_down = std::mem::replace(&mut failed.is_down, is_down);
        let is_said = now.ns.saturating_sub(failed.last_ns) >= SAID_MS * 1_000_000;
        if is_down && !was_down {
            (failed.times, failed.last_ns) = (failed.times.saturating_add(1), now.ns);
        }
        if was_down && !is_down && failed.times > 1 && is_said {
            failed.is_held = true;
        }
        match (failed.is_held, is_down && !was_down) {
            (true, _) => Hurry::Held,
            (false, true) => Hurry::AtOnce,
            (false, false) => Hurry::Gathers,
        }
    }
}
