//! How changes travel between agents (protocol.md §4).
//!
//! ```text
//! deltas     changes in full, on their way through the cluster       ring      who hands a change to whom
//! adverts    word of new heads, for those whom a change missed       lacks     heads that others have and we do not
//! answers    what peers asked for and waits for the budget           order     whose changes go first
//! repair     finding what differs although nothing is on its way     sketch    ... in one datagram
//! exchange   streams: joining, fetching, sponsoring                  stream    what one of them says
//! readiness  whether this agent knows enough to speak for others     pressure  what may be sent now
//! ```
//!
//! It leaves to others what changes mean (`catalog`), who is alive (`membership`), and bytes (`wire`). The engine drives it: parts,
//! frames, effects of the catalog and events of the membership in, [`Spread::poll`] drained, [`Spread::handle_timeout`] when
//! [`Spread::deadline`] has come. Packets of the membership that leave are offered to [`Spread::ride_along`].
//!
//! What is known is asked of the catalog's heads, never of a memory of packets. Queues hold intervals and names, not records; whatever
//! overflows is a copy that repair brings again, and is counted.

mod adverts;
mod answers;
pub mod config;
mod counters;
mod deltas;
mod exchange;
mod lacks;
mod order;
mod pressure;
mod readiness;
mod repair;
mod ring;
pub mod sketch;
mod stream;
#[cfg(test)]
mod tests;

pub use config::SpreadConfig;
pub use counters::{Counters, Dropped};
pub use exchange::LANE_SHIFT;
pub use stream::{pack, unpack_batches, unpack_records};

use self::adverts::Adverts;
use self::answers::Answers;
use self::exchange::Exchanges;
use self::lacks::Lacks;
use self::order::Queue;
use self::pressure::Pressure;
use self::readiness::Readiness;
use self::repair::Repair;
use self::ring::Ring;
use self::stream::Side;
use crate::engine::catalog::{Catalog, Heard};
use crate::engine::io::StreamId;
use crate::engine::levels::Level;
pub use crate::engine::membership::Peer;
use crate::engine::membership::{Event, Membership};
use crate::engine::queue;
use crate::engine::sabotage::Rule;
use crate::engine::wire::packet::{Advert, Frame, Part, Purpose, Roots};
use crate::model::command::Refusal;
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::Bytes;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The rooms a call works on, beside this one.
pub struct Context<'a> {
    pub catalog: &'a mut Catalog,
    pub members: &'a Membership,
}

/// What the spread wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Send {
        to: SocketAddr,
        part: Part,
    },
    OpenStream {
        stream: StreamId,
        to: SocketAddr,
    },
    Frame {
        stream: StreamId,
        frame: Frame,
    },
    CloseStream {
        stream: StreamId,
    },
    /// A page of another member's membership, for ours to take in.
    Members {
        chunk: Bytes,
    },
}

/// Bytes of an advert when encoded, at most; with some room for the part around it.
const RIDING_HEAD_BYTES: usize = 46;
const ROOTS_BYTES: usize = 24;

pub struct Spread {
    config: SpreadConfig,
    me: NodeId,
    /// The origin whose changes begin here: this agent, or of another datacenter's origins the one that says what this agent hears of it.
    author: NodeId,
    /// The sum over what is known of other datacenters.
    remote_root: u64,
    rng: ChaCha12Rng,
    ring: Ring,
    pressure: Pressure,
    queue: Queue,
    /// No changes leave the queue before this.
    push_ns: u64,
    /// When they last did.
    pushed_ns: u64,
    adverts: Adverts,
    lacks: Lacks,
    answers: Answers,
    repair: Repair,
    exchanges: Exchanges,
    /// When to look after streams next.
    exchange_ns: u64,
    /// When to compare roots next, while not ready.
    compare_ns: u64,
    readiness: Readiness,
    effects: VecDeque<Effect>,
    pub counters: Counters,
}

