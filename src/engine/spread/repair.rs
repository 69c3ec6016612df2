//! Repair: finding what two agents differ in although nothing is on its way any more (protocol.md §4, Roots and Sketch).
//!
//! ```text
//!   roots differ ──► outlives the calm ──► sketch of 55 cells ──► decoded: wants, adverts
//!                         │                     └──► undecoded: 220 cells ──► undecoded: pages of heads, or a stream
//!                         └── no calm ──► now and then a page of heads older than a few seconds
//! ```
//!
//! Equal roots are silence. A root that is ours but for some of the changes of the last seconds is explained by them: they were on
//! their way.

use super::adverts::HEADS_A_PART;
use super::config::SpreadConfig;
use super::deltas::encoded_len;
use super::sketch::{Gathering, HeadKey, ShortOrigin, Size, Sketch, Theirs, by_short_name};
use super::{Context, Spread};
use crate::engine::catalog::{Catalog, Heard};
use crate::engine::membership::Peer;
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::{Advert, HeadsPage, Part, Roots, SketchCells, Want};
use crate::model::names::NodeId;
use crate::model::time::Now;
use rand::Rng as _;
use std::collections::{BTreeMap, VecDeque};

/// Moves of heads that are remembered; more than this in a few seconds is no calm anyway.
const MOVES_MAX: usize = 24;

/// Of them, those that are tried in all combinations to explain another root.
const MOVES_COMBINED_MAX: usize = 12;

/// Peers whose sketches are being gathered.
const GATHERINGS_MAX: usize = 16;

/// Who hears nothing for so long has missed something: probes alone come several times a second.
const SILENCE_MS: u64 = 2_000;

/// Whether an exchange found something is known after this.
const VERDICT_MS: u64 = 2_000;

/// How often the members are compared whole because of origins that are not named here, in milliseconds.
const MEMBERS_PAUSE_MS: u64 = 20_000;

/// Heads or wants of one answer to a page or sketch.
const ANSWER_HEADS_MAX: usize = 4 * HEADS_A_PART;

/// A move of our root.
#[derive(Debug, Clone, Copy)]
struct Move {
    at_ns: u64,
    by: u64,
}

/// A peer whose root was another than ours.
#[derive(Debug, Clone, Copy)]
struct Mismatch {
    peer: Peer,
    root: u64,
    since_ns: u64,
}

/// An exchange that this agent began.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    peer: Peer,
    verdict_ns: u64,
    has_found: bool,
}

pub struct Repair {
    key: HeadKey,
    root: u64,
    moves: VecDeque<Move>,
    mismatch: Option<Mismatch>,
    exchange: Option<Exchange>,
    /// Where the next page begins.
    page_after: Option<NodeId>,
    page_ms: u64,
    page_not_before_ns: u64,
    /// A part came last.
    heard_ns: u64,
    gatherings: BTreeMap<NodeId, Gathering>,
    sketches: u32,
    members_not_before_ns: u64,
}

impl Repair {
    pub fn new(config: &SpreadConfig, label: &str, now: Now) -> Self {
        Self {
            key: HeadKey::new(label),
            root: 0,
            moves: VecDeque::new(),
            mismatch: None,
            exchange: None,
            page_after: None,
            page_ms: config.page_max_ms,
            page_not_before_ns: now.after_ms(config.page_max_ms),
            heard_ns: 0,
            gatherings: BTreeMap::new(),
            sketches: 0,
            members_not_before_ns: 0,
        }
    }

    /// Our root changed.
    pub fn moved(&mut self, now: Now, root: u64) {
        if root == self.root {
            return;
        }
        if self.moves.len() == MOVES_MAX {
            self.moves.pop_front();
        }
        self.moves.push_back(Move { at_ns: now.ns, by: root.wrapping_sub(self.root) });
        self.root = root;
    }

    /// Something was lost that only repair brings back.
    pub fn doubt(&mut self) {
        (self.page_ms, self.page_not_before_ns) = (0, 0);
    }

