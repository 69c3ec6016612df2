//! Who knocks at a pool with what does not open: another cluster, another key, another version. Each is named in the log once.
//!
//! Counting is the caller's, for every packet; this only keeps the log from being filled, and its memory is bounded, since addresses of
//! packets that do not open are anybody's invention.

use super::seal::Refused;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Hosts and reasons that are named; whoever comes after them is only counted.
const NAMED_MAX: usize = 256;

#[derive(Debug)]
pub struct Strangers {
    pool: &'static str,
    named: BTreeSet<(IpAddr, Refused)>,
}

impl Strangers {
    /// Those who knock at `pool`, as the log calls it.
    pub fn new(pool: &'static str) -> Self {
        Self { pool, named: BTreeSet::new() }
    }

    /// Says once of each host that its packets are of another cluster, key or version. Whoever sends anything else is no agent, and no
    /// operator can mend it.
    pub fn knock(&mut self, from: SocketAddr, why: Refused) -> bool {
        use Refused::{Clear, Label, Seal, Sealed, UnknownKey, Version};
        let is_new = matches!(why, Clear | Label | Seal | Sealed | UnknownKey | Version)
            && self.named.len() < NAMED_MAX
            && self.named.insert((from.ip(), why));
        if is_new {
            tracing::warn!(peer = %from, pool = self.pool, %why, "packets are refused");
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 7_946))
    }

    #[test]
    fn each_host_is_named_once_for_each_reason() {
        let mut strangers = Strangers::new("LAN");
        assert!(strangers.knock(host(1), Refused::Label));
        assert!(!strangers.knock(SocketAddr::new(host(1).ip(), 9), Refused::Label), "the same host from another port");
        assert!(strangers.knock(host(1), Refused::UnknownKey));
        assert!(strangers.knock(host(2), Refused::Label));
    }

    #[test]
    fn noise_is_not_named_and_invented_addresses_fill_nothing() {
        let mut strangers = Strangers::new("LAN");
        for noise in [Refused::TooShort, Refused::Form, Refused::Checksum, Refused::Replayed] {
            assert!(!strangers.knock(host(1), noise));
        }
        let named = (0..2_000).filter(|one| strangers.knock(host(*one), Refused::Seal)).count();
        assert_eq!((named, strangers.named.len()), (NAMED_MAX, NAMED_MAX));
    }
}
