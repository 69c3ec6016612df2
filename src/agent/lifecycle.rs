//! From ready to gone: signals, reloads, a clean leave within a bound.

use std::time::Duration;

use super::reload::Reloaded;
use super::{Agent, Ended, notify};
use crate::settings::{Problem, Settings};

/// A clean leave tells the others and stores what is left; longer than this is a cut-off network or a dead disk.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What ends or changes a running agent from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// SIGTERM, SIGINT: leave.
    Leave,
    /// SIGHUP: read the settings again.
    Reload,
}

/// Settings that were read again, and what of them whoever read them put to work already.
pub type Reread = Result<(Settings, Vec<&'static str>), Problem>;

/// Runs an agent until it is told to leave or its engine ends.
///
/// `reload` reads the settings again and is called at each SIGHUP and each request for it.
///
/// # Errors
/// The system lends no signals, or the engine stopped by itself, which only a bug can cause.
pub async fn run(agent: Agent, reload: impl Fn() -> Reread) -> std::io::Result<()> {
    let handle = agent.handle().clone();
    let outcome = until_ended(agent, reload).await;
    // An engine that broke, or was not waited for, has told nobody.
    handle.stop();
    outcome
}

async fn until_ended(mut agent: Agent, reload: impl Fn() -> Reread) -> std::io::Result<()> {
    let mut signals = Signals::listen()?;
    tokio::spawn(notify::feed_watchdog(agent.handle().clone()));
    notify::ready(&format!("{} gossips at {}", agent.handle().facts().node, agent.handle().facts().advertise));
    loop {
        let asked = tokio::select! {
            ended = &mut agent.ended => return outcome(ended.map_or(Ended::Broken, |()| Ended::Left)),
            signal = signals.next() => match signal {
                Signal::Leave => break,
                Signal::Reload => None,
            },
            asked = agent.reloads.recv() => asked,
        };
        let outcome = reread(&mut agent, &reload);
        if let Some(asked) = asked {
            // Whoever asked may be gone; the log has it too.
            let _ = asked.send(outcome.map_err(|why| why.to_string()));
        }
    }
    notify::stopping();
    tracing::info!("leaving");
    let ended = tokio::select! {
        ended = agent.leave(LEAVE_TIMEOUT) => ended,
        // Whoever asks twice does not want to wait.
        () = signals.second_leave() => Ended::Left,
    };
    outcome(ended)
}

/// Reads the settings again and takes over what may change; where they are wrong, nothing does.
fn reread(agent: &mut Agent, reload: &impl Fn() -> Reread) -> Result<Reloaded, Problem> {
    notify::reloading();
    let outcome = reload().map(|(settings, mut changed)| {
        let mut reloaded = agent.apply(&settings);
        changed.append(&mut reloaded.changed);
        Reloaded { changed, ..reloaded }
    });
    match &outcome {
        Ok(Reloaded { changed, needs_restart }) => {
            tracing::info!(?changed, "the settings were read again");
            if !needs_restart.is_empty() {
                tracing::warn!(settings = ?needs_restart, "changed settings that count after a restart only");
            }
        }
        Err(why) => tracing::warn!(%why, "the settings stay as they are"),
    }
    notify::ready("reloaded");
    outcome
}

fn outcome(ended: Ended) -> std::io::Result<()> {
    match ended {
        Ended::Left => Ok(()),
        Ended::TooSlow => {
            tracing::warn!("the others could not be told in time; they will notice by themselves");
            Ok(())
        }
        Ended::Broken => Err(std::io::Error::other("the engine stopped by itself: this is a bug; its panic stands above")),
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Leave,
            _ = self.interrupt.recv() => Signal::Leave,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    async fn second_leave(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        // Without Ctrl-C there is nothing else to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Leave
    }

    async fn second_leave(&mut self) {
        self.next().await;
    }
}
