//! What crosses to other datacenters of a service that is not exported in full: how many instances it has, and where the available ones
//! are.

use super::names::{Namespace, ServiceKey, ServiceName};
use super::record::{Content, Key, Kind, Scope};
use super::text::Text;
use serde::{Deserialize, Serialize};

/// Zones that a summary names: those with the most available instances.
pub const SUMMARY_ZONES_MAX: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub instances: u32,
    pub available: u32,
    /// In the order of [`Health::ALL`](super::instance::Health::ALL).
    pub by_health: [u32; 5],
    pub disabled: u32,
    /// Of agents that are down.
    pub down: u32,
    /// Available instances by zone, the most first; those without one are in none.
    pub zones: Vec<(Box<str>, u32)>,
}

/// What is said of one service: its summary, or that it has none any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub namespace: Box<str>,
    pub service: Box<str>,
    pub summary: Option<Summary>,
}

impl Said {
    pub fn new(service: &ServiceKey, summary: Option<Summary>) -> Self {
        Self { namespace: service.namespace.as_str().into(), service: service.service.as_str().into(), summary }
    }

    /// Which service is meant; none, if that is no name, or more zones stand there than a summary names.
    pub fn service(&self) -> Option<ServiceKey> {
        let has_room = self.summary.as_ref().is_none_or(|summary| summary.zones.len() <= SUMMARY_ZONES_MAX);
        service_of(&self.namespace, &self.service).filter(|_| has_room)
    }
}

/// Of a gateway that says what it heard: its own key for the service.
pub fn summary_key(service: &ServiceKey) -> Key<'_> {
    let (namespace, name) = (service.namespace.as_str().into(), service.service.as_str().into());
    Key { kind: Kind::SUMMARY, scope: Scope::Agent, namespace, name, id: Text::default() }
}

/// The service and its summary out of such a record; none, if the bytes are not what they should be.
pub fn summary_in(content: &Content) -> Option<(ServiceKey, Summary)> {
    let (key, summary) = content.decode::<Summary>().ok()?;
    Some((service_of(&key.namespace, &key.name)?, summary))
}

/// The service of these names, if they are such.
pub fn service_of(namespace: &str, service: &str) -> Option<ServiceKey> {
    Some(ServiceKey { namespace: Namespace::new(namespace).ok()?, service: ServiceName::new(service).ok()? })
}
