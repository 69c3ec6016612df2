//! Streams: joining, fetching, and sponsoring others (protocol.md §4, Bulk and Readiness). What one stream says is [`super::stream`]'s.

use super::stream::{Receiving, Side, Stream, unpack_batch, unpack_records};
use super::{Context, Effect, Spread};
use crate::engine::catalog::{Applied, Heard};
use crate::engine::io::StreamId;
use crate::engine::membership::Peer;
use crate::engine::wire::packet::{Advert, Frame, Part, Purpose};
use crate::model::names::NodeId;
use crate::model::record::Head;
use crate::model::time::Now;
use rand::RngExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Members that a busy sponsor names instead of itself.
const OTHERS_NAMED: usize = 8;

/// Origins that wait to be fetched from one peer; peers fetched from at once are few.
const FETCH_ORIGINS_MAX: usize = 1_024;

/// Streams of different lanes have different numbers: the lane stands above this bit.
pub const LANE_SHIFT: u32 = 48;

/// Peers that wait to be fetched from, or exchanged with.
const PEERS_WAITING_MAX: usize = 256;

#[derive(Debug, Default)]
pub struct Exchanges {
    streams: BTreeMap<StreamId, Stream>,
    opened: u64,
    /// The highest bits of the numbers of streams opened here.
    lane: u16,
    /// Origins to fetch, by who has them.
    fetches: BTreeMap<SocketAddr, BTreeSet<NodeId>>,
    /// Members to exchange with, whatever readiness says.
    wanted: Vec<Peer>,
    /// The stream that speaks first in the next turn: none is starved.
    turn_after: Option<StreamId>,
    /// Streams have something to say.
    is_due: bool,
}

impl Exchanges {
    pub fn set_lane(&mut self, lane: u16) {
        self.lane = lane;
    }

    /// Streams of one kind on which somebody has said what they are for.
    pub fn count(&self, side: Side, purpose: Purpose) -> usize {
        self.streams.values().filter(|stream| stream.side == side && stream.purpose == purpose && stream.is_greeted()).count()
    }

    fn is_open_to(&self, addr: SocketAddr, purpose: Purpose) -> bool {
        self.streams.values().any(|stream| stream.side == Side::Opener && stream.peer == addr && stream.purpose == purpose)
    }
}

/// How frames of a stream were received.
enum Taken {
    Fine,
    /// What does not belong there: the stream is of no more use.
    Nonsense,
    /// It ends here, with a last word if there is one.
    Ended(Option<Frame>),
}

impl Spread {
    /// Exchanges everything with a member as soon as there is a place.
    pub fn exchange_with(&mut self, now: Now, peer: Peer) {
        let exchanges = &mut self.exchanges;
        if exchanges.wanted.len() < PEERS_WAITING_MAX && !exchanges.wanted.contains(&peer) {
            exchanges.wanted.push(peer);
        }
        self.exchange_ns = self.exchange_ns.min(now.ns);
    }

    /// Fetches an origin from a peer as soon as there is a place.
    pub(super) fn fetch(&mut self, now: Now, from: SocketAddr, origin: NodeId) {
        let fetches = &mut self.exchanges.fetches;
        if fetches.len() >= PEERS_WAITING_MAX && !fetches.contains_key(&from) {
            self.counters.dropped.lack_table_full += 1;
            return;
        }
        let origins = fetches.entry(from).or_default();
        if origins.len() < FETCH_ORIGINS_MAX {
            origins.insert(origin);
        }
        self.lacks.defer(now, origin, self.config.want_retry_max_ms);
        self.exchange_ns = self.exchange_ns.min(now.ns);
    }

