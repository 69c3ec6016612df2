//! The canonical instance: what every dialect can act on, as it travels and as it is stored.
//!
//! Its bytes are the truth: a record is kept, served to peers and handed to readers as it was encoded by its origin, so that fields a
//! newer agent added survive an older one. Decoding borrows from those bytes.

use super::limits;
use super::text::Text;
use super::time::WallMs;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How well something is, by the word of its origin.
///
/// The order is from best to worst: the worst of several wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    #[default]
    Passing,
    Warning,
    /// Registered, not yet ready for traffic.
    Starting,
    Unknown,
    Critical,
}

impl Health {
    pub const ALL: [Health; 5] = [Health::Passing, Health::Warning, Health::Starting, Health::Unknown, Health::Critical];

    /// Whether traffic may go there, as far as health alone decides.
    pub fn is_serving(self) -> bool {
        matches!(self, Health::Passing | Health::Warning)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Health::Passing => "passing",
            Health::Warning => "warning",
            Health::Starting => "starting",
            Health::Unknown => "unknown",
            Health::Critical => "critical",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance's presence hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Lease {
    /// Lives until it is deregistered, over restarts.
    #[default]
    Agent,
    /// Critical when not renewed within `ttl_ms`; removed `remove_after_ms` after that.
    Ttl { ttl_ms: u64, remove_after_ms: u64 },
    /// Lives while its client holds something open at the origin; removed `remove_after_ms` after that ended.
    Held { remove_after_ms: u64 },
}

/// One check of an instance or a node: what is done, and what it last found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    pub name: Text<'a>,
    pub notes: Text<'a>,
    pub kind: CheckKind<'a>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Results of one kind in a row before the state flips to it; at least 1.
    pub passing_after: u16,
    pub warning_after: u16,
    pub critical_after: u16,
    /// As of the last flip.
    pub state: Health,
    /// What the check said at the last flip; at most [`limits::CHECK_OUTPUT_BYTES_MAX`].
    pub output: Text<'a>,
    pub since: WallMs,
    /// Critical for so long without a break, the instance is deregistered by its origin; none: never.
    pub remove_after_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind<'a> {
    /// The client reports; silence for `ttl_ms` is critical.
    Ttl { ttl_ms: u64 },
    Http {
        #[serde(borrow)]
        url: Text<'a>,
        method: Text<'a>,
        headers: Vec<(Text<'a>, Text<'a>)>,
        body: Text<'a>,
        skip_tls_verify: bool,
    },
    Tcp {
        #[serde(borrow)]
        address: Text<'a>,
    },
    Grpc {
        #[serde(borrow)]
        address: Text<'a>,
        service: Text<'a>,
        tls: bool,
    },
    Script {
        #[serde(borrow)]
        args: Vec<Text<'a>>,
    },
    /// As healthy as another service's instances at the same agent.
    Alias {
        #[serde(borrow)]
        service: Text<'a>,
    },
}

impl Check<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> Check<'static> {
        Check {
            id: self.id.into_owned(),
            name: self.name.into_owned(),
            notes: self.notes.into_owned(),
            kind: self.kind.into_owned(),
            interval_ms: self.interval_ms,
            timeout_ms: self.timeout_ms,
            passing_after: self.passing_after,
            warning_after: self.warning_after,
            critical_after: self.critical_after,
            state: self.state,
            output: self.output.into_owned(),
            since: self.since,
            remove_after_ms: self.remove_after_ms,
        }
    }
}

impl CheckKind<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> CheckKind<'static> {
        match self {
            CheckKind::Ttl { ttl_ms } => CheckKind::Ttl { ttl_ms },
            CheckKind::Http { url, method, headers, body, skip_tls_verify } => CheckKind::Http {
                url: url.into_owned(),
                method: method.into_owned(),
                headers: headers.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
                body: body.into_owned(),
                skip_tls_verify,
            },
            CheckKind::Tcp { address } => CheckKind::Tcp { address: address.into_owned() },
            CheckKind::Grpc { address, service, tls } => {
                CheckKind::Grpc { address: address.into_owned(), service: service.into_owned(), tls }
            }
            CheckKind::Script { args } => CheckKind::Script { args: args.into_iter().map(Text::into_owned).collect() },
            CheckKind::Alias { service } => CheckKind::Alias { service: service.into_owned() },
        }
    }
}

/// The dialect a registration came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    #[default]
    Native,
    Consul,
    Nacos,
    Eureka,
    Etcd,
    Zookeeper,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint<'a> {
    #[serde(borrow)]
    pub address: Text<'a>,
    pub port: u16,
}

impl Endpoint<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> Endpoint<'static> {
        Endpoint { address: self.address.into_owned(), port: self.port }
    }
}

