//! `/v1/kv`: a small key-value store without consensus. The last writer wins, by claim, at every agent; what needs a leader (`cas`, locks)
//! is refused and says so.
//!
//! An entry's index is the revision at which this agent saw it change; that of a key or prefix under which nothing stands is the revision
//! of whatever was deleted there last, or of this agent's start.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::routing::get;
use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::blocking::{Watched, block};
use super::refuse::{Failure, only};
use super::request::{self, Params, Tail};
use super::{Consul, answer};
use crate::model::command::{Command, Condition};
use crate::model::entry::EntryKey;
use crate::model::limits::ENTRY_VALUE_BYTES_MAX;
use crate::model::names::Namespace;
use crate::view::{KeyValue, View};

const MISSING: &str = "Missing key name";
/// Parameters that only a store with a leader can honour.
const CONSENSUS: [&str; 3] = ["cas", "acquire", "release"];

pub fn routes() -> Router<Consul> {
    let methods = || only("GET, PUT, DELETE", get(read).put(put).delete(delete));
    Router::new().route("/v1/kv/", methods()).route("/v1/kv/{*key}", methods())
}

/// An entry as Consul shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'v> {
    lock_index: u64,
    key: &'v str,
    flags: u64,
    /// Null where it is empty.
    #[serde(serialize_with = "base64")]
    value: Option<&'v [u8]>,
    create_index: u64,
    modify_index: u64,
}

pub fn base64<S: serde::Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.collect_str(&Base64Display::new(bytes, &BASE64_STANDARD)),
        None => serializer.serialize_none(),
    }
}

impl<'v> Shown<'v> {
    fn of(entry: &'v KeyValue) -> Self {
        let value = Some(entry.value()).filter(|value| !value.is_empty());
        Self { lock_index: 0, key: &entry.key, flags: entry.flags, value, create_index: entry.created, modify_index: entry.modified }
    }
}

/// `GET /v1/kv/{key}`: one entry; with `recurse` all under a prefix, with `keys` their names.
async fn read(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let (key, namespace) = (tail.0, params.namespace()?);
    let is_prefix = params.has("recurse") || params.has("keys");
    if key.is_empty() && !is_prefix {
        return Err(Failure::bad(MISSING));
    }
    let index_of = |view: &View| index(view, &namespace, &key, is_prefix);
    let view = block(&consul, &params, Watched::Everything, index_of).await?;
    let index = index_of(&view);
    if params.has("keys") {
        let keys = names(&view, &namespace, &key, params.filled("separator"));
        // The root is there even when nothing is under it.
        return Ok(if keys.is_empty() && !key.is_empty() { nothing(index) } else { answer::indexed(&params, index, &keys) });
    }
    if is_prefix {
        let entries: Vec<Shown<'_>> = view.entries(namespace.as_str(), &key).map(|entry| Shown::of(entry)).collect();
        return Ok(if entries.is_empty() { nothing(index) } else { answer::indexed(&params, index, &entries) });
    }
    let Some(entry) = view.entry(namespace.as_str(), &key) else { return Ok(nothing(index)) };
    if params.has("raw") {
        return Ok(raw(index, entry));
    }
    Ok(answer::indexed(&params, index, &[Shown::of(entry)]))
}

fn index(view: &View, namespace: &Namespace, key: &str, is_prefix: bool) -> u64 {
    let one = if is_prefix { None } else { view.entry(namespace.as_str(), key) };
    one.map_or_else(|| view.entries_revision(namespace.as_str(), key), |entry| entry.modified)
}

/// Names under a prefix, each as far as the first separator behind it.
fn names<'v>(view: &'v View, namespace: &'v Namespace, prefix: &'v str, separator: Option<&str>) -> Vec<&'v str> {
    let mut names: Vec<&str> = view
        .entries(namespace.as_str(), prefix)
        .map(|entry| {
            let end =
                separator.and_then(|separator| entry.key[prefix.len()..].find(separator).map(|at| prefix.len() + at + separator.len()));
            &entry.key[..end.unwrap_or(entry.key.len())]
        })
        .collect();
    names.dedup();
    names
}

/// There is nothing, at an index that a client can wait on.
fn nothing(index: u64) -> Response<Body> {
    let mut response = answer::empty();
    *response.status_mut() = StatusCode::NOT_FOUND;
    answer::put_index(response.headers_mut(), index);
    response
}

/// The value as it was put. Whoever may put one must not run scripts in the browser of who looks at it.
fn raw(index: u64, entry: &KeyValue) -> Response<Body> {
    let mut response = Response::new(Body::from(entry.value().to_vec()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    answer::put_index(headers, index);
    response
}

/// `PUT /v1/kv/{key}`
async fn put(State(consul): State<Consul>, tail: Tail, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    check_write(&consul, &params)?;
    let key = named(&tail.need(MISSING)?)?;
    let flags =
        params.filled("flags").map_or(Ok(0), |text| text.parse().map_err(|_| Failure::bad("Invalid flags: no whole number of 64 bits")))?;
    let value = request::body(body, ENTRY_VALUE_BYTES_MAX).await?.to_vec();
    let command = Command::PutEntry { namespace: params.namespace()?, key, value, flags, condition: Condition::Always };
    consul.handle.call(command).await?;
    Ok(answer::json(&params, &true))
}

/// `DELETE /v1/kv/{key}`: one entry, there or not; with `recurse` all under a prefix, the empty one of all included.
async fn delete(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    check_write(&consul, &params)?;
    let namespace = params.namespace()?;
    let command = if params.has("recurse") {
        Command::DeleteEntries { namespace, prefix: tail.0 }
    } else {
        Command::DeleteEntry { namespace, key: named(&tail.need(MISSING)?)?, condition: Condition::Always }
    };
    consul.handle.call(command).await?;
    Ok(answer::json(&params, &true))
}

fn check_write(consul: &Consul, params: &Params) -> Result<(), Failure> {
    params.check_datacenter(consul)?;
    match CONSENSUS.into_iter().find(|name| params.has(name)) {
        Some(name) => {
            Err(Failure::not_offered(format!("not offered here: ?{name} needs a leader, and the last writer wins in this store")))
        }
        None => Ok(()),
    }
}

fn named(key: &str) -> Result<EntryKey, Failure> {
    EntryKey::new(key).map_err(|refused| Failure::bad(refused.to_string()))
}
