//! Which lookups of other datacenters' services this agent told a gateway of, so that a service that many look up is asked for now and
//! then only.

use crate::model::names::{Datacenter, ServiceKey};
use crate::model::time::Now;
use std::collections::BTreeMap;

/// Services that are remembered; where all of them were asked for just now, further ones wait.
pub const LOOKUPS_MAX: usize = 1_024;
/// A gateway is told of a service so often at most, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Who asks again so soon, in milliseconds, was not answered: another gateway is asked.
const UNANSWERED_MS: u64 = 4_000;

/// Services that were asked for: when, and which gateway in turn.
#[derive(Debug, Default)]
pub struct Lookups {
    asked: BTreeMap<(Datacenter, ServiceKey), (u64, usize)>,
}

impl Lookups {
    /// Services that are remembered.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether to tell a gateway of this lookup; which in turn.
    pub fn turn(&mut self, now: Now, name: &(Datacenter, ServiceKey)) -> Option<usize> {
        let since_ms = |at_ns: u64| now.ns.saturating_sub(at_ns) / 1_000_000;
        let turn = match self.asked.get(name) {
            Some((at_ns, _)) if since_ms(*at_ns) < AGAIN_MS => return None,
            Some((at_ns, turn)) if since_ms(*at_ns) < UNANSWERED_MS => turn + 1,
            Some(_) | None => 0,
        };
        if self.asked.len() >= LOOKUPS_MAX && !self.asked.contains_key(name) {
            self.asked.retain(|_, (at_ns, _)| since_ms(*at_ns) < UNANSWERED_MS);
        }
        if self.asked.len() >= LOOKUPS_MAX && !self.asked.contains_key(name) {
            return None;
        }
        self.asked.insert(name.clone(), (now.ns, turn));
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{Namespace, ServiceName};

    fn name(at: usize) -> (Datacenter, ServiceKey) {
        let service = ServiceName::new(&format!("s{at}")).unwrap();
        (Datacenter::new("east").unwrap(), ServiceKey { namespace: Namespace::default(), service })
    }

    fn at(ms: u64) -> Now {
        Now { ns: ms * 1_000_000, wall_ms: 0 }
    }

    #[test]
    fn a_service_is_asked_for_now_and_then_and_elsewhere_where_nothing_comes() {
        let mut lookups = Lookups::default();
        let turns = [0, 500, 1_000, 2_500, 9_000].map(|ms| lookups.turn(at(ms), &name(1)));
        assert_eq!(turns, [Some(0), None, Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn more_services_than_are_remembered_wait_for_room() {
        let mut lookups = Lookups::default();
        assert!((0..LOOKUPS_MAX).all(|one| lookups.turn(at(0), &name(one)).is_some()));
        assert_eq!(lookups.turn(at(UNANSWERED_MS - 1), &name(LOOKUPS_MAX)), None);
        assert_eq!(lookups.turn(at(UNANSWERED_MS), &name(LOOKUPS_MAX)), Some(0));
    }
}
