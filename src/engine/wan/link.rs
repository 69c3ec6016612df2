//! One link: a stream on which a gateway of one datacenter sends what its origins write to a gateway of another.
//!
//! ```text
//!   opener (sends)                         other side (takes in)
//!     Hello ─────────────────────────────────►
//!     ◄──────────────────── Hello, Sketch of what it has
//!     Batches, snapshots, Down ──────────────►
//!     ◄─────────────────────────────── Taken, Wants
//!     Compare, every ten seconds ────────────►
//!     ◄─ Sketch where sums differ, or Same if asked
//! ```
//!
//! The sender remembers of each origin how far the other side is; what moved is sent from there on, as long as no more than a window
//! of bytes is under way. Of what another gateway sends it learns by comparing: before it sends in that one's stead it asks, lest it
//! say again all that the other said.

use super::crossing::Crossing;
use super::fetching::{ANSWER_QUEUE_MAX, Arriving};
use super::pace::{Hurry, Place};
use super::summaries::{Gathering, yielded};
use crate::engine::catalog::{ORIGINS_MAX, Staged};
use crate::engine::spread::pack;
use crate::engine::wire::packet::{Frame, LinkFrame, Want};
use crate::model::names::{Datacenter, NodeId};
use crate::model::record::{Batch, Epoch, Head, RecordState, Seq};
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Origins that one link may say are down: all that a datacenter may have here.
const DOWN_MAX: usize = ORIGINS_MAX;
/// Batches of one frame, in bytes before compression.
const FRAME_BATCH_BYTES: usize = 48 * 1_024;
/// What one record may take: a batch of it alone fits a frame.
const RECORD_BATCH_BYTES: usize = 100 * 1_024;

/// The other end is suspected for so long, and nothing came meanwhile: the link is given up, in milliseconds. A stream takes far longer
/// to break by itself, and to go on after a cut; until then nothing would be told as old.
const DOUBT_MS: u64 = 3_000;

/// When something came on a link last, and since when its other end is suspected.
#[derive(Debug, Clone, Copy)]
pub struct LinkLife {
    heard_ns: u64,
    doubted_ns: Option<u64>,
}

impl LinkLife {
    fn new(now: Now) -> Self {
        Self { heard_ns: now.ns, doubted_ns: None }
    }

    pub fn heard(&mut self, now: Now) {
        (self.heard_ns, self.doubted_ns) = (now.ns, None);
    }

    /// Whether the link is to be given up: it was silent for too long, or while the pool suspects who is at the other end.
    pub fn is_over(&mut self, now: Now, silence_ms: u64, is_suspected: bool) -> bool {
        if !is_suspected {
            self.doubted_ns = None;
        } else if self.doubted_ns.is_none() {
            self.doubted_ns = Some(now.ns);
        }
        let is_past = |since: u64, ms: u64| now.ns.saturating_sub(since) >= ms * 1_000_000;
        is_past(self.heard_ns, silence_ms) || self.doubted_ns.is_some_and(|since| is_past(since, DOUBT_MS))
    }
}

/// A link this gateway opened: it sends.
#[derive(Debug)]
pub struct Outgoing {
    pub to: NodeId,
    pub datacenter: Datacenter,
    pub is_greeted: bool,
    pub life: LinkLife,
    pub compare_ns: u64,
    /// Sketches that came on it.
    pub sketches: u32,
    /// The other side is to say first what it has: until then no changes go.
    asks: bool,
    /// With which sum it was asked, and what that was the sum of.
    asked_with: Option<(u64, Vec<Head>)>,
    cursors: BTreeMap<NodeId, Place>,
    /// Marks of origins given up that were sent.
    marked: BTreeSet<NodeId>,
    dirty: BTreeSet<NodeId>,
    /// Of these, what goes before all others: something of them is gone.
    hurried: BTreeSet<NodeId>,
    /// To be sent whoever is first in rank: the other side said that it lacks them.
    asked: BTreeSet<NodeId>,
    /// Whose snapshots are in the queue, or were until it is empty.
    snapshots: BTreeSet<NodeId>,
    /// Who was said to be down; none before that was said at all.
    down: Option<BTreeSet<NodeId>>,
    /// All summaries were said on it: from then on, changes are.
    has_summaries: bool,
    /// The other side takes what was said on it for how things are.
    was_source: bool,
    /// Whether it was said that there is no more to come for now.
    pub is_caught_up: bool,
    queue: VecDeque<Frame>,
    sent: u64,
    taken: u64,
}

