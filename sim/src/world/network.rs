//! The network for datagrams: delay, loss, duplicates, disorder, corruption, and who reaches whom.
//!
//! Each sender has a generator of its own, and each datagram draws the same numbers whatever the conditions: masking a fault leaves
//! what happens to all other datagrams as it was.

use super::HostId;
use crate::rng::Rng;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a datagram meets on its way, as probabilities and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub delay_ns_min: u64,
    pub delay_ns_max: u64,
    /// Some packets wait in a queue on the way, up to this much longer.
    pub tail_ns_max: u64,
    pub tail_chance: f64,
    pub loss: f64,
    pub duplicate: f64,
    /// Held back by up to [`REORDER_NS_MAX`], so that later ones overtake.
    pub reorder: f64,
    pub corrupt: f64,
    /// The share of moments in which everything from one host to another is lost.
    #[serde(default)]
    pub burst: f64,
    /// What is lost between datacenters beside that.
    #[serde(default)]
    pub wan_loss: f64,
}

/// A moment of [`Conditions::burst`].
const BURST_NS: u64 = 300_000_000;
/// What waits longer than this before a narrow link is dropped, as by a router with a full queue.
const QUEUE_NS_MAX: u64 = 200_000_000;
/// IPv4 and UDP.
const HEADER_BYTES: u64 = 28;

/// How long a datagram that is overtaken is held back at most.
pub const REORDER_NS_MAX: u64 = 1_000_000_000;

impl Conditions {
    /// A switched network in one building.
    pub const LAN: Self = Self {
        delay_ns_min: 500_000,
        delay_ns_max: 2_000_000,
        tail_ns_max: 20_000_000,
        tail_chance: 0.001,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        burst: 0.0,
        wan_loss: 0.0,
    };
}

impl Conditions {
    /// Whether everything arrives, once, in time and as it was sent.
    pub fn is_calm(&self) -> bool {
        self.loss == 0.0 && self.duplicate == 0.0 && self.reorder == 0.0 && self.corrupt == 0.0 && self.burst == 0.0 && self.wan_loss == 0.0
    }
}

/// What one host's own link adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ailment {
    pub loss_in: f64,
    pub loss_out: f64,
    /// On each of its packets, in and out.
    pub slow_ns: u64,
    /// What it carries out; zero: all there is.
    #[serde(default)]
    pub bytes_a_second: u64,
    /// Datagrams with more than this do not pass, in or out; zero: all pass.
    #[serde(default)]
    pub payload_bytes_max: u32,
}

/// One copy of a datagram on its way.
#[derive(Debug)]
pub struct Flight {
    pub delay_ns: u64,
    pub bytes: Bytes,
}

#[derive(Debug)]
pub struct Network {
    pub conditions: Conditions,
    senders: Vec<Rng>,
    zones: Vec<u16>,
    datacenters: Vec<u16>,
    count: u16,
    /// What a packet between two datacenters needs longer, the lower first.
    between_datacenters_ns: BTreeMap<(u16, u16), u64>,
    /// What a packet between zones needs longer.
    pub between_zones_ns: u64,
    ailments: BTreeMap<HostId, Ailment>,
    /// How many faults block a host's packets to another; overlapping faults count up and down.
    blocked: BTreeMap<(HostId, HostId), u32>,
    /// How many faults block all of a host's packets.
    isolated: BTreeMap<HostId, u32>,
    /// When all that a host sent over a narrow link has left it.
    sent_at: BTreeMap<HostId, u64>,
    seed: u64,
}

