//! User events: what is said to all agents at once. Each origin has a ring of slots, its event n in slot n mod 64, so that events need
//! no deletes and take no more room than the ring; readers see the newest of all origins.

use super::commands::encode_within;
use super::{Catalog, Urgency, claims};
use crate::model::command::{Refusal, Reply, WriteResult, Written};
use crate::model::event::UserEvent;
use crate::model::limits;
use crate::model::record::{Claim, Key, Kind, RecordState, Scope, Uid};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::FiredEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Events of one origin that are kept.
const SLOTS: u64 = 64;
/// Events that readers see.
const SHOWN_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Events {
    /// All that are known, in their order: claim, then uuid, then key.
    all: BTreeMap<(Claim, u128, Uid), Arc<FiredEvent>>,
    /// Where each key's event stands in that order.
    order: BTreeMap<Uid, (Claim, u128, Uid)>,
    dirty: BTreeSet<Uid>,
}

impl Events {
    pub fn is_behind(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub fn mark(&mut self, uid: Uid) {
        self.dirty.insert(uid);
    }
}

impl Catalog {
    /// Says something to all agents, in the place of what this one said 64 events ago.
    pub(super) fn fire_event(&mut self, now: Now, mut event: UserEvent) -> Result<Reply, Refusal> {
        let lengths = [
            (event.payload.len(), limits::EVENT_PAYLOAD_BYTES_MAX),
            (event.name.len(), limits::EVENT_NAME_BYTES_MAX),
            (event.node_filter.len(), limits::EVENT_FILTER_BYTES_MAX),
            (event.service_filter.len(), limits::EVENT_FILTER_BYTES_MAX),
            (event.tag_filter.len(), limits::EVENT_FILTER_BYTES_MAX),
        ];
        if let Some((bytes, bytes_max)) = lengths.into_iter().find(|(bytes, bytes_max)| bytes > bytes_max) {
            return Err(Refusal::TooLarge { bytes, bytes_max });
        }
        event.fired_at = now.wall_ms;
        // The slot of this agent's oldest event, or the first that is free.
        let slots = (0..SLOTS).map(|slot| (self.own_event_claim(slot), slot));
        let (_, slot) = slots.min().expect("there are slots");
        let newest = (0..SLOTS).filter_map(|slot| self.own_event_claim(slot)).max();
        let key = slot_key(slot);
        let uid = key.uid(self.me);
        let content = encode_within(&key, &event, limits::RECORD_BYTES_MAX)?;
        let claim = newest.map_or(now.wall_ms, |newest| now.wall_ms.max(newest.saturating_add(1)));
        self.write(now, uid, claim, RecordState::Live(content), Urgency::Registration);
        Ok(Reply::Written(Written { uid, result: WriteResult::Created, revision: 0 }))
    }

    fn own_event_claim(&self, slot: u64) -> Option<Claim> {
        let ix = self.table.find(self.own_ix, slot_key(slot).uid(self.me))?;
        Some(self.table.slot(ix).claim)
    }

    /// Shows the newest events, where any of them changed.
    pub(super) fn fold_events(&mut self) {
        if self.events.dirty.is_empty() {
            return;
        }
        while let Some(uid) = self.events.dirty.pop_first() {
            if let Some(place) = self.events.order.remove(&uid) {
                self.events.all.remove(&place);
            }
            let Some(slot) = claims::visible(&self.table, uid) else { continue };
            let Some(Ok((_, event))) = slot.content().map(|content| content.decode::<UserEvent>()) else {
                self.counters.undecodable += 1;
                continue;
            };
            let place = (slot.claim, event.uuid, uid);
            self.events.order.insert(uid, place);
            self.events.all.insert(place, Arc::new(FiredEvent { claim: slot.claim, event }));
        }
        let newest = self.events.all.values().rev().take(SHOWN_MAX).cloned();
        let mut shown: Vec<Arc<FiredEvent>> = newest.collect();
        shown.reverse();
        self.editor().set_user_events(shown);
    }
}

fn slot_key(slot: u64) -> Key<'static> {
    Key { kind: Kind::EVENT, scope: Scope::Agent, namespace: Text::default(), name: Text::default(), id: Text::from(slot.to_string()) }
}