    /// Opens what there is a place for, gives up what does not move, and speaks a turn.
    pub(super) fn flush_exchanges(&mut self, now: Now, ctx: &mut Context<'_>) {
        if now.ns >= self.exchange_ns {
            self.exchange_ns = now.after_ms(self.config.exchange_retry_ms);
            self.give_up_idle(now, ctx);
            self.open_fetches(now, ctx);
            self.open_exchanges(now);
            if now.ns >= self.compare_ns {
                self.compare_ns = now.after_ms(self.config.exchange_retry_ms);
                for peer in self.readiness.compare(self.ring.peers()) {
                    self.send(peer.addr, Part::Compare { root: ctx.catalog.root(), is_answer: false });
                }
            }
            self.readiness.settle(now, self.ring.peers(), &self.config);
            let is_idle = self.exchanges.streams.is_empty() && self.exchanges.wanted.is_empty() && self.exchanges.fetches.is_empty();
            if self.readiness.is_ready() && is_idle {
                self.exchange_ns = u64::MAX;
            }
        }
        if self.exchanges.is_due {
            self.speak(now, ctx);
        }
    }

    fn open_fetches(&mut self, now: Now, ctx: &mut Context<'_>) {
        let waiting: Vec<SocketAddr> = self.exchanges.fetches.keys().copied().collect();
        for addr in waiting {
            if self.exchanges.count(Side::Opener, Purpose::Fetch) >= self.config.fetches_max {
                return;
            }
            if self.exchanges.is_open_to(addr, Purpose::Fetch) {
                continue;
            }
            let origins = self.exchanges.fetches.remove(&addr).unwrap_or_default();
            let mut stream = Stream::open(now, addr, None, Purpose::Fetch);
            stream.wants = origins.iter().map(|origin| ctx.catalog.want(*origin)).collect();
            stream.fetched = origins.into_iter().collect();
            self.open(stream);
        }
    }

    /// One exchange at a time: two sponsors would send the same. Another is begun beside one that says nothing for a while.
    fn open_exchanges(&mut self, now: Now) {
        let silent_ns = now.ns.saturating_sub(self.config.exchange_retry_ms * 1_000_000);
        loop {
            let exchanges = self.exchanges.streams.values().filter(|stream| stream.purpose == Purpose::Exchange);
            let busy: BTreeSet<NodeId> = exchanges.clone().filter_map(|stream| stream.node).collect();
            let (mut open, mut speaking) = (0, 0);
            for stream in exchanges.filter(|stream| stream.side == Side::Opener) {
                open += 1;
                speaking += usize::from(stream.heard_ns > silent_ns);
            }
            if speaking > 0 || open >= self.config.exchanges_open_max {
                return;
            }
            let wanted = self.exchanges.wanted.iter().position(|peer| !busy.contains(&peer.node));
            let next = match wanted {
                Some(at) => Some(self.exchanges.wanted.remove(at)),
                None if self.readiness.is_ready() => None,
                None => {
                    let draw = self.rng.random_range(0..usize::MAX);
                    self.readiness.candidate(now, self.ring.peers(), &busy, draw, &self.config)
                }
            };
            let Some(peer) = next else { return };
            self.open(Stream::open(now, peer.addr, Some(peer.node), Purpose::Exchange));
        }
    }

    fn open(&mut self, stream: Stream) {
        // Streams of the engine have odd numbers.
        let id = StreamId(u64::from(self.exchanges.lane) << LANE_SHIFT | (2 * self.exchanges.opened + 1));
        self.exchanges.opened += 1;
        self.counters.streams_opened += 1;
        self.effects.push_back(Effect::OpenStream { stream: id, to: stream.peer });
        self.exchanges.streams.insert(id, stream);
        self.exchanges.is_due = true;
    }

    /// A peer opened a stream.
    pub fn stream_accepted(&mut self, now: Now, _ctx: &mut Context<'_>, stream: StreamId, peer: SocketAddr) {
        self.counters.streams_accepted += 1;
        self.exchanges.streams.insert(stream, Stream::accept(now, peer));
        self.exchange_ns = self.exchange_ns.min(now.after_ms(self.config.exchange_retry_ms));
    }

    /// A stream we asked for stands. What it says was handed out already.
    pub fn stream_connected(&mut self, now: Now, _ctx: &mut Context<'_>, stream: StreamId) {
        if let Some(stream) = self.exchanges.streams.get_mut(&stream) {
            stream.moved_ns = now.ns;
        }
    }

