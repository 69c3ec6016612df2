//! The tokio shell around the engine: sockets, streams, the store, checks, signals (design §1, §3, §5).
//!
//! ```text
//! handle     Command in, View out: the only door for everybody else
//! driver     the one thread that owns the engine
//! wake       tells those who wait that something changed
//! clock      the two clocks and the entropy that the engine is handed
//! sockets    the gossip port, UDP and TCP
//! streams    connections between agents, as numbers and bytes
//! store      what a restart finds again
//! checks     checks that this agent runs for its own instances
//! seeds      names of agents to join, resolved again and again
//! metrics    what is counted, as text
//! notify     what systemd is told
//! lifecycle  from ready to gone
//! ```
//!
//! No protocol decision is taken here: whatever agents say to each other is the engine's.

mod checks;
pub mod clock;
pub mod handle;
pub mod metrics;
mod notify;
pub mod seeds;
pub mod sockets;
pub mod store;
mod streams;
mod wake;
