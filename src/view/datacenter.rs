//! Other datacenters, as this agent can answer for them from its own memory (protocol.md §6).
//!
//! What is known of a datacenter's services is a [`View`] of its own, read like the local one: its revisions, journal and services are
//! apart from all others'. The nodes in it are the other datacenter's. Around it stands how old that knowledge is.

use super::{Service, View};
use crate::model::names::{NodeId, ServiceKey};
use crate::model::summary::{SUMMARY_ZONES_MAX, Summary};
use crate::model::text::Text;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// How well this agent hears of a datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkState {
    /// Some gateway hears it now and lacks nothing it knows of.
    Fresh,
    /// Some gateway hears it now and is still taking in what it lacked.
    Lagging,
    /// Nobody hears it: what is shown is as of `stale_since_ms`.
    Stale,
}

impl LinkState {
    pub const ALL: [LinkState; 3] = [LinkState::Fresh, LinkState::Lagging, LinkState::Stale];

    pub fn as_str(self) -> &'static str {
        match self {
            LinkState::Fresh => "fresh",
            LinkState::Lagging => "lagging",
            LinkState::Stale => "stale",
        }
    }
}

/// One other datacenter.
#[derive(Debug, Clone)]
pub struct DatacenterView {
    pub name: String,
    pub state: LinkState,
    /// Until when its word is known to be complete: wall clock in Unix milliseconds; none while it is heard.
    pub stale_since_ms: Option<u64>,
    /// The round trip from this datacenter's gateways to it, in microseconds; none before it was measured.
    pub rtt_us: Option<u32>,
    /// Links that this datacenter's gateways hold with it, by gateway here.
    pub links: Vec<LinkView>,
    /// Its services and nodes, as far as they were exported here.
    pub view: Arc<View>,
    /// What is known of its other services, in order of namespace and name.
    pub summaries: Arc<[Summarized]>,
    /// Of those, what was fetched and stands in `view`, in the same order: when, by the wall clock in Unix milliseconds.
    pub fetched: Arc<[(ServiceKey, u64)]>,
    /// Rises with every change of what stands around `view`; of the agent's own revisions.
    pub revision: u64,
}

impl DatacenterView {
    /// How old what is shown may be: nothing while somebody hears the datacenter.
    pub fn age_ms(&self, wall_ms: u64) -> u64 {
        self.stale_since_ms.map_or(0, |since| wall_ms.saturating_sub(since))
    }

    /// The same of one service, whose instances may have been fetched longer ago.
    pub fn age_of(&self, namespace: &str, service: &str, wall_ms: u64) -> u64 {
        let fetched_ms = self.fetched_ms(namespace, service);
        self.age_ms(wall_ms).max(fetched_ms.map_or(0, |fetched_ms| wall_ms.saturating_sub(fetched_ms)))
    }

    /// What is known of a service whose instances do not cross.
    pub fn summary(&self, namespace: &str, service: &str) -> Option<&Summarized> {
        let found =
            self.summaries.binary_search_by(|one| (one.key.namespace.as_str(), one.key.service.as_str()).cmp(&(namespace, service)));
        found.ok().map(|at| &self.summaries[at])
    }

    /// When the instances of such a service were fetched that `view` shows; none while they are not here.
    pub fn fetched_ms(&self, namespace: &str, service: &str) -> Option<u64> {
        let found = self.fetched.binary_search_by(|(key, _)| (key.namespace.as_str(), key.service.as_str()).cmp(&(namespace, service)));
        found.ok().map(|at| self.fetched[at].1)
    }

    /// How old the instances are that were fetched of a service which is known by its summary; the most there is where they are not here.
    /// None where nothing has to be fetched.
    pub fn answer_age_ms(&self, namespace: &str, service: &str, wall_ms: u64) -> Option<u64> {
        self.summary(namespace, service)?;
        match self.fetched_ms(namespace, service) {
            Some(fetched_ms) => Some(wall_ms.saturating_sub(fetched_ms)),
            // Both are known while a policy changes: then its instances cross by themselves.
            None => self.view.service(namespace, service).is_none().then_some(u64::MAX),
        }
    }

    /// A service that has instances, of which nothing but this is known: they are not here.
    pub fn lacks(&self, namespace: &str, service: &str) -> Option<&Summarized> {
        let has_some = self.summary(namespace, service).filter(|one| one.summary.instances > 0);
        has_some.filter(|_| self.answer_age_ms(namespace, service, 0) == Some(u64::MAX))
    }

    /// The names of services that are known by their summaries, by one in whatever case.
    pub fn summarized_as(&self, namespace: &str, service: &str) -> impl Iterator<Item = &ServiceKey> {
        let keys = self.summaries.iter().map(|one| &one.key);
        keys.filter(move |key| key.service.as_str().eq_ignore_ascii_case(service) && key.namespace.as_str().eq_ignore_ascii_case(namespace))
    }

    /// When what is known of a service last changed, as this agent saw it.
    pub fn revision_of(&self, namespace: &str, service: &str) -> u64 {
        let summarized = self.summary(namespace, service).map_or(0, |one| one.revision);
        self.view.revision_of(namespace, service).max(summarized)
    }
}

/// A service of another datacenter that is known by its summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summarized {
    pub key: ServiceKey,
    pub summary: Summary,
    /// When that last changed, as this agent saw it.
    pub revision: u64,
}

impl Service {
    /// What others are told who do not get its instances.
    pub fn summary(&self) -> Summary {
        let mut by_zone: BTreeMap<Text<'_>, u32> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.is_available()) {
            let own = entry.instance().ok().and_then(|(_, instance)| instance.zone);
            if let Some(zone) = own.or_else(|| entry.node.zone.as_deref().map(Text::from)) {
                *by_zone.entry(zone).or_default() += 1;
            }
        }
        let mut zones: Vec<(Text<'_>, u32)> = by_zone.into_iter().collect();
        zones.sort_by_key(|(_, available)| std::cmp::Reverse(*available));
        zones.truncate(SUMMARY_ZONES_MAX);
        Summary {
            instances: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            available: self.counts.available,
            by_health: self.counts.by_health,
            disabled: self.counts.disabled,
            down: self.counts.down,
            zones: zones.into_iter().map(|(zone, available)| (zone.as_str().into(), available)).collect(),
        }
    }
}

/// What one gateway of this datacenter holds with another datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The gateway here that reports it.
    pub gateway: NodeId,
    /// Gateways over there that send to it now, with where their WAN socket is reached.
    pub peers: Vec<(NodeId, SocketAddr)>,
    pub state: LinkState,
    /// The round trip, in microseconds.
    pub rtt_us: Option<u32>,
    /// About how many nodes over there have changes that wait to be sent.
    pub backlog: u32,
}
