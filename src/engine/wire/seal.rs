//! A body as one datagram, sealed and opened (protocol.md §5).
//!
//! With a key ring, a datagram is encrypted and authenticated by XChaCha20-Poly1305:
//!
//! | offset | bytes | what                                                             |
//! |-------:|------:|------------------------------------------------------------------|
//! |      0 |     1 | protocol version, 1                                              |
//! |      1 |     1 | form: 0 clear datagram, 1 sealed datagram, 2 clear frame, 3 sealed frame |
//! |      2 |     4 | cluster label, as a hash                                         |
//! |      6 |     4 | key id; this and all before is associated data                   |
//! |     10 |    24 | nonce, random                                                    |
//! |     34 |    16 | *sealed from here:* sender, its node id, little endian like all numbers but the key id |
//! |     50 |     8 | boot nonce of the sender                                         |
//! |     58 |  1–10 | counter, a varint: the number of this datagram since that boot   |
//! |        |     n | body                                                             |
//! |        |    16 | tag                                                              |
//!
//! Without one (loopback, or `--insecure`) it is in clear, with a checksum against accidents and foreign clusters, not against anyone:
//!
//! | offset | bytes | what                                                             |
//! |-------:|------:|------------------------------------------------------------------|
//! |      0 |     6 | version, form and label as above                                 |
//! |      6 |     8 | checksum: SipHash-2-4, keyed by the label, of form and all that follows |
//! |     14 |    25 to 34 | sender, boot nonce, counter as above                       |
//! |        |     n | body                                                             |
//!
//! Nonces are random and long, so that no clone, restored disk or second process repeats one. A clear datagram can be sent again by
//! anyone; nothing here tells, and what agents say to each other is such that it does no harm. [`super::stream`] puts frames
//! into the same envelope.

use std::fmt;

use bytes::Bytes;
use chacha20poly1305::{AeadInOut, Tag, XNonce};
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use siphasher::sip::SipHasher24;

use super::{LabelKey, PROTOCOL_VERSION, keyring::Keyring, packet::DATAGRAM_BYTES_MAX, put_varint, replay::ReplayTable, take, take_varint};
use crate::engine::sabotage::{Broken, Rule};
use crate::model::{command::KeyId, names::NodeId};

/// The most that sealing adds to a body, in bytes.
pub const OVERHEAD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + SENDER_BYTES + COUNTER_BYTES_MAX;

/// The most that the envelope alone adds: everything but sender and counter.
pub(super) const ENVELOPE_BYTES_MAX: usize = SEALED_HEADER_BYTES + TAG_BYTES;

/// Sender and boot nonce.
pub(super) const SENDER_BYTES: usize = 16 + 8;

/// A varint of 64 bits.
pub(super) const COUNTER_BYTES_MAX: usize = 10;

const PREFIX_BYTES: usize = 1 + 1 + LABEL_BYTES;
const LABEL_BYTES: usize = 4;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
const ASSOCIATED_BYTES: usize = PREFIX_BYTES + KEY_ID_BYTES;
const SEALED_HEADER_BYTES: usize = ASSOCIATED_BYTES + NONCE_BYTES;
const CLEAR_HEADER_BYTES: usize = PREFIX_BYTES + CHECKSUM_BYTES;

/// Seals what one agent sends and opens what it receives.
pub struct Sealer {
    label: [u8; LABEL_BYTES],
    checksum: LabelKey,
    keyring: Option<Keyring>,
    me: NodeId,
    boot: u64,
    datagrams_sent: u64,
    pub(super) streams_opened: u64,
    datagrams_seen: ReplayTable,
    pub(super) streams_seen: ReplayTable,
    pub broken: Broken,
}

impl Sealer {
    /// A sealer for agent `me` of the cluster called `label`, in the life of it that the random `boot` names.
    ///
    /// Without a key ring everything is in clear, and only clear datagrams are opened.
    pub fn new(label: &str, keyring: Option<Keyring>, me: NodeId, boot: u64) -> Self {
        let name = LabelKey::new(label, b"tidings label  1");
        let mut tag = [0; LABEL_BYTES];
        tag.copy_from_slice(&name.bytes()[..LABEL_BYTES]);
        Self {
            label: tag,
            checksum: LabelKey::new(label, b"tidings checksum"),
            keyring,
            me,
            boot,
            datagrams_sent: 0,
            streams_opened: 0,
            datagrams_seen: ReplayTable::default(),
            streams_seen: ReplayTable::default(),
            broken: Broken::default(),
        }
    }

