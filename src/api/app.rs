//! One request from the door to the answer: what every route shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tower::Service as _;

use super::events::Events;
use super::refuse::No;
use super::routes;
use crate::access::{Asked, Door};
use crate::agent::handle::Handle;
use crate::select::{self, random::Dice};

/// What this agent had seen when it answered.
pub const REVISION: HeaderName = HeaderName::from_static("tidings-revision");
/// Services whose turns are remembered. Beyond that all begin anew, which costs an uneven turn and nothing else.
const TURNS_MAX: usize = 4_096;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

pub struct Shared {
    pub handle: Handle,
    pub turns: Turns,
    pub events: Events,
    pub counted: Counted,
    pub dice: Dice,
    /// Names this agent in the ids of events and in ETags of lists.
    pub agent: String,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    /// `seed` is fresh entropy.
    pub fn new(handle: Handle, seed: u64) -> Self {
        let agent = handle.view().agent.id.to_string();
        let counted = Counted::new(&handle);
        Self(Arc::new(Shared { handle, turns: Turns::default(), events: Events::default(), counted, dice: Dice::new(seed), agent }))
    }

    /// The ETag of a list at a revision: another agent's, or another life's, is another list.
    pub fn list_tag(&self, revision: u64) -> HeaderValue {
        let mut text = Vec::with_capacity(32);
        text.push(b'"');
        text.extend_from_slice(&self.agent.as_bytes()[..8]);
        text.push(b'-');
        text.extend_from_slice(itoa(revision).as_bytes());
        text.push(b'"');
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and quotes may stand in a header")
    }

    /// Follows the view for `/events` until the agent stops.
    pub async fn follow(self) {
        self.events.follow(&self.handle).await;
    }
}

fn itoa(number: u64) -> String {
    number.to_string()
}

/// Requests by what became of them, and open event streams.
#[derive(Debug)]
pub struct Counted {
    /// From 1xx to 5xx.
    by_class: [Counter; 5],
    pub watchers: Gauge,
}

impl Counted {
    fn new(handle: &Handle) -> Self {
        let requests = Family::<[(&str, &str); 1], Counter>::default();
        let class = |class| requests.get_or_create(&[("status", class)]).clone();
        let by_class = [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")];
        let watchers = Gauge::default();
        handle.register_metrics(|registry| {
            registry.register("tidings_api_requests", "HTTP requests by class of their status", requests.clone());
            registry.register("tidings_api_watchers", "Open event streams", watchers.clone());
        });
        Self { by_class, watchers }
    }

    fn count(&self, status: u16) {
        self.by_class[usize::from(status / 100).clamp(1, 5) - 1].inc();
    }
}

/// Whose turn it is, by service and filter.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, select::State>>);

impl Turns {
    pub fn with<T>(&self, of: String, choose: impl FnOnce(&mut select::State) -> T) -> T {
        // A panic between two turns leaves states that are still fit to go on from.
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= TURNS_MAX && !states.contains_key(&of) {
            states.clear();
        }
        choose(states.entry(of).or_default())
    }
}

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
