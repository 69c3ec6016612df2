//! Ways in which one input becomes another.

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

/// Changes `input` in one way; `other` lends bytes.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha12Rng) {
    /// Ends of ranges of varints, lengths and counts.
    const EDGES: [&[u8]; 8] = [
        &[0],
        &[1],
        &[0x7f],
        &[0x80, 0x01],
        &[0xff, 0xff, 0x03],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let at = below(rng, input.len() + 1);
    let until = at + below(rng, (input.len() - at).min(64) + 1);
    match below(rng, 9) {
        0 if at < input.len() => input[at] ^= 1 << below(rng, 8),
        1 if at < input.len() => input[at] = rng.next_u32() as u8,
        2 if at < input.len() => input[at] = input[at].wrapping_add(if below(rng, 2) == 0 { 1 } else { u8::MAX }),
        3 => input.truncate(at),
        4 => drop(input.drain(at..until)),
        5 => {
            let again = input[at..until].to_vec();
            input.splice(until..until, again);
        }
        6 => {
            let edge = EDGES[below(rng, EDGES.len())];
            let end = (at + below(rng, 2) * edge.len()).min(input.len());
            input.splice(at..end, edge.iter().copied());
        }
        7 => {
            let from = below(rng, other.len() + 1);
            let piece = &other[from..from + below(rng, (other.len() - from).min(64) + 1)];
            input.splice(at..until, piece.iter().copied());
        }
        _ => {
            input.truncate(at);
            input.extend_from_slice(&other[below(rng, other.len() + 1)..]);
        }
    }
}

/// A number from 0 on, below `end`.
pub fn below(rng: &mut ChaCha12Rng, end: usize) -> usize {
    (rng.next_u64() % end as u64) as usize
}
