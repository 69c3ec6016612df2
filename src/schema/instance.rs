//! What an agent answers about instances and services, and about writes to them.

use super::Pairs;
use super::registration::{Address, Check, Override};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// An instance as an agent knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Instance<'a> {
    /// 32 hexadecimal digits, the same at all agents.
    pub uid: String,
    pub id: Cow<'a, str>,
    pub service: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub scope: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    /// How old this agent's word on it is; `0s` in its own datacenter.
    pub age: Cow<'a, str>,
    pub node: Cow<'a, str>,
    pub node_id: String,
    pub zone: Option<Cow<'a, str>>,
    pub address: Cow<'a, str>,
    pub port: Option<u16>,
    pub secure_port: Option<u16>,
    #[cfg_attr(feature = "agent", schema(value_type = std::collections::BTreeMap<String, Address<'static>>))]
    pub addresses: Pairs<'a, Address<'a>>,
    pub tags: Vec<Cow<'a, str>>,
    #[cfg_attr(feature = "agent", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub metadata: Pairs<'a, Cow<'a, str>>,
    pub weight: Weight,
    /// passing, warning, critical, starting, unknown.
    pub health: Cow<'a, str>,
    pub enabled: bool,
    /// This agent has its own or a trusted word that its agent lives.
    pub verified: bool,
    pub available: bool,
    pub registered_at: String,
    pub changed_at: String,
    /// When it last changed as the answering agent saw it.
    pub revision: u64,
    /// The dialect it was registered in.
    pub source: Cow<'a, str>,
    /// What decides on its health and availability, the decisive one first; in lists with `?health=any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Vec<Why<'a>>>,
    /// With `?ext=true`: what dialects keep, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<Object>))]
    pub ext: Option<Map<String, Value>>,
}

/// A weight in thousandths, shown as a number without needless decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(pub u32);

impl Serialize for Weight {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u32(self.0 / 1000)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let weight = f64::deserialize(deserializer)?;
        // Saturates; an agent never sends what does not fit.
        Ok(Self((weight * 1000.0).round() as u32))
    }
}

#[cfg(feature = "agent")]
impl utoipa::PartialSchema for Weight {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        f64::schema()
    }
}

#[cfg(feature = "agent")]
impl utoipa::ToSchema for Weight {}

/// One reason for the state an instance is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Why<'a> {
    /// agent, lease, check, override, client.
    pub by: Cow<'a, str>,
    /// The agent's node, the check's id; empty where there is only one.
    pub id: Cow<'a, str>,
    pub state: Cow<'a, str>,
    pub output: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// One instance with all there is to know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct InstanceDetail<'a> {
    #[serde(flatten)]
    pub instance: Instance<'a>,
    pub weight_warning: Weight,
    pub ttl: Option<String>,
    pub remove_after: Option<String>,
    pub checks: Vec<Check<'a>>,
    #[serde(rename = "override")]
    pub word: Option<Override>,
}

/// The instances of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct List<'a> {
    pub service: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    /// Of the service; survives its last instance.
    pub revision: u64,
    /// False: known by a summary only and being fetched.
    pub complete: bool,
    /// Where the next page begins.
    pub next: Option<String>,
    pub instances: Vec<Instance<'a>>,
}

/// Instances of all services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Instances<'a> {
    pub namespace: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    pub revision: u64,
    pub complete: bool,
    pub next: Option<String>,
    pub instances: Vec<Instance<'a>>,
}

/// The chosen instances of a service, the first choice first; none where nothing is available.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Pick<'a> {
    pub service: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    pub revision: u64,
    pub strategy: Cow<'a, str>,
    pub instances: Vec<Instance<'a>>,
}

/// Services by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Services<'a> {
    pub namespace: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    pub revision: u64,
    pub next: Option<String>,
    pub services: Vec<ServiceSummary<'a>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct ServiceSummary<'a> {
    pub service: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub datacenter: Cow<'a, str>,
    pub revision: u64,
    pub instances: u32,
    pub available: u32,
    /// By health; those of agents that are down are counted as their agents last said.
    pub passing: u32,
    pub warning: u32,
    pub critical: u32,
    pub starting: u32,
    pub unknown: u32,
    pub disabled: u32,
    pub agent_down: u32,
    /// These numbers are all that came of it from its datacenter: its instances do not cross.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instances_elsewhere: bool,
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Write {
    pub uid: String,
    /// created, updated, unchanged, removed, absent.
    pub result: String,
    /// Reading here from this revision on shows the write.
    pub revision: u64,
}

/// The answers to a batch, in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Batch {
    pub results: Vec<Write>,
}
