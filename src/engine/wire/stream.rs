//! Bodies as the frames of one stream: in order, none missing, none from elsewhere (protocol.md §5).
//!
//! A frame is an envelope of [`super::seal`] that holds:
//!
//! | bytes | what                                                                                         |
//! |------:|----------------------------------------------------------------------------------------------|
//! |    24 | sender and boot nonce                                                                        |
//! |    16 | the stream's id, random, chosen by its opener                                                |
//! |  1–10 | the stream's number among all its opener opened since that boot, a varint                    |
//! |     1 | bit 0: from the accepting side; bit 1: the last frame of its side                            |
//! |  1–10 | the number of this frame among those of its side, a varint from 0                            |
//! |     n | body                                                                                         |
//!
//! The accepting side learns the id from the first frame and refuses a stream it has met; the opener takes only answers to the id it
//! has just drawn, so what it is given is never an old recording. In clear the same numbers catch accidents, not attackers.
//! How frames become a byte stream is [`super::frame`]'s.

use bytes::Bytes;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

use super::{
    FRAME_BODY_BYTES_MAX, FRAME_BYTES_MAX, put_varint,
    seal::{COUNTER_BYTES_MAX, ENVELOPE_BYTES_MAX, Form, Refused, SENDER_BYTES, Sealer, put_sender, take_sender},
    take, take_varint,
};
use crate::model::names::NodeId;

/// The most that sealing adds to the body of a frame, in bytes.
pub const OVERHEAD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + SENDER_BYTES + 16 + COUNTER_BYTES_MAX + 1 + COUNTER_BYTES_MAX;

const FROM_ACCEPTER: u8 = 1;
const LAST: u8 = 2;

/// One end of one stream.
#[derive(Debug)]
pub struct StreamSeal {
    id: u128,
    /// The stream's number among its opener's.
    number: u64,
    opener: bool,
    /// Who speaks at the other end; the opener learns it from the first answer.
    peer: Option<(NodeId, u64)>,
    sent: u64,
    received: u64,
    /// The other side said that nothing follows.
    complete: bool,
}

/// A frame that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub sender: NodeId,
    pub boot: u64,
    /// Whether the sender says that nothing follows.
    pub last: bool,
    pub body: Bytes,
}

impl StreamSeal {
    /// The opening end of a new stream.
    pub fn open(sealer: &mut Sealer, rng: &mut ChaCha12Rng) -> Self {
        sealer.streams_opened += 1;
        let id = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        Self { id, number: sealer.streams_opened, opener: true, peer: None, sent: 0, received: 0, complete: false }
    }

    /// The accepting end of a stream, by the first frame that came over it.
    pub fn accept(sealer: &mut Sealer, first: &[u8]) -> Result<(Self, Frame), Refused> {
        let said = Said::open(sealer, first)?;
        let mut stream = Self { id: said.id, number: said.number, opener: false, peer: None, sent: 0, received: 0, complete: false };
        let (sender, boot, number) = (said.frame.sender, said.frame.boot, said.number);
        let frame = stream.take_in(said)?;
        if sealer.keyring().is_some() && !sealer.streams_seen.accept(sender, boot, number) {
            return Err(Refused::Replayed);
        }
        Ok((stream, frame))
    }

    /// `body` as the next frame; `last` says that this side has nothing to add.
    ///
    /// A body above [`FRAME_BODY_BYTES_MAX`] is a bug: the other side refuses the frame.
    pub fn seal(&mut self, sealer: &Sealer, rng: &mut ChaCha12Rng, body: &[u8], last: bool) -> Bytes {
        debug_assert!(body.len() <= FRAME_BODY_BYTES_MAX, "a body of {} bytes fits no frame", body.len());
        let sequence = self.sent;
        self.sent += 1;
        let (me, boot) = sealer.me();
        sealer.close(Form::Frame, rng, OVERHEAD_BYTES_MAX + body.len(), |out| {
            put_sender(out, me, boot);
            out.extend_from_slice(&self.id.to_le_bytes());
            put_varint(out, self.number);
            out.push(if self.opener { 0 } else { FROM_ACCEPTER } | if last { LAST } else { 0 });
            put_varint(out, sequence);
            out.extend_from_slice(body);
        })
    }

    /// The body of the next frame from the other side. After a refusal the stream is of no more use: close it.
    pub fn take(&mut self, sealer: &Sealer, frame: &[u8]) -> Result<Frame, Refused> {
        self.take_in(Said::open(sealer, frame)?)
    }

    /// Whether the other side said all it had to say; asked when the stream ends.
    pub fn ended(&self) -> Result<(), Refused> {
        if self.complete { Ok(()) } else { Err(Refused::Truncated) }
    }

    /// Who speaks at the other end, once it has.
    pub fn peer(&self) -> Option<(NodeId, u64)> {
        self.peer
    }

    fn take_in(&mut self, said: Said) -> Result<Frame, Refused> {
        let speaker = (said.frame.sender, said.frame.boot);
        let from_other_side = said.from_accepter == self.opener;
        if !from_other_side || (said.id, said.number) != (self.id, self.number) || self.peer.is_some_and(|peer| peer != speaker) {
            return Err(Refused::Stream);
        }
        if self.complete || said.sequence != self.received {
            return Err(Refused::Sequence);
        }
        self.peer = Some(speaker);
        self.received += 1;
        self.complete = said.frame.last;
        Ok(said.frame)
    }
}

/// What one frame says, before anyone asked whether it belongs here.
struct Said {
    id: u128,
    number: u64,
    from_accepter: bool,
    sequence: u64,
    frame: Frame,
}

impl Said {
    fn open(sealer: &Sealer, frame: &[u8]) -> Result<Self, Refused> {
        let inside = sealer.unclose(Form::Frame, frame, FRAME_BYTES_MAX)?;
        let rest = &mut &inside[..];
        let (sender, boot) = take_sender(rest).ok_or(Refused::TooShort)?;
        if (sender, boot) == sealer.me() {
            return Err(Refused::Own);
        }
        let id = u128::from_le_bytes(take(rest).ok_or(Refused::TooShort)?);
        let number = take_varint(rest).ok_or(Refused::TooShort)?;
        let [flags] = take(rest).ok_or(Refused::TooShort)?;
        let sequence = take_varint(rest).ok_or(Refused::TooShort)?;
        let body_at = inside.len() - rest.len();
        let body = Bytes::from(inside).slice(body_at..);
        let frame = Frame { sender, boot, last: flags & LAST != 0, body };
        Ok(Self { id, number, from_accepter: flags & FROM_ACCEPTER != 0, sequence, frame })
    }
}

#[cfg(test)]
#[path = "tests/stream.rs"]
mod tests;
