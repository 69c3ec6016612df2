//! Other datacenters, as this agent can answer for them from its own memory (protocol.md §6).
//!
//! What is known of a datacenter's services is a [`View`] of its own, read like the local one: its revisions, journal and services are
//! apart from all others'. The nodes in it are the other datacenter's. Around it stands how old that knowledge is.

use super::View;
use crate::model::names::NodeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// How well this agent hears of a datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkState {
    /// Some gateway hears it now and lacks nothing it knows of.
    Fresh,
    /// Some gateway hears it now and is still taking in what it lacked.
    Lagging,
    /// Nobody hears it: what is shown is as of `stale_since_ms`.
    Stale,
}

impl LinkState {
    pub const ALL: [LinkState; 3] = [LinkState::Fresh, LinkState::Lagging, LinkState::Stale];

    pub fn as_str(self) -> &'static str {
        match self {
            LinkState::Fresh => "fresh",
            LinkState::Lagging => "lagging",
            LinkState::Stale => "stale",
        }
    }
}

/// One other datacenter.
#[derive(Debug, Clone)]
pub struct DatacenterView {
    pub name: String,
    pub state: LinkState,
    /// Until when its word is known to be complete: wall clock in Unix milliseconds; none while it is heard.
    pub stale_since_ms: Option<u64>,
    /// The round trip from this datacenter's gateways to it, in microseconds; none before it was measured.
    pub rtt_us: Option<u32>,
    /// Links that this datacenter's gateways hold with it, by gateway here.
    pub links: Vec<LinkView>,
    /// Its services and nodes, as far as they were exported here.
    pub view: Arc<View>,
    /// Rises with every change of what stands around `view`; of the agent's own revisions.
    pub revision: u64,
}

impl DatacenterView {
    /// How old what is shown may be: nothing while somebody hears the datacenter.
    pub fn age_ms(&self, wall_ms: u64) -> u64 {
        self.stale_since_ms.map_or(0, |since| wall_ms.saturating_sub(since))
    }
}

/// What one gateway of this datacenter holds with another datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The gateway here that reports it.
    pub gateway: NodeId,
    /// Gateways over there that send to it now, with where their WAN socket is reached.
    pub peers: Vec<(NodeId, SocketAddr)>,
    pub state: LinkState,
    /// The round trip, in microseconds.
    pub rtt_us: Option<u32>,
    /// About how many nodes over there have changes that wait to be sent.
    pub backlog: u32,
}
