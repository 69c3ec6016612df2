//! Reads datagrams as somebody with the key can: which kinds of part they hold.

use bytes::Bytes;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use tidings::engine::wire::keyring::{Key, Keyring};
use tidings::engine::wire::packet::Part;
use tidings::engine::wire::seal::Sealer;
use tidings::model::names::NodeId;

/// The kinds of part, in the order of their variants on the wire.
const KINDS: [&str; 21] = [
    "swim",
    "roots",
    "delta",
    "adverts",
    "wants",
    "fetch-instead",
    "sketch",
    "undecoded",
    "heads",
    "ask",
    "answer",
    "whose",
    "challenge",
    "echo",
    "compare",
    "lane",
    "datacenters",
    "forgotten",
    "gateway",
    "members",
    "coordinate",
];
/// A packet of the membership.
pub const SWIM: u8 = 0;
/// What rides along with it from every agent that is ready.
pub const ROOTS: u8 = 1;

pub struct Reader(Sealer);

impl Reader {
    /// For agents of that label; with a key, if packets are sealed.
    pub fn new(label: &str, key: Option<[u8; 32]>) -> Self {
        Self(Sealer::new(label, key.map(|key| Keyring::new(Key::from_bytes(key))), NodeId(u128::MAX), 0))
    }

    /// The variants of a datagram's parts; none where it cannot be opened.
    pub fn variants(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.0.open(datagram).ok().map(|opened| variants(&opened.body))
    }

    /// What a datagram says; none where it cannot be opened.
    pub fn body(&mut self, datagram: &[u8]) -> Option<Bytes> {
        self.0.open(datagram).ok().map(|opened| Bytes::copy_from_slice(&opened.body))
    }

    /// The names of a datagram's parts; none where it cannot be opened.
    pub fn parts(&mut self, datagram: &[u8]) -> Option<Vec<&'static str>> {
        Some(self.variants(datagram)?.into_iter().map(|variant| KINDS.get(usize::from(variant)).copied().unwrap_or("unknown")).collect())
    }
}

/// A part as the body of a datagram of its own.
pub fn body_of(part: &Part) -> Vec<u8> {
    let part = postcard::to_stdvec(part).expect("a part is plain data");
    debug_assert!(part.len() < 128, "the length is one byte");
    [&[part.len() as u8], part.as_slice()].concat()
}

/// A body as somebody with the key can send it; a new `draw` makes a new sender.
pub fn sealed(label: &str, key: Option<[u8; 32]>, draw: u64, body: &[u8]) -> Bytes {
    let keyring = key.map(|key| Keyring::new(Key::from_bytes(key)));
    Sealer::new(label, keyring, NodeId(u128::MAX - 1), draw).seal(&mut ChaCha12Rng::seed_from_u64(draw), body)
}

/// Each part stands behind its length, and begins with its variant.
fn variants(body: &[u8]) -> Vec<u8> {
    let (mut kinds, mut rest) = (Vec::new(), body);
    while let Some((length, after)) = varint(rest) {
        let Some(part) = after.get(..length) else { break };
        kinds.extend(part.first());
        rest = &after[length..];
    }
    kinds
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
