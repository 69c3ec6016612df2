//! All records of all origins: by origin and seq, as history is told, and by key, as origins compete for it.
//!
//! A record costs a slot of 64 bytes, its place in its origin's order, and four bytes and a half in the index of keys. Origins that
//! hold one key are chained through their slots. Which of them is visible is [`super::claims`]' to say.

use super::origin::Origin;
use super::services::{ServiceIx, Services};
use crate::engine::sabotage::{Broken, Rule};
use crate::model::names::NodeId;
use crate::model::record::{Claim, Content, Kind, Record, RecordState, Seq, Uid, sum_term};
use hashbrown::HashTable;
use std::collections::{BTreeMap, BTreeSet};

/// An origin's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OriginIx(pub u32);

/// A record's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotIx(pub u32);

impl SlotIx {
    const NONE: SlotIx = SlotIx(u32::MAX);
}

/// The latest word of one origin on one key.
#[derive(Debug)]
pub(super) struct Slot {
    /// In two halves: a `u128` would be aligned to 16 bytes, and cost as much.
    uid: [u64; 2],
    pub seq: Seq,
    pub claim: Claim,
    pub state: State,
    pub origin: OriginIx,
    pub service: ServiceIx,
    /// The next slot of the same key; of a vacant slot the next vacant one.
    next: SlotIx,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Live(Content),
    Deleted(Kind),
}

impl Slot {
    pub fn uid(&self) -> Uid {
        Uid(u128::from(self.uid[0]) << 64 | u128::from(self.uid[1]))
    }

    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    pub fn content(&self) -> Option<&Content> {
        match &self.state {
            State::Live(content) => Some(content),
            State::Deleted(_) => None,
        }
    }

    /// What this key is about; none where the key does not decode.
    pub fn kind(&self) -> Option<Kind> {
        match &self.state {
            State::Live(content) => content.key().ok().map(|key| key.kind),
            State::Deleted(kind) => Some(*kind),
        }
    }

    pub fn record(&self) -> Record {
        let state = match &self.state {
            State::Live(content) => RecordState::Live(content.clone()),
            State::Deleted(kind) => RecordState::Deleted { uid: self.uid(), kind: *kind },
        };
        Record { seq: self.seq, claim: self.claim, state }
    }
}

/// What a record took the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Put {
    /// The same or a later word on the key was there.
    Known,
    /// That seq is another key's already: an origin never says so, only bytes that are wrong do.
    Conflict,
    /// Nothing of this origin was known under the key.
    New,
    Replaced(State),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub broken: Broken,
    pub services: Services,
    origins: Vec<Option<Origin>>,
    by_id: BTreeMap<NodeId, OriginIx>,
    slots: Vec<Slot>,
    vacant: Option<SlotIx>,
    /// The first slot of each key.
    by_uid: HashTable<SlotIx>,
    /// Origins whose number of instances changed since it was asked for.
    recounted: BTreeSet<NodeId>,
    /// Over the heads of advertised origins.
    root: u64,
    /// Records that are live, of all origins.
    live: u64,
}

impl Table {
    pub fn origin_ix(&self, id: NodeId) -> Option<OriginIx> {
        self.by_id.get(&id).copied()
    }

    pub fn origin(&self, ix: OriginIx) -> &Origin {
        self.origins[ix.0 as usize].as_ref().expect("an index is handed out for as long as its origin is known")
    }

    /// Everything of an origin but its head, on which the root depends: see [`Table::change_head`].
    pub fn origin_mut(&mut self, ix: OriginIx) -> &mut Origin {
        self.origins[ix.0 as usize].as_mut().expect("an index is handed out for as long as its origin is known")
    }

