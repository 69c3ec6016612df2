//! A datacenter's answer about one of its services: what crosses when another asks for it, and how that is kept there.

use super::instance::Check;
use super::names::{NodeId, ServiceKey};
use super::node::{Liveness, Override};
use super::record::{Content, Key, Kind, Scope, Uid};
use super::text::Text;
use serde::{Deserialize, Serialize};

/// One thing that an answer tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told<'a> {
    #[serde(borrow)]
    Node(ToldNode<'a>),
    #[serde(borrow)]
    Instance(ToldInstance<'a>),
}

/// A node, as readers over there see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldNode<'a> {
    pub id: NodeId,
    #[serde(borrow)]
    pub name: Text<'a>,
    pub address: Text<'a>,
    pub zone: Option<Text<'a>>,
    pub metadata: Vec<(Text<'a>, Text<'a>)>,
    pub is_external: bool,
    pub liveness: Liveness,
    pub word: Option<Override<'a>>,
    pub checks: Vec<Check<'a>>,
}

/// An instance on one of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldInstance<'a> {
    pub uid: Uid,
    pub node: NodeId,
    pub version: u64,
    #[serde(borrow)]
    pub word: Option<Override<'a>>,
    /// As its origin wrote it.
    pub content: Content,
}

/// What stands above the parts of an answer where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerHead {
    /// Wall clock in Unix milliseconds.
    pub fetched_ms: u64,
    /// Over all parts: the answer counts where they are all there.
    pub sum: u64,
}

impl Told<'_> {
    /// Names it among the parts of its answer.
    pub fn id(&self) -> String {
        match self {
            Told::Node(node) => format!("node-{}", node.id),
            Told::Instance(instance) => instance.uid.to_string(),
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let word = |word: &Option<Override<'_>>| word.as_ref().map_or(0, |word| word.reason.len());
        match self {
            Told::Instance(instance) => 64 + instance.content.as_bytes().len() + word(&instance.word),
            Told::Node(node) => {
                let metadata = node.metadata.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
                let checks = node.checks.iter().map(|check| 256 + check.notes.len() + check.output.len()).sum::<usize>();
                128 + node.name.len() + node.address.len() + metadata + checks + word(&node.word)
            }
        }
    }
}

/// Of a gateway that keeps an answer: its own key for a part; without an id, for the head.
pub fn answer_key<'a>(service: &'a ServiceKey, id: &'a str) -> Key<'a> {
    let (namespace, name) = (service.namespace.as_str().into(), service.service.as_str().into());
    Key { kind: Kind::ANSWER, scope: Scope::Agent, namespace, name, id: id.into() }
}
