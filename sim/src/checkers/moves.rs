//! What the last event moved: which heads at the agent that handled it. Worked out once for all checkers that ask.
//!
//! Up to [`WHOLE_UP_TO`] hosts every head and sum is compared after every event. Above that, only where the root changed, which is the
//! sum over all heads; a sum over records that changes alone is seen when all is at rest.

use crate::world::HostId;
use std::cmp::Ordering;
use tidings::engine::Engine;
use tidings::model::names::NodeId;
use tidings::model::record::Head;

/// Worlds of up to so many hosts are looked at whole after every event.
pub const WHOLE_UP_TO: usize = 64;

/// What one event moved.
#[derive(Debug, Default)]
pub struct Moved {
    /// Heads that came or changed, or whose records did, with the sums over those.
    pub heads: Vec<(Head, u64)>,
    /// Origins that are not known there any more.
    pub gone: Vec<NodeId>,
}

/// How each host's process stood when it was looked at last.
#[derive(Debug, Default)]
pub struct Moves {
    stood: Vec<Stood>,
    pub last: Moved,
}

#[derive(Debug, Default)]
struct Stood {
    root: Option<u64>,
    /// By origin.
    heads: Vec<(Head, u64)>,
}

impl Moves {
    /// A new process knows nothing.
    pub fn started(&mut self, host: HostId) {
        if self.stood.len() <= host.index() {
            self.stood.resize_with(host.index() + 1, Stood::default);
        }
        self.stood[host.index()] = Stood::default();
    }

    /// Looks at a host's process that has handled something, in a world of so many hosts.
    pub fn handled(&mut self, host: HostId, engine: &Engine, hosts: usize) {
        let catalog = engine.catalog();
        let stood = &mut self.stood[host.index()];
        self.last.heads.clear();
        self.last.gone.clear();
        if stood.root.replace(catalog.root()) == Some(catalog.root()) && hosts > WHOLE_UP_TO {
            return;
        }
        let now = catalog.heads().map(|head| (head, catalog.sum(head.origin)));
        compare(&mut stood.heads, now, &mut self.last);
    }
}

/// Brings `stood` up to `now`, both by origin, and notes what differed.
fn compare(stood: &mut Vec<(Head, u64)>, now: impl Iterator<Item = (Head, u64)>, moved: &mut Moved) {
    let mut at = 0;
    let mut is_changed = false;
    let mut news = Vec::with_capacity(stood.len());
    for found in now {
        while stood.get(at).is_some_and(|known| known.0.origin < found.0.origin) {
            moved.gone.push(stood[at].0.origin);
            at += 1;
        }
        match stood.get(at).map(|known| (known.0.origin.cmp(&found.0.origin), *known == found)) {
            Some((Ordering::Equal, true)) => at += 1,
            Some((Ordering::Equal, false)) => {
                moved.heads.push(found);
                at += 1;
                is_changed = true;
            }
            _ => {
                moved.heads.push(found);
                is_changed = true;
            }
        }
        news.push(found);
    }
    moved.gone.extend(stood[at..].iter().map(|known| known.0.origin));
    if is_changed || !moved.gone.is_empty() {
        *stood = news;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::model::record::{Base, HeadFlags};

    fn head(origin: u128, seq: u64) -> (Head, u64) {
        (Head { origin: NodeId(origin), epoch: 1, seq, base: Base::default(), flags: HeadFlags::default() }, seq * 7)
    }

    #[test]
    fn what_came_changed_and_went_is_noted_and_nothing_else() {
        let mut stood = vec![head(1, 1), head(3, 1), head(5, 1), head(7, 1)];
        let now = [head(0, 1), head(1, 1), head(3, 2), head(4, 1), head(7, 1)];
        let mut moved = Moved::default();
        compare(&mut stood, now.into_iter(), &mut moved);
        assert_eq!(moved.heads, [head(0, 1), head(3, 2), head(4, 1)]);
        assert_eq!(moved.gone, [NodeId(5)]);
        assert_eq!(stood, now);
        let mut still = Moved::default();
        compare(&mut stood, now.into_iter(), &mut still);
        assert!(still.heads.is_empty() && still.gone.is_empty());
    }

    #[test]
    fn records_that_change_under_the_same_head_are_noted() {
        let mut stood = vec![head(1, 1)];
        let mut moved = Moved::default();
        compare(&mut stood, [(head(1, 1).0, 99)].into_iter(), &mut moved);
        assert_eq!(moved.heads, [(head(1, 1).0, 99)]);
    }
}