    /// In ascending order of id.
    pub fn origins(&self) -> impl Iterator<Item = (OriginIx, &Origin)> {
        self.by_id.values().map(|ix| (*ix, self.origin(*ix)))
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    pub fn live(&self) -> u64 {
        self.live
    }

    pub fn add_origin(&mut self, origin: Origin) -> OriginIx {
        let id = origin.id;
        debug_assert!(!self.by_id.contains_key(&id), "an origin is known once");
        let ix = match self.origins.iter().position(Option::is_none) {
            Some(at) => {
                self.origins[at] = Some(origin);
                OriginIx(at as u32)
            }
            None => {
                self.origins.push(Some(origin));
                OriginIx(self.origins.len() as u32 - 1)
            }
        };
        self.by_id.insert(id, ix);
        self.root = self.root.wrapping_add(self.origin(ix).root_term());
        ix
    }

    /// Forgets an origin; its records must have gone before.
    pub fn remove_origin(&mut self, ix: OriginIx) {
        debug_assert!(self.origin(ix).order.is_empty(), "records of a forgotten origin would have no owner");
        if let Some(origin) = self.origins[ix.0 as usize].take() {
            self.root = self.root.wrapping_sub(origin.root_term());
            self.by_id.remove(&origin.id);
        }
    }

    /// The one door for changes of what the root is made of.
    pub fn change_head(&mut self, ix: OriginIx, change: impl FnOnce(&mut Origin)) {
        let before = self.origin(ix).root_term();
        change(self.origin_mut(ix));
        let after = self.origin(ix).root_term();
        self.root = self.root.wrapping_sub(before).wrapping_add(after);
    }

    pub fn slot(&self, ix: SlotIx) -> &Slot {
        &self.slots[ix.0 as usize]
    }

    /// The slot at `ix`, if it still holds what was written as `seq`: slots are used again.
    pub fn slot_at(&self, ix: SlotIx, seq: Seq) -> Option<&Slot> {
        let slot = self.slots.get(ix.0 as usize)?;
        let origin = self.origins.get(slot.origin.0 as usize)?.as_ref()?;
        (slot.seq == seq && origin.order.get(seq) == Some(ix)).then_some(slot)
    }

    /// All that origins say on a key.
    pub fn chain(&self, uid: Uid) -> impl Iterator<Item = SlotIx> + '_ {
        let mut at = self.first(uid).unwrap_or(SlotIx::NONE);
        std::iter::from_fn(move || {
            let here = at;
            (here != SlotIx::NONE).then(|| {
                at = self.slot(here).next;
                here
            })
        })
    }

    /// What one origin says on a key.
    pub fn find(&self, origin: OriginIx, uid: Uid) -> Option<SlotIx> {
        self.chain(uid).find(|ix| self.slot(*ix).origin == origin)
    }

    /// Takes in an origin's word, if it is its latest on the key.
    pub fn put(&mut self, origin: OriginIx, uid: Uid, service: ServiceIx, record: Record) -> (Put, SlotIx) {
        let Record { seq, claim, state } = record;
        if let Some(ix) = self.origin(origin).order.get(seq) {
            let put = if self.slot(ix).uid() == uid { Put::Known } else { Put::Conflict };
            return (put, ix);
        }
        let state = match state {
            RecordState::Live(content) => State::Live(content),
            RecordState::Deleted { kind, .. } => State::Deleted(kind),
        };
        let (ix, put) = match self.find(origin, uid) {
            Some(ix) if self.slot(ix).seq >= seq && !self.broken.is(Rule::LastToArrive) => return (Put::Known, ix),
            Some(ix) => {
                self.unlist(ix);
                let slot = &mut self.slots[ix.0 as usize];
                // A tombstone names no service; the record before it did.
                let service = if service == ServiceIx::NONE { slot.service } else { service };
                let before = std::mem::replace(&mut slot.state, state);
                (slot.seq, slot.claim) = (seq, claim);
                let old_service = std::mem::replace(&mut slot.service, service);
                self.services.acquire(service);
                self.services.release(old_service);
                (ix, Put::Replaced(before))
            }
            None => {
                self.services.acquire(service);
                let uid = [(uid.0 >> 64) as u64, uid.0 as u64];
                (self.insert(Slot { uid, seq, claim, state, origin, service, next: SlotIx::NONE }), Put::New)
            }
        };
        self.list(ix);
        (put, ix)
    }

