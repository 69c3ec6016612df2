//! Reading the settings again while the agent runs: by SIGHUP and by request alike.

use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};

use crate::model::command::Refusal;

/// Requests that wait; more are refused.
const RELOADS_MAX: usize = 4;
/// When who was refused may ask again.
const BUSY_RETRY_MS: u64 = 1_000;

/// What became of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that changed and count from now on.
    pub changed: Vec<&'static str>,
    /// Settings that changed and count after a restart only.
    pub needs_restart: Vec<&'static str>,
}

/// Somebody who wants the settings read again, and to hear why they stay as they are.
pub type Asked = oneshot::Sender<Result<Reloaded, String>>;

/// The way from who asks for a reload to who reads the settings, once there is somebody.
#[derive(Debug, Default)]
pub(super) struct Reloads(OnceLock<mpsc::Sender<Asked>>);

impl Reloads {
    pub fn take(&self) -> mpsc::Receiver<Asked> {
        let (sender, asked) = mpsc::channel(RELOADS_MAX);
        // A second one hears nothing: its sender is gone.
        let _ = self.0.set(sender);
        asked
    }

    pub async fn ask(&self) -> Result<Reloaded, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable { why: why.into() };
        let nobody = || unavailable("this agent reads no settings again");
        let (reply, answer) = oneshot::channel();
        self.0.get().ok_or_else(nobody)?.try_send(reply).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::Busy { retry_after_ms: BUSY_RETRY_MS, why: "the settings are being read already".into() }
            }
            mpsc::error::TrySendError::Closed(_) => nobody(),
        })?;
        match answer.await {
            Ok(outcome) => outcome.map_err(|why| Refusal::Invalid { what: why }),
            Err(_) => Err(unavailable("the agent is stopping")),
        }
    }
}
