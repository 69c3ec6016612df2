//! Answers that are not refusals, and waiting for what they wait for.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;

use super::request::Wait;
use super::state::Api;
use crate::agent::handle::Watch;
use crate::model::names::ServiceKey;
use crate::view::View;

/// What this agent had seen when it answered.
pub const REVISION: HeaderName = HeaderName::from_static("tidings-revision");

/// An answer in JSON with its revision.
pub fn answer(revision: u64, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REVISION, revision.into());
    response
}

pub fn not_modified(revision: u64) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(REVISION, revision.into());
    response
}

/// Waits until the service is not at the revision that was seen. Returns the view to answer from; none: nothing changed in time.
pub async fn await_service(api: &Api, key: &ServiceKey, wait: Option<Wait>) -> Option<Arc<View>> {
    let revision_of = |view: &View| view.revision_of(key.namespace.as_str(), key.service.as_str());
    await_change(api, wait, revision_of, || api.handle.watch([key.clone()])).await
}

/// The same for the agent's revision, or any other that `revision_of` reads off a view.
pub async fn await_view(api: &Api, wait: Option<Wait>, revision_of: impl Fn(&View) -> u64) -> Option<Arc<View>> {
    await_change(api, wait, revision_of, || api.handle.watch_all()).await
}

async fn await_change(
    api: &Api,
    wait: Option<Wait>,
    revision_of: impl Fn(&View) -> u64,
    watch: impl FnOnce() -> Watch,
) -> Option<Arc<View>> {
    let view = api.handle.view();
    let Some(wait) = wait.filter(|wait| revision_of(&view) == wait.revision) else { return Some(view) };
    if wait.limit.is_zero() {
        return None;
    }
    // The watch stands before the second look, or a change between the two would be missed.
    let mut watch = watch();
    let mut view = api.handle.view();
    let changed = async {
        while revision_of(&view) == wait.revision && !api.handle.is_stopping() {
            view = watch.changed().await;
        }
        view
    };
    let view = tokio::time::timeout(wait.limit, changed).await.ok()?;
    (revision_of(&view) != wait.revision).then_some(view)
}
