//! Time as it is handed to the pure rooms: they never ask for it.

use serde::{Deserialize, Serialize};

/// The two clocks of one moment, as the driver of an engine reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Nanoseconds since the engine started; never goes back. All timers run on it.
    pub ns: u64,
    /// The wall clock in Unix milliseconds; may jump either way. Only epochs, claims, revisions and what people read come from it.
    pub wall_ms: u64,
}

impl Now {
    /// Milliseconds since the engine started.
    pub fn ms(self) -> u64 {
        self.ns / 1_000_000
    }

    /// The monotonic instant `ms` milliseconds from now, in nanoseconds.
    pub fn after_ms(self, ms: u64) -> u64 {
        self.ns.saturating_add(ms.saturating_mul(1_000_000))
    }
}

/// An instant of the wall clock in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallMs(pub u64);
