//! The settings of datacenters: what every agent keeps of others, and what a gateway says to them.

use crate::engine::membership::MembershipConfig;
use crate::model::names::Namespace;
use crate::model::record::{Kind, Record, RecordState};
use std::net::SocketAddr;

/// How an agent keeps what other datacenters say. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanConfig {
    /// What is known of a datacenter is dropped after so long without any contact.
    pub retention_ms: u64,
    /// Datacenters that are kept beside the own one; further ones are refused and counted.
    pub datacenters_max: usize,
    /// Changes gather for so long before they cross.
    pub batch_ms: u64,
    /// The same for what takes something out of lists: deregistrations, failures, deaths.
    pub removal_ms: u64,
    /// First and second in rank compare what they know with the other side so often.
    pub reconcile_ms: u64,
    /// Bytes on their way on one link, beyond what the receiver said it has taken in.
    pub window_bytes: u64,
    /// Pause before a link is dialled again; doubles up to `redial_max_ms`, each with jitter.
    pub redial_min_ms: u64,
    pub redial_max_ms: u64,
    /// A link that said nothing for so long is broken.
    pub silence_ms: u64,
    /// An origin that all gateways of its own datacenter, as far as they are linked, have known nothing of for so long is gone.
    pub unknown_ms: u64,
}

impl Default for WanConfig {
    fn default() -> Self {
        Self {
            retention_ms: 72 * 3_600_000,
            datacenters_max: 32,
            batch_ms: 100,
            removal_ms: 10,
            reconcile_ms: 10_000,
            window_bytes: 1 << 20,
            redial_min_ms: 1_000,
            redial_max_ms: 60_000,
            silence_ms: 25_000,
            unknown_ms: 600_000,
        }
    }
}

/// A gateway's place in the pool of all datacenters' gateways.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Gateways of another label refuse each other's packets. It is part of what a seal authenticates, so that no packet of the WAN pool
    /// is ever taken for one of a LAN pool, whatever the keys.
    pub label: String,
    /// Where other datacenters' gateways reach this one: UDP, and TCP for links.
    pub advertise: SocketAddr,
    /// The keys the WAN pool is sealed with, the one to seal with first; all datacenters have them. None: in clear.
    pub keys: Vec<[u8; 32]>,
    pub membership: MembershipConfig,
    pub export: ExportPolicy,
}

impl GatewayConfig {
    /// Round trips of up to half a second, and more loss than at home. `cluster` is what all datacenters call the whole.
    pub fn wan(cluster: &str, advertise: SocketAddr) -> Self {
        Self {
            label: format!("{cluster}/*wan*"),
            advertise,
            keys: Vec::new(),
            membership: MembershipConfig::wan(),
            export: ExportPolicy::default(),
        }
    }
}

/// How much of a service crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Export {
    /// Nothing, not even its name.
    None,
    /// How many instances it has, how they are and in which zones: not the instances.
    Summary,
    /// Every instance.
    Full,
}

/// What crosses, by namespace and service. Static: equal at all gateways of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPolicy {
    /// To be raised with each change of the rules, at all gateways: receivers take the highest they met as the word that counts.
    pub edition: u16,
    /// The first that fits decides.
    pub rules: Vec<ExportRule>,
    /// Where none fits.
    pub otherwise: Export,
}

/// Fits a service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRule {
    /// None: any.
    pub namespace: Option<Namespace>,
    /// Exactly this name or, with a `*` at its end, names that begin with what stands before; `*` alone fits all.
    pub service: String,
    pub export: Export,
}

/// The highest edition: it is the lowest bits of an epoch as it crosses, so that a new edition is like a new epoch.
pub const EDITION_MAX: u16 = 2_047;

/// Of everything a summary crosses: what other datacenters use of it they fetch, and nobody carries the rest.
impl Default for ExportPolicy {
    fn default() -> Self {
        Self { edition: 0, rules: Vec::new(), otherwise: Export::Summary }
    }
}

impl ExportPolicy {
    /// Every instance of every service crosses.
    pub fn full() -> Self {
        Self { otherwise: Export::Full, ..Self::default() }
    }

    /// Whether some service may cross as a summary.
    pub fn has_summaries(&self) -> bool {
        self.otherwise == Export::Summary || self.rules.iter().any(|rule| rule.export == Export::Summary)
    }

    pub fn of(&self, namespace: &str, service: &str) -> Export {
        self.rules.iter().find(|rule| rule.fits(namespace, service)).map_or(self.otherwise, |rule| rule.export)
    }

    /// Whether a record crosses. Of a tombstone's service nothing is known here: all of them do.
    pub fn lets_through(&self, record: &Record) -> bool {
        let content = match &record.state {
            RecordState::Deleted { kind, .. } => return crosses(*kind),
            RecordState::Live(content) => content,
        };
        let Ok(key) = content.key() else { return false };
        // A word on a whole node names no service.
        let is_of_node = key.kind == Kind::NODE || key.kind == Kind::OVERRIDE && key.id.is_empty();
        crosses(key.kind) && (is_of_node || key.kind == Kind::BLOB || self.of(&key.namespace, &key.name) == Export::Full)
    }
}

/// Entries, leases and events are a datacenter's own.
fn crosses(kind: Kind) -> bool {
    matches!(kind, Kind::NODE | Kind::INSTANCE | Kind::SERVICE | Kind::OVERRIDE | Kind::BLOB)
}

impl ExportRule {
    fn fits(&self, namespace: &str, service: &str) -> bool {
        let fits_name = match self.service.strip_suffix('*') {
            Some(front) => service.starts_with(front),
            None => service == self.service,
        };
        fits_name && self.namespace.as_ref().is_none_or(|wanted| wanted.as_str() == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |namespace: Option<&str>, service: &str, export| ExportRule {
            namespace: namespace.map(|name| Namespace::new(name).unwrap()),
            service: service.into(),
            export,
        };
        let rules = vec![rule(None, "web-internal", Export::None), rule(None, "web*", Export::Full), rule(Some("team"), "*", Export::Full)];
        let policy = ExportPolicy { rules, otherwise: Export::None, ..ExportPolicy::default() };
        assert_eq!(policy.of("default", "web-internal"), Export::None);
        assert_eq!(policy.of("default", "web-1"), Export::Full);
        assert_eq!(policy.of("team", "db"), Export::Full);
        assert_eq!(policy.of("default", "db"), Export::None);
    }
}
