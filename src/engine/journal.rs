//! What must be durable, gathered turn by turn; and what became of it.

use super::io::{Mark, StoreOp};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Journal {
    ops: Vec<StoreOp>,
    mark: Mark,
    /// Blocks of revisions that the store is asked to reserve, with the mark each comes with.
    blocks: VecDeque<(Mark, u64)>,
    /// Why the store does not take anything.
    failure: Option<String>,
}

impl Journal {
    pub fn push(&mut self, op: StoreOp) {
        if let StoreOp::Revision(revision) = op {
            self.blocks.push_back((self.next_mark(), revision));
        }
        self.ops.push(op);
    }

    /// The mark with which all that was pushed so far becomes durable.
    pub fn pending_mark(&self) -> Mark {
        if self.ops.is_empty() { self.mark } else { self.next_mark() }
    }

    /// This turn's operations, if there are any.
    pub fn take(&mut self) -> Option<(Mark, Vec<StoreOp>)> {
        if self.ops.is_empty() {
            return None;
        }
        self.mark = self.next_mark();
        Some((self.mark, std::mem::take(&mut self.ops)))
    }

    /// All up to `mark` is durable; the highest revision that is reserved thereby, if one is.
    pub fn durable(&mut self, mark: Mark) -> Option<u64> {
        self.failure = None;
        let mut reserved = None;
        while let Some((_, revision)) = self.blocks.front().filter(|(asked, _)| *asked <= mark) {
            reserved = Some(*revision);
            self.blocks.pop_front();
        }
        reserved
    }

    pub fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// Why writes cannot be made durable now.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn next_mark(&self) -> Mark {
        Mark(self.mark.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_without_changes_waits_for_what_was_before_it() {
        let mut journal = Journal::default();
        assert_eq!(journal.pending_mark(), Mark(0));
        journal.push(StoreOp::Revision(9));
        assert_eq!(journal.pending_mark(), Mark(1));
        assert_eq!(journal.take().map(|(mark, ops)| (mark, ops.len())), Some((Mark(1), 1)));
        assert_eq!(journal.pending_mark(), Mark(1));
        assert_eq!(journal.take(), None);
    }

    #[test]
    fn a_block_is_reserved_once_its_mark_is_durable() {
        let mut journal = Journal::default();
        journal.push(StoreOp::Revision(9));
        journal.take();
        journal.push(StoreOp::Revision(12));
        journal.take();
        assert_eq!(journal.durable(Mark(0)), None);
        assert_eq!(journal.durable(Mark(1)), Some(9));
        assert_eq!(journal.durable(Mark(2)), Some(12));
    }
}
