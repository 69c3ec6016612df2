//! What origins really wrote: the measure of what all others hold.
//!
//! An origin's word is its own when it hands it to its disk, so this reads what agents persist, and never what they send. An epoch
//! stands on its base: of the epochs before it, only what lies at or below the base's seq belongs to it. A rolled-back origin
//! thereby writes another history from there on, and what it wrote before counts only for those that still hold the old epoch.

use crate::world::HostId;
use std::collections::BTreeMap;
use tidings::engine::io::StoreOp;
use tidings::model::names::NodeId;
use tidings::model::record::{Base, Claim, Content, Epoch, Head, Record, RecordState, Seq, Uid};

/// All histories of all origins.
#[derive(Debug, Default)]
pub struct Truth {
    origins: BTreeMap<NodeId, BTreeMap<Epoch, Chapter>>,
    /// Which epoch each host writes at the moment.
    writing: BTreeMap<HostId, (NodeId, Epoch)>,
    /// The highest claim with which each key was deleted.
    deleted: BTreeMap<Uid, Claim>,
    /// Whoever wrote something about a key.
    authors: BTreeMap<Uid, Vec<NodeId>>,
    writes: u64,
}

/// One epoch of one origin.
#[derive(Debug, Default)]
struct Chapter {
    author: Option<HostId>,
    base: Base,
    written: BTreeMap<Seq, (Uid, Record)>,
    by_uid: BTreeMap<Uid, Vec<Seq>>,
    head: Seq,
    has_left: bool,
}

/// What no origin may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Two agents, or one agent twice, gave one seq two meanings.
    TwoMeanings { origin: NodeId, epoch: Epoch, seq: Seq },
    /// A live record again, with nothing changed: renewals stay where they are.
    SaysNothing { origin: NodeId, uid: Uid, seq: Seq },
}

