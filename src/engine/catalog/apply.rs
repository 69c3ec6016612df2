//! What peers tell: batches and snapshots of other origins' histories, taken in (protocol §2).
//!
//! Any order, any repetition and any mixture of them end at the origin's history: a batch claims its interval, a snapshot is swapped in
//! whole, and neither takes a head back.

use super::history::encoded_bytes;
use super::liveness::Life;
use super::origin::Origin;
use super::own::kind_of;
use super::services::ServiceIx;
use super::table::{OriginIx, Put, State};
use super::{Catalog, Urgency, claims, epochs};
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::{Advert, Want};
use crate::model::names::NodeId;
use crate::model::record::{AsOf, Batch, Claim, Head, Lineage, NUMBER_MAX, OWN_NUMBER_MAX, Record, RecordState, Seq, Uid};
use crate::model::time::Now;
use std::collections::{BTreeMap, HashSet};

/// Origins that only their records name; a further one is ignored until membership names it.
pub const UNNAMED_ORIGINS_MAX: usize = 1_024;
/// What a snapshot may hold, encoded: more than any agent's worth of instances, less than a machine.
pub const STAGED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Changes after which a copy that was not exact is compared again with its origin's sums.
const INEXACT_MAX: Seq = 1_000;
/// How long an agent that knows more of an origin than its new life waits for the origin to take it over, in milliseconds.
pub const TAIL_PATIENCE_MS: u64 = 60_000;

/// What became of a batch or snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The head moved.
    pub advanced: bool,
    /// A record in it was not known here: the change is worth passing on, as urgently as the most urgent of them.
    pub news: Option<Urgency>,
    /// Something lies between what is held and what came: ask for it.
    pub gap: Option<Want>,
    /// What is held cannot be continued: ask for it all.
    pub needs_snapshot: bool,
    /// The origin itself must hear this: it has to take over what is held here, or to outlive a mark.
    pub tell_origin: Option<Advert>,
}

/// A snapshot on its way in: nothing of it is seen before [`Catalog::finish`].
#[derive(Debug)]
pub struct Staged {
    head: Head,
    sum: Option<u64>,
    lineage: Lineage,
    records: Vec<Record>,
    bytes: usize,
}

impl Staged {
    /// Takes the next records; says whether there is room for them.
    pub fn push(&mut self, records: Vec<Record>) -> bool {
        self.bytes = records.iter().map(encoded_bytes).fold(self.bytes, usize::saturating_add);
        let fits = self.bytes <= STAGED_BYTES_MAX;
        if fits {
            self.records.extend(records);
        }
        fits
    }

