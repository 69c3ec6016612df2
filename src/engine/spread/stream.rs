//! One stream with a peer: what was said, what is still to be said, what is being received (protocol.md §4, Bulk).
//!
//! Both ends say the same things in the same order, the opener first:
//!
//! ```text
//!   exchange:  Hello │ Members.. MembersEnd │ Heads.. HeadsEnd │ Wants.. WantsEnd │ (Batch | Lineage Snapshot..).. Done
//!   fetch:     Hello │                        opener: Wants.. WantsEnd  ─►  accepter: (Batch | Lineage Snapshot..).. Done
//! ```
//!
//! Wants wait for the peer's HeadsEnd; records for the peer's wants. A turn makes a bounded number of frames, and stops while as many
//! bytes are unwritten as a stream may hold.

use super::Context;
use super::config::SpreadConfig;
use crate::engine::catalog::{Catalog, Chunk, SnapshotReader, Staged, Supply};
use crate::engine::wire::compress;
use crate::engine::wire::packet::{Frame, Purpose, Want};
use crate::model::names::NodeId;
use crate::model::record::{Batch, Head, Lineage, Record};
use crate::model::time::Now;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Heads or wants in one frame: some 64 bytes each.
const HEADS_A_FRAME: usize = 512;

/// Bytes of membership in one frame.
const MEMBERS_PAGE_BYTES: usize = 32 << 10;

/// Wants of one peer; it cannot ask for more origins than there are members.
pub const WANTS_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Opener,
    Accepter,
}

/// What is said next.
#[derive(Debug)]
enum Step {
    /// The accepter waits for the opener's first word.
    Listen,
    Hello,
    Members(VecDeque<Bytes>),
    Heads {
        after: Option<NodeId>,
    },
    /// The wants, once the peer's heads are all here.
    Wants,
    /// What the peer wants, as it comes in.
    Serve,
    /// The snapshot whose lineage was said begins.
    Begin,
    /// Nothing is left to say.
    Said,
}

/// A snapshot on its way out.
#[derive(Debug)]
struct Sending {
    reader: SnapshotReader,
    records: u64,
}

/// A snapshot on its way in; nothing is staged of one that is not wanted.
#[derive(Debug)]
pub struct Receiving {
    pub staged: Option<Staged>,
    pub records: u64,
}

#[derive(Debug)]
pub struct Stream {
    pub peer: SocketAddr,
    /// Who speaks there, once it has, or whom we called.
    pub node: Option<NodeId>,
    pub side: Side,
    pub purpose: Purpose,
    step: Step,
    /// What this end asks for.
    pub wants: VecDeque<Want>,
    /// The origins it was opened to fetch.
    pub fetched: Vec<NodeId>,
    heads_ended: bool,
    /// This end was ready before it named its first head. Who becomes ready later has named what it knew as a newcomer.
    was_ready: bool,
    /// What the peer asks for.
    serving: VecDeque<Want>,
    wants_ended: bool,
    sending: Option<Sending>,
    pub receiving: Option<Receiving>,
    /// What the next snapshot is made of.
    pub lineage: Lineage,
    /// The peer said all it had to say, and whether it was ready when it began.
    pub heard_done: Option<bool>,
    /// Bytes handed out and not yet written.
    unwritten: usize,
    /// Something moved last.
    pub moved_ns: u64,
    /// It was opened, or a frame came, last.
    pub heard_ns: u64,
}

impl Stream {
    pub fn open(now: Now, peer: SocketAddr, node: Option<NodeId>, purpose: Purpose) -> Self {
        Self { step: Step::Hello, ..Self::new(now, peer, node, Side::Opener, purpose) }
    }

    pub fn accept(now: Now, peer: SocketAddr) -> Self {
        Self::new(now, peer, None, Side::Accepter, Purpose::Exchange)
    }

