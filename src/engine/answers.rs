//! Replies that wait: a write is answered only after it is durable and a view that contains it is published.
//!
//! ```text
//! held ──durable──> durable, unseen ──view published──> answered
//!   └──view published──> seen, not durable ──durable──> answered
//!   └──the store failed──> refused (503)
//! ```

use super::io::{Mark, Token};
use super::sabotage::{Broken, Rule};
use crate::model::command::{Refusal, Reply};
use crate::model::names::NodeId;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Who waits for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client of this agent.
    Client(Token),
    /// Another agent that forwarded a write of its client's.
    Agent { node: NodeId, addr: SocketAddr, id: u64 },
}

pub type Outcome = Result<Reply, Refusal>;

struct Held {
    asker: Asker,
    outcome: Outcome,
    /// Durable with this mark.
    mark: Mark,
    /// The revision of the first view that holds the write, once there is one.
    seen_in: Option<u64>,
}

/// In the order the commands came, and so in order of marks.
#[derive(Default)]
pub struct Answers {
    held: VecDeque<Held>,
    durable: Mark,
    broken: Broken,
}

impl Answers {
    pub fn of(broken: Broken) -> Self {
        Self { broken, ..Self::default() }
    }

    pub fn hold(&mut self, asker: Asker, outcome: Outcome, mark: Mark) {
        self.held.push_back(Held { asker, outcome, mark, seen_in: None });
    }

    /// All up to this mark is durable.
    pub fn durable(&mut self, mark: Mark) {
        self.durable = self.durable.max(mark);
    }

    /// A view that holds every write so far is published.
    pub fn seen(&mut self, revision: u64) {
        for held in self.held.iter_mut().rev().take_while(|held| held.seen_in.is_none()) {
            held.seen_in = Some(revision);
        }
    }

    /// Whether something is held that no view shows yet.
    pub fn awaits_view(&self) -> bool {
        self.held.back().is_some_and(|held| held.seen_in.is_none())
    }

    /// What may be answered now, in order.
    pub fn take_ready(&mut self) -> Option<(Asker, Outcome)> {
        let first = self.held.front()?;
        // Which view it will be in is not known yet where none shows it: the last of all, as far as anybody can say.
        let revision = if self.broken.is(Rule::AnswerBeforeView) { first.seen_in.unwrap_or(u64::MAX) } else { first.seen_in? };
        if first.mark > self.durable && !self.broken.is(Rule::AnswerBeforeDurable) {
            return None;
        }
        let Held { asker, mut outcome, .. } = self.held.pop_front()?;
        stamp(&mut outcome, revision);
        Some((asker, outcome))
    }

    /// The store gave up on what is behind `durable`: whoever waits for it is told. What was written stands here, has perhaps been heard
    /// elsewhere, and is handed to the store again when it has room: nobody can say yet what becomes of it.
    pub fn fail(&mut self, why: &str) -> Vec<(Asker, Outcome)> {
        let durable = self.durable;
        let (kept, failed): (VecDeque<_>, VecDeque<_>) = self.held.drain(..).partition(|held| held.mark <= durable);
        self.held = kept;
        let why = format!("the write is not durable ({why}) and its outcome not known yet: it may still take effect");
        failed.into_iter().map(|held| (held.asker, Err(Refusal::Unavailable { why: why.clone() }))).collect()
    }
}

/// Writes the revision into what was written: readers of this agent find it there.
fn stamp(outcome: &mut Outcome, revision: u64) {
    match outcome {
        Ok(Reply::Written(written)) => written.revision = revision,
        Ok(Reply::Batch(all)) => all.iter_mut().for_each(|written| written.revision = revision),
        Ok(Reply::Deleted { revision: shown, .. }) => *shown = revision,
        Ok(Reply::Lease(_) | Reply::Keys(_) | Reply::Done) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(marks: &[u64]) -> Answers {
        let mut answers = Answers::default();
        for &mark in marks {
            answers.hold(Asker::Client(Token(mark)), Ok(Reply::Done), Mark(mark));
        }
        answers
    }

    #[test]
    fn an_answer_needs_both_the_disk_and_the_view() {
        let mut answers = held(&[1]);
        assert!(answers.awaits_view());
        answers.durable(Mark(1));
        assert_eq!(answers.take_ready(), None);
        answers.seen(7);
        assert!(!answers.awaits_view());
        assert_eq!(answers.take_ready(), Some((Asker::Client(Token(1)), Ok(Reply::Done))));

        let mut answers = held(&[1]);
        answers.seen(7);
        assert_eq!(answers.take_ready(), None);
        answers.durable(Mark(1));
        assert!(answers.take_ready().is_some());
    }

    #[test]
    fn a_failing_store_refuses_only_what_is_not_durable() {
        let mut answers = held(&[1, 2]);
        answers.durable(Mark(1));
        let failed = answers.fail("disk full");
        assert_eq!(failed.len(), 1);
        let (asker, Err(Refusal::Unavailable { why })) = &failed[0] else { panic!("{failed:?}") };
        assert_eq!(*asker, Asker::Client(Token(2)));
        assert!(why.contains("disk full") && why.contains("may still take effect"), "{why}");
        assert_eq!(answers.held.len(), 1);
    }
}