impl Outgoing {
    pub fn new(now: Now, to: NodeId, datacenter: Datacenter, reconcile_ms: u64) -> Self {
        Self {
            to,
            datacenter,
            is_greeted: false,
            life: LinkLife::new(now),
            compare_ns: now.after_ms(reconcile_ms),
            sketches: 0,
            asks: true,
            asked_with: None,
            cursors: BTreeMap::new(),
            marked: BTreeSet::new(),
            dirty: BTreeSet::new(),
            hurried: BTreeSet::new(),
            asked: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            down: None,
            has_summaries: false,
            was_source: false,
            is_caught_up: false,
            queue: VecDeque::new(),
            sent: 0,
            taken: 0,
        }
    }

    pub fn touch(&mut self, origin: NodeId, hurry: Hurry) {
        self.dirty.insert(origin);
        if hurry == Hurry::AtOnce {
            self.hurried.insert(origin);
        }
    }

    pub fn touch_all(&mut self, origins: impl IntoIterator<Item = NodeId>) {
        self.dirty.extend(origins);
    }

    /// What another gateway sent falls to this one: the other side is asked how far that came, as soon as nothing waits for it.
    pub fn take_over(&mut self) {
        self.asks = true;
        self.is_caught_up = false;
    }

    /// The sum over these heads goes to the other side: whether it is to say so if it has the same.
    pub fn asks_with(&mut self, root: u64, heads: &[Head]) -> bool {
        self.asked_with = self.asks.then(|| (root, heads.to_vec()));
        self.asks
    }

    /// The other side, asked, has what this was the sum of.
    pub fn has_asked(&mut self, root: u64) {
        if let Some((_, heads)) = self.asked_with.take_if(|(asked, _)| *asked == root) {
            self.has(heads);
        }
    }

    /// The other side has these heads, but for what is said to be lacking right after.
    pub fn has(&mut self, heads: impl IntoIterator<Item = Head>) {
        self.asks = false;
        self.cursors.extend(heads.into_iter().map(|head| (head.origin, Place::from(&head))));
    }

    /// It holds an origin that was given up here.
    pub fn lacks_mark(&mut self, origin: NodeId) {
        self.marked.remove(&origin);
        self.lacks(origin, None, true);
    }

    /// It has an origin up to here only; none: not at all, or of another life.
    pub fn lacks(&mut self, origin: NodeId, place: Option<(Epoch, Seq)>, is_asked: bool) {
        match place {
            Some((epoch, seq)) => self.cursors.insert(origin, Place { epoch, seq, has_left: false }),
            None => self.cursors.remove(&origin),
        };
        if is_asked {
            self.asked.insert(origin);
        }
        self.dirty.insert(origin);
    }

    pub fn wants(&mut self, wants: &[Want]) {
        for want in wants {
            self.lacks(want.origin, (want.epoch > 0).then_some((want.epoch, want.from)), true);
        }
    }

