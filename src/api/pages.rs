//! Lists in pages: where one ends and the next begins.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::query::Query;
use super::refuse::No;
use super::request::{Parameters, service_key, wrong};
use crate::model::names::{Namespace, ServiceKey};
use crate::model::record::Uid;
use crate::schema::Kind;
use crate::view::{Entry, Service};

/// Entries of one page, where the reader does not say.
const PAGE_DEFAULT: u64 = 10_000;
const PAGE_MAX: u64 = 100_000;

/// Where a page ends: the next one begins behind this entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    namespace: String,
    service: String,
    is_suspect: bool,
    uid: Uid,
}

impl Cursor {
    pub fn of(service: &Service, entry: &Entry) -> Self {
        let (namespace, service) = (service.key.namespace.as_str().to_owned(), service.key.service.as_str().to_owned());
        Self { namespace, service, is_suspect: entry.is_suspect(), uid: entry.uid }
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
    pub fn behind(service: &Service) -> Self {
        let (namespace, service) = (service.key.namespace.as_str().to_owned(), service.key.service.as_str().to_owned());
        Self { namespace, service, is_suspect: true, uid: Uid(u128::MAX) }
    }

    fn is_before(&self, service: &Service, entry: &Entry) -> bool {
        *self < Self::of(service, entry)
    }

    /// The service it stands in.
    pub fn key(&self) -> Result<ServiceKey, No> {
        service_key(Namespace::new(&self.namespace).map_err(|_| bad_cursor())?, &self.service)
    }
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

/// One page out of services in order, and where the next begins.
pub fn page<'v>(
    services: impl Iterator<Item = &'v Arc<Service>>,
    query: &Query,
    after: Option<&Cursor>,
    limit: usize,
) -> (Vec<&'v Entry>, Option<String>) {
    let mut entries: Vec<&Entry> = Vec::new();
    let mut last: Option<Cursor> = None;
    for service in services {
        for entry in service.listed().filter(|entry| query.filter.matches(entry)) {
            if after.is_some_and(|after| !after.is_before(service, entry)) {
                continue;
            }
            if entries.len() == limit {
                return (entries, last.map(|cursor| cursor.write()));
            }
            entries.push(entry);
            if entries.len() == limit {
                last = Some(Cursor::of(service, entry));
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
