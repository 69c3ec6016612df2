//! Which path is whose, and what each needs: the one table. A route cannot stand here without its [`Need`].

use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, Uri};
use axum::response::IntoResponse as _;
use axum::routing::{MethodFilter, MethodRouter};

use super::refuse::No;
use super::state::Api;
use super::{cluster, http_sd, page, pick, reads, watch, writes};
use crate::access::Need::{self, Change, Nothing, Operate, Read};
use crate::agent::handle::acting_for;
use crate::schema::{Kind, openapi};

const GET: (&str, MethodFilter) = ("GET", MethodFilter::GET);
const PUT: (&str, MethodFilter) = ("PUT", MethodFilter::PUT);
const POST: (&str, MethodFilter) = ("POST", MethodFilter::POST);
const PATCH: (&str, MethodFilter) = ("PATCH", MethodFilter::PATCH);
const DELETE: (&str, MethodFilter) = ("DELETE", MethodFilter::DELETE);

pub fn router(api: Api) -> Router {
    let one = "/api/v1/services/{service}/instances/{id}";
    let instance = on(GET, Read, reads::instance).on(PUT, Change, writes::register).on(PATCH, Change, writes::merge).on(
        DELETE,
        Change,
        writes::deregister,
    );
    Router::new()
        .route("/api/v1/services/{service}", on(GET, Read, reads::service).done())
        .route("/api/v1/services", on(GET, Read, reads::services).done())
        .route("/api/v1/services/{service}/pick", on(GET, Read, pick::pick).done())
        .route(one, instance.done())
        .route(&format!("{one}/heartbeat"), on(PUT, Change, writes::heartbeat).done())
        .route(&format!("{one}/override"), on(PUT, Change, writes::set_override).on(DELETE, Change, writes::clear_override).done())
        .route("/api/v1/instances", on(GET, Read, reads::instances).done())
        .route("/api/v1/watch", on(GET, Read, watch::watch).done())
        .route("/api/v1/batch", on(POST, Change, writes::batch).done())
        .route("/api/v1/http_sd", on(GET, Read, http_sd::http_sd).done())
        .route("/api/v1/members", on(GET, Read, cluster::members).done())
        .route("/api/v1/members/{node}", on(DELETE, Operate, cluster::forget).done())
        .route("/api/v1/members/{node}/override", on(PUT, Operate, writes::drain).on(DELETE, Operate, writes::undrain).done())
        .route("/api/v1/datacenters", on(GET, Read, cluster::datacenters).done())
        .route("/api/v1/datacenters/{name}", on(DELETE, Operate, cluster::forget_datacenter).done())
        .route("/api/v1/status", on(GET, Read, cluster::status).done())
        .route("/api/v1/events", on(GET, Read, cluster::events).done())
        .route("/api/v1/join", on(POST, Operate, cluster::join).done())
        .route("/api/v1/leave", on(POST, Operate, cluster::leave).done())
        .route("/api/v1/reload", on(POST, Operate, cluster::reload).done())
        .route("/api/v1/keys", on(GET, Operate, cluster::keys).on(POST, Operate, cluster::install_key).done())
        .route("/api/v1/keys/{id}", on(POST, Operate, cluster::use_key).on(DELETE, Operate, cluster::remove_key).done())
        .route("/api/v1/openapi.json", on(GET, Nothing, document).done())
        .route("/metrics", on(GET, Read, cluster::metrics).done())
        .route("/healthz", on(GET, Nothing, cluster::healthz).done())
        .route("/readyz", on(GET, Nothing, cluster::readyz).done())
        .route("/", on(GET, Nothing, page::to_page).done())
        .route("/ui", on(GET, Nothing, page::to_page).done())
        .route("/ui/", on(GET, Nothing, page::page).done())
        .fallback(nothing)
        .with_state(api)
}

/// The methods of one path.
struct Methods {
    names: Vec<&'static str>,
    router: MethodRouter<Api>,
}

fn on<H, T>(method: (&'static str, MethodFilter), need: Need<'static>, handler: H) -> Methods
where
    H: Handler<T, Api>,
    T: 'static,
{
    Methods { names: Vec::new(), router: MethodRouter::new() }.on(method, need, handler)
}

impl Methods {
    fn on<H, T>(mut self, (name, method): (&'static str, MethodFilter), need: Need<'static>, handler: H) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        self.names.push(name);
        self.router = self.router.on(method, Guarded { need, handler });
        self
    }

    /// Refuses the other methods with the list of those that are for this path.
    fn done(self) -> MethodRouter<Api> {
        let allow = self.names.join(", ");
        self.router.fallback(move || async move { No::method(&allow) })
    }
}

/// A handler behind what it needs.
#[derive(Clone)]
struct Guarded<H> {
    need: Need<'static>,
    handler: H,
}

impl<H, T> Handler<T, Api> for Guarded<H>
where
    H: Handler<T, Api>,
    T: 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

    fn call(self, request: Request, api: Api) -> Self::Future {
        match api.handle.guard().admit(token(request.headers()), self.need) {
            Ok(caller) => Box::pin(acting_for(caller, self.handler.call(request, api))),
            Err(denied) => Box::pin(std::future::ready(No::from(denied).into_response())),
        }
    }
}

/// The token in `Authorization: Bearer`. Credentials of another kind are a token that nobody knows.
fn token(headers: &HeaderMap) -> Option<&str> {
    const SCHEME: &str = "bearer ";
    let text = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default().trim();
    match text.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => Some(text[SCHEME.len()..].trim_start()),
        _ => Some(text),
    }
}

async fn nothing(uri: Uri) -> No {
    let path = uri.path();
    if path.starts_with("/api/v1/services/") && (path.contains("//") || path.ends_with('/')) {
        return No::new(Kind::BadName, "a name in the path is empty; a slash in a name is written %2F");
    }
    No::new(Kind::NoSuchRoute, format!("there is nothing at {path}; /api/v1/openapi.json tells what there is"))
}

async fn document() -> Response<Body> {
    let mut response = Response::new(Body::from(openapi::document()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
