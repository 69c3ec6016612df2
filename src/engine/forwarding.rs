//! Writes that another agent decides: sent to the origin as one datagram, awaited for a second, then decided here.
//!
//! Protocol §2, "Writes at another agent". A lost datagram is sent again once. The origin remembers what it was asked, so that a question
//! that comes twice is carried out once and gets one answer. One that comes late, from an origin that slept, undoes nothing: removals
//! say until when.
//!
//! ```text
//! asked ──answered──> unseen ──what was done came here too──> the client is answered
//!   └── no answer ──────┴── it does not come ───────────────> decided here
//! ```

use super::answers::Outcome;
use super::io::Token;
use crate::model::command::Command;
use crate::model::names::NodeId;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long an origin has before the write is decided here, in milliseconds.
pub const ANSWER_MS: u64 = 1_000;
/// After this long without an answer the write is sent once more, in milliseconds.
pub const REPEAT_MS: u64 = 300;
/// What an origin says it did has this long to come here, in milliseconds; mostly it is here first.
pub const SEEN_MS: u64 = 1_000;
/// Writes on their way at once; above, clients are told to come back.
pub const ASKS_MAX: usize = 10_000;

/// Questions of other agents that are remembered: those of the last second at a thousand a second.
pub const SERVED_MAX: usize = 1_024;

/// A write on its way.
#[derive(Debug)]
pub struct Asked {
    pub token: Token,
    pub to: NodeId,
    pub command: Command,
    is_repeated: bool,
    due_ns: u64,
    give_up_ns: u64,
}

/// What is due for one of them.
#[derive(Debug)]
pub enum Due {
    Repeat {
        id: u64,
        to: NodeId,
        command: Command,
    },
    /// The origin did not answer.
    GiveUp(Asked),
}

pub struct Forwarding {
    asked: BTreeMap<u64, Asked>,
    due: BTreeSet<(u64, u64)>,
    asks: u64,
    /// Answered, in the order of their deadlines.
    unseen: VecDeque<Unseen>,
}

/// An answer that waits until its client would read what it says.
struct Unseen {
    asked: Asked,
    outcome: Outcome,
    give_up_ns: u64,
}

impl Forwarding {
    /// Questions are numbered from `first` on; random, so that no life of this agent repeats another's numbers.
    pub fn new(first: u64) -> Self {
        Self { asked: BTreeMap::new(), due: BTreeSet::new(), asks: first, unseen: VecDeque::new() }
    }

    /// Writes that wait for an answer, or for what it says.
    pub fn len(&self) -> usize {
        self.asked.len() + self.unseen.len()
    }

    /// Notes a write that goes to its origin and says under which number; none where too many are on their way.
    pub fn ask(&mut self, now: Now, token: Token, to: NodeId, command: Command) -> Option<u64> {
        if self.len() >= ASKS_MAX {
            return None;
        }
        self.asks = self.asks.wrapping_add(1);
        let id = self.asks;
        let due_ns = now.after_ms(REPEAT_MS);
        self.asked.insert(id, Asked { token, to, command, is_repeated: false, due_ns, give_up_ns: now.after_ms(ANSWER_MS) });
        self.due.insert((due_ns, id));
        Some(id)
    }

    /// The answer to number `id` came from `from`; none where nobody waits for it, or someone else was asked.
    pub fn answered(&mut self, id: u64, from: NodeId) -> Option<Asked> {
        self.asked.get(&id).filter(|asked| asked.to == from)?;
        self.take(id)
    }

    /// An origin is gone: what was asked of it need not wait.
    pub fn gone(&mut self, node: NodeId) -> Vec<Asked> {
        let ids: Vec<u64> = self.asked.iter().filter(|(_, asked)| asked.to == node).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Keeps an answer until what it says has come here.
    pub fn hold(&mut self, now: Now, asked: Asked, outcome: Outcome) {
        self.unseen.push_back(Unseen { asked, outcome, give_up_ns: now.after_ms(SEEN_MS) });
    }

    /// The answers that say what has come here by now.
    pub fn take_seen(&mut self, is_seen: impl Fn(&Asked) -> bool) -> Vec<(Token, Outcome)> {
        if self.unseen.is_empty() {
            return Vec::new();
        }
        let (seen, unseen): (Vec<_>, Vec<_>) = self.unseen.drain(..).partition(|unseen| is_seen(&unseen.asked));
        self.unseen = unseen.into();
        seen.into_iter().map(|seen| (seen.asked.token, seen.outcome)).collect()
    }

    pub fn deadline(&self) -> Option<u64> {
        let due = self.due.first().map(|(due_ns, _)| *due_ns);
        due.into_iter().chain(self.unseen.front().map(|unseen| unseen.give_up_ns)).min()
    }

    /// The next that is due.
    pub fn next_due(&mut self, now: Now) -> Option<Due> {
        if self.unseen.front().is_some_and(|unseen| unseen.give_up_ns <= now.ns) {
            return self.unseen.pop_front().map(|unseen| Due::GiveUp(unseen.asked));
        }
        let (_, id) = *self.due.first().filter(|(due_ns, _)| *due_ns <= now.ns)?;
        let asked = self.asked.get_mut(&id)?;
        if asked.is_repeated {
            return self.take(id).map(Due::GiveUp);
        }
        self.due.remove(&(asked.due_ns, id));
        asked.is_repeated = true;
        asked.due_ns = asked.give_up_ns;
        self.due.insert((asked.due_ns, id));
        Some(Due::Repeat { id, to: asked.to, command: asked.command.clone() })
    }

    fn take(&mut self, id: u64) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.due.remove(&(asked.due_ns, id));
        Some(asked)
    }
}

