//! Names as they travel: labels behind their lengths, the last one empty (RFC 1035 §3.1).
//!
//! Lengths are below 64 and letters above it, so that folding the case of the bytes folds the case of the labels and nothing else.

use super::wire::NAME_BYTES_MAX;
use std::fmt;

const LABEL_BYTES_MAX: usize = 63;

/// A whole name, the root's label included.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// Of labels, from the front; none where one is empty or longer than DNS has them, or all together are.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Name> {
        let mut bytes = Vec::new();
        for label in labels {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return None;
            }
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        (bytes.len() <= NAME_BYTES_MAX).then_some(Name(bytes))
    }

    /// Of a text with dots between labels, and perhaps at the end.
    pub fn parse(text: &str) -> Option<Name> {
        Name::of(text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes))
    }

    /// Of labels in front of another name.
    pub fn under<'a>(labels: impl IntoIterator<Item = &'a [u8]>, parent: &'a Name) -> Option<Name> {
        Name::of(labels.into_iter().chain(Labels(parent.as_bytes())))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Labels(&self.0).try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

/// The labels of a whole name, without the root's.
#[derive(Debug, Clone)]
pub struct Labels<'n>(pub &'n [u8]);

impl<'n> Iterator for Labels<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        let (length, rest) = self.0.split_first()?;
        if *length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(label)
    }
}
