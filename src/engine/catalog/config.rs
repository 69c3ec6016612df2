//! The catalog's settings.

use crate::engine::sabotage::Broken;

/// Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogConfig {
    /// How long tombstones are kept after they came.
    pub tombstone_ms: u64,
    /// Tombstones older than that which are kept because an origin is out of sight: some 30 MB of them, or a delete a second for the
    /// three days until an origin is given up.
    pub awaiting_tombstones_max: usize,
    /// How long after its death an origin is given up.
    pub reap_after_ms: u64,
    /// How long after its agent's death an instance is listed, as not available.
    pub listed_ms: u64,
    /// The origins are another datacenter's: they live by its gateways' word, nothing is issued anew for them here, and which of an origin's
    /// lives is the truth was settled over there.
    pub is_import: bool,
    pub broken: Broken,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            tombstone_ms: 600_000,
            awaiting_tombstones_max: 262_144,
            reap_after_ms: 72 * 3_600_000,
            listed_ms: 3_600_000,
            is_import: false,
            broken: Broken::default(),
        }
    }
}