    /// A part came: after a silence, others were not heard either.
    pub fn heard(&mut self, now: Now) {
        if now.ns.saturating_sub(self.heard_ns) > SILENCE_MS * 1_000_000 {
            self.doubt();
        }
        self.heard_ns = now.ns;
    }

    fn is_calm(&self, now: Now, config: &SpreadConfig) -> bool {
        let since_ns = now.ns.saturating_sub(config.calm_ms * 1_000_000);
        self.moves.iter().filter(|moved| moved.at_ns >= since_ns).count() < config.calm_moves_max
    }

    /// Whether `root`, seen at `since_ns`, was ours without some of the changes that moved around then.
    fn explains(&self, root: u64, since_ns: u64, config: &SpreadConfig) -> bool {
        let from_ns = since_ns.saturating_sub(config.calm_ms * 1_000_000);
        let recent: Vec<u64> =
            self.moves.iter().rev().filter(|moved| moved.at_ns >= from_ns).take(MOVES_COMBINED_MAX).map(|moved| moved.by).collect();
        let missing = self.root.wrapping_sub(root);
        (0..1_u32 << recent.len()).any(|subset| {
            let sum = recent.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1).fold(0_u64, |sum, (_, by)| sum.wrapping_add(*by));
            sum == missing
        })
    }

    /// A peer answered an exchange with something that one of us lacked.
    fn found(&mut self, peer: NodeId) {
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.peer.node == peer) {
            exchange.has_found = true;
        }
    }

    pub fn deadline(&self, config: &SpreadConfig) -> Option<u64> {
        let verdict_ns = self.exchange.map(|exchange| exchange.verdict_ns);
        let mismatch = self.mismatch.filter(|_| !config.broken.is(Rule::NoRepair));
        let mismatch_ns = mismatch.map(|mismatch| mismatch.since_ns + config.calm_ms * 1_000_000);
        [verdict_ns, mismatch_ns].into_iter().flatten().min()
    }
}

impl Spread {
    /// Roots came with a packet of the membership: its sender is ready.
    pub fn handle_roots(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, roots: Roots) {
        self.readiness.met_ready(from.node);
        self.repair.moved(now, ctx.catalog.root());
        if roots.local == ctx.catalog.root() && !self.config.broken.is(Rule::RestlessRepair) {
            self.readiness.reconciled(from.node, true);
            self.repair.mismatch = self.repair.mismatch.filter(|mismatch| mismatch.peer.node != from.node);
            return;
        }
        if self.repair.mismatch.is_none() {
            self.repair.mismatch = Some(Mismatch { peer: from, root: roots.local, since_ns: now.ns });
        }
    }

    /// An agent that is not ready asks whether we hold the same.
    pub(super) fn take_compare(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, root: u64, is_answer: bool) {
        let own = ctx.catalog.root();
        if root == own {
            self.readiness.reconciled(from.node, false);
            self.exchange_ns = self.exchange_ns.min(now.after_ms(self.config.equals_pause_ms));
        }
        let answer = self.roots(ctx.catalog).map(Part::Roots).unwrap_or(Part::Compare { root: own, is_answer: true });
        if !is_answer {
            self.send(from.addr, answer);
        }
    }

    pub(super) fn flush_repair(&mut self, now: Now, ctx: &mut Context<'_>) {
        self.repair.moved(now, ctx.catalog.root());
        self.judge_exchange(now);
        let config = &self.config;
        let Some(mismatch) = self.repair.mismatch.filter(|_| !self.config.broken.is(Rule::NoRepair)) else { return };
        if now.ns < mismatch.since_ns + config.calm_ms * 1_000_000 {
            return;
        }
        self.repair.mismatch = None;
        let is_settled = mismatch.root == ctx.catalog.root() || self.repair.explains(mismatch.root, mismatch.since_ns, config);
        if is_settled && !config.broken.is(Rule::RestlessRepair) {
            return;
        }
        if self.repair.exchange.is_some() || !self.readiness.is_ready() {
            return;
        }
        let is_calm = self.repair.is_calm(now, config);
        if !is_calm && now.ns < self.repair.page_not_before_ns {
            return;
        }
        self.counters.exchanges += 1;
        self.repair.exchange = Some(Exchange { peer: mismatch.peer, verdict_ns: now.after_ms(VERDICT_MS), has_found: false });
        if is_calm {
            self.send_sketch(now, ctx, mismatch.peer, Size::Small);
        } else {
            self.send_old_page(now, ctx, mismatch.peer);
        }
    }

