//! The simulator of tidings: whole clusters of the very same engine in one process and in virtual time.
//!
//! ```text
//! world      hosts, disks, clocks and the network: discrete events on one heap
//! rng        seeded random numbers, one generator a purpose
//! truth      what origins really wrote
//! ```

pub mod faults;
pub mod history;
pub mod plan;
pub mod rng;
pub mod truth;
pub mod violation;
pub mod workload;
pub mod world;
