//! Instances: as `Service` in health answers, as an agent shows its own, as the catalog lists them, and with node and checks.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::check::{self, CheckJson, Status};
use super::node::{Addresses, Meta, NodeJson};
use super::{Indexes, Uuid, as_map};
use crate::dialects::consul::mapping::EXT;
use crate::model::instance::{Endpoint, Instance};
use crate::model::record::{Key, Scope};
use crate::model::text::Text;
use crate::view::{Entry, Node, Service};

/// An entry of the view, decoded once for all that is shown of it.
#[derive(Debug)]
pub struct One<'a> {
    pub entry: &'a Entry,
    pub key: Key<'a>,
    pub instance: Instance<'a>,
    kept: Kept,
}

/// Of a Consul registration, what has no canonical field and is shown again.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kept {
    kind: String,
    enable_tag_override: bool,
    connect: Option<Map<String, Value>>,
    proxy: Option<Map<String, Value>>,
    /// Metadata that its tags say, and its `Meta` did not.
    decoded: Vec<String>,
    /// A configuration has it, which takes it away when it has it no longer.
    defined: bool,
}

impl<'a> One<'a> {
    /// Nothing, if the bytes do not decode; entries are made only of those that do.
    pub fn of(entry: &'a Entry) -> Option<Self> {
        let (key, mut instance) = entry.instance().ok()?;
        let kept = instance.ext.iter().find(|(dialect, _)| dialect == EXT);
        // What another program wrote there is not shown.
        let kept: Kept = kept.and_then(|(_, text)| serde_json::from_str(text).ok()).unwrap_or_default();
        instance.metadata.retain(|(key, _)| !kept.decoded.iter().any(|decoded| **key == **decoded));
        Some(Self { entry, key, instance, kept })
    }

    /// All entries of a service in Consul's order: by node, then id.
    pub fn all_of(service: &'a Service) -> Vec<Self> {
        let mut all: Vec<Self> = service.entries.iter().filter_map(Self::of).collect();
        all.sort_by(|a, b| a.place().cmp(&b.place()));
        all
    }

    /// What Consul orders by.
    pub fn place(&self) -> (&str, &str) {
        (&self.entry.node.name, self.id())
    }

    pub fn id(&self) -> &str {
        &self.key.id
    }

    pub fn service(&self) -> &str {
        &self.key.name
    }

