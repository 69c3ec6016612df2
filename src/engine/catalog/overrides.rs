//! An operator's words, and the agent's own node record: what the catalog says beside instances.

use super::commands::encode;
use super::{Catalog, Urgency, claims};
use crate::model::command::{OverrideTarget, Refusal, Reply, WriteResult, Written};
use crate::model::node::Override;
use crate::model::record::{Key, Kind, RecordState, Scope};
use crate::model::text::Text;
use crate::model::time::Now;

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

    /// Says of this agent's host what there is to say, unless the record says it already.
    pub(super) fn announce_node(&mut self, now: Now) {
        let key = Key {
            kind: Kind::NODE,
            scope: Scope::Agent,
            namespace: Text::default(),
            name: Text::from(self.host.name.as_str().to_owned()),
            id: Text::default(),
        };
        let uid = key.uid(self.me);
        let Ok(content) = encode(&key, &self.host.info) else { return };
        if self.own_content(uid) == Some(&content) {
            return;
        }
        // The claim is the name's age: an older one keeps a name that two agents have.
        let claim = self.table.find(self.own_ix, uid).map(|ix| self.table.slot(ix)).filter(|slot| slot.is_live());
        let claim = claim.map_or(now.wall_ms, |slot| slot.claim);
        self.write(now, uid, claim, RecordState::Live(content), Urgency::Metadata);
    }
}