    pub fn taken(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes).min(self.sent);
    }

    /// Says summaries: all, or what changed. While something waits they do too, and are then said as a whole, so that they never pile up.
    pub fn say_summaries(&mut self, whole: impl FnOnce() -> Vec<Frame>, changes: Vec<Frame>) {
        if self.queue.is_empty() {
            self.was_source = true;
            self.queue.extend(if self.has_summaries { changes } else { whole() });
            self.has_summaries = true;
        } else if !changes.is_empty() {
            self.has_summaries = false;
        }
    }

    /// From now on another gateway says summaries: what was said here is no word on how things are.
    pub fn yield_summaries(&mut self) {
        self.has_summaries = false;
        if std::mem::take(&mut self.was_source) {
            self.queue.push_back(yielded());
        }
    }

    /// Says what was asked for; none of it where much waits already.
    ///
    /// # Errors
    /// Much waits already.
    pub fn answer(&mut self, frames: Vec<Frame>) -> Result<(), Busy> {
        if self.queue.len() > ANSWER_QUEUE_MAX {
            return Err(Busy);
        }
        self.queue.extend(frames);
        Ok(())
    }

    fn is_full(&self, window: u64) -> bool {
        self.sent - self.taken >= window
    }

    /// What waits for the other side. What moved just now waits for company only.
    pub fn backlog(&self, window: u64) -> u32 {
        (self.queue.len() + if self.is_full(window) { self.dirty.len() } else { 0 }) as u32
    }

    /// Whether something waits that may be sent.
    pub fn is_due(&self, window: u64) -> bool {
        let has_changes = !self.asks && !self.dirty.is_empty();
        self.is_greeted && (has_changes || !self.queue.is_empty()) && !self.is_full(window)
    }

    /// Says who went down, and who came back, since it was last said.
    pub fn say_down(&mut self, down: &BTreeSet<NodeId>) -> Vec<Frame> {
        let say = |origins, is_down| Frame::Link(LinkFrame::Down { origins, is_down });
        let Some(said) = self.down.replace(down.clone()) else {
            // The first word is said whoever it names: before it the other side believes what it knows.
            return vec![say(down.iter().copied().collect(), true)];
        };
        let gone: Vec<NodeId> = down.difference(&said).copied().collect();
        let back: Vec<NodeId> = said.difference(down).copied().collect();
        let said = [(gone, true), (back, false)];
        said.into_iter().filter(|(origins, _)| !origins.is_empty()).map(|(origins, is_down)| say(origins, is_down)).collect()
    }

    /// The next frames, as far as the window goes: what is hurried first, and after it the rest, where all is to be said.
    pub fn speak(&mut self, of: Of, crossing: &Crossing<'_>, is_mine: impl Fn(NodeId) -> bool, window: u64) -> Vec<Frame> {
        let mut frames = self.speak_hurried(crossing, &is_mine, window);
        while matches!(of, Of::All) && !self.is_full(window) {
            if let Some(frame) = self.queue.pop_front() {
                self.sent += weight(&frame);
                frames.push(frame);
            } else if let Some(batches) = self.gather(crossing, &is_mine, Of::All) {
                self.sent += weight(&batches);
                frames.push(batches);
            } else if self.queue.is_empty() {
                break;
            }
        }
        if self.queue.is_empty() {
            self.snapshots.clear();
        }
        frames
    }

    /// What goes before all others, as far as the window goes: also before what waits already.
    fn speak_hurried(&mut self, crossing: &Crossing<'_>, is_mine: &impl Fn(NodeId) -> bool, window: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        // What follows on a snapshot that waits goes after it.
        self.hurried.retain(|origin| self.dirty.contains(origin) && !self.snapshots.contains(origin));
        while !self.asks && !self.hurried.is_empty() && !self.is_full(window) {
            if let Some(batches) = self.gather(crossing, is_mine, Of::Hurried) {
                self.sent += weight(&batches);
                frames.push(batches);
            }
        }
        frames
    }

    /// The next batches, as one frame. Where a snapshot is due, it goes into the queue.
    fn gather(&mut self, crossing: &Crossing<'_>, is_mine: &impl Fn(NodeId) -> bool, of: Of) -> Option<Frame> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut bytes = 0;
        while !self.asks && bytes < FRAME_BATCH_BYTES {
            let waiting = match of {
                Of::Hurried => &self.hurried,
                Of::All => &self.dirty,
            };
            let Some(origin) = waiting.first().copied() else { break };
            if !self.asked.contains(&origin) && !is_mine(origin) {
                self.done_with(origin);
                continue;
            }
            match self.next_of(crossing, origin) {
                Next::Batch(batch) => {
                    bytes += batch.records.iter().map(|record| 64 + content_bytes(&record.state)).sum::<usize>() + 96;
                    batches.push(batch);
                }
                Next::Snapshot(frames) => {
                    self.queue.extend(frames);
                    self.snapshots.insert(origin);
                    self.hurried.remove(&origin);
                    break;
                }
                Next::Nothing => {
                    self.done_with(origin);
                    self.asked.remove(&origin);
                }
            }
        }
        // Deregistrations first, also of what is repaired: what is gone must not be handed out any longer than it takes to say so.
        batches.sort_by_key(|batch| !batch.records.iter().any(|record| matches!(record.state, RecordState::Deleted { .. })));
        (!batches.is_empty()).then(|| Frame::Link(LinkFrame::Batches(pack(&batches))))
    }

    fn done_with(&mut self, origin: NodeId) {
        self.dirty.remove(&origin);
        self.hurried.remove(&origin);
    }

    fn next_of(&mut self, crossing: &Crossing<'_>, origin: NodeId) -> Next {
        let Some(head) = crossing.head(origin) else {
            // Given up over here: the mark is all there is to say, once.
            let mark = crossing.batch_after(origin, 0, RECORD_BATCH_BYTES).filter(|batch| batch.flags.reaped.is_some());
            self.cursors.remove(&origin);
            return mark.filter(|_| self.marked.insert(origin)).map_or(Next::Nothing, Next::Batch);
        };
        self.marked.remove(&origin);
        let cursor = self.cursors.get(&origin).copied().filter(|cursor| cursor.epoch == head.epoch);
        // Another gateway may have told of more than is known here, or held back here.
        if cursor.is_some_and(|cursor| cursor.seq > head.seq || cursor == Place::from(&head)) {
            return Next::Nothing;
        }
        let batch = cursor.and_then(|cursor| crossing.batch_after(origin, cursor.seq, RECORD_BATCH_BYTES));
        if let Some(batch) = batch {
            let is_end = batch.to >= head.seq;
            let next = if is_end { Place::from(&head) } else { Place { epoch: head.epoch, seq: batch.to, has_left: false } };
            self.cursors.insert(origin, next);
            return Next::Batch(batch);
        }
        match crossing.snapshot(origin) {
            Some((head, frames)) => {
                self.cursors.insert(origin, Place::from(&head));
                Next::Snapshot(frames)
            }
            None => Next::Nothing,
        }
    }
}

