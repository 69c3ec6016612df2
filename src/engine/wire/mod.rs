//! Packets and frames as bytes, sealed and opened; nothing else in the engine knows bytes. Follows protocol.md §5.
//!
//! ```text
//! packet    what agents say to each other, as enums                         (body bytes)
//! seal      a body as one datagram: version, label, key, sender, counter    (datagram bytes)
//! stream    bodies as the frames of one stream, in order, none missing      (frame bytes)
//! frame     frames as a byte stream: a length before each                   (TCP bytes)
//! keyring   the keys datagrams and frames are sealed with
//! replay    which counters of a sender were seen
//! compress  chunks of bulk transfers
//! strangers  who knocks with what does not open, said once
//! ```
//!
//! Bytes that arrive are refused by reason ([`seal::Refused`]), never panicked about, and no length in them is believed before it is
//! compared with a limit below.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

pub mod compress;
pub mod frame;
pub mod keyring;
pub mod packet;
pub mod replay;
pub mod seal;
pub mod strangers;
pub mod stream;

#[cfg(test)]
#[path = "tests/golden.rs"]
mod golden;
#[cfg(test)]
#[path = "tests/packet.rs"]
mod packet_tests;

/// The version of this protocol; datagrams and frames of any other are refused.
pub const PROTOCOL_VERSION: u8 = 1;

/// The longest body of a datagram: what the limit leaves beside the dearest seal.
pub const BODY_BYTES_MAX: usize = packet::DATAGRAM_BYTES_MAX - seal::OVERHEAD_BYTES_MAX;

/// The longest frame, in bytes without its length: one chunk of bulk transfer with room around it.
pub const FRAME_BYTES_MAX: usize = 256 * 1_024;

/// The longest body of a frame.
pub const FRAME_BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - stream::OVERHEAD_BYTES_MAX;

/// The key of a keyed hash that all agents of one cluster share.
///
/// It is derived from the cluster label, not from the gossip key: agents must agree on it while keys are being changed. So it keeps
/// foreign clusters and accidents apart, and is no secret; secrecy is the seal's.
#[derive(Clone, Copy)]
pub(crate) struct LabelKey([u8; 16]);

impl LabelKey {
    /// The key for one `purpose`; keys of different purposes have nothing in common.
    pub(crate) fn new(label: &str, purpose: &[u8; 16]) -> Self {
        let half = |part: u8| {
            let mut hasher = SipHasher24::new_with_key(purpose);
            hasher.write(&[part]);
            hasher.write(label.as_bytes());
            hasher.finish()
        };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half(0).to_le_bytes());
        key[8..].copy_from_slice(&half(1).to_le_bytes());
        Self(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Appends `value` in groups of seven bits, lowest first, the top bit saying that more follow.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes what [`put_varint`] wrote off the front of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes `N` bytes off the front of `bytes`.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
