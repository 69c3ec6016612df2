//! Entries of a service as they cross to another datacenter that asks for them, and back.

use super::{Entry, Node, Service};
use crate::model::answer::{Told, ToldInstance, ToldNode};
use crate::model::instance::Check;
use crate::model::names::NodeId;
use crate::model::node::Override;
use crate::model::record::Undecodable;
use crate::model::text::Text;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Service {
    /// All of it, each node before the instances on it.
    pub fn told(&self) -> Vec<Told<'_>> {
        let nodes: BTreeMap<NodeId, &Node> = self.entries.iter().map(|entry| (entry.node.id, &*entry.node)).collect();
        let nodes = nodes.into_values().map(|node| Told::Node(told_node(node)));
        let instances = self.entries.iter().map(|entry| {
            let word = entry.word.as_deref().cloned();
            Told::Instance(ToldInstance {
                uid: entry.uid,
                node: entry.node.id,
                version: entry.version,
                word,
                content: entry.content.clone(),
            })
        });
        nodes.chain(instances).collect()
    }
}

fn told_node(node: &Node) -> ToldNode<'_> {
    ToldNode {
        id: node.id,
        name: node.name.as_str().into(),
        address: node.address.as_str().into(),
        zone: node.zone.as_deref().map(Text::from),
        metadata: node.metadata.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        is_external: node.is_external,
        liveness: node.liveness,
        word: node.word.clone(),
        checks: node.checks.clone(),
    }
}

/// The entries that a datacenter told.
///
/// # Errors
/// An instance does not decode, or is on a node that was not told.
pub fn entries_of(datacenter: &str, told: Vec<Told<'_>>) -> Result<Vec<Entry>, Undecodable> {
    let mut nodes: BTreeMap<NodeId, Arc<Node>> = BTreeMap::new();
    let mut instances = Vec::new();
    for one in told {
        match one {
            Told::Node(node) => drop(nodes.insert(node.id, Arc::new(node_of(datacenter, node)))),
            Told::Instance(instance) => instances.push(instance),
        }
    }
    let entry = |instance: ToldInstance<'_>| {
        let node = nodes.get(&instance.node).ok_or(Undecodable)?;
        let word = instance.word.map(Override::into_owned).map(Arc::new);
        Entry::new(instance.uid, instance.content, Arc::clone(node), instance.version, word)
    };
    instances.into_iter().map(entry).collect()
}

fn node_of(datacenter: &str, node: ToldNode<'_>) -> Node {
    Node {
        id: node.id,
        name: node.name.as_str().to_owned(),
        address: node.address.as_str().to_owned(),
        zone: node.zone.map(|zone| zone.as_str().to_owned()),
        datacenter: datacenter.to_owned(),
        metadata: node.metadata.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned())).collect(),
        is_external: node.is_external,
        liveness: node.liveness,
        word: node.word.map(Override::into_owned),
        checks: node.checks.into_iter().map(Check::into_owned).collect(),
    }
}
