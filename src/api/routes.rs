//! Which path is whose.

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, Uri};
use axum::routing::{MethodRouter, get, post, put};

use super::app::Api;
use super::refuse::No;
use super::{cluster, events, page, reads, watch, writes};
use crate::schema::{Kind, openapi};

pub fn router(api: Api) -> Router {
    let one = "/api/v1/services/{service}/instances/{id}";
    Router::new()
        .route("/api/v1/services/{service}", of("GET", get(reads::service)))
        .route("/api/v1/services", of("GET", get(reads::services)))
        .route("/api/v1/services/{service}/pick", of("GET", get(reads::pick)))
        .route(
            one,
            of("GET, PUT, PATCH, DELETE", get(reads::instance).put(writes::register).patch(writes::merge).delete(writes::deregister)),
        )
        .route(&format!("{one}/heartbeat"), of("PUT", put(writes::heartbeat)))
        .route(&format!("{one}/override"), of("PUT, DELETE", put(writes::set_override).delete(writes::clear_override)))
        .route("/api/v1/instances", of("GET", get(reads::instances)))
        .route("/api/v1/watch", of("GET", get(watch::watch)))
        .route("/api/v1/batch", of("POST", post(writes::batch)))
        .route("/api/v1/http_sd", of("GET", get(reads::http_sd)))
        .route("/api/v1/members", of("GET", get(cluster::members)))
        .route("/api/v1/members/{node}", of("DELETE", axum::routing::delete(cluster::forget)))
        .route("/api/v1/members/{node}/override", of("PUT, DELETE", put(writes::drain).delete(writes::undrain)))
        .route("/api/v1/datacenters", of("GET", get(cluster::datacenters)))
        .route("/api/v1/status", of("GET", get(cluster::status)))
        .route("/api/v1/events", of("GET", get(events::list)))
        .route("/api/v1/join", of("POST", post(cluster::join)))
        .route("/api/v1/leave", of("POST", post(cluster::leave)))
        .route("/api/v1/keys", of("GET, POST", get(cluster::keys).post(cluster::install_key)))
        .route("/api/v1/keys/{id}", of("POST, DELETE", post(cluster::use_key).delete(cluster::remove_key)))
        .route("/api/v1/openapi.json", of("GET", get(document)))
        .route("/metrics", of("GET", get(cluster::metrics)))
        .route("/healthz", of("GET", get(cluster::healthz)))
        .route("/readyz", of("GET", get(cluster::readyz)))
        .route("/", of("GET", get(page::to_page)))
        .route("/ui", of("GET", get(page::to_page)))
        .route("/ui/", of("GET", get(page::page)))
        .fallback(nothing)
        .with_state(api)
}

/// Refuses the other methods with the list of those that are for this path.
fn of(allow: &'static str, methods: MethodRouter<Api>) -> MethodRouter<Api> {
    methods.fallback(move || async move { No::method(allow) })
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