/// The body of a record of kind `instance`; who and where it is stands in the record's key.
///
/// The order of fields is the wire's. New fields go behind the last one, in a struct of their own that is decoded only where bytes
/// remain; bytes that remain behind what is known here are kept with the record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance<'a> {
    /// An IP or a host name; empty: the address of the origin's node.
    #[serde(borrow)]
    pub address: Text<'a>,
    pub port: Option<u16>,
    pub secure_port: Option<u16>,
    /// By name, in ascending order.
    pub addresses: Vec<(Text<'a>, Endpoint<'a>)>,
    /// In the client's order.
    pub tags: Vec<Text<'a>>,
    /// By key, in ascending order.
    pub metadata: Vec<(Text<'a>, Text<'a>)>,
    /// In thousandths; 0 takes no traffic.
    pub weight: u32,
    /// The weight while the health is warning, in thousandths.
    pub weight_warning: u32,
    /// The origin's zone where there is none.
    pub zone: Option<Text<'a>>,
    pub enabled: bool,
    /// What the client said of itself; see [`Instance::health`].
    pub status: Health,
    pub lease: Lease,
    /// The lease ran out, and its time of removal has not come.
    pub is_expired: bool,
    pub checks: Vec<Check<'a>>,
    pub source: Source,
    pub registered_at: WallMs,
    /// Of the last change that readers can see.
    pub changed_at: WallMs,
    /// What one dialect keeps verbatim, by dialect in ascending order; opaque here.
    pub ext: Vec<(Text<'a>, Text<'a>)>,
}

impl Instance<'_> {
    /// The worst of what client, lease and checks say.
    pub fn health(&self) -> Health {
        let lease = if self.is_expired { Health::Critical } else { Health::Passing };
        self.checks.iter().map(|check| check.state).fold(self.status.max(lease), Health::max)
    }

    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> Instance<'static> {
        let pairs =
            |pairs: Vec<(Text<'_>, Text<'_>)>| pairs.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        Instance {
            address: self.address.into_owned(),
            port: self.port,
            secure_port: self.secure_port,
            addresses: self.addresses.into_iter().map(|(name, at)| (name.into_owned(), at.into_owned())).collect(),
            tags: self.tags.into_iter().map(Text::into_owned).collect(),
            metadata: pairs(self.metadata),
            weight: self.weight,
            weight_warning: self.weight_warning,
            zone: self.zone.map(Text::into_owned),
            enabled: self.enabled,
            status: self.status,
            lease: self.lease,
            is_expired: self.is_expired,
            checks: self.checks.into_iter().map(Check::into_owned).collect(),
            source: self.source,
            registered_at: self.registered_at,
            changed_at: self.changed_at,
            ext: pairs(self.ext),
        }
    }

    /// The value of a metadata key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok().map(|at| self.metadata[at].1.as_str())
    }

    /// Whether the two differ in nothing that a client could have meant to change: `other` registered again is then a renewal.
    pub fn is_same_registration(&self, other: &Instance<'_>) -> bool {
        fn definition<'c>(check: &'c Check<'_>) -> (&'c str, &'c str, &'c str, &'c CheckKind<'c>, [u64; 2], [u16; 3], Option<u64>) {
            // A shorter lifetime than the record's own suits a comparison.
            let kind: &'c CheckKind<'c> = &check.kind;
            let after = [check.passing_after, check.warning_after, check.critical_after];
            (&check.id, &check.name, &check.notes, kind, [check.interval_ms, check.timeout_ms], after, check.remove_after_ms)
        }
        self.address == other.address
            && (self.port, self.secure_port) == (other.port, other.secure_port)
            && self.addresses == other.addresses
            && self.tags == other.tags
            && self.metadata == other.metadata
            && (self.weight, self.weight_warning) == (other.weight, other.weight_warning)
            && self.zone == other.zone
            && self.enabled == other.enabled
            && self.status == other.status
            && self.lease == other.lease
            && self.source == other.source
            && self.ext == other.ext
            && self.checks.len() == other.checks.len()
            && self.checks.iter().zip(&other.checks).all(|(mine, theirs)| definition(mine) == definition(theirs))
    }
}

/// Cuts what a check printed to what is kept of it, at a character's border.
pub fn check_output(text: &str) -> &str {
    let mut end = text.len().min(limits::CHECK_OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_word_decides_on_health() {
        let mut instance = Instance { status: Health::Warning, ..Instance::default() };
        assert_eq!(instance.health(), Health::Warning);
        instance.is_expired = true;
        assert_eq!(instance.health(), Health::Critical);
    }

    #[test]
    fn output_is_cut_at_a_characters_border() {
        let text = "ä".repeat(limits::CHECK_OUTPUT_BYTES_MAX);
        assert_eq!(check_output(&text).len(), limits::CHECK_OUTPUT_BYTES_MAX);
        assert_eq!(check_output(&format!("x{text}")).len(), limits::CHECK_OUTPUT_BYTES_MAX - 1);
    }
}
