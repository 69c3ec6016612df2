//! Back-pressure: what may be sent now (protocol.md §4).
//!
//! Token buckets a peer and in all, and one that is kept for repair so that a flood of changes cannot starve it.

use super::config::SpreadConfig;
use crate::model::time::Now;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers whose buckets are remembered before full ones are forgotten.
const PEERS_REMEMBERED: usize = 1_024;

/// The bytes around a part: seal, addresses, ports.
pub const DATAGRAM_OVERHEAD_BYTES: usize = 110;

/// What a part is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// New changes and word of them.
    News,
    /// Looking for differences, and closing them: lives off its own share first.
    Repair,
}

pub struct Pressure {
    all: Bucket,
    repair: Bucket,
    peer: Rate,
    peers: BTreeMap<SocketAddr, Bucket>,
}

impl Pressure {
    pub fn new(config: &SpreadConfig) -> Self {
        Self {
            all: Bucket::new(Rate { bytes_a_second: config.bytes_a_second, burst_bytes: config.burst_bytes }),
            repair: Bucket::new(Rate { bytes_a_second: config.repair_bytes_a_second, burst_bytes: config.repair_burst_bytes }),
            peer: Rate { bytes_a_second: config.peer_bytes_a_second, burst_bytes: config.peer_burst_bytes },
            peers: BTreeMap::new(),
        }
    }

    /// Takes the budget for several parts, or none of it; where there is not enough, says from when on there may be.
    pub fn admit_all(&mut self, now: Now, parts: &[(SocketAddr, usize)]) -> Result<(), u64> {
        let bytes: usize = parts.iter().map(|(_, bytes)| bytes + DATAGRAM_OVERHEAD_BYTES).sum();
        self.all.check(now.ns, bytes as u64)?;
        for (to, bytes) in parts {
            self.peer(now, *to).check(now.ns, (bytes + DATAGRAM_OVERHEAD_BYTES) as u64)?;
        }
        for (to, bytes) in parts {
            self.charge(now, *to, *bytes);
        }
        Ok(())
    }

    /// Counts a part that goes in any case: small ones that are paced elsewhere.
    pub fn charge(&mut self, now: Now, to: SocketAddr, bytes: usize) {
        let bytes = (bytes + DATAGRAM_OVERHEAD_BYTES) as u64;
        self.all.spend(now.ns, bytes);
        self.peer(now, to).spend(now.ns, bytes);
    }

    fn peer(&mut self, now: Now, addr: SocketAddr) -> &mut Bucket {
        if self.peers.len() >= PEERS_REMEMBERED && !self.peers.contains_key(&addr) {
            self.peers.retain(|_, bucket| !bucket.is_full(now.ns));
        }
        self.peers.entry(addr).or_insert_with(|| Bucket::new(self.peer))
    }

    /// Takes the budget for a part of `bytes` to `to`; where there is none, says from when on there is.
    pub fn admit(&mut self, now: Now, to: SocketAddr, bytes: usize, account: Account) -> Result<(), u64> {
        let bytes = (bytes + DATAGRAM_OVERHEAD_BYTES) as u64;
        self.peer(now, to).check(now.ns, bytes)?;
        match account {
            Account::Repair if self.repair.take(now.ns, bytes).is_ok() => {}
            Account::News | Account::Repair => self.all.take(now.ns, bytes)?,
        }
        self.peer(now, to).spend(now.ns, bytes);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes_a_second: u64,
    burst_bytes: u64,
}

impl Rate {
    fn cost_ns(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000_000) / self.bytes_a_second.max(1)
    }
}

/// A token bucket, kept as the instant at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Rate,
    full_ns: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, full_ns: 0 }
    }

    fn is_full(&self, now_ns: u64) -> bool {
        self.full_ns <= now_ns
    }

    /// Whether so many bytes may go now. A full bucket lets anything pass: what is larger than the burst must not wait for ever.
    fn check(&self, now_ns: u64, bytes: u64) -> Result<(), u64> {
        let filled = self.full_ns.max(now_ns) + self.rate.cost_ns(bytes);
        let allowed = now_ns + self.rate.cost_ns(self.rate.burst_bytes);
        if filled <= allowed || self.is_full(now_ns) { Ok(()) } else { Err(now_ns + (filled - allowed)) }
    }

    fn spend(&mut self, now_ns: u64, bytes: u64) {
        self.full_ns = self.full_ns.max(now_ns) + self.rate.cost_ns(bytes);
    }

    fn take(&mut self, now_ns: u64, bytes: u64) -> Result<(), u64> {
        self.check(now_ns, bytes)?;
        self.spend(now_ns, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { ns: ms * 1_000_000, wall_ms: 0 }
    }

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn no_window_of_a_second_exceeds_rate_and_burst() {
        let config = SpreadConfig {
            bytes_a_second: 100_000,
            burst_bytes: 20_000,
            peer_bytes_a_second: 10_000_000,
            peer_burst_bytes: 10_000_000,
            ..SpreadConfig::lan()
        };
        let mut pressure = Pressure::new(&config);
        let part = 1_000 - DATAGRAM_OVERHEAD_BYTES;
        let mut sent: Vec<u64> = Vec::new();
        for ms in 0..5_000 {
            while pressure.admit(at(ms), addr(1), part, Account::News).is_ok() {
                sent.push(ms);
            }
        }
        for start in 0..4_000 {
            let window = sent.iter().filter(|ms| (start..start + 1_000).contains(*ms)).count();
            assert!((99..=121).contains(&window), "{window} kB in the second from {start} ms");
        }
    }

    #[test]
    fn a_refusal_says_when_there_is_budget_again() {
        let config = SpreadConfig { peer_bytes_a_second: 1_000, peer_burst_bytes: 2_000, ..SpreadConfig::lan() };
        let mut pressure = Pressure::new(&config);
        let part = 1_000 - DATAGRAM_OVERHEAD_BYTES;
        assert!(pressure.admit(at(0), addr(1), part, Account::News).is_ok());
        assert!(pressure.admit(at(0), addr(1), part, Account::News).is_ok());
        assert_eq!(pressure.admit(at(0), addr(1), part, Account::News), Err(1_000_000_000));
        assert!(pressure.admit(at(0), addr(2), part, Account::News).is_ok(), "another peer has its own");
        assert!(pressure.admit(at(1_000), addr(1), part, Account::News).is_ok());
    }

    #[test]
    fn repair_has_a_share_that_news_cannot_take() {
        let config = SpreadConfig { bytes_a_second: 1, burst_bytes: 1, ..SpreadConfig::lan() };
        let mut pressure = Pressure::new(&config);
        assert!(pressure.admit(at(0), addr(1), 100, Account::News).is_ok());
        assert!(pressure.admit(at(0), addr(1), 100, Account::News).is_err());
        assert!(pressure.admit(at(0), addr(1), 100, Account::Repair).is_ok());
    }
}