    /// All that was handed to a stream is written.
    pub fn stream_drained(&mut self, now: Now, _ctx: &mut Context<'_>, stream: StreamId) {
        if let Some(stream) = self.exchanges.streams.get_mut(&stream) {
            stream.drained(now);
            self.exchanges.is_due = true;
        }
    }

    /// A stream ended or broke.
    pub fn stream_closed(&mut self, now: Now, ctx: &mut Context<'_>, stream: StreamId) {
        if let Some(closed) = self.exchanges.streams.remove(&stream) {
            self.ended(now, ctx, closed, true);
        }
    }

    /// A frame came, from a sender that the seal vouches for.
    pub fn frame(&mut self, now: Now, ctx: &mut Context<'_>, id: StreamId, from: Peer, frame: Frame) {
        let Some(mut stream) = self.exchanges.streams.remove(&id) else { return };
        (stream.moved_ns, stream.heard_ns) = (now.ns, now.ns);
        stream.node = Some(from.node);
        let taken = self.take_frame(now, ctx, &mut stream, frame);
        self.exchanges.is_due = true;
        match taken {
            Taken::Fine if !stream.is_complete() => {
                self.exchanges.streams.insert(id, stream);
            }
            Taken::Fine => self.close(now, ctx, id, stream),
            Taken::Ended(last_word) => {
                self.effects.extend(last_word.map(|frame| Effect::Frame { stream: id, frame }));
                self.close(now, ctx, id, stream);
            }
            Taken::Nonsense => {
                self.counters.dropped.stream_nonsense += 1;
                self.close(now, ctx, id, stream);
            }
        }
    }

    fn take_frame(&mut self, now: Now, ctx: &mut Context<'_>, stream: &mut Stream, frame: Frame) -> Taken {
        if !stream.is_greeted() && !matches!(frame, Frame::Hello { .. }) {
            return Taken::Nonsense;
        }
        match frame {
            Frame::Hello { purpose, is_ready } => return self.take_hello(now, ctx, stream, purpose, is_ready),
            Frame::Members(chunk) => self.effects.push_back(Effect::Members { chunk }),
            Frame::MembersEnd => {}
            Frame::Heads(heads) => {
                for head in &heads {
                    self.take_head(now, ctx, stream, head);
                }
            }
            Frame::HeadsEnd => stream.peer_heads_ended(),
            Frame::Wants(wants) => {
                if !stream.peer_wants(wants) {
                    return Taken::Nonsense;
                }
            }
            Frame::WantsEnd => stream.peer_wants_ended(),
            Frame::Batch(packed) => {
                let Some(batch) = unpack_batch(&packed) else { return Taken::Nonsense };
                let told = Advert { origin: batch.origin, epoch: batch.epoch, seq: batch.to, flags: batch.flags };
                let applied = ctx.catalog.apply(now, batch);
                self.settle_streamed(now, ctx, stream, &told, &applied);
            }
            Frame::Lineage(lineage) => stream.lineage = lineage,
            Frame::SnapshotStart { head, sum } => {
                let lineage = std::mem::take(&mut stream.lineage);
                stream.receiving = Some(Receiving { staged: ctx.catalog.stage(now, head, sum, lineage), records: 0 });
            }
            Frame::SnapshotRecords(packed) => {
                let (Some(receiving), Some(records)) = (stream.receiving.as_mut(), unpack_records(&packed)) else { return Taken::Nonsense };
                receiving.records += records.len() as u64;
                if let Some(staged) = receiving.staged.as_mut()
                    && !staged.push(records)
                {
                    return Taken::Nonsense;
                }
            }
            Frame::SnapshotEnd { records } => return self.take_snapshot(now, ctx, stream, records),
            Frame::Busy { retry_after_ms, others } => {
                self.counters.streams_refused_busy += 1;
                if let Some(node) = stream.node {
                    self.readiness.failed(now, node, u64::from(retry_after_ms), false);
                }
                self.try_others(now, ctx, stream, &others);
                return Taken::Ended(None);
            }
            Frame::Lane(_) | Frame::Link(_) => return Taken::Nonsense,
            Frame::Done { is_ready } => {
                stream.heard_done = Some(is_ready);
                if let (Purpose::Exchange, Some(node)) = (stream.purpose, stream.node) {
                    let was_ready = self.is_ready();
                    self.readiness.reconciled(node, is_ready);
                    if self.is_ready() && !was_ready {
                        // Whoever else was to be asked knows no more.
                        self.exchanges.wanted.clear();
                    }
                    self.exchange_ns = now.ns;
                }
            }
        }
        Taken::Fine
    }

