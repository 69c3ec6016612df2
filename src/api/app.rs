//! One request from the door to the answer: what every route shares.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderValue, Method, Request, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use tower::Service as _;

use super::answer::REVISION;
use super::refuse::No;
use super::routes;
use super::state::Api;
use crate::access::{Asked, Door};

/// The API, and whatever else answers on the same port, behind one door.
#[derive(Clone)]
pub struct App {
    api: Api,
    router: Router,
    door: Arc<Door>,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A port, which any page in a browser on this host can reach: Host and Origin are looked at.
    Tcp,
    /// A port with TLS: the client checked the agent's name by its certificate, so no foreign name server brought it here.
    Tls,
    /// A file, which no browser can.
    Unix,
}

impl App {
    /// `others` answers what is not the native API's: paths of other dialects.
    pub fn new(api: Api, others: Router, door: Door) -> Self {
        Self { router: routes::router(api.clone()).merge(others), api, door: Arc::new(door) }
    }

    /// Answers one request.
    pub async fn answer<B>(&mut self, request: Request<B>, transport: Transport) -> Response<Body>
    where
        B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let mut response = match self.check(&request, transport) {
            Ok(()) => match self.router.call(request).await {
                Ok(response) => response,
                Err(infallible) => match infallible {},
            },
            Err(no) => no.into_response(),
        };
        self.api.counted.count(response.status().as_u16());
        let headers = response.headers_mut();
        if !headers.contains_key(&REVISION) {
            headers.insert(REVISION, self.api.handle.view().revision.into());
        }
        response
    }

    fn check<B>(&self, request: &Request<B>, transport: Transport) -> Result<(), No> {
        if transport == Transport::Unix {
            return Ok(());
        }
        let header = |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("not readable"));
        let host = header(HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let is_change = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        Ok(self.door.check(&Asked { host, origin: header(ORIGIN), is_change, is_named_by_certificate: transport == Transport::Tls })?)
    }
}
