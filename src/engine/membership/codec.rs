//! A SWIM packet as bytes: foca's header and updates, then our own remarks.
//!
//! ```text
//! header   src identity | src incarnation u16 | dst identity | message u8 ...
//! updates  count u16 | (identity | incarnation u16 | state u8) ...
//! remarks  (tag u8 | content) ...                               to the end of the packet
//! identity node 16 | generation u32 | v6 bit + boot 15 bits | ip 4 or 16 | port u16
//! ```
//! foca reads and writes headers and updates through [`SwimCodec`]; whole packets are taken apart here, because the membership decides
//! itself which updates foca gets to see.

use super::identity::{BOOT_MASK, Identity};
use crate::model::names::NodeId;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Header, Message, State};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) type Update = foca::Member<Identity>;

/// The largest identity: IPv6.
pub(super) const IDENTITY_BYTES_MAX: usize = 40;
/// The largest update.
pub(super) const UPDATE_BYTES_MAX: usize = IDENTITY_BYTES_MAX + 3;
/// Remarks of one packet that are read.
const REMARKS_MAX: usize = 16;

/// Why bytes are no packet of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    Short,
    UnknownTag(u8),
    /// No room left to write; the packet ends before it.
    Full,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("it ends too early"),
            Self::UnknownTag(tag) => write!(f, "unknown tag {tag}"),
            Self::Full => f.write_str("no room left"),
        }
    }
}

impl std::error::Error for CodecError {}

/// What agents tell each other beside foca's updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remark {
    /// Probes of this suspect by `by` itself went unanswered; the sender may only pass it on.
    Accuse { node: NodeId, incarnation: u16, by: NodeId },
    /// Goes with a TurnUndead: how many members the sender holds alive. Of two that hold each other down the one with fewer gives in.
    Standing { alive: u32 },
    /// A sum over the members that the sender holds up, itself included, and how many it lost in these seconds: who differs is reminded, and
    /// who goes on differing exchanges state.
    Digest { sum: u64, lost: u16 },
}

/// A packet taken apart.
#[derive(Debug)]
pub(super) struct Packet {
    pub header: Header<Identity>,
    pub updates: Vec<Update>,
    pub remarks: Vec<Remark>,
}

impl Packet {
    pub fn decode(mut body: &[u8]) -> Result<Self, CodecError> {
        let header = decode_header(&mut body)?;
        let mut updates = Vec::new();
        let mut remarks = Vec::new();
        if body.has_remaining() {
            let count = body.try_get_u16().map_err(|_| CodecError::Short)?;
            for _ in 0..count {
                updates.push(decode_update(&mut body)?);
            }
        }
        while body.has_remaining() && remarks.len() < REMARKS_MAX {
            remarks.push(decode_remark(&mut body)?);
        }
        Ok(Self { header, updates, remarks })
    }

    pub fn encode(&self) -> Bytes {
        let mut buf = BytesMut::with_capacity(256);
        encode_header(&self.header, &mut buf);
        if self.updates.is_empty() && self.remarks.is_empty() {
            return buf.freeze();
        }
        buf.put_u16(u16::try_from(self.updates.len()).expect("own packets carry a handful of updates"));
        for update in &self.updates {
            encode_update(update, &mut buf);
        }
        for remark in &self.remarks {
            encode_remark(remark, &mut buf);
        }
        buf.freeze()
    }
}

/// The header alone: foca takes it as a packet without updates.
pub(super) fn header_bytes(header: &Header<Identity>) -> BytesMut {
    let mut buf = BytesMut::with_capacity(128);
    encode_header(header, &mut buf);
    buf
}

/// Adds one update to a packet that foca made; `header_len` is where its count of updates stands.
pub(super) fn attach_update(packet: &mut BytesMut, header_len: usize, update: &Update) {
    ensure_count(packet, header_len);
    let mut count = &packet[header_len..];
    let count = count.get_u16();
    packet[header_len..header_len + 2].copy_from_slice(&count.saturating_add(1).to_be_bytes());
    encode_update(update, packet);
}

