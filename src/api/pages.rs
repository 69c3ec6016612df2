//! Lists in pages: where one ends and the next begins.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::near::Distances;
use super::places::Place;
use super::query::Query;
use super::refuse::No;
use super::request::{Parameters, service_key, wrong};
use crate::model::names::{Namespace, ServiceKey};
use crate::model::record::Uid;
use crate::schema::Kind;
use crate::view::{Entry, Namespaces, Service};

/// Entries of one page, where the reader does not say.
const PAGE_DEFAULT: u64 = 10_000;
const PAGE_MAX: u64 = 100_000;

/// Where a page ends: the next one begins behind this entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    datacenter: String,
    namespace: String,
    service: String,
    is_suspect: bool,
    uid: Uid,
}

impl Cursor {
    pub fn of(datacenter: &str, service: &Service, entry: &Entry) -> Self {
        Self { is_suspect: entry.is_suspect(), uid: entry.uid, ..Self::behind(datacenter, &service.key) }
    }

    /// The parameter `after`.
    pub fn read(parameters: &Parameters) -> Result<Option<Self>, No> {
        parameters
            .one("after")?
            .map(|text| decode(text).and_then(|bytes| postcard::from_bytes(&bytes).ok()).ok_or_else(bad_cursor))
            .transpose()
    }

    /// Opaque to readers: hexadecimal digits.
    pub fn write(&self) -> String {
        postcard::to_stdvec(self).expect("a cursor is names and numbers").iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Behind all of a service.
    pub fn behind(datacenter: &str, service: &ServiceKey) -> Self {
        let (namespace, service) = (service.namespace.as_str().to_owned(), service.service.as_str().to_owned());
        Self { datacenter: datacenter.to_owned(), namespace, service, is_suspect: true, uid: Uid(u128::MAX) }
    }

    fn is_before(&self, datacenter: &str, service: &Service, entry: &Entry) -> bool {
        *self < Self::of(datacenter, service, entry)
    }

    /// The datacenter and the service it stands in.
    pub fn place(&self) -> Result<(String, ServiceKey), No> {
        let namespace = Namespace::new(&self.namespace).map_err(|_| bad_cursor())?;
        Ok((self.datacenter.clone(), service_key(namespace, &self.service)?))
    }
}

/// The services of these places in order, from where a page ended on.
pub fn services<'v>(
    places: &'v [Place<'v>],
    namespaces: &'v Namespaces,
    from: Option<&'v (String, ServiceKey)>,
) -> impl Iterator<Item = (&'v str, &'v Arc<Service>)> {
    let is_left = move |place: &&Place<'_>| from.is_none_or(|(datacenter, _)| place.name >= datacenter.as_str());
    places.iter().filter(is_left).flat_map(move |place| {
        let from = from.filter(|(datacenter, _)| place.name == datacenter).map(|(_, key)| key);
        // The service a page ended in comes again: some of it may be left.
        let first = from.and_then(|key| place.view.service(key.namespace.as_str(), key.service.as_str()));
        first.into_iter().chain(place.view.services_in(namespaces, from)).map(|service| (place.name, service))
    })
}

fn bad_cursor() -> No {
    No::new(Kind::BadCursor, "after takes what an earlier page gave as next").at("?after")
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())).collect()
}

/// Which page is asked for.
pub struct Page<'a> {
    pub after: Option<&'a Cursor>,
    pub limit: usize,
    /// The nearest of all, by these.
    pub by: Option<&'a Distances<'a>>,
}

/// One page out of services in order, each with its datacenter, and where the next begins; or the nearest of all.
pub fn page<'v>(
    services: impl Iterator<Item = (&'v str, &'v Arc<Service>)>,
    query: &Query,
    &Page { after, limit, by }: &Page<'_>,
) -> (Vec<&'v Entry>, Option<String>) {
    if let Some(distances) = by {
        let listed = services.flat_map(|(_, service)| service.listed());
        let mut entries: Vec<&Entry> = listed.filter(|entry| query.filter.matches(entry)).collect();
        distances.sort(&mut entries);
        entries.truncate(limit);
        return (entries, None);
    }
    let mut entries: Vec<&Entry> = Vec::new();
    let mut last: Option<Cursor> = None;
    for (datacenter, service) in services {
        for entry in service.listed().filter(|entry| query.filter.matches(entry)) {
            if after.is_some_and(|after| !after.is_before(datacenter, service, entry)) {
                continue;
            }
            if entries.len() == limit {
                return (entries, last.map(|cursor| cursor.write()));
            }
            entries.push(entry);
            if entries.len() == limit {
                last = Some(Cursor::of(datacenter, service, entry));
            }
        }
    }
    (entries, None)
}

/// The parameter `limit`.
pub fn limit(parameters: &Parameters) -> Result<usize, No> {
    match parameters.number("limit", PAGE_MAX)? {
        Some(0) => Err(wrong("limit", "a page holds at least one").allowed(format!("1-{PAGE_MAX}"))),
        limit => Ok(usize::try_from(limit.unwrap_or(PAGE_DEFAULT)).unwrap_or(usize::MAX)),
    }
}
