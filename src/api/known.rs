//! Services by name, as lists of services show them: those whose instances are here, and those of other datacenters that are known by
//! their summaries.

use std::sync::Arc;

use super::encode;
use super::places::Place;
use crate::model::names::ServiceKey;
use crate::schema;
use crate::view::{Namespaces, Service, Summarized};

/// A service as it is known here.
#[derive(Debug, Clone, Copy)]
pub enum Known<'v> {
    Here(&'v Arc<Service>),
    Summarized(&'v Summarized),
}

impl<'v> Known<'v> {
    pub fn key(&self) -> &'v ServiceKey {
        match self {
            Known::Here(service) => &service.key,
            Known::Summarized(one) => &one.key,
        }
    }

    pub fn show(&self, datacenter: &'v str) -> schema::ServiceSummary<'v> {
        match self {
            Known::Here(service) => encode::summary(datacenter, service),
            Known::Summarized(one) => encode::summarized(datacenter, one),
        }
    }
}

/// The services of these places in order of datacenter, namespace and name, from the one on that an earlier page ended with.
pub fn known<'v>(
    places: &'v [Place<'v>],
    namespaces: &'v Namespaces,
    from: Option<&'v (String, ServiceKey)>,
) -> impl Iterator<Item = (&'v str, Known<'v>)> {
    let is_left = move |place: &&Place<'_>| from.is_none_or(|(datacenter, _)| place.name >= datacenter.as_str());
    places.iter().filter(is_left).flat_map(move |place| {
        let from = from.filter(|(datacenter, _)| place.name == datacenter).map(|(_, key)| key);
        let mut here = place.view.services_in(namespaces, from).peekable();
        let first = place.summaries().partition_point(|one| from.is_some_and(|from| one.key <= *from));
        let is_wanted = |one: &&Summarized| match namespaces {
            Namespaces::One(only) => one.key.namespace == *only,
            Namespaces::All => true,
        };
        let mut summarized = place.summaries()[first..].iter().filter(is_wanted).peekable();
        std::iter::from_fn(move || {
            let next = match (here.peek(), summarized.peek()) {
                (Some(service), Some(one)) if service.key == one.key => {
                    // Instances say more than their number.
                    summarized.next();
                    here.next().map(Known::Here)
                }
                (Some(service), one) if one.is_none_or(|one| service.key < one.key) => here.next().map(Known::Here),
                _ => summarized.next().map(Known::Summarized),
            };
            next.map(|known| (place.name, known))
        })
    })
}
