//! What of a request is not its body's meaning: query parameters, names in the path, conditions, the body as JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::json::nearest;
use super::refuse::No;
use crate::model::command::Condition;
use crate::model::duration;
use crate::model::names::{Namespace, ServiceKey, ServiceName};
use crate::schema::Kind;
use crate::view::Namespaces;

/// The longest a blocking read waits.
const WAIT_MS_MAX: u64 = 600_000;
/// A body other than a batch. A record has at most 64 KiB; as JSON, with every character escaped, it may be several times that.
pub const BODY_BYTES_MAX: usize = 512 * 1024;
/// A batch: a thousand registrations of 8 KiB.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Query parameters of one request.
const PARAMETERS_MAX: usize = 256;

/// Names out of the path, decoded once.
pub struct Names<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, No> {
        let names = Path::<T>::from_request_parts(parts, state).await;
        names.map(|Path(names)| Names(names)).map_err(|rejected| No::new(Kind::BadName, rejected.body_text()))
    }
}

/// The query parameters of a request, all of them known.
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// # Errors
    /// The query does not decode, or has a parameter that is not in `known`.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, No> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self(Vec::new()));
        }
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejected| No::new(Kind::BadParameter, rejected.body_text()))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(
                No::new(Kind::TooMany, format!("there are {} query parameters", pairs.len())).allowed(format!("at most {PARAMETERS_MAX}"))
            );
        }
        let Some((unknown, _)) = pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) else { return Ok(Self(pairs)) };
        let detail = match nearest(unknown, known) {
            Some(near) => format!("there is no parameter {unknown:?} here; did you mean {near:?}?"),
            None => format!("there is no parameter {unknown:?} here"),
        };
        Err(No::new(Kind::UnknownParameter, detail).at(format!("?{unknown}")).allowed(known.join(", ")))
    }

    /// # Errors
    /// It is given more than once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, No> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(wrong(name, "it is given more than once"));
        }
        Ok(value)
    }

    pub fn all<'p, 'n>(&'p self, name: &'n str) -> impl Iterator<Item = &'p str> + use<'p, 'n> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, name: &str) -> Result<bool, No> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(wrong(name, format!("{other:?} is neither true nor false")).allowed("true, false")),
        }
    }

    pub fn number(&self, name: &str, max: u64) -> Result<Option<u64>, No> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let number: u64 = text.parse().map_err(|_| wrong(name, format!("{text:?} is no whole number")).allowed(format!("0-{max}")))?;
        if number > max { Err(wrong(name, format!("{text} is out of range")).allowed(format!("0-{max}"))) } else { Ok(Some(number)) }
    }

    /// One namespace, `default` where none is named.
    pub fn namespace(&self) -> Result<Namespace, No> {
        match self.one("namespace")? {
            Some(name) => Namespace::new(name).map_err(|e| No::new(Kind::BadName, e.to_string()).at("?namespace")),
            None => Ok(Namespace::default()),
        }
    }

    /// One namespace or, by `*`, all.
    pub fn namespaces(&self) -> Result<Namespaces, No> {
        if self.one("namespace")? == Some("*") { Ok(Namespaces::All) } else { self.namespace().map(Namespaces::One) }
    }

    /// How long a reader waits for a change from which revision.
    pub fn wait(&self) -> Result<Option<Wait>, No> {
        let limit = self.wait_limit()?;
        Ok(self.number("revision", (1 << 53) - 1)?.map(|revision| Wait { revision, limit }))
    }

    /// How long a reader waits at most; not at all where he does not say.
    pub fn wait_limit(&self) -> Result<Duration, No> {
        let Some(text) = self.one("wait")? else { return Ok(Duration::ZERO) };
        let allowed = || format!("0s to {}", duration::text(WAIT_MS_MAX));
        let ms = duration::parse_ms(text).ok_or_else(|| wrong("wait", format!("{text:?} is no duration")).allowed(allowed()))?;
        if ms > WAIT_MS_MAX {
            return Err(wrong("wait", format!("{text} is out of range")).allowed(allowed()));
        }
        Ok(Duration::from_millis(ms))
    }
}

/// A reader who has seen a revision.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    pub revision: u64,
    pub limit: Duration,
}

pub fn wrong(parameter: &str, detail: impl Into<String>) -> No {
    No::new(Kind::BadParameter, detail).at(format!("?{parameter}"))
}

pub fn service_key(namespace: Namespace, service: &str) -> Result<ServiceKey, No> {
    let service = ServiceName::new(service).map_err(|e| No::new(Kind::BadName, e.to_string()))?;
    Ok(ServiceKey { namespace, service })
}

/// What the client wants to hold of the instance it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Anything,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match` with an ETag.
    Version(u64),
}

impl Wanted {
    pub fn of(headers: &HeaderMap) -> Result<Self, No> {
        let text = |name: &axum::http::HeaderName| -> Result<Option<&str>, No> {
            let Some(value) = headers.get(name) else { return Ok(None) };
            value.to_str().map(|text| Some(text.trim())).map_err(|_| No::new(Kind::BadParameter, format!("{name} cannot be read")))
        };
        match (text(&IF_MATCH)?, text(&IF_NONE_MATCH)?) {
            (None, None) => Ok(Wanted::Anything),
            (None, Some("*")) => Ok(Wanted::Absent),
            (Some("*"), None) => Ok(Wanted::Present),
            (Some(tag), None) => {
                let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).filter(|digits| digits.len() == 16);
                let version = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                // A tag that no agent ever gave holds for nothing; that is no mistake of form.
                version.map(Wanted::Version).ok_or_else(|| No::new(Kind::ConditionFailed, "no instance has that ETag"))
            }
            (None, Some(_)) => Err(No::new(Kind::BadParameter, "a write takes If-None-Match: * only").allowed("*")),
            (Some(_), Some(_)) => Err(No::new(Kind::BadParameter, "If-Match and If-None-Match exclude each other")),
        }
    }

    /// As the engine decides it; `version` is that of the visible instance, if there is one.
    pub fn condition(self, version: Option<u64>) -> Result<Condition, No> {
        Ok(match (self, version) {
            (Wanted::Anything, _) => Condition::Always,
            (Wanted::Absent, _) => Condition::Absent,
            (Wanted::Version(version), _) | (Wanted::Present, Some(version)) => Condition::Version(version),
            (Wanted::Present, None) => return Err(No::new(Kind::ConditionFailed, "there is no such instance")),
        })
    }
}

/// The whole body.
///
/// # Errors
/// It is too large, or does not come.
pub async fn bytes(body: Body, bytes_max: usize) -> Result<Bytes, No> {
    let collected = Limited::new(body, bytes_max).collect().await;
    collected.map(Collected::to_bytes).map_err(|failed| match failed.downcast_ref::<LengthLimitError>() {
        Some(_) => No::new(Kind::TooLarge, "the body is too large").allowed(format!("at most {bytes_max} bytes")),
        None => No::new(Kind::BadJson, format!("the body broke off: {failed}")),
    })
}

/// The body as JSON; none where it is empty.
pub async fn json(body: Body, bytes_max: usize) -> Result<Option<Value>, No> {
    let bytes = bytes(body, bytes_max).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // Deeply nested bodies are refused by the parser's own limit.
    serde_json::from_slice(&bytes).map(Some).map_err(|e| No::new(Kind::BadJson, e.to_string()))
}
