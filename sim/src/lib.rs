//! The simulator of tidings: whole clusters of the very same engine in one process and in virtual time.
//!
//! ```text
//! world      hosts, disks, clocks and the network: discrete events on one heap
//! agent      the engine as a machine of the world
//! faults     what befalls hosts and the network
//! plan       what a seed means: which cluster, which faults, which operations
//! workload   clients;  history: what they asked and were told;  truth: what origins really wrote
//! run        one run of all that;  checkers: the invariants that look on
//! whole      whether everything is right
//! swarm      a seed from its plan to its verdict
//! sweep      many seeds, one hash;  states: what they must have reached
//! replay     what happened, line by line;  shrink: the least that still fails;  found: what was kept of that, as files
//! scenarios  histories with names, each the shortest of one way to fail
//! experiments  figures of whole clusters
//! report     what a failure prints
//! ```

mod agent;
pub mod checkers;
pub mod cli;
pub mod experiments;
pub mod faults;
pub mod found;
pub mod history;
pub mod log;
pub mod plan;
pub mod reader;
pub mod replay;
pub mod report;
pub mod rng;
pub mod run;
pub mod scenarios;
pub mod shrink;
pub mod states;
pub mod swarm;
pub mod sweep;
pub mod truth;
pub mod violation;
pub mod whole;
pub mod workload;
pub mod world;
