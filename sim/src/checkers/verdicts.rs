//! Invariants 4, 7 and 9 where one agent judges another: a verdict falls on a suspicion that stands, and never from behind a cut; nobody
//! returns whom nobody held down; the living are not given up, nor held dead again once all has been calm for a while.

use super::{Checker, Scene};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use tidings::engine::Engine;
use tidings::engine::membership::{Member, MemberState};
use tidings::model::names::NodeId;

const SECOND: u64 = 1_000_000_000;
/// Who lost half of the members within a minute gives no verdict; a little less, as an agent's clock and this one differ.
const CUT_OFF_NS: u64 = 50 * SECOND;
/// Suspicions, and what others tell of deaths, have run out after so much calm.
const CALM_NS: u64 = 15 * SECOND;

/// A life of a member: its generation, and the nonce of the process.
type Life = (u32, u16);

/// How each process saw the others when it was looked at last.
#[derive(Default)]
pub struct Verdicts {
    stood: BTreeMap<HostId, Stood>,
    /// Lives that somebody held for down.
    buried: BTreeSet<(NodeId, Life)>,
    /// The latest life of each node that anybody knew.
    latest: BTreeMap<NodeId, Life>,
    /// What is looked at now.
    fresh: Vec<Seen>,
}

#[derive(Default)]
struct Stood {
    verdicts: u64,
    renewals: u64,
    me: (NodeId, Life),
    /// By node.
    members: Vec<Seen>,
}

/// A member, as one agent saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    node: NodeId,
    life: Life,
    state: MemberState,
    has_left: bool,
    /// When it was held alive no more, if it is not since.
    lost_at: Option<u64>,
}

impl Seen {
    fn of(member: &Member) -> Self {
        let Member { node, generation, boot, state, left, .. } = *member;
        Self { node, life: (generation, boot), state, has_left: left, lost_at: None }
    }

    fn is(&self, fresh: &Self) -> bool {
        Self { lost_at: None, ..*self } == *fresh
    }
}

/// What one event changed in an agent's picture.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    /// Suspects that are down now.
    condemned: u64,
    /// Members that were up and are down now, and did not say goodbye.
    fallen: Vec<NodeId>,
}

impl Stood {
    /// Brings the picture up to date; none where it is.
    fn follow(&mut self, now: u64, members: &[Seen]) -> Option<Judged> {
        if self.members.len() == members.len() && self.members.iter().zip(members).all(|(seen, member)| seen.is(member)) {
            return None;
        }
        let mut judged = Judged::default();
        let mut news = Vec::with_capacity(self.members.len());
        for member in members {
            let before = self.members.binary_search_by_key(&member.node, |seen| seen.node).ok().map(|at| self.members[at]);
            let mut seen = *member;
            let was = before.map(|before| before.state);
            seen.lost_at = before.and_then(|before| before.lost_at).or((was == Some(MemberState::Alive)).then_some(now));
            if seen.state == MemberState::Alive || seen.has_left {
                seen.lost_at = None;
            }
            let is_fallen = seen.state == MemberState::Down && !seen.has_left && was.is_some_and(|was| was != MemberState::Down);
            judged.condemned += u64::from(is_fallen && was == Some(MemberState::Suspect));
            judged.fallen.extend(is_fallen.then_some(seen.node));
            news.push(seen);
        }
        self.members = news;
        Some(judged)
    }

    /// How many are held alive, this one included, and how many were lost lately.
    fn held_and_lost(&self, now: u64) -> (usize, usize) {
        let held = self.members.iter().filter(|seen| seen.state == MemberState::Alive).count() + 1;
        let is_lost = |seen: &&Seen| seen.lost_at.is_some_and(|at| now < at + CUT_OFF_NS);
        (held, self.members.iter().filter(is_lost).count())
    }
}

