//! What systemd is told: ready, reloading, stopping; and the watchdog, fed only while the engine turns.

use std::time::Duration;

use sd_notify::NotifyState;

use super::handle::Handle;

/// An engine that was silent for longer is stuck: the watchdog is left to bite.
const SILENCE_MAX: Duration = Duration::from_secs(5);

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that a reload begins; [`ready`] says that it is over.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(why) => tracing::debug!(%why, "no monotonic clock for systemd"),
    }
}

/// Feeds the watchdog, where systemd set one, until the agent stops.
pub async fn feed_watchdog(handle: Handle) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut every = tokio::time::interval(limit / 2);
    loop {
        tokio::select! {
            () = handle.stopping() => return,
            _ = every.tick() => {}
        }
        if handle.since_last_turn() < SILENCE_MAX {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(silent_ms = handle.since_last_turn().as_millis(), "the engine does not turn");
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and nothing to tell.
    if let Err(why) = sd_notify::notify(states) {
        tracing::debug!(%why, "systemd was not told");
    }
}