    fn new(now: Now, peer: SocketAddr, node: Option<NodeId>, side: Side, purpose: Purpose) -> Self {
        Self {
            peer,
            node,
            side,
            purpose,
            step: Step::Listen,
            wants: VecDeque::new(),
            fetched: Vec::new(),
            heads_ended: false,
            was_ready: false,
            serving: VecDeque::new(),
            wants_ended: false,
            sending: None,
            receiving: None,
            lineage: Lineage::default(),
            heard_done: None,
            unwritten: 0,
            moved_ns: now.ns,
            heard_ns: now.ns,
        }
    }

    /// The opener said what it is here for.
    pub fn greeted(&mut self, ctx: &Context<'_>, purpose: Purpose) {
        self.purpose = purpose;
        self.step = match purpose {
            Purpose::Exchange => members_step(ctx),
            Purpose::Fetch => Step::Serve,
        };
    }

    pub fn is_greeted(&self) -> bool {
        !matches!(self.step, Step::Listen)
    }

    pub fn peer_heads_ended(&mut self) {
        self.heads_ended = true;
    }

    /// The peer asks for these; false where it asks for more than anybody can.
    pub fn peer_wants(&mut self, wants: Vec<Want>) -> bool {
        self.serving.extend(wants);
        self.serving.len() <= WANTS_MAX
    }

    pub fn peer_wants_ended(&mut self) {
        self.wants_ended = true;
    }

    pub fn drained(&mut self, now: Now) {
        self.unwritten = 0;
        self.moved_ns = now.ns;
    }

    /// Both ends said all they had to say.
    pub fn is_complete(&self) -> bool {
        let is_heard = self.heard_done.is_some() || self.side == Side::Accepter && self.purpose == Purpose::Fetch;
        matches!(self.step, Step::Said) && is_heard
    }

    /// Whether a turn would make a frame now.
    pub fn can_speak(&self, config: &SpreadConfig) -> bool {
        self.unwritten < config.stream_bytes_max
            && match &self.step {
                Step::Listen | Step::Said => false,
                Step::Hello | Step::Members(_) | Step::Heads { .. } => true,
                Step::Wants => self.heads_ended || self.purpose == Purpose::Fetch,
                Step::Begin => true,
                Step::Serve => self.sending.is_some() || !self.serving.is_empty() || self.wants_ended,
            }
    }

    /// The next frame; none where the peer has to speak first, or nothing is left.
    pub fn speak(&mut self, now: Now, ctx: &mut Context<'_>, is_ready: bool, config: &SpreadConfig) -> Option<Frame> {
        while self.can_speak(config) {
            if let Some((frame, bytes)) = self.step(ctx, is_ready, config) {
                self.unwritten += bytes;
                self.moved_ns = now.ns;
                return Some(frame);
            }
        }
        None
    }

    /// One step, with the frame it makes and about how large that is.
    fn step(&mut self, ctx: &mut Context<'_>, is_ready: bool, config: &SpreadConfig) -> Option<(Frame, usize)> {
        match &mut self.step {
            Step::Listen | Step::Said => None,
            Step::Hello => {
                self.step = match self.purpose {
                    Purpose::Exchange => members_step(ctx),
                    Purpose::Fetch => Step::Wants,
                };
                Some((Frame::Hello { purpose: self.purpose, is_ready }, 0))
            }
            Step::Members(pages) => match pages.pop_front() {
                Some(page) => {
                    let bytes = page.len();
                    Some((Frame::Members(page), bytes))
                }
                None => {
                    self.was_ready = is_ready;
                    self.step = Step::Heads { after: None };
                    Some((Frame::MembersEnd, 0))
                }
            },
            Step::Heads { after } => {
                let heads: Vec<Head> = ctx.catalog.heads().filter(|head| Some(head.origin) > *after).take(HEADS_A_FRAME).collect();
                let Some(last) = heads.last() else {
                    self.step = Step::Wants;
                    return Some((Frame::HeadsEnd, 0));
                };
                *after = Some(last.origin);
                Some((Frame::Heads(heads), HEADS_A_FRAME * 64))
            }
            Step::Wants => {
                let count = self.wants.len().min(HEADS_A_FRAME);
                if count == 0 {
                    // Who fetches has nothing to give.
                    self.step = if self.purpose == Purpose::Fetch { Step::Said } else { Step::Serve };
                    return Some((Frame::WantsEnd, 0));
                }
                Some((Frame::Wants(self.wants.drain(..count).collect()), count * 48))
            }
            Step::Serve => self.serve(ctx.catalog, config.chunk_bytes),
            Step::Begin => {
                self.step = Step::Serve;
                let reader = &self.sending.as_ref()?.reader;
                Some((Frame::SnapshotStart { head: reader.head, sum: reader.sum }, 0))
            }
        }
    }