    /// Makes an origin's live word on a key its delete, with another claim: of an origin that says nothing more itself.
    pub fn end(&mut self, ix: SlotIx, kind: Kind, claim: Claim) {
        self.unlist(ix);
        let slot = &mut self.slots[ix.0 as usize];
        (slot.state, slot.claim) = (State::Deleted(kind), claim);
        self.list(ix);
    }

    /// Forgets an origin's word on a key, without a trace.
    pub fn remove(&mut self, ix: SlotIx) -> State {
        self.unlist(ix);
        let (uid, next) = (self.slot(ix).uid(), self.slot(ix).next);
        let first = self.first(uid).expect("a listed slot is found by its key");
        if first == ix {
            self.replace_first(uid, next);
        } else {
            let mut at = first;
            while self.slot(at).next != ix {
                at = self.slot(at).next;
            }
            self.slots[at.0 as usize].next = next;
        }
        let vacant = self.vacant.replace(ix).unwrap_or(SlotIx::NONE);
        let slot = &mut self.slots[ix.0 as usize];
        slot.next = vacant;
        let service = std::mem::replace(&mut slot.service, ServiceIx::NONE);
        let state = std::mem::replace(&mut slot.state, State::Deleted(Kind::BLOB));
        self.services.release(service);
        state
    }

    /// The origins with another number of instances than when this was asked last.
    pub fn take_recounted(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.recounted)
    }

    /// Enters a slot into its origin's order and sum.
    fn list(&mut self, ix: SlotIx) {
        let slot = &self.slots[ix.0 as usize];
        let origin = self.origins[slot.origin.0 as usize].as_mut().expect("a slot's origin is known");
        let displaced = origin.order.insert(slot.seq, ix);
        debug_assert!(displaced.is_none(), "one seq is one record");
        if slot.is_live() {
            origin.sum = origin.sum.wrapping_add(sum_term(slot.uid(), slot.seq));
            origin.live += 1;
            if slot.service != ServiceIx::NONE {
                origin.instances += 1;
                self.recounted.insert(origin.id);
            }
            self.live += 1;
        }
    }

    fn unlist(&mut self, ix: SlotIx) {
        let slot = &self.slots[ix.0 as usize];
        let origin = self.origins[slot.origin.0 as usize].as_mut().expect("a slot's origin is known");
        origin.order.remove(slot.seq);
        if slot.is_live() {
            origin.sum = origin.sum.wrapping_sub(sum_term(slot.uid(), slot.seq));
            origin.live -= 1;
            if slot.service != ServiceIx::NONE {
                origin.instances -= 1;
                self.recounted.insert(origin.id);
            }
            self.live -= 1;
        }
    }

    fn first(&self, uid: Uid) -> Option<SlotIx> {
        self.by_uid.find(bucket(uid), |ix| self.slot(*ix).uid() == uid).copied()
    }

    fn replace_first(&mut self, uid: Uid, next: SlotIx) {
        let slots = &self.slots;
        let entry = self.by_uid.find_entry(bucket(uid), |ix| slots[ix.0 as usize].uid() == uid);
        if let Ok(mut entry) = entry {
            if next == SlotIx::NONE {
                entry.remove();
            } else {
                *entry.get_mut() = next;
            }
        }
    }

    /// Puts a slot at the front of its key's chain.
    fn insert(&mut self, mut slot: Slot) -> SlotIx {
        let uid = slot.uid();
        let first = self.first(uid);
        slot.next = first.unwrap_or(SlotIx::NONE);
        let ix = match self.vacant {
            Some(ix) => {
                let next = self.slot(ix).next;
                self.vacant = (next != SlotIx::NONE).then_some(next);
                self.slots[ix.0 as usize] = slot;
                ix
            }
            None => {
                self.slots.push(slot);
                SlotIx(self.slots.len() as u32 - 1)
            }
        };
        if first.is_some() {
            self.replace_first(uid, ix);
        } else {
            let slots = &self.slots;
            self.by_uid.insert_unique(bucket(uid), ix, |ix| bucket(slots[ix.0 as usize].uid()));
        }
        ix
    }
}

/// A uid is a hash already.
fn bucket(uid: Uid) -> u64 {
    (uid.0 >> 64) as u64 ^ uid.0 as u64
}
