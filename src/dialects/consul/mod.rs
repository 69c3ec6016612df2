//! The HTTP API of Consul, as its clients use it (reference/consul.md §0, §1.10 to §1.12).
//!
//! ```text
//! request    parameters in Go's manner, tails of paths, bodies whatever they claim to be
//! go         booleans and durations as Go writes them
//! access     tokens: one layer around all routes
//! answer     JSON with the headers that every list has
//! refuse     errors in Consul's words; what is not offered, and why
//! blocking   the one driver of blocking queries
//! body       bodies in every spelling, as definitions
//! mapping    what a definition is in canonical terms: the one table
//! gomicro    what Go Micro hides in tags
//! own        what lives on this agent's node, by Consul's ids
//! agent      this agent, and all that is registered with it
//! definitions what a configuration registers
//! external   nodes that no agent answers for, and what is on them
//! status     leader and peers: every agent answers with itself
//! catalog    nodes, services, instances
//! health     the same with their checks
//! coordinate round trips from this agent
//! kv         entries: the last writer wins
//! event      user events
//! subject    the service a read names, and Consul's own
//! wanted     tags, node metadata, filters and nearness that a read asks for
//! filter     the language of filters
//! json       the view as Consul's JSON
//! picture    names with their tags, kept up by the view's journal
//! ```
//!
//! A token may stand in `?token`, `X-Consul-Token` or `Authorization`; `access` says what becomes of it.

mod access;
mod agent;
mod answer;
mod blocking;
mod body;
mod catalog;
mod coordinate;
mod definitions;
mod elsewhere;
mod event;
mod external;
mod filter;
mod go;
mod gomicro;
mod health;
mod json;
mod kv;
mod mapping;
mod own;
mod picture;
mod refuse;
mod request;
mod status;
mod subject;
#[cfg(test)]
mod tests;
mod wanted;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;

pub use self::definitions::Definitions;
use self::json::service::One;
use self::mapping::Setting;
use self::own::Own;
use self::picture::Picture;
use crate::agent::handle::{Handle, wall_ms};
use crate::model::names::{Namespace, NodeId, ServiceName};
use crate::select::random::Dice;
use crate::view::{ByNode, Namespaces, View};

/// The version of Consul whose answers these are, told to clients that ask before they use what came with a version.
pub const VERSION: &str = "1.8.7";

/// What of the dialect can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The port in the answers of `status/leader`, which clients show but never dial.
    pub server_port: u16,
    /// `?consistent` is refused rather than answered from memory.
    pub refuses_consistent: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { server_port: 8300, refuses_consistent: false }
    }
}

/// What every route works with; cheap to clone.
#[derive(Clone)]
pub struct Consul(Arc<Shared>);

pub struct Shared {
    pub handle: Handle,
    pub settings: Settings,
    own: Own,
    pub dice: Dice,
    picture: Picture,
    by_node: Mutex<ByNode>,
}

impl std::ops::Deref for Consul {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Consul {
    /// `seed` is fresh entropy.
    pub fn new(handle: Handle, settings: Settings, seed: u64) -> Self {
        let (own, picture, by_node) = (Own::default(), Picture::default(), Mutex::default());
        Self(Arc::new(Shared { handle, settings, own, dice: Dice::new(seed), picture, by_node }))
    }

    /// Keeps up what waiting readers are woken by, until the agent stops.
    pub async fn follow(self) {
        self.picture.follow(&self.handle).await;
    }

    /// The instances on a node, in order of service and uid.
    fn on_node<'v>(&self, view: &'v View, node: NodeId) -> Vec<One<'v>> {
        if !self.is_own(view) {
            let all = view.services(None).flat_map(|service| service.entries.iter());
            return all.filter(|entry| entry.node.id == node).filter_map(One::of).collect();
        }
        let mut by_node = self.by_node.lock().unwrap_or_else(|poisoned| {
            // Half an index is drawn anew.
            let mut by_node = PoisonError::into_inner(poisoned);
            *by_node = ByNode::default();
            by_node
        });
        by_node.follow(view);
        let on_it =
            by_node.on(node).filter_map(|(service, uid)| view.service(service.namespace.as_str(), service.service.as_str())?.find(uid));
        on_it.filter_map(One::of).collect()
    }

    /// Whether a view is that of this agent's datacenter, which more is kept beside than others'.
    fn is_own(&self, view: &View) -> bool {
        view.agent.datacenter == self.handle.facts().datacenter.as_str()
    }

    /// When the names or tags of services last changed; of another datacenter, when anything did.
    fn names_revision(&self, view: &View) -> u64 {
        if self.is_own(view) { self.picture.names_revision(view) } else { view.revision }
    }

    /// When any check last changed; of another datacenter, when anything did.
    fn checks_revision(&self, view: &View) -> u64 {
        if self.is_own(view) { self.picture.checks_revision(view) } else { view.revision }
    }

    /// When a node or what is on it last changed; of another datacenter, when anything did.
    fn node_revision(&self, view: &View, node: &str) -> u64 {
        if self.is_own(view) { self.picture.node_revision(view, node) } else { view.revision }
    }

    /// The name that a service goes by which is asked for in another case.
    fn spelled(&self, view: &View, namespace: &Namespace, name: &str) -> Option<ServiceName> {
        if self.is_own(view) {
            return self.picture.spelled(view, namespace, name);
        }
        let lower = name.to_lowercase();
        let namespace = Namespaces::One(namespace.clone());
        let mut all = view.services_in(&namespace, None).map(|service| &service.key.service);
        all.find(|known| known.as_str().to_lowercase() == lower).cloned()
    }

    /// What decides on a registration besides its body.
    fn setting(&self) -> Setting {
        Setting { now_ms: wall_ms(), allows_scripts: self.handle.facts().allows_scripts }
    }

    /// Where a server of Consul would be dialled: this very agent, for nobody leads here.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.handle.facts().advertise.ip(), self.settings.server_port)
    }
}

/// All of `/v1`.
pub fn router(consul: Consul) -> Router {
    let routes = Router::new()
        .merge(agent::routes())
        .merge(external::routes())
        .merge(status::routes())
        .merge(catalog::routes())
        .merge(health::routes())
        .merge(coordinate::routes())
        .merge(kv::routes())
        .merge(event::routes())
        .merge(refuse::routes());
    access::guarded(routes, &consul).with_state(consul)
}
