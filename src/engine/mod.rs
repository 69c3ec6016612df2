//! The registry as a pure state machine: one [`Input`] in, [`Output`]s out, and nothing else touches the world.
//!
//! `handle(now, input)` takes one input; then `poll()` is drained until it has no output left; then the driver sleeps until `deadline()`
//! or the next input. Equal inputs and an equal seed give equal outputs, byte for byte.
//!
//! ```text
//! datagram ─> seal ─> parts ─┬─> membership ─ events ─┐
//! stream ───> frames ────────┼─> spread <─────────────┼─> catalog ─> view
//! command ───────────────────┴─> catalog <────────────┘      │
//!                                                            └─> journal (disk), answers (clients), spread (peers)
//! ```
//!
//! This file is the door and the order of a turn: what came in is routed ([`inbound`]), then the rooms hand each other what they found
//! ([`pump`]) until all are quiet, then what leaves is packed and sealed.

pub mod acquaint;
mod answers;
pub mod catalog;
pub mod config;
mod counters;
mod datacenters;
mod forwarding;
mod inbound;
pub mod io;
mod journal;
pub mod levels;
mod lookups;
pub mod mail;
mod members;
pub mod membership;
mod operator;
mod proof;
mod pump;
mod queue;
mod rtts;
pub mod sabotage;
pub mod spread;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod wan;
pub mod wire;

use crate::model::names::NodeId;
use crate::model::time::Now;
use answers::{Answers, Asker, Outcome};
use catalog::Catalog;
use config::EngineConfig;
pub use counters::Counters;
use forwarding::{Forwarding, Questions};
use io::{Input, Output, Restored, StoreOp};
use journal::Journal;
use mail::Mail;
use membership::{Me, Membership};
use proof::Proofs;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use spread::Spread;
use std::collections::{BTreeMap, VecDeque};
use streams::Streams;
use wire::keyring::Keyring;
use wire::seal::Sealer;
use wire::strangers::Strangers;

/// One agent's whole protocol.
pub struct Engine {
    config: EngineConfig,
    rng: ChaCha12Rng,
    sealer: Sealer,
    strangers: Strangers,
    proofs: Proofs,
    streams: Streams,
    membership: Membership,
    catalog: Catalog,
    spread: Spread,
    forwarding: Forwarding,
    questions: Questions,
    answers: Answers,
    journal: Journal,
    mail: Mail,
    /// Outcomes of this turn's writes; they are held once the turn's mark is known.
    decided: Vec<(Asker, Outcome)>,
    leaving: Option<operator::Leaving>,
    /// When the view is published next, in nanoseconds; none while it shows everything.
    publish_at: Option<u64>,
    published_ms: u64,
    /// Since when this agent is who it is, in Unix milliseconds: its start, or when it gave its id up.
    me_since_ms: u64,
    members: members::Members,
    rtts: rtts::Rtts,
    /// When the members' addresses are stored next, in nanoseconds.
    store_members_at: Option<u64>,
    /// The store holds no member's address, nor was one handed to it.
    knows_nobody: bool,
    gateway: Option<wan::gateway::Gateway>,
    /// What is known of other datacenters.
    imports: wan::imports::Imports,
    lookups: lookups::Lookups,
    /// Streams between members here that are about another datacenter's origins.
    lanes: BTreeMap<io::StreamId, wire::packet::Lane>,
    /// The datacenters known here are not mentioned again before this.
    mention_ns: u64,
    out: VecDeque<Output>,
    counters: Counters,
}

