//! The end of origins: what membership says of them, when they are given up, what outlives them (protocol §2, §3).
//!
//! ```text
//!   alive ──> down ──listed_ms──> not listed ──reap_after──> reaped (a mark with its day) ──6 days──> not accepted ──7──> forgotten
//!     ^________|_____________________|            ^
//!                                                 └── another agent's mark, where membership does not hold the origin alive
//! ```
//!
//! Marks are no part of the root: whoever still tells of a reaped origin is told of its mark. So an agent that never knew the origin
//! need not know that it was given up.

use super::apply::Applied;
use super::history::Heard;
use super::liveness::{Life, UNVERIFIED_MS_MAX, Word};
use super::origin::Origin;
use super::table::{OriginIx, Slot, SlotIx};
use super::tombstones::OutOfSight;
use super::{Catalog, Effect, Urgency, claims};
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::Advert;
use crate::model::command::Refusal;
use crate::model::names::NodeId;
use crate::model::node::Liveness;
use crate::model::record::{Epoch, Key, Kind, Scope, Uid};
use crate::model::time::Now;
use std::collections::BTreeSet;

const DAY_MS: u64 = 86_400_000;
/// A mark of at most this age is taken from others.
const MARK_ACCEPTED_DAYS: u64 = 6;
/// A mark of this age is forgotten. Nobody holds a younger copy of it: none is accepted in the day between.
const MARK_KEPT_DAYS: u64 = 7;
/// How long an origin that membership does not name is held aside, in milliseconds.
const UNNAMED_MS_MAX: u64 = 60_000;
/// What an origin leaves behind is issued anew by whoever gave it up; others wait this long to see it, in milliseconds.
const ESTATE_WAIT_MS: u64 = 10_000;
/// For so long what an origin of another datacenter left counts after its mark came, in milliseconds. By then its heirs' words have come,
/// too: what none of them said again, nobody there holds, and it must not hide here what is shown there.
const FOREIGN_ESTATE_MS: u64 = 60_000;
/// Agents give an origin up at slightly different times, so that mostly one does and the others hear of it: up to this, in milliseconds.
const REAP_SPREAD_MS: u64 = 600_000;
/// What is looked at in one turn.
const TURN: usize = 256;

/// When which origin is to be looked at again, and what outlives those that are gone.
#[derive(Debug, Default)]
pub(super) struct Reaping {
    wakes: BTreeSet<(u64, NodeId)>,
    /// Origins of a copy that membership has not named to this life.
    pub recalled: BTreeSet<NodeId>,
    /// Ids that this agent gave up to a twin, until membership names the twin.
    former: BTreeSet<NodeId>,
    /// When membership first held another agent alive, in nanoseconds.
    met_at_ns: Option<u64>,
    /// Whose words on which keys are to be issued anew, and when, in nanoseconds.
    estate: BTreeSet<(u64, NodeId, Uid)>,
}

impl Reaping {
    pub fn deadline(&self) -> Option<u64> {
        let wake = self.wakes.first().map(|(due_ns, _)| *due_ns);
        let estate = self.estate.first().map(|(due_ns, ..)| *due_ns);
        [wake, estate].into_iter().flatten().min()
    }
}

impl Catalog {
    /// Membership's word on an agent changed, or is its first.
    pub fn on_member(&mut self, now: Now, node: NodeId, word: Word) {
        if node == self.me {
            return;
        }
        let ix = match self.table.origin_ix(node) {
            Some(ix) => ix,
            None => self.table.add_origin(Origin::new(node, Life::unheard(now), now.ns)),
        };
        let was_named = self.table.origin(ix).life.is_named;
        self.unnamed.remove(&node);
        self.reaping.recalled.remove(&node);
        self.reaping.former.remove(&node);
        if word == Word::Alive && self.reaping.met_at_ns.is_none() {
            self.reaping.met_at_ns = Some(now.ns);
            let due_ns = now.after_ms(UNNAMED_MS_MAX);
            self.reaping.wakes.extend(self.reaping.recalled.iter().map(|origin| (due_ns, *origin)));
        }
        self.table.change_head(ix, |origin| {
            let before = origin.life;
            let is_unverified = |word: Option<Word>| matches!(word, None | Some(Word::Hearsay | Word::Lost));
            let stays = before.word == Some(word) || is_unverified(before.word) && is_unverified(Some(word)) && before.is_named;
            let (since_ns, since_wall_ms) = if stays { (before.since_ns, before.since_wall_ms) } else { (now.ns, now.wall_ms) };
            let is_present = matches!(word, Word::Alive | Word::Suspected);
            let present_since_ns = is_present.then_some(before.present_since_ns.unwrap_or(now.ns));
            origin.life = Life { is_named: true, is_recalled: false, word: Some(word), since_ns, since_wall_ms, present_since_ns };
        });
        if !was_named && self.table.origin(ix).epoch > 0 {
            // What was held aside competes from now on.
            self.head_moved(ix);
            self.yield_to(now, ix);
        }
        self.refresh_life(now, ix);
    }

