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
    query: &'a Query,
    service: ServiceKey,
}

impl<'a> Lookup<'a> {
    /// What a query looks up that is for one service of one namespace, and not for the own datacenter alone; others fetch nothing.
    pub fn of(query: &'a Query, name: &str) -> Option<Self> {
        match (&query.asked, &query.namespaces) {
            (Asked::Own, _) | (_, Namespaces::All) => None,
            (_, Namespaces::One(namespace)) => {
                let service = ServiceKey { namespace: namespace.clone(), service: ServiceName::new(name).ok()? };
                Some(Self { query, service })
            }
        }
    }

    /// Where it is looked for. Failover that finds nothing at home looks at all that are known to have some.
    fn others<'v>(&self, view: &'v View) -> Vec<&'v DatacenterView> {
        match &self.query.asked {
            Asked::Failover { .. } if self.fits(view) => Vec::new(),
            Asked::Failover { .. } => view.datacenters.iter().map(|other| &**other).filter(|other| self.may_serve(other)).collect(),
            asked => asked.places(view, |_| false).into_iter().filter_map(|place| place.other).collect(),
        }
    }

    fn fits(&self, view: &View) -> bool {
        let service = view.service(self.service.namespace.as_str(), self.service.service.as_str());
        service.is_some_and(|service| self.query.filter.select(service).next().is_some())
    }

    fn may_serve(&self, other: &DatacenterView) -> bool {
        let summary = other.summary(self.service.namespace.as_str(), self.service.service.as_str());
        summary.is_some_and(|one| one.summary.available > 0)
    }

    /// Whether some of its instances are not here, though they could be; for failover, while none is.
    pub fn is_missing(&self, view: &View) -> bool {
        let (namespace, name) = (self.service.namespace.as_str(), self.service.service.as_str());
        let is_missing =
            |other: &&DatacenterView| other.state != LinkState::Stale && other.answer_age_ms(namespace, name, 0) == Some(u64::MAX);
        let is_failover = matches!(self.query.asked, Asked::Failover { .. });
        let is_served = is_failover && view.datacenters.iter().any(|other| self.fits(&other.view));
        !is_served && self.others(view).iter().any(is_missing)
    }

    /// Has it fetched wherever it is missing here, or old; waits for nothing.
    pub fn ask(&self, api: &Api, view: &View) {
        self.others(view).into_iter().for_each(|other| api.handle.look_up(other, &self.service));
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
