//! How changes travel between agents.

pub mod sketch;
