//! The members this agent knows, by node id: the same merging rule as foca's list, without its linear scans.
//!
//! Every update passes here first; only what changes something is handed on to foca, so the two never differ.

use super::codec::Update;
use super::identity::Identity;
use crate::model::names::NodeId;
use crate::model::time::Now;
use foca::State;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Alive,
    /// Somebody's probe went unanswered; it may still contradict.
    Suspect,
    Down,
}

impl From<State> for MemberState {
    fn from(state: State) -> Self {
        match state {
            State::Alive => Self::Alive,
            State::Suspect => Self::Suspect,
            State::Down => Self::Down,
        }
    }
}

/// One other agent as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    pub addr: SocketAddr,
    pub generation: u32,
    pub boot: u16,
    /// Rises when the member contradicts a suspicion.
    pub incarnation: u16,
    pub state: MemberState,
    /// Since when it is in this state.
    pub since: Now,
    /// It said goodbye; only with [`MemberState::Down`].
    pub left: bool,
    /// Times it came back from the dead, or renewed itself, in the last minutes.
    pub flaps: u32,
    /// Round trip of the probes it answered, smoothed, in microseconds.
    pub rtt_us: Option<u32>,
    flapped_ns: u64,
    /// Who says that it is down.
    pub(super) verdict: Verdict,
    /// When it was last told that it is held down, or of an outdated identity.
    pub(super) told_ns: Option<u64>,
    /// Where it stands among the peers.
    slot: Option<usize>,
}

/// Returns from the dead are added up while they follow each other within this, in nanoseconds.
const FLAP_WINDOW_NS: u64 = 600_000_000_000;
/// Changes of the set of members that are kept to be told again.
const LATELY_MAX: usize = 32;
const FLAPS_UNSTABLE: u32 = 3;

/// Who holds a down member down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Others told, or it did itself.
    Heard,
    /// This agent's own, in company.
    Own,
    /// This agent's own, while it had contact with nobody: worth nothing once there is contact.
    Alone,
}

impl Member {
    /// Whether it comes and goes: better served last.
    pub fn is_unstable(&self, now: Now) -> bool {
        self.flaps >= FLAPS_UNSTABLE && now.ns.saturating_sub(self.flapped_ns) < FLAP_WINDOW_NS
    }

    pub fn is_up(&self) -> bool {
        self.state != MemberState::Down
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { node: self.node, addr: self.addr, generation: self.generation, boot: self.boot, left: self.left }
    }

    /// As it would be told to others.
    pub(super) fn update(&self) -> Update {
        let state = match self.state {
            MemberState::Alive => State::Alive,
            MemberState::Suspect => State::Suspect,
            MemberState::Down => State::Down,
        };
        Update::new(self.identity(), self.incarnation, state)
    }

    fn flap(&mut self, now: Now) {
        if now.ns.saturating_sub(self.flapped_ns) >= FLAP_WINDOW_NS {
            self.flaps = 0;
        }
        self.flaps = self.flaps.saturating_add(1);
        self.flapped_ns = now.ns;
    }
}

/// A member that can be probed: what others sample from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub addr: SocketAddr,
}

/// What an update did.
#[derive(Debug)]
pub(super) enum Merged {
    /// It says nothing new, or the identity it is about was replaced.
    Stale,
    /// The table is full.
    Full,
    Changed(Change),
}

#[derive(Debug)]
pub(super) struct Change {
    pub was: Option<MemberState>,
    pub is: MemberState,
    /// The identity that was replaced.
    pub replaced: Option<Identity>,
}

