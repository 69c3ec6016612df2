//! Chunks of bulk transfers, compressed where it helps (protocol.md §4, Bulk).
//!
//! A packed chunk is one byte that says how, then for `RAW` the chunk itself, for `LZ4` the chunk's length as four bytes, little
//! endian, and one lz4 block.

use std::fmt;

/// The longest chunk, in bytes before compression: even one that does not shrink fits a frame.
pub const CHUNK_BYTES_MAX: usize = 240 * 1_024;

/// What packing adds at the most: to a chunk that does not shrink.
pub const OVERHEAD_BYTES_MAX: usize = 1;

/// No lz4 block holds more than this many bytes for each of its own.
const LZ4_RATIO_MAX: usize = 255;

const RAW: u8 = 0;
const LZ4: u8 = 1;
const LENGTH_BYTES: usize = 4;

/// `chunk` packed: compressed if that makes it shorter. One above [`CHUNK_BYTES_MAX`] is a bug: nobody unpacks it.
pub fn pack(chunk: &[u8]) -> Vec<u8> {
    debug_assert!(chunk.len() <= CHUNK_BYTES_MAX, "a chunk of {} bytes", chunk.len());
    let block = lz4_flex::block::compress(chunk);
    let mut packed = Vec::with_capacity(1 + LENGTH_BYTES + block.len().min(chunk.len()));
    if LENGTH_BYTES + block.len() < chunk.len() {
        packed.push(LZ4);
        packed.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        packed.extend_from_slice(&block);
    } else {
        packed.push(RAW);
        packed.extend_from_slice(chunk);
    }
    packed
}

/// The chunk that was packed. Memory is set aside only for a length that is within the limit and within reach of the bytes at hand.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, BadChunk> {
    match packed.split_first() {
        None => Err(BadChunk::Truncated),
        Some((&RAW, chunk)) if chunk.len() > CHUNK_BYTES_MAX => Err(BadChunk::TooLong),
        Some((&RAW, chunk)) => Ok(chunk.to_vec()),
        Some((&LZ4, rest)) => {
            let (length, block) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(BadChunk::Truncated)?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > CHUNK_BYTES_MAX {
                return Err(BadChunk::TooLong);
            }
            if length > block.len() * LZ4_RATIO_MAX {
                return Err(BadChunk::Corrupt);
            }
            let mut chunk = vec![0; length];
            match lz4_flex::block::decompress_into(block, &mut chunk) {
                Ok(written) if written == length => Ok(chunk),
                Ok(_) | Err(_) => Err(BadChunk::Corrupt),
            }
        }
        Some(_) => Err(BadChunk::Method),
    }
}

/// Why bytes are no packed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadChunk {
    Truncated,
    /// It is, or says it is, longer than any chunk.
    TooLong,
    /// It is packed in a way this agent does not know.
    Method,
    Corrupt,
}

impl fmt::Display for BadChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the chunk ends early",
            Self::TooLong => "the chunk is longer than any is",
            Self::Method => "the chunk is packed in an unknown way",
            Self::Corrupt => "the chunk does not unpack",
        })
    }
}

impl std::error::Error for BadChunk {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_shrinks_and_what_does_not_grows_by_one_byte() {
        let repeats = b"instance".repeat(1_000);
        assert!(pack(&repeats).len() < 100);
        let noise: Vec<u8> = (0..10_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let noise: Vec<u8> = noise.chunks(251).enumerate().flat_map(|(i, c)| c.iter().map(move |b| b ^ (i * 89) as u8)).take(64).collect();
        assert_eq!(pack(&noise).len(), noise.len() + OVERHEAD_BYTES_MAX);
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut packed = pack(&b"instance".repeat(1_000));
        packed[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&packed), Err(BadChunk::TooLong));
        packed[1..5].copy_from_slice(&(CHUNK_BYTES_MAX as u32).to_le_bytes());
        assert_eq!(unpack(&packed), Err(BadChunk::Corrupt), "no block of this size holds that much");
        packed[1..5].copy_from_slice(&7_999_u32.to_le_bytes());
        assert_eq!(unpack(&packed), Err(BadChunk::Corrupt));
        packed[1..5].copy_from_slice(&8_001_u32.to_le_bytes());
        assert_eq!(unpack(&packed), Err(BadChunk::Corrupt));
        assert_eq!(unpack(&[]), Err(BadChunk::Truncated));
        assert_eq!(unpack(&[LZ4, 0, 0]), Err(BadChunk::Truncated));
        assert_eq!(unpack(&[7]), Err(BadChunk::Method));
        assert_eq!(unpack(&vec![RAW; CHUNK_BYTES_MAX + 2]), Err(BadChunk::TooLong));
    }

    proptest! {
        #[test]
        fn chunks_come_back(chunk in prop::collection::vec(0..4_u8, 0..5_000)) {
            prop_assert_eq!(unpack(&pack(&chunk)), Ok(chunk));
        }

        #[test]
        fn mutated_chunks_never_panic(chunk in prop::collection::vec(0..4_u8, 0..500), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut packed = pack(&chunk);
            let at = at.index(packed.len());
            packed[at] = byte;
            let _ = unpack(&packed);
            let _ = unpack(&packed[..at]);
        }
    }
}
