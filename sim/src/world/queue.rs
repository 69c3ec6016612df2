//! What is to happen, by time: one heap for all hosts. What is due at one instant happens in the order it was put in.

use super::{Door, HostId};
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use tidings::engine::io::Input;

#[derive(Debug)]
pub enum Event {
    /// The process's deadline. `boot` tells a process from the next one on its host.
    Wake {
        host: HostId,
        boot: u32,
    },
    Datagram {
        to: HostId,
        door: Door,
        from: SocketAddr,
        bytes: Bytes,
    },
    /// A connection is tried.
    Dial {
        connection: u64,
    },
    /// What is first in line on a connection arrives at this side of it.
    Flow {
        connection: u64,
        side: usize,
    },
    /// This side's pipe may be empty.
    Drained {
        connection: u64,
        side: usize,
    },
    /// The disk has finished a sync.
    Synced {
        host: HostId,
        boot: u32,
    },
    /// A process that went on finds what waited for it; datagrams are handed in as of `ns`, before its late timers.
    Found {
        host: HostId,
        boot: u32,
        input: Input,
        ns: Option<u64>,
    },
    /// Something that the run put on its agenda.
    Due(u64),
}

/// A heap of events.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    pushed: u64,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    order: u64,
    event: Event,
}

impl Queue {
    pub fn push(&mut self, at: u64, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at, order: self.pushed, event }));
    }

    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
