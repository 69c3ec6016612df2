//! Drawing faults: when each kind strikes, whom, and for how long.

use super::{FaultKind, Layout, Revival, Revived, Scheduled, Stroke};
use crate::rng::Rng;
use crate::world::network::Ailment;
use crate::world::{Freeze, HostId};
use std::collections::BTreeSet;

const SECOND: u64 = 1_000_000_000;
/// How long a fault may last, in seconds.
const DWELLS_S: [u64; 4] = [2, 8, 30, 90];
/// Faults of one kind in one run.
const OCCURRENCES_MAX: u64 = 3;

/// Draws all faults of one kind between two instants. What is drawn depends on nothing but the generator and the hosts
/// that there are. Faults between datacenters strike only where there are several.
pub fn draw(rng: &mut Rng, kind: FaultKind, layout: &Layout, from: u64, to: u64) -> Vec<Scheduled> {
    let mut strokes = Vec::new();
    for occurrence in 0..rng.between(1, OCCURRENCES_MAX) as u32 {
        let at = rng.between(from, to.saturating_sub(3 * SECOND));
        let room = to - at;
        // Short ones are the most frequent; some last as long as there is room.
        let longest = *rng.pick(&DWELLS_S) * SECOND;
        let dwell = rng.between(SECOND / 5, longest).min(room);
        let mut order: Vec<HostId> = (0..layout.hosts()).map(HostId).collect();
        rng.shuffle(&mut order);
        let draw = Draw { at, end: at + dwell, strength: rng.unit(), number: rng.number(), order };
        let drawn = if kind.is_far() { draw.strokes_between(kind, layout) } else { draw.strokes(kind, layout) };
        strokes.extend(drawn.into_iter().map(|(at, stroke)| Scheduled { at: at.min(to), kind, occurrence, stroke }));
    }
    strokes
}

/// The numbers of one occurrence.
struct Draw {
    at: u64,
    end: u64,
    strength: f64,
    number: u64,
    /// All hosts, shuffled.
    order: Vec<HostId>,
}