    fn take_hello(&mut self, now: Now, ctx: &Context<'_>, stream: &mut Stream, purpose: Purpose, is_ready: bool) -> Taken {
        if stream.side == Side::Opener || stream.is_greeted() {
            return Taken::Nonsense;
        }
        let places = match purpose {
            Purpose::Exchange => self.config.sponsored_max,
            Purpose::Fetch => self.config.fetches_max,
        };
        if self.exchanges.count(Side::Accepter, purpose) >= places {
            self.counters.streams_refused_busy += 1;
            let retry_after_ms = self.config.exchange_retry_ms as u32;
            let others = self.ring.draw(OTHERS_NAMED, &mut self.rng).into_iter().map(|peer| peer.addr).collect();
            return Taken::Ended(Some(Frame::Busy { retry_after_ms, others }));
        }
        if let (true, Some(node)) = (is_ready, stream.node) {
            self.readiness.met_ready(node);
        }
        stream.greeted(ctx, purpose);
        self.exchange_ns = self.exchange_ns.min(now.after_ms(self.config.exchange_retry_ms));
        Taken::Fine
    }

    fn take_head(&mut self, now: Now, ctx: &mut Context<'_>, stream: &mut Stream, head: &Head) {
        match ctx.catalog.hear(now, &Advert::from(head)) {
            Heard::Behind(want) if stream.wants.len() < super::stream::WANTS_MAX => stream.wants.push_back(want),
            Heard::TellOrigin(advert) => self.tell_origin(ctx, advert),
            Heard::Behind(_) | Heard::Equal | Heard::Ahead => {}
        }
    }

    fn take_snapshot(&mut self, now: Now, ctx: &mut Context<'_>, stream: &mut Stream, records: u64) -> Taken {
        let Some(receiving) = stream.receiving.take() else { return Taken::Nonsense };
        let Some(staged) = receiving.staged.filter(|_| receiving.records == records) else { return Taken::Fine };
        self.counters.snapshots_received += 1;
        let origin = staged.origin();
        let applied = ctx.catalog.finish(now, staged);
        if let Some(head) = ctx.catalog.head(origin) {
            self.settle_streamed(now, ctx, stream, &Advert::from(&head), &applied);
        }
        Taken::Fine
    }

    /// A whole origin or a large record that was fetched is told to many: it came to nobody as a delta. So is what a joiner brought, or
    /// one from beyond a cut; a joiner itself tells nobody what all others know.
    fn settle_streamed(&mut self, now: Now, ctx: &mut Context<'_>, stream: &Stream, told: &Advert, applied: &Applied) {
        match stream.purpose {
            Purpose::Fetch if applied.advanced => self.tell_large(now, told.origin),
            Purpose::Exchange if applied.advanced && self.is_ready() => self.tell(now, told.origin),
            Purpose::Fetch | Purpose::Exchange => {}
        }
        self.settle(now, ctx, stream.peer, told, applied);
    }

