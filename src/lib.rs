//! tidings: a leaderless service registry.

pub mod engine;
pub mod model;
pub mod view;
