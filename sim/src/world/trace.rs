//! What happened to a host last, for the report of a failure.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

/// Events kept a host.
const KEPT_MAX: usize = 200;

#[derive(Debug, Clone)]
pub enum Happening {
    Started,
    Killed,
    Frozen,
    Thawed,
    Left,
    DatagramIn {
        from: SocketAddr,
        bytes: usize,
    },
    DatagramOut {
        to: SocketAddr,
        bytes: usize,
    },
    StreamIn(&'static str, u64),
    StreamOut(&'static str, u64),
    Persist {
        mark: u64,
        ops: usize,
    },
    Durable(u64),
    Command(String),
    Reply(String),
    View,
    /// A fault that struck this host.
    Fault(String),
}

/// The last events of one host.
#[derive(Debug, Default)]
pub struct Trace(VecDeque<(u64, Happening)>);

impl Trace {
    pub fn note(&mut self, at: u64, happening: Happening) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at, happening));
    }

    pub fn events(&self) -> impl DoubleEndedIterator<Item = &(u64, Happening)> {
        self.0.iter()
    }
}

impl Happening {
    /// Whether a reader of a report wants it before the packets.
    pub fn is_notable(&self) -> bool {
        !matches!(
            self,
            Happening::DatagramIn { .. }
                | Happening::DatagramOut { .. }
                | Happening::Persist { .. }
                | Happening::Durable(_)
                | Happening::View
                | Happening::StreamIn("bytes" | "drained", _)
                | Happening::StreamOut("bytes", _)
        )
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::Started => f.write_str("process starts"),
            Happening::Killed => f.write_str("process is killed"),
            Happening::Frozen => f.write_str("process is frozen"),
            Happening::Thawed => f.write_str("process thaws"),
            Happening::Left => f.write_str("agent has left"),
            Happening::DatagramIn { from, bytes } => write!(f, "datagram of {bytes} B from {from}"),
            Happening::DatagramOut { to, bytes } => write!(f, "datagram of {bytes} B to {to}"),
            Happening::StreamIn(what, id) => write!(f, "stream {id} in: {what}"),
            Happening::StreamOut(what, id) => write!(f, "stream {id} out: {what}"),
            Happening::Persist { mark, ops } => write!(f, "persist {ops} operations up to mark {mark}"),
            Happening::Durable(mark) => write!(f, "durable up to mark {mark}"),
            Happening::Command(what) => write!(f, "command: {what}"),
            Happening::Reply(what) => write!(f, "reply: {what}"),
            Happening::View => f.write_str("a new view"),
            Happening::Fault(what) => write!(f, "fault: {what}"),
        }
    }
}

/// A virtual instant as people read it: seconds with microseconds.
pub struct Instant(pub u64);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}
