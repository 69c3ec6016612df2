//! The last changes of the view, bounded: whoever saw a revision that the journal still reaches is told what happened since.
//!
//! One batch a published View. A filtered feed is made by looking at each change from both sides: what matched before and does not
//! any more is removed, whatever the reason.

use super::filter::Filter;
use super::service::Entry;
use crate::model::names::ServiceKey;
use crate::model::node::Liveness;
use crate::model::record::Uid;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// Changes the journal holds: at 200 a second, more than a minute. Each keeps up to two versions of an instance in memory.
pub(super) const CHANGES_MAX: usize = 16_384;
/// Batches in a segment: a new View copies one segment's pointers and the list of segments.
const SEGMENT_BATCHES: usize = 64;
const SEGMENTS_MAX: usize = 128;

/// Why an instance is no longer in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    Deregistered,
    /// Its lease ran out.
    Expired,
    AgentDown,
    Left,
    /// It is there, but does not match the reader's filter any more.
    Filtered,
}

impl RemoveReason {
    pub fn as_str(self) -> &'static str {
        match self {
            RemoveReason::Deregistered => "deregistered",
            RemoveReason::Expired => "expired",
            RemoveReason::AgentDown => "agent_down",
            RemoveReason::Left => "left",
            RemoveReason::Filtered => "filtered",
        }
    }
}

/// All that changed from one View to the next.
#[derive(Debug)]
pub struct Batch {
    /// Of the View that shows it.
    pub revision: u64,
    /// In order of service, then uid.
    pub changes: Box<[Change]>,
}

/// One entry that came, changed or went.
#[derive(Debug)]
pub struct Change {
    pub service: ServiceKey,
    pub before: Option<Entry>,
    pub after: Option<Entry>,
    /// Why it went; means nothing while `after` is there.
    pub(super) reason: RemoveReason,
    /// Its put event, encoded once for all who watch.
    pub encoded: OnceLock<Bytes>,
}

/// What a change means to a reader with a filter.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    Put(&'a Entry),
    Remove(&'a Entry, RemoveReason),
}

impl Change {
    pub fn uid(&self) -> Uid {
        self.after.as_ref().or(self.before.as_ref()).map_or(Uid(0), |entry| entry.uid)
    }

    /// What it means to a reader with that filter; nothing, if it matches neither before nor after.
    pub fn event(&self, filter: &Filter) -> Option<Event<'_>> {
        let matching = |side: &'_ Option<Entry>| side.as_ref().is_some_and(|entry| filter.matches(entry));
        match (&self.before, &self.after) {
            (_, Some(after)) if matching(&self.after) => Some(Event::Put(after)),
            (Some(before), after) if matching(&self.before) => Some(Event::Remove(before, self.reason_for(after.as_ref()))),
            _ => None,
        }
    }

    fn reason_for(&self, after: Option<&Entry>) -> RemoveReason {
        let Some(after) = after else { return self.reason };
        match after.node.liveness {
            Liveness::Down => RemoveReason::AgentDown,
            Liveness::Left => RemoveReason::Left,
            _ if after.instance().is_ok_and(|(_, instance)| instance.is_expired) => RemoveReason::Expired,
            _ => RemoveReason::Filtered,
        }
    }
}

/// The answer to "what since?".
#[derive(Debug)]
pub enum Changes<'a> {
    /// Oldest first; none: nothing changed.
    Batches(Vec<&'a Arc<Batch>>),
    /// The journal does not reach back so far, or never heard of that revision: forget all, take a snapshot.
    Resync,
}

#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// Whoever saw this revision or a later one can be told what followed.
    floor: u64,
    /// Full ones, oldest first.
    segments: Vec<Arc<Vec<Arc<Batch>>>>,
    newest: Vec<Arc<Batch>>,
    changes: usize,
}

impl Journal {
    pub fn new(revision: u64) -> Self {
        Self { floor: revision, segments: Vec::new(), newest: Vec::new(), changes: 0 }
    }

    /// Adds what a new View shows and forgets the oldest beyond the bounds.
    pub fn push(&mut self, batch: Batch) {
        if batch.changes.is_empty() {
            return;
        }
        if batch.changes.len() > CHANGES_MAX {
            *self = Self::new(batch.revision);
            return;
        }
        self.changes += batch.changes.len();
        self.newest.push(Arc::new(batch));
        if self.newest.len() == SEGMENT_BATCHES {
            self.segments.push(Arc::new(std::mem::take(&mut self.newest)));
        }
        while self.changes > CHANGES_MAX || self.segments.len() > SEGMENTS_MAX {
            // The newest batches alone may be too many: then one of them goes rather than a segment.
            let forgotten = if self.segments.is_empty() { vec![self.newest.remove(0)] } else { self.segments.remove(0).to_vec() };
            for batch in forgotten {
                self.changes -= batch.changes.len();
                self.floor = batch.revision;
            }
        }
    }

    pub fn since(&self, revision: u64, now: u64) -> Changes<'_> {
        if revision < self.floor || revision > now {
            return Changes::Resync;
        }
        let first = self.segments.partition_point(|segment| segment[SEGMENT_BATCHES - 1].revision <= revision);
        let batches = self.segments[first..].iter().flat_map(|segment| segment.iter()).chain(&self.newest);
        Changes::Batches(batches.filter(|batch| batch.revision > revision).collect())
    }
}
