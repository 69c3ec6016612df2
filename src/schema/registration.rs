//! What a client says: registrations, signs of life, an operator's word, batches.

use super::Pairs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// An instance as its client describes it. All of it is optional but `port` or `address`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// `default` where neither body nor query name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// An IP or a host name; the agent's own where it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_port: Option<u16>,
    /// Further addresses by name; at most 8.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    #[cfg_attr(feature = "agent", schema(value_type = std::collections::BTreeMap<String, Address<'static>>))]
    pub addresses: Pairs<'static, Address<'static>>,
    /// At most 512 of at most 16 KiB; their order is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// At most 128 pairs; keys to 255 bytes, values to 8 KiB. `version`, `env` and `protocol` are known to selectors.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    #[cfg_attr(feature = "agent", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub metadata: Pairs<'static, String>,
    /// 0 to 65,535 in steps of a thousandth; 0 takes no traffic. 1 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The weight while the health is warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_warning: Option<f64>,
    /// The agent's own where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What the client says of its own health: passing, warning, critical, starting, unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Critical when not renewed for so long; 100 ms to 24 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Gone so long after it became critical; ten times the ttl, at least a minute, where it is not given; `0s` at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_after: Option<String>,
    /// At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check<'static>>,
    /// `datacenter`: one thing wherever it is written. `agent`: one for each agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What one dialect keeps verbatim, by dialect; at most 16 KiB each.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[cfg_attr(feature = "agent", schema(value_type = Object))]
    pub ext: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Address<'a> {
    pub address: Cow<'a, str>,
    pub port: u16,
}

/// A check the agent makes, or one that a client reports to (`ttl`). `state`, `output` and `since` stand in answers only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Check<'a> {
    /// Unique in its instance; the kind and a number where it is not given.
    pub id: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub notes: Cow<'a, str>,
    /// ttl, http, tcp, grpc, script, alias.
    pub kind: Cow<'a, str>,
    /// Of a ttl check: silence for so long is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<std::collections::BTreeMap<String, String>>))]
    pub headers: Option<Pairs<'a, Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_tls_verify: Option<bool>,
    /// Of tcp and grpc checks: `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Cow<'a, str>>,
    /// Of grpc: whose health is asked. Of alias: whose health is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Cow<'a, str>>>,
    /// At least 1 s; 10 s where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passing_after: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning_after: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_after: Option<u16>,
    /// Critical for so long without a break, the instance is deregistered; never where it is not given. At least 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_after: Option<String>,
    /// In a registration: the state until the first result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// A sign of life; with a status, also the client's word on its health or on that of one check.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// An operator's word on an instance or a whole host; it survives re-registration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Override {
    pub enabled: bool,
    pub reason: String,
    /// In a request how long it holds, as a duration; for good where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// In answers: when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_at: Option<String>,
}

/// Up to 1,000 writes: all of them or, where one is refused, none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct BatchRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub items: Vec<BatchItem>,
}

/// One write of a batch: the fields of a registration or a heartbeat stand beside its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct BatchItem {
    /// register, deregister, heartbeat.
    pub op: String,
    pub service: String,
    pub id: String,
    #[serde(flatten)]
    #[cfg_attr(feature = "agent", schema(value_type = Object))]
    pub rest: Map<String, Value>,
}
