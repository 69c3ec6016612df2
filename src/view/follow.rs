//! How indexes that readers keep beside the View are kept up: by what its journal says changed, or made anew where it does not reach back.

use super::{Batch, Changes, View};
use crate::model::names::NodeId;
use std::sync::Arc;

/// Whose View an index was made from, and which.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follower {
    seen: Option<(NodeId, u64)>,
}

/// What brings an index up to a View.
#[derive(Debug)]
pub enum Step<'v> {
    /// It is of that View, or of a later one: readers may still hold older ones, and nothing goes back for them.
    Nothing,
    /// Oldest first.
    Changes(Vec<&'v Arc<Batch>>),
    /// It has to be made anew.
    Anew,
}

impl Follower {
    /// What is to be done to an index to be of this View; it counts as done.
    pub fn step<'v>(&mut self, view: &'v View) -> Step<'v> {
        let before = self.seen.filter(|(agent, _)| *agent == view.agent.id).map(|(_, revision)| revision);
        if before.is_some_and(|before| before >= view.revision) {
            return Step::Nothing;
        }
        self.seen = Some((view.agent.id, view.revision));
        match before.map(|before| view.changes_since(before)) {
            Some(Changes::Batches(batches)) => Step::Changes(batches),
            Some(Changes::Resync) | None => Step::Anew,
        }
    }

    /// Whether an index that follows is of that View, and of no later one.
    pub fn is_at(&self, view: &View) -> bool {
        self.seen == Some((view.agent.id, view.revision))
    }

    /// Whether anything was followed yet.
    pub fn has_begun(&self) -> bool {
        self.seen.is_some()
    }
}