impl Change {
    pub fn was_up(&self) -> bool {
        matches!(self.was, Some(MemberState::Alive | MemberState::Suspect))
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    members: BTreeMap<NodeId, Member>,
    peers: Vec<Peer>,
    /// All members by address; several where one took over from another.
    by_addr: BTreeSet<(SocketAddr, NodeId)>,
    down: BTreeSet<(u64, NodeId)>,
    alive: usize,
    /// Over the identities of all that are up.
    digest: u64,
    /// The latest changes of the set of members, the newest last; at most [`LATELY_MAX`].
    lately: VecDeque<(u64, NodeId)>,
}

impl Table {
    pub fn find(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// All that are known, in whatever state.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Members held alive, suspects not counted.
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// A sum over the members that are up: equal tables have equal ones.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// When the set of members last changed.
    pub fn changed_ns(&self) -> u64 {
        self.lately.back().map_or(0, |(at, _)| *at)
    }

    /// Who changed since `since_ns`, the latest first; some may come twice.
    pub fn changed_since(&self, since_ns: u64) -> impl Iterator<Item = &Member> {
        let lately = self.lately.iter().rev().take_while(move |(at, _)| *at >= since_ns);
        lately.filter_map(|(_, node)| self.members.get(node))
    }

    fn note_change(&mut self, now: Now, node: NodeId) {
        if self.lately.len() >= LATELY_MAX {
            self.lately.pop_front();
        }
        self.lately.push_back((now.ns, node));
    }

    pub fn down_len(&self) -> usize {
        self.down.len()
    }

    pub fn oldest_down(&self) -> Option<(u64, NodeId)> {
        self.down.first().copied()
    }

    /// Down members, the latest first.
    pub fn recent_down(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.down.iter().rev().map(|(at, node)| (*at, &self.members[node]))
    }

    /// All that are held at an address.
    pub fn at(&self, addr: SocketAddr) -> impl Iterator<Item = &Member> {
        let range = (addr, NodeId(0))..=(addr, NodeId(u128::MAX));
        self.by_addr.range(range).map(|(_, node)| &self.members[node])
    }

    pub fn set_rtt(&mut self, node: NodeId, sample_us: u32) {
        if let Some(member) = self.members.get_mut(&node) {
            let smoothed = member.rtt_us.map_or(sample_us, |rtt| ((u64::from(rtt) * 7 + u64::from(sample_us)) / 8) as u32);
            member.rtt_us = Some(smoothed);
        }
    }

    pub fn set_told(&mut self, now: Now, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node) {
            member.told_ns = Some(now.ns);
        }
    }

    pub fn set_verdict(&mut self, node: NodeId, verdict: Verdict) {
        if let Some(member) = self.members.get_mut(&node) {
            member.verdict = verdict;
        }
    }

    /// Takes a verdict or a suspicion back: the member is alive at this incarnation.
    pub fn revive(&mut self, now: Now, node: NodeId, incarnation: u16) {
        self.unlink(node);
        let member = self.members.get_mut(&node).expect("the caller found it");
        if member.state == MemberState::Down {
            member.flap(now);
        }
        member.state = MemberState::Alive;
        member.incarnation = incarnation;
        member.since = now;
        member.left = false;
        self.link(node);
        self.note_change(now, node);
    }

    /// Takes an update in, by foca's rule but for one thing: the later identity replaces the earlier; of one identity Down is final, unless
    /// it was pronounced at a lower incarnation than we hold, and so on a suspicion that was contradicted; a higher incarnation
    /// wins, and at the same one Suspect wins over Alive.
    pub fn merge(&mut self, now: Now, update: &Update, members_max: usize) -> Merged {
        let is = MemberState::from(update.state());
        let Some(member) = self.members.get_mut(&update.id().node) else {
            if self.members.len() >= members_max {
                return Merged::Full;
            }
            self.insert(now, update);
            self.note_change(now, update.id().node);
            return Merged::Changed(Change { was: None, is, replaced: None });
        };
        let was = member.state;
        let known = member.identity();
        let replaced = (known != *update.id()).then_some(known);
        let is_news = match &replaced {
            Some(known) => update.id().beats(known),
            None => overrides((was, member.incarnation), (is, update.incarnation())),
        };
        if !is_news {
            return Merged::Stale;
        }
        let node = member.node;
        self.unlink(node);
        let member = self.members.get_mut(&node).expect("found above");
        if was != is {
            member.since = now;
        }
        if (was == MemberState::Down && is != MemberState::Down) || (replaced.is_some() && member.generation != update.id().generation) {
            member.flap(now);
        }
        if replaced.is_some_and(|old| old.addr != update.id().addr) {
            member.rtt_us = None;
        }
        member.addr = update.id().addr;
        member.generation = update.id().generation;
        member.boot = update.id().boot;
        member.left = is == MemberState::Down && update.id().left;
        member.incarnation = update.incarnation();
        member.state = is;
        member.verdict = Verdict::Heard;
        self.link(node);
        if replaced.is_some() || is == MemberState::Down {
            self.note_change(now, node);
        }
        Merged::Changed(Change { was: Some(was), is, replaced })
    }