    /// Whether it has each of these tags, in any case, as `?tag` asks.
    pub fn has_tags<'t>(&self, mut wanted: impl Iterator<Item = &'t str>) -> bool {
        wanted.all(|wanted| self.instance.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted)))
    }

    /// Whether it takes part in the mesh by itself, which `connect` lists ask for.
    pub fn is_connect_native(&self) -> bool {
        self.kept.connect.as_ref().and_then(|connect| connect.get("Native")).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether a configuration defined it.
    pub fn is_defined(&self) -> bool {
        self.kept.defined
    }

    fn indexes(&self) -> Indexes {
        Indexes::of(self.instance.registered_at, self.entry.revision)
    }

    /// The addresses it was registered with; one that was registered at an agent has its own under Consul's names as well.
    fn tagged_addresses(&self) -> Tagged<'_> {
        let Instance { address, port, addresses, .. } = &self.instance;
        let own = match address.parse() {
            _ if matches!(self.key.scope, Scope::Node(_)) => [""; 2],
            Ok(IpAddr::V4(_)) => ["lan_ipv4", "wan_ipv4"],
            Ok(IpAddr::V6(_)) => ["lan_ipv6", "wan_ipv6"],
            Err(_) => [""; 2],
        };
        Tagged { own, address, port: port.unwrap_or(0), others: addresses }
    }

    fn weights(&self) -> Weights {
        Weights { passing: whole(self.instance.weight), warning: whole(self.instance.weight_warning) }
    }

    fn proxy(&self) -> Cow<'_, Map<String, Value>> {
        self.kept.proxy.as_ref().map_or_else(no_proxy, Cow::Borrowed)
    }

    fn connect(&self) -> Cow<'_, Map<String, Value>> {
        self.kept.connect.as_ref().map_or_else(Cow::default, Cow::Borrowed)
    }

    /// As `Service` stands in health answers and under `catalog/node`.
    pub fn node_service(&self) -> ServiceJson<'_> {
        ServiceJson {
            kind: &self.kept.kind,
            id: self.id(),
            service: self.service(),
            tags: &self.instance.tags,
            address: &self.instance.address,
            tagged_addresses: self.tagged_addresses(),
            meta: &self.instance.metadata,
            port: self.instance.port.unwrap_or(0),
            weights: self.weights(),
            enable_tag_override: self.kept.enable_tag_override,
            proxy: self.proxy(),
            connect: self.connect(),
            indexes: self.indexes(),
        }
    }

    /// As an agent shows those that were registered with it.
    pub fn agent_service(&self) -> AgentServiceJson<'_> {
        AgentServiceJson {
            kind: &self.kept.kind,
            id: self.id(),
            service: self.service(),
            tags: &self.instance.tags,
            meta: &self.instance.metadata,
            port: self.instance.port.unwrap_or(0),
            address: &self.instance.address,
            tagged_addresses: self.tagged_addresses(),
            weights: self.weights(),
            enable_tag_override: self.kept.enable_tag_override,
            proxy: self.kept.proxy.as_ref(),
            connect: self.kept.connect.as_ref().filter(|connect| !connect.is_empty()),
        }
    }

    /// As the catalog lists it, with its node beside it.
    pub fn catalog_service(&self) -> CatalogServiceJson<'_> {
        CatalogServiceJson::of(&self.entry.node, self.node_service())
    }

    /// With its node and all checks on either: the node's first.
    pub fn service_entry(&self) -> ServiceEntryJson<'_> {
        let mut checks = check::of_node_for(self);
        checks.extend(check::of_instance(self));
        ServiceEntryJson { node: NodeJson::of(&self.entry.node, Indexes::at(self.entry.revision)), service: self.node_service(), checks }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: &'a str,
    #[serde(rename = "ID")]
    pub id: &'a str,
    pub service: &'a str,
    pub tags: &'a [Text<'a>],
    pub address: &'a str,
    #[serde(skip_serializing_if = "Tagged::is_empty")]
    pub tagged_addresses: Tagged<'a>,
    #[serde(serialize_with = "as_map")]
    pub meta: &'a [(Text<'a>, Text<'a>)],
    pub port: u16,
    pub weights: Weights,
    pub enable_tag_override: bool,
    pub proxy: Cow<'a, Map<String, Value>>,
    pub connect: Cow<'a, Map<String, Value>>,
    #[serde(flatten)]
    pub indexes: Indexes,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentServiceJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [Text<'a>],
    #[serde(serialize_with = "as_map")]
    meta: &'a [(Text<'a>, Text<'a>)],
    port: u16,
    address: &'a str,
    #[serde(skip_serializing_if = "Tagged::is_empty")]
    tagged_addresses: Tagged<'a>,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<&'a Map<String, Value>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatalogServiceJson<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Addresses<'a>,
    node_meta: Meta<'a>,
    service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [Text<'a>],
    service_address: &'a str,
    #[serde(skip_serializing_if = "Tagged::is_empty")]
    service_tagged_addresses: Tagged<'a>,
    service_weights: Weights,
    #[serde(serialize_with = "as_map")]
    service_meta: &'a [(Text<'a>, Text<'a>)],
    service_port: u16,
    service_enable_tag_override: bool,
    service_proxy: Cow<'a, Map<String, Value>>,
    service_connect: Cow<'a, Map<String, Value>>,
    #[serde(flatten)]
    indexes: Indexes,
}

impl<'a> CatalogServiceJson<'a> {
    pub fn of(node: &'a Node, service: ServiceJson<'a>) -> Self {
        Self {
            id: Uuid(node.id.0),
            node: &node.name,
            address: &node.address,
            datacenter: &node.datacenter,
            tagged_addresses: Addresses(node),
            node_meta: Meta(node),
            service_kind: service.kind,
            service_id: service.id,
            service_name: service.service,
            service_tags: service.tags,
            service_address: service.address,
            service_tagged_addresses: service.tagged_addresses,
            service_weights: service.weights,
            service_meta: service.meta,
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: service.proxy,
            service_connect: service.connect,
            indexes: service.indexes,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceEntryJson<'a> {
    pub node: NodeJson<'a>,
    pub service: ServiceJson<'a>,
    pub checks: Vec<CheckJson<'a>>,
}

impl ServiceEntryJson<'_> {
    /// Whether all checks say so: one that warns is not.
    pub fn is_passing(&self) -> bool {
        self.checks.iter().all(|check| check.status == Status::Passing)
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    pub passing: u32,
    pub warning: u32,
}

/// What Consul shows of a service that is no proxy.
pub fn no_proxy<'a>() -> Cow<'a, Map<String, Value>> {
    Cow::Owned(Map::from_iter(["MeshGateway", "Expose"].map(|part| (part.to_owned(), Map::new().into()))))
}

/// Consul's weights are whole; what is more than nothing stays so.
fn whole(thousandths: u32) -> u32 {
    ((thousandths + 500) / 1000).max(u32::from(thousandths > 0))
}

/// Addresses by name, an instance's own among them.
#[derive(Debug, Default)]
pub struct Tagged<'a> {
    /// Names under which the own address stands, unless they are taken.
    own: [&'static str; 2],
    address: &'a str,
    port: u16,
    others: &'a [(Text<'a>, Endpoint<'a>)],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct At<'a> {
    address: &'a str,
    port: u16,
}

impl Tagged<'_> {
    fn is_empty(&self) -> bool {
        self.own[0].is_empty() && self.others.is_empty()
    }
}

impl Serialize for Tagged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_free = |name: &&&str| !name.is_empty() && !self.others.iter().any(|(other, _)| *other == ***name);
        let own = self.own.iter().filter(is_free).map(|name| (*name, At { address: self.address, port: self.port }));
        let others = self.others.iter().map(|(name, at)| (name.as_str(), At { address: &at.address, port: at.port }));
        let mut all: Vec<(&str, At<'_>)> = own.chain(others).collect();
        all.sort_by_key(|(name, _)| *name);
        serializer.collect_map(all)
    }
}
