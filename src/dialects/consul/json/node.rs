//! Nodes.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Indexes, Uuid};
use crate::view::Node;

/// What Consul's agents have in their metadata, whose clients look for it.
const SEGMENT: &str = "consul-network-segment";

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeJson<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Addresses<'a>,
    meta: Meta<'a>,
    #[serde(flatten)]
    indexes: Indexes,
}

impl<'a> NodeJson<'a> {
    pub fn of(node: &'a Node, indexes: Indexes) -> Self {
        Self {
            id: Uuid(node.id.0),
            node: &node.name,
            address: &node.address,
            datacenter: &node.datacenter,
            tagged_addresses: Addresses(node),
            meta: Meta(node),
            indexes,
        }
    }
}

/// An agent's one address under the names that Consul gives it. Of external nodes no other is known.
#[derive(Debug)]
pub struct Addresses<'a>(pub &'a Node);

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names: &[&str] = match self.0.address.parse() {
            _ if self.0.is_external => &[],
            Ok(IpAddr::V4(_)) => &["lan", "lan_ipv4", "wan", "wan_ipv4"],
            Ok(IpAddr::V6(_)) => &["lan", "lan_ipv6", "wan", "wan_ipv6"],
            Err(_) => &["lan", "wan"],
        };
        serializer.collect_map(names.iter().map(|name| (name, &self.0.address)))
    }
}

/// A node's metadata.
#[derive(Debug)]
pub struct Meta<'a>(pub &'a Node);

impl Serialize for Meta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs(self.0))
    }
}

fn pairs(node: &Node) -> impl Iterator<Item = (&str, &str)> {
    let has_own = node.metadata.iter().any(|(key, _)| key == SEGMENT);
    let segment = (!node.is_external && !has_own).then_some((SEGMENT, ""));
    segment.into_iter().chain(node.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// Whether a node's metadata has that pair, as `?node-meta` asks.
pub fn has_meta(node: &Node, key: &str, value: &str) -> bool {
    pairs(node).any(|pair| pair == (key, value))
}
