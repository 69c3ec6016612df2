//! The vocabulary between agents: what a datagram's or a frame's sealed body says.
//!
//! A datagram is a list of parts, so that small things share a packet. The order of variants is the wire's: new ones go last, and a
//! part or frame that does not decode drops the rest of its packet, counted.

use crate::model::command::{Command, Refusal, Reply};
use crate::model::coordinate::Coordinate;
use crate::model::names::{Datacenter, Namespace, NodeId, ServiceName};
use crate::model::record::{AsOf, Base, Batch, Epoch, Head, HeadFlags, Lineage, Record, Seq};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The largest payload of a datagram, sealed, in bytes: fits IPv6's smallest MTU with tunnels on the way.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The membership's own packet.
    Swim(Bytes),
    /// Sums over heads; equal ones mean that there is nothing to repair. Rides along with [`Part::Swim`] of ready agents.
    Roots(Roots),
    /// Changes of one origin in full. With a reach: the receiver passes them on to the members in it; without: they were asked for.
    Delta {
        reach: Option<Reach>,
        changes: Changes,
    },
    /// Heads the sender has, without the changes: who lacks them asks.
    Adverts(Vec<Advert>),
    /// Asks for what follows these heads.
    Wants(Vec<Want>),
    /// These cannot be served as batches (they lie below the sender's floor, or are too large): fetch them over a stream.
    FetchInstead(Vec<NodeId>),
    /// Cells of a sketch over the sender's heads.
    Sketch(SketchCells),
    /// The sketch of that number did not decode here: more cells, or, where `cells` were the most there are, pages of heads.
    Undecoded {
        id: u32,
        cells: u16,
    },
    /// The sender's heads with ids in `(after, until]`, all of them that are older than a few seconds.
    Heads(HeadsPage),
    /// A write that is the receiver's to decide, as its origin.
    Ask {
        id: u64,
        command: Command,
    },
    Answer {
        id: u64,
        outcome: Result<Reply, Refusal>,
    },
    /// Which origins go by these short names in the receiver's sketch of that salt? The sender knows none of them; adverts tell.
    Whose {
        salt: u64,
        origins: Vec<u64>,
    },
    /// In clear only: show that you receive what is sent to your address, by echoing this.
    Challenge(u64),
    Echo(u64),
    /// From an agent that is not ready: the sum over its heads. Where it is the receiver's too, the two are reconciled.
    Compare {
        root: u64,
        is_answer: bool,
    },
    /// An encoded part about another datacenter's origins; its lane is the hash of that datacenter's name.
    Lane {
        lane: Lane,
        part: Bytes,
    },
    /// The other datacenters the sender knows: to somebody whose sum over all of them is another.
    Datacenters(Vec<Mention>),
    /// What is known of a datacenter was dropped at that time, in Unix milliseconds: do likewise, unless it is heard.
    Forgotten {
        datacenter: Datacenter,
        at_ms: u64,
    },
    /// Between gateways: the datacenter that the sender is a gateway of; one that is no answer is answered with the receiver's.
    Gateway {
        datacenter: Datacenter,
        is_answer: bool,
    },
    /// Between gateways: a page of the pool's members; one that is no answer is answered with the receiver's.
    Members {
        page: Bytes,
        is_answer: bool,
    },
    /// Where the sender stands among round trips. Goes before the ping or ack that it comes with.
    Coordinate(Coordinate),
    /// To a gateway of the own datacenter: somebody looks this service up, which is known by its summary alone.
    Fetch {
        datacenter: Datacenter,
        namespace: Namespace,
        service: ServiceName,
    },
}

/// Which datacenter's origins something is about, where it is not the own one.
pub type Lane = [u8; 4];

/// Another datacenter, as one agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    pub datacenter: Datacenter,
    /// The sum over its heads.
    pub root: u64,
    /// Some gateway hears it now.
    pub is_heard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roots {
    /// Over the origins of the sender's datacenter.
    pub local: u64,
    /// Over all others.
    pub remote: u64,
}

/// The members between two node ids, both among them; of the ids, the highest 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub first: u32,
    pub last: u32,
}

/// A [`Batch`] as datagrams carry it. The base goes along only where it can be of use: a copy that stands at the base has a gap before
/// any later interval, and has to ask anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub origin: NodeId,
    pub epoch: Epoch,
    pub base: Option<Base>,
    pub from: Seq,
    pub to: Seq,
    pub flags: HeadFlags,
    pub as_of: AsOf,
    pub records: Vec<Record>,
}

impl From<Batch> for Changes {
    fn from(batch: Batch) -> Self {
        let Batch { origin, epoch, base, from, to, flags, as_of, records } = batch;
        Self { origin, epoch, base: (from <= base.seq).then_some(base), from, to, flags, as_of, records }
    }
}

