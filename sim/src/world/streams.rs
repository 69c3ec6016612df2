//! Streams: ordered bytes both ways, with delay and bandwidth; they stall where packets are cut and break when that lasts.
//!
//! Each direction is a line of chunks. One event stands for each chunk and takes whatever is first in line when its time comes, so
//! that order holds also where a chunk was held up.

use super::{Door, HostId};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use tidings::engine::io::StreamId;

/// A stream whose bytes get no further for this long is given up by both ends.
pub const STALL_NS_MAX: u64 = 5_000_000_000;
/// How soon a held-up segment is sent again.
pub const RETRY_NS: u64 = 200_000_000;
/// What one stream carries, in bytes a second: a gigabit, shared with others.
pub const BYTES_A_SECOND: u64 = 60_000_000;
/// Bytes arrive in pieces, cut anywhere: the largest, and the smallest that a slow stream has.
const SEGMENT_BYTES_MAX: u64 = 64 * 1_024;
const SEGMENT_BYTES_MIN: u64 = 1_460;

#[derive(Debug)]
pub enum Chunk {
    Connected,
    Bytes(Bytes),
    Closed,
}

#[derive(Debug)]
pub struct End {
    pub host: HostId,
    /// Which process of that host.
    pub boot: u32,
    /// What that process calls it; none before the other side has accepted.
    pub id: Option<StreamId>,
    pub is_closed: bool,
    /// On the way to this end.
    line: VecDeque<Chunk>,
    /// When the last one in line arrives.
    last_at: u64,
    /// When all that this end wrote has left it.
    pub written_at: u64,
    pub is_drain_due: bool,
    /// Since when nothing got through to this end.
    stalled_since: Option<u64>,
}

#[derive(Debug)]
pub struct Connection {
    /// Where it comes to.
    pub door: Door,
    pub ends: [End; 2],
    pub dialled_at: u64,
}

/// All connections of the world.
#[derive(Debug)]
pub struct Streams {
    /// What each stream carries in one direction.
    pub bytes_a_second: u64,
    connections: BTreeMap<u64, Connection>,
    by_end: BTreeMap<(HostId, u32, StreamId), (u64, usize)>,
    dialled: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self { bytes_a_second: BYTES_A_SECOND, connections: BTreeMap::new(), by_end: BTreeMap::new(), dialled: 0 }
    }
}

impl Streams {
    /// How many bytes travel together: about a fiftieth of a second's.
    pub fn segment_bytes(&self) -> usize {
        (self.bytes_a_second / 50).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX) as usize
    }

    /// A connection that is being tried; its far end has no name yet.
    pub fn dial(&mut self, at: u64, from: (HostId, u32, StreamId), to: HostId, door: Door) -> u64 {
        self.dialled += 1;
        let end = |host, boot, id| End {
            host,
            boot,
            id,
            is_closed: false,
            line: VecDeque::new(),
            last_at: 0,
            written_at: 0,
            is_drain_due: false,
            stalled_since: None,
        };
        let (host, boot, id) = from;
        self.connections.insert(self.dialled, Connection { door, ends: [end(host, boot, Some(id)), end(to, 0, None)], dialled_at: at });
        self.by_end.insert(from, (self.dialled, 0));
        self.dialled
    }

    /// The far end of a connection has a name. Says how many chunks were written to it before.
    pub fn accepted(&mut self, connection: u64, boot: u32, id: StreamId) -> usize {
        let Some(known) = self.connections.get_mut(&connection) else { return 0 };
        let end = &mut known.ends[1];
        (end.boot, end.id) = (boot, Some(id));
        self.by_end.insert((end.host, boot, id), (connection, 1));
        end.line.len()
    }

    pub fn find(&self, host: HostId, boot: u32, id: StreamId) -> Option<(u64, usize)> {
        self.by_end.get(&(host, boot, id)).copied()
    }

    pub fn connection(&mut self, connection: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&connection)
    }

    /// The connections of one process.
    pub fn of_process(&self, host: HostId, boot: u32) -> Vec<(u64, usize)> {
        self.by_end.range((host, boot, StreamId(0))..=(host, boot, StreamId(u64::MAX))).map(|(_, &found)| found).collect()
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Ends one side: nothing is delivered there any more. A connection that is over on both sides is forgotten.
    pub fn close(&mut self, connection: u64, side: usize) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.ends[side].is_closed = true;
        if let Some(id) = known.ends[side].id {
            self.by_end.remove(&(known.ends[side].host, known.ends[side].boot, id));
        }
        if known.ends.iter().all(|end| end.is_closed) {
            self.connections.remove(&connection);
        }
    }
}

impl End {
    /// Puts a chunk into the line; says when it arrives.
    pub fn line_up(&mut self, arrives_at: u64, chunk: Chunk) -> u64 {
        self.last_at = self.last_at.max(arrives_at);
        self.line.push_back(chunk);
        self.last_at
    }

    pub fn take(&mut self) -> Option<Chunk> {
        self.stalled_since = None;
        self.line.pop_front()
    }

    /// Nothing gets through at this moment; says whether that has lasted too long.
    pub fn stall(&mut self, at: u64) -> bool {
        at - *self.stalled_since.get_or_insert(at) >= STALL_NS_MAX
    }

    /// Hands `bytes` to the pipe; says when the last of them has left.
    pub fn write(&mut self, at: u64, bytes: usize, bytes_a_second: u64) -> u64 {
        self.written_at = self.written_at.max(at) + bytes as u64 * 1_000_000_000 / bytes_a_second;
        self.written_at
    }
}