    pub fn origin(&self) -> NodeId {
        self.head.origin
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// How a batch stands to what is held.
enum Footing {
    /// In the epoch that is held, now.
    Continues,
    Stale,
    NeedsSnapshot,
    LosesTail,
}

impl Catalog {
    /// Takes in what an origin changed in an interval.
    pub fn apply(&mut self, now: Now, batch: Batch) -> Applied {
        if batch.from > batch.to || batch.epoch == 0 || batch.highest_number() > self.believed_of(batch.origin) {
            self.counters.batches_malformed += 1;
            return Applied::default();
        }
        if batch.origin == self.me {
            return self.own_history(now, batch);
        }
        let Some(ix) = self.meet(now, batch.origin) else { return Applied::default() };
        if batch.flags.reaped.is_some() {
            return self.apply_mark(now, ix, batch.epoch, batch.seq_advert());
        }
        let origin = self.table.origin(ix);
        let is_back = origin.flags.reaped.is_some() && batch.epoch > origin.epoch;
        if batch.from == 0 && (origin.is_disputed || is_back) {
            // All there is, from the first change on: as good as a snapshot.
            let head = batch.head();
            let lineage = lineage_of_whole(&batch);
            return self.finish(now, Staged { head, sum: batch.as_of.sum(), lineage, records: batch.records, bytes: 0 });
        }
        match self.enter_epoch(now, ix, &batch) {
            Footing::Continues => self.apply_interval(now, ix, batch),
            Footing::Stale => {
                self.counters.batches_known += 1;
                Applied::default()
            }
            Footing::NeedsSnapshot => Applied { needs_snapshot: true, gap: Some(self.want(batch.origin)), ..Applied::default() },
            Footing::LosesTail => self.refuse_to_lose_tail(ix),
        }
    }

    /// The place of an origin that a peer speaks of; none where too many are known by such words only.
    fn meet(&mut self, now: Now, origin: NodeId) -> Option<OriginIx> {
        if let Some(ix) = self.table.origin_ix(origin) {
            return Some(ix);
        }
        if self.config.is_import {
            return self.meet_remote(now, origin);
        }
        if self.unnamed.len() >= UNNAMED_ORIGINS_MAX {
            self.counters.origins_unnamed += 1;
            return None;
        }
        self.unnamed.insert(origin);
        let ix = self.table.add_origin(Origin::new(origin, Life::unheard(now), now.ns));
        self.refresh_life(now, ix);
        Some(ix)
    }

    /// Moves to the batch's epoch where what is held is exactly what that epoch began with.
    fn enter_epoch(&mut self, now: Now, ix: OriginIx, batch: &Batch) -> Footing {
        let origin = self.table.origin(ix);
        let is_reaped = origin.flags.reaped.is_some();
        if batch.epoch < origin.epoch || is_reaped && batch.epoch == origin.epoch {
            return Footing::Stale;
        }
        if batch.epoch == origin.epoch {
            return Footing::Continues;
        }
        let held = origin.head();
        let is_blank = origin.order.is_empty() && (origin.epoch == 0 || is_reaped);
        let continues = if is_blank {
            // A batch from the very first change on is all there is.
            batch.from == 0 || batch.base == crate::model::record::Base::default()
        } else {
            // Of who was given up, only deletes are held: nothing goes on from there.
            !is_reaped && origin.is_gapless() && epochs::is_base(&batch.base, &held, origin.sum)
        };
        let continues = continues || self.config.broken.is(Rule::BaseUnchecked);
        // What a life holds that goes on elsewhere is for its lineage to say, which comes with the snapshot.
        let loses_tail = !self.config.is_import && batch.base.epoch == held.epoch && batch.base.seq < held.seq;
        if !is_blank && !is_reaped && !continues && loses_tail && !self.is_out_of_patience(now, ix) {
            return Footing::LosesTail;
        }
        if !continues {
            return Footing::NeedsSnapshot;
        }
        self.table.change_head(ix, |origin| {
            origin.lineage = if is_blank { lineage_of_whole(batch) } else { origin.lives() };
            (origin.epoch, origin.base, origin.flags) = (batch.epoch, batch.base, batch.flags);
            if is_blank {
                (origin.seq, origin.floor) = (0, 0);
                origin.held.clear();
            }
            origin.is_disputed = false;
            origin.tail_refused_ns = None;
            origin.changed_ns = now.ns;
        });
        self.head_moved(ix);
        self.refresh_life(now, ix);
        Footing::Continues
    }

    /// What is held goes beyond what the new life stands on: says so, and keeps it.
    fn refuse_to_lose_tail(&mut self, ix: OriginIx) -> Applied {
        self.counters.tails_kept += 1;
        Applied { tell_origin: Some(self.table.origin(ix).advert()), ..Applied::default() }
    }

    /// Whether the origin had its time to take over what only this agent held; notes when the waiting began.
    fn is_out_of_patience(&mut self, now: Now, ix: OriginIx) -> bool {
        let origin = self.table.origin_mut(ix);
        let since = *origin.tail_refused_ns.get_or_insert(now.ns);
        let is_over = now.ns.saturating_sub(since) > TAIL_PATIENCE_MS * 1_000_000;
        self.counters.tails_lost += u64::from(is_over);
        is_over
    }

    fn apply_interval(&mut self, now: Now, ix: OriginIx, batch: Batch) -> Applied {
        let Batch { origin: id, epoch, from, to, flags, as_of, records, .. } = batch;
        let mut applied = Applied::default();
        let seq = self.table.origin(ix).seq;
        for record in records {
            // Below the head everything is known, what was forgotten since included.
            if record.seq > seq && record.seq > from && record.seq <= to {
                let urgency = Urgency::of(&record);
                if self.take_in(now, ix, id, record) {
                    applied.news = applied.news.max(Some(urgency));
                }
            }
        }
        applied.advanced = self.advance(now, ix, from, to, flags.left);
        let origin = self.table.origin_mut(ix);
        let sum = match as_of {
            // Copies cut later left out what changed again: their holder's history is exact only from there on.
            AsOf::Newest { sum } => (origin.exact_from <= to).then_some(sum),
            AsOf::Later(seq) => {
                origin.exact_from = origin.exact_from.max(seq);
                None
            }
        };
        let origin = self.table.origin(ix);
        if origin.seq < to {
            applied.gap = Some(Want { origin: id, epoch, from: origin.seq, sum: origin.sum });
        } else if origin.seq == to && sum.is_some_and(|sum| origin.is_gapless() && sum != origin.sum) {
            self.counters.sum_mismatches += 1;
            self.table.origin_mut(ix).is_disputed = true;
            applied.needs_snapshot = true;
            applied.gap = Some(self.want(id));
        }
        applied
    }

    /// One record of another origin; says whether it was news.
    fn take_in(&mut self, now: Now, ix: OriginIx, id: NodeId, record: Record) -> bool {
        let (uid, service) = self.place(id, &record);
        let kind = kind_of(&record.state);
        if record.claim > now.wall_ms.saturating_add(claims::AHEAD_MS_MAX) {
            self.note_ahead(ix, record.claim);
        }
        let (seq, is_live) = (record.seq, matches!(record.state, RecordState::Live(_)));
        let (put, slot) = self.table.put(ix, uid, service, record);
        self.table.services.release(service);
        match put {
            Put::Known => return false,
            Put::Conflict => {
                self.counters.records_conflicting += 1;
                return false;
            }
            Put::New | Put::Replaced(_) => {}
        }
        if !is_live {
            self.bury(now, slot, seq);
        }
        self.mark(ix, uid, kind);
        self.yield_key(now, uid);
        true
    }

    /// Claims `(from, to]` for the head or, beyond a gap, for later; says whether the head moved.
    fn advance(&mut self, now: Now, ix: OriginIx, from: Seq, to: Seq, has_left: bool) -> bool {
        let origin = self.table.origin(ix);
        let before = origin.head();
        let mut is_within = true;
        let from = if self.config.broken.is(Rule::HeadOverGap) { 0 } else { from };
        self.table.change_head(ix, |origin| {
            if from <= origin.seq {
                origin.seq = origin.held.advance(origin.seq.max(to));
            } else {
                is_within = origin.held.insert(from, to);
            }
            // Within a life, leaving is not taken back.
            origin.flags.left |= has_left;
            if origin.head() != before {
                origin.changed_ns = now.ns;
            }
        });
        self.counters.held_forgotten += u64::from(!is_within);
        let after = self.table.origin(ix).head();
        if after == before {
            return false;
        }
        self.head_moved(ix);
        if after.flags != before.flags {
            self.refresh_life(now, ix);
        }
        true
    }

    /// The highest number that is believed of an origin.
    pub(super) fn believed_of(&self, origin: NodeId) -> u64 {
        if origin == self.me { OWN_NUMBER_MAX } else { NUMBER_MAX }
    }

    /// Prepares to take a snapshot, unless it could bring nothing.
    pub fn stage(&mut self, now: Now, head: Head, sum: Option<u64>, lineage: Lineage) -> Option<Staged> {
        let is_wanted = match self.table.origin_ix(head.origin) {
            _ if head.origin == self.me => self.lacks_own(head.epoch, head.seq),
            Some(ix) => self.is_above(now, ix, &head),
            None => true,
        };
        is_wanted.then_some(Staged { head, sum, lineage, records: Vec::new(), bytes: 0 })
    }

    /// Whether a snapshot as of `head` may replace what is held.
    fn is_above(&self, _now: Now, ix: OriginIx, head: &Head) -> bool {
        let origin = self.table.origin(ix);
        if origin.flags.reaped.is_some() && head.epoch <= origin.epoch {
            return false;
        }
        let (theirs, ours) = ((head.epoch, head.seq), (origin.epoch, origin.seq));
        theirs > ours || origin.is_disputed && theirs == ours
    }

    /// Swaps a snapshot in, as a whole.
    pub fn finish(&mut self, now: Now, staged: Staged) -> Applied {
        let head = staged.head;
        if head.flags.reaped.is_some() || head.epoch == 0 {
            return Applied::default();
        }
        let highest = staged.records.iter().map(Record::highest_number).max().unwrap_or(0).max(head.highest_number());
        if highest.max(staged.lineage.highest_number()) > self.believed_of(head.origin) {
            self.counters.batches_malformed += 1;
            return Applied::default();
        }
        if head.origin == self.me {
            return self.adopt(now, head, &staged.lineage, staged.sum, staged.records);
        }
        let Some(ix) = self.meet(now, head.origin) else { return Applied::default() };
        // While it came, batches may have gone further.
        if !self.is_above(now, ix, &head) && !self.config.broken.is(Rule::SnapshotRemovesNewer) {
            self.counters.snapshots_stale += 1;
            return Applied::default();
        }
        let origin = self.table.origin(ix);
        let is_new_life = head.epoch > origin.epoch;
        let is_blank = origin.epoch == 0 || origin.flags.reaped.is_some();
        let loses_tail = is_new_life
            && !self.config.is_import
            && origin.last_life().is_some_and(|held| !epochs::holds(&head.base, &staged.lineage, held));
        if loses_tail && !is_blank && !self.is_out_of_patience(now, ix) {
            return self.refuse_to_lose_tail(ix);
        }
        if loses_tail {
            self.keep_estate(now, ix, &staged);
        }
        self.counters.snapshots += 1;
        let announced = staged.sum.filter(|_| staged.records.iter().all(|record| record.seq <= head.seq));
        let origin = self.table.origin_mut(ix);
        if is_new_life {
            origin.lineage = staged.lineage;
        } else {
            origin.lineage.merge(&staged.lineage);
        }
        let news = self.swap(now, ix, &head, staged.records, is_new_life, staged.sum.is_some());
        let origin = self.table.origin(ix);
        if origin.seq == head.seq && announced.is_some_and(|sum| origin.is_gapless() && sum != origin.sum) {
            // Asking again would bring the same: the next batch of the origin decides.
            self.counters.sum_mismatches += 1;
        }
        Applied { advanced: true, news: news.then_some(Urgency::Repair), ..Applied::default() }
    }

    /// What an origin said in a life that its new one knows nothing of ends like the word of one that was given up: what outlives an origin
    /// is issued anew here, what was deleted stays deleted, and what was written over stays over.
    fn keep_estate(&mut self, now: Now, ix: OriginIx, staged: &Staged) {
        let id = staged.head.origin;
        let mut told: BTreeMap<Uid, (Claim, bool)> = BTreeMap::new();
        for record in &staged.records {
            let (uid, service) = self.place(id, record);
            self.table.services.release(service);
            told.insert(uid, (record.claim, matches!(record.state, RecordState::Live(_))));
        }
        for slot in self.slots_of(ix) {
            let slot = self.table.slot(slot);
            let (uid, claim) = (slot.uid(), slot.claim);
            let others = || self.table.chain(uid).map(|other| self.table.slot(other)).filter(|other| other.origin != ix);
            let outlives = || slot.content().and_then(|content| content.key().ok()).is_some_and(|key| key.outlives_its_origin());
            let Some(kind) = slot.kind() else { continue };
            let (claim, state) = match slot.state {
                State::Deleted(_) => (claim, RecordState::Deleted { uid, kind }),
                State::Live(_) if outlives() => (claim, slot.record().state),
                // The record itself may come back with the life: a delete just below it does not hide that.
                State::Live(_) if others().any(|other| other.is_live() && other.claim < claim) => {
                    (claim.saturating_sub(1), RecordState::Deleted { uid, kind })
                }
                State::Live(_) => continue,
            };
            let is_live = matches!(state, RecordState::Live(_));
            let settles = |other: Claim, other_is_live: bool| other > claim || other == claim && (is_live || !other_is_live);
            let is_told = told.get(&uid).is_some_and(|(told, is_live)| settles(*told, *is_live));
            if !is_told && !others().any(|other| settles(other.claim, other.is_live())) {
                self.write(now, uid, claim, state, if is_live { Urgency::Repair } else { Urgency::Removal });
            }
        }
    }

    /// The swap itself: what the snapshot does not name goes, as far as it speaks of it.
    fn swap(&mut self, now: Now, ix: OriginIx, head: &Head, records: Vec<Record>, is_new_life: bool, is_exact: bool) -> bool {
        let id = head.origin;
        // Without a sum the sponsor's copy was not exact itself, and until when is not known: not for long.
        let newest = records.iter().map(|record| record.seq).max().unwrap_or(0);
        let exact_from = if is_exact { newest } else { newest.max(head.seq).saturating_add(INEXACT_MAX) };
        let speaks_to = if is_new_life { Seq::MAX } else { head.seq };
        let speaks_to = if self.config.broken.is(Rule::SnapshotRemovesNewer) { Seq::MAX } else { speaks_to };
        let placed: Vec<(Uid, ServiceIx, Record)> = records
            .into_iter()
            .map(|record| {
                let (uid, service) = self.place(id, &record);
                (uid, service, record)
            })
            .collect();
        let kept: HashSet<Uid> = placed.iter().map(|(uid, ..)| *uid).collect();
        let taken: HashSet<Seq> = placed.iter().map(|(_, _, record)| record.seq).collect();
        let mut touched = BTreeMap::new();
        for slot in self.slots_of(ix) {
            let held = self.table.slot(slot);
            let (uid, seq) = (held.uid(), held.seq);
            // The sponsor has forgotten a tombstone that came here later: here it stays as long as any.
            let is_buried = !held.is_live() && seq <= head.seq && !kept.contains(&uid) && !taken.contains(&seq);
            if seq <= speaks_to && (is_new_life || !kept.contains(&uid)) && !is_buried {
                let (uid, kind) = self.drop_slot(slot);
                touched.insert(uid, kind);
            }
        }
        for (uid, service, record) in placed {
            let seq = record.seq;
            let kind = kind_of(&record.state);
            let is_live = matches!(record.state, RecordState::Live(_));
            let (put, slot) = self.table.put(ix, uid, service, record);
            self.table.services.release(service);
            match put {
                Put::Known => continue,
                Put::Conflict => {
                    self.counters.records_conflicting += 1;
                    continue;
                }
                Put::New | Put::Replaced(_) => {}
            }
            if !is_live {
                self.bury(now, slot, seq);
            }
            touched.insert(uid, kind);
        }
        self.table.change_head(ix, |origin| {
            if is_new_life {
                origin.held.clear();
                origin.seq = head.seq;
                origin.flags = head.flags;
                origin.exact_from = 0;
            }
            origin.exact_from = origin.exact_from.max(exact_from);
            origin.epoch = head.epoch;
            origin.base = head.base;
            origin.flags.left |= head.flags.left;
            origin.seq = origin.held.advance(origin.seq.max(head.seq));
            // Which tombstones the sponsor had forgotten is not known.
            origin.floor = head.seq;
            origin.is_disputed = false;
            origin.tail_refused_ns = None;
            origin.changed_ns = now.ns;
        });
        self.head_moved(ix);
        self.refresh_life(now, ix);
        for (uid, kind) in &touched {
            self.mark(ix, *uid, *kind);
            self.yield_key(now, *uid);
        }
        !touched.is_empty()
    }
}

/// What a batch from the first change on is made of: only of a first life, or of who knows no more, there are such.
pub(super) fn lineage_of_whole(batch: &Batch) -> Lineage {
    let base = batch.base;
    if base.epoch == 0 { Lineage::default() } else { vec![(base.epoch, base.seq)].into() }
}

/// Heads as they stand in a batch.
trait BatchHead {
    fn head(&self) -> Head;
    fn seq_advert(&self) -> Advert;
}

impl BatchHead for Batch {
    fn head(&self) -> Head {
        Head { origin: self.origin, epoch: self.epoch, seq: self.to, base: self.base, flags: self.flags }
    }

    fn seq_advert(&self) -> Advert {
        Advert { origin: self.origin, epoch: self.epoch, seq: self.to, flags: self.flags }
    }
}
