//! Who offers what: the records of all origins, and what this agent itself writes (protocol §2 and §3).
//!
//! ```text
//! table       all records, by origin and seq and by key       services    the names of services, each once
//! origin      one origin: head, held intervals                claims      which of several origins' words counts
//! epochs      what a new life may take the place of           own         this agent as an origin
//! history     heads and batches as they are told              apply       batches and snapshots as they are taken in
//! snapshot    an origin's history as a whole, in turns        tombstones  when deletes may be forgotten
//! liveness    what membership says of an origin               reaping     origins that are given up
//! commands    what clients ask for                            batch       commands all or none
//! leases      signs of life                                   expiry      what runs out
//! import      another datacenter's records, and what gateways here say of it
//! checks      results of checks, damped                       overrides   an operator's words
//! nodes       agents' hosts and their names                   external    nodes without an agent
//! node_checks checks on nodes                                 entries     keys and values
//! events      what is said to all agents                      fold        what of all this readers see
//! ```
//!
//! It leaves to others how changes travel (`spread`), who is alive (`membership`), and when a view is shown (the engine).

mod apply;
mod batch;
mod checks;
mod claims;
mod commands;
pub mod config;
pub mod copy;
mod entries;
mod epochs;
mod events;
mod expiry;
mod external;
mod fold;
mod history;
mod import;
mod leases;
mod liveness;
mod node_checks;
mod nodes;
mod order;
mod origin;
mod overrides;
mod own;
mod reaping;
mod services;
pub(super) mod snapshot;
mod table;
mod tombstones;

pub use apply::{Applied, Staged};
pub use history::{Heard, Supply};
pub use import::ORIGINS_MAX;
pub use liveness::Word;
pub use nodes::MemberFacts;
pub use origin::head_term;
pub use snapshot::{Chunk, SnapshotReader};

use crate::engine::io::{Restored, StoreOp, Token};
use crate::engine::levels::Level;
use crate::engine::queue;
use crate::model::command::{Command, Refusal, Reply};
use crate::model::names::{NodeId, NodeName};
use crate::model::node::NodeInfo;
use crate::model::record::{Claim, Kind, Record, RecordState, Seq};
use crate::model::time::Now;
use config::CatalogConfig;
use std::collections::{BTreeSet, VecDeque};

/// How much a change hurries; the last is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// What was known before, to somebody.
    Repair,
    Metadata,
    Registration,
    /// A deregistration or a failure.
    Removal,
}

impl Urgency {
    /// As a record shows it to who only passes it on.
    fn of(record: &Record) -> Self {
        match &record.state {
            RecordState::Deleted { .. } => Urgency::Removal,
            RecordState::Live(content) => match content.key().map(|key| key.kind) {
                Ok(Kind::INSTANCE) => Urgency::Registration,
                _ => Urgency::Metadata,
            },
        }
    }
}

/// What the catalog wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// This agent wrote: to be spread.
    Fresh {
        origin: NodeId,
        seq: Seq,
        urgency: Urgency,
    },
    /// This origin's head is not what it was.
    HeadMoved(NodeId),
    /// A command is decided; a write waits until it is durable and shown.
    Reply {
        token: Token,
        outcome: Result<Reply, Refusal>,
        is_write: bool,
    },
    /// Another agent is to decide; see [`Catalog::take_over`] for when it does not answer.
    Forward {
        token: Token,
        to: NodeId,
        command: Command,
    },
    Store(StoreOp),
}

/// What happened, for people who watch. All of them only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Batches that brought nothing.
    pub batches_known: u64,
    pub batches_malformed: u64,
    /// Batches of origins that membership never named, beyond those that are held aside.
    pub origins_unnamed: u64,
    /// Held intervals that were forgotten for lack of room.
    pub held_forgotten: u64,
    pub snapshots: u64,
    /// Snapshots that brought nothing any more when they were complete.
    pub snapshots_stale: u64,
    /// Copies that differed from their origin at the same head.
    pub sum_mismatches: u64,
    /// Records under a seq that another key has.
    pub records_conflicting: u64,
    /// Records whose key or body does not decode; kept, passed on, served to nobody.
    pub undecodable: u64,
    /// New lives of an origin that were refused because more was known here.
    pub tails_kept: u64,
    /// The same, given up after a minute without the origin's answer.
    pub tails_lost: u64,
    /// Times this agent took back what its disk had lost.
    pub adoptions: u64,
    /// Starts on a store that lacked some of what was written.
    pub torn_disks: u64,
    /// Epochs taken beside the one at the start.
    pub epochs_taken: u64,
    /// Own records given up to an origin with a later claim.
    pub yielded: u64,
    /// Records whose claim is further ahead than clocks that are right.
    pub claims_ahead: u64,
    /// Deleted keys not remembered for lack of room.
    pub deleted_forgotten: u64,
    /// Tombstones forgotten for lack of room although an origin is out of sight.
    pub tombstones_early: u64,
    /// Origins given up, by this agent or on another's word.
    pub reaped: u64,
    /// Leases and TTL checks that ran out.
    pub expired: u64,
    /// Writes taken over from an origin that was gone or silent.
    pub taken_over: u64,
    /// Check results held back because the check flaps.
    pub flaps_damped: u64,
}

/// The agent's host as its node record tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: NodeName,
    pub info: NodeInfo<'static>,
}

