//! Which entries a reader wants. All that is named must hold.

use super::service::{Entry, Service, tag_marks};
use crate::model::instance::{Endpoint, Health};
use crate::model::names::Namespace;
use crate::model::record::Key;
use crate::model::text::Text;
use serde::Deserialize;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    One(Namespace),
    /// `*`
    All,
}

impl Namespaces {
    pub fn hold(&self, namespace: &Namespace) -> bool {
        match self {
            Namespaces::One(only) => only == namespace,
            Namespaces::All => true,
        }
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Namespaces::One(Namespace::default())
    }
}

/// Conditions on an entry; the default takes what is available.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// It has each of them.
    pub tags: Vec<String>,
    /// It has each key with that value.
    pub metadata: Vec<(String, String)>,
    /// The instance's own zone or, where it has none, its node's.
    pub zone: Option<String>,
    /// A node's name, or its id in 32 digits.
    pub node: Option<String>,
    pub health: HealthFilter,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HealthFilter {
    /// What lookups hand out.
    #[default]
    Available,
    Any,
    /// That health by the word of its agent, available or not.
    Is(Vec<Health>),
}

/// The front of an encoded instance, as far as filters look: what stands behind is not read.
#[derive(Deserialize)]
struct Front<'a> {
    #[serde(borrow)]
    _address: Text<'a>,
    _port: Option<u16>,
    _secure_port: Option<u16>,
    _addresses: Vec<(Text<'a>, Endpoint<'a>)>,
    tags: Vec<Text<'a>>,
}

#[derive(Deserialize)]
struct Middle<'a> {
    #[serde(borrow)]
    front: Front<'a>,
    metadata: Vec<(Text<'a>, Text<'a>)>,
    _weight: u32,
    _weight_warning: u32,
    zone: Option<Text<'a>>,
}

impl Filter {
    /// Takes all there is.
    pub fn any() -> Self {
        Self { health: HealthFilter::Any, ..Self::default() }
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        self.matches_marked(entry, tag_marks(&self.tags))
    }

    /// With the marks of the wanted tags, which are the same for all entries.
    fn matches_marked(&self, entry: &Entry, marks: u64) -> bool {
        entry.tag_marks & marks == marks && self.matches_health(entry) && self.matches_node(entry) && self.matches_content(entry)
    }

    /// The matching entries of a service, suspects last.
    pub fn select<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Entry> {
        let marks = tag_marks(&self.tags);
        service.listed().filter(move |entry| self.matches_marked(entry, marks))
    }

    fn matches_health(&self, entry: &Entry) -> bool {
        match &self.health {
            HealthFilter::Available => entry.is_available(),
            HealthFilter::Any => true,
            HealthFilter::Is(wanted) => wanted.contains(&entry.health),
        }
    }

    fn matches_node(&self, entry: &Entry) -> bool {
        let Some(node) = &self.node else { return true };
        entry.node.name == *node || (node.len() == 32 && entry.node.id.to_string() == *node)
    }

    /// Decodes no more than the question needs.
    fn matches_content(&self, entry: &Entry) -> bool {
        if self.metadata.is_empty() && self.zone.is_none() {
            return self.tags.is_empty() || entry.content.decode().is_ok_and(|(_, front): (Key<'_>, Front<'_>)| self.matches_tags(&front));
        }
        entry.content.decode().is_ok_and(|(_, middle): (Key<'_>, Middle<'_>)| {
            self.matches_tags(&middle.front)
                && self.metadata.iter().all(|(key, value)| middle.has(key, value))
                && self.zone.as_ref().is_none_or(|zone| {
                    let own = middle.zone.as_ref().map(Text::as_str);
                    own.or(entry.node.zone.as_deref()) == Some(zone)
                })
        })
    }

    fn matches_tags(&self, front: &Front<'_>) -> bool {
        self.tags.iter().all(|wanted| front.tags.iter().any(|tag| tag == wanted.as_str()))
    }
}

impl Middle<'_> {
    fn has(&self, key: &str, value: &str) -> bool {
        self.metadata.binary_search_by(|(name, _)| name.as_str().cmp(key)).is_ok_and(|at| self.metadata[at].1 == *value)
    }
}