impl Network {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            conditions,
            senders: Vec::new(),
            zones: Vec::new(),
            datacenters: Vec::new(),
            count: 1,
            between_datacenters_ns: BTreeMap::new(),
            between_zones_ns: 0,
            ailments: BTreeMap::new(),
            blocked: BTreeMap::new(),
            isolated: BTreeMap::new(),
            sent_at: BTreeMap::new(),
            seed,
        }
    }

    pub fn add_host(&mut self, zone: u16) {
        self.senders.push(Rng::new(self.seed, "network", self.senders.len() as u64));
        self.zones.push(zone);
        self.datacenters.push(0);
    }

    /// Puts a host into a datacenter; all begin in the first.
    pub fn set_datacenter(&mut self, host: HostId, datacenter: u16) {
        self.datacenters[host.index()] = datacenter;
        self.count = self.count.max(datacenter + 1);
    }

    pub fn datacenter(&self, host: HostId) -> u16 {
        self.datacenters[host.index()]
    }

    /// How many datacenters there are.
    pub fn datacenters(&self) -> u16 {
        self.count
    }

    /// Sets what a packet needs longer from one datacenter to the other, either way.
    pub fn set_distance(&mut self, a: u16, b: u16, ns: u64) {
        self.between_datacenters_ns.insert((a.min(b), a.max(b)), ns);
    }

    /// Whether two hosts are in different datacenters.
    pub fn is_far(&self, from: HostId, to: HostId) -> bool {
        self.datacenters[from.index()] != self.datacenters[to.index()]
    }

    /// How likely a packet from one host to the other is lost by the weather.
    fn loss(&self, from: HostId, to: HostId) -> f64 {
        self.conditions.loss + if self.is_far(from, to) { self.conditions.wan_loss } else { 0.0 }
    }

    /// Blocks packets from each of `from` to each of `to`.
    pub fn cut(&mut self, from: &[HostId], to: &[HostId]) {
        for (a, b) in pairs(from, to) {
            *self.blocked.entry((a, b)).or_default() += 1;
        }
    }

    /// Takes one [`Self::cut`] of the same hosts back.
    pub fn mend(&mut self, from: &[HostId], to: &[HostId]) {
        for (a, b) in pairs(from, to) {
            release(&mut self.blocked, (a, b));
        }
    }

    /// Sets a host's own link down.
    pub fn isolate(&mut self, host: HostId) {
        *self.isolated.entry(host).or_default() += 1;
    }

    /// Takes one [`Self::isolate`] back.
    pub fn rejoin(&mut self, host: HostId) {
        release(&mut self.isolated, host);
    }

    /// Hosts whose own link is down.
    pub fn isolated(&self) -> impl Iterator<Item = HostId> + '_ {
        self.isolated.keys().copied()
    }

    /// Makes a host's own link worse, or well again.
    pub fn ail(&mut self, host: HostId, ailment: Ailment) {
        if ailment == Ailment::default() {
            self.ailments.remove(&host);
        } else {
            self.ailments.insert(host, ailment);
        }
    }

    /// Takes all cuts and ailments back, and leaves the conditions.
    pub fn heal(&mut self) {
        self.blocked.clear();
        self.isolated.clear();
        self.ailments.clear();
        self.sent_at.clear();
    }

    /// Whether packets from one host reach the other, apart from chance.
    pub fn reaches(&self, from: HostId, to: HostId) -> bool {
        if self.isolated.is_empty() && self.blocked.is_empty() {
            return true;
        }
        from == to || !(self.isolated.contains_key(&from) || self.isolated.contains_key(&to) || self.blocked.contains_key(&(from, to)))
    }

    /// Whether nothing stands in anybody's way, chance and distance apart.
    pub fn is_whole(&self) -> bool {
        self.isolated.is_empty() && self.blocked.is_empty() && self.ailments.is_empty()
    }

    /// Sends a datagram: the copies of it that arrive, perhaps none.
    pub fn send(&mut self, at: u64, from: HostId, to: HostId, bytes: Bytes) -> [Option<Flight>; 2] {
        let rng = &mut self.senders[from.index()];
        let draws: [f64; 5] = std::array::from_fn(|_| rng.unit());
        let (garble, place) = (rng.number(), rng.number());
        let delays = [rng.number(), rng.number()];
        let [lost, lost_at_host, doubled, reordered, corrupted] = draws;
        let weather = self.conditions;
        let (ailing, loss) = (self.ailing(from, to), self.loss(from, to));
        if !self.reaches(from, to) || lost < loss || lost_at_host < ailing.loss_in.max(ailing.loss_out) {
            return [None, None];
        }
        if self.is_burst(at, from, to) || (ailing.payload_bytes_max > 0 && bytes.len() > ailing.payload_bytes_max as usize) {
            return [None, None];
        }
        let Some(queued) = self.queue(at, from, ailing.bytes_a_second, bytes.len()) else { return [None, None] };
        let mut delays = delays.map(|drawn| self.delay(from, to, drawn) + ailing.slow_ns + queued);
        if reordered < weather.reorder {
            delays[0] += scale(garble, REORDER_NS_MAX);
        }
        let bytes = if corrupted < weather.corrupt { garbled(&bytes, garble, place) } else { bytes };
        let copy = (doubled < weather.duplicate).then(|| Flight { delay_ns: delays[1], bytes: bytes.clone() });
        [Some(Flight { delay_ns: delays[0], bytes }), copy]
    }

    /// Whether this is a moment in which nothing gets from one host to the other. Drawn from the moment itself, and from no generator: so
    /// that it is the same whatever else is sent.
    fn is_burst(&self, at: u64, from: HostId, to: HostId) -> bool {
        let moment = (at / BURST_NS) << 16 ^ u64::from(from.0) << 8 ^ u64::from(to.0);
        self.conditions.burst > 0.0 && Rng::new(self.seed, "burst", moment).chance(self.conditions.burst)
    }

    /// How long a datagram waits before its sender's link; none where the queue is full.
    fn queue(&mut self, at: u64, from: HostId, bytes_a_second: u64, bytes: usize) -> Option<u64> {
        if bytes_a_second == 0 {
            return Some(0);
        }
        let sent_at = self.sent_at.entry(from).or_default();
        let begins = at.max(*sent_at);
        if begins - at > QUEUE_NS_MAX {
            return None;
        }
        *sent_at = begins + (bytes as u64 + HEADER_BYTES) * 1_000_000_000 / bytes_a_second;
        Some(*sent_at - at)
    }

    /// How long a segment of a stream is on its way: lost ones are sent again after a while.
    pub fn segment_delay(&mut self, from: HostId, to: HostId) -> u64 {
        const RETRANSMIT_NS: u64 = 200_000_000;
        let rng = &mut self.senders[from.index()];
        let (drawn, lost) = (rng.number(), rng.unit());
        let ailing = self.ailing(from, to);
        let loss = self.loss(from, to).max(ailing.loss_in).max(ailing.loss_out);
        self.delay(from, to, drawn) + ailing.slow_ns + if lost < loss { RETRANSMIT_NS } else { 0 }
    }

    fn ailing(&self, from: HostId, to: HostId) -> Ailment {
        if self.ailments.is_empty() {
            return Ailment::default();
        }
        let (out, back) = (self.ailments.get(&from), self.ailments.get(&to));
        Ailment {
            loss_out: out.map_or(0.0, |ailment| ailment.loss_out),
            loss_in: back.map_or(0.0, |ailment| ailment.loss_in),
            slow_ns: out.map_or(0, |ailment| ailment.slow_ns) + back.map_or(0, |ailment| ailment.slow_ns),
            bytes_a_second: out.map_or(0, |ailment| ailment.bytes_a_second),
            payload_bytes_max: [out, back]
                .into_iter()
                .flatten()
                .map(|ailment| ailment.payload_bytes_max)
                .filter(|most| *most > 0)
                .min()
                .unwrap_or(0),
        }
    }

    fn delay(&self, from: HostId, to: HostId, drawn: u64) -> u64 {
        let weather = self.conditions;
        let (place, tail) = (drawn << 32, drawn & 0xffff_ffff);
        let mut delay = weather.delay_ns_min + scale(place, weather.delay_ns_max - weather.delay_ns_min);
        let tail = tail as f64 / (1_u64 << 32) as f64;
        if tail < weather.tail_chance {
            delay += (tail / weather.tail_chance * weather.tail_ns_max as f64) as u64;
        }
        if self.zones[from.index()] != self.zones[to.index()] {
            delay += self.between_zones_ns;
        }
        let (a, b) = (self.datacenters[from.index()], self.datacenters[to.index()]);
        if a != b {
            delay += self.between_datacenters_ns.get(&(a.min(b), a.max(b))).copied().unwrap_or(0);
        }
        delay
    }
}

