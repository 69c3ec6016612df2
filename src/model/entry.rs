//! Key-value entries as they travel: the body of a record of kind `entry`. The key is the record's name.

use super::limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What an entry is called inside its namespace: any text, `/` for those who like trees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EntryKey(Arc<str>);

impl EntryKey {
    /// # Errors
    /// It is empty, or longer than [`limits::ENTRY_KEY_BYTES_MAX`].
    pub fn new(text: &str) -> Result<Self, EntryKeyError> {
        match text.len() {
            0 => Err(EntryKeyError::Empty),
            bytes if bytes > limits::ENTRY_KEY_BYTES_MAX => Err(EntryKeyError::TooLong { bytes }),
            _ => Ok(Self(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntryKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKeyError {
    Empty,
    TooLong { bytes: usize },
}

impl fmt::Display for EntryKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryKeyError::Empty => f.write_str("a key must not be empty"),
            EntryKeyError::TooLong { bytes } => write!(f, "the key has {bytes} bytes; at most {} are allowed", limits::ENTRY_KEY_BYTES_MAX),
        }
    }
}

impl std::error::Error for EntryKeyError {}

/// The body of a record of kind `entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBody<'a> {
    /// The client's, opaque here.
    pub flags: u64,
    #[serde(serialize_with = "super::bytes::serialize")]
    pub value: &'a [u8],
}