/// Of which origins something is to be said.
#[derive(Clone, Copy)]
pub enum Of {
    Hurried,
    All,
}

/// Too much waits for a link.
#[derive(Debug)]
pub struct Busy;

enum Next {
    Batch(Batch),
    Snapshot(Vec<Frame>),
    Nothing,
}

/// A link another datacenter's gateway opened: it sends, this one takes in.
#[derive(Debug)]
pub struct Incoming {
    pub from: Option<NodeId>,
    pub addr: SocketAddr,
    /// What its certificate says, where one was asked for.
    pub certified: Option<Datacenter>,
    /// Once it said hello.
    pub datacenter: Option<Datacenter>,
    /// Which origins of its datacenter it named then.
    pub kin: Vec<NodeId>,
    pub is_fresh: bool,
    /// Origins whose changes wait over there, as it last said.
    pub backlog: u32,
    pub life: LinkLife,
    /// Whom it holds down; none before it said so.
    pub down: Option<BTreeSet<NodeId>>,
    pub receiving: Option<(Option<Staged>, u64)>,
    pub wants: Vec<Want>,
    /// The salt of the sketch that was sent last.
    pub salt: u64,
    pub summaries: Gathering,
    /// An answer, as far as it came.
    pub answer: Option<Arriving>,
    /// Origins whose heads came, where all of them come.
    pub told: BTreeSet<NodeId>,
    /// Since when, in nanoseconds, the other side knows nothing of which origins; none before it said so.
    unknown: Option<BTreeMap<NodeId, u64>>,
    untold: u64,
}

impl Incoming {
    pub fn new(now: Now, addr: SocketAddr, certified: Option<Datacenter>) -> Self {
        Self {
            from: None,
            addr,
            certified,
            datacenter: None,
            kin: Vec::new(),
            is_fresh: false,
            backlog: 0,
            life: LinkLife::new(now),
            down: None,
            receiving: None,
            wants: Vec::new(),
            salt: 0,
            summaries: Gathering::default(),
            answer: None,
            told: BTreeSet::new(),
            unknown: None,
            untold: 0,
        }
    }

