//! Reading the settings again while the agent runs: by SIGHUP and by request alike.

use tokio::sync::{mpsc, oneshot};

use super::handle::Handle;
use crate::model::command::Refusal;

/// Requests that wait; more are refused.
pub(super) const RELOADS_MAX: usize = 4;

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

impl Handle {
    /// Hears who wants a reload from now on; called once, by whoever reads the settings.
    pub(super) fn take_reloads(&self) -> mpsc::Receiver<Asked> {
        let (sender, asked) = mpsc::channel(RELOADS_MAX);
        // A second one hears nothing: its sender is gone.
        let _ = self.reloads().set(sender);
        asked
    }

    /// Reads the settings again, as SIGHUP does.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]: the settings are wrong; nothing changed. [`Refusal::Unavailable`]: the agent stops, or reads none.
    pub async fn reload(&self) -> Result<Reloaded, Refusal> {
        let unread = || Refusal::Unavailable { why: "this agent reads no settings again".into() };
        let (reply, answer) = oneshot::channel();
        self.reloads().get().ok_or_else(unread)?.try_send(reply).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::Busy { retry_after_ms: 1_000, why: "the settings are being read already".into() }
            }
            mpsc::error::TrySendError::Closed(_) => unread(),
        })?;
        match answer.await {
            Ok(outcome) => outcome.map_err(|why| Refusal::Invalid { what: why }),
            Err(_) => Err(Refusal::Unavailable { why: "the agent is stopping".into() }),
        }
    }
}
