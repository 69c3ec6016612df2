//! Gossip keys: several installed, one used, changed without downtime (protocol.md §5).
//!
//! A change is three steps, each finished everywhere before the next: install the new key, use it, remove the old one. What is
//! sealed with any installed key is opened, so agents in different steps understand each other. Where keys are stored and how the
//! steps reach other agents is left to others.

use std::{fmt, str::FromStr};

use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::model::command::{GossipKey, KeyId};

/// Keys that may be installed at once: an old and a new one in ordinary times, with room for changes that were given up.
pub const KEYS_MAX: usize = 8;

const KEY_BYTES: usize = 32;
const HEX_CHARS: usize = 64;
const BASE64_CHARS: usize = 44;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A 256-bit key that seals datagrams and frames.
///
/// As text it is 44 characters of base64 ([`Key::to_text`]) or 64 hexadecimal digits; it shows nobody more than its id unless asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
    id: KeyId,
}

impl Key {
    /// A key of 256 random bits.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self { bytes, id: id_of(&bytes) }
    }

    /// The short name of this key, which datagrams carry in clear.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The secret itself, for the store.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// The secret as text, as `tidings keygen` prints it.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(BASE64_CHARS);
        for group in self.bytes.chunks(3) {
            let mut bits = [0; 4];
            bits[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(bits);
            for place in 0..4 {
                let digit = BASE64[(bits >> (18 - 6 * place)) as usize & 63];
                text.push(if place <= group.len() { char::from(digit) } else { '=' });
            }
        }
        text
    }

    pub(super) fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.bytes.into())
    }
}

impl From<&GossipKey> for Key {
    fn from(key: &GossipKey) -> Self {
        Self::from_bytes(key.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl FromStr for Key {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let text = text.trim();
        let bytes = match text.len() {
            HEX_CHARS => from_hex(text.as_bytes()),
            BASE64_CHARS => from_base64(text.as_bytes()),
            chars => return Err(KeyTextError::Length { chars }),
        };
        Ok(Self::from_bytes(bytes.ok_or(KeyTextError::Digit)?))
    }
}

/// Why a text is no key. It never holds the text: that may be a key with one wrong character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTextError {
    Length { chars: usize },
    Digit,
}

impl fmt::Display for KeyTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { chars } => {
                write!(f, "a key has {BASE64_CHARS} characters of base64 or {HEX_CHARS} hexadecimal digits, not {chars}")
            }
            Self::Digit => write!(f, "a key is 256 bits of base64 ({BASE64_CHARS} characters) or hexadecimal ({HEX_CHARS} digits)"),
        }
    }
}

impl std::error::Error for KeyTextError {}

/// The id of a key says nothing about it: it is cut from a tag that only the key's holder can compute.
///
/// The all-zero nonce is used for nothing else: datagrams and frames draw theirs from 192 random bits.
fn id_of(key: &[u8; KEY_BYTES]) -> KeyId {
    let cipher = XChaCha20Poly1305::new(&(*key).into());
    let tag: Tag = cipher
        .encrypt_inout_detached(&XNonce::default(), b"tidings key id", (&mut [][..]).into())
        .expect("an empty text is never too long for the cipher");
    KeyId(u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]))
}

/// The installed keys, one of which seals what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Never empty; the used one first.
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring with one key, which is used.
    pub fn new(used: Key) -> Self {
        Self { keys: vec![used] }
    }

    /// A ring as it was stored: distinct keys, the used one first. None if there are none; those beyond [`KEYS_MAX`] are left out.
    pub fn from_stored(keys: impl IntoIterator<Item = [u8; KEY_BYTES]>) -> Option<Self> {
        let mut keys = keys.into_iter().map(Key::from_bytes);
        let mut ring = Self::new(keys.next()?);
        for key in keys {
            // What does not fit or bears a taken id could not have been in use.
            let _ = ring.install(key);
        }
        Some(ring)
    }

    /// The key that seals what is sent.
    pub fn used(&self) -> &Key {
        &self.keys[0]
    }

    /// All installed keys, the used one first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The installed key of that name.
    pub fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Installs a key, so that what others seal with it is opened; says whether it is new here.
    pub fn install(&mut self, key: Key) -> Result<bool, KeyringError> {
        match self.key(key.id) {
            Some(installed) if *installed == key => return Ok(false),
            Some(_) => return Err(KeyringError::IdTaken(key.id)),
            None => {}
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyringError::Full);
        }
        self.keys.push(key);
        Ok(true)
    }

    /// Seals with an installed key from now on; says whether that is a change.
    ///
    /// The others stay in the order of their installation.
    pub fn use_key(&mut self, id: KeyId) -> Result<bool, KeyringError> {
        let place = self.keys.iter().position(|key| key.id == id).ok_or(KeyringError::Unknown(id))?;
        let key = self.keys.remove(place);
        self.keys.insert(0, key);
        Ok(place != 0)
    }

    /// Forgets a key that is not used: what is sealed with it is refused from now on.
    pub fn remove(&mut self, id: KeyId) -> Result<(), KeyringError> {
        match self.keys.iter().position(|key| key.id == id) {
            None => Err(KeyringError::Unknown(id)),
            Some(0) => Err(KeyringError::Used(id)),
            Some(place) => {
                self.keys.remove(place);
                Ok(())
            }
        }
    }
}

