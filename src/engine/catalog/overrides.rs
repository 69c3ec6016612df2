//! An operator's words on instances and nodes: records of their own, which survive re-registration and their origin.

use super::commands::encode;
use super::{Catalog, Urgency, claims};
use crate::model::command::{OverrideTarget, Refusal, Reply, WriteResult, Written};
use crate::model::node::Override;
use crate::model::record::{Content, Key, Kind, RecordState, Scope, Uid};
use crate::model::text::Text;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The words that count now.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Overrides that may say something else now, by their own uid.
    dirty: BTreeSet<Uid>,
    /// Whom an override is on.
    on: BTreeMap<Uid, Whom>,
    instances: BTreeMap<Uid, Arc<Override<'static>>>,
    /// When one ends.
    expiries: BTreeSet<(u64, Uid)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Instance(Uid),
    Node(String),
}

impl Words {
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub fn mark(&mut self, uid: Uid) {
        self.dirty.insert(uid);
    }

    pub fn on_instance(&self, uid: Uid) -> Option<Arc<Override<'static>>> {
        self.instances.get(&uid).cloned()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.expiries.first().map(|(due_ns, _)| *due_ns)
    }
}

impl Catalog {
    /// Puts an operator's word on an instance or a node; any agent may write it, and the latest counts.
    pub(super) fn set_override(&mut self, now: Now, of: &OverrideTarget, word: &Override<'_>) -> Result<Reply, Refusal> {
        let key = self.override_key(of)?;
        let uid = key.uid(self.me);
        let is_known = claims::visible(&self.table, uid).is_some();
        let content = encode(&key, word)?;
        let claim = claims::next(&self.table, uid, now.wall_ms);
        self.write(now, uid, claim, RecordState::Live(content), Urgency::Removal);
        let result = if is_known { WriteResult::Updated } else { WriteResult::Created };
        Ok(Reply::Written(Written { uid, result, revision: 0 }))
    }

    pub(super) fn clear_override(&mut self, now: Now, of: &OverrideTarget) -> Result<Reply, Refusal> {
        let uid = self.override_key(of)?.uid(self.me);
        let claim = claims::visible(&self.table, uid).map(|slot| slot.claim);
        let result = if claim.is_some() { WriteResult::Removed } else { WriteResult::Absent };
        if let Some(claim) = claim {
            self.write_tombstone(now, uid, Kind::OVERRIDE, claim);
        }
        Ok(Reply::Written(Written { uid, result, revision: 0 }))
    }

    /// The key of the word on an instance ends in the instance's uid: agent-scoped ones of one name are kept apart.
    fn override_key(&self, of: &OverrideTarget) -> Result<Key<'static>, Refusal> {
        let key = |namespace: &str, name: &str, id: String| Key {
            kind: Kind::OVERRIDE,
            scope: Scope::Datacenter,
            namespace: Text::from(namespace.to_owned()),
            name: Text::from(name.to_owned()),
            id: Text::from(id),
        };
        match of {
            OverrideTarget::Node(name) => Ok(key("", name.as_str(), String::new())),
            OverrideTarget::Instance(target) => {
                let uid = self.resolve(target)?.ok_or_else(|| Refusal::NotFound { what: "the instance".into() })?;
                Ok(key(target.namespace.as_str(), target.service.as_str(), uid.to_string()))
            }
        }
    }

    /// Lets words count that came, and those not that went or ended.
    pub(super) fn fold_words(&mut self, now: Now) {
        while let Some((_, uid)) = self.words.expiries.first().copied().filter(|(due_ns, _)| *due_ns <= now.ns) {
            self.words.expiries.pop_first();
            self.words.dirty.insert(uid);
        }
        while let Some(uid) = self.words.dirty.pop_first() {
            self.fold_word(now, uid);
        }
    }

    fn fold_word(&mut self, now: Now, uid: Uid) {
        let said = claims::visible(&self.table, uid).and_then(|slot| slot.content()).cloned();
        let said = said.as_ref().and_then(read);
        let ends_at = said.as_ref().and_then(|(_, word)| word.expires_at);
        let is_over = ends_at.is_some_and(|at| at <= now.wall_ms);
        if let Some(at) = ends_at.filter(|_| !is_over) {
            // The wall clock may jump meanwhile: then it is looked at again.
            self.words.expiries.insert((now.after_ms(at - now.wall_ms), uid));
        }
        if is_over && let Some(claim) = self.own_live_claim(uid) {
            self.write_tombstone(now, uid, Kind::OVERRIDE, claim);
            self.words.dirty.remove(&uid);
        }
        let said = said.filter(|_| !is_over);
        let before = self.words.on.remove(&uid);
        if let Some(whom) = before.filter(|before| said.as_ref().is_none_or(|(whom, _)| whom != before)) {
            self.speak(&whom, None);
        }
        if let Some((whom, word)) = said {
            self.speak(&whom, Some(word));
            self.words.on.insert(uid, whom);
        }
    }

    fn own_live_claim(&self, uid: Uid) -> Option<u64> {
        let slot = self.table.find(self.own_ix, uid).map(|ix| self.table.slot(ix))?;
        slot.is_live().then_some(slot.claim)
    }

    fn speak(&mut self, whom: &Whom, word: Option<Override<'static>>) {
        match whom {
            Whom::Instance(uid) => {
                match word {
                    Some(word) => self.words.instances.insert(*uid, Arc::new(word)),
                    None => self.words.instances.remove(uid),
                };
                self.mark_urgent(*uid);
            }
            Whom::Node(name) => {
                match word {
                    Some(word) => self.nodes.words.insert(name.clone(), word),
                    None => self.nodes.words.remove(name),
                };
                self.reshow_named(name);
            }
        }
    }
}

/// Whom an override is on, and what it says.
fn read(content: &Content) -> Option<(Whom, Override<'static>)> {
    let (key, word) = content.decode::<Override<'_>>().ok()?;
    let whom = if key.id.is_empty() {
        Whom::Node(key.name.as_str().to_owned())
    } else {
        Whom::Instance(Uid(u128::from_str_radix(&key.id, 16).ok()?))
    };
    Some((whom, word.into_owned()))
}
