//! A lab for tests of real agents: processes of the binary under test, on loopback or on hosts of their own.
//!
//! ```text
//! agent      one process of the binary: start, kill -9, pause, restart; its log; its HTTP answers
//!   on Site       a scratch directory, a key, and a loopback address that nobody else uses (no root needed)
//!   or Host       a network namespace with one TUN device (Linux, root)
//! network    Lab and Host; what one path between two hosts does to packets: cut, delay, jitter, loss
//! forward    the loop that carries packets between the TUN devices by those rules
//! namespace  the system calls behind a host
//! resident   a thread that lives in a host: sockets are opened and processes started there
//! http       a small HTTP/1.1 client whose sockets may come out of a host; server-sent events
//! ```
//!
//! Nothing here leaves a trace: a namespace has no name and ends with the thread that lives in it, a process started in
//! the lab ends with that thread too, and so with the test, however it ends.
#![allow(dead_code, reason = "each test binary uses a part of the lab")]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

pub mod agent;
#[cfg(target_os = "linux")]
pub mod forward;
pub mod http;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod network;
pub mod resident;

use std::time::{Duration, Instant};

/// Pause between two looks at a condition: short against everything a test measures with it.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds and returns how long that took.
///
/// # Panics
/// When it does not hold within `limit`; the message names what was waited for.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    wait_for(limit, what, || if condition() { Ok(()) } else { Err(String::from("it does not hold")) }).1
}

/// Waits until `look` finds something and returns it with the time that took.
///
/// # Panics
/// When it finds nothing within `limit`; the message names what was waited for and why the last look failed.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return (found, start.elapsed()),
            Err(why) if start.elapsed() > limit => panic!("waited {limit:?} for: {what}; last look: {why}"),
            Err(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}