/// Why a ring was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringError {
    /// [`KEYS_MAX`] keys are installed.
    Full,
    /// Another key has the same name; one in four billion pairs does.
    IdTaken(KeyId),
    /// No such key is installed.
    Unknown(KeyId),
    /// The key is the used one; use another first.
    Used(KeyId),
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{KEYS_MAX} keys are installed, which is the most: remove one first"),
            Self::IdTaken(id) => write!(f, "another key is installed as {id}: make a new key"),
            Self::Unknown(id) => write!(f, "no key {id} is installed"),
            Self::Used(id) => write!(f, "key {id} is the used one: use another before removing it"),
        }
    }
}

impl std::error::Error for KeyringError {}

fn from_hex(digits: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(bytes)
}

fn from_base64(digits: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let digits = digits.strip_suffix(b"=")?;
    let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            bits = bits << 6 | BASE64.iter().position(|&known| known == digit)? as u32;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    // 43 digits hold 258 bits: two of them belong to no byte, and one text per key leaves them zero.
    (bytes.pop() == Some(0)).then_some(())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::from_bytes([n; KEY_BYTES])
    }

    #[test]
    fn a_key_reads_back_from_either_text_form() {
        let key = Key::from_bytes(std::array::from_fn(|i| (i * 7) as u8));
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(key.to_text(), "AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk=");
        assert_eq!(key.to_text().parse(), Ok(key.clone()));
        assert_eq!(hex.parse(), Ok(key.clone()));
        assert_eq!(format!("  {hex}\n").parse(), Ok(key));
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let text = key(0xab).to_text();
        assert_eq!("".parse::<Key>(), Err(KeyTextError::Length { chars: 0 }));
        assert_eq!(text[1..].parse::<Key>(), Err(KeyTextError::Length { chars: 43 }));
        assert_eq!(text.replace('q', "*").parse::<Key>(), Err(KeyTextError::Digit));
        assert_eq!(text.replace('=', "q").parse::<Key>(), Err(KeyTextError::Digit), "no room for 33 bytes");
        assert_eq!("g".repeat(64).parse::<Key>(), Err(KeyTextError::Digit));
        let last_bits = format!("{}t=", &text[..42]);
        assert_eq!(last_bits.parse::<Key>(), Err(KeyTextError::Digit), "two texts would be one key");
    }

    #[test]
    fn debug_shows_the_id_only() {
        let key = key(0x5a);
        assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
    }

    #[test]
    fn a_key_is_changed_in_three_steps() {
        let mut ring = Keyring::new(key(1));
        assert_eq!(ring.install(key(2)), Ok(true));
        assert_eq!(ring.install(key(2)), Ok(false));
        assert_eq!(ring.used(), &key(1), "installing is not using");
        assert_eq!(ring.use_key(key(2).id()), Ok(true));
        assert_eq!(ring.use_key(key(2).id()), Ok(false));
        assert_eq!(ring.remove(key(1).id()), Ok(()));
        assert_eq!(ring.keys(), [key(2)]);
        ring.install(key(3)).unwrap();
        assert_eq!(Keyring::from_stored(ring.keys().iter().map(|key| *key.as_bytes())), Some(ring));
        assert_eq!(Keyring::from_stored([]), None);
    }

    #[test]
    fn the_ring_refuses_what_would_break_it() {
        let mut ring = Keyring::new(key(1));
        assert_eq!(ring.remove(key(1).id()), Err(KeyringError::Used(key(1).id())));
        assert_eq!(ring.remove(key(2).id()), Err(KeyringError::Unknown(key(2).id())));
        assert_eq!(ring.use_key(key(2).id()), Err(KeyringError::Unknown(key(2).id())));
        for n in 2..=KEYS_MAX as u8 {
            assert_eq!(ring.install(key(n)), Ok(true));
        }
        assert_eq!(ring.install(key(99)), Err(KeyringError::Full));
        assert_eq!(ring.install(key(3)), Ok(false), "an installed one is no more");
    }
}