/// The records of all origins and what follows from them.
#[derive(Debug)]
pub struct Catalog {
    config: CatalogConfig,
    me: NodeId,
    own_ix: table::OriginIx,
    host: Host,
    table: table::Table,
    own: own::Own,
    graves: tombstones::Graves,
    leases: leases::Leases,
    reaping: reaping::Reaping,
    checks: commands::Checks,
    nodes: nodes::Nodes,
    externals: external::Externals,
    entries: entries::Entries,
    events: events::Events,
    words: overrides::Words,
    fold: fold::Fold,
    /// Origins that only their records name.
    unnamed: BTreeSet<NodeId>,
    /// In an import: origins with a mark here that a peer still tells of.
    contested: BTreeSet<NodeId>,
    effects: VecDeque<Effect>,
    pub counters: Counters,
}

impl Catalog {
    /// Begins a life of the agent `me` on what its store kept.
    /// The nonce is random, and tells this process from another one on a copy of the same disk.
    pub fn new(config: CatalogConfig, host: Host, me: NodeId, nonce: u16, restored: &Restored, now: Now) -> Self {
        let mut catalog = Self::empty(config, host, me, nonce, restored.revision, now);
        catalog.begin_life(now, restored.head, &restored.lineage, restored.records.clone());
        for ix in catalog.slots_of(catalog.own_ix) {
            let uid = catalog.table.slot(ix).uid();
            catalog.resume_lease(now, uid);
        }
        catalog.announce_node(now);
        for copied in &restored.copies {
            catalog.recall(now, copied);
        }
        catalog
    }

    /// Without any record, the own ones included.
    fn empty(config: CatalogConfig, host: Host, me: NodeId, nonce: u16, revision: u64, now: Now) -> Self {
        let mut table = table::Table::default();
        table.broken = config.broken;
        let own_ix = table.add_origin(origin::Origin::new(me, liveness::Life::own(now), now.ns));
        let mut catalog = Self {
            config,
            me,
            own_ix,
            fold: fold::Fold::new(&host, me, revision),
            host,
            table,
            own: own::Own::of(nonce),
            graves: tombstones::Graves::default(),
            leases: leases::Leases::new(now),
            reaping: reaping::Reaping::default(),
            checks: commands::Checks::default(),
            nodes: nodes::Nodes::default(),
            externals: external::Externals::default(),
            entries: entries::Entries::default(),
            events: events::Events::default(),
            words: overrides::Words::default(),
            unnamed: BTreeSet::new(),
            contested: BTreeSet::new(),
            effects: VecDeque::new(),
            counters: Counters::default(),
        };
        catalog.refresh_life(now, own_ix);
        catalog
    }

    /// How full the tables here are.
    pub fn levels(&self) -> [Level; 4] {
        [
            Level::new("catalog_unnamed", self.unnamed.len(), apply::UNNAMED_ORIGINS_MAX),
            Level::new("catalog_tombstones_awaiting", self.graves.awaiting(), self.config.awaiting_tombstones_max),
            Level::new("catalog_deleted", self.own.deleted_len(), own::DELETED_MAX),
            Level::new("catalog_leases_open", self.leases.open_len(), leases::OPEN_LEASES_MAX),
        ]
    }

    /// The next thing to be done; none when there is nothing left.
    pub fn poll(&mut self) -> Option<Effect> {
        if let Some(effect) = queue::take_first(&mut self.effects) {
            return Some(effect);
        }
        // One word on the head stands for all the writes before it.
        if std::mem::take(&mut self.own.is_head_unstored) {
            let own = self.table.origin(self.own_ix);
            return Some(Effect::Store(StoreOp::Head { head: own.head(), sum: own.sum }));
        }
        None
    }

    /// The monotonic time at which [`Catalog::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        if self.is_behind() {
            return Some(0);
        }
        [self.graves.deadline(), self.leases.deadline(), self.reaping.deadline(), self.words.deadline()].into_iter().flatten().min()
    }

    /// Does what is due, as much as fits in a turn.
    pub fn handle_timeout(&mut self, now: Now) {
        self.expire(now);
        self.forget_tombstones(now);
        self.reap(now);
        self.fold_turn(now);
    }

    /// Whether something waits to be folded into the next view.
    pub fn is_behind(&self) -> bool {
        self.fold.is_behind() || self.words.is_dirty() || self.externals.is_behind() || self.entries.is_behind() || self.events.is_behind()
    }

    /// Live records of all origins.
    pub fn record_count(&self) -> u64 {
        self.table.live()
    }

    /// Whether records are held aside of origins that membership has not named to this life.
    pub fn holds_aside(&self) -> bool {
        !self.unnamed.is_empty() || !self.reaping.recalled.is_empty()
    }

    /// Tombstones that are kept beyond their time because an origin is out of sight.
    pub fn awaiting_tombstones(&self) -> usize {
        self.graves.awaiting()
    }

    fn head_moved(&mut self, ix: table::OriginIx) {
        let origin = self.table.origin(ix);
        self.own.is_head_unstored |= ix == self.own_ix;
        if origin.is_advertised() {
            self.effects.push_back(Effect::HeadMoved(origin.id));
        }
    }

    /// An origin's claims come from a clock that is wrong: said once a minute, and counted.
    fn note_ahead(&mut self, ix: table::OriginIx, claim: Claim) {
        self.counters.claims_ahead += 1;
        let origin = self.table.origin_mut(ix);
        if !std::mem::replace(&mut origin.is_ahead, true) {
            tracing::warn!(origin = ?origin.id, claim, "an agent's clock is more than a minute ahead");
        }
    }
}

#[cfg(test)]
mod tests;