impl Spread {
    /// `label` is the cluster's; `seed` should be random in production.
    pub fn new(config: SpreadConfig, label: &str, me: NodeId, seed: [u8; 32], now: Now) -> Self {
        Self {
            me,
            author: me,
            remote_root: 0,
            rng: ChaCha12Rng::from_seed(seed),
            ring: Ring::default(),
            pressure: Pressure::new(&config),
            queue: Queue::default(),
            push_ns: 0,
            pushed_ns: 0,
            adverts: Adverts::default(),
            lacks: Lacks::default(),
            answers: Answers::default(),
            repair: Repair::new(&config, label, now),
            exchanges: Exchanges::default(),
            exchange_ns: now.ns,
            compare_ns: 0,
            readiness: Readiness::new(now),
            effects: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// Spreads another datacenter's origins: as one that knows what there is to know, with streams numbered apart from others'.
    pub fn of_datacenter(config: SpreadConfig, label: &str, me: NodeId, author: NodeId, lane: u16, seed: [u8; 32], now: Now) -> Self {
        let mut spread = Self::new(config, label, me, seed, now);
        spread.author = author;
        spread.exchanges.set_lane(lane);
        spread.readiness.on_its_own();
        spread.ring.changed();
        spread
    }

    /// How full what waits here is.
    pub fn levels(&self) -> [Level; 8] {
        let config = &self.config;
        let streams = |side, purpose| self.exchanges.count(side, purpose);
        [
            Level::new("spread_pushes", self.queue.len(), config.pushes_max),
            Level::new("spread_adverts", self.adverts.len(), config.adverts_max),
            Level::new("spread_lacks", self.lacks.len(), config.lacks_max),
            Level::new("spread_answers", self.answers.len(), config.answers_max),
            Level::new("spread_exchanges", streams(Side::Opener, Purpose::Exchange), config.exchanges_open_max),
            Level::new("spread_sponsored", streams(Side::Accepter, Purpose::Exchange), config.sponsored_max),
            Level::new("spread_fetches", streams(Side::Opener, Purpose::Fetch), config.fetches_max),
            Level::new("spread_fetched", streams(Side::Accepter, Purpose::Fetch), config.fetches_max),
        ]
    }

    /// The agent that spreads.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// What goes into the second of the two roots from now on.
    pub fn set_remote_root(&mut self, root: u64) {
        self.remote_root = root;
    }

    /// Goes on as another origin.
    pub fn become_agent(&mut self, me: NodeId) {
        (self.me, self.author) = (me, me);
        self.ring.changed();
    }

    /// Takes a part of a datagram that is the spread's to understand; others are ignored.
    pub fn handle_part(&mut self, now: Now, ctx: &mut Context<'_>, from: Peer, part: Part) {
        self.ring.refresh(ctx.members);
        self.repair.heard(now);
        match part {
            Part::Roots(roots) => self.handle_roots(now, ctx, from, roots),
            Part::Delta { reach, changes } => self.take_changes(now, ctx, from, reach, changes),
            Part::Adverts(heads) => {
                for head in &heads {
                    if matches!(self.hear(now, ctx, from.addr, head, self.config.want_grace_ms), Heard::Behind(_)) {
                        self.note_answer(from.node);
                    }
                }
            }
            Part::Wants(wants) => {
                self.note_answer(from.node);
                self.take_wants(now, ctx, from, wants);
            }
            Part::FetchInstead(origins) => {
                for origin in origins {
                    self.fetch(now, from.addr, origin);
                }
            }
            Part::Sketch(cells) => self.take_sketch(now, ctx, from, cells),
            Part::Undecoded { cells, .. } => self.take_undecoded(now, ctx, from, cells),
            Part::Whose { salt, origins } => self.take_whose(now, ctx, from, salt, &origins),
            Part::Heads(page) => self.take_page(now, ctx, from, page),
            Part::Compare { root, is_answer } => self.take_compare(now, ctx, from, root, is_answer),
            Part::Swim(_) | Part::Ask { .. } | Part::Answer { .. } | Part::Challenge(_) | Part::Echo(_) => {}
            Part::Lane { .. }
            | Part::Datacenters(_)
            | Part::Forgotten { .. }
            | Part::Fetch { .. }
            | Part::Gateway { .. }
            | Part::Members { .. }
            | Part::Coordinate(_) => {}
        }
    }

    /// This agent is the first of its cluster, or the only one: it was told of no other, and remembers none.
    pub fn on_its_own(&mut self) {
        self.readiness.on_its_own();
    }

    /// A head is not what it was: from the catalog, for every way in which heads move.
    pub fn head_moved(&mut self, now: Now, ctx: &mut Context<'_>, origin: NodeId) {
        self.repair.moved(now, ctx.catalog.root());
        if let Some(head) = ctx.catalog.head(origin) {
            self.lacks.moved(now, &head, self.config.want_grace_ms);
        }
    }

    /// The membership changed.
    pub fn on_member(&mut self, now: Now, ctx: &mut Context<'_>, event: Event) {
        match event {
            Event::Up(_) => {
                self.ring.changed();
                if self.ring.peers().is_empty() {
                    // What was written before there was anybody to tell.
                    self.tell(now, self.author);
                }
                if !self.readiness.is_ready() {
                    self.exchange_ns = self.exchange_ns.min(now.ns);
                }
            }
            Event::Down(node) | Event::Left(node) => {
                self.ring.changed();
                self.readiness.gone(node);
                self.drop_streams_to(now, ctx, node);
            }
            Event::TakenOver { .. } | Event::Moved { .. } => self.ring.changed(),
            Event::NeedState { node, addr } => self.exchange_with(now, Peer { node, addr }),
            Event::LostTwin { new } => self.become_agent(new),
            Event::Suspected(_) | Event::Lost(_) | Event::Cleared(_) | Event::Renewed(_) | Event::Rejoined | Event::CutOff(_) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, ctx: &mut Context<'_>) {
        self.ring.refresh(ctx.members);
        self.flush_pushes(now, ctx);
        self.flush_adverts(now, ctx);
        self.flush_wants(now, ctx);
        self.flush_answers(now, ctx);
        self.flush_repair(now, ctx);
        self.flush_exchanges(now, ctx);
    }

    /// The monotonic time at which [`Spread::handle_timeout`] has something to do; 0: now.
    pub fn deadline(&self) -> Option<u64> {
        let pushes = (!self.queue.is_empty()).then_some(self.push_ns);
        let answers = (!self.answers.is_empty()).then_some(self.answers.not_before_ns);
        let exchanges = Some(self.exchanges_deadline()).filter(|at| *at != u64::MAX);
        [pushes, self.adverts.deadline(), self.lacks.deadline(), answers, self.repair.deadline(&self.config), exchanges]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to be done; none when there is nothing left.
    pub fn poll(&mut self) -> Option<Effect> {
        queue::take_first(&mut self.effects)
    }

    /// What goes along with a packet of the membership that leaves anyway and has `room` bytes left: roots of who is ready, and the
    /// latest heads that moved.
    pub fn ride_along(&mut self, now: Now, catalog: &Catalog, room: usize) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let Some(room) = room.checked_sub(ROOTS_BYTES) else { return parts };
        parts.extend(self.roots(catalog).map(Part::Roots));
        let places = (room / RIDING_HEAD_BYTES).saturating_sub(1).min(self.config.ride_heads_max);
        let heads: Vec<Advert> = if places == 0 {
            Vec::new()
        } else {
            self.adverts.board(now, places).into_iter().filter_map(|origin| catalog.head(origin)).map(|head| Advert::from(&head)).collect()
        };
        if !heads.is_empty() {
            self.counters.adverts_ridden += heads.len() as u64;
            parts.push(Part::Adverts(heads));
        }
        parts
    }

    /// The sums over our heads, once we speak for them.
    pub fn roots(&self, catalog: &Catalog) -> Option<Roots> {
        let speaks = self.is_ready() || self.config.broken.is(Rule::NotReadySpeaks);
        speaks.then(|| Roots { local: catalog.root(), remote: self.remote_root })
    }

    /// Whether this agent has caught up with its datacenter; it stays so.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// Whether registrations should wait: there is somebody to tell, and the own changes have not left for long. Alone or in a minority
    /// an agent goes on accepting.
    pub fn congestion(&self, now: Now) -> Option<Refusal> {
        let waiting = self.queue.find(self.me)?;
        let waited_ms = now.ns.saturating_sub(waiting.since_ns) / 1_000_000;
        let is_congested = waited_ms > self.config.congested_ms && !self.ring.peers().is_empty();
        is_congested.then(|| Refusal::Busy { retry_after_ms: 1_000, why: "changes wait for the network".into() })
    }

    fn send(&mut self, to: SocketAddr, part: Part) {
        self.effects.push_back(Effect::Send { to, part });
    }
}