impl Draw {
    fn strokes(self, kind: FaultKind, layout: &Layout) -> Vec<(u64, Stroke)> {
        let Draw { at, end, strength, number, order } = self;
        let victim = order[0];
        let revival = |disk| Revival { disk, is_moved: false };
        let crash = |disk| vec![(at, Stroke::Kill(victim)), (end, Stroke::Start(victim, revival(disk)))];
        match kind {
            FaultKind::Loss | FaultKind::Duplicate | FaultKind::Reorder | FaultKind::Corrupt | FaultKind::Burst => {
                // Loss up to 30 %, the others up to 10 %.
                let most = if matches!(kind, FaultKind::Loss | FaultKind::Burst) { 0.3 } else { 0.1 };
                vec![(at, Stroke::Weather(kind, strength * most)), (end, Stroke::Weather(kind, 0.0))]
            }
            FaultKind::Split => {
                let (left, right) = halves(&order, number);
                let both = |a: &[HostId], b: &[HostId]| {
                    (Stroke::Cut { from: a.to_vec(), to: b.to_vec() }, Stroke::Mend { from: a.to_vec(), to: b.to_vec() })
                };
                let ((cut, mend), (back_cut, back_mend)) = (both(left, right), both(right, left));
                vec![(at, cut), (at, back_cut), (end, mend), (end, back_mend)]
            }
            FaultKind::OneWay => {
                let (left, right) = halves(&order, number);
                let (from, to) = (left.to_vec(), right.to_vec());
                vec![(at, Stroke::Cut { from: from.clone(), to: to.clone() }), (end, Stroke::Mend { from, to })]
            }
            FaultKind::Partial => partial(&order, at, end),
            FaultKind::Isolate => vec![(at, Stroke::Isolate(victim)), (end, Stroke::Rejoin(victim))],
            FaultKind::Flap => flap(victim, at, end, number),
            FaultKind::BadLink => {
                let slow_ns = if number & 1 == 0 { number % (300 * 1_000_000) } else { 0 };
                let loss = strength * 0.6;
                let ailment = Ailment { loss_in: loss, loss_out: if number & 2 == 0 { loss } else { 0.0 }, slow_ns, ..Ailment::default() };
                vec![(at, Stroke::Ail(victim, ailment)), (end, Stroke::Ail(victim, Ailment::default()))]
            }
            FaultKind::Crash => crash(Revived::Intact),
            FaultKind::LostTail => crash(Revived::LostTail { transactions: 1 + (number % 8) as usize }),
            FaultKind::RolledBack => crash(Revived::RolledBack { age_ns: number % (40 * SECOND) }),
            FaultKind::Wiped => crash(Revived::Wiped),
            FaultKind::MassRestart => {
                let many = order.len().div_ceil(3);
                let back = |host: &HostId| (end, Stroke::Start(*host, revival(Revived::Intact)));
                let killed = order.iter().take(many).map(|host| (at, Stroke::Kill(*host)));
                killed.chain(order.iter().take(many).map(back)).collect()
            }
            FaultKind::Freeze => vec![(at, Stroke::Freeze(victim, Freeze::Whole)), (end, Stroke::Thaw(victim))],
            FaultKind::FreezePackets => vec![(at, Stroke::Freeze(victim, Freeze::Packets)), (end, Stroke::Thaw(victim))],
            // The offset is the clock's from the beginning: see the plan.
            FaultKind::ClockOff => vec![],
            FaultKind::ClockJump => {
                let ms = ((strength - 0.5) * 2.0 * 600_000.0) as i64;
                vec![(at, Stroke::ClockJump(victim, ms)), (end, Stroke::ClockJump(victim, -ms))]
            }
            FaultKind::DiskFull => vec![(at, Stroke::DiskFull(victim, true)), (end, Stroke::DiskFull(victim, false))],
            FaultKind::Leave => {
                vec![(at, Stroke::Leave(victim)), (end.max(at + 2 * SECOND), Stroke::Start(victim, revival(Revived::Intact)))]
            }
            FaultKind::Readdress => {
                vec![(at, Stroke::Kill(victim)), (end, Stroke::Start(victim, Revival { disk: Revived::Intact, is_moved: true }))]
            }
            FaultKind::Narrow => {
                // From what membership alone needs to a few times that.
                let ailment = Ailment { bytes_a_second: 4_000 + number % 60_000, ..Ailment::default() };
                vec![(at, Stroke::Ail(victim, ailment)), (end, Stroke::Ail(victim, Ailment::default()))]
            }
            FaultKind::SmallMtu => {
                let ailment = Ailment { payload_bytes_max: 300 + (number % 900) as u32, ..Ailment::default() };
                vec![(at, Stroke::Ail(victim, ailment)), (end, Stroke::Ail(victim, Ailment::default()))]
            }
            FaultKind::HalfDead => {
                let dead = &order[1..1 + (order.len() - 1) / 2];
                let kills = dead.iter().map(|host| (at, Stroke::Kill(*host)));
                let back = dead.iter().map(|host| (end, Stroke::Start(*host, revival(Revived::Intact))));
                [(at, Stroke::Isolate(victim)), (end, Stroke::Rejoin(victim))].into_iter().chain(kills).chain(back).collect()
            }
            FaultKind::LateMeeting => {
                let (left, right) = halves(&order, number);
                let groups = [(left, right), (right, left)].map(|(from, to)| (from.to_vec(), to.to_vec()));
                let cut = groups.iter().cloned().map(|(from, to)| (0, Stroke::Cut { from, to }));
                let mend = groups.iter().cloned().map(|(from, to)| (end, Stroke::Mend { from, to }));
                cut.chain(mend).collect()
            }
            FaultKind::ColdStart => {
                let kills = order.iter().map(|host| (at, Stroke::Kill(*host)));
                let back = order.iter().map(|host| (end, Stroke::Start(*host, revival(Revived::Intact))));
                kills.chain(back).collect()
            }
            FaultKind::Rolling => {
                let step = (end - at) / order.len() as u64;
                let restart = |(n, host): (usize, &HostId)| {
                    let from = at + step * n as u64;
                    let version = (number % 1_000) as u32;
                    [
                        (from, Stroke::Kill(*host)),
                        (from, Stroke::Upgrade(*host, version)),
                        (from + step / 2, Stroke::Start(*host, revival(Revived::Intact))),
                    ]
                };
                order.iter().enumerate().flat_map(restart).collect()
            }
            FaultKind::Twin => {
                let other = order[1..].iter().rev().find(|host| layout.beside(victim).contains(host));
                let clone = other.map(|other| (at, Stroke::CloneDisk { from: *other, to: victim }));
                let kill = (at, Stroke::Kill(victim));
                [kill].into_iter().chain(clone).chain([(end, Stroke::Start(victim, revival(Revived::Intact)))]).collect()
            }
            FaultKind::Flood => vec![(at, Stroke::Flood { to: victim, number: 50 + (number % 400) as u32, draw: number })],
            FaultKind::Death => vec![(at, Stroke::Bury(victim))],
            FaultKind::Liar => (0..20)
                .map(|n| {
                    let (from, to) = (order[order.len() - 1], order[n as usize % order.len()]);
                    (at + n * SECOND / 4, Stroke::Lie { from, to, draw: number.rotate_left(n as u32 * 3) })
                })
                .collect(),
            FaultKind::Newer => {
                vec![(at, Stroke::Kill(victim)), (at, Stroke::Newer(victim)), (end, Stroke::Start(victim, revival(Revived::Intact)))]
            }
            FaultKind::Stranger => (0..20)
                .map(|n| (at + n * SECOND / 20, Stroke::Stranger { to: order[n as usize % order.len()], draw: number ^ n << 32 }))
                .collect(),
            FaultKind::Noise => (0..20)
                .map(|n| (at + n * SECOND / 20, Stroke::Noise { to: order[n as usize % order.len()], draw: number ^ n << 32 }))
                .collect(),
            FaultKind::WanCut
            | FaultKind::WanLoss
            | FaultKind::GatewayCrash
            | FaultKind::GatewaysReplaced
            | FaultKind::SplitGateways
            | FaultKind::Widen => vec![],
        }
    }