/// `span` times a number in `[0, 1)` that is given as 64 bits.
fn scale(drawn: u64, span: u64) -> u64 {
    ((u128::from(drawn) * u128::from(span)) >> 64) as u64
}

fn pairs<'a>(from: &'a [HostId], to: &'a [HostId]) -> impl Iterator<Item = (HostId, HostId)> + 'a {
    from.iter().flat_map(move |&a| to.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b)
}

fn release<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// Flips a bit, or cuts the end off.
fn garbled(bytes: &Bytes, garble: u64, place: u64) -> Bytes {
    let at = scale(place, bytes.len() as u64) as usize;
    if garble & 3 == 0 || bytes.is_empty() {
        return bytes.slice(..at);
    }
    let mut changed = bytes.to_vec();
    changed[at] ^= 1 << ((garble >> 8) & 7);
    changed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HostId = HostId(0);
    const B: HostId = HostId(1);
    const C: HostId = HostId(2);

    fn network(conditions: Conditions) -> Network {
        let mut network = Network::new(1, conditions);
        (0..3).for_each(|_| network.add_host(0));
        network
    }

    fn arrivals(network: &mut Network, from: HostId, to: HostId) -> Vec<u64> {
        (0..1_000)
            .flat_map(|_| network.send(0, from, to, Bytes::from_static(b"x")).into_iter().flatten())
            .map(|copy| copy.delay_ns)
            .collect()
    }

    #[test]
    fn cuts_have_a_direction_and_add_up() {
        let mut network = network(Conditions::LAN);
        network.cut(&[A], &[B, C]);
        network.cut(&[A], &[B]);
        assert!(!network.reaches(A, B) && network.reaches(B, A) && !network.reaches(A, C));
        network.mend(&[A], &[B, C]);
        assert!(!network.reaches(A, B) && network.reaches(A, C), "one cut of two is left");
        network.mend(&[A], &[B]);
        network.isolate(B);
        assert!(!network.reaches(A, B) && !network.reaches(B, C) && network.reaches(A, C) && network.reaches(B, B));
        network.rejoin(B);
        assert!(network.is_whole());
    }

    #[test]
    fn masking_loss_leaves_the_delays_of_the_rest_as_they_were() {
        let calm: Vec<u64> = arrivals(&mut network(Conditions::LAN), A, B);
        let lossy = arrivals(&mut network(Conditions { loss: 0.3, ..Conditions::LAN }), A, B);
        assert!(lossy.len() < 800 && lossy.len() > 600);
        let mut rest = calm.iter();
        assert!(lossy.iter().all(|delay| rest.any(|calm| calm == delay)), "what is left is a part of the same sequence");
        assert!(calm.iter().all(|&delay| (500_000..=22_000_000).contains(&delay)));
        assert!(calm.iter().filter(|&&delay| delay > 2_000_000).count() < 20, "the tail is thin");
    }

    #[test]
    fn corruption_changes_a_bit_or_the_length() {
        let mut network = network(Conditions { corrupt: 1.0, ..Conditions::LAN });
        let sent = Bytes::from_static(&[7; 100]);
        for _ in 0..100 {
            let [arrived, _] = network.send(0, A, B, sent.clone());
            assert_ne!(arrived.expect("nothing is lost").bytes, sent);
        }
    }

    #[test]
    fn bursts_lose_everything_for_a_moment_and_nothing_in_the_next() {
        let mut network = network(Conditions { burst: 0.5, ..Conditions::LAN });
        let mut arrives = |at| network.send(at, A, B, Bytes::from_static(b"x"))[0].is_some();
        let moments: Vec<bool> = (0..100).map(|moment| arrives(moment * BURST_NS)).collect();
        for (moment, is_open) in moments.iter().enumerate() {
            assert_eq!(arrives(moment as u64 * BURST_NS + BURST_NS - 1), *is_open, "one fate a moment");
        }
        assert!((20..80).contains(&moments.iter().filter(|is_open| **is_open).count()));
    }

    #[test]
    fn a_narrow_link_delays_then_drops_and_empties_again() {
        let mut network = network(Conditions::LAN);
        network.ail(A, Ailment { bytes_a_second: 10_000, ..Ailment::default() });
        let thousand = Bytes::from_static(&[0; 972]);
        let mut wait = |at| network.send(at, A, B, thousand.clone())[0].as_ref().map(|flight| flight.delay_ns / 100_000_000);
        assert_eq!([wait(0), wait(0), wait(0), wait(0)], [Some(1), Some(2), Some(3), None]);
        assert_eq!(wait(1_000_000_000), Some(1));
        assert!(network.send(0, B, A, thousand)[0].as_ref().is_some_and(|flight| flight.delay_ns < 100_000_000), "the way in is free");
    }

    #[test]
    fn a_small_mtu_drops_what_is_larger_in_both_directions() {
        let mut network = network(Conditions::LAN);
        network.ail(A, Ailment { payload_bytes_max: 500, ..Ailment::default() });
        let mut passes = |from, to, bytes: &'static [u8]| network.send(0, from, to, Bytes::from_static(bytes))[0].is_some();
        assert!(passes(A, B, &[0; 500]) && passes(B, A, &[0; 500]) && passes(B, C, &[0; 501]));
        assert!(!passes(A, B, &[0; 501]) && !passes(B, A, &[0; 501]));
    }
}