    fn judge_exchange(&mut self, now: Now) {
        let Some(exchange) = self.repair.exchange.filter(|exchange| exchange.verdict_ns <= now.ns) else { return };
        self.repair.exchange = None;
        if exchange.has_found {
            self.repair.page_ms = self.config.page_ms;
        } else {
            self.counters.exchanges_in_vain += 1;
            self.repair.page_ms = (self.repair.page_ms * 2).clamp(self.config.page_ms, self.config.page_max_ms);
        }
        self.repair.page_not_before_ns = now.after_ms(self.repair.page_ms);
    }

    /// Sends a part of repair, if there is budget: what is not sent now comes with the next exchange.
    fn send_repair(&mut self, now: Now, to: Peer, part: Part) {
        let bytes = encoded_len(&part);
        if self.pressure.admit_repair(now, to.addr, bytes).is_err() {
            self.counters.dropped.repair_budget += 1;
            return;
        }
        self.counters.repair_parts_sent += 1;
        self.counters.repair_bytes_sent += bytes as u64;
        self.send(to.addr, part);
    }

    fn send_sketch(&mut self, now: Now, ctx: &mut Context<'_>, to: Peer, size: Size) {
        let sketch = Sketch::build(&self.repair.key, size, self.rng.next_u64(), adverts(ctx.catalog));
        self.repair.sketches = self.repair.sketches.wrapping_add(1);
        for part in sketch.parts(self.repair.sketches) {
            self.send_repair(now, to, Part::Sketch(part));
        }
    }

    pub(super) fn take_sketch(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, cells: SketchCells) {
        let (id, salt, parts) = (cells.id, cells.salt, u16::from(cells.parts));
        if self.repair.gatherings.len() >= GATHERINGS_MAX && !self.repair.gatherings.contains_key(&from.node) {
            self.repair.gatherings.pop_first();
        }
        let gathering = self.repair.gatherings.entry(from.node).or_default();
        let sketch = match gathering.push(cells) {
            Ok(None) => return,
            Ok(Some(sketch)) => sketch,
            Err(_) => {
                self.counters.dropped.bad_sketch += 1;
                return;
            }
        };
        self.repair.gatherings.remove(&from.node);
        let own: Vec<Advert> = adverts(ctx.catalog).collect();
        match sketch.diff(&self.repair.key, own.iter().copied()) {
            Ok(diff) => {
                self.counters.sketches_decoded += 1;
                let mut tell = Vec::new();
                let mut wants: Vec<Want> = Vec::new();
                for diverged in &diff.diverged {
                    match diverged.theirs {
                        Theirs::Nothing => tell.push(diverged.mine),
                        Theirs::Seq(seq) if seq <= diverged.mine.seq => tell.push(diverged.mine),
                        Theirs::Seq(seq) => {
                            self.hear(now, ctx, from.addr, &Advert { seq, ..diverged.mine }, 0);
                        }
                        Theirs::OtherLife => {
                            tell.push(diverged.mine);
                            wants.push(ctx.catalog.want(diverged.mine.origin));
                        }
                    }
                }
                self.send_adverts(now, from.addr, &tell);
                if !wants.is_empty() {
                    self.send_repair(now, from, Part::Wants(wants));
                }
                let is_aside = !diff.unknown.is_empty() && ctx.catalog.holds_aside();
                if is_aside && now.ns >= self.repair.members_not_before_ns {
                    // It is known there from a member that was down before this agent came: nobody speaks of it by himself.
                    self.repair.members_not_before_ns = now.after_ms(MEMBERS_PAUSE_MS);
                    self.exchange_with(now, from);
                }
                if !diff.unknown.is_empty() {
                    let origins = diff.unknown.iter().map(|short| short.0).collect();
                    self.send_repair(now, from, Part::Whose { salt, origins });
                }
            }
            Err(_) => {
                self.counters.sketches_undecoded += 1;
                self.send_repair(now, from, Part::Undecoded { id, cells: parts * super::sketch::CELLS_A_PART as u16 });
            }
        }
    }