/// A question as its receiver knows it: who asks, under which number.
pub type Question = (NodeId, u64);

/// What to do with a question that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Served {
    /// It is new: carry it out.
    New,
    /// It is being carried out: its answer goes out once.
    UnderWay,
    Answered(Outcome),
}

/// The last questions of other agents, and what they were answered.
#[derive(Default)]
pub struct Questions {
    known: BTreeMap<Question, Option<Outcome>>,
    order: VecDeque<Question>,
}

impl Questions {
    /// Questions that are known, answered or not.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn take(&mut self, question: Question) -> Served {
        match self.known.get(&question) {
            Some(Some(outcome)) => Served::Answered(outcome.clone()),
            Some(None) => Served::UnderWay,
            None => {
                self.known.insert(question, None);
                self.order.push_back(question);
                if self.order.len() > SERVED_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
                Served::New
            }
        }
    }

    pub fn answered(&mut self, question: Question, outcome: &Outcome) {
        if let Some(known) = self.known.get_mut(&question) {
            *known = Some(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::Reply;

    #[test]
    fn a_question_that_comes_twice_is_carried_out_once() {
        let mut questions = Questions::default();
        let question = (NodeId(1), 5);
        assert_eq!(questions.take(question), Served::New);
        assert_eq!(questions.take(question), Served::UnderWay);
        questions.answered(question, &Ok(Reply::Done));
        assert_eq!(questions.take(question), Served::Answered(Ok(Reply::Done)));
        for id in 0..2 * SERVED_MAX as u64 {
            questions.take((NodeId(2), id));
        }
        assert_eq!((questions.known.len(), questions.order.len()), (SERVED_MAX, SERVED_MAX));
    }

    fn at(ms: u64) -> Now {
        Now { ns: ms * 1_000_000, wall_ms: 0 }
    }

    #[test]
    fn a_silent_origin_is_asked_twice_and_given_up_after_a_second() {
        let mut forwarding = Forwarding::new(7);
        let id = forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        assert!(forwarding.next_due(at(REPEAT_MS - 1)).is_none());
        assert!(matches!(forwarding.next_due(at(REPEAT_MS)), Some(Due::Repeat { id: again, .. }) if again == id));
        assert!(forwarding.next_due(at(ANSWER_MS - 1)).is_none());
        assert!(matches!(forwarding.next_due(at(ANSWER_MS)), Some(Due::GiveUp(asked)) if asked.token == Token(1)));
        assert_eq!(forwarding.deadline(), None);
    }

    #[test]
    fn an_answer_waits_until_what_it_says_is_seen_here_or_is_decided_here() {
        let mut forwarding = Forwarding::new(7);
        for token in [1, 2] {
            let id = forwarding.ask(at(0), Token(token), NodeId(7), Command::Leave).unwrap();
            let asked = forwarding.answered(id, NodeId(7)).unwrap();
            forwarding.hold(at(10), asked, Ok(Reply::Done));
        }
        assert!(forwarding.take_seen(|_| false).is_empty());
        assert_eq!(forwarding.take_seen(|asked| asked.token == Token(2)), [(Token(2), Ok(Reply::Done))]);
        assert_eq!(forwarding.deadline(), Some((10 + SEEN_MS) * 1_000_000));
        assert!(forwarding.next_due(at(9 + SEEN_MS)).is_none());
        assert!(matches!(forwarding.next_due(at(10 + SEEN_MS)), Some(Due::GiveUp(asked)) if asked.token == Token(1)));
        assert_eq!(forwarding.deadline(), None);
    }

    #[test]
    fn only_who_was_asked_can_answer() {
        let mut forwarding = Forwarding::new(7);
        let id = forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        assert!(forwarding.answered(id, NodeId(8)).is_none());
        assert!(forwarding.answered(id, NodeId(7)).is_some());
        assert!(forwarding.answered(id, NodeId(7)).is_none());
        assert_eq!(forwarding.deadline(), None);
    }

    #[test]
    fn what_was_asked_of_a_dead_origin_is_handed_back_at_once() {
        let mut forwarding = Forwarding::new(7);
        forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        forwarding.ask(at(0), Token(2), NodeId(8), Command::Leave).unwrap();
        let back = forwarding.gone(NodeId(7));
        assert_eq!(back.iter().map(|asked| asked.token).collect::<Vec<_>>(), [Token(1)]);
    }
}
