//! What a request says besides its body's meaning: parameters in Go's manner, the tail of a path, the body whatever it claims to be.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};

use super::refuse::Failure;
use super::{Consul, go};
use crate::model::names::Namespace;
use crate::view::Namespaces;

/// How long a blocking query waits where it does not say, and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// A registration. A record has at most 64 KiB; as JSON, with every character escaped, it may be several times that.
pub const BODY_BYTES_MAX: usize = 512 * 1024;

/// The query parameters of a request. Unknown ones are ignored, as Consul ignores them.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    pub fn read(uri: &Uri) -> Result<Self, Failure> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self::default());
        }
        Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| Self(pairs)).map_err(|bad| Failure::bad(bad.body_text()))
    }

    /// The first value of a parameter.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of a parameter that says anything.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.one(name).filter(|value| !value.is_empty())
    }

    pub fn all<'p, 'n>(&'p self, name: &'n str) -> impl Iterator<Item = &'p str> + use<'p, 'n> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, whatever its value: `stale`, `consistent`, `cached`, `recurse`, `keys`, `raw`, `pretty`.
    pub fn has(&self, name: &str) -> bool {
        self.one(name).is_some()
    }

    /// A flag that may be switched off: present and empty is true, `false` is false.
    ///
    /// # Errors
    /// It is neither true nor false in any of Go's spellings.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.one(name) {
            None => Ok(false),
            Some("") => Ok(true),
            Some(value) => go::parse_bool(value).ok_or_else(|| Failure::bad(format!("Invalid value for ?{name}"))),
        }
    }

    /// Whether maintenance is to be on: it has to be said.
    pub fn enable(&self) -> Result<bool, Failure> {
        let Some(value) = self.filled("enable") else { return Err(Failure::bad("Missing value for enable")) };
        go::parse_bool(value).ok_or_else(|| Failure::bad(format!("Invalid value for enable: {value:?}")))
    }

    /// The index that a blocking query knows; 0 where it knows none.
    pub fn index(&self) -> Result<u64, Failure> {
        self.filled("index").map_or(Ok(0), |text| text.parse().map_err(|_| Failure::bad("Invalid index")))
    }

    /// How long a blocking query may wait.
    pub fn wait(&self) -> Result<Duration, Failure> {
        let Some(text) = self.filled("wait") else { return Ok(WAIT_DEFAULT) };
        let ns = go::parse_duration_ns(text).ok_or_else(|| Failure::bad("Invalid wait time"))?;
        Ok(if ns == 0 { WAIT_DEFAULT } else { Duration::from_nanos(ns).min(WAIT_MAX) })
    }

    /// Refuses what no read can mean, and datacenters other than this one.
    ///
    /// # Errors
    /// In Consul's words, which clients match on.
    pub fn check_reading(&self, consul: &Consul) -> Result<(), Failure> {
        self.check_consistency(consul)?;
        self.check_datacenter(consul)
    }

    /// Refuses what no read can mean, and datacenters that are not known here: for reads that answer for others too.
    ///
    /// # Errors
    /// In Consul's words, which clients match on.
    pub fn check_reading_there(&self, consul: &Consul) -> Result<(), Failure> {
        self.check_consistency(consul)?;
        let is_known = self.elsewhere(consul).is_none_or(|dc| consul.handle.view().datacenter(dc).is_some());
        if is_known { Ok(()) } else { Err(Failure::no_path_to_datacenter()) }
    }

    fn check_consistency(&self, consul: &Consul) -> Result<(), Failure> {
        if self.has("consistent") && (self.has("stale") || self.has("max_stale")) {
            return Err(Failure::bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if self.has("consistent") && consul.settings.refuses_consistent {
            return Err(Failure::not_offered(
                "not offered here: ?consistent needs a leader, and there is none; the agent's setting consul.consistent refuses it",
            ));
        }
        Ok(())
    }

    /// Refuses datacenters other than this one: for what is this one's alone.
    pub fn check_datacenter(&self, consul: &Consul) -> Result<(), Failure> {
        if self.elsewhere(consul).is_some() { Err(Failure::no_path_to_datacenter()) } else { Ok(()) }
    }

    /// The datacenter that is asked for, if it is not this one.
    pub fn elsewhere(&self, consul: &Consul) -> Option<&str> {
        self.filled("dc").filter(|dc| *dc != consul.handle.facts().datacenter.as_str())
    }

    /// The namespace of a write: `ns`, or the default one.
    pub fn namespace(&self) -> Result<Namespace, Failure> {
        self.filled("ns").map_or(Ok(Namespace::default()), |name| Namespace::new(name).map_err(|bad| Failure::bad(bad.to_string())))
    }

    /// The namespaces of a read: `ns=*` means all.
    pub fn namespaces(&self) -> Result<Namespaces, Failure> {
        if self.one("ns") == Some("*") { Ok(Namespaces::All) } else { self.namespace().map(Namespaces::One) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::read(&parts.uri)
    }
}

/// The rest of a path behind a route's fixed part, decoded once; `%2F` is a slash like any other here. Empty where nothing follows.
#[derive(Debug)]
pub struct Tail(pub String);

impl Tail {
    /// # Errors
    /// Nothing follows; `missing` says what should.
    pub fn need(self, missing: &str) -> Result<String, Failure> {
        if self.0.is_empty() { Err(Failure::bad(missing)) } else { Ok(self.0) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tail {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        // Routes without a tail are those that end where it would begin.
        Ok(Self(Path::<String>::from_request_parts(parts, state).await.map_or(String::new(), |Path(tail)| tail)))
    }
}

/// The whole body.
///
/// # Errors
/// It is too large, or does not come.
pub async fn body(body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    let collected = Limited::new(body, bytes_max).collect().await;
    collected.map(Collected::to_bytes).map_err(|failed| match failed.downcast_ref::<LengthLimitError>() {
        Some(_) => Failure::too_large(bytes_max),
        None => Failure::bad(format!("Request decode failed: {failed}")),
    })
}
