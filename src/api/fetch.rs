//! What a reader of the native API looks up in other datacenters: services by name, where his query looks for them. Those that are known
//! here by their summaries alone are fetched for him, by [`Handle::look_up`]; he gets what is here meanwhile, and only `?wait=` waits.
//!
//! [`Handle::look_up`]: crate::agent::handle::Handle::look_up

use super::places::Asked;
use super::query::Query;
use super::reads::named;
use crate::agent::handle::{Remote, Remotes};
use crate::model::names::{ServiceKey, ServiceName};
use crate::view::{DatacenterView, Namespaces, View};

/// Services, as somebody looks them up in other datacenters.
pub struct Lookup<'a> {
    query: &'a Query,
    names: Vec<ServiceName>,
}

impl<'a> Lookup<'a> {
    /// What a query looks up that is not for the own datacenter alone. One that names no service fetches none: that would be all of them.
    pub fn of<'n>(query: &'a Query, names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        if query.asked == Asked::Own {
            return None;
        }
        let names: Vec<ServiceName> = names.into_iter().filter_map(|name| ServiceName::new(name).ok()).collect();
        (!names.is_empty()).then_some(Self { query, names })
    }

    /// Where they are looked for. Failover that finds nothing at home looks at all that are known to have some.
    fn others<'v>(&self, view: &'v View) -> Vec<&'v DatacenterView> {
        match &self.query.asked {
            Asked::Failover { .. } if self.fits(view) => Vec::new(),
            Asked::Failover { .. } => view.datacenters.iter().map(|other| &**other).filter(|other| self.may_serve(other)).collect(),
            asked => asked.places(view, |_| false).into_iter().filter_map(|place| place.other).collect(),
        }
    }

    /// Those that are known by summaries there.
    fn keys(&self, other: &DatacenterView) -> Vec<ServiceKey> {
        match &self.query.namespaces {
            Namespaces::One(namespace) => {
                let keys = self.names.iter().map(|name| ServiceKey { namespace: namespace.clone(), service: name.clone() });
                keys.filter(|key| other.summary(key.namespace.as_str(), key.service.as_str()).is_some()).collect()
            }
            Namespaces::All => {
                let keys = other.summaries.iter().map(|one| &one.key);
                keys.filter(|key| self.names.contains(&key.service)).cloned().collect()
            }
        }
    }

    fn fits(&self, view: &View) -> bool {
        let services = self.names.iter().flat_map(|name| named(view, &self.query.namespaces, name.as_str()));
        services.into_iter().any(|service| self.query.filter.select(service).next().is_some())
    }

    /// Whether some of them are not here, though they could be; for failover, while none is.
    pub fn is_missing(&self, view: &View) -> bool {
        !self.is_served(view) && self.remotes(view).iter().any(Remote::is_missing)
    }

    fn is_served(&self, view: &View) -> bool {
        matches!(self.query.asked, Asked::Failover { .. }) && view.datacenters.iter().any(|other| self.fits(&other.view))
    }

    fn may_serve(&self, other: &DatacenterView) -> bool {
        let summary = |key: &ServiceKey| other.summary(key.namespace.as_str(), key.service.as_str());
        self.keys(other).iter().filter_map(summary).any(|one| one.summary.available > 0)
    }
}

impl Remotes for Lookup<'_> {
    fn remotes<'v>(&self, view: &'v View) -> Vec<Remote<'v>> {
        let remotes = |known| self.keys(known).into_iter().map(move |service| Remote { known, service });
        self.others(view).into_iter().flat_map(remotes).collect()
    }

    /// For failover, while none is here that could serve.
    fn is_wanting(&self, view: &View) -> bool {
        !self.is_served(view) && self.remotes(view).iter().any(Remote::is_wanting)
    }
}
