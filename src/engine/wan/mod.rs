//! Other datacenters: gateways that find each other, links between them, and what each agent keeps of the rest (protocol.md §6).
//!
//! ```text
//! config    settings: what is kept, what a gateway says, what crosses     gateway   the pool of gateways; who sends what to whom, what comes
//! crossing  the own catalog as it crosses                                 link      one stream to or from another gateway
//! imports   what every agent keeps of other datacenters                   summaries what is known of services that do not cross in full
//! answers   what was fetched of those, as all agents here keep it         fetching  when a gateway fetches them
//! pace      how soon what the own datacenter writes crosses
//! kin       who may speak for a datacenter of that name
//! ```
//!
//! Addresses of the pool are not stored: a gateway that restarts finds it by its seeds.
//!
//! A gateway is in two pools: its datacenter's, and that of all gateways. Each has a socket, a seal and a label of its own; the label is
//! part of what a seal authenticates, so that no packet of one pool is ever taken for one of the other.

mod answers;
pub mod config;
mod crossing;
mod fetching;
pub mod gateway;
pub mod imports;
mod kin;
mod link;
mod pace;
mod summaries;
