//! tidings: a leaderless service registry.
//!
//! Every agent holds the whole catalog of its datacenter in memory. SWIM gossip keeps the copies equal and notices deaths; lookups are
//! answered from local memory and never leave the agent that is asked.
//!
//! # The rooms, in reading order
//!
//! | room | what it is for |
//! |---|---|
//! | [`model`] | plain data all rooms share: names, instances, records and their order, commands and replies, limits |
//! | [`engine`] | the registry as a pure state machine: no sockets, clocks, threads, files, async or globals |
//! | [`engine::io`] | its boundary: `Input` in, `Output` out |
//! | [`engine::membership`] | who is alive: SWIM, suspicion, health awareness, joining, healing |
//! | [`engine::catalog`] | who offers what: origins, records, claims, leases, liveness |
//! | [`engine::spread`] | how it travels: deltas, adverts, reconciliation, snapshots |
//! | [`engine::wan`] | other datacenters: gateways, links, what is kept of the rest |
//! | [`engine::wire`] | packets and frames as bytes, sealed and opened |
//! | [`view`] | the read side: immutable snapshots, queries, revisions, change feeds |
//! | [`select`] | choosing among instances |
//! | `access` | who may do what: tokens and grants; and which requests a browser may make |
//! | `agent` | the shell around the engine: its thread, sockets, streams, store, checks |
//! | `schema`, `api` | the JSON of the native HTTP API; the API itself |
//! | `dialects` | translators for clients of other registries: Consul, DNS |
//! | `serve` | sockets to routers |
//! | `settings`, `cli` | what people set; what they type |
//!
//! Who may import whom stands in `tests/architecture.rs`, which enforces it.
//!
//! # Words, once
//!
//! - *agent*: the process. *member*: an agent as SWIM sees it. *node*: a name and address in the catalog, an agent's host or an external
//!   one. *origin*: the agent that wrote a record.
//! - *seq* orders changes inside an origin, *epoch* the lives of an origin, *generation* SWIM's boots of a member, *claim* the writers of
//!   one key, *revision* what one reader saw. *version* is only a service's version or the protocol's.
//! - *head*: how far an origin's history is known, without a gap. *batch*: all that changed in an interval of it. *snapshot*: all that is
//!   live in it. *root*: a sum over heads; equal roots, equal catalogs.
//!
//! # What holds, always
//!
//! The simulator checks these after every event.
//!
//! 1. A head (epoch, reaped, contiguous seq) at an agent never decreases.
//! 2. On every key not changed after its head, an agent's map equals that origin's history at the head; agents without gaps and with
//!    equal heads have equal sums.
//! 3. A registration that was acknowledged is, at quiescence, in every connected ready agent's view, unless superseded or deleted.
//! 4. After an agent's head or tombstone covers a delete of (key, claim), it never serves a record of that key with that claim or a lower
//!    one, from any origin; nor a replaced epoch, nor a reaped origin that it does not hold alive.
//! 5. Only its origin issues a record; two agents never hold different bytes for one (origin, epoch, key, seq).
//! 6. At quiescence there is one visible record a datacenter-scoped key: the highest claim. Agent-scoped keys never compete.
//! 7. No instance is served as verified and healthy longer than detection plus spread after its agent stopped; unverified ones at most ten
//!    minutes, and only where nothing healthy is left. A node's death costs one membership update and no record update.
//! 8. Agents that are not ready sponsor no one, export nothing, accuse no one. In any connected set, however started, all are ready
//!    within 10 s of calm.
//! 9. After a cut of any length among any number of agents from two up, membership is whole within 2 min of healing, and no origin alive
//!    on both ends was hidden by the healing.
//! 10. Every corrupted, truncated, replayed or foreign packet is refused or harmless.
//! 11. A remote datacenter's state never changes the local root; an import never makes an origin down that one connected gateway of its
//!     datacenter vouches for. (Shown by the scenarios of `engine::tests::datacenters`; the simulator has one datacenter yet.)
//! 12. The view equals the fold of the records; a feed's deltas fold to the snapshot of the same revision; revisions rise.
//! 13. Every queue and table stays within its limit; idle repair traffic is zero.

pub mod access;
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
pub mod api;
#[cfg(feature = "agent")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "agent")]
pub mod dialects;
pub mod engine;
pub mod model;
#[cfg(feature = "client")]
pub mod schema;
pub mod select;
#[cfg(feature = "agent")]
pub mod serve;
#[cfg(feature = "agent")]
pub mod settings;
pub mod view;
