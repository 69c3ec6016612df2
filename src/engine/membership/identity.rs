//! Who a member is on the wire: node id, gossip address, generation, boot nonce; at most 40 bytes (protocol section 1).
//!
//! The node id is what foca calls the address, so a member that moves to another socket address is renamed, not added. Names, zones and
//! ports of services are records of the catalog and not here.

use crate::model::names::NodeId;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

/// An agent's own identity, as it starts or as it has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Me {
    pub node: NodeId,
    /// Where the others reach it.
    pub addr: SocketAddr,
    /// Should rise with every start; jumps past the highest heard when the cluster knows better.
    pub generation: u32,
    /// Random, new at every start: tells two processes with one node id apart. 15 bits of it travel.
    pub boot: u16,
}

/// How many bits of the boot nonce travel: the sixteenth tells IPv4 from IPv6, which keeps an identity at 40 bytes.
pub(super) const BOOT_MASK: u16 = 0x7fff;

/// A member's identity as foca handles it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub node: NodeId,
    pub addr: SocketAddr,
    pub generation: u32,
    pub boot: u16,
    /// Rides on a Down that the member pronounced on itself. No part of who it is: two identities that differ in it alone are equal.
    pub left: bool,
}

impl Identity {
    /// Whoever listens at `addr`: the addressee of an announcement to a stranger.
    pub fn stranger(addr: SocketAddr) -> Self {
        Self { node: NodeId::default(), addr, generation: 0, boot: 0, left: false }
    }

    pub fn is_stranger(&self) -> bool {
        self.node == NodeId::default()
    }

    /// What decides between two identities of one node: the later generation, then the nonce, then the address.
    fn rank(&self) -> (u32, u16, IpAddr, u16) {
        (self.generation, self.boot, self.addr.ip(), self.addr.port())
    }

    /// Whether this identity replaces `other` of the same node.
    pub fn beats(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Its share in a sum over members: equal wherever the same identity is held.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(&self.node.0.to_be_bytes());
        hasher.write(&self.generation.to_be_bytes());
        hasher.write(&self.boot.to_be_bytes());
        hasher.finish()
    }

    /// Tells processes apart, whatever their generation: who gives a contested node id up is the lower one.
    pub fn process(&self) -> (u16, IpAddr, u16) {
        (self.boot, self.addr.ip(), self.addr.port())
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.rank() == other.rank()
    }
}

impl Eq for Identity {}

impl From<Me> for Identity {
    fn from(me: Me) -> Self {
        Self { node: me.node, addr: me.addr, generation: me.generation, boot: me.boot & BOOT_MASK, left: false }
    }
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    /// Renewal is decided outside, where the highest generation heard is known.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}
