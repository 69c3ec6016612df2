//! Streams between agents: bytes in, frames out, each end sealed; what the frames mean is the spread's.

use super::io::StreamId;
use super::wire::frame::{FrameReader, put_frame};
use super::wire::packet::Frame;
use super::wire::seal::Sealer;
use super::wire::stream::StreamSeal;
use crate::model::names::NodeId;
use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Streams at once, both directions; those that come above it are closed unheard.
pub const STREAMS_MAX: usize = 64;

/// Why a stream was closed on its peer; the name is its counter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub &'static str);

struct Stream {
    seal: Option<StreamSeal>,
    reader: FrameReader,
    peer: SocketAddr,
}

/// What came whole out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived {
    pub sender: NodeId,
    pub frame: Frame,
}

#[derive(Default)]
pub struct Streams {
    open: BTreeMap<StreamId, Stream>,
}

impl Streams {
    /// A stream this agent opens; it may speak at once.
    pub fn opened(&mut self, stream: StreamId, peer: SocketAddr, sealer: &mut Sealer, rng: &mut ChaCha12Rng) {
        let seal = Some(StreamSeal::open(sealer, rng));
        self.open.insert(stream, Stream { seal, reader: FrameReader::default(), peer });
    }

    /// A stream from a peer; false where there are too many.
    pub fn accepted(&mut self, stream: StreamId, peer: SocketAddr) -> bool {
        if self.open.len() >= STREAMS_MAX {
            return false;
        }
        self.open.insert(stream, Stream { seal: None, reader: FrameReader::default(), peer });
        true
    }

    pub fn closed(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    pub fn peer(&self, stream: StreamId) -> Option<SocketAddr> {
        self.open.get(&stream).map(|stream| stream.peer)
    }

    /// Takes the next bytes of a stream. Frames are popped by [`Streams::pop`].
    pub fn push(&mut self, stream: StreamId, bytes: &[u8]) {
        if let Some(stream) = self.open.get_mut(&stream) {
            stream.reader.push(bytes);
        }
    }

    /// The next whole frame, if it is here.
    ///
    /// # Errors
    /// What came is not a frame of this stream: nothing after it can be understood.
    pub fn pop(&mut self, stream: StreamId, sealer: &mut Sealer) -> Result<Option<Arrived>, Broken> {
        let Some(stream) = self.open.get_mut(&stream) else { return Ok(None) };
        let Some(bytes) = stream.reader.pop().map_err(|_| Broken("frame_length"))? else { return Ok(None) };
        let framed = match &mut stream.seal {
            Some(seal) => seal.take(sealer, &bytes).map_err(|refused| Broken(refused.name()))?,
            None => {
                let (seal, first) = StreamSeal::accept(sealer, &bytes).map_err(|refused| Broken(refused.name()))?;
                stream.seal = Some(seal);
                first
            }
        };
        let frame = postcard::from_bytes(&framed.body).map_err(|_| Broken("frame_body"))?;
        Ok(Some(Arrived { sender: framed.sender, frame }))
    }

    /// A frame as the bytes to write. None where the stream is gone, or its peer has not spoken on a stream it opened.
    pub fn write(&mut self, stream: StreamId, frame: &Frame, sealer: &Sealer, rng: &mut ChaCha12Rng) -> Option<Bytes> {
        let body = postcard::to_stdvec(frame).expect("a frame is plain data, and memory is at hand");
        let sealed = self.open.get_mut(&stream)?.seal.as_mut()?.seal(sealer, rng, &body, false);
        let mut out = BytesMut::with_capacity(sealed.len() + 4);
        put_frame(&mut out, &sealed);
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wire::packet::Purpose;
    use rand::SeedableRng as _;

    const HELLO: Frame = Frame::Hello { purpose: Purpose::Exchange, is_ready: true };
    const ONE: StreamId = StreamId(1);

    #[test]
    fn frames_cross_however_the_bytes_are_cut() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let (mut a, mut b) = (Sealer::new("c", None, NodeId(1), 1), Sealer::new("c", None, NodeId(2), 2));
        let (mut from, mut to) = (Streams::default(), Streams::default());
        let addr = ([127, 0, 0, 1], 1).into();
        from.opened(ONE, addr, &mut a, &mut rng);
        assert!(to.accepted(ONE, addr));
        let bytes = [from.write(ONE, &HELLO, &a, &mut rng).unwrap(), from.write(ONE, &Frame::MembersEnd, &a, &mut rng).unwrap()].concat();
        let mut frames = Vec::new();
        for byte in bytes {
            to.push(ONE, &[byte]);
            while let Some(arrived) = to.pop(ONE, &mut b).unwrap() {
                frames.push(arrived.frame);
            }
        }
        assert_eq!(frames, [HELLO, Frame::MembersEnd]);
    }

    #[test]
    fn garbage_breaks_the_stream_with_a_reason() {
        let mut b = Sealer::new("c", None, NodeId(2), 2);
        let mut streams = Streams::default();
        streams.accepted(ONE, ([127, 0, 0, 1], 1).into());
        streams.push(ONE, &[255; 8]);
        assert_eq!(streams.pop(ONE, &mut b), Err(Broken("frame_length")));
    }
}
