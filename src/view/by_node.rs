//! Which instances live on which node: an index that readers keep who need it, made from a View and kept up by its journal.
//!
//! It is no part of the View, whose memory is counted by the byte an instance: most agents never ask.

use super::{Entry, Follower, Step, View};
use crate::model::names::{NodeId, ServiceKey};
use crate::model::record::Uid;
use std::collections::{BTreeMap, BTreeSet};

/// Instances by node: agents' hosts by the agent's id, external nodes by the id that [`Node::id`](super::Node::id) gives them.
#[derive(Debug, Default)]
pub struct ByNode {
    nodes: BTreeMap<NodeId, BTreeSet<(ServiceKey, Uid)>>,
    follower: Follower,
}

impl ByNode {
    /// Brings the index up to a View: by what changed since the last one where the journal reaches back so far, else anew.
    pub fn follow(&mut self, view: &View) {
        match self.follower.step(view) {
            Step::Nothing => {}
            Step::Changes(batches) => {
                for change in batches.iter().flat_map(|batch| &batch.changes) {
                    if let Some(before) = &change.before {
                        self.remove(&change.service, before);
                    }
                    if let Some(after) = &change.after {
                        self.insert(&change.service, after);
                    }
                }
            }
            Step::Anew => self.rebuild(view),
        }
    }

    /// The instances on a node, in order of service and uid.
    pub fn on(&self, node: NodeId) -> impl Iterator<Item = (&ServiceKey, Uid)> {
        self.nodes.get(&node).into_iter().flatten().map(|(service, uid)| (service, *uid))
    }

    fn rebuild(&mut self, view: &View) {
        self.nodes.clear();
        for service in view.services(None) {
            for entry in &service.entries {
                self.insert(&service.key, entry);
            }
        }
    }

    fn insert(&mut self, service: &ServiceKey, entry: &Entry) {
        self.nodes.entry(entry.node.id).or_default().insert((service.clone(), entry.uid));
    }

    fn remove(&mut self, service: &ServiceKey, entry: &Entry) {
        if let Some(on_it) = self.nodes.get_mut(&entry.node.id) {
            on_it.remove(&(service.clone(), entry.uid));
            if on_it.is_empty() {
                self.nodes.remove(&entry.node.id);
            }
        }
    }
}
