//! The registry as a pure state machine.
