//! What decides on answers beside the catalog.

use super::name::{self, Name};

/// The domain where nobody names another.
pub const DOMAIN: &str = "consul.";

#[derive(Debug, Clone)]
pub struct Config {
    /// What names end in; the first is the one that reverse lookups answer with.
    pub domains: Vec<Name>,
    /// How long, in seconds, an answer about a node may be kept.
    pub node_ttl_s: u32,
    pub service_ttl: ServiceTtl,
    /// Leaves out instances whose health is warning.
    pub only_passing: bool,
    /// Answers over UDP hold at most so many records; 0: as many as fit.
    pub udp_answers_max: usize,
    /// The same of addresses, over UDP and TCP.
    pub addresses_max: usize,
    /// Whether an answer over UDP that holds not all there is says so.
    pub tells_truncation: bool,
    /// Whether names outside the domains are asked of somebody else.
    pub recurses: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: name::parse(DOMAIN).into_iter().collect(),
            node_ttl_s: 0,
            service_ttl: ServiceTtl::default(),
            only_passing: false,
            udp_answers_max: 0,
            addresses_max: 0,
            tells_truncation: true,
            recurses: false,
        }
    }
}

/// How long, in seconds, answers about a service may be kept: by its name, else by the longest `prefix*`, else by `*`.
#[derive(Debug, Clone, Default)]
pub struct ServiceTtl {
    exact: Vec<(String, u32)>,
    /// Longest first.
    prefixes: Vec<(String, u32)>,
}

impl ServiceTtl {
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut ttl = Self::default();
        for (pattern, seconds) in rules {
            match pattern.strip_suffix('*') {
                Some(prefix) => ttl.prefixes.push((prefix.to_ascii_lowercase(), seconds)),
                None => ttl.exact.push((pattern.to_ascii_lowercase(), seconds)),
            }
        }
        ttl.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        ttl
    }

    /// Of a service's name in lower case.
    pub fn of(&self, folded: &str) -> u32 {
        let exact = self.exact.iter().find(|(name, _)| name == folded);
        exact.or_else(|| self.prefixes.iter().find(|(prefix, _)| folded.starts_with(prefix.as_str()))).map_or(0, |(_, seconds)| *seconds)
    }
}
