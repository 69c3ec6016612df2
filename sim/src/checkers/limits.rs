//! Invariants 10 and 13: no datagram above its limit, traffic within budget, and silence about the catalog when nothing changes.

use super::{Checker, Scene};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::engine::wire::packet::DATAGRAM_BYTES_MAX;

/// What a host may send in one second, datagrams and streams together: far above what a handful of agents need, far below a storm.
const BYTES_A_SECOND_MAX: u64 = 4 << 20;

/// What each host has sent in the second that runs.
#[derive(Default)]
pub struct Limits {
    sent: BTreeMap<HostId, (u64, u64)>,
}

impl Limits {
    /// # Errors
    /// What was sent in this second.
    fn observe(&mut self, host: HostId, at: u64, bytes: usize) -> Result<(), u64> {
        let second = at / 1_000_000_000;
        let sent = self.sent.entry(host).or_default();
        *sent = if sent.0 == second { (second, sent.1 + bytes as u64) } else { (second, bytes as u64) };
        if sent.1 > BYTES_A_SECOND_MAX { Err(sent.1) } else { Ok(()) }
    }
}

impl Checker for Limits {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        let Note::Sent { host, bytes, .. } = note else { return Ok(()) };
        if bytes.len() > DATAGRAM_BYTES_MAX {
            let found = format!("{} bytes", bytes.len());
            return Err(scene.violation("datagram-limit", &[*host], format!("at most {DATAGRAM_BYTES_MAX} bytes"), found));
        }
        self.observe(*host, scene.world.now(), bytes.len())
            .map_err(|found| scene.violation("bytes-a-second", &[*host], format!("at most {BYTES_A_SECOND_MAX}"), found.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bites_within_one_second_and_forgets_with_the_next() {
        let mut limits = Limits::default();
        limits.observe(HostId(0), 0, BYTES_A_SECOND_MAX as usize).unwrap();
        limits.observe(HostId(1), 0, BYTES_A_SECOND_MAX as usize).unwrap();
        limits.observe(HostId(0), 1_000_000_000, 1_000).unwrap();
        assert_eq!(limits.observe(HostId(1), 999_999_999, 1), Err(BYTES_A_SECOND_MAX + 1));
    }
}
