//! Key-value entries: any agent takes a write under a new claim, and the latest claim is the last writer (protocol §2, claims).
//!
//! A delete is a write like any other: where an instance's ends the one that is visible, since its origin is asked, an entry's makes a
//! new claim, and so ends what was put earlier elsewhere and is not heard of yet.
//! Entries outlive their origin: they are visible whatever became of it, and whoever gives it up issues them anew.
//! Deleting all under a prefix may be many records: they are chosen at once, with their claims, and deleted in turns; what was put
//! meanwhile stays.

use super::commands::{check_condition, encode_within};
use super::fold::version_of;
use super::{Catalog, Effect, Urgency, claims};
use crate::engine::io::Token;
use crate::model::command::{Condition, Refusal, Reply, WriteResult, Written};
use crate::model::entry::{EntryBody, EntryKey};
use crate::model::limits;
use crate::model::names::{Namespace, NodeId};
use crate::model::record::{Claim, Key, Kind, RecordState, Scope, Uid};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::KeyValue;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Entries deleted in one turn.
const PURGE_TURN: usize = 500;
/// Prefixes being deleted at one time; one more is refused.
const PURGES_MAX: usize = 64;
/// Other agents' entries folded into the view in one turn: a few milliseconds.
const FOLD_TURN: usize = 2_000;

#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Entries that may look different now.
    dirty: BTreeSet<Uid>,
    /// The same, written here: to be in the next view.
    urgent: BTreeSet<Uid>,
    /// What the shown ones are called.
    shown: BTreeMap<Uid, (Arc<str>, Arc<str>)>,
    purges: VecDeque<Purge>,
}

/// A prefix that is being deleted.
#[derive(Debug)]
struct Purge {
    token: Token,
    asked_ms: u64,
    left: Vec<(Uid, Claim)>,
    deleted: u64,
}

impl Entries {
    pub fn is_behind(&self) -> bool {
        !self.dirty.is_empty() || !self.urgent.is_empty() || !self.purges.is_empty()
    }
}

impl Catalog {
    pub(super) fn put_entry(
        &mut self,
        now: Now,
        key: &Key<'_>,
        body: &EntryBody<'_>,
        condition: Condition,
    ) -> Result<(Reply, bool), Refusal> {
        let bytes = body.value.len();
        if bytes > limits::ENTRY_VALUE_BYTES_MAX {
            return Err(Refusal::TooLarge { bytes, bytes_max: limits::ENTRY_VALUE_BYTES_MAX });
        }
        let uid = key.uid(self.me);
        let visible = claims::visible(&self.table, uid);
        check_condition(condition, visible)?;
        let content = encode_within(key, body, limits::ENTRY_RECORD_BYTES_MAX)?;
        let reply = |result| Reply::Written(Written { uid, result, revision: 0 });
        let before = visible.and_then(|slot| slot.content());
        if before == Some(&content) {
            return Ok((reply(WriteResult::Unchanged), false));
        }
        let result = if before.is_some() { WriteResult::Updated } else { WriteResult::Created };
        let claim = claims::next(&self.table, uid, now.wall_ms);
        self.write(now, uid, claim, RecordState::Live(content), Urgency::Metadata);
        Ok((reply(result), true))
    }

    pub(super) fn delete_entry(&mut self, now: Now, key: &Key<'_>, condition: Condition) -> Result<(Reply, bool), Refusal> {
        let uid = key.uid(self.me);
        let visible = claims::visible(&self.table, uid);
        check_condition(condition, visible)?;
        let is_there = visible.is_some();
        if is_there {
            let claim = claims::next(&self.table, uid, now.wall_ms);
            self.write_tombstone(now, uid, Kind::ENTRY, claim);
        }
        let result = if is_there { WriteResult::Removed } else { WriteResult::Absent };
        Ok((Reply::Written(Written { uid, result, revision: 0 }), is_there))
    }