    /// This agent goes by another id now: what it knows under the old one is a twin's, as soon as membership names that.
    pub(super) fn leave_to_twin(&mut self, now: Now, ix: OriginIx) {
        let old = self.table.origin(ix).id;
        self.table.change_head(ix, |origin| origin.life = Life { is_recalled: true, ..Life::unheard(now) });
        self.reaping.recalled.insert(old);
        self.reaping.former.insert(old);
        self.reaping.wakes.insert((now.after_ms(UNNAMED_MS_MAX), old));
    }

    /// `old` was replaced by another agent on the same host: it will not come back.
    pub fn taken_over(&mut self, now: Now, old: NodeId) {
        self.on_member(now, old, Word::Down);
        if let Some(ix) = self.table.origin_ix(old).filter(|ix| *ix != self.own_ix) {
            // All see it at once: each waits for its turn to issue what is left.
            self.give_up(now, ix, ESTATE_WAIT_MS);
        }
    }

    /// An operator gives a node up that is not alive.
    pub(super) fn forget(&mut self, now: Now, node: NodeId) -> Result<(), Refusal> {
        let unknown = || Refusal::NotFound { what: format!("node {node}") };
        let ix = self.table.origin_ix(node).ok_or_else(unknown)?;
        let origin = self.table.origin(ix);
        if ix == self.own_ix || origin.life.is_alive() {
            return Err(Refusal::Invalid { what: format!("node {node} is alive: only a node that is gone can be forgotten") });
        }
        self.give_up(now, ix, 0);
        Ok(())
    }

    /// How an origin's instances are served now.
    pub(super) fn liveness(&self, ix: OriginIx, now: Now) -> Liveness {
        let origin = self.table.origin(ix);
        if ix == self.own_ix {
            return Liveness::Alive;
        }
        let liveness = origin.life.liveness(origin.flags.left, now.ns);
        if liveness == Liveness::Down && self.config.broken.is(Rule::DeathHidesNothing) { Liveness::Alive } else { liveness }
    }

    /// Shows an origin as it lives now, and notes when to look again.
    pub(super) fn refresh_life(&mut self, now: Now, ix: OriginIx) {
        let liveness = self.liveness(ix, now);
        let origin = self.table.origin(ix);
        let since_ns = origin.life.since_ns;
        let gone_ms = now.ns.saturating_sub(since_ns) / 1_000_000;
        let is_listed = liveness != Liveness::Down || gone_ms < self.config.listed_ms;
        let (id, mark) = (origin.id, origin.flags.reaped);
        let Life { is_named, is_recalled, .. } = origin.life;
        self.show_origin(ix, liveness, is_listed);
        if ix == self.own_ix || matches!(liveness, Liveness::Alive | Liveness::Suspect) {
            return;
        }
        let after = |ms: u64| since_ns.saturating_add(ms.saturating_mul(1_000_000));
        let steps = [
            after(UNVERIFIED_MS_MAX),
            after(self.config.listed_ms),
            after(self.reap_after_ms(id)),
            if is_named || is_recalled { u64::MAX } else { after(UNNAMED_MS_MAX) },
            mark.map_or(u64::MAX, |day| now.after_ms(mark_ends_ms(day).saturating_sub(now.wall_ms).max(1_000))),
        ];
        let next = steps.into_iter().filter(|at| *at > now.ns && *at != u64::MAX).min();
        self.reaping.wakes.extend(next.map(|at| (at, id)));
    }

    /// With a share of its own for each pair of agents: one gives an origin up, the others mostly hear of it.
    fn reap_after_ms(&self, origin: NodeId) -> u64 {
        let mixed = (self.me.0 ^ origin.0.rotate_left(64)) as u64;
        let share = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let spread_ms = REAP_SPREAD_MS.min(self.config.reap_after_ms / 10);
        self.config.reap_after_ms.saturating_add((share * spread_ms) >> 32)
    }

    /// Looks at origins whose time has come, and at what the gone ones left.
    pub(super) fn reap(&mut self, now: Now) {
        for _ in 0..TURN {
            let Some((due_ns, id)) = self.reaping.wakes.first().copied().filter(|(due_ns, _)| *due_ns <= now.ns) else { break };
            self.reaping.wakes.remove(&(due_ns, id));
            let Some(ix) = self.table.origin_ix(id) else { continue };
            self.look_at(now, ix);
        }
        self.settle_estate(now);
    }