    /// What befalls datacenters as such, or their gateways; nothing, where there is one.
    fn strokes_between(self, kind: FaultKind, layout: &Layout) -> Vec<(u64, Stroke)> {
        let Draw { at, end, strength, number, order } = self;
        let several = layout.datacenters();
        if several.len() < 2 {
            return vec![];
        }
        let here = &several[number as usize % several.len()];
        let elsewhere: Vec<HostId> = order.iter().filter(|host| !here.contains(host)).copied().collect();
        let gateways: Vec<HostId> = order.iter().filter(|host| here.contains(host) && layout.is_gateway(**host)).copied().collect();
        let cut = |from: &[HostId], to: &[HostId]| {
            let (from, to) = (from.to_vec(), to.to_vec());
            [(at, Stroke::Cut { from: from.clone(), to: to.clone() }), (end, Stroke::Mend { from, to })]
        };
        let apart = || cut(here, &elsewhere).into_iter().chain(cut(&elsewhere, here));
        let back = |host, disk, is_moved| Stroke::Start(host, Revival { disk, is_moved });
        match kind {
            FaultKind::WanCut => {
                let there = &several[(number as usize + 1) % several.len()];
                match number >> 8 & 3 {
                    0 => apart().collect(),
                    1 => cut(here, there).into(),
                    _ => cut(here, there).into_iter().chain(cut(there, here)).collect(),
                }
            }
            FaultKind::WanLoss => vec![(at, Stroke::Weather(kind, strength * 0.4)), (end, Stroke::Weather(kind, 0.0))],
            FaultKind::GatewayCrash => {
                let step = (end - at) / gateways.len() as u64;
                let turn = |(n, host): (usize, &HostId)| {
                    let from = at + step * n as u64;
                    [(from, Stroke::Kill(*host)), (from + step, back(*host, Revived::Intact, number >> 8 & 1 == 0))]
                };
                gateways.iter().enumerate().flat_map(turn).collect()
            }
            FaultKind::GatewaysReplaced => {
                let third = (end - at) / 3;
                let other = |host: &HostId| [(at + third, Stroke::Kill(*host)), (at + 2 * third, back(*host, Revived::Wiped, true))];
                apart().chain(gateways.iter().flat_map(other)).collect()
            }
            FaultKind::SplitGateways => {
                let Some((first, others)) = gateways.split_first().filter(|(_, others)| !others.is_empty()) else { return vec![] };
                let rest = order.iter().filter(|host| here.contains(host) && !gateways.contains(host)).enumerate();
                let (with_first, with_others): (Vec<_>, Vec<_>) = rest.partition(|(at, _)| number >> at & 1 == 0);
                let side = |gateways: &[HostId], rest: Vec<(usize, &HostId)>| -> Vec<HostId> {
                    gateways.iter().copied().chain(rest.into_iter().map(|(_, host)| *host)).collect()
                };
                let (left, right) = (side(&[*first], with_first), side(others, with_others));
                cut(&left, &right).into_iter().chain(cut(&right, &left)).collect()
            }
            FaultKind::Widen => {
                let edition = 1 + (at / SECOND) as u16;
                let tell = |host: &HostId| {
                    let export = Stroke::Export { host: *host, edition, kept: BTreeSet::new() };
                    [(at, Stroke::Kill(*host)), (at, export), (end, back(*host, Revived::Intact, false))]
                };
                gateways.iter().flat_map(tell).collect()
            }
            _ => vec![],
        }
    }
}