impl Verdicts {
    fn judge(&mut self, scene: &Scene<'_>, host: HostId, engine: &Engine) -> Result<(), Violation> {
        let membership = engine.membership();
        let now = scene.world.now();
        self.fresh.clear();
        self.fresh.extend(membership.members().map(Seen::of));
        let stood = self.stood.entry(host).or_default();
        let judged = stood.follow(now, &self.fresh);
        if judged.is_some() {
            for seen in &stood.members {
                let latest = self.latest.entry(seen.node).or_default();
                *latest = seen.life.max(*latest);
                if seen.state == MemberState::Down {
                    self.buried.insert((seen.node, seen.life));
                }
            }
        }
        let Judged { condemned, fallen } = judged.unwrap_or_default();
        let verdicts = membership.counters.verdicts - std::mem::replace(&mut stood.verdicts, membership.counters.verdicts);
        if verdicts > condemned {
            let found = format!("{verdicts} verdicts, on {condemned} suspects; down are now {fallen:?}");
            return Err(scene.violation("verdict-needs-suspicion", &[host], "verdicts on standing suspicions only".into(), found));
        }
        let (held, lost) = stood.held_and_lost(now);
        if verdicts > 0 && lost >= 2 && held <= lost {
            let found = format!("{fallen:?} held down by one who holds {held} and lost {lost} within {} s", CUT_OFF_NS / SECOND);
            return Err(scene.violation("cut-off-gives-no-verdict", &[host], "no verdict of who is cut off".into(), found));
        }
        self.return_of(scene, host, engine)?;
        let fallen: Vec<NodeId> = fallen.into_iter().filter(|node| scene.running().any(|(_, running)| running == *node)).collect();
        if !fallen.is_empty() && scene.is_calm_for(CALM_NS) {
            let expected = format!("nobody who lives held dead, {} s after the last fault", CALM_NS / SECOND);
            return Err(scene.violation("living-stay-alive", &[host], expected, format!("{fallen:?}")));
        }
        Ok(())
    }

    /// Whoever begins a new life was held down in the one before, or heard of a later one that it had.
    fn return_of(&mut self, scene: &Scene<'_>, host: HostId, engine: &Engine) -> Result<(), Violation> {
        let (me, renewals) = (engine.membership().me(), engine.membership().counters.renewals);
        let stood = self.stood.entry(host).or_default();
        let former = std::mem::replace(&mut stood.me, (me.node, (me.generation, me.boot)));
        let is_new = renewals > std::mem::replace(&mut stood.renewals, renewals) && former.0 == me.node;
        let latest = self.latest.entry(me.node).or_default();
        let is_outdated = *latest > former.1;
        *latest = (me.generation, me.boot).max(*latest);
        if is_new && !is_outdated && !self.buried.contains(&former) {
            let expected = format!("somebody who held {:?} down in its life {:?}", former.0, former.1);
            return Err(scene.violation("who-returns-was-held-down", &[host], expected, format!("it is back as {}", me.generation)));
        }
        Ok(())
    }

    /// A mark of reaping takes effect only where its origin is not held alive.
    fn reaped(&self, scene: &Scene<'_>, host: HostId, engine: &Engine) -> Result<(), Violation> {
        let Some(stood) = self.stood.get(&host) else { return Ok(()) };
        for (head, _) in scene.moved.heads.iter().filter(|(head, _)| head.flags.reaped.is_some()) {
            let before = stood.members.binary_search_by_key(&head.origin, |seen| seen.node).map(|at| stood.members[at].state);
            let now = engine.membership().member(head.origin).map(|member| member.state);
            if before == Ok(MemberState::Alive) && now == Some(MemberState::Alive) {
                let expected = format!("{:?}, which is held alive, not given up", head.origin);
                return Err(scene.violation("living-are-not-reaped", &[host], expected, format!("{head:?}")));
            }
        }
        Ok(())
    }
}

impl Checker for Verdicts {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                self.stood.remove(host);
                if let Some(me) = scene.engine(*host).map(|engine| engine.membership().me()) {
                    self.stood.insert(*host, Stood { me: (me.node, (me.generation, me.boot)), ..Stood::default() });
                }
            }
            Note::Handled { host } if scene.is_small() => {
                let Some(engine) = scene.engine(*host) else { return Ok(()) };
                self.reaped(scene, *host, engine)?;
                self.judge(scene, *host, engine)?;
            }
            _ => {}
        }
        Ok(())
    }
}
