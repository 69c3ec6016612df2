//! Invariant 1: a head (epoch, reaped, contiguous seq) at an agent never decreases.

use super::{Checker, Scene};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::model::names::NodeId;
use tidings::model::record::Head;

/// The heads of each process when it was looked at last.
#[derive(Default)]
pub struct Heads {
    seen: BTreeMap<(HostId, NodeId), Head>,
    /// The node id each process had when it was looked at last.
    nodes: BTreeMap<HostId, NodeId>,
}

impl Heads {
    /// Takes in a head.
    ///
    /// # Errors
    /// The one that was there before, which is higher.
    fn observe(&mut self, host: HostId, head: Head) -> Result<(), Head> {
        match self.seen.insert((host, head.origin), head) {
            Some(before) if rank(&before) > rank(&head) => Err(before),
            _ => Ok(()),
        }
    }

    fn forget(&mut self, host: HostId) {
        self.seen.retain(|(at, _), _| *at != host);
        self.nodes.remove(&host);
    }
}

/// In an epoch, a mark of reaping is above every seq.
fn rank(head: &Head) -> (u64, bool, u64) {
    (head.epoch, head.flags.reaped.is_some(), head.seq)
}

impl Checker for Heads {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => self.forget(*host),
            Note::Handled { host } => {
                let Some(node) = scene.node(*host) else { return Ok(()) };
                if let Some(given_up) = self.nodes.insert(*host, node).filter(|before| *before != node) {
                    // Its words as the twin it was are no part of that origin's history any more.
                    self.seen.remove(&(*host, given_up));
                }
                for head in scene.moved.heads.iter().map(|(head, _)| *head).chain(scene.reaped(*host)) {
                    if let Err(before) = self.observe(*host, head) {
                        return Err(scene.violation("heads-rise", &[*host], format!("at least {before:?}"), format!("{head:?}")));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::model::record::{Base, HeadFlags};

    const HOST: HostId = HostId(0);

    fn head(epoch: u64, seq: u64, reaped: Option<u32>) -> Head {
        Head { origin: NodeId(1), epoch, seq, base: Base::default(), flags: HeadFlags { left: false, reaped } }
    }

    #[test]
    fn bites_on_a_lower_seq_a_lower_epoch_and_a_mark_taken_back() {
        for (before, after) in
            [(head(5, 9, None), head(5, 8, None)), (head(5, 1, None), head(4, 9, None)), (head(5, 9, Some(3)), head(5, 9, None))]
        {
            let mut heads = Heads::default();
            heads.observe(HOST, before).unwrap();
            assert_eq!(heads.observe(HOST, after), Err(before));
        }
    }

    #[test]
    fn lets_pass_a_higher_epoch_with_a_lower_seq_and_a_new_process() {
        let mut heads = Heads::default();
        heads.observe(HOST, head(5, 9, Some(3))).unwrap();
        heads.observe(HOST, head(6, 2, None)).unwrap();
        heads.observe(HostId(1), head(5, 1, None)).unwrap();
        heads.forget(HOST);
        heads.observe(HOST, head(5, 9, None)).unwrap();
    }
}
