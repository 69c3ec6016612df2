//! The engine's settings: defaults and limits live with the room they are for; `lan` and `wan` gather them.

use super::catalog::Host;
pub use super::catalog::config::CatalogConfig;
pub use super::membership::MembershipConfig;
use super::sabotage::Broken;
pub use super::spread::config::SpreadConfig;
pub use super::wan::config::{EDITION_MAX, Export, ExportPolicy, ExportRule, GatewayConfig, WanConfig};
use crate::model::names::{Datacenter, NodeName, Zone};
use crate::model::node::NodeInfo;
use std::net::SocketAddr;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Agents of another label refuse each other's packets; part of every datagram.
    pub label: String,
    pub node: NodeConfig,
    /// Gossip keys, the one to seal with first; none: gossip travels in clear.
    pub keys: Vec<[u8; 32]>,
    pub membership: MembershipConfig,
    pub catalog: CatalogConfig,
    pub spread: SpreadConfig,
    /// How what other datacenters say is kept; every agent has it.
    pub wan: WanConfig,
    /// Of a gateway only: its place in the pool of gateways.
    pub gateway: Option<GatewayConfig>,
    pub broken: Broken,
}

/// What an agent says of its own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    pub name: NodeName,
    pub datacenter: Datacenter,
    pub zone: Option<Zone>,
    /// Where peers reach this agent's gossip; its IP is the address of instances that name none.
    pub advertise: SocketAddr,
    pub http_port: Option<u16>,
    pub dns_port: Option<u16>,
    /// The version of the program.
    pub version: String,
    /// By key, in ascending order.
    pub metadata: Vec<(String, String)>,
}

impl NodeConfig {
    fn host(&self, is_gateway: bool) -> Host {
        let text = |text: &str| text.to_owned().into();
        let info = NodeInfo {
            address: self.advertise.ip().to_string().into(),
            gossip: Some(self.advertise),
            http_port: self.http_port,
            dns_port: self.dns_port,
            datacenter: text(self.datacenter.as_str()),
            zone: self.zone.as_ref().map(|zone| text(zone.as_str())),
            is_gateway,
            version: text(&self.version),
            metadata: self.metadata.iter().map(|(key, value)| (text(key), text(value))).collect(),
            checks: Vec::new(),
        };
        Host { name: self.name.clone(), info }
    }
}

impl EngineConfig {
    /// This agent's host as the catalog writes it down.
    pub fn host(&self) -> Host {
        self.node.host(self.gateway.is_some())
    }

    /// An agent of one datacenter: round trips of milliseconds.
    pub fn lan(node: NodeConfig) -> Self {
        Self {
            label: format!("tidings/{}", node.datacenter),
            node,
            keys: Vec::new(),
            membership: MembershipConfig::lan(),
            catalog: CatalogConfig::default(),
            spread: SpreadConfig::lan(),
            wan: WanConfig::default(),
            gateway: None,
            broken: Broken::default(),
        }
    }

    /// Breaks a rule in all rooms that keep it.
    #[cfg(feature = "sabotage")]
    pub fn break_rule(&mut self, rule: super::sabotage::Rule) {
        self.broken = Broken::by(rule);
        self.catalog.broken = self.broken;
        self.membership.broken = self.broken;
        self.spread.broken = self.broken;
    }
}
