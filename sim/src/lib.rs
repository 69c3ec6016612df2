//! The simulator of tidings: whole clusters of the very same engine in one process and in virtual time.
//!
//! ```text
//! world      hosts, disks, clocks and the network: discrete events on one heap
//! rng        seeded random numbers, one generator a purpose
//! ```

pub mod rng;
pub mod world;
