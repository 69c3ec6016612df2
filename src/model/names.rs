//! Names: validated once, where they enter, so that no room behind has to ask again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The random 128 bits that name an agent for as long as its data directory lives; as an *origin*, the author of records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u128);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    /// Eight digits are enough to tell agents apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}
