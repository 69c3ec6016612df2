//! Deltas: changes in full, handed on along the ring; and what becomes of them here.
//!
//! ```text
//!   own change ──► queue (coalesced, in order, within budget) ─┐
//!   received, news ──────────(budget at hand)──────────────────┼──► divide the ring ──► a copy and a reach to each
//!                  └─────────(else: queue)─────────────────────┘
//! ```

use super::adverts::{self, HEADS_A_PART};
use super::lacks::Due;
use super::order::Waiting;
use super::ring::Share;
use super::{Context, Spread};
use crate::engine::catalog::{Applied, Heard, Supply, Urgency};
use crate::engine::mail::PART_BYTES_MAX;
use crate::engine::membership::Peer;
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::{Advert, Changes, Part, Reach, Want};
use crate::model::names::NodeId;
use crate::model::record::{Batch, Seq};
use crate::model::time::Now;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is asked of the catalog for one delta. It reckons a batch and its records somewhat larger than they turn out, and a record of
/// 1,000 bytes is to fit.
const BATCH_BYTES_MAX: usize = PART_BYTES_MAX + 31;

/// Origins in one part of wants: at most 54 bytes each.
const WANTS_A_PART: usize = 20;

/// What became of one piece of what waits.
enum Piece {
    /// Handed on up to here.
    Passed(Seq),
    /// No budget before this.
    Refused(u64),
    /// Nothing of it can go as a delta.
    Undeliverable,
}

impl Spread {
    /// A change that this agent made, or, of other origins, one that the catalog finds worth passing on.
    pub fn offer(&mut self, now: Now, ctx: &mut Context<'_>, origin: NodeId, seq: Seq, urgency: Urgency) {
        if origin != self.author {
            self.queue.raise(origin, urgency);
            return;
        }
        let Some(head) = ctx.catalog.head(origin) else { return };
        self.tell(now, origin);
        let waiting = Waiting { epoch: head.epoch, from: seq.saturating_sub(1), to: seq, reach: None, urgency, since_ns: now.ns };
        if self.queue.is_empty() {
            self.push_ns = self.pushed_ns.saturating_add(self.config.coalesce_ms * 1_000_000).max(now.ns);
        }
        if !self.queue.push(origin, waiting, self.config.pushes_max) {
            self.counters.dropped.push_queue_full += 1;
        }
    }

    /// Hands on what waits, in order, as far as the budget goes.
    pub(super) fn flush_pushes(&mut self, now: Now, ctx: &mut Context<'_>) {
        if self.queue.is_empty() || now.ns < self.push_ns {
            return;
        }
        self.pushed_ns = now.ns;
        for origin in self.queue.in_order(now, self.config.aging_ms) {
            while let Some(waiting) = self.queue.find(origin).copied() {
                match self.push_piece(now, ctx, origin, &waiting) {
                    Piece::Passed(seq) => self.queue.passed(origin, seq),
                    Piece::Undeliverable => self.queue.remove(origin),
                    Piece::Refused(until_ns) => {
                        self.push_ns = until_ns.max(now.after_ms(1));
                        return;
                    }
                }
            }
        }
    }

    fn push_piece(&mut self, now: Now, ctx: &mut Context<'_>, origin: NodeId, waiting: &Waiting) -> Piece {
        let Waiting { epoch, from, reach, .. } = *waiting;
        let batch = match ctx.catalog.batch_after(origin, epoch, from, 0, BATCH_BYTES_MAX) {
            Supply::Batch(batch) => batch,
            Supply::Snapshot => {
                // Too large for a datagram, or superseded: its head is told, and who lacks it fetches it.
                self.tell_large(now, origin);
                return Piece::Undeliverable;
            }
            Supply::Nothing | Supply::Unknown => return Piece::Undeliverable,
        };
        let to = batch.to;
        let shares = self.ring.divide(self.me, reach, self.config.fanout, ctx.members, &mut self.rng);
        match self.send_shares(now, &shares, &Changes::from(batch)) {
            Ok(()) => Piece::Passed(to),
            Err(until_ns) => Piece::Refused(until_ns),
        }
    }

