//! History as it is told: heads, batches, and what of them answers a peer's question (protocol §2, intervals and deletes).

use super::origin::Origin;
use super::table::{OriginIx, SlotIx};
use super::{Catalog, epochs};
use crate::engine::wire::packet::{Advert, Want};
use crate::model::names::NodeId;
use crate::model::record::{AsOf, Batch, Claim, Epoch, Head, HeadFlags, Record, RecordState, Seq, Uid};
use crate::model::time::Now;

/// What a batch's own fields take at most when encoded.
const BATCH_BYTES: usize = 96;
/// What a record takes beside its content: seq, claim, lengths, and of a tombstone the uid.
const RECORD_BYTES: usize = 32;

/// What an origin's history holds for somebody who has part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// The asker has as much, or more.
    Nothing,
    Batch(Batch),
    /// Only as a whole; also where the next record alone is larger than was allowed.
    Snapshot,
    /// Nothing is known of the origin, or nothing that may be told.
    Unknown,
}

/// What a peer's head means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Equal,
    /// The peer lacks something.
    Ahead,
    /// This agent does: ask for it.
    Behind(Want),
    /// What the peer holds is not to be taken; the origin must hear what is held here, and will answer.
    TellOrigin(Advert),
}

impl Catalog {
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The head of any origin that is known, told to others or not.
    pub fn head(&self, origin: NodeId) -> Option<Head> {
        self.known(origin).map(Origin::head)
    }

    /// The heads that are told to others, by origin.
    pub fn heads(&self) -> impl Iterator<Item = Head> {
        self.table.origins().filter(|(_, origin)| origin.is_advertised()).map(|(_, origin)| origin.head())
    }

    /// The sum over the heads that are told: equal at two agents, nothing is to be repaired between them.
    pub fn root(&self) -> u64 {
        self.table.root()
    }

    /// The sum over an origin's live records.
    pub fn sum(&self, origin: NodeId) -> u64 {
        self.known(origin).map_or(0, |origin| origin.sum)
    }

