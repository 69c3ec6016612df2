//! Services of other datacenters that are known here by their summaries alone, for whoever reads them: a gateway fetches their
//! instances, and fetches them anew while somebody goes on reading (protocol.md §6).
//!
//! ```text
//! look_up      says that somebody reads; waits for nothing
//! looking_up   the same again and again, while he waits for something else
//! fetched      waits for the instances, as long as the reader bears it, where they are not here or so old that nobody used them lately
//! ```
//!
//! A reader who can say what is missing, and how old the rest is, does so at once. Those whose protocol has no word for it, DNS and Consul's
//! API, wait a moment instead, for nothing but this: what is read at home, or crosses by itself, is never waited for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Handle, lock, wall_ms};
use crate::model::command::Command;
use crate::model::names::{Datacenter, ServiceKey};
use crate::view::{DatacenterView, LinkState, View};

/// What was fetched of another datacenter so long ago is fetched anew when somebody looks it up, in milliseconds.
const ANSWER_AGE_MS_MAX: u64 = 10_000;
/// What is older was not used lately: who can wait for better does, in milliseconds. What somebody reads every few seconds never is.
const WAITED_FOR_AGE_MS: u64 = 2 * ANSWER_AGE_MS_MAX;
/// Who waits asks again so often: what he was told may have got lost.
const AGAIN: Duration = Duration::from_secs(1);
/// The engine is told of a service so often at most, however many read it: less than [`AGAIN`], so that who asks again is heard.
const TOLD_PAUSE: Duration = Duration::from_millis(500);
/// Services that the engine was told of within that pause; who looks up others meanwhile is heard when he asks again.
const TOLD_MAX: usize = 1_024;

/// A service of another datacenter.
pub struct Remote<'v> {
    pub known: &'v DatacenterView,
    pub service: ServiceKey,
}

impl Remote<'_> {
    /// Its instances are not here, and could be.
    pub fn is_missing(&self) -> bool {
        self.known.state != LinkState::Stale && self.known.lacks(self.service.namespace.as_str(), self.service.service.as_str()).is_some()
    }

    /// They are not here, or those that are were fetched long ago; and newer ones could be had.
    pub fn is_wanting(&self) -> bool {
        let age_ms = self.known.answer_age_ms(self.service.namespace.as_str(), self.service.service.as_str(), wall_ms());
        let is_old = age_ms.is_some_and(|age_ms| (WAITED_FOR_AGE_MS..u64::MAX).contains(&age_ms));
        self.known.state != LinkState::Stale && (is_old || self.is_missing())
    }
}

/// What somebody reads of other datacenters.
pub trait Remotes {
    fn remotes<'v>(&self, view: &'v View) -> Vec<Remote<'v>>;

    /// Whether it is worth waiting for some of it.
    fn is_wanting(&self, view: &View) -> bool {
        self.remotes(view).iter().any(Remote::is_wanting)
    }
}

/// Services of one other datacenter by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub datacenter: String,
    pub services: Vec<ServiceKey>,
}

impl Remotes for Named {
    fn remotes<'v>(&self, view: &'v View) -> Vec<Remote<'v>> {
        let Some(known) = view.datacenter(&self.datacenter) else { return Vec::new() };
        self.services.iter().map(|service| Remote { known, service: service.clone() }).collect()
    }
}

impl Handle {
    /// Somebody reads these: where one is known by its summary alone, and its instances are not here or old, a gateway is to fetch them.
    /// Nobody waits for it; what is refused is asked for by the next who looks.
    pub fn look_up(&self, remotes: &impl Remotes, view: &View) {
        for Remote { known, service } in remotes.remotes(view) {
            let age_ms = known.answer_age_ms(service.namespace.as_str(), service.service.as_str(), wall_ms());
            if age_ms.is_none_or(|age_ms| age_ms <= ANSWER_AGE_MS_MAX) || !lock(&self.shared.told).is_due(now(), &known.name, &service) {
                continue;
            }
            if let Ok(datacenter) = Datacenter::new(&known.name) {
                let ServiceKey { namespace, service } = service;
                drop(self.send(Command::Fetch { datacenter, namespace, service }));
            }
        }
    }

    /// Goes on looking up while somebody waits for something else: that is a use as well.
    pub async fn looking_up<T>(&self, remotes: &impl Remotes, done: impl Future<Output = T>) -> T {
        // Before anything else: what is done at once is a lookup, too.
        self.look_up(remotes, &self.view());
        let ask = async {
            loop {
                tokio::time::sleep(AGAIN).await;
                self.look_up(remotes, &self.view());
            }
        };
        tokio::select! {
            biased;
            done = done => done,
            () = ask => unreachable!("it asks for ever"),
        }
    }

    /// The view to answer from: as soon as nothing is missing or old, or when the time is over. Looks up at least once.
    pub async fn fetched(&self, remotes: &impl Remotes, limit: Duration) -> Arc<View> {
        let view = self.view();
        self.look_up(remotes, &view);
        if limit.is_zero() || !remotes.is_wanting(&view) {
            return view;
        }
        let mut watch = self.watch_all();
        let whole = async {
            let mut view = self.view();
            while remotes.is_wanting(&view) && !self.is_stopping() {
                view = watch.changed().await;
            }
        };
        let _ = tokio::time::timeout(limit, self.looking_up(remotes, whole)).await;
        self.view()
    }
}

/// Which services the engine was told of just now, so that a flood of reads is no flood of commands.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(String, ServiceKey), Instant>);

impl Told {
    fn is_due(&mut self, now: Instant, datacenter: &str, service: &ServiceKey) -> bool {
        let name = (datacenter.to_owned(), service.clone());
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= TOLD_PAUSE;
        if self.0.get(&name).is_some_and(|at| !is_over(at)) {
            return false;
        }
        if self.0.len() >= TOLD_MAX {
            self.0.retain(|_, at| !is_over(at));
        }
        if self.0.len() >= TOLD_MAX {
            return false;
        }
        self.0.insert(name, now);
        true
    }
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{Namespace, ServiceName};

    fn key(at: usize) -> ServiceKey {
        ServiceKey { namespace: Namespace::default(), service: ServiceName::new(&format!("s{at}")).unwrap() }
    }

    #[test]
    fn a_flood_of_reads_is_told_now_and_then_and_of_a_bounded_number_of_services() {
        let mut told = Told::default();
        let start = now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!([0, 1, 499, 500, 501].map(|ms| told.is_due(at(ms), "east", &key(0))), [true, false, false, true, false]);
        assert!(told.is_due(at(501), "west", &key(0)));
        assert_eq!((1..TOLD_MAX + 10).filter(|one| told.is_due(at(502), "east", &key(*one))).count(), TOLD_MAX - 2);
        assert!(told.is_due(at(1_001), "east", &key(TOLD_MAX + 9)), "room comes by itself");
    }
}