    /// A busy sponsor named members: the first of them that we know is asked instead.
    fn try_others(&mut self, now: Now, ctx: &Context<'_>, stream: &Stream, others: &[SocketAddr]) {
        match stream.purpose {
            Purpose::Exchange => self.exchange_ns = now.ns,
            Purpose::Fetch => {
                let other = ctx.members.peers().iter().find(|peer| others.contains(&peer.addr) && peer.addr != stream.peer);
                for origin in &stream.fetched {
                    self.fetch(now, other.map_or(stream.peer, |peer| peer.addr), *origin);
                }
            }
        }
    }

    /// A turn of speaking: a bounded number of frames, over all streams in turn.
    fn speak(&mut self, now: Now, ctx: &mut Context<'_>) {
        let is_ready = self.readiness.is_ready();
        let mut frames = self.config.turn_frames_max;
        let ids: Vec<StreamId> = {
            let after = self.exchanges.turn_after;
            let (later, sooner): (Vec<StreamId>, Vec<StreamId>) = self.exchanges.streams.keys().partition(|id| Some(**id) > after);
            later.into_iter().chain(sooner).collect()
        };
        self.exchanges.is_due = false;
        for id in ids {
            let Some(mut stream) = self.exchanges.streams.remove(&id) else { continue };
            while frames > 0
                && let Some(frame) = stream.speak(now, ctx, is_ready, &self.config)
            {
                frames -= 1;
                self.counters.snapshots_sent += u64::from(matches!(frame, Frame::SnapshotStart { .. }));
                self.effects.push_back(Effect::Frame { stream: id, frame });
            }
            if stream.is_complete() {
                self.close(now, ctx, id, stream);
            } else {
                self.exchanges.is_due |= stream.can_speak(&self.config);
                self.exchanges.streams.insert(id, stream);
            }
            if frames == 0 {
                self.exchanges.turn_after = Some(id);
                self.exchanges.is_due = true;
                return;
            }
        }
        self.exchanges.turn_after = None;
    }

    /// Closes a stream from this side.
    fn close(&mut self, now: Now, ctx: &mut Context<'_>, id: StreamId, stream: Stream) {
        self.effects.push_back(Effect::CloseStream { stream: id });
        self.ended(now, ctx, stream, false);
    }

    fn ended(&mut self, now: Now, ctx: &mut Context<'_>, mut stream: Stream, is_its_fault: bool) {
        stream.end_snapshot(ctx.catalog);
        self.exchange_ns = self.exchange_ns.min(now.ns);
        if stream.is_complete() || stream.heard_done.is_some() {
            self.counters.streams_completed += 1;
        } else if let (Side::Opener, Purpose::Exchange, Some(node)) = (stream.side, stream.purpose, stream.node) {
            self.readiness.failed(now, node, self.config.exchange_retry_ms, is_its_fault);
        }
    }

    fn give_up_idle(&mut self, now: Now, ctx: &mut Context<'_>) {
        let idle_ns = self.config.stream_idle_ms * 1_000_000;
        let idle: Vec<StreamId> = self
            .exchanges
            .streams
            .iter()
            .filter(|(_, stream)| now.ns.saturating_sub(stream.moved_ns) >= idle_ns)
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            if let Some(stream) = self.exchanges.streams.remove(&id) {
                self.counters.dropped.stream_idle += 1;
                self.effects.push_back(Effect::CloseStream { stream: id });
                self.ended(now, ctx, stream, true);
            }
        }
    }

    /// A member is down: what we have open to it comes to nothing.
    pub(super) fn drop_streams_to(&mut self, now: Now, ctx: &mut Context<'_>, node: NodeId) {
        let gone: Vec<StreamId> = self
            .exchanges
            .streams
            .iter()
            .filter(|(_, stream)| stream.side == Side::Opener && stream.node == Some(node))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(stream) = self.exchanges.streams.remove(&id) {
                self.effects.push_back(Effect::CloseStream { stream: id });
                self.ended(now, ctx, stream, true);
            }
        }
        self.exchanges.wanted.retain(|peer| peer.node != node);
    }

    pub(super) fn exchanges_deadline(&self) -> u64 {
        if self.exchanges.is_due { 0 } else { self.exchange_ns }
    }
}
