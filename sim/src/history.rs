//! What clients asked, and what they were told: acknowledged, refused, or nothing.

use crate::plan::Intent;
use crate::world::HostId;
use std::collections::BTreeMap;
use tidings::model::command::{Refusal, Reply, Written};
use tidings::model::record::{Claim, Uid};

/// The number of an operation; as text it is in the metadata of what it registers.
pub type OpId = u64;

#[derive(Debug, Clone)]
pub struct Operation {
    pub id: OpId,
    pub client: u32,
    pub intent: Intent,
    pub uid: Uid,
    pub host: HostId,
    pub asked_at: u64,
    /// The claim of what the agent showed when it was asked: a delete reaches no further than what its agent has heard of.
    pub saw: Option<Claim>,
    /// The highest claim that anybody had on the key when this was answered.
    pub claim: Option<Claim>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Pending,
    Acknowledged {
        at: u64,
        written: Written,
    },
    Refused {
        at: u64,
        refusal: Refusal,
    },
    /// The agent died, or the client gave up waiting: it may have happened, or happen yet.
    Unknown {
        at: u64,
    },
}

#[derive(Debug, Default)]
pub struct History {
    operations: BTreeMap<OpId, Operation>,
    by_client: BTreeMap<u32, Vec<OpId>>,
}

impl History {
    pub fn ask(&mut self, operation: Operation) {
        self.by_client.entry(operation.client).or_default().push(operation.id);
        self.operations.insert(operation.id, operation);
    }

    /// Enters an answer. One that comes after the client gave up still counts, as knowledge of ours.
    pub fn answer(&mut self, id: OpId, at: u64, outcome: &Result<Reply, Refusal>) -> Option<&Operation> {
        let operation = self.operations.get_mut(&id)?;
        operation.outcome = match outcome {
            Ok(Reply::Written(written)) => Outcome::Acknowledged { at, written: *written },
            Ok(_) => Outcome::Unknown { at },
            Err(refusal) => Outcome::Refused { at, refusal: refusal.clone() },
        };
        Some(operation)
    }

    /// Enters with which claim an answered operation stands.
    pub fn stands(&mut self, id: OpId, claim: Option<Claim>) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.claim = claim;
        }
    }

    /// The client waits no longer.
    pub fn give_up(&mut self, id: OpId, at: u64) {
        if let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.outcome == Outcome::Pending) {
            operation.outcome = Outcome::Unknown { at };
        }
    }

    pub fn operation(&self, id: OpId) -> Option<&Operation> {
        self.operations.get(&id)
    }

    pub fn operations(&self) -> impl DoubleEndedIterator<Item = &Operation> {
        self.operations.values()
    }

    /// One client's, in the order it asked.
    pub fn of_client(&self, client: u32) -> impl DoubleEndedIterator<Item = &Operation> {
        self.by_client.get(&client).into_iter().flatten().filter_map(|id| self.operations.get(id))
    }
}