    fn serve(&mut self, catalog: &mut Catalog, chunk_bytes: usize) -> Option<(Frame, usize)> {
        if self.sending.is_some() {
            return self.snapshot_turn(catalog, chunk_bytes);
        }
        let Some(mut want) = self.serving.pop_front() else {
            self.step = Step::Said;
            return Some((Frame::Done { is_ready: self.was_ready }, 0));
        };
        match catalog.batch_after(want.origin, want.epoch, want.from, want.sum, chunk_bytes) {
            Supply::Nothing | Supply::Unknown => None,
            Supply::Batch(batch) => {
                if catalog.head(batch.origin).is_some_and(|head| head.epoch == batch.epoch && head.seq > batch.to) {
                    (want.epoch, want.from) = (batch.epoch, batch.to);
                    self.serving.push_front(want);
                }
                let packed = pack(&batch);
                let bytes = packed.len();
                Some((Frame::Batch(packed), bytes))
            }
            Supply::Snapshot => {
                let reader = catalog.snapshot(want.origin)?;
                catalog.hold_tombstones(want.origin, reader.head.seq);
                let lineage = reader.lineage.clone();
                self.sending = Some(Sending { reader, records: 0 });
                self.step = Step::Begin;
                Some((Frame::Lineage(lineage), 0))
            }
        }
    }

    fn snapshot_turn(&mut self, catalog: &mut Catalog, chunk_bytes: usize) -> Option<(Frame, usize)> {
        let sending = self.sending.as_mut()?;
        match sending.reader.next(catalog, chunk_bytes) {
            Chunk::Records(records) => {
                sending.records += records.len() as u64;
                let packed = pack(&records);
                let bytes = packed.len();
                Some((Frame::SnapshotRecords(packed), bytes))
            }
            Chunk::End => {
                let records = sending.records;
                self.end_snapshot(catalog);
                Some((Frame::SnapshotEnd { records }, 0))
            }
            Chunk::Broken => {
                self.end_snapshot(catalog);
                // A count that no snapshot has: the receiver throws away what it staged.
                Some((Frame::SnapshotEnd { records: u64::MAX }, 0))
            }
        }
    }

    /// Lets go of the tombstones that a snapshot holds; also where the stream ends early.
    pub fn end_snapshot(&mut self, catalog: &mut Catalog) {
        if let Some(sending) = self.sending.take() {
            catalog.release_tombstones(sending.reader.head.origin, sending.reader.head.seq);
        }
    }
}

fn members_step(ctx: &Context<'_>) -> Step {
    Step::Members(ctx.members.state_pages(MEMBERS_PAGE_BYTES).into())
}

pub fn pack(value: &impl serde::Serialize) -> Bytes {
    compress::pack(&postcard::to_stdvec(value).expect("records are plain data, and memory is at hand")).into()
}

/// A batch as a frame holds it.
pub fn unpack_batch(packed: &[u8]) -> Option<Batch> {
    postcard::from_bytes(&compress::unpack(packed).ok()?).ok()
}

/// Batches as a frame of a link holds them.
pub fn unpack_batches(packed: &[u8]) -> Option<Vec<Batch>> {
    postcard::from_bytes(&compress::unpack(packed).ok()?).ok()
}

/// Records as a frame holds them.
pub fn unpack_records(packed: &[u8]) -> Option<Vec<Record>> {
    postcard::from_bytes(&compress::unpack(packed).ok()?).ok()
}