    /// A copy to each, or to none.
    fn send_shares(&mut self, now: Now, shares: &[Share], changes: &Changes) -> Result<(), u64> {
        let widest = Part::Delta { reach: Some(Reach { first: u32::MAX, last: u32::MAX }), changes: changes.clone() };
        let bytes = encoded_len(&widest);
        if bytes > PART_BYTES_MAX {
            self.tell_large(now, changes.origin);
            return Ok(());
        }
        let parts: Vec<(SocketAddr, usize)> = shares.iter().map(|share| (share.to.addr, bytes)).collect();
        self.pressure.admit_all(now, &parts)?;
        self.counters.deltas_sent += shares.len() as u64;
        self.counters.delta_bytes_sent += (bytes * shares.len()) as u64;
        for share in shares {
            self.send(share.to.addr, Part::Delta { reach: share.reach, changes: changes.clone() });
        }
        Ok(())
    }

    /// Changes came in full.
    pub(super) fn take_changes(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, reach: Option<Reach>, changes: Changes) {
        self.counters.deltas_received += 1;
        let told = Advert { origin: changes.origin, epoch: changes.epoch, seq: changes.to, flags: changes.flags };
        let known = ctx.catalog.head(changes.origin);
        let Some(batch) = changes.clone().into_batch(known.as_ref()) else {
            self.counters.dropped.base_unknown += 1;
            self.hear(now, ctx, from.addr, &told, self.config.want_grace_ms);
            return;
        };
        let applied = ctx.catalog.apply(now, batch);
        if applied.advanced || applied.news.is_some() {
            if let Some(reach) = reach {
                self.pass_on(now, ctx, reach, &changes, applied.news);
            }
        } else {
            self.counters.deltas_known += 1;
        }
        if applied.advanced {
            self.tell(now, told.origin);
        }
        self.settle(now, ctx, from.addr, &told, &applied);
    }

    /// Changes of another datacenter came over a link, in full: taken in, and handed on along the whole ring.
    pub fn import(&mut self, now: Now, ctx: &mut Context<'_>, batch: Batch) -> Applied {
        self.ring.refresh(ctx.members);
        let changes = Changes::from(batch.clone());
        let applied = ctx.catalog.apply(now, batch);
        if applied.advanced || applied.news.is_some() {
            self.pass_on(now, ctx, Reach { first: 0, last: u32::MAX }, &changes, applied.news);
            self.tell(now, changes.origin);
        }
        applied
    }

    /// A whole origin of another datacenter came over a link.
    pub fn imported(&mut self, now: Now, origin: NodeId) {
        self.tell_large(now, origin);
    }

    /// What follows from taking changes in, whichever way they came.
    pub(super) fn settle(&mut self, now: Now, ctx: &mut Context<'_>, source: SocketAddr, told: &Advert, applied: &Applied) {
        if applied.needs_snapshot {
            self.fetch(now, source, told.origin);
        } else if applied.gap.is_some() {
            self.lack(now, *told, source, self.config.want_grace_ms);
        }
        if let Some(advert) = applied.tell_origin {
            self.tell_origin(ctx, advert);
        }
    }

    fn pass_on(&mut self, now: Now, ctx: &mut Context<'_>, reach: Reach, changes: &Changes, urgency: Option<Urgency>) {
        let shares = self.ring.divide(self.me, Some(reach), self.config.fanout, ctx.members, &mut self.rng);
        if shares.is_empty() || self.queue.is_empty() && self.send_shares(now, &shares, changes).is_ok() {
            return;
        }
        let Changes { origin, epoch, from, to, .. } = *changes;
        if ctx.catalog.head(origin).is_none_or(|head| head.seq < to) {
            self.counters.dropped.push_above_gap += 1;
            return;
        }
        let urgency = urgency.unwrap_or(Urgency::Repair);
        let waiting = Waiting { epoch, from, to, reach: Some(reach), urgency, since_ns: now.ns };
        if !self.queue.push(origin, waiting, self.config.pushes_max) {
            self.counters.dropped.push_queue_full += 1;
        }
    }

