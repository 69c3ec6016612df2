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
/// Suspicions, and what others tell of deaths, have run out after so much calm, and who was lost has come back from probation: ten
/// seconds more than its longest wait.
const CALM_NS: u64 = 40 * SECOND;

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
    /// Who is handling a datagram.
    hearing: Option<HostId>,
    /// Who got datagrams while it stood still: it handles them all when it goes on, at once.
    behind: BTreeMap<HostId, Option<u64>>,
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
    /// When it was held alive no more, if it is not since, on the process's own clock.
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
    fn follow(&mut self, own_ns: u64, members: &[Seen]) -> Option<Judged> {
        if self.members.len() == members.len() && self.members.iter().zip(members).all(|(seen, member)| seen.is(member)) {
            return None;
        }
        let mut judged = Judged::default();
        let mut news = Vec::with_capacity(self.members.len());
        for member in members {
            let before = self.members.binary_search_by_key(&member.node, |seen| seen.node).ok().map(|at| self.members[at]);
            let mut seen = *member;
            let was = before.map(|before| before.state);
            seen.lost_at = before.and_then(|before| before.lost_at).or((was == Some(MemberState::Alive)).then_some(own_ns));
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
    fn held_and_lost(&self, own_ns: u64) -> (usize, usize) {
        let held = self.members.iter().filter(|seen| seen.state == MemberState::Alive).count() + 1;
        let is_lost = |seen: &&Seen| seen.lost_at.is_some_and(|at| own_ns < at + CUT_OFF_NS);
        (held, self.members.iter().filter(is_lost).count())
    }
}

impl Verdicts {
    fn judge(&mut self, scene: &Scene<'_>, host: HostId, engine: &Engine) -> Result<(), Violation> {
        let membership = engine.membership();
        let now = scene.world.now();
        let is_frozen = scene.world.host(host).frozen.is_some();
        let is_told = is_frozen || self.is_told(host, now) || !scene.world.notes_packets;
        self.fresh.clear();
        self.fresh.extend(membership.members().map(Seen::of));
        let stood = self.stood.entry(host).or_default();
        // By the time that the process was told: it handles what came while it stood still as of then.
        let own_ns = scene.world.host(host).process.as_ref().map_or(0, |process| process.last_ns);
        let judged = stood.follow(own_ns, &self.fresh);
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
        if fallen.len() as u64 > verdicts && !is_told {
            let expected = "no death believed that only a list of members told of".into();
            return Err(scene.violation(
                "hearsay-is-not-believed",
                &[host],
                expected,
                format!("{fallen:?} down, {verdicts} by its own verdict"),
            ));
        }
        let (held, lost) = stood.held_and_lost(own_ns);
        if verdicts > 0 && lost >= 2 && held <= lost {
            let found = format!("{fallen:?} held down by one who holds {held} and lost {lost} within {} s", CUT_OFF_NS / SECOND);
            return Err(scene.violation("cut-off-gives-no-verdict", &[host], "no verdict of who is cut off".into(), found));
        }
        let me = membership.me();
        self.renewed(host, me.node, (me.generation, me.boot), membership.counters.renewals).map_err(|former| {
            let expected = format!("somebody who held {:?} down in its life {former:?}", me.node);
            scene.violation("who-returns-was-held-down", &[host], expected, format!("it is back as {}", me.generation))
        })?;
        let fallen: Vec<NodeId> = fallen.into_iter().filter(|node| scene.running().any(|(_, running)| running == *node)).collect();
        if !fallen.is_empty() && scene.is_calm_for(CALM_NS) {
            let expected = format!("nobody who lives held dead, {} s after the last fault", CALM_NS / SECOND);
            return Err(scene.violation("living-stay-alive", &[host], expected, format!("{fallen:?}")));
        }
        Ok(())
    }

    /// Whether what a host has just handled was, or may have been, a datagram.
    fn is_told(&mut self, host: HostId, now: u64) -> bool {
        let is_hearing = self.hearing.take() == Some(host);
        let Some(went_on_at) = self.behind.get_mut(&host) else { return is_hearing };
        let is_catching_up = *went_on_at.get_or_insert(now) == now;
        if !is_catching_up {
            self.behind.remove(&host);
        }
        is_hearing || is_catching_up
    }

    /// Whoever begins a new life was held down in the one before, or heard of a later one that it had.
    ///
    /// # Errors
    /// The life that nobody held down.
    fn renewed(&mut self, host: HostId, node: NodeId, life: Life, renewals: u64) -> Result<(), Life> {
        let stood = self.stood.entry(host).or_default();
        let (former_node, former) = std::mem::replace(&mut stood.me, (node, life));
        let is_new = renewals > std::mem::replace(&mut stood.renewals, renewals) && former_node == node;
        let latest = self.latest.entry(node).or_default();
        let is_outdated = *latest > former;
        *latest = life.max(*latest);
        if is_new && !is_outdated && !self.buried.contains(&(node, former)) { Err(former) } else { Ok(()) }
    }

    /// A mark of reaping takes effect only where its origin is not held alive.
    fn reaped(&self, scene: &Scene<'_>, host: HostId, engine: &Engine) -> Result<(), Violation> {
        let Some(stood) = self.stood.get(&host) else { return Ok(()) };
        for head in scene.reaped(host) {
            let before = stood.members.binary_search_by_key(&head.origin, |seen| seen.node).map(|at| stood.members[at].state);
            let now = engine.membership().member(head.origin).map(|member| member.state);
            if reaps_the_living(before.ok(), now) {
                let expected = format!("{:?}, which is held alive, not given up", head.origin);
                return Err(scene.violation("living-are-not-reaped", &[host], expected, format!("{head:?}")));
            }
        }
        Ok(())
    }
}

/// Who dies by the very event that brings the mark may be given up by it.
fn reaps_the_living(before: Option<MemberState>, now: Option<MemberState>) -> bool {
    (before, now) == (Some(MemberState::Alive), Some(MemberState::Alive))
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
            Note::Received { host, .. } => {
                self.hearing = Some(*host);
                if scene.world.host(*host).frozen.is_some() {
                    self.behind.insert(*host, None);
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

#[cfg(test)]
mod tests {
    use super::super::tests::{A, B, whole};
    use super::*;
    use crate::checkers::moves::Moved;
    use tidings::engine::io::Token;
    use tidings::model::command::Command;

    const X: NodeId = NodeId(1);

    fn seen(node: u128, state: MemberState) -> Seen {
        Seen { node: NodeId(node), life: (7, 0), state, has_left: false, lost_at: None }
    }

    #[test]
    fn only_who_was_suspect_counts_as_condemned_and_who_left_not_as_fallen() {
        let mut stood = Stood::default();
        stood.follow(0, &[seen(1, MemberState::Suspect), seen(2, MemberState::Alive), seen(3, MemberState::Suspect)]);
        let left = Seen { has_left: true, ..seen(3, MemberState::Down) };
        let judged = stood.follow(1, &[seen(1, MemberState::Down), seen(2, MemberState::Down), left]);
        assert_eq!(judged, Some(Judged { condemned: 1, fallen: vec![NodeId(1), NodeId(2)] }));
        assert_eq!(stood.follow(2, &[seen(1, MemberState::Down), seen(2, MemberState::Down), left]), None);
    }

    #[test]
    fn the_lost_count_for_a_while_and_not_once_they_are_back() {
        let mut stood = Stood::default();
        stood.follow(0, &[seen(1, MemberState::Alive), seen(2, MemberState::Alive)]);
        stood.follow(5, &[seen(1, MemberState::Suspect), seen(2, MemberState::Down)]);
        assert_eq!(stood.held_and_lost(6), (1, 2));
        stood.follow(7, &[seen(1, MemberState::Alive), seen(2, MemberState::Down)]);
        assert_eq!(stood.held_and_lost(8), (2, 1));
        assert_eq!(stood.held_and_lost(5 + CUT_OFF_NS), (2, 0));
    }

    #[test]
    fn a_return_needs_a_burial_or_a_later_life() {
        let mut verdicts = Verdicts::default();
        verdicts.stood.insert(A, Stood { me: (X, (7, 0)), ..Stood::default() });
        assert_eq!(verdicts.renewed(A, X, (7, 0), 0), Ok(()), "nothing happened");
        assert_eq!(verdicts.renewed(A, X, (8, 0), 1), Err((7, 0)));
        verdicts.buried.insert((X, (8, 0)));
        assert_eq!(verdicts.renewed(A, X, (9, 0), 2), Ok(()));
        verdicts.latest.insert(X, (12, 3));
        assert_eq!(verdicts.renewed(A, X, (13, 0), 3), Ok(()), "a former life of its own was later");
    }

    #[test]
    fn a_mark_is_wrong_where_its_origin_was_held_alive_and_still_is() {
        let (alive, suspect, down) = (Some(MemberState::Alive), Some(MemberState::Suspect), Some(MemberState::Down));
        assert!(reaps_the_living(alive, alive));
        for (before, now) in [(alive, down), (down, down), (suspect, suspect), (None, alive), (alive, None)] {
            assert!(!reaps_the_living(before, now), "{before:?} {now:?}");
        }
    }

    #[test]
    fn the_mark_that_an_operator_puts_on_the_dead_is_seen_and_passes() {
        let mut run = whole();
        let a = run.node(A).expect("it runs");
        let mut verdicts = Verdicts::default();
        verdicts.note(&run.scene(), &Note::Handled { host: B }).unwrap();
        run.kill(A);
        run.run_for(30 * SECOND).unwrap();
        run.world.command(B, Token(u64::MAX), Command::Forget(a));
        run.run_for(SECOND).unwrap();
        let moved = Moved { heads: Vec::new(), gone: vec![a] };
        let scene = Scene { moved: &moved, ..run.scene() };
        assert_eq!(scene.reaped(B).map(|head| head.origin).collect::<Vec<_>>(), [a]);
        verdicts.reaped(&scene, B, scene.engine(B).expect("it runs")).expect("it is dead");
    }

    #[test]
    fn what_is_handled_is_hearsay_unless_it_is_a_datagram_or_one_of_those_that_waited() {
        let mut verdicts = Verdicts::default();
        assert!(!verdicts.is_told(B, 1), "a stream, or a timer");
        verdicts.hearing = Some(B);
        assert!(verdicts.is_told(B, 2));
        assert!(!verdicts.is_told(B, 2));
        verdicts.behind.insert(B, None);
        assert!(verdicts.is_told(B, 5) && verdicts.is_told(B, 5), "all that waited");
        assert!(!verdicts.is_told(B, 6) && !verdicts.is_told(B, 6));
    }

    #[test]
    fn who_comes_to_hold_the_living_dead_in_all_calm_is_caught_and_in_a_storm_is_not() {
        let mut run = whole();
        let note = Note::Handled { host: B };
        let mut before = Verdicts::default();
        before.note(&run.scene(), &note).unwrap();
        run.world.network.isolate(A);
        run.run_for(CALM_NS).unwrap();
        run.world.network.rejoin(A);
        let counted = run.scene().engine(B).expect("it runs").membership().counters.verdicts;
        // As one to whom others told of it.
        before.stood.get_mut(&B).expect("it was looked at").verdicts = counted;
        let mut again = Verdicts { stood: std::mem::take(&mut before.stood), ..Verdicts::default() };
        let kept = again.stood.get(&B).expect("it was looked at").members.clone();
        again.note(&Scene { disturbed_at: run.world.now(), ..run.scene() }, &note).expect("it was cut off just now");
        again.stood.get_mut(&B).expect("it was looked at").members = kept;
        let caught = again.note(&Scene { disturbed_at: 0, ..run.scene() }, &note).unwrap_err();
        assert_eq!(caught.checker, "living-stay-alive");
    }
}
