//! The registry as a pure state machine.

pub mod io;
pub mod spread;
pub mod wire;