    /// Chooses all entries under a prefix; they are deleted in turns, and the command is answered after the last.
    pub(super) fn delete_entries(&mut self, now: Now, token: Token, namespace: &Namespace, prefix: &str) {
        if self.entries.purges.len() >= PURGES_MAX {
            let refusal = Refusal::Busy { retry_after_ms: 1_000, why: "too many prefixes are being deleted".into() };
            return self.effects.push_back(Effect::Reply { token, outcome: Err(refusal), is_write: false });
        }
        // What came from others may not be in the view yet.
        self.fold_entries(usize::MAX);
        let keys = self.editor().entry_keys(namespace.as_str(), prefix);
        let uids = keys.iter().map(|key| named(namespace.as_str(), key).uid(NodeId::default()));
        let left = uids.filter_map(|uid| Some((uid, claims::visible(&self.table, uid)?.claim))).collect();
        self.entries.purges.push_back(Purge { token, asked_ms: now.wall_ms, left, deleted: 0 });
        self.purge(now);
    }

    /// Deletes the next entries of the prefix that was asked for first.
    pub(super) fn purge(&mut self, now: Now) {
        let Some(mut purge) = self.entries.purges.pop_front() else { return };
        for _ in 0..PURGE_TURN {
            let Some((uid, chosen)) = purge.left.pop() else { break };
            if claims::visible(&self.table, uid).is_some_and(|slot| slot.claim <= chosen) {
                // As of when it was asked: later words stay above.
                let claim = claims::next(&self.table, uid, purge.asked_ms);
                self.write_tombstone(now, uid, Kind::ENTRY, claim);
                purge.deleted += 1;
            }
        }
        if purge.left.is_empty() {
            let reply = Reply::Deleted { entries: purge.deleted, revision: 0 };
            self.effects.push_back(Effect::Reply { token: purge.token, outcome: Ok(reply), is_write: purge.deleted > 0 });
        } else {
            self.entries.purges.push_front(purge);
        }
    }

    /// Some origin's word on an entry changed.
    pub(super) fn entry_changed(&mut self, uid: Uid) {
        let is_own = self.table.find(self.own_ix, uid).is_some();
        if is_own {
            self.entries.urgent.insert(uid)
        } else {
            self.entries.dirty.insert(uid)
        };
    }

    /// Folds the entries written here, and so many of the others.
    pub(super) fn fold_entries(&mut self, others_max: usize) {
        while let Some(uid) = self.entries.urgent.pop_first() {
            self.fold_entry(uid);
        }
        for _ in 0..others_max {
            let Some(uid) = self.entries.dirty.pop_first() else { return };
            self.fold_entry(uid);
        }
    }

    pub(super) fn fold_entries_turn(&mut self) {
        self.fold_entries(FOLD_TURN);
    }

    fn fold_entry(&mut self, uid: Uid) {
        let content = claims::visible(&self.table, uid).and_then(|slot| slot.content()).cloned();
        let entry = content.as_ref().and_then(|content| KeyValue::new(content.clone(), version_of(content)));
        if content.is_some() && entry.is_none() {
            self.counters.undecodable += 1;
        }
        match entry {
            Some(entry) => {
                let name = (Arc::clone(&entry.namespace), Arc::clone(&entry.key));
                self.entries.shown.entry(uid).or_insert(name);
                self.editor().put_entry(entry);
            }
            None => {
                if let Some((namespace, key)) = self.entries.shown.remove(&uid) {
                    self.editor().remove_entry(&namespace, &key);
                }
            }
        }
    }
}

/// The record's key of an entry.
pub(super) fn entry_key<'a>(namespace: &'a Namespace, key: &'a EntryKey) -> Key<'a> {
    named(namespace.as_str(), key.as_str())
}

fn named<'a>(namespace: &'a str, key: &'a str) -> Key<'a> {
    Key { kind: Kind::ENTRY, scope: Scope::Datacenter, namespace: namespace.into(), name: key.into(), id: Text::default() }
}
