//! Lacks: heads that somebody has and this agent does not, until it does.
//!
//! ```text
//!   advert, gap ──► waiting (it may still come by itself) ──► asked ──► asked another advertiser ──► ... ──► left to repair
//!                        └──────────────── the head arrives: gone ────────────────┘
//! ```

use super::adverts::is_further;
use super::config::SpreadConfig;
use crate::engine::wire::packet::Advert;
use crate::model::names::NodeId;
use crate::model::record::Head;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Advertisers of one head that are remembered.
const SOURCES_MAX: usize = 4;

/// What is told and does not come for so long is left to repair, however its origin goes on: nobody has it, whatever somebody said.
const PATIENCE_NS: u64 = 30_000_000_000;

#[derive(Debug)]
struct Lack {
    /// The furthest head that was told.
    told: Advert,
    /// Who has it; asked in turn, from the back.
    sources: Vec<SocketAddr>,
    attempts: u8,
    due_ns: u64,
    since_ns: u64,
}

#[derive(Debug, Default)]
pub struct Lacks {
    by_origin: BTreeMap<NodeId, Lack>,
    due: BTreeSet<(u64, NodeId)>,
}

/// What became of a lack whose time came.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Ask there.
    Ask { told: Advert, at: SocketAddr, is_repeated: bool },
    /// Nobody answered.
    GivenUp(NodeId),
}

impl Lacks {
    /// Origins that are lacked.
    pub fn len(&self) -> usize {
        self.by_origin.len()
    }

    /// `source` has `told`, and this agent not. Returns whether there was room for it.
    pub fn add(&mut self, now: Now, told: Advert, source: SocketAddr, grace_ms: u64, lacks_max: usize) -> bool {
        let due_ns = now.after_ms(grace_ms);
        if let Some(lack) = self.by_origin.get_mut(&told.origin) {
            if is_further(&told, &lack.told) {
                lack.told = told;
            }
            if !lack.sources.contains(&source) {
                if lack.sources.len() >= SOURCES_MAX {
                    lack.sources.remove(0);
                }
                lack.sources.push(source);
            }
            return true;
        }
        if self.by_origin.len() >= lacks_max {
            return false;
        }
        self.due.insert((due_ns, told.origin));
        self.by_origin.insert(told.origin, Lack { told, sources: vec![source], attempts: 0, due_ns, since_ns: now.ns });
        true
    }

    /// The head moved: what is no longer lacked is forgotten; of what still is, the next is asked for soon, at whoever answers.
    pub fn moved(&mut self, now: Now, head: &Head, grace_ms: u64) {
        let origin = head.origin;
        let Some(lack) = self.by_origin.get_mut(&origin) else { return };
        if is_further(&lack.told, &Advert::from(head)) {
            lack.attempts = 0;
            let due_ns = lack.due_ns.min(now.after_ms(grace_ms));
            self.reschedule(origin, due_ns);
        } else {
            self.forget(origin);
        }
    }

    fn reschedule(&mut self, origin: NodeId, due_ns: u64) {
        if let Some(lack) = self.by_origin.get_mut(&origin) {
            self.due.remove(&(lack.due_ns, origin));
            lack.due_ns = due_ns;
            self.due.insert((due_ns, origin));
        }
    }

    pub fn forget(&mut self, origin: NodeId) {
        if let Some(lack) = self.by_origin.remove(&origin) {
            self.due.remove(&(lack.due_ns, origin));
        }
    }

    /// It comes over a stream: no need to ask before it had time to.
    pub fn defer(&mut self, now: Now, origin: NodeId, ms: u64) {
        self.reschedule(origin, now.after_ms(ms));
    }

    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// The next lack whose time has come. Who is asked goes to the end of the row.
    pub fn next_due(&mut self, now: Now, config: &SpreadConfig) -> Option<Due> {
        let (_, origin) = *self.due.first().filter(|(due_ns, _)| *due_ns <= now.ns)?;
        let lack = self.by_origin.get_mut(&origin).expect("what is due is listed");
        if lack.attempts >= config.want_attempts_max || now.ns >= lack.since_ns.saturating_add(PATIENCE_NS) {
            self.forget(origin);
            return Some(Due::GivenUp(origin));
        }
        let at = lack.sources.pop().expect("a lack has a source");
        lack.sources.insert(0, at);
        let is_repeated = lack.attempts > 0;
        let told = lack.told;
        // A few in quick succession, at different advertisers: mostly a datagram was lost. Then ever slower.
        let slower = lack.attempts.saturating_sub(config.want_attempts_quick).min(16);
        let pause_ms = (config.want_retry_ms << slower).min(config.want_retry_max_ms);
        lack.attempts += 1;
        self.reschedule(origin, now.after_ms(pause_ms));
        Some(Due::Ask { told, at, is_repeated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Base, HeadFlags};

    #[test]
    fn a_head_that_nobody_has_is_asked_for_so_long_and_no_longer_however_its_origin_goes_on() {
        const SECOND: u64 = 1_000_000_000;
        let (origin, source) = (NodeId(1), SocketAddr::from(([10, 0, 0, 1], 1)));
        let config = SpreadConfig::lan();
        let at = |ns| Now { ns, wall_ms: 0 };
        let mut lacks = Lacks::default();
        lacks.add(at(0), Advert { origin, epoch: 1, seq: 1_000_000, flags: HeadFlags::default() }, source, 0, 10);
        let mut last = 0;
        for second in 0..120 {
            // The origin writes, and each word of it arrives.
            let head = Head { origin, epoch: 1, seq: second, base: Base::default(), flags: HeadFlags::default() };
            lacks.moved(at(second * SECOND), &head, 15);
            while let Some(due) = lacks.next_due(at(second * SECOND + SECOND / 2), &config) {
                last = second;
                assert_eq!(due == Due::GivenUp(origin), second >= PATIENCE_NS / SECOND, "at {second} s: {due:?}");
            }
        }
        assert_eq!(last, PATIENCE_NS / SECOND);
        assert_eq!(lacks.deadline(), None);
    }
}
