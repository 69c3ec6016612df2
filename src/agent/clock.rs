//! The two clocks and the entropy that the pure rooms are handed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::time::Now;

/// Monotonic time since an agent's start, and the wall clock beside it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is where the shell reads the clocks that it hands to the engine")]
impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        Now { ns: nanoseconds(self.start.elapsed()), wall_ms: wall_ms() }
    }

    /// The instant that the engine calls `ns`.
    pub fn instant(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }
}

/// The wall clock in Unix milliseconds.
#[allow(clippy::disallowed_methods, reason = "this is where the shell reads the clocks that it hands to the engine")]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// 256 random bits of the system.
///
/// # Errors
/// The system has no entropy to give; then nothing that needs secrets can run.
pub fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|why| std::io::Error::other(why.to_string()))?;
    Ok(seed)
}
