//! Who hands a change to whom.
//!
//! Blind gossip to two random members leaves a fifth of a cluster out and needs ten contacts a member to close the rest: sealed and
//! with headers that is 1.5 kB a member for a change of 150 bytes. The members are known, so the work is divided instead: they stand
//! in a ring by node id, and who hands a change on hands an interval of the ring with it, for the receiver to take care of. Each
//! member then gets one copy, in log(n) steps. The interval is in ids, not in places, so that two agents whose pictures differ
//! leave nobody out but those whom the sender does not know.
//!
//! What a lost copy cuts off is found by adverts ([`Ring::across`]): each copy number of a head goes to a member at a distance
//! that all agents draw alike, so that every member is told by as many others as there are copies, from all over the ring.

use crate::engine::membership::{Member, MemberState, Membership, Peer};
use crate::engine::wire::packet::Reach;
use crate::model::names::NodeId;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

/// Members of an interval that are looked at for the nearest one.
const CANDIDATES: usize = 3;

/// A round trip assumed of members that were not measured, in microseconds.
const RTT_UNKNOWN_US: u32 = 5_000;

/// A member that is handed a change, and the members it is to take care of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub to: Peer,
    pub reach: Option<Reach>,
}

/// The other members that are not down, by node id.
#[derive(Debug, Default)]
pub struct Ring {
    peers: Vec<Peer>,
    is_current: bool,
}

impl Ring {
    /// Members came or went.
    pub fn changed(&mut self) {
        self.is_current = false;
    }

    pub fn refresh(&mut self, members: &Membership) {
        if !self.is_current {
            self.peers = members.peers().to_vec();
            self.peers.sort_unstable_by_key(|peer| peer.node);
            self.is_current = true;
        }
    }

    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Divides the members in `reach` (none: all) among at most `fanout` of them.
    pub fn divide(&self, me: NodeId, reach: Option<Reach>, fanout: usize, members: &Membership, rng: &mut ChaCha12Rng) -> Vec<Share> {
        let Reach { first, last } = reach.unwrap_or(Reach { first: 0, last: u32::MAX });
        let own = prefix(me);
        // No share reaches across the divider, or its own copy would come back to it from below.
        let below = own.checked_sub(1).map(|end| Reach { first, last: end.min(last) });
        let above = own.checked_add(1).map(|start| Reach { first: start.max(first), last });
        let sides = [below, above].map(|side| side.map(|side| (side, self.within(side))));
        let all: usize = sides.iter().flatten().map(|(_, peers)| peers.len()).sum();
        let mut shares = Vec::with_capacity(fanout);
        for (side, peers) in sides.into_iter().flatten() {
            if peers.is_empty() {
                continue;
            }
            let parts = if all <= fanout { peers.len() } else { (fanout * peers.len()).div_ceil(all).clamp(1, peers.len()) };
            self.cut(side, peers, parts, members, rng, &mut shares);
        }
        shares
    }

    /// Cuts one side into `parts` intervals that leave no id between them out.
    fn cut(&self, side: Reach, peers: &[Peer], parts: usize, members: &Membership, rng: &mut ChaCha12Rng, shares: &mut Vec<Share>) {
        let bound = |part: usize| peers.len() * part / parts;
        for part in 0..parts {
            let inside = &peers[bound(part)..bound(part + 1)];
            let first = if part == 0 { side.first } else { prefix(inside[0].node) };
            let last = peers.get(bound(part + 1)).map_or(side.last, |next| prefix(next.node).saturating_sub(1));
            let to = nearest(inside, members, rng);
            let reach = (inside.len() > 1).then_some(Reach { first, last });
            shares.push(Share { to, reach });
        }
    }

    /// The member at a distance of this fraction (of 2^64) of the ring; agents of one picture never hit one member twice.
    pub fn across(&self, me: NodeId, fraction: u64) -> Option<Peer> {
        let others = self.peers.len();
        if others == 0 {
            return None;
        }
        let own = self.peers.partition_point(|peer| peer.node < me);
        let distance = ((u128::from(fraction) * others as u128) >> 64) as usize;
        Some(self.peers[(own + distance) % others])
    }

    /// Up to `count` members drawn at random.
    pub fn draw(&self, count: usize, rng: &mut ChaCha12Rng) -> Vec<Peer> {
        let count = count.min(self.peers.len());
        let mut drawn: Vec<usize> = Vec::with_capacity(count);
        while drawn.len() < count {
            let at = rng.random_range(0..self.peers.len());
            if !drawn.contains(&at) {
                drawn.push(at);
            }
        }
        drawn.into_iter().map(|at| self.peers[at]).collect()
    }

    fn within(&self, reach: Reach) -> &[Peer] {
        let start = self.peers.partition_point(|peer| prefix(peer.node) < reach.first);
        let end = self.peers.partition_point(|peer| prefix(peer.node) <= reach.last);
        self.peers.get(start..end).unwrap_or_default()
    }
}

/// The place of a node in the ring.
fn prefix(node: NodeId) -> u32 {
    (node.0 >> 96) as u32
}

/// Of a few drawn at random, the nearest that nobody suspects.
fn nearest(peers: &[Peer], members: &Membership, rng: &mut ChaCha12Rng) -> Peer {
    let distance = |peer: &Peer| {
        let member = members.member(peer.node);
        let is_suspect = member.is_some_and(|member: &Member| member.state != MemberState::Alive);
        (is_suspect, member.and_then(|member| member.rtt_us).unwrap_or(RTT_UNKNOWN_US))
    };
    let mut best = peers[rng.random_range(0..peers.len())];
    for _ in 1..CANDIDATES.min(peers.len()) {
        let other = peers[rng.random_range(0..peers.len())];
        if distance(&other) < distance(&best) {
            best = other;
        }
    }
    best
}
