//! What agents receive, mutated.
//!
//! `targets` are the doors bytes come in by; `mutate` (the binary) knocks on them on stable Rust, `fuzz_targets` with cargo-fuzz, and
//! `tests/corpus.rs` of the registry itself with all inputs that were worth keeping; `tests/mutated.rs` knocks on a real agent's sockets.

pub mod mutation;
pub mod targets;
