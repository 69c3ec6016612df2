//! Wants of peers that wait for the budget: the latest of each peer and origin, served in the order in which they came.

use crate::engine::wire::packet::Want;
use crate::model::names::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

#[derive(Debug, Default)]
pub struct Answers {
    wants: BTreeMap<(SocketAddr, NodeId), Want>,
    order: VecDeque<(SocketAddr, NodeId)>,
    /// There is no budget before this.
    pub not_before_ns: u64,
}

impl Answers {
    /// Wants that wait.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Returns whether there was room for it.
    pub fn push(&mut self, to: SocketAddr, want: Want, answers_max: usize) -> bool {
        let key = (to, want.origin);
        if let Some(before) = self.wants.get_mut(&key) {
            *before = want;
            return true;
        }
        if self.wants.len() >= answers_max {
            return false;
        }
        self.wants.insert(key, want);
        self.order.push_back(key);
        true
    }

    pub fn next(&mut self) -> Option<(SocketAddr, Want)> {
        let key = self.order.pop_front()?;
        let want = self.wants.remove(&key).expect("what is in the row waits");
        Some((key.0, want))
    }

    /// It could not be served yet.
    pub fn put_back(&mut self, to: SocketAddr, want: Want) {
        let key = (to, want.origin);
        if self.wants.insert(key, want).is_none() {
            self.order.push_front(key);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