impl Changes {
    /// The batch, if its base came along or the epoch it belongs to is the one `known` here.
    pub fn into_batch(self, known: Option<&Head>) -> Option<Batch> {
        let Self { origin, epoch, base, from, to, flags, as_of, records } = self;
        let base = base.or_else(|| known.filter(|head| head.epoch == epoch).map(|head| head.base))?;
        Some(Batch { origin, epoch, base, from, to, flags, as_of, records })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    pub origin: NodeId,
    pub epoch: Epoch,
    pub seq: Seq,
    pub flags: HeadFlags,
}

impl From<&Head> for Advert {
    fn from(head: &Head) -> Self {
        Self { origin: head.origin, epoch: head.epoch, seq: head.seq, flags: head.flags }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub origin: NodeId,
    /// What the asker has without a gap; zero and zero: nothing.
    pub epoch: Epoch,
    pub from: Seq,
    /// What it has of the base's epoch can stand under a new epoch: the server compares and sends what follows, or says to fetch.
    pub sum: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SketchCells {
    /// Chosen by the sender; parts of one sketch share it.
    pub id: u32,
    pub salt: u64,
    /// The root of the very heads that are encoded here.
    pub root: u64,
    pub part: u8,
    pub parts: u8,
    pub cells: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsPage {
    pub after: Option<NodeId>,
    /// None: to the end.
    pub until: Option<NodeId>,
    pub heads: Vec<Advert>,
}

/// What a stream says. The opener speaks first, with [`Frame::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    Hello {
        purpose: Purpose,
        /// Whether the opener has caught up with its datacenter: who is not is no authority.
        is_ready: bool,
    },
    /// A page of the membership.
    Members(Bytes),
    /// All members were sent.
    MembersEnd,
    /// Heads the sender has; the receiver answers with what it wants of them.
    Heads(Vec<Head>),
    HeadsEnd,
    /// Send these, as batches or snapshots, in this order.
    Wants(Vec<Want>),
    WantsEnd,
    /// Postcard of a [`Batch`], compressed.
    Batch(Bytes),
    /// A snapshot of one origin begins: the sender's contiguous head at its start, and the sum where it is known.
    SnapshotStart {
        head: Head,
        sum: Option<u64>,
    },
    /// Records of the snapshot that was begun, postcard of `Vec<Record>`, compressed.
    SnapshotRecords(Bytes),
    SnapshotEnd {
        records: u64,
    },
    /// Too many streams at once: try these, or later.
    Busy {
        retry_after_ms: u32,
        others: Vec<SocketAddr>,
    },
    /// All that was asked for was sent; `is_ready` is the sender's.
    Done {
        is_ready: bool,
    },
    /// The lives that the next snapshot is made of.
    Lineage(Lineage),
    /// The stream is about the origins of another datacenter; goes before [`Frame::Hello`].
    Lane(Lane),
    /// Between gateways of two datacenters.
    Link(LinkFrame),
}

/// What a link says beside snapshots and wants. Its opener sends what its own datacenter's origins wrote; the other side says what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkFrame {
    /// First from either side: the sender's datacenter, the edition of its export policy, and some of the origins that it knows there.
    Hello {
        datacenter: Datacenter,
        edition: u16,
        kin: Vec<NodeId>,
    },
    /// What the receiver of the link has of the sender's datacenter.
    Sketch(Vec<SketchCells>),
    /// The sketch did not decode: all heads; answered by wants.
    Heads(Vec<Head>),
    HeadsEnd,
    /// Postcard of `Vec<Batch>`, compressed.
    Batches(Bytes),
    /// These origins are down, or are not any more, by the sender's membership.
    Down {
        origins: Vec<NodeId>,
        is_down: bool,
    },
    /// The sum over the sender's heads, and how many origins' changes wait there. Who has another sum answers with what it has, who has
    /// the same only if it is asked.
    Compare {
        root: u64,
        backlog: u32,
        is_asking: bool,
    },
    /// The receiver has taken in so many bytes of frames since it last said so.
    Taken {
        bytes: u64,
    },
    /// Of the origins in the last sketch the sender knows nothing of these, by their short names there: its datacenter has forgotten them.
    Unknown(Vec<u64>),
    /// What is to be known of services that do not cross in full: postcard of `Vec<Said>`, compressed. A whole table comes in pieces, and
    /// counts with the last of them; else these are changes of it, or, in the middle of nothing, the word that another gateway goes on.
    Summaries {
        is_whole: bool,
        is_end: bool,
        packed: Bytes,
    },
    /// The receiver of the link asks for the instances of a service of which it was told a summary.
    Fetch {
        namespace: Namespace,
        service: ServiceName,
    },
    /// A piece of the answer: postcard of `Vec<Told>`, compressed.
    Fetched {
        namespace: Namespace,
        service: ServiceName,
        is_end: bool,
        packed: Bytes,
    },
    /// The receiver of the link, asked, has what adds up to this sum too.
    Same {
        root: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Membership both ways, then heads both ways, then what each lacks.
    Exchange,
    /// Only what is asked for by [`Frame::Wants`].
    Fetch,
}

/// Records as a snapshot's chunks hold them.
pub type SnapshotChunk = Vec<Record>;
