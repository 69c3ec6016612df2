//! Who may do what at this agent: its rules, exchanged while it runs, at the two places where they are asked.
//!
//! Listeners ask when a request's head is there ([`Guard::admit`]) and let the request's work run as its caller ([`acting_for`]). The
//! handle asks again when that work hands in a command ([`permit`]). What runs as nobody is the agent itself: its checks, its seeds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::access::{Caller, Denied, Need, Rules, need};
use crate::model::command::{Command, Refusal, Target};
use crate::view::View;

tokio::task_local! {
    /// Whom the running request acts for. A request is one task; what it spawns acts for the agent, so it spawns no commands.
    static CALLER: Caller;
}

/// The rules in force.
pub struct Guard {
    rules: ArcSwap<Rules>,
    /// Rises with each exchange: what was let in by other rules is over.
    exchanged: watch::Sender<u64>,
    no_token: Counter,
    unknown_token: Counter,
    not_granted: Counter,
}

impl Guard {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let denied = Family::<[(&str, &str); 1], Counter>::default();
        registry.register("tidings_access_denied", "Requests that were denied, by reason", denied.clone());
        let by = |reason| denied.get_or_create(&[("reason", reason)]).clone();
        let (no_token, unknown_token, not_granted) = (by("no_token"), by("unknown_token"), by("not_granted"));
        Self { rules: ArcSwap::default(), exchanged: watch::Sender::new(0), no_token, unknown_token, not_granted }
    }

    /// Puts other rules in force.
    pub fn exchange(&self, rules: Rules) {
        if **self.rules.load() != rules {
            self.rules.store(Arc::new(rules));
            self.exchanged.send_modify(|count| *count += 1);
        }
    }

    /// Changes when other rules are in force. Streams that stay open end then: whoever they are for shows his token again.
    pub fn exchanges(&self) -> watch::Receiver<u64> {
        self.exchanged.subscribe()
    }

    /// Whether there are no rules.
    pub fn is_open(&self) -> bool {
        self.rules.load().is_open()
    }

    /// Lets in who shows this token, or none, and needs this.
    ///
    /// # Errors
    /// Says what is missing. It is counted; the token is nowhere repeated.
    pub fn admit(&self, shown: Option<&str>, need: Need<'_>) -> Result<Caller, Denied> {
        let caller = self.rules.load().caller(shown);
        match caller.may(need) {
            Ok(()) => Ok(caller),
            Err(denied) => {
                self.count(&denied);
                Err(denied)
            }
        }
    }

    fn count(&self, denied: &Denied) {
        match denied {
            Denied::NoToken { .. } => self.no_token.inc(),
            Denied::UnknownToken => self.unknown_token.inc(),
            Denied::NotGranted { .. } => self.not_granted.inc(),
            // The door's, which is not ours.
            Denied::Misdirected { .. } | Denied::ForeignOrigin { .. } => 0,
        };
    }

    /// Whether whoever this work runs for may have this command carried out.
    pub(super) fn permit(&self, command: &Command, view: &View) -> Result<(), Refusal> {
        let permitted = CALLER.try_with(|caller| {
            let is_of = |target: &Target| {
                let service = view.service(target.namespace.as_str(), target.service.as_str());
                target.uid.is_some_and(|uid| service.is_some_and(|service| service.find(uid).is_some()))
            };
            need::of(command, &is_of, &mut |need| caller.may(need))
        });
        let Ok(Err(denied)) = permitted else { return Ok(()) };
        self.count(&denied);
        Err(Refusal::Denied { has_token: !matches!(denied, Denied::NoToken { .. }), why: denied.to_string() })
    }
}

/// Does work as its caller: commands it hands in are his.
pub async fn acting_for<F: Future>(caller: Caller, work: F) -> F::Output {
    if caller.is_anybody() { work.await } else { CALLER.scope(caller, work).await }
}
