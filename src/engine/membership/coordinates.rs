//! Coordinates of the members: this agent's own, fed by the probes that were answered, and those that others told.
//!
//! ```text
//!   ping  (+ own coordinate, where it is wanted) ──► kept there; the ack brings theirs back
//!   ack   (+ their coordinate) ──► kept here, and with the round trip a step of the own one (vivaldi)
//! ```
//! A coordinate goes with a ping only where it is worth its bytes: a young one with each, an older one with fewer and fewer, and at last
//! only to those of whom none is known, or whose own got old. An ack brings one where its ping did. It travels as a part of its own
//! beside the packet, so that who knows no coordinates steps over it.

use super::Membership;
use super::vivaldi::Vivaldi;
use crate::model::coordinate::Coordinate;
use crate::model::names::NodeId;
use crate::model::time::Now;
use rand::RngExt;
use std::collections::BTreeMap;

/// With each so many samples, pings that bring a coordinate are one ping farther apart ...
const UPDATES_A_STEP: u64 = 60;
/// ... up to this. Then the agent is grown up.
const PINGS_APART_MAX: u64 = 6;
/// The same for those of whom no coordinate is known.
const PINGS_APART_UNKNOWN: u64 = 2;
/// What is known of a member is asked for anew after this, in nanoseconds.
const FRESH_NS: u64 = 60_000_000_000;
/// A round trip beyond this is that of a stall, in microseconds.
const RTT_US_MAX: u32 = 5_000_000;
/// The median of so many round trips of one member is one sample.
const SAMPLES: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Coordinates {
    own: Vivaldi,
    /// Of members that are up.
    told: BTreeMap<NodeId, Told>,
    /// Since the last that brought a coordinate.
    pings: u64,
}

#[derive(Debug)]
struct Told {
    coordinate: Coordinate,
    at_ns: u64,
    /// The last round trips, the oldest first.
    samples_us: [u32; SAMPLES],
    count: usize,
}

impl Told {
    fn median_us(&mut self, rtt_us: u32) -> u32 {
        self.samples_us.rotate_left(1);
        self.samples_us[SAMPLES - 1] = rtt_us;
        self.count = (self.count + 1).min(SAMPLES);
        let mut sorted = self.samples_us;
        sorted[SAMPLES - self.count..].sort_unstable();
        let known = &mut sorted[SAMPLES - self.count..];
        known[(known.len() - 1) / 2]
    }
}

impl Coordinates {
    /// What goes with a ping.
    pub fn for_ping(&mut self, now: Now, to: NodeId) -> Option<Coordinate> {
        self.pings = self.pings.saturating_add(1);
        let apart = (1 + self.own.updates() / UPDATES_A_STEP).min(PINGS_APART_MAX);
        let is_due = match self.told.get(&to) {
            None => self.pings >= apart.min(PINGS_APART_UNKNOWN),
            Some(told) => self.pings >= apart && (apart < PINGS_APART_MAX || now.ns >= told.at_ns + FRESH_NS),
        };
        if is_due {
            self.pings = 0;
        }
        is_due.then(|| self.own.coordinate())
    }

    /// What goes with an ack: an answer to who told its own with the ping, just now.
    pub fn for_ack(&self, now: Now, to: NodeId) -> Option<Coordinate> {
        self.told.get(&to).is_some_and(|told| told.at_ns == now.ns).then(|| self.own.coordinate())
    }

    fn tell(&mut self, now: Now, node: NodeId, coordinate: Coordinate) {
        let told = self.told.entry(node).or_insert(Told { coordinate, at_ns: 0, samples_us: [0; SAMPLES], count: 0 });
        (told.coordinate, told.at_ns) = (coordinate, now.ns);
    }

    pub fn forget(&mut self, node: NodeId) {
        self.told.remove(&node);
    }

    /// Takes a round trip in; false if it made no sense together with what is known.
    fn sample(&mut self, node: NodeId, rtt_us: u32, rng: &mut impl RngExt) -> bool {
        if rtt_us > RTT_US_MAX {
            return false;
        }
        let Some(told) = self.told.get_mut(&node) else { return true };
        let rtt_us = told.median_us(rtt_us);
        self.own.update(rtt_us, &told.coordinate, rng)
    }
}

impl Membership {
    /// A member tells its coordinate; `node` is who sealed it.
    pub fn hear_coordinate(&mut self, now: Now, node: NodeId, coordinate: Coordinate) {
        let is_member = self.table.find(node).is_some_and(|member| member.is_up());
        if !is_member || !coordinate.is_plausible() {
            self.counters.coordinates_refused += 1;
            return;
        }
        self.coordinates.tell(now, node, coordinate);
    }

    /// Where a member stands, this agent included; none before it told.
    pub fn coordinate(&self, node: NodeId) -> Option<Coordinate> {
        if node == self.me.node {
            return (self.coordinates.own.updates() > 0).then(|| self.coordinates.own.coordinate());
        }
        self.coordinates.told.get(&node).map(|told| told.coordinate)
    }

    pub(super) fn take_sample(&mut self, node: NodeId, rtt_us: u32) {
        if !self.coordinates.sample(node, rtt_us, &mut self.rng) {
            self.counters.coordinates_refused += 1;
        }
    }
}