    /// `body` as a datagram. A body above [`super::BODY_BYTES_MAX`] is a bug: receivers refuse the datagram.
    pub fn seal(&mut self, rng: &mut ChaCha12Rng, body: &[u8]) -> Bytes {
        debug_assert!(body.len() <= super::BODY_BYTES_MAX, "a body of {} bytes fits no datagram", body.len());
        self.datagrams_sent += 1;
        let counter = self.datagrams_sent;
        self.close(Form::Datagram, rng, OVERHEAD_BYTES_MAX + body.len(), |out| {
            put_sender(out, self.me, self.boot);
            put_varint(out, counter);
            out.extend_from_slice(body);
        })
    }

    /// The body of a datagram, and who says it.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, Refused> {
        let inside = self.unclose(Form::Datagram, datagram, DATAGRAM_BYTES_MAX)?;
        let rest = &mut &inside[..];
        let (sender, boot) = take_sender(rest).ok_or(Refused::TooShort)?;
        let counter = take_varint(rest).ok_or(Refused::TooShort)?;
        if (sender, boot) == (self.me, self.boot) {
            return Err(Refused::Own);
        }
        let proven = self.keyring.is_some();
        if proven && !self.datagrams_seen.accept(sender, boot, counter) {
            return Err(Refused::Replayed);
        }
        let body_at = inside.len() - rest.len();
        Ok(Opened { sender, boot, counter, proven, body: Bytes::from(inside).slice(body_at..) })
    }

    /// Becomes another agent, or the same in another life; what the former one sent is no longer one's own.
    pub fn become_agent(&mut self, me: NodeId, boot: u64) {
        (self.me, self.boot) = (me, boot);
    }

    /// The agent that seals, and its boot nonce.
    pub fn me(&self) -> (NodeId, u64) {
        (self.me, self.boot)
    }

    /// Lives of senders whose datagrams are told apart from replays.
    pub fn windows(&self) -> usize {
        self.datagrams_seen.len()
    }

    /// The keys, none in clear.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// The keys, to change them; a cluster does not turn from clear to sealed while it runs.
    pub fn keyring_mut(&mut self) -> Option<&mut Keyring> {
        self.keyring.as_mut()
    }

    /// Puts what `write` appends into an envelope of the used key, or in clear.
    pub(super) fn close(&self, form: Form, rng: &mut ChaCha12Rng, bytes_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = Vec::with_capacity(bytes_hint);
        out.extend_from_slice(&[PROTOCOL_VERSION, form.byte(self.keyring.is_some())]);
        out.extend_from_slice(&self.label);
        let Some(keyring) = &self.keyring else {
            out.extend_from_slice(&[0; CHECKSUM_BYTES]);
            write(&mut out);
            let checksum = self.checksum(form, &out[CLEAR_HEADER_BYTES..]);
            out[PREFIX_BYTES..CLEAR_HEADER_BYTES].copy_from_slice(&checksum);
            return out.into();
        };
        let key = keyring.used();
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        out.extend_from_slice(&key.id().0.to_be_bytes());
        out.extend_from_slice(&nonce);
        write(&mut out);
        let (header, inside) = out.split_at_mut(SEALED_HEADER_BYTES);
        let tag = key
            .cipher()
            .encrypt_inout_detached(&XNonce::from(nonce), &header[..ASSOCIATED_BYTES], inside.into())
            .expect("a frame is far below the 256 GiB the cipher takes");
        out.extend_from_slice(&tag);
        out.into()
    }

    /// What [`Sealer::close`] put into an envelope of this form.
    pub(super) fn unclose(&self, form: Form, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refused> {
        if bytes.len() > bytes_max {
            return Err(Refused::TooLong);
        }
        let rest = &mut &bytes[..];
        let [version] = take(rest).ok_or(Refused::TooShort)?;
        if version != PROTOCOL_VERSION {
            return Err(Refused::Version);
        }
        let [form_byte] = take(rest).ok_or(Refused::TooShort)?;
        let sealed = form.is_sealed(form_byte).ok_or(Refused::Form)?;
        let label: [u8; LABEL_BYTES] = take(rest).ok_or(Refused::TooShort)?;
        if label != self.label {
            return Err(Refused::Label);
        }
        match (&self.keyring, sealed) {
            (None, true) => Err(Refused::Sealed),
            (Some(_), false) => Err(Refused::Clear),
            (None, false) => {
                let checksum: [u8; CHECKSUM_BYTES] = take(rest).ok_or(Refused::TooShort)?;
                if checksum != self.checksum(form, rest) && !self.broken.is(Rule::ChecksumIgnored) {
                    return Err(Refused::Checksum);
                }
                Ok(rest.to_vec())
            }
            (Some(keyring), true) => {
                let id = KeyId(u32::from_be_bytes(take(rest).ok_or(Refused::TooShort)?));
                let key = keyring.key(id).ok_or(Refused::UnknownKey)?;
                let nonce: [u8; NONCE_BYTES] = take(rest).ok_or(Refused::TooShort)?;
                let (inside, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(Refused::TooShort)?;
                let mut inside = inside.to_vec();
                key.cipher()
                    .decrypt_inout_detached(
                        &XNonce::from(nonce),
                        &bytes[..ASSOCIATED_BYTES],
                        inside.as_mut_slice().into(),
                        &Tag::from(*tag),
                    )
                    .map_err(|_| Refused::Seal)?;
                Ok(inside)
            }
        }
    }

    fn checksum(&self, form: Form, inside: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = SipHasher24::new_with_key(self.checksum.bytes());
        std::hash::Hasher::write(&mut hasher, &[form.byte(false)]);
        std::hash::Hasher::write(&mut hasher, inside);
        std::hash::Hasher::finish(&hasher).to_le_bytes()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("me", &self.me).field("boot", &self.boot).field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

/// A datagram that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub sender: NodeId,
    /// The boot nonce of the sender: which of its lives speaks.
    pub boot: u64,
    /// The number of this datagram among all that life sealed.
    pub counter: u64,
    /// Whether a key vouches for the sender; in clear anyone can use any name and any source address.
    pub proven: bool,
    pub body: Bytes,
}

/// Why bytes from the network were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// It ends before what every one has.
    TooShort,
    /// It is longer than any that an agent sends.
    TooLong,
    /// It is of another protocol version.
    Version,
    /// A frame where a datagram belongs or the reverse, or neither.
    Form,
    /// It is another cluster's.
    Label,
    /// It is in clear, and we have keys.
    Clear,
    /// It is sealed, and we have no keys.
    Sealed,
    /// No key of that id is installed.
    UnknownKey,
    /// It was not sealed with that key, or was changed after.
    Seal,
    /// It was changed on its way.
    Checksum,
    /// We sent it ourselves.
    Own,
    /// It was accepted before, or is too old to know.
    Replayed,
    /// The frame belongs to another stream, or another agent speaks in it.
    Stream,
    /// The frame is not the next of its stream.
    Sequence,
    /// The stream stopped before its last frame.
    Truncated,
}

impl Refused {
    pub const ALL: [Self; 15] = [
        Self::TooShort,
        Self::TooLong,
        Self::Version,
        Self::Form,
        Self::Label,
        Self::Clear,
        Self::Sealed,
        Self::UnknownKey,
        Self::Seal,
        Self::Checksum,
        Self::Own,
        Self::Replayed,
        Self::Stream,
        Self::Sequence,
        Self::Truncated,
    ];

    /// The reason as counters are labelled with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Version => "version",
            Self::Form => "form",
            Self::Label => "label",
            Self::Clear => "clear",
            Self::Sealed => "sealed",
            Self::UnknownKey => "unknown_key",
            Self::Seal => "seal",
            Self::Checksum => "checksum",
            Self::Own => "own",
            Self::Replayed => "replayed",
            Self::Stream => "stream",
            Self::Sequence => "sequence",
            Self::Truncated => "truncated",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Refused {}

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Datagram,
    Frame,
}

impl Form {
    fn byte(self, sealed: bool) -> u8 {
        match self {
            Self::Datagram => u8::from(sealed),
            Self::Frame => 2 + u8::from(sealed),
        }
    }

    fn is_sealed(self, byte: u8) -> Option<bool> {
        [false, true].into_iter().find(|&sealed| self.byte(sealed) == byte)
    }
}

pub(super) fn put_sender(out: &mut Vec<u8>, sender: NodeId, boot: u64) {
    out.extend_from_slice(&sender.0.to_le_bytes());
    out.extend_from_slice(&boot.to_le_bytes());
}

pub(super) fn take_sender(bytes: &mut &[u8]) -> Option<(NodeId, u64)> {
    Some((NodeId(u128::from_le_bytes(take(bytes)?)), u64::from_le_bytes(take(bytes)?)))
}

#[cfg(test)]
#[path = "tests/seal.rs"]
mod tests;
