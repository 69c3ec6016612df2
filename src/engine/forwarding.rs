//! Writes that another agent decides: sent to the origin as one datagram, awaited for a second, then decided here.
//!
//! Protocol §2, "Writes at another agent". A lost datagram is sent again once; the origin may then carry a write out twice, which the
//! commands that are forwarded bear: each says what shall be, none says "one more".

use super::io::Token;
use crate::model::command::Command;
use crate::model::names::NodeId;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// How long an origin has before the write is decided here, in milliseconds.
pub const ANSWER_MS: u64 = 1_000;
/// After this long without an answer the write is sent once more, in milliseconds.
pub const REPEAT_MS: u64 = 300;
/// Writes on their way at once; above, clients are told to come back.
pub const ASKS_MAX: usize = 10_000;

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

#[derive(Default)]
pub struct Forwarding {
    asked: BTreeMap<u64, Asked>,
    due: BTreeSet<(u64, u64)>,
    asks: u64,
}

impl Forwarding {
    /// Notes a write that goes to its origin and says under which number; none where too many are on their way.
    pub fn ask(&mut self, now: Now, token: Token, to: NodeId, command: Command) -> Option<u64> {
        if self.asked.len() >= ASKS_MAX {
            return None;
        }
        self.asks += 1;
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

    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// The next that is due.
    pub fn next_due(&mut self, now: Now) -> Option<Due> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { ns: ms * 1_000_000, wall_ms: 0 }
    }

    #[test]
    fn a_silent_origin_is_asked_twice_and_given_up_after_a_second() {
        let mut forwarding = Forwarding::default();
        let id = forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        assert!(forwarding.next_due(at(REPEAT_MS - 1)).is_none());
        assert!(matches!(forwarding.next_due(at(REPEAT_MS)), Some(Due::Repeat { id: again, .. }) if again == id));
        assert!(forwarding.next_due(at(ANSWER_MS - 1)).is_none());
        assert!(matches!(forwarding.next_due(at(ANSWER_MS)), Some(Due::GiveUp(asked)) if asked.token == Token(1)));
        assert_eq!(forwarding.deadline(), None);
    }

    #[test]
    fn only_who_was_asked_can_answer() {
        let mut forwarding = Forwarding::default();
        let id = forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        assert!(forwarding.answered(id, NodeId(8)).is_none());
        assert!(forwarding.answered(id, NodeId(7)).is_some());
        assert!(forwarding.answered(id, NodeId(7)).is_none());
        assert_eq!(forwarding.deadline(), None);
    }

    #[test]
    fn what_was_asked_of_a_dead_origin_is_handed_back_at_once() {
        let mut forwarding = Forwarding::default();
        forwarding.ask(at(0), Token(1), NodeId(7), Command::Leave).unwrap();
        forwarding.ask(at(0), Token(2), NodeId(8), Command::Leave).unwrap();
        let back = forwarding.gone(NodeId(7));
        assert_eq!(back.iter().map(|asked| asked.token).collect::<Vec<_>>(), [Token(1)]);
    }
}