    fn insert(&mut self, now: Now, update: &Update) {
        let id = update.id();
        let state = MemberState::from(update.state());
        let member = Member {
            node: id.node,
            addr: id.addr,
            generation: id.generation,
            boot: id.boot,
            incarnation: update.incarnation(),
            state,
            since: now,
            left: state == MemberState::Down && id.left,
            flaps: 0,
            rtt_us: None,
            flapped_ns: 0,
            verdict: Verdict::Heard,
            told_ns: None,
            slot: None,
        };
        self.members.insert(id.node, member);
        self.link(id.node);
    }

    pub fn remove(&mut self, node: NodeId) -> Option<Member> {
        if !self.members.contains_key(&node) {
            return None;
        }
        self.unlink(node);
        self.members.remove(&node)
    }

    /// Enters a member into the indexes.
    fn link(&mut self, node: NodeId) {
        let member = self.members.get_mut(&node).expect("the caller found it");
        self.by_addr.insert((member.addr, node));
        if member.state == MemberState::Down {
            self.down.insert((member.since.ns, node));
            return;
        }
        self.digest = self.digest.wrapping_add(member.identity().fingerprint());
        member.slot = Some(self.peers.len());
        self.peers.push(Peer { node, addr: member.addr });
        if member.state == MemberState::Alive {
            self.alive += 1;
        }
    }

    /// Takes it out of them, before its fields change.
    fn unlink(&mut self, node: NodeId) {
        let member = self.members.get_mut(&node).expect("the caller found it");
        self.by_addr.remove(&(member.addr, node));
        let Some(slot) = member.slot.take() else {
            self.down.remove(&(member.since.ns, node));
            return;
        };
        self.digest = self.digest.wrapping_sub(member.identity().fingerprint());
        if member.state == MemberState::Alive {
            self.alive -= 1;
        }
        self.peers.swap_remove(slot);
        if let Some(moved) = self.peers.get(slot) {
            self.members.get_mut(&moved.node).expect("peers are members").slot = Some(slot);
        }
    }
}

/// Whether (state, incarnation) `new` is news to who holds `old` of the same identity.
fn overrides(old: (MemberState, u16), new: (MemberState, u16)) -> bool {
    use MemberState::{Alive, Down, Suspect};
    match (old.0, new.0) {
        (Down, _) => false,
        // Who contradicted the suspicion that led to a verdict is not dead by it: the judge did not hear.
        (Alive | Suspect, Down) | (Alive, Suspect) => new.1 >= old.1,
        (Alive | Suspect, Alive) | (Suspect, Suspect) => new.1 > old.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(incarnation: u16, state: State) -> Update {
        let addr = SocketAddr::from(([10, 0, 0, 1], 7946));
        Update::new(Identity { node: NodeId(7), addr, generation: 1, boot: 0, left: false }, incarnation, state)
    }

    fn state_after(updates: &[Update]) -> MemberState {
        let mut table = Table::default();
        for update in updates {
            table.merge(Now::default(), update, 10);
        }
        table.find(NodeId(7)).expect("it was told of").state
    }

    #[test]
    fn a_verdict_on_a_suspicion_that_was_contradicted_counts_for_nothing() {
        let contradicted = [update(0, State::Suspect), update(1, State::Alive)];
        assert_eq!(state_after(&[&contradicted[..], &[update(0, State::Down)]].concat()), MemberState::Alive);
        assert_eq!(state_after(&[&contradicted[..], &[update(1, State::Suspect), update(0, State::Down)]].concat()), MemberState::Suspect);
    }

    #[test]
    fn a_verdict_at_the_incarnation_that_is_held_is_final() {
        let judged = [update(1, State::Alive), update(1, State::Down), update(2, State::Alive)];
        assert_eq!(state_after(&judged), MemberState::Down);
    }
}