    /// The other side knows nothing of these origins, and something of all others.
    pub fn hear_unknown(&mut self, now: Now, origins: impl IntoIterator<Item = NodeId>) {
        let before = self.unknown.take().unwrap_or_default();
        let since = |origin: NodeId| (origin, before.get(&origin).copied().unwrap_or(now.ns));
        self.unknown = Some(origins.into_iter().map(since).collect());
    }

    /// The other side knows something of an origin. Says whether that is news.
    pub fn hear_known(&mut self, origin: NodeId) -> bool {
        self.unknown.as_mut().is_some_and(|unknown| unknown.remove(&origin).is_some())
    }

    /// Origins that the other side has known nothing of for so long.
    pub fn unknown_for(&self, now: Now, ms: u64) -> BTreeSet<NodeId> {
        let is_over = |since: &u64| now.ns.saturating_sub(*since) >= ms * 1_000_000;
        self.unknown.iter().flatten().filter(|(_, since)| is_over(since)).map(|(origin, _)| *origin).collect()
    }

    /// For whom the other side does not vouch: who is down there, and who is not known there. None before it said who is down.
    pub fn not_vouched_for(&self) -> Option<BTreeSet<NodeId>> {
        let unknown = self.unknown.iter().flatten().map(|(origin, _)| *origin);
        self.down.as_ref().map(|down| down.iter().copied().chain(unknown).collect())
    }

    /// Takes in who went down over there, or came back.
    ///
    /// # Errors
    /// More are down than a datacenter may have.
    pub fn hear_down(&mut self, origins: Vec<NodeId>, is_down: bool) -> Result<(), &'static str> {
        let down = self.down.get_or_insert_default();
        for origin in origins {
            if !is_down {
                down.remove(&origin);
            } else if down.len() < DOWN_MAX || down.contains(&origin) {
                down.insert(origin);
            } else {
                return Err("link_down_size");
            }
        }
        Ok(())
    }

    /// Counts a frame as taken in; the word on it, when it is time for one.
    pub fn take(&mut self, bytes: u64, is_time: bool) -> Option<Frame> {
        self.untold += bytes;
        (is_time || self.untold >= TAKEN_BYTES).then(|| Frame::Link(LinkFrame::Taken { bytes: std::mem::take(&mut self.untold) }))
    }
}

/// The sender hears of so many bytes at once.
const TAKEN_BYTES: u64 = 128 * 1_024;

/// What a frame counts in the window.
pub fn weight(frame: &Frame) -> u64 {
    match frame {
        Frame::Link(LinkFrame::Batches(bytes) | LinkFrame::Summaries { packed: bytes, .. } | LinkFrame::Fetched { packed: bytes, .. })
        | Frame::SnapshotRecords(bytes) => bytes.len() as u64,
        Frame::SnapshotStart { .. } | Frame::SnapshotEnd { .. } => 64,
        _ => 0,
    }
}

fn content_bytes(state: &RecordState) -> usize {
    match state {
        RecordState::Live(content) => content.as_bytes().len(),
        RecordState::Deleted { .. } => 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_says_ever_more_are_down_is_refused_at_the_limit() {
        let mut link = Incoming::new(Now { ns: 0, wall_ms: 0 }, "192.0.2.1:7977".parse().unwrap(), None);
        let all: Vec<NodeId> = (0..DOWN_MAX as u128).map(NodeId).collect();
        assert_eq!(link.hear_down(all.clone(), true), Ok(()));
        assert_eq!(link.hear_down(all, true), Ok(()), "who is down already takes no room");
        assert_eq!(link.hear_down(vec![NodeId(u128::MAX)], true), Err("link_down_size"));
        assert_eq!(link.hear_down(vec![NodeId(0)], false), Ok(()));
        assert_eq!(link.hear_down(vec![NodeId(u128::MAX)], true), Ok(()));
        assert_eq!(link.down.map(|down| down.len()), Some(DOWN_MAX));
    }
}
