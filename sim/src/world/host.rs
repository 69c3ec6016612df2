//! A host: one process at a time, its disk, its clocks, and what waits for it while it is frozen.

use super::clock::Clock;
use super::disk::Disk;
use super::trace::Trace;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tidings::engine::io::Input;
use tidings::model::names::Datacenter;

/// Datagrams that the kernel keeps for a process that does not read.
pub const RECEIVE_BUFFER_DATAGRAMS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(pub u32);

impl HostId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// How a process does not get to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// Everything stands still, as under SIGSTOP: timers, disk and network.
    Whole,
    /// Timers run, and no packet gets in or out, as in the Lifeguard paper.
    Packets,
}

/// What a process is handed when it starts.
#[derive(Debug)]
pub struct Process<M> {
    pub machine: M,
    pub started_at: u64,
    /// The monotonic time it was handed last.
    pub last_ns: u64,
}

/// What crossed a host's link since the world began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub datagrams_out: u64,
    pub datagrams_in: u64,
    /// Payloads only; headers are the reader's to add.
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub stream_bytes_out: u64,
    /// Of datagrams and streams, what went to other datacenters.
    pub far_bytes_out: u64,
    pub streams_opened: u64,
    /// Arrived while the receive buffer was full.
    pub overflowed: u64,
}

pub struct Host<M> {
    pub address: SocketAddr,
    pub clock: Clock,
    pub disk: Disk,
    pub process: Option<Process<M>>,
    /// Counts processes: what was meant for one never reaches the next.
    pub boot: u32,
    pub frozen: Option<Freeze>,
    pub waiting: VecDeque<Input>,
    pub datagrams_waiting: usize,
    /// Kept back while packets are frozen.
    pub held_back: Vec<(SocketAddr, bytes::Bytes)>,
    pub wake_at: Option<u64>,
    /// When its deadline came last, and how often at that instant.
    pub woken_at: u64,
    pub wakes_now: u32,
    pub streams_accepted: u64,
    pub traffic: Traffic,
    /// Which datacenter a certificate of this host names; none: it has none.
    pub certificate: Option<Datacenter>,
    pub trace: Trace,
    pub seeds: Rng,
}

impl<M> Host<M> {
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub fn machine(&self) -> Option<&M> {
        self.process.as_ref().map(|process| &process.machine)
    }
}