/// Cuts a shuffled list somewhere; neither side is empty where there are two.
fn halves(order: &[HostId], number: u64) -> (&[HostId], &[HostId]) {
    let at = 1 + (number % (order.len() as u64 - 1).max(1)) as usize;
    order.split_at(at.min(order.len()))
}

/// Each host is cut off from the one after it, both ways, and reaches all others.
fn partial(order: &[HostId], at: u64, end: u64) -> Vec<(u64, Stroke)> {
    let mut strokes = Vec::new();
    for pair in order.chunks_exact(2).take(3) {
        for (a, b) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            strokes.push((at, Stroke::Cut { from: vec![a], to: vec![b] }));
            strokes.push((end, Stroke::Mend { from: vec![a], to: vec![b] }));
        }
    }
    strokes
}

fn flap(victim: HostId, at: u64, end: u64, number: u64) -> Vec<(u64, Stroke)> {
    const FLAPS_MAX: usize = 20;
    let period = SECOND / 2 + number % (4 * SECOND);
    let mut strokes = Vec::new();
    let mut down_at = at;
    while down_at + period <= end && strokes.len() < 2 * FLAPS_MAX {
        strokes.push((down_at, Stroke::Isolate(victim)));
        strokes.push((down_at + period / 2, Stroke::Rejoin(victim)));
        down_at += period;
    }
    strokes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlannedHost;

    #[test]
    fn every_fault_that_begins_is_taken_back_within_its_time() {
        let (from, to) = (5 * SECOND, 100 * SECOND);
        for kind in FaultKind::ALL {
            for seed in 0..50 {
                let host = |at: u16| PlannedHost { datacenter: at / 4, is_gateway: at % 4 < 2, ..PlannedHost::default() };
                let layout = Layout::of(&(0..if seed % 2 == 0 { 4 } else { 12 }).map(host).collect::<Vec<_>>());
                let strokes = draw(&mut Rng::new(seed, "faults", 0), kind, &layout, from, to);
                assert!(kind.is_far() <= (seed % 2 == 1) || strokes.is_empty(), "{kind} strikes where there are several datacenters");
                let first = if kind == FaultKind::LateMeeting { 0 } else { from };
                assert!(strokes.iter().all(|stroke| (first..=to).contains(&stroke.at)));
                let count = |is: fn(&Stroke) -> bool| strokes.iter().filter(|scheduled| is(&scheduled.stroke)).count();
                assert_eq!(count(|s| matches!(s, Stroke::Cut { .. })), count(|s| matches!(s, Stroke::Mend { .. })));
                assert_eq!(count(|s| matches!(s, Stroke::Isolate(_))), count(|s| matches!(s, Stroke::Rejoin(_))));
                assert_eq!(count(|s| matches!(s, Stroke::Freeze(..))), count(|s| matches!(s, Stroke::Thaw(_))));
                assert_eq!(count(|s| matches!(s, Stroke::Kill(_) | Stroke::Leave(_))), count(|s| matches!(s, Stroke::Start(..))));
            }
        }
    }
}