    /// What is held of an origin, tombstones included, in order of seq: for whoever compares it with what the origin wrote.
    pub fn records(&self, origin: NodeId) -> impl Iterator<Item = (Uid, Record)> + '_ {
        let slots = self.known(origin).into_iter().flat_map(|origin| origin.order.slots());
        slots.map(|ix| (self.table.slot(ix).uid(), self.table.slot(ix).record()))
    }

    /// What is held of an origin behind `after`, tombstones included, in order of seq.
    pub fn records_after(&self, origin: NodeId, after: Seq) -> impl Iterator<Item = Record> + '_ {
        let places = self.known(origin).into_iter().flat_map(move |origin| origin.order.behind(after));
        places.map(|(_, ix)| self.table.slot(ix).record())
    }

    /// The claim of an origin's latest word on a key.
    pub fn claim(&self, origin: NodeId, uid: Uid) -> Option<Claim> {
        let ix = self.table.find(self.table.origin_ix(origin)?, uid)?;
        Some(self.table.slot(ix).claim)
    }

    /// How long an origin's head is what it is, in milliseconds.
    pub fn head_age_ms(&self, origin: NodeId, now: Now) -> u64 {
        self.known(origin).map_or(0, |origin| now.ns.saturating_sub(origin.changed_ns) / 1_000_000)
    }

    /// What to ask of an origin.
    pub fn want(&self, origin: NodeId) -> Want {
        match self.known(origin) {
            // What is held is wrong somewhere, or little more than a mark, or lacks what an earlier life wrote: only the whole helps.
            Some(known) if !known.is_disputed && known.flags.reaped.is_none() && origin != self.me => {
                Want { origin, epoch: known.epoch, from: known.seq, sum: known.sum }
            }
            _ => Want { origin, epoch: 0, from: 0, sum: 0 },
        }
    }

    /// A peer says how far it knows an origin. What it says of this agent itself may start a new epoch.
    pub fn hear(&mut self, now: Now, advert: &Advert) -> Heard {
        if advert.epoch.max(advert.seq) > self.believed_of(advert.origin) {
            self.counters.batches_malformed += 1;
            return Heard::Equal;
        }
        if advert.origin == self.me {
            return self.hear_of_self(now, advert);
        }
        let Some(ix) = self.table.origin_ix(advert.origin) else { return Heard::Behind(self.want(advert.origin)) };
        if advert.flags.reaped.is_some() {
            return self.hear_mark(now, ix, advert);
        }
        let origin = self.table.origin(ix);
        let (theirs, ours) = ((advert.epoch, advert.seq), (origin.epoch, origin.seq));
        if origin.flags.reaped.is_some() && advert.epoch <= origin.epoch {
            if self.config.is_import {
                self.contested.insert(advert.origin);
            }
            // It was given up and is back: it has to outlive the mark. Who else tells of it is told of the mark.
            return if origin.life.is_alive() { Heard::TellOrigin(origin.advert()) } else { Heard::Ahead };
        }
        match theirs.cmp(&ours) {
            std::cmp::Ordering::Less => Heard::Ahead,
            std::cmp::Ordering::Greater => Heard::Behind(self.want(advert.origin)),
            std::cmp::Ordering::Equal if origin.is_disputed || advert.flags.left && !origin.flags.left => {
                Heard::Behind(self.want(advert.origin))
            }
            std::cmp::Ordering::Equal if origin.flags.left && !advert.flags.left => Heard::Ahead,
            std::cmp::Ordering::Equal => Heard::Equal,
        }
    }

    /// What of an origin follows `from` of `epoch`, for an asker whose live records have the sum `sum`; at most about `bytes_max` encoded.
    pub fn batch_after(&self, origin: NodeId, epoch: Epoch, from: Seq, sum: u64, bytes_max: usize) -> Supply {
        let Some(known) = self.known(origin).filter(|origin| origin.epoch > 0 && origin.life.is_named) else { return Supply::Unknown };
        if (epoch, from) > (known.epoch, known.seq) {
            return Supply::Nothing;
        }
        if known.flags.reaped.is_some() {
            // The mark is all there is to say.
            return Supply::Batch(self.cut(known, known.seq, known.seq, usize::MAX).expect("an empty batch fits"));
        }
        let asked = Head { origin, epoch, seq: from, base: known.base, flags: HeadFlags::default() };
        let continues = epoch == known.epoch || epochs::is_base(&known.base, &asked, sum) || (epoch, from) == (0, 0);
        if !continues || from < known.floor {
            return Supply::Snapshot;
        }
        if epoch == known.epoch && from == known.seq && known.flags == HeadFlags::default() {
            return Supply::Nothing;
        }
        self.cut(known, from, known.seq, bytes_max).map_or(Supply::Snapshot, Supply::Batch)
    }

    /// Exactly `(from, to]` of an origin, if all of it is known here and it fits: what a delta carries on.
    pub fn batch_of(&self, origin: NodeId, from: Seq, to: Seq, bytes_max: usize) -> Option<Batch> {
        let known = self.known(origin).filter(|origin| origin.is_advertised())?;
        let is_whole = from >= known.floor && to <= known.seq || known.held.covers(from, to);
        self.cut(known, from, to, bytes_max).filter(|batch| is_whole && batch.to == to)
    }

    pub(super) fn known(&self, origin: NodeId) -> Option<&Origin> {
        self.table.origin_ix(origin).map(|ix| self.table.origin(ix))
    }

    /// A batch from `from` on, as far as it fits, at most to `to`; none where not even its first record does.
    fn cut(&self, origin: &Origin, from: Seq, to: Seq, bytes_max: usize) -> Option<Batch> {
        let mut batch = Batch {
            origin: origin.id,
            epoch: origin.epoch,
            base: origin.base,
            from,
            to,
            flags: origin.flags,
            as_of: AsOf::Later(to),
            records: Vec::new(),
        };
        let mut bytes = BATCH_BYTES;
        for (_, ix) in origin.order.behind(from).take_while(|(seq, _)| *seq <= to) {
            let record = self.table.slot(ix).record();
            bytes = bytes.saturating_add(encoded_bytes(&record));
            if bytes > bytes_max {
                batch.to = batch.records.last()?.seq;
                break;
            }
            batch.records.push(record);
        }
        batch.as_of = match origin.exact_sum().filter(|_| batch.to == origin.seq) {
            Some(sum) => AsOf::Newest { sum },
            None => AsOf::Later(origin.known_to()),
        };
        Some(batch)
    }

    /// Uid and service of a record, as its bytes or, of a tombstone, what is known of its key have it. The service is acquired.
    pub(super) fn place(&mut self, origin: NodeId, record: &Record) -> (Uid, super::services::ServiceIx) {
        use super::services::ServiceIx;
        match &record.state {
            RecordState::Deleted { uid, .. } => (*uid, ServiceIx::NONE),
            RecordState::Live(content) => match content.key() {
                Ok(key) if key.kind == crate::model::record::Kind::INSTANCE => {
                    let service = self.table.services.intern(&key.namespace, &key.name);
                    if service == ServiceIx::NONE {
                        self.counters.undecodable += 1;
                    }
                    (key.uid(origin), service)
                }
                Ok(key) => (key.uid(origin), ServiceIx::NONE),
                Err(_) => {
                    self.counters.undecodable += 1;
                    (uid_of_unreadable(content.as_bytes(), origin), ServiceIx::NONE)
                }
            },
        }
    }

    pub(super) fn slots_of(&self, ix: OriginIx) -> Vec<SlotIx> {
        self.table.origin(ix).order.slots().collect()
    }
}

/// What a record takes in a batch, a little more rather than less.
pub(super) fn encoded_bytes(record: &Record) -> usize {
    match &record.state {
        RecordState::Live(content) => content.as_bytes().len() + RECORD_BYTES,
        RecordState::Deleted { .. } => RECORD_BYTES + 16,
    }
}

/// Bytes without a readable key are kept and passed on under a name of their own.
fn uid_of_unreadable(bytes: &[u8], origin: NodeId) -> Uid {
    use siphasher::sip128::{Hasher128, SipHasher24};
    use std::hash::Hasher;
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x756e_7265_6164_6162);
    hasher.write(&origin.0.to_le_bytes());
    hasher.write(bytes);
    Uid(hasher.finish128().as_u128())
}
