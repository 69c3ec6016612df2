//! The registry as a pure state machine.

pub mod answers;
pub mod catalog;
pub mod forwarding;
pub mod io;
pub mod mail;
pub mod membership;

pub mod proof;
pub mod spread;
pub mod streams;
pub mod wire;