    fn look_at(&mut self, now: Now, ix: OriginIx) {
        let origin = self.table.origin(ix);
        let gone_ms = now.ns.saturating_sub(origin.life.since_ns) / 1_000_000;
        if origin.life.is_recalled {
            let since_ns = self.reaping.met_at_ns.map(|met_at_ns| met_at_ns.max(origin.life.since_ns));
            let is_missed = since_ns.is_some_and(|since_ns| now.ns >= since_ns + UNNAMED_MS_MAX * 1_000_000);
            if is_missed || gone_ms >= UNVERIFIED_MS_MAX {
                // The twin is gone, too. Nobody but this agent may know that the id was: it says so.
                if self.reaping.former.contains(&origin.id) {
                    self.taken_over(now, origin.id);
                } else {
                    self.forget_origin(ix);
                }
                return;
            }
        } else if !origin.life.is_named {
            if gone_ms >= UNNAMED_MS_MAX {
                self.counters.origins_unnamed += 1;
                self.forget_origin(ix);
                return;
            }
        } else if let Some(day) = origin.flags.reaped {
            if now.wall_ms >= mark_ends_ms(day) && !origin.life.is_alive() {
                self.forget_origin(ix);
                return;
            }
        } else if ix != self.own_ix && !origin.life.is_alive() && gone_ms >= self.reap_after_ms(origin.id) {
            self.give_up(now, ix, 0);
            return;
        }
        self.refresh_life(now, ix);
    }

    /// Puts the mark on an origin and takes its place for what outlives it.
    fn give_up(&mut self, now: Now, ix: OriginIx, wait_ms: u64) {
        let origin = self.table.origin(ix);
        if origin.flags.reaped.is_some() {
            return;
        }
        if origin.epoch == 0 {
            // Nothing of it was ever known: there is nothing to mark.
            return;
        }
        let today = (now.wall_ms / DAY_MS) as u32;
        let (id, epoch, seq) = (origin.id, origin.epoch, origin.seq);
        self.bear_mark(now, ix, epoch, today, wait_ms);
        self.effects.push_back(Effect::Fresh { origin: id, seq, urgency: Urgency::Repair });
    }

    /// A peer tells of a mark.
    pub(super) fn hear_mark(&mut self, now: Now, ix: OriginIx, advert: &Advert) -> Heard {
        match self.apply_mark(now, ix, advert.epoch, *advert).tell_origin {
            Some(mark) => Heard::TellOrigin(mark),
            None if self.table.origin(ix).epoch > advert.epoch => Heard::Ahead,
            None => Heard::Equal,
        }
    }

    /// Takes another agent's mark, where membership does not hold the origin alive; there the origin must hear of it.
    pub(super) fn apply_mark(&mut self, now: Now, ix: OriginIx, epoch: Epoch, mark: Advert) -> Applied {
        let origin = self.table.origin(ix);
        let today = now.wall_ms / DAY_MS;
        let Some(day) = mark.flags.reaped.filter(|day| {
            let day = u64::from(*day);
            day <= today + 1 && today.saturating_sub(day) <= MARK_ACCEPTED_DAYS
        }) else {
            return Applied::default();
        };
        if epoch < origin.epoch || !origin.life.is_named {
            return Applied::default();
        }
        if origin.life.is_alive() && !self.config.broken.is(Rule::ReapsTheLiving) {
            return Applied { tell_origin: Some(mark), ..Applied::default() };
        }
        let is_known = origin.epoch == epoch && origin.flags.reaped.is_some();
        let day = origin.flags.reaped.filter(|_| is_known).map_or(day, |known| known.max(day));
        if is_known && origin.flags.reaped == Some(day) {
            return Applied::default();
        }
        self.bear_mark(now, ix, epoch, day, ESTATE_WAIT_MS);
        Applied { advanced: true, news: Some(Urgency::Repair), ..Applied::default() }
    }

    /// Drops the records of a marked origin. What outlives it stays as it is until somebody has issued it anew, after a while: between
    /// its origin's word and an heir's there is no moment without one.
    fn bear_mark(&mut self, now: Now, ix: OriginIx, epoch: Epoch, day: u32, wait_ms: u64) {
        self.counters.reaped += 1;
        let share_ms = (self.me.0 >> 64) as u64 % ESTATE_WAIT_MS;
        let is_import = self.config.is_import;
        let due_ns = now.after_ms(match wait_ms {
            _ if is_import => FOREIGN_ESTATE_MS,
            0 => 0,
            _ => wait_ms + share_ms,
        });
        let id = self.table.origin(ix).id;
        for ix in self.slots_of(ix) {
            let slot = self.table.slot(ix);
            let uid = slot.uid();
            let key = slot.content().and_then(|content| content.key().ok());
            let outlives = key.is_some_and(|key| key.outlives_its_origin()) && claims::winner(&self.table, uid) == Some(ix);
            // A delete, and an instance that ends like one, may hide what others hold who do not know of it.
            if !slot.is_live() || outlives || self.end_instance(now, ix) {
                self.reaping.estate.insert((due_ns, id, uid));
            } else {
                self.drop_slot(ix);
            }
        }
        self.table.change_head(ix, |origin| {
            origin.held.clear();
            if origin.flags.reaped.is_none() {
                origin.lineage = origin.lives();
            }
            origin.epoch = epoch;
            origin.flags.reaped = Some(day);
            origin.is_disputed = false;
            origin.changed_ns = now.ns;
        });
        self.effects.push_back(Effect::HeadMoved(self.table.origin(ix).id));
        self.refresh_life(now, ix);
        self.settle_estate(now);
    }

