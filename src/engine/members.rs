//! The members as readers see them: what SWIM holds of each, beside what its node record says and the way to it.
//!
//! Only rows that may have changed are made anew: where packets are lost something changes at every moment, and the whole list of a thousand
//! members takes milliseconds.

use super::Engine;
use super::membership::{Event, MemberState};
use crate::model::names::NodeId;
use crate::model::time::Now;
use crate::view::{self, MemberView};
use std::collections::BTreeSet;

/// Changes of members that come together are shown together, in milliseconds.
const SHOW_MS: u64 = 5;
/// Members are shown with how many instances they have; that may be so old, in milliseconds.
const SHOW_COUNTS_MS: u64 = 1_000;
/// A list of so many members waits a millisecond longer after the one before: making it reads all of them.
const SHOW_MEMBERS_A_MS: u64 = 20;

/// Which rows are to be shown anew, and when.
#[derive(Debug)]
pub(super) struct Members {
    stale: BTreeSet<NodeId>,
    is_all_stale: bool,
    /// In nanoseconds; none while the list is right.
    show_at: Option<u64>,
    shown_ns: Option<u64>,
}

impl Members {
    /// Nobody is shown yet, and all are from the first turn on.
    pub fn new(now: Now) -> Self {
        Self { stale: BTreeSet::new(), is_all_stale: true, show_at: Some(now.ns), shown_ns: None }
    }

    pub fn deadline(&self) -> Option<u64> {
        self.show_at
    }

    /// Something about one member is new.
    pub fn changed(&mut self, now: Now, node: NodeId, members: usize) {
        self.stale.insert(node);
        self.show_soon(now, members);
    }

    /// Something about any of them may be new.
    pub fn all_changed(&mut self, now: Now, members: usize) {
        self.is_all_stale = true;
        self.show_soon(now, members);
    }

    /// What a member's records say is new: it has time.
    pub fn facts_changed(&mut self, now: Now, node: NodeId) {
        self.stale.insert(node);
        self.show_at.get_or_insert(now.after_ms(SHOW_COUNTS_MS));
    }

    fn show_soon(&mut self, now: Now, members: usize) {
        let pause_ns = members as u64 * 1_000_000 / SHOW_MEMBERS_A_MS;
        let rested = self.shown_ns.map_or(0, |shown_ns| shown_ns + pause_ns);
        let soon = now.after_ms(SHOW_MS).max(rested);
        self.show_at = Some(self.show_at.map_or(soon, |at| at.min(soon)));
    }

    fn is_due(&self, now: Now) -> bool {
        self.show_at.is_some_and(|at| at <= now.ns)
    }
}

impl Engine {
    /// Marks the rows of those whom an event is about.
    pub(super) fn mark_members(&mut self, now: Now, event: Event) {
        let members = self.membership.alive();
        match event {
            Event::Up(node) | Event::Suspected(node) | Event::Lost(node) | Event::Cleared(node) | Event::Down(node) | Event::Left(node) => {
                self.members.changed(now, node, members);
            }
            Event::Moved { node, .. } | Event::Renewed(node) => self.members.changed(now, node, members),
            Event::TakenOver { old, by } => {
                self.members.changed(now, old, members);
                self.members.changed(now, by, members);
            }
            Event::Rejoined | Event::LostTwin { .. } | Event::CutOff(_) => self.members.all_changed(now, members),
            Event::NeedState { .. } => {}
        }
    }

    /// Hands the list to the editor when its time has come.
    pub(super) fn show_members(&mut self, now: Now) {
        if !self.members.is_due(now) {
            return;
        }
        self.members.stale.extend(self.catalog.take_reshown());
        (self.members.show_at, self.members.shown_ns) = (None, Some(now.ns));
        let stale = std::mem::take(&mut self.members.stale);
        if std::mem::take(&mut self.members.is_all_stale) {
            let rows = self.all_rows();
            self.catalog.editor().set_members(|_| true, rows);
            return;
        }
        let rows: Vec<MemberView> = stale.iter().filter_map(|node| self.row(*node)).collect();
        let membership = &self.membership;
        let me = membership.me().node;
        self.catalog.editor().set_members(|node| stale.contains(&node) || (node != me && membership.member(node).is_none()), rows);
        debug_assert!(self.is_list_right(), "a row changed that nobody marked");
    }

    /// Whether the list is what it would be if all of it were made anew.
    fn is_list_right(&mut self) -> bool {
        let mut rows = self.all_rows();
        rows.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        self.catalog.editor().view().members.iter().map(|row| &**row).eq(rows.iter())
    }

    fn all_rows(&self) -> Vec<MemberView> {
        let others = self.membership.members().map(|member| member.node);
        std::iter::once(self.membership.me().node).chain(others).filter_map(|node| self.row(node)).collect()
    }

    /// A member as it is shown now; none where nobody is known by that id.
    fn row(&self, node: NodeId) -> Option<MemberView> {
        let me = self.membership.me();
        let (gossip, incarnation, state, left, since) = if node == me.node {
            (me.addr, u64::from(me.generation), MemberState::Alive, false, self.me_since_ms)
        } else {
            let member = self.membership.member(node)?;
            (member.addr, u64::from(member.generation), member.state, member.left, member.since.wall_ms)
        };
        let has_left = left || self.catalog.head(node).is_some_and(|head| head.flags.left);
        let facts = self.catalog.member_facts(node);
        let info = facts.as_ref().map(|facts| &facts.info);
        let text = |text: &str| text.to_owned();
        Some(MemberView {
            id: node,
            name: facts.as_ref().map(|facts| facts.name.clone()).unwrap_or_default(),
            gossip,
            state: match state {
                _ if has_left => view::MemberState::Left,
                MemberState::Alive => view::MemberState::Alive,
                MemberState::Suspect => view::MemberState::Suspect,
                MemberState::Down => view::MemberState::Down,
            },
            incarnation,
            datacenter: info.map(|info| text(&info.datacenter)).unwrap_or_default(),
            zone: info.and_then(|info| info.zone.as_ref()).map(|zone| text(zone)),
            version: info.map(|info| text(&info.version)).unwrap_or_default(),
            http_port: info.and_then(|info| info.http_port),
            dns_port: info.and_then(|info| info.dns_port),
            is_gateway: info.is_some_and(|info| info.is_gateway),
            instances: facts.as_ref().map_or(0, |facts| facts.instances),
            rtt_us: self.rtts.of(node),
            coordinate: self.rtts.place_of(node),
            since,
            is_name_taken: facts.as_ref().is_some_and(|facts| facts.is_name_taken),
            word: facts.and_then(|facts| facts.word),
        })
    }
}
