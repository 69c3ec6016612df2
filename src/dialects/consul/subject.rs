//! What a read is about: a service as a client names it, the node it names, Consul's own service.

use super::Consul;
use super::blocking::Watched;
use super::elsewhere::{self, Seen, block_there};
use super::json::node::NodeJson;
use super::json::service::{CatalogServiceJson, ServiceEntryJson, ServiceJson, Weights};
use super::json::{Indexes, check};
use super::refuse::Failure;
use super::request::Params;
use crate::model::names::{Namespace, ServiceKey, ServiceName};
use crate::model::node::Liveness;
use crate::model::text::Text;
use crate::view::{Node, Service, View};

/// The service that every agent is an instance of, in Consul, and that no registration stands for.
pub const CONSUL: &str = "consul";

/// A service as a client names it.
pub struct Subject {
    namespace: Namespace,
    name: String,
    /// None for what can be no service's name: it is never found.
    key: Option<ServiceKey>,
}

impl Subject {
    /// Names compare in any case here, so that of another spelling is meant where none has this one.
    ///
    /// # Errors
    /// The namespace can be none's, or the datacenter is not known here.
    pub fn named(consul: &Consul, params: &Params, name: String) -> Result<Self, Failure> {
        let namespace = params.namespace()?;
        let view = elsewhere::now(consul, params)?;
        let key = ServiceName::new(&name).ok().map(|service| {
            let is_summarized = view.other.as_ref().is_some_and(|known| known.summary(namespace.as_str(), &name).is_some());
            let is_known = is_summarized || view.service(namespace.as_str(), &name).is_some();
            let spelled = if is_known { None } else { spelled(consul, &view, &namespace, &name) };
            ServiceKey { namespace: namespace.clone(), service: spelled.unwrap_or(service) }
        });
        let name = key.as_ref().map_or(name, |key| key.service.as_str().to_owned());
        Ok(Self { namespace, name, key })
    }

    /// The view to answer from, once the service is not as the client knows it.
    pub async fn block(&self, consul: &Consul, params: &Params) -> Result<Seen, Failure> {
        let watched = if self.name == CONSUL { Watched::Everything } else { Watched::Services(self.key.iter().cloned().collect()) };
        let blocked = block_there(consul, params, watched, |view| self.index(view));
        let Some(named) = elsewhere::named(consul, params, self.key.as_ref()) else { return blocked.await };
        consul.handle.looking_up(&named, blocked).await?;
        elsewhere::fetched(consul, &named).await
    }

    pub fn index(&self, view: &View) -> u64 {
        if self.is_consul(view) { view.nodes_revision } else { view.revision_of(self.namespace.as_str(), &self.name) }
    }

    pub fn service<'v>(&self, view: &'v View) -> Option<&'v Service> {
        view.service(self.namespace.as_str(), &self.name).map(|service| &**service)
    }

    /// Whether Consul's own service is meant. One that somebody registers under its name takes its place.
    pub fn is_consul(&self, view: &View) -> bool {
        self.name == CONSUL && self.namespace == Namespace::default() && self.service(view).is_none()
    }
}

/// The name that a service goes by, with instances here or without, which is asked for in another case.
fn spelled(consul: &Consul, seen: &Seen, namespace: &Namespace, name: &str) -> Option<ServiceName> {
    let summarized = || seen.other.as_ref()?.summarized_as(namespace.as_str(), name).find(|key| key.namespace == *namespace);
    consul.spelled(seen, namespace, name).or_else(|| summarized().map(|key| key.service.clone()))
}

/// Consul's own service on a node of an agent that lives.
pub struct Own<'v> {
    pub node: &'v Node,
    version: [(Text<'v>, Text<'v>); 1],
    port: u16,
    indexes: Indexes,
}

impl<'v> Own<'v> {
    /// On all agents, in order of their names.
    pub fn all(consul: &Consul, view: &'v View) -> Vec<Self> {
        view.nodes.iter().filter_map(|node| Self::on(consul, view, node)).collect()
    }

    pub fn on(consul: &Consul, view: &'v View, node: &'v Node) -> Option<Self> {
        let is_there = !node.is_external && matches!(node.liveness, Liveness::Alive | Liveness::Suspect);
        let member = view.member(node.id);
        let version = [("version".into(), member.map_or("", |member| &member.version).into())];
        is_there.then(|| Self { node, version, port: consul.settings.server_port, indexes: Indexes::at(view.nodes_revision) })
    }

    pub fn service(&self) -> ServiceJson<'_> {
        ServiceJson {
            kind: "",
            id: CONSUL,
            service: CONSUL,
            tags: &[],
            address: "",
            tagged_addresses: Default::default(),
            meta: &self.version,
            port: self.port,
            weights: Weights { passing: 1, warning: 1 },
            enable_tag_override: false,
            proxy: super::json::service::no_proxy(),
            connect: Default::default(),
            indexes: self.indexes,
        }
    }

    pub fn entry(&self) -> ServiceEntryJson<'_> {
        let checks = check::of_node(self.node, self.indexes.modify_index());
        ServiceEntryJson { node: NodeJson::of(self.node, self.indexes), service: self.service(), checks }
    }

    pub fn catalog_service(&self) -> CatalogServiceJson<'_> {
        CatalogServiceJson::of(self.node, self.service())
    }
}