impl Engine {
    /// An agent that starts now, with what its last life left on disk. Its first outputs wait to be polled.
    pub fn new(config: EngineConfig, restored: Restored, seed: [u8; 32], now: Now) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut journal = Journal::default();
        let node = restored.node.unwrap_or_else(|| {
            let node = NodeId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()));
            journal.push(StoreOp::Node { node });
            node
        });
        // SWIM orders boots by generation. Seconds of the wall clock rise from boot to boot; where the clock went back, peers that still
        // hold the former boot for down make this one renew past it.
        let generation = u32::try_from(now.wall_ms / 1_000).unwrap_or(u32::MAX);
        let me = Me { node, addr: config.node.advertise, generation, boot: rng.next_u32() as u16 };
        let mut membership = Membership::new(config.membership.clone(), me, seed_from(&mut rng), now);
        membership.remember(restored.members.clone());
        let mut sealer = Sealer::new(&config.label, ring(&config.keys, &restored.keys), node, rng.next_u64());
        sealer.broken = config.broken;
        let catalog = Catalog::new(config.catalog.clone(), config.host(), node, me.boot, &restored, now);
        let spread = Spread::new(config.spread.clone(), &config.label, node, seed_from(&mut rng), now);
        let forwarding = Forwarding::new(rng.next_u64());
        let answers = Answers::of(config.broken);
        let mut engine = Self {
            config,
            rng,
            sealer,
            strangers: Strangers::new("LAN"),
            proofs: Proofs::default(),
            streams: Streams::default(),
            membership,
            catalog,
            spread,
            forwarding,
            questions: Questions::default(),
            answers,
            journal,
            mail: Mail::default(),
            decided: Vec::new(),
            leaving: None,
            publish_at: None,
            published_ms: 0,
            me_since_ms: now.wall_ms,
            members: members::Members::new(now),
            rtts: rtts::Rtts::default(),
            store_members_at: None,
            knows_nobody: restored.members.is_empty(),
            gateway: None,
            imports: wan::imports::Imports::default(),
            lookups: lookups::Lookups::default(),
            lanes: BTreeMap::new(),
            mention_ns: 0,
            out: VecDeque::new(),
            counters: Counters::default(),
        };
        engine.open_gateway(now);
        engine.pump(now);
        engine
    }

    /// Takes one input; its outputs, if it has any, wait to be polled.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram { from, bytes } => self.datagram(now, from, &bytes),
            Input::WanDatagram { from, bytes } => self.wan_datagram(now, from, &bytes),
            Input::WanStreamAccepted { stream, peer, datacenter } => self.wan_stream_accepted(now, stream, peer, datacenter),
            Input::StreamAccepted { stream, peer } => self.stream_accepted(now, stream, peer),
            Input::StreamConnected { stream } => self.stream_connected(now, stream),
            Input::StreamBytes { stream, bytes } => self.stream_bytes(now, stream, &bytes),
            Input::StreamDrained { stream } => self.stream_drained(now, stream),
            Input::StreamClosed { stream } => self.stream_closed(now, stream),
            Input::Command { token, command } => self.command(now, token, command),
            Input::Durable { mark } => self.durable(mark),
            Input::NotDurable { why, .. } => self.not_durable(&why),
            Input::Tick => {}
        }
        self.timeouts(now);
        self.pump(now);
    }

    pub fn poll(&mut self) -> Option<Output> {
        queue::take_first(&mut self.out)
    }

    /// When [`Input::Tick`] is due without any other input, in nanoseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<u64> {
        [
            self.membership.deadline(),
            self.catalog.deadline(),
            self.spread.deadline(),
            self.forwarding.deadline(),
            self.leaving.as_ref().map(operator::Leaving::deadline),
            self.publish_at,
            self.members.deadline(),
            self.store_members_at,
            self.gateway.as_ref().map(wan::gateway::Gateway::deadline),
            self.imports.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Who this agent is; changes when it gives its id up to a twin.
    pub fn me(&self) -> Me {
        self.membership.me()
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// Whether it has caught up with its datacenter once.
    pub fn is_ready(&self) -> bool {
        self.spread.is_ready()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn seed_from(rng: &mut ChaCha12Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// The ring as it was stored, or as it is configured; a configured key that the stored ring lacks is installed and used, since whoever
/// configured it came later.
fn ring(configured: &[[u8; 32]], stored: &[[u8; 32]]) -> Option<Keyring> {
    let newcomer = configured.first().filter(|key| !stored.contains(key));
    Keyring::from_stored(newcomer.into_iter().chain(stored).chain(configured).copied())
}
