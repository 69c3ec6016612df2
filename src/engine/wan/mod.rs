//! Other datacenters: gateways that find each other, links between them, and what each agent keeps of the rest (protocol.md §6).

pub mod config;
