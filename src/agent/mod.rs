//! The tokio shell around the engine: sockets, streams, the store, checks, signals (design §1, §3, §5).
//!
//! ```text
//! handle     Command in, View out: the only door for everybody else
//! ```
//!
//! No protocol decision is taken here: whatever agents say to each other is the engine's.

pub mod handle;