    /// Tells others of a head that moved here.
    pub(super) fn tell(&mut self, now: Now, origin: NodeId) {
        if !self.adverts.add(now, origin, self.config.advert_copies, self.config.advert_delay_ms, &self.config) {
            self.counters.dropped.advert_queue_full += 1;
        }
    }

    /// Tells more of them, and at once: the change itself does not go along.
    pub(super) fn tell_large(&mut self, now: Now, origin: NodeId) {
        if !self.adverts.add(now, origin, self.config.advert_copies_large, 0, &self.config) {
            self.counters.dropped.advert_queue_full += 1;
        }
    }

    /// Tells an origin what is held of it here: it has to take that over, or to outlive a mark.
    pub(super) fn tell_origin(&mut self, ctx: &Context<'_>, advert: Advert) {
        if let Some(member) = ctx.members.member(advert.origin).filter(|member| member.is_up()) {
            self.send(member.addr, Part::Adverts(vec![advert]));
        }
    }

    pub(super) fn flush_adverts(&mut self, now: Now, ctx: &mut Context<'_>) {
        while let Some(flush) = self.adverts.flush(now, HEADS_A_PART * 4, &self.config) {
            let Some(newest) = ctx.catalog.head(flush.newest) else { continue };
            let Some(to) = self.ring.across(self.me, adverts::fraction(&newest, flush.copy)) else { continue };
            let heads: Vec<Advert> =
                flush.origins.iter().filter_map(|origin| ctx.catalog.head(*origin)).map(|head| Advert::from(&head)).collect();
            self.send_adverts(now, to.addr, &heads);
        }
    }

    pub(super) fn send_adverts(&mut self, now: Now, to: SocketAddr, heads: &[Advert]) {
        for heads in heads.chunks(HEADS_A_PART) {
            let part = Part::Adverts(heads.to_vec());
            let bytes = encoded_len(&part);
            self.pressure.charge(now, to, bytes);
            self.counters.advert_parts_sent += 1;
            self.counters.advert_bytes_sent += bytes as u64;
            self.send(to, part);
        }
    }

    /// Somebody has this head.
    pub(super) fn hear(&mut self, now: Now, ctx: &mut Context<'_>, source: SocketAddr, advert: &Advert, grace_ms: u64) -> Heard {
        let heard = ctx.catalog.hear(now, advert);
        match &heard {
            Heard::Behind(_) => self.lack(now, *advert, source, grace_ms),
            Heard::TellOrigin(advert) => self.tell_origin(ctx, *advert),
            Heard::Ahead => {
                // Marks are in no root and no sketch: who still tells of an origin that was given up is told so.
                let mark = ctx.catalog.head(advert.origin).filter(|head| head.flags.reaped.is_some() && advert.flags.reaped.is_none());
                if let Some(mark) = mark {
                    self.send_adverts(now, source, &[Advert::from(&mark)]);
                }
                // Somebody has an earlier life of ours, and may doubt that this one holds all of it: nobody knows that better.
                let own = ctx.catalog.head(advert.origin).filter(|head| head.origin == ctx.catalog.me() && head.epoch != advert.epoch);
                if let Some(own) = own {
                    self.send_adverts(now, source, &[Advert::from(&own)]);
                }
            }
            Heard::Equal => {}
        }
        heard
    }

    fn lack(&mut self, now: Now, told: Advert, source: SocketAddr, grace_ms: u64) {
        if !self.lacks.add(now, told, source, grace_ms, self.config.lacks_max) {
            self.counters.dropped.lack_table_full += 1;
        }
    }

