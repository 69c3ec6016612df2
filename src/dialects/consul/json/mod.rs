//! What the view holds as Consul's JSON: exactly the keys of Consul 1.8, in its order, for an instance of any dialect.
//!
//! ```text
//! node      Node of health and catalog answers
//! check     HealthCheck: of nodes, of instances, and those that stand for leases, overrides and SWIM's verdict
//! service   NodeService, AgentService, CatalogService and ServiceEntry
//! shape     the same as filters see them
//! ```
//!
//! Canonical fields win; what only Consul knows of (`EnableTagOverride`, `Connect`…) is merged back from `ext.consul`. Lists and maps are
//! never null. Indexes are this agent's revisions: `ModifyIndex` is that of the entry's last change, `CreateIndex` the instant of its
//! registration as a revision, as far as that is not later.

pub mod check;
pub mod node;
pub mod service;
pub mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::model::text::Text;
use crate::model::time::WallMs;

/// 128 bits as Consul writes ids of nodes and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            id >> 80 & 0xffff,
            id >> 64 & 0xffff,
            id >> 48 & 0xffff,
            id & 0xffff_ffff_ffff
        )
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Pairs as a JSON object.
fn as_map<S: Serializer>(pairs: &&[(Text<'_>, Text<'_>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// The revisions of a thing that came at an instant and changed last at a revision; neither is ever 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Indexes {
    create_index: u64,
    modify_index: u64,
}

impl Indexes {
    pub fn of(came: WallMs, changed: u64) -> Self {
        let modify_index = changed.max(1);
        // Another agent's clock may run ahead of this one's revisions.
        Self { create_index: came.0.saturating_mul(1 << 10).clamp(1, modify_index), modify_index }
    }

    pub fn modify_index(self) -> u64 {
        self.modify_index
    }

    /// Of something whose coming nobody noted.
    pub fn at(revision: u64) -> Self {
        Self { create_index: revision.max(1), modify_index: revision.max(1) }
    }
}