    /// An instance of a marked origin ends as if it had been deleted: what it took the place of at other origins, or was deleted there
    /// before, does not come back by its death. The claim is below the instance's own, so that it is not hidden itself if it returns.
    /// Says whether there was an instance that could have taken the place of another.
    fn end_instance(&mut self, now: Now, ix: SlotIx) -> bool {
        let slot = self.table.slot(ix);
        let key = slot.content().and_then(|content| content.key().ok());
        let is_its_own = |key: &Key<'_>| key.scope != Scope::Agent && !key.outlives_its_origin();
        let is_instance = key.is_some_and(|key| key.kind == Kind::INSTANCE && is_its_own(&key));
        if is_instance {
            let (uid, origin, seq, claim) = (slot.uid(), slot.origin, slot.seq, slot.claim.saturating_sub(1));
            self.table.end(ix, Kind::INSTANCE, claim);
            self.bury(now, ix, seq);
            self.mark(origin, uid, Kind::INSTANCE);
        }
        is_instance
    }

    /// Issues anew what gone origins left and is due, as much as fits in a turn.
    fn settle_estate(&mut self, now: Now) {
        if self.reaping.estate.first().is_none_or(|(due_ns, ..)| *due_ns > now.ns) {
            return;
        }
        let away = self.out_of_sight(now);
        for _ in 0..TURN {
            let Some(entry) = self.reaping.estate.first().copied().filter(|(due_ns, ..)| *due_ns <= now.ns) else { return };
            self.reaping.estate.remove(&entry);
            let (_, origin, uid) = entry;
            self.inherit(now, origin, uid, away);
        }
    }

    /// Issues anew, with the same claim, what a gone origin left, unless somebody did or wrote or deleted it later. Of another datacenter
    /// it is only dropped.
    fn inherit(&mut self, now: Now, gone: NodeId, uid: Uid, away: OutOfSight) {
        // Who has returned speaks for itself.
        let Some(gone_ix) = self.table.origin_ix(gone).filter(|ix| self.table.origin(*ix).flags.reaped.is_some()) else { return };
        let Some(left_ix) = self.table.find(gone_ix, uid) else { return };
        let left = self.table.slot(left_ix);
        let (claim, is_live, state) = (left.claim, left.is_live(), left.record().state);
        let others = || self.table.chain(uid).filter(|ix| *ix != left_ix).map(|ix| self.table.slot(ix));
        let is_settled = others().any(|slot| {
            let outranks = slot.claim > claim || slot.claim == claim && (is_live || !slot.is_live());
            outranks && self.table.origin(slot.origin).flags.reaped.is_none()
        });
        // With nothing left to hide, here or where nobody looks, a delete needs no heir.
        let is_needed = is_live || others().any(Slot::is_live) || away.concerns(gone_ix);
        if !is_settled && is_needed && !self.config.is_import {
            self.write(now, uid, claim, state, Urgency::Repair);
        }
        // Tombstones stay as long as any: a delete is not undone by a death. What is said of another datacenter is said there.
        if is_live || self.config.is_import {
            self.drop_slot(left_ix);
        }
    }

    pub(super) fn forget_origin(&mut self, ix: OriginIx) {
        for slot in self.slots_of(ix) {
            self.drop_slot(slot);
        }
        let id = self.table.origin(ix).id;
        self.unnamed.remove(&id);
        self.reaping.recalled.remove(&id);
        self.reaping.former.remove(&id);
        self.forget_node(ix);
        self.fold.forget_origin(ix);
        self.table.remove_origin(ix);
    }

    /// Everything of an origin that competes from now on may end a claim of this agent's.
    fn yield_to(&mut self, now: Now, ix: OriginIx) {
        for slot in self.slots_of(ix) {
            let uid = self.table.slot(slot).uid();
            let kind = self.table.slot(slot).kind().unwrap_or(Kind(u8::MAX));
            self.mark(ix, uid, kind);
            self.yield_key(now, uid);
        }
    }
}

/// When a mark of that day is forgotten, by the wall clock in milliseconds.
fn mark_ends_ms(day: u32) -> u64 {
    (u64::from(day) + MARK_KEPT_DAYS) * DAY_MS
}
