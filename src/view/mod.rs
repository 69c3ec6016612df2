//! The read side: immutable snapshots, queries, revisions, change feeds (design.md §3).
//!
//! ```text
//! View      what readers see at one moment; handed out as an Arc, never changed
//! service   one service: its entries in order, what of it is available, encoded bodies kept beside it
//! node      where instances live, members, the agent itself
//! answer    a service's entries as they cross to a datacenter that asks for them
//! datacenter  other datacenters: each a View of its own, with its age
//! index     services by name (hashed, O(1)) and in order; a change copies one small branch
//! journal   the last changes, bounded: what feeds are made of
//! entries   key-value entries, in order, by prefix
//! near      how far members are from each other
//! by_node   an index of instances by node, for readers that keep one
//! follow    how readers keep indexes of their own up to date
//! filter    which entries a reader wants, and pages of them
//! editor    the engine's pen: collects changes, publishes the next View
//! ```
//!
//! A View holds no clocks and no history beyond the journal. What an instance *is* stays in its encoded [`Content`]; an [`Entry`] keeps
//! decoded only what every lookup needs.
//!
//! [`Content`]: crate::model::record::Content

mod answer;
mod by_node;
mod datacenter;
mod editor;
mod entries;
mod filter;
mod follow;
mod index;
mod journal;
mod near;
mod node;
mod service;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use answer::entries_of;
pub use by_node::ByNode;
pub use datacenter::{DatacenterView, LinkState, LinkView, Summarized};
pub use editor::Editor;
pub use entries::KeyValue;
pub use filter::{Filter, HealthFilter, Namespaces};
pub use follow::{Follower, Step};
pub use journal::{Batch, Change, Changes, Event, RemoveReason};
pub use near::Near;
pub use node::{AgentView, FiredEvent, MemberState, MemberView, Node};
pub use service::{Bodies, Body, Counts, Entry, Service, Standing};

use crate::model::names::ServiceKey;
use entries::Entries;
use index::{Index, Names};
use journal::Journal;
use std::sync::Arc;

/// What readers see at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// Rises with every View an agent shows, over restarts; below 2^53.
    pub revision: u64,
    /// The agent that shows this.
    pub agent: Arc<AgentView>,
    /// By name, then id.
    pub members: Arc<[Arc<MemberView>]>,
    /// Of the last change of `members`.
    pub members_revision: u64,
    /// Agents' hosts and external nodes, by name; each name once.
    pub nodes: Arc<[Arc<Node>]>,
    /// Of the last change of `nodes`.
    pub nodes_revision: u64,
    /// The newest user events, oldest first.
    pub user_events: Arc<[Arc<FiredEvent>]>,
    /// Of the last change of `user_events`.
    pub user_events_revision: u64,
    /// Other datacenters that are known, by name; never the agent's own.
    pub datacenters: Arc<[Arc<DatacenterView>]>,
    /// Of the last change of `datacenters` or of anything in them.
    pub datacenters_revision: u64,
    entries: Entries,
    /// The revision of a service that is not known, at least that of any that was forgotten.
    floor: u64,
    /// Entries of all services.
    instances: u64,
    index: Index,
    names: Names,
    journal: Journal,
}

impl Default for View {
    fn default() -> Self {
        Self::empty(AgentView::default(), 0)
    }
}

impl View {
    /// The view of an agent that knows nothing yet.
    pub fn empty(agent: AgentView, revision: u64) -> Self {
        Self {
            revision,
            agent: Arc::new(agent),
            members: Arc::new([]),
            members_revision: revision,
            nodes: Arc::new([]),
            nodes_revision: revision,
            user_events: Arc::new([]),
            user_events_revision: revision,
            datacenters: Arc::new([]),
            datacenters_revision: revision,
            entries: Entries::new(revision),
            floor: revision,
            instances: 0,
            index: Index::default(),
            names: Names::default(),
            journal: Journal::new(revision),
        }
    }

    /// A service that has instances.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.index.find(namespace, name).filter(|service| !service.entries.is_empty())
    }

    /// When a service last changed, as this agent saw it; survives its last instance.
    pub fn revision_of(&self, namespace: &str, name: &str) -> u64 {
        self.index.find(namespace, name).map_or(self.floor, |service| service.revision)
    }

    /// Services in order of namespace and name, from the first one behind `after` on.
    pub fn services<'a>(&'a self, after: Option<&ServiceKey>) -> impl Iterator<Item = &'a Arc<Service>> {
        self.names.behind(after).filter_map(|key| self.service(key.namespace.as_str(), key.service.as_str()))
    }

    /// Services of the given namespaces, in order, from the first one behind `after` on.
    pub fn services_in<'a>(&'a self, namespaces: &Namespaces, after: Option<&ServiceKey>) -> impl Iterator<Item = &'a Arc<Service>> {
        let only = match namespaces {
            Namespaces::All => None,
            Namespaces::One(namespace) => Some(namespace.clone()),
        };
        let start = match (&only, after) {
            (Some(namespace), after) if after.is_none_or(|after| after.namespace < *namespace) => self.names.from(namespace.as_str(), ""),
            _ => self.names.behind(after),
        };
        start
            .take_while(move |key| only.as_ref().is_none_or(|namespace| key.namespace == *namespace))
            .filter_map(|key| self.service(key.namespace.as_str(), key.service.as_str()))
    }

    /// Namespaces that have services, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let mut next = self.names.from("", "").next();
        std::iter::from_fn(move || {
            let namespace = next?.namespace.as_str();
            // A namespace holds no character below '-': this bound lies behind all names of the namespace and before the next one.
            let bound = format!("{namespace}\u{1}");
            next = self.names.from(&bound, "").next();
            Some(namespace)
        })
    }

    /// Services that have instances.
    pub fn service_count(&self) -> usize {
        self.names.len()
    }

    /// Instances of all services, available or not.
    pub fn instance_count(&self) -> u64 {
        self.instances
    }

    /// The node of that name, as it is shown.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).ok().map(|at| &self.nodes[at])
    }

    /// Another datacenter that is known.
    pub fn datacenter(&self, name: &str) -> Option<&Arc<DatacenterView>> {
        self.datacenters.binary_search_by(|known| known.name.as_str().cmp(name)).ok().map(|at| &self.datacenters[at])
    }

    /// A key-value entry.
    pub fn entry(&self, namespace: &str, key: &str) -> Option<&Arc<KeyValue>> {
        self.entries.find(namespace, key)
    }

    /// The entries of a namespace whose key begins with `prefix`, in order of key.
    pub fn entries<'a>(&'a self, namespace: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a Arc<KeyValue>> {
        self.entries.range(namespace, prefix, None)
    }

    /// The same, from the first key behind `after` on.
    pub fn entries_after<'a>(&'a self, namespace: &'a str, prefix: &'a str, after: &str) -> impl Iterator<Item = &'a Arc<KeyValue>> {
        self.entries.range(namespace, prefix, Some(after))
    }

    /// When anything under a prefix last changed, as this agent saw it, deletions included; never goes back.
    pub fn entries_revision(&self, namespace: &str, prefix: &str) -> u64 {
        self.entries.revision(namespace, prefix)
    }

    /// Key-value entries of all namespaces.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// What changed after `revision`, in order; or the word that the journal does not reach back to it.
    pub fn changes_since(&self, revision: u64) -> Changes<'_> {
        self.journal.since(revision, self.revision)
    }
}