impl Truth {
    /// What a host hands to its disk.
    ///
    /// # Errors
    /// It rewrites what it, or another host, wrote before.
    pub fn persisted(&mut self, host: HostId, ops: &[StoreOp]) -> Result<(), Wrong> {
        // Records belong to the epoch of the head they are persisted with.
        for op in ops {
            if let StoreOp::Head { head, .. } = op {
                self.writing.insert(host, (head.origin, head.epoch));
                let chapter = self.origins.entry(head.origin).or_default().entry(head.epoch).or_default();
                chapter.author = Some(host);
                chapter.base = head.base;
                chapter.head = chapter.head.max(head.seq);
                chapter.has_left = head.flags.left;
            }
        }
        // What a transaction writes over within itself nobody ever reads.
        let mut last: BTreeMap<Uid, &Record> = BTreeMap::new();
        for op in ops {
            if let StoreOp::Record { uid, record } = op {
                last.insert(*uid, record);
            }
        }
        for op in ops {
            if let StoreOp::Record { uid, record } = op
                && last.get(uid).is_some_and(|last| std::ptr::eq(*last, record))
            {
                self.record(host, *uid, record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, host: HostId, uid: Uid, record: &Record) -> Result<(), Wrong> {
        let Some(&(origin, epoch)) = self.writing.get(&host) else { return Ok(()) };
        let conflict = Wrong::TwoMeanings { origin, epoch, seq: record.seq };
        if let Some(known) = self.issued(origin, epoch, record.seq) {
            return if *known == (uid, record.clone()) { Ok(()) } else { Err(conflict) };
        }
        let repeats = self.origins.get(&origin).and_then(|epochs| epochs.get(&epoch)).and_then(|chapter| {
            let last = chapter.by_uid.get(&uid)?.last()?;
            chapter.written.get(last).filter(|(_, known)| known.state == record.state && known.claim == record.claim)
        });
        if repeats.is_some() && matches!(record.state, RecordState::Live(_)) {
            return Err(Wrong::SaysNothing { origin, uid, seq: record.seq });
        }
        self.writes += 1;
        if let RecordState::Deleted { .. } = record.state {
            let claim = self.deleted.entry(uid).or_default();
            *claim = record.claim.max(*claim);
        }
        let authors = self.authors.entry(uid).or_default();
        if !authors.contains(&origin) {
            authors.push(origin);
        }
        let chapter = self.origins.entry(origin).or_default().entry(epoch).or_default();
        chapter.written.insert(record.seq, (uid, record.clone()));
        let seqs = chapter.by_uid.entry(uid).or_default();
        seqs.push(record.seq);
        seqs.sort_unstable();
        Ok(())
    }

    /// A process starts: until it names its epoch, it writes nothing.
    pub fn started(&mut self, host: HostId) {
        self.writing.remove(&host);
    }

    /// The origin that a host writes as, and its epoch.
    pub fn writing(&self, host: HostId) -> Option<(NodeId, Epoch)> {
        self.writing.get(&host).copied()
    }

    /// Whoever wrote as this origin.
    pub fn hosts_of(&self, origin: NodeId) -> Vec<HostId> {
        let mut hosts: Vec<HostId> = self.origins.get(&origin).into_iter().flatten().filter_map(|(_, chapter)| chapter.author).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    pub fn author(&self, origin: NodeId, epoch: Epoch) -> Option<HostId> {
        self.origins.get(&origin)?.get(&epoch)?.author
    }

    /// How many records were written so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether anybody ever wrote as this origin.
    pub fn knows(&self, origin: NodeId) -> bool {
        self.origins.contains_key(&origin)
    }

    /// How many epochs an origin has had.
    pub fn lives(&self, origin: NodeId) -> usize {
        self.origins.get(&origin).map_or(0, BTreeMap::len)
    }

    /// Whether an origin ever said exactly that of a key.
    pub fn said(&self, origin: NodeId, uid: Uid, content: &Content) -> bool {
        let chapters = self.origins.get(&origin).into_iter().flat_map(BTreeMap::values);
        let mut words =
            chapters.flat_map(|chapter| chapter.by_uid.get(&uid).into_iter().flatten().filter_map(|seq| chapter.written.get(seq)));
        words.any(|(_, record)| matches!(&record.state, RecordState::Live(said) if said == content))
    }

    /// The newest epoch of an origin with its last seq.
    pub fn newest(&self, origin: NodeId) -> Option<(Epoch, Seq)> {
        let (epoch, chapter) = self.origins.get(&origin)?.last_key_value()?;
        Some((*epoch, chapter.head))
    }

    pub fn has_left(&self, origin: NodeId) -> bool {
        self.origins.get(&origin).and_then(|epochs| epochs.last_key_value()).is_some_and(|(_, chapter)| chapter.has_left)
    }

    /// Every key that anybody wrote about.
    pub fn keys(&self) -> impl Iterator<Item = Uid> {
        self.authors.keys().copied()
    }

    pub fn authors(&self, uid: Uid) -> &[NodeId] {
        self.authors.get(&uid).map_or(&[], Vec::as_slice)
    }

    /// What an origin wrote as `seq`, as its epoch `epoch` has it.
    pub fn issued(&self, origin: NodeId, epoch: Epoch, seq: Seq) -> Option<&(Uid, Record)> {
        let chapter = self.origins.get(&origin)?.get(&epoch)?;
        if let Some(found) = chapter.written.get(&seq) {
            return Some(found);
        }
        (seq <= chapter.base.seq && chapter.base.epoch < epoch).then(|| self.issued(origin, chapter.base.epoch, seq)).flatten()
    }

    /// An origin's latest word on a key up to `seq`, as its epoch `epoch` has it.
    pub fn latest(&self, origin: NodeId, epoch: Epoch, uid: Uid, seq: Seq) -> Option<&Record> {
        let chapter = self.origins.get(&origin)?.get(&epoch)?;
        let here = chapter.by_uid.get(&uid).and_then(|seqs| seqs[..seqs.partition_point(|written| *written <= seq)].last());
        if let Some(seq) = here {
            return chapter.written.get(seq).map(|(_, record)| record);
        }
        (chapter.base.epoch < epoch).then(|| self.latest(origin, chapter.base.epoch, uid, seq.min(chapter.base.seq))).flatten()
    }

    /// Keys that an origin wrote about, as its epoch `epoch` has it; some may come twice.
    fn keys_of(&self, origin: NodeId, epoch: Epoch) -> Vec<Uid> {
        let mut keys = Vec::new();
        let mut at = Some(epoch);
        while let Some(chapter) = at.and_then(|epoch| self.origins.get(&origin)?.get(&epoch)) {
            keys.extend(chapter.by_uid.keys().copied());
            at = (Some(chapter.base.epoch) < at).then_some(chapter.base.epoch);
        }
        keys
    }

    /// What an epoch of an origin, with those it stands on, wrote in `(from, to]`; older words on a key may come along.
    pub fn written(&self, origin: NodeId, epoch: Epoch, from: Seq, to: Seq) -> Vec<(Uid, &Record)> {
        let mut written = Vec::new();
        let (mut at, mut to) = (epoch, to);
        while let Some(chapter) = self.origins.get(&origin).and_then(|epochs| epochs.get(&at)) {
            let range = from.saturating_add(1)..=to.max(from.saturating_add(1));
            written.extend(chapter.written.range(range).filter(|(seq, _)| **seq <= to).map(|(_, (uid, record))| (*uid, record)));
            if chapter.base.epoch >= at || chapter.base.seq <= from {
                break;
            }
            (at, to) = (chapter.base.epoch, to.min(chapter.base.seq));
        }
        written
    }

    /// Whether somebody who stands at `head` of an origin may hold exactly `held` of it, live records only.
    ///
    /// # Errors
    /// Says what differs, as (expected, found).
    pub fn compare(&self, head: &Head, held: &BTreeMap<Uid, Record>) -> Result<(), (String, String)> {
        let origin = head.origin;
        for (uid, record) in held {
            if record.seq > head.seq {
                // Of the same epoch, and ahead of what is contiguous: true, if it was written at all.
                let issued = self.issued(origin, head.epoch, record.seq);
                if issued.is_none_or(|issued| issued.0 != *uid || issued.1 != *record) {
                    return Err((format!("what {origin:?} wrote as seq {}: {issued:?}", record.seq), format!("{uid:?} {record:?}")));
                }
                continue;
            }
            let latest = self.latest(origin, head.epoch, *uid, head.seq);
            let is_changed_later = self.latest(origin, head.epoch, *uid, Seq::MAX).is_some_and(|newest| newest.seq > head.seq);
            // A batch holds the latest word on each key only: of a key that changes later, the words before are skipped.
            let was_said = self.issued(origin, head.epoch, record.seq).is_some_and(|issued| issued.0 == *uid && issued.1 == *record);
            if latest != Some(record) && !(is_changed_later && was_said) {
                return Err((
                    format!("of {origin:?} at epoch {} seq {}, {uid:?} as {latest:?}", head.epoch, head.seq),
                    format!("{record:?}"),
                ));
            }
        }
        for uid in self.keys_of(origin, head.epoch) {
            let is_live = |record: &&Record| matches!(record.state, RecordState::Live(_));
            let Some(latest) = self.latest(origin, head.epoch, uid, head.seq).filter(is_live) else { continue };
            let is_changed_later = self.latest(origin, head.epoch, uid, Seq::MAX).is_some_and(|newest| newest.seq > head.seq);
            if !held.contains_key(&uid) && !is_changed_later {
                return Err((
                    format!("of {origin:?} at epoch {} seq {}, {uid:?} as {latest:?}", head.epoch, head.seq),
                    "nothing of that key".into(),
                ));
            }
        }
        Ok(())
    }

    /// What the newest epochs of these origins together say on a key: the highest claim, a delete before a live one, then the
    /// higher origin.
    pub fn visible(&self, uid: Uid, origins: impl Fn(NodeId) -> bool) -> Option<(NodeId, &Record)> {
        let words = self.authors(uid).iter().filter(|origin| origins(**origin)).filter_map(|&origin| {
            let (epoch, head) = self.newest(origin)?;
            self.latest(origin, epoch, uid, head).map(|record| (origin, record))
        });
        words.max_by_key(|(origin, record)| (record.claim, matches!(record.state, RecordState::Deleted { .. }), *origin))
    }

    /// All that was ever said about a key, for a report.
    pub fn story(&self, uid: Uid) -> String {
        let mut words = Vec::new();
        for origin in self.authors(uid) {
            for (epoch, chapter) in self.origins.get(origin).into_iter().flatten() {
                let base = (chapter.base.epoch, chapter.base.seq);
                for record in
                    chapter.by_uid.get(&uid).into_iter().flatten().filter_map(|seq| chapter.written.get(seq)).map(|(_, record)| record)
                {
                    let what = if matches!(record.state, RecordState::Live(_)) { "live" } else { "deleted" };
                    words.push(format!("{origin:?} epoch {epoch} on {base:?} seq {} claim {} {what}", record.seq, record.claim));
                }
            }
        }
        words.join("; ")
    }

    /// The highest claim with which anybody deleted a key.
    pub fn deleted(&self, uid: Uid) -> Option<Claim> {
        self.deleted.get(&uid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::model::record::{Content, HeadFlags, Kind};

    const A: NodeId = NodeId(1);
    const X: Uid = Uid(10);
    const Y: Uid = Uid(11);

    fn head(epoch: Epoch, seq: Seq, base: (Epoch, Seq)) -> Head {
        Head { origin: A, epoch, seq, base: Base { epoch: base.0, seq: base.1, sum: 0 }, flags: HeadFlags::default() }
    }

    fn live(seq: Seq, text: &str) -> Record {
        Record { seq, claim: seq * 10, state: RecordState::Live(Content::from_bytes(text.as_bytes())) }
    }

    fn gone(seq: Seq, uid: Uid) -> Record {
        Record { seq, claim: seq * 10, state: RecordState::Deleted { uid, kind: Kind::INSTANCE } }
    }

    fn write(truth: &mut Truth, head: Head, uid: Uid, record: Record) -> Result<(), Wrong> {
        truth.persisted(HostId(0), &[StoreOp::Record { uid, record }, StoreOp::Head { head, sum: 0 }])
    }

    /// X written as 1 and again as 3, Y as 2; then an epoch on the base of seq 2 in which Y is deleted as 3.
    fn rolled_back() -> Truth {
        let mut truth = Truth::default();
        write(&mut truth, head(5, 1, (0, 0)), X, live(1, "x1")).unwrap();
        write(&mut truth, head(5, 2, (0, 0)), Y, live(2, "y2")).unwrap();
        write(&mut truth, head(5, 3, (0, 0)), X, live(3, "x3")).unwrap();
        write(&mut truth, head(6, 3, (5, 2)), Y, gone(3, Y)).unwrap();
        truth
    }

    #[test]
    fn what_lies_above_the_base_is_no_part_of_the_next_epoch() {
        let truth = rolled_back();
        assert_eq!(truth.latest(A, 5, X, 9), Some(&live(3, "x3")));
        assert_eq!(truth.latest(A, 6, X, 9), Some(&live(1, "x1")));
        assert_eq!(truth.latest(A, 6, Y, 2), Some(&live(2, "y2")));
        assert_eq!(truth.latest(A, 6, Y, 3), Some(&gone(3, Y)));
        assert_eq!(truth.newest(A), Some((6, 3)));
    }

    #[test]
    fn comparison_lets_every_prefix_pass_and_a_newer_word_above_the_head() {
        let truth = rolled_back();
        let held = |pairs: &[(Uid, Record)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        truth.compare(&head(5, 2, (0, 0)), &held(&[(X, live(1, "x1")), (Y, live(2, "y2"))])).unwrap();
        truth.compare(&head(5, 2, (0, 0)), &held(&[(X, live(3, "x3")), (Y, live(2, "y2"))])).unwrap();
        truth.compare(&head(5, 2, (0, 0)), &held(&[(Y, live(2, "y2"))])).expect("X is changed later: it may be between the two");
        truth.compare(&head(6, 3, (5, 2)), &held(&[(X, live(1, "x1"))])).unwrap();
        let mut truth = rolled_back();
        write(&mut truth, head(5, 4, (0, 0)), X, live(4, "x4")).unwrap();
        truth
            .compare(&head(5, 3, (0, 0)), &held(&[(X, live(1, "x1")), (Y, live(2, "y2"))]))
            .expect("X as 3 is skipped: it changes again as 4");
    }

    #[test]
    fn comparison_bites_on_what_is_missing_stale_resurrected_or_invented() {
        let truth = rolled_back();
        let bites = |at: Head, pairs: &[(Uid, Record)]| truth.compare(&at, &pairs.iter().cloned().collect()).is_err();
        assert!(bites(head(5, 2, (0, 0)), &[(X, live(1, "x1"))]), "Y is missing");
        assert!(bites(head(5, 3, (0, 0)), &[(X, live(1, "x1")), (Y, live(2, "y2"))]), "X is stale");
        assert!(bites(head(6, 3, (5, 2)), &[(X, live(1, "x1")), (Y, live(2, "y2"))]), "Y is deleted");
        assert!(bites(head(6, 2, (5, 2)), &[(X, live(3, "x3")), (Y, live(2, "y2"))]), "X as 3 belongs to the old epoch");
        assert!(bites(head(5, 2, (0, 0)), &[(X, live(1, "z")), (Y, live(2, "y2"))]), "nobody wrote that");
    }

    #[test]
    fn one_seq_of_one_epoch_has_one_meaning() {
        let mut truth = rolled_back();
        assert!(write(&mut truth, head(6, 3, (5, 2)), Y, gone(3, Y)).is_ok(), "persisted twice is harmless");
        assert_eq!(write(&mut truth, head(6, 3, (5, 2)), X, live(3, "other")), Err(Wrong::TwoMeanings { origin: A, epoch: 6, seq: 3 }));
    }

    #[test]
    fn a_record_that_changes_nothing_is_wrong_and_one_with_a_new_claim_is_not() {
        let mut truth = rolled_back();
        let again = Record { claim: 30, ..live(4, "x3") };
        assert_eq!(write(&mut truth, head(5, 4, (0, 0)), X, again), Err(Wrong::SaysNothing { origin: A, uid: X, seq: 4 }));
        assert!(write(&mut truth, head(5, 4, (0, 0)), X, live(4, "x3")).is_ok());
    }

    #[test]
    fn the_highest_claim_is_visible_and_a_delete_wins_a_tie() {
        let mut truth = rolled_back();
        let b = Head { origin: NodeId(2), ..head(7, 1, (0, 0)) };
        let record = Record { claim: 30, ..live(1, "from b") };
        truth.persisted(HostId(1), &[StoreOp::Head { head: b, sum: 0 }, StoreOp::Record { uid: Y, record: record.clone() }]).unwrap();
        assert_eq!(truth.visible(Y, |_| true), Some((A, &gone(3, Y))), "an equal claim: the delete wins");
        assert_eq!(truth.visible(Y, |origin| origin != A), Some((NodeId(2), &record)));
        assert_eq!(truth.deleted(Y), Some(30));
    }
}
