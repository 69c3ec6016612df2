//! Instances of other datacenters' services that are known here by their summaries alone: whoever looks one up has a gateway fetch them,
//! and gets what is here meanwhile. Only `?wait=` waits for them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::places::Asked;
use super::query::Query;
use super::state::Api;
use crate::model::names::{ServiceKey, ServiceName};
use crate::view::{DatacenterView, LinkState, Namespaces, View};

/// Who waits asks again so often: what he was told may have got lost.
const AGAIN: Duration = Duration::from_secs(1);

/// One service, as somebody looks it up in other datacenters.
pub struct Lookup<'a> {
    asked: &'a Asked,
    service: ServiceKey,
}

impl<'a> Lookup<'a> {
    /// What a query looks up that is for one service of one namespace in named datacenters; others fetch nothing.
    pub fn of(query: &'a Query, name: &str) -> Option<Self> {
        match (&query.asked, &query.namespaces) {
            (Asked::Other(_) | Asked::All, Namespaces::One(namespace)) => {
                let service = ServiceKey { namespace: namespace.clone(), service: ServiceName::new(name).ok()? };
                Some(Self { asked: &query.asked, service })
            }
            _ => None,
        }
    }

    fn others<'v>(&self, view: &'v View) -> impl Iterator<Item = &'v DatacenterView> {
        self.asked.places(view, |_| false).into_iter().filter_map(|place| place.other)
    }

    /// Whether some of its instances are not here, though they could be.
    fn is_missing(&self, view: &View) -> bool {
        let (namespace, name) = (self.service.namespace.as_str(), self.service.service.as_str());
        let is_missing = |other: &DatacenterView| other.answer_age_ms(namespace, name, 0) == Some(u64::MAX);
        self.others(view).any(|other| other.state != LinkState::Stale && is_missing(other))
    }

    /// Has it fetched wherever it is missing here, or old; waits for nothing.
    pub fn ask(&self, api: &Api, view: &View) {
        self.others(view).for_each(|other| api.handle.look_up(other, &self.service));
    }

    /// The view to answer from: as soon as nothing is missing, or when the time is over.
    pub async fn await_whole(&self, api: &Api, limit: Duration) -> Arc<View> {
        let view = api.handle.view();
        self.ask(api, &view);
        if limit.is_zero() || !self.is_missing(&view) {
            return view;
        }
        let mut watch = api.handle.watch_all();
        let whole = async {
            loop {
                let view = api.handle.view();
                if !self.is_missing(&view) || api.handle.is_stopping() {
                    return;
                }
                if tokio::time::timeout(AGAIN, watch.changed()).await.is_err() {
                    self.ask(api, &view);
                }
            }
        };
        let _ = tokio::time::timeout(limit, whole).await;
        api.handle.view()
    }

    /// Goes on asking while somebody waits for something else: that is a use as well.
    pub async fn ask_until<T>(&self, api: &Api, done: impl Future<Output = T>) -> T {
        // Before anything else: what is done at once is a lookup, too.
        self.ask(api, &api.handle.view());
        let ask = async {
            loop {
                tokio::time::sleep(AGAIN).await;
                self.ask(api, &api.handle.view());
            }
        };
        tokio::select! {
            biased;
            done = done => done,
            () = ask => unreachable!("it asks for ever"),
        }
    }
}
