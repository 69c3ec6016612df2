//! The tokio shell around the engine: sockets, streams, the store, checks, signals (design §1, §3, §5).
//!
//! ```text
//! handle     Command in, View out: the only door for everybody else
//! store      what a restart finds again
//! ```
//!
//! No protocol decision is taken here: whatever agents say to each other is the engine's.

pub mod handle;
pub mod store;
