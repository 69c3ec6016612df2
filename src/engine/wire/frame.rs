//! Frames as a byte stream: the length of each before it, as four bytes, little endian (protocol.md §5).
//!
//! What is in a frame, and whether it belongs here, is [`super::stream`]'s.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

use super::FRAME_BYTES_MAX;

/// The bytes before each frame.
pub const LENGTH_BYTES: usize = 4;

/// Appends `frame` and its length to `out`.
///
/// A frame above [`FRAME_BYTES_MAX`] is a bug: the other side closes the stream on its length.
pub fn put_frame(out: &mut BytesMut, frame: &[u8]) {
    debug_assert!(!frame.is_empty() && frame.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", frame.len());
    out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    out.extend_from_slice(frame);
}

/// Cuts a byte stream into frames, as the bytes arrive.
///
/// It holds what was pushed and not popped, and never sets memory aside for what a length announces: a reader that pops before it
/// pushes again holds less than one frame and one read.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: BytesMut,
}

impl FrameReader {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is here. An error is final: where the next frame begins is not known.
    pub fn pop(&mut self) -> Result<Option<Bytes>, BadLength> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(BadLength { length });
        }
        if self.bytes.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }

    /// Whether the stream may end here: between two frames.
    pub fn is_between_frames(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A length no frame has: the other side speaks something else, or means no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLength {
    pub length: usize,
}

impl fmt::Display for BadLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes; they have 1 to {FRAME_BYTES_MAX}", self.length)
    }
}

impl std::error::Error for BadLength {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_no_frame_has_ends_the_stream() {
        for length in [0, FRAME_BYTES_MAX + 1, u32::MAX as usize] {
            let mut reader = FrameReader::default();
            reader.push(&(length as u32).to_le_bytes());
            assert_eq!(reader.pop(), Err(BadLength { length }));
            reader.push(&[1, 0, 0, 0, 7]);
            assert_eq!(reader.pop(), Err(BadLength { length }), "and stays so");
        }
    }

    #[test]
    fn a_length_alone_costs_no_memory() {
        let mut reader = FrameReader::default();
        reader.push(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        assert_eq!(reader.pop(), Ok(None));
        assert!(reader.bytes.capacity() < 1_024);
        assert!(!reader.is_between_frames());
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..20),
            cut in 1..50_usize,
        ) {
            let mut stream = BytesMut::new();
            frames.iter().for_each(|frame| put_frame(&mut stream, frame));
            let (mut reader, mut read) = (FrameReader::default(), Vec::new());
            for piece in stream.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.pop().expect("the lengths are good") {
                    read.push(frame.to_vec());
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(reader.is_between_frames());
        }
    }
}
