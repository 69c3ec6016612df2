//! Input and output: the whole vocabulary of the engine's boundary.
//!
//! The driver hands in one [`Input`], drains [`Output`]s until there is none, and sleeps until the deadline or the next input.

use super::catalog::copy::Copied;
use crate::model::command::{Command, Refusal, Reply};
use crate::model::names::{Datacenter, NodeId};
use crate::model::record::{Epoch, Head, Lineage, Record, Uid};
use crate::view::View;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the driver calls a stream; it never uses one twice. Those the engine opens are odd, those the driver accepts even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Ties a reply to its command; chosen by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Numbers what is to be made durable, rising by one with each [`Output::Persist`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark(pub u64);

#[derive(Debug)]
pub enum Input {
    Datagram {
        from: SocketAddr,
        bytes: Bytes,
    },
    /// A datagram on a gateway's WAN socket.
    WanDatagram {
        from: SocketAddr,
        bytes: Bytes,
    },
    /// A stream that a peer opened to a gateway's WAN port. Where certificates are asked for, `datacenter` is the one its names; the engine
    /// closes the stream if the peer turns out to be of another.
    WanStreamAccepted {
        stream: StreamId,
        peer: SocketAddr,
        datacenter: Option<Datacenter>,
    },
    /// A stream that a peer opened.
    StreamAccepted {
        stream: StreamId,
        peer: SocketAddr,
    },
    /// A stream that the engine asked for stands.
    StreamConnected {
        stream: StreamId,
    },
    /// Bytes of a stream, cut anywhere; the engine finds the frames.
    StreamBytes {
        stream: StreamId,
        bytes: Bytes,
    },
    /// All that was handed out to this stream has been written: there is room for more.
    StreamDrained {
        stream: StreamId,
    },
    /// It ended, broke or could not be opened.
    StreamClosed {
        stream: StreamId,
    },
    Command {
        token: Token,
        command: Command,
    },
    /// All up to and with this mark is durable.
    Durable {
        mark: Mark,
    },
    /// The store failed and what was behind this mark is not durable: writes are refused until a later mark succeeds.
    NotDurable {
        mark: Mark,
        why: String,
    },
    /// Time passed.
    Tick,
}

#[derive(Debug)]
pub enum Output {
    Datagram {
        to: SocketAddr,
        bytes: Bytes,
    },
    OpenStream {
        stream: StreamId,
        to: SocketAddr,
    },
    /// To be sent from a gateway's WAN socket.
    WanDatagram {
        to: SocketAddr,
        bytes: Bytes,
    },
    /// Like [`Output::OpenStream`], to another datacenter's gateway: `datacenter` is the name its certificate must have. Bytes, drains and
    /// ends of WAN streams are the same as of others.
    OpenWanStream {
        stream: StreamId,
        to: SocketAddr,
        datacenter: Datacenter,
    },
    StreamBytes {
        stream: StreamId,
        bytes: Bytes,
    },
    /// After what was handed out before is written.
    CloseStream {
        stream: StreamId,
    },
    Reply {
        token: Token,
        outcome: Result<Reply, Refusal>,
    },
    /// Readers see this from now on.
    View(Arc<View>),
    /// To be made durable in order; answered by [`Input::Durable`]. An empty list is answered as well.
    Persist {
        mark: Mark,
        ops: Vec<StoreOp>,
    },
    /// The agent has left and everything that had to be said is said.
    Stopped,
}

/// One change of what a restart must find again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// The agent's own latest word on a key; a tombstone too while it is kept.
    Record { uid: Uid, record: Record },
    /// A tombstone that may be forgotten.
    Forget { uid: Uid },
    /// Where the agent's own history stands, with the sum over its live records.
    Head { head: Head, sum: u64 },
    /// The lives before this one that the agent's own history is made of.
    Lineage(Lineage),
    /// The agent gave its node id up to a twin and goes on as another.
    Node { node: NodeId },
    /// Where members were last met; replaces the list.
    Members(Vec<SocketAddr>),
    /// The installed gossip keys, the one in use first; replaces the list.
    Keys(Vec<[u8; 32]>),
    /// Revisions up to here may have been shown to readers.
    Revision(u64),
}

/// What a restart found: the fold of all [`StoreOp`]s that became durable. Default: a new data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    pub node: Option<NodeId>,
    pub head: Option<(Head, u64)>,
    pub lineage: Lineage,
    /// In ascending order of uid.
    pub records: Vec<(Uid, Record)>,
    pub members: Vec<SocketAddr>,
    pub keys: Vec<[u8; 32]>,
    pub revision: u64,
    /// What the last life had copied of other origins: no [`StoreOp`], and it may be old or missing.
    pub copies: Vec<Copied>,
}

impl Restored {
    /// Folds one operation in: the store and the simulator's disk both do it by this rule.
    pub fn apply(&mut self, op: StoreOp) {
        match op {
            StoreOp::Record { uid, record } => match self.records.binary_search_by_key(&uid, |(uid, _)| *uid) {
                Ok(at) => self.records[at].1 = record,
                Err(at) => self.records.insert(at, (uid, record)),
            },
            StoreOp::Forget { uid } => self.records.retain(|(known, _)| *known != uid),
            StoreOp::Head { head, sum } => self.head = Some((head, sum)),
            StoreOp::Lineage(lineage) => self.lineage = lineage,
            StoreOp::Node { node } => self.node = Some(node),
            StoreOp::Members(members) => self.members = members,
            StoreOp::Keys(keys) => self.keys = keys,
            StoreOp::Revision(revision) => self.revision = revision,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.head.map_or(0, |(head, _)| head.epoch)
    }
}
