//! Round trips and coordinates as readers see them: membership's estimates, shown so coarsely that their jitter makes no views.

use super::membership::Membership;
use crate::model::coordinate::Coordinate;
use crate::model::names::NodeId;
use crate::model::time::Now;
use std::collections::BTreeMap;

/// Estimates are compared with what is shown this often, in milliseconds, for every hundred members: a comparison reads all of them, and
/// the more there are, the more seldom each is probed.
const LOOK_MS: u64 = 10_000;
const LOOK_MEMBERS: u64 = 100;
/// A round trip is shown anew once it is so far from what is shown, in percent of that.
const MOVED_PERCENT: u32 = 25;
/// Coordinates are shown anew once one of them moved by so much of its way from the middle of all, in percent ...
const STRAYED_PERCENT: u64 = 10;
/// ... and by more than this, in microseconds: below, networks tremble.
const STRAYED_US_MIN: u64 = 250;

#[derive(Debug, Default)]
pub struct Rtts {
    /// In microseconds.
    shown: BTreeMap<NodeId, u32>,
    /// All of one moment: of different ones, two that stand beside each other would seem far apart.
    places: BTreeMap<NodeId, Coordinate>,
    looked_ns: Option<u64>,
}

impl Rtts {
    /// Takes over estimates that moved; says whether any did. Probes wake the engine often enough: it needs no timer.
    pub fn look(&mut self, now: Now, membership: &Membership) -> bool {
        let pause_ms = LOOK_MS * (membership.alive() as u64).div_ceil(LOOK_MEMBERS);
        if self.looked_ns.is_some_and(|looked_ns| now.ns < looked_ns + pause_ms * 1_000_000) {
            return false;
        }
        self.looked_ns = Some(now.ns);
        let has_moved = self.take(membership.members().filter_map(|member| Some((member.node, member.rtt_us?))));
        let all = std::iter::once(membership.me().node).chain(membership.members().map(|member| member.node));
        self.place(all.filter_map(|node| Some((node, membership.coordinate(node)?))).collect()) || has_moved
    }

    fn take(&mut self, estimates: impl Iterator<Item = (NodeId, u32)>) -> bool {
        let before = std::mem::take(&mut self.shown);
        let mut has_moved = false;
        for (node, rtt_us) in estimates {
            let known = before.get(&node).copied().filter(|known| !has_moved_far(*known, rtt_us));
            has_moved |= known.is_none();
            self.shown.insert(node, known.unwrap_or(rtt_us));
        }
        has_moved || before.len() != self.shown.len()
    }

    fn place(&mut self, places: BTreeMap<NodeId, Coordinate>) -> bool {
        let has_strayed = |(node, place): (&NodeId, &Coordinate)| self.places.get(node).is_none_or(|shown| has_strayed(shown, place));
        let is_news = places.iter().any(has_strayed);
        if is_news {
            self.places = places;
        }
        is_news
    }

    /// The round trip to a member in microseconds, as it is shown.
    pub fn of(&self, node: NodeId) -> Option<u32> {
        self.shown.get(&node).copied()
    }

    /// Where a member stands, as it is shown.
    pub fn place_of(&self, node: NodeId) -> Option<Coordinate> {
        self.places.get(&node).copied()
    }
}

fn has_moved_far(shown: u32, estimate: u32) -> bool {
    u64::from(shown.abs_diff(estimate)) * 100 > u64::from(shown) * u64::from(MOVED_PERCENT)
}

fn has_strayed(shown: &Coordinate, place: &Coordinate) -> bool {
    let middle = Coordinate { vector: [0; _], height_us: 0, adjustment_us: 0, error_permille: 0 };
    let reach_us = u64::from(shown.span_us(&middle)) + u64::from(shown.height_us);
    let sticks_us = u64::from(shown.height_us.abs_diff(place.height_us)) + u64::from(shown.adjustment_us.abs_diff(place.adjustment_us));
    let strayed_us = u64::from(shown.span_us(place)) + sticks_us;
    strayed_us > STRAYED_US_MIN && strayed_us * 100 > reach_us * STRAYED_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_estimate_that_moved_by_more_than_a_quarter_is_shown_anew() {
        let mut rtts = Rtts::default();
        let node = NodeId(1);
        assert!(rtts.take([(node, 400)].into_iter()));
        for jitter in [300, 500, 450] {
            assert!(!rtts.take([(node, jitter)].into_iter()));
            assert_eq!(rtts.of(node), Some(400));
        }
        assert!(rtts.take([(node, 501)].into_iter()));
        assert_eq!(rtts.of(node), Some(501));
        assert!(rtts.take(std::iter::empty()), "who is gone has none any more");
        assert_eq!(rtts.of(node), None);
    }

    #[test]
    fn coordinates_are_shown_anew_together_and_only_when_one_strayed() {
        let at = |x: i32| Coordinate { vector: [x, 0, 0, 0, 0, 0, 0, 0], height_us: 100, adjustment_us: 0, error_permille: 200 };
        let mut rtts = Rtts::default();
        let mut show = |one: i32, other: i32| {
            let is_news = rtts.place([(NodeId(1), at(one)), (NodeId(2), at(other))].into());
            (is_news, rtts.place_of(NodeId(1)).unwrap().vector[0], rtts.place_of(NodeId(2)).unwrap().vector[0])
        };
        assert_eq!(show(20_000, 500), (true, 20_000, 500));
        assert_eq!(show(21_500, 700), (false, 20_000, 500), "they tremble");
        assert_eq!(show(21_500, 900), (true, 21_500, 900), "one strayed");
    }
}