    pub(super) fn take_whose(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, salt: u64, origins: &[u64]) {
        self.repair.found(from.node);
        let wanted: Vec<ShortOrigin> = origins.iter().map(|short| ShortOrigin(*short)).collect();
        let mut heads = by_short_name(&self.repair.key, salt, &wanted, adverts(ctx.catalog));
        heads.truncate(ANSWER_HEADS_MAX);
        self.send_adverts(now, from.addr, &heads);
    }

    /// Our sketch did not decode there: more cells, then heads, then a stream.
    pub(super) fn take_undecoded(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, cells: u16) {
        self.repair.found(from.node);
        if usize::from(cells) < Size::Large.cells() {
            self.send_sketch(now, ctx, from, Size::Large);
            return;
        }
        let heads: Vec<Advert> = adverts(ctx.catalog).take(self.config.page_heads_max + 1).collect();
        if heads.len() > self.config.page_heads_max {
            self.exchange_with(now, from);
            return;
        }
        let mut after = None;
        let pages = heads.len().div_ceil(HEADS_A_PART);
        for (page, heads) in heads.chunks(HEADS_A_PART).enumerate() {
            let until = (page + 1 < pages).then(|| heads.last().map(|head| head.origin)).flatten();
            self.send_repair(now, from, Part::Heads(HeadsPage { after, until, heads: heads.to_vec() }));
            after = until;
        }
    }

    /// Without calm: some of the heads that have been what they are for a while, others the next time.
    fn send_old_page(&mut self, now: Now, ctx: &mut Context<'_>, to: Peer) {
        let after = self.repair.page_after;
        let old = |head: &Advert| ctx.catalog.head_age_ms(head.origin, now) >= self.config.calm_ms;
        let mut heads: Vec<Advert> =
            adverts(ctx.catalog).filter(|head| Some(head.origin) > after).filter(old).take(HEADS_A_PART + 1).collect();
        let is_last = heads.len() <= HEADS_A_PART;
        heads.truncate(HEADS_A_PART);
        let until = if is_last { None } else { heads.last().map(|head| head.origin) };
        self.repair.page_after = until;
        self.send_repair(now, to, Part::Heads(HeadsPage { after, until, heads }));
    }

    /// Compares a page with our own heads in its interval, both ways.
    pub(super) fn take_page(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, page: HeadsPage) {
        let mut tell = Vec::new();
        for theirs in &page.heads {
            if self.hear(now, ctx, from.addr, theirs, 0) == Heard::Ahead {
                tell.extend(ctx.catalog.head(theirs.origin).map(|head| Advert::from(&head)));
            }
        }
        let named = |origin: NodeId| page.heads.iter().any(|head| head.origin == origin);
        let is_inside = |origin: NodeId| Some(origin) > page.after && page.until.is_none_or(|until| origin <= until);
        let is_old = |origin: NodeId| ctx.catalog.head_age_ms(origin, now) >= self.config.calm_ms;
        let unnamed = adverts(ctx.catalog).filter(|head| is_inside(head.origin) && !named(head.origin) && is_old(head.origin));
        // What they left out may be too young there to be on the page: then this tells them nothing new.
        tell.extend(unnamed.take(ANSWER_HEADS_MAX));
        tell.truncate(ANSWER_HEADS_MAX);
        self.send_adverts(now, from.addr, &tell);
    }

    /// Notes that a peer's part answers an exchange.
    pub(super) fn note_answer(&mut self, from: NodeId) {
        self.repair.found(from);
    }
}

fn adverts(catalog: &Catalog) -> impl Iterator<Item = Advert> {
    catalog.heads().map(|head| Advert::from(&head))
}
