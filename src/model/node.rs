//! Nodes: agents' hosts and external ones, as they stand in the catalog.

use super::instance::{Check, Health};
use super::text::Text;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The body of a record of kind `node`: what an agent says of its host (agent scope), or a client of an external node (node scope). The
/// key's name is the node's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo<'a> {
    /// An IP or a host name: where instances that name no address of their own are reached.
    #[serde(borrow)]
    pub address: Text<'a>,
    /// Where the agent's gossip is reached; none of an external node.
    pub gossip: Option<SocketAddr>,
    /// The port of the agent's HTTP API, where it listens on one.
    pub http_port: Option<u16>,
    pub dns_port: Option<u16>,
    pub datacenter: Text<'a>,
    pub zone: Option<Text<'a>>,
    pub is_gateway: bool,
    /// The agent's version.
    pub version: Text<'a>,
    /// By key, in ascending order.
    pub metadata: Vec<(Text<'a>, Text<'a>)>,
    /// Checks on the node rather than on an instance: the worst of them counts into the health of all that is on it.
    pub checks: Vec<Check<'a>>,
}

/// The worst of what checks say; passing where there is none.
pub fn worst(checks: &[Check<'_>]) -> Health {
    checks.iter().map(|check| check.state).max().unwrap_or_default()
}

impl NodeInfo<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> NodeInfo<'static> {
        NodeInfo {
            address: self.address.into_owned(),
            gossip: self.gossip,
            http_port: self.http_port,
            dns_port: self.dns_port,
            datacenter: self.datacenter.into_owned(),
            zone: self.zone.map(Text::into_owned),
            is_gateway: self.is_gateway,
            version: self.version.into_owned(),
            metadata: self.metadata.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
            checks: self.checks.into_iter().map(Check::into_owned).collect(),
        }
    }

    /// The worst of what its checks say.
    pub fn health(&self) -> Health {
        worst(&self.checks)
    }
}

/// The body of a record of kind `override`: an operator's word on an instance or a whole node. It survives re-registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override<'a> {
    pub enabled: bool,
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// Wall clock in Unix milliseconds; none: until it is taken back.
    pub expires_at: Option<u64>,
    pub set_at: u64,
}

impl Override<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> Override<'static> {
        Override { enabled: self.enabled, reason: self.reason.into_owned(), expires_at: self.expires_at, set_at: self.set_at }
    }
}

/// What an agent knows of an origin's life; decides how its instances are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Instances are what their records say.
    Alive,
    /// The same, ranked last.
    Suspect,
    /// Unknown to membership, down by hearsay, lost while this agent is cut off, or known from the own disk only: served, marked, only
    /// where a service has nothing healthy, for at most ten minutes.
    Unverified,
    /// Instances are not available.
    Down,
    /// Instances are absent.
    Left,
}

impl Liveness {
    pub fn as_str(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Unverified => "unverified",
            Liveness::Down => "down",
            Liveness::Left => "left",
        }
    }
}