/// Sends a packet that foca made to somebody else.
pub(super) fn readdress(packet: &mut BytesMut, header: &mut Header<Identity>, to: Identity) {
    let rest = packet.split_off(header_len(header));
    header.dst = to;
    *packet = header_bytes(header);
    packet.extend_from_slice(&rest);
}

/// Adds a remark to a packet that foca made, after all updates.
pub(super) fn attach_remark(packet: &mut BytesMut, header_len: usize, remark: &Remark) {
    ensure_count(packet, header_len);
    encode_remark(remark, packet);
}

fn ensure_count(packet: &mut BytesMut, header_len: usize) {
    if packet.len() == header_len {
        packet.put_u16(0);
    }
}

/// The largest remark.
pub(super) const REMARK_BYTES_MAX: usize = 35;

pub(super) fn header_len(header: &Header<Identity>) -> usize {
    header_bytes(header).len()
}

fn need(buf: &impl Buf, bytes: usize) -> Result<(), CodecError> {
    if buf.remaining() < bytes { Err(CodecError::Short) } else { Ok(()) }
}

pub(super) fn encode_identity(identity: &Identity, buf: &mut impl BufMut) {
    buf.put_u128(identity.node.0);
    buf.put_u32(identity.generation);
    match identity.addr.ip() {
        IpAddr::V4(ip) => {
            buf.put_u16(identity.boot & BOOT_MASK);
            buf.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            buf.put_u16(identity.boot | !BOOT_MASK);
            buf.put_slice(&ip.octets());
        }
    }
    buf.put_u16(identity.addr.port());
}