    /// Asks for what is still lacked, one part an advertiser.
    pub(super) fn flush_wants(&mut self, now: Now, ctx: &mut Context<'_>) {
        let mut asked: BTreeMap<SocketAddr, Vec<Want>> = BTreeMap::new();
        while let Some(due) = self.lacks.next_due(now, &self.config) {
            match due {
                Due::GivenUp(_) => {
                    self.counters.dropped.want_given_up += 1;
                    self.repair.doubt();
                }
                Due::Ask { told, at, is_repeated } => match ctx.catalog.hear(now, &told) {
                    Heard::Behind(want) => {
                        self.counters.wants_repeated += u64::from(is_repeated);
                        asked.entry(at).or_default().push(want);
                    }
                    Heard::Equal | Heard::Ahead | Heard::TellOrigin(_) => self.lacks.forget(told.origin),
                },
            }
        }
        for (to, wants) in asked {
            for wants in wants.chunks(WANTS_A_PART) {
                let part = Part::Wants(wants.to_vec());
                let bytes = encoded_len(&part);
                self.pressure.charge(now, to, bytes);
                self.counters.want_parts_sent += 1;
                self.counters.want_bytes_sent += bytes as u64;
                self.send(to, part);
            }
        }
    }

    /// Answers a peer that lacks something, at once or when there is budget.
    pub(super) fn take_wants(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, wants: Vec<Want>) {
        for want in wants {
            if !self.answers.push(from.addr, want, self.config.answers_max) {
                self.counters.dropped.answer_queue_full += 1;
            }
        }
        self.flush_answers(now, ctx);
    }

    pub(super) fn flush_answers(&mut self, now: Now, ctx: &mut Context<'_>) {
        while now.ns >= self.answers.not_before_ns {
            let Some((to, want)) = self.answers.next() else { return };
            if let Err(until_ns) = self.answer(now, ctx, to, &want) {
                self.answers.not_before_ns = until_ns.max(now.after_ms(1));
                self.answers.put_back(to, want);
            }
        }
    }

    fn answer(&mut self, now: Now, ctx: &Context<'_>, to: SocketAddr, want: &Want) -> Result<(), u64> {
        let Want { origin, mut epoch, mut from, sum } = *want;
        let mut parts = Vec::new();
        loop {
            let batch = match ctx.catalog.batch_after(origin, epoch, from, sum, BATCH_BYTES_MAX) {
                Supply::Batch(batch) => batch,
                Supply::Nothing | Supply::Unknown => break,
                Supply::Snapshot => {
                    parts = vec![Part::FetchInstead(vec![origin])];
                    break;
                }
            };
            let is_last = batch.to <= from || batch.epoch == epoch && batch.to == from;
            (epoch, from) = (batch.epoch, batch.to);
            let part = Part::Delta { reach: None, changes: Changes::from(batch) };
            if parts.len() >= self.config.answer_parts_max || encoded_len(&part) > PART_BYTES_MAX {
                parts = vec![Part::FetchInstead(vec![origin])];
                break;
            }
            parts.push(part);
            if is_last || ctx.catalog.head(origin).is_none_or(|head| head.seq <= from) {
                break;
            }
        }
        let bytes: usize = parts.iter().map(encoded_len).sum();
        if self.config.broken.is(Rule::LargeStaysHome) {
            parts.retain(|part| !matches!(part, Part::FetchInstead(_)));
        }
        self.pressure.admit_repair(now, to, bytes)?;
        self.counters.answers_sent += parts.len() as u64;
        self.counters.answer_bytes_sent += bytes as u64;
        for part in parts {
            self.send(to, part);
        }
        Ok(())
    }
}

/// What a part takes in a datagram.
pub(super) fn encoded_len(part: &Part) -> usize {
    postcard::experimental::serialized_size(part).expect("a part is plain data")
}
