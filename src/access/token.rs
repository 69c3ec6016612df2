//! Secrets, known by their hashes alone.
//!
//! A token is made of 256 random bits, so one SHA-256 is all it takes: there is nothing to guess that a slow hash would slow down, and
//! every request pays for the hash. The file may hold the hash instead of the token; whoever reads it then learns no token.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::Grant;

/// What our own tokens begin with, so that people and scanners know them for what they are.
const PREFIX: &str = "tdt_";
const HASH_PREFIX: &str = "sha256:";
/// A shorter secret could be guessed.
const SECRET_CHARS_MIN: usize = 16;
const SECRET_CHARS_MAX: usize = 512;

/// One token of an agent's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// For people: it stands in refusals.
    pub name: String,
    pub secret: Secret,
    pub grants: Vec<Grant>,
}

/// The SHA-256 of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The text of a token made of random bytes.
    pub fn text(random: &[u8; 32]) -> String {
        format!("{PREFIX}{}", hexadecimal(random))
    }

    /// That of a token as a client shows it.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b));
        std::hint::black_box(difference) == 0
    }

    /// As settings may hold it: `sha256:` and the hash.
    pub fn to_hash(&self) -> String {
        format!("{HASH_PREFIX}{}", hexadecimal(&self.0))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// A text that cannot be a secret. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadSecret {
    Hash,
    Length,
    Characters,
}

impl fmt::Display for BadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadSecret::Hash => write!(f, "expected 64 hexadecimal digits behind {HASH_PREFIX}"),
            BadSecret::Length => write!(f, "expected {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} characters"),
            BadSecret::Characters => f.write_str("expected letters, digits and signs without spaces"),
        }
    }
}

impl std::error::Error for BadSecret {}

impl FromStr for Secret {
    type Err = BadSecret;

    /// `sha256:` and a hash, or the token itself.
    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim();
        if let Some(digits) = text.strip_prefix(HASH_PREFIX) {
            return hash(digits).map(Self).ok_or(BadSecret::Hash);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadSecret::Characters);
        }
        if !(SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&text.len()) {
            return Err(BadSecret::Length);
        }
        Ok(Self::of(text))
    }
}

fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_its_hash_are_the_same_secret() {
        let text = Secret::text(&[7; 32]);
        assert_eq!(text.len(), PREFIX.len() + 64);
        let secret: Secret = text.parse().unwrap();
        assert!(secret.is(&Secret::of(&text)) && secret.is(&secret.to_hash().parse().unwrap()));
        assert!(!secret.is(&Secret::of(&Secret::text(&[8; 32]))));
        // The hash in the file opens nothing.
        assert!(!secret.is(&Secret::of(&secret.to_hash())));
        assert_eq!(format!("{secret:?}"), "a secret");
        // FIPS 180-2's own example.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Secret::of("abc").to_hash(), abc);
    }

    #[test]
    fn what_is_too_short_or_garbled_is_no_secret() {
        let parse = |text: &str| text.parse::<Secret>();
        assert_eq!(parse("hunter2"), Err(BadSecret::Length));
        assert_eq!(parse(""), Err(BadSecret::Length));
        assert_eq!(parse("correct horse battery staple"), Err(BadSecret::Characters));
        for hash in ["sha256:", "sha256:abcd", &format!("sha256:{}", "g".repeat(64)), &format!("sha256:{}é", "a".repeat(62))] {
            assert_eq!(parse(hash), Err(BadSecret::Hash), "{hash}");
        }
    }
}
