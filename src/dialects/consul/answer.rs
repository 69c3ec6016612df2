//! Answers: JSON, and the headers by which clients follow an index and judge how old an answer is.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::Bytes;
use serde::Serialize;

use super::request::Params;
use crate::view::Service;

pub const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
pub const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
/// How many instances of the services in an answer live on nodes that nobody vouches for at present.
const UNVERIFIED: HeaderName = HeaderName::from_static("x-tidings-unverified");
const CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// JSON with nothing to follow.
pub fn json(params: &Params, value: &impl Serialize) -> Response<Body> {
    bytes(encode(params, value))
}

/// A list or the like at an index.
pub fn indexed(params: &Params, index: u64, value: &impl Serialize) -> Response<Body> {
    indexed_bytes(index, encode(params, value))
}

/// The same, of JSON that is encoded already.
pub fn indexed_bytes(index: u64, json: Bytes) -> Response<Body> {
    let mut response = bytes(json);
    put_index(response.headers_mut(), index);
    response
}

/// Writes that Consul answers with nothing.
pub fn empty() -> Response<Body> {
    Response::new(Body::empty())
}

/// What every read of the catalog tells, errors and empty lists as well. Clients stall or spin on an index of 0 or none.
///
/// Nothing is older here than what the agent knows, and it needs no leader to know it: the contact is fresh, a leader is known.
pub fn put_index(headers: &mut HeaderMap, index: u64) {
    headers.insert(INDEX, index.max(1).into());
    headers.insert(KNOWN_LEADER, HeaderValue::from_static("true"));
    headers.insert(LAST_CONTACT, HeaderValue::from_static("0"));
    headers.insert(CONSISTENCY, HeaderValue::from_static("stale"));
}

/// How long ago the datacenter that an answer is about was last heard, in milliseconds.
pub fn put_age(headers: &mut HeaderMap, age_ms: u64) {
    headers.insert(LAST_CONTACT, age_ms.into());
}

/// An answer about these services; marked where the agent cannot vouch for all that is in it.
pub fn marked<'v>(response: Response<Body>, services: impl IntoIterator<Item = &'v Service>) -> Response<Body> {
    mark(response, unverified(services))
}

/// How many instances of these services live on nodes that nobody vouches for at present.
pub fn unverified<'v>(services: impl IntoIterator<Item = &'v Service>) -> u64 {
    services.into_iter().map(|service| u64::from(service.counts.unverified)).sum()
}

pub fn mark(mut response: Response<Body>, unverified: u64) -> Response<Body> {
    if unverified > 0 {
        response.headers_mut().insert(UNVERIFIED, unverified.into());
    }
    response
}

pub fn encode(params: &Params, value: &impl Serialize) -> Bytes {
    let encoded = if params.has("pretty") { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    encoded.expect("answers are texts, numbers, lists and maps with texts for keys").into()
}

fn bytes(json: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
