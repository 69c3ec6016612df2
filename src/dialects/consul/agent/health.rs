//! `agent/health/service/…`: how a service of this agent is, as a status that load balancers understand without reading the body.

use std::cmp::Reverse;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde::Serialize;

use super::lists::{instances, node_checks};
use crate::dialects::consul::json::check::{self, CheckJson, NODE_MAINTENANCE, SERVICE_MAINTENANCE, Status};
use crate::dialects::consul::json::service::{AgentServiceJson, One};
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::{Params, Tail};
use crate::dialects::consul::{Consul, answer};
use crate::view::View;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/health/service/id/{*id}", only("GET", get(by_id)))
        .route("/v1/agent/health/service/name/{*name}", only("GET", get(by_name)))
}

/// The word on all checks together: the worst of them, and maintenance is worse than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Aggregated {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Aggregated {
    fn of(checks: &[CheckJson<'_>]) -> Self {
        let word = |check: &CheckJson<'_>| match check.status {
            _ if check.check_id == NODE_MAINTENANCE || check.check_id.starts_with(SERVICE_MAINTENANCE) => Self::Maintenance,
            Status::Passing => Self::Passing,
            Status::Warning => Self::Warning,
            Status::Critical => Self::Critical,
        };
        checks.iter().map(word).max().unwrap_or(Self::Passing)
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Passing => StatusCode::OK,
            Self::Warning => StatusCode::TOO_MANY_REQUESTS,
            Self::Critical | Self::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health<'a> {
    aggregated_status: Aggregated,
    service: Option<AgentServiceJson<'a>>,
    checks: Option<Vec<CheckJson<'a>>>,
}

impl<'a> Health<'a> {
    fn of(view: &'a View, one: &'a One<'a>) -> Self {
        let mut checks = node_checks(view);
        checks.extend(check::of_instance(one));
        Self { aggregated_status: Aggregated::of(&checks), service: Some(one.agent_service()), checks: Some(checks) }
    }
}

/// `GET /v1/agent/health/service/id/{id}`
async fn by_id(State(consul): State<Consul>, tail: Tail, params: Params, headers: HeaderMap) -> Result<Response<Body>, Failure> {
    let id = tail.need("Missing serviceID")?;
    let view = consul.handle.view();
    let place = consul.own.with_id(&view, &params.namespace()?, &id).into_iter().next();
    let Some(one) = place.and_then(|place| One::of(place.entry(&view)?)) else {
        let unknown = Health { aggregated_status: Aggregated::Critical, service: None, checks: None };
        let text = format!("ServiceId {id} not found");
        return Ok(answer_with(&params, &headers, StatusCode::NOT_FOUND, &text, &unknown));
    };
    let health = Health::of(&view, &one);
    let word = health.aggregated_status;
    Ok(answer_with(&params, &headers, word.status(), word.word(), &health))
}

/// `GET /v1/agent/health/service/name/{name}`: as healthy as its worst instance here.
async fn by_name(State(consul): State<Consul>, tail: Tail, params: Params, headers: HeaderMap) -> Result<Response<Body>, Failure> {
    let name = tail.need("Missing service Name")?;
    let view = consul.handle.view();
    let mut all = instances(&consul, &view, &params.namespace()?);
    all.retain(|one| one.service() == name);
    let mut shown: Vec<Health<'_>> = all.iter().map(|one| Health::of(&view, one)).collect();
    // Stable: of one word in the order of ids.
    shown.sort_by_key(|health| Reverse(health.aggregated_status));
    let Some(worst) = shown.first().map(|health| health.aggregated_status) else {
        return Ok(answer_with(&params, &headers, StatusCode::NOT_FOUND, &format!("ServiceName {name} Not Found"), &shown));
    };
    Ok(answer_with(&params, &headers, worst.status(), worst.word(), &shown))
}

fn answer_with(params: &Params, headers: &HeaderMap, status: StatusCode, text: &str, json: &impl Serialize) -> Response<Body> {
    let is_text = params.one("format") == Some("text") || headers.get(ACCEPT).is_some_and(|accept| accept == "text/plain");
    let mut response = if is_text {
        let mut response = Response::new(Body::from(text.to_owned()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    } else {
        answer::json(params, json)
    };
    *response.status_mut() = status;
    response
}
