//! What the engine counts at its own door; each room counts for itself.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct Counters {
    pub datagrams_in: u64,
    pub datagram_bytes_in: u64,
    pub datagrams_out: u64,
    pub datagram_bytes_out: u64,
    pub frames_in: u64,
    pub frames_out: u64,
    /// Sealed, on links with other datacenters, and in the pool of gateways.
    pub link_bytes_out: u64,
    pub wan_bytes_out: u64,
    pub views: u64,
    /// What came and was not taken, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub fn drop(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}