pub(super) fn decode_identity(buf: &mut impl Buf) -> Result<Identity, CodecError> {
    need(buf, 28)?;
    let node = NodeId(buf.get_u128());
    let generation = buf.get_u32();
    let boot = buf.get_u16();
    let ip = if boot & !BOOT_MASK == 0 {
        let mut octets = [0; 4];
        buf.copy_to_slice(&mut octets);
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        need(buf, 18)?;
        let mut octets = [0; 16];
        buf.copy_to_slice(&mut octets);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let port = buf.get_u16();
    Ok(Identity { node, addr: SocketAddr::new(ip, port), generation, boot: boot & BOOT_MASK, left: false })
}

const ALIVE: u8 = 0;
const SUSPECT: u8 = 1;
const DOWN: u8 = 2;
/// Down by its own word.
const LEFT: u8 = 3;

pub(super) fn encode_update(update: &Update, buf: &mut impl BufMut) {
    encode_identity(update.id(), buf);
    buf.put_u16(update.incarnation());
    buf.put_u8(match update.state() {
        State::Alive => ALIVE,
        State::Suspect => SUSPECT,
        State::Down if update.id().left => LEFT,
        State::Down => DOWN,
    });
}

pub(super) fn decode_update(buf: &mut impl Buf) -> Result<Update, CodecError> {
    let mut identity = decode_identity(buf)?;
    need(buf, 3)?;
    let incarnation = buf.get_u16();
    let state = match buf.get_u8() {
        ALIVE => State::Alive,
        SUSPECT => State::Suspect,
        DOWN => State::Down,
        LEFT => {
            identity.left = true;
            State::Down
        }
        tag => return Err(CodecError::UnknownTag(tag)),
    };
    Ok(Update::new(identity, incarnation, state))
}

const ACCUSE: u8 = 0;
const STANDING: u8 = 2;
const DIGEST: u8 = 3;

fn encode_remark(remark: &Remark, buf: &mut impl BufMut) {
    match *remark {
        Remark::Accuse { node, incarnation, by } => {
            buf.put_u8(ACCUSE);
            buf.put_u128(node.0);
            buf.put_u16(incarnation);
            buf.put_u128(by.0);
        }
        Remark::Standing { alive } => {
            buf.put_u8(STANDING);
            buf.put_u32(alive);
        }
        Remark::Digest { sum, lost } => {
            buf.put_u8(DIGEST);
            buf.put_u64(sum);
            buf.put_u16(lost);
        }
    }
}

fn decode_remark(buf: &mut impl Buf) -> Result<Remark, CodecError> {
    need(buf, 1)?;
    match buf.get_u8() {
        ACCUSE => {
            need(buf, 34)?;
            Ok(Remark::Accuse { node: NodeId(buf.get_u128()), incarnation: buf.get_u16(), by: NodeId(buf.get_u128()) })
        }
        STANDING => {
            need(buf, 4)?;
            Ok(Remark::Standing { alive: buf.get_u32() })
        }
        DIGEST => {
            need(buf, 10)?;
            Ok(Remark::Digest { sum: buf.get_u64(), lost: buf.get_u16() })
        }
        tag => Err(CodecError::UnknownTag(tag)),
    }
}

fn encode_header(header: &Header<Identity>, buf: &mut impl BufMut) {
    encode_identity(&header.src, buf);
    buf.put_u16(header.src_incarnation);
    encode_identity(&header.dst, buf);
    let mut probe = |tag: u8, about: Option<&Identity>, number: u8| {
        buf.put_u8(tag);
        if let Some(identity) = about {
            encode_identity(identity, buf);
        }
        buf.put_u8(number);
    };
    match &header.message {
        Message::Ping(number) => probe(0, None, *number),
        Message::Ack(number) => probe(1, None, *number),
        Message::PingReq { target, probe_number } => probe(2, Some(target), *probe_number),
        Message::IndirectPing { origin, probe_number } => probe(3, Some(origin), *probe_number),
        Message::IndirectAck { target, probe_number } => probe(4, Some(target), *probe_number),
        Message::ForwardedAck { origin, probe_number } => probe(5, Some(origin), *probe_number),
        Message::Announce => buf.put_u8(6),
        Message::Feed => buf.put_u8(7),
        Message::Gossip => buf.put_u8(8),
        Message::Broadcast => buf.put_u8(9),
        Message::TurnUndead => buf.put_u8(10),
    }
}

fn decode_header(buf: &mut impl Buf) -> Result<Header<Identity>, CodecError> {
    let src = decode_identity(buf)?;
    need(buf, 2)?;
    let src_incarnation = buf.get_u16();
    let dst = decode_identity(buf)?;
    need(buf, 1)?;
    let tag = buf.get_u8();
    let about = if (2..=5).contains(&tag) { Some(decode_identity(buf)?) } else { None };
    let probe_number = if tag <= 5 {
        need(buf, 1)?;
        buf.get_u8()
    } else {
        0
    };
    let message = match (tag, about) {
        (0, None) => Message::Ping(probe_number),
        (1, None) => Message::Ack(probe_number),
        (2, Some(target)) => Message::PingReq { target, probe_number },
        (3, Some(origin)) => Message::IndirectPing { origin, probe_number },
        (4, Some(target)) => Message::IndirectAck { target, probe_number },
        (5, Some(origin)) => Message::ForwardedAck { origin, probe_number },
        (6, None) => Message::Announce,
        (7, None) => Message::Feed,
        (8, None) => Message::Gossip,
        (9, None) => Message::Broadcast,
        (10, None) => Message::TurnUndead,
        _ => return Err(CodecError::UnknownTag(tag)),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

/// foca's way into this format.
#[derive(Debug, Clone, Copy)]
pub(super) struct SwimCodec;

impl foca::Codec<Identity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        let bytes = header_bytes(header);
        if buf.remaining_mut() < bytes.len() {
            return Err(CodecError::Full);
        }
        buf.put_slice(&bytes);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        decode_header(&mut buf)
    }

    fn encode_member(&mut self, member: &Update, mut buf: impl BufMut) -> Result<(), CodecError> {
        if buf.remaining_mut() < UPDATE_BYTES_MAX {
            return Err(CodecError::Full);
        }
        encode_update(member, &mut buf);
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Update, CodecError> {
        decode_update(&mut buf)
    }
}
