//! What an agent answers about members, itself, datacenters, events and keys.

use super::registration::Override;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Members<'a> {
    pub datacenter: Cow<'a, str>,
    pub revision: u64,
    pub members: Vec<Member<'a>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Member<'a> {
    pub node: Cow<'a, str>,
    pub node_id: String,
    /// Of its gossip.
    pub address: String,
    /// alive, suspect, down, left.
    pub state: Cow<'a, str>,
    /// When the state became what it is.
    pub since: String,
    pub datacenter: Cow<'a, str>,
    pub zone: Option<Cow<'a, str>>,
    /// Of its program; empty while it has not said.
    pub version: Cow<'a, str>,
    pub http_port: Option<u16>,
    pub dns_port: Option<u16>,
    pub gateway: bool,
    pub instances: u64,
    /// It is the agent that answers.
    pub me: bool,
    /// An older member has the same name.
    pub name_taken: bool,
    #[serde(rename = "override")]
    pub word: Option<Override>,
}

/// The agent that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Status<'a> {
    pub node: Cow<'a, str>,
    pub node_id: String,
    pub datacenter: Cow<'a, str>,
    pub zone: Option<Cow<'a, str>>,
    pub version: Cow<'a, str>,
    pub ready: bool,
    /// It seems to be the one that is cut off from the others.
    pub cut_off: bool,
    pub leaving: bool,
    pub revision: u64,
    pub services: u64,
    pub instances: u64,
    pub members: MemberCounts,
    /// What others give to `--join`.
    pub gossip: String,
    pub data_dir: Option<String>,
    /// The gossip key it started with.
    pub key: Option<String>,
    pub started_at: String,
    pub uptime: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct MemberCounts {
    pub alive: u32,
    pub suspect: u32,
    pub down: u32,
    pub left: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Datacenters<'a> {
    pub datacenters: Vec<Datacenter<'a>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Datacenter<'a> {
    pub datacenter: Cow<'a, str>,
    /// The one of the agent that answers.
    pub local: bool,
    /// fresh, lagging, stale: how well it is heard.
    pub state: Cow<'a, str>,
    /// How old what is known of it may be; 0s while it is heard.
    pub age: Cow<'a, str>,
    /// Since when nobody here hears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    /// Round trip in milliseconds, once it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// About how many nodes over there have changes that wait to be sent here.
    pub backlog: u32,
    /// Gateways here that hold a link with it; of the own one, its gateways that are alive.
    pub gateways: Vec<String>,
    pub members: u32,
    pub services: u64,
    pub instances: u64,
    /// Further services that are known by their numbers alone.
    pub summaries: u64,
    /// What the gateways here hold with it.
    pub links: Vec<Link>,
}

/// What one gateway of this datacenter holds with another datacenter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Link {
    /// The gateway here, by the id of its node.
    pub gateway: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// About how many nodes over there have changes that wait for this link.
    pub backlog: u32,
    pub peers: Vec<LinkPeer>,
}

/// A gateway over there that sends to one here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct LinkPeer {
    pub node_id: String,
    pub address: String,
}

/// The last changes of what the agent sees, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Events {
    pub revision: u64,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Event {
    pub at: String,
    /// Of the view that showed it.
    pub revision: u64,
    /// member, agent, instance.
    pub about: String,
    /// A member's node name, an instance's `service/id`.
    pub name: String,
    /// What happened: joined, alive, suspect, down, left, forgotten; ready, cut_off, reconnected; put, removed.
    pub what: String,
    /// What else is to be said, as the reason of a removal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Join {
    /// `host:port` of their gossip; with `wan`, of what gateways listen on.
    pub addresses: Vec<String>,
    /// Gateways of other datacenters are meant; the agent must be a gateway itself.
    #[serde(default)]
    pub wan: bool,
}

/// What became of settings that were read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Reloaded {
    pub revision: u64,
    /// Settings that changed and count from now on.
    pub changed: Vec<String>,
    /// Settings that changed and count after a restart only.
    pub needs_restart: Vec<String>,
}

/// The gossip keys this agent accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Keys {
    pub keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Key {
    pub id: String,
    /// Whether it seals what this agent sends.
    pub in_use: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// As `tidings keygen` prints it: base64 or hexadecimal.
    pub key: String,
}
