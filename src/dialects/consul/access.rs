//! Who may ask: Consul's ways to show a token, mapped onto `access`, in one layer around all routes.
//!
//! Reading needs `read`. Changing needs a grant to change something; what exactly is decided when the request has become a command, which
//! the handle looks at again. Refusals are Consul's: always 403, for 401 tells its clients that access lists are off.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse as _;

use super::Consul;
use super::refuse::Failure;
use super::request::Params;
use crate::access::{Denied, Need};
use crate::agent::handle::acting_for;

/// Routes behind what they need.
pub fn guarded(router: Router<Consul>, consul: &Consul) -> Router<Consul> {
    router.layer(from_fn_with_state(consul.clone(), admit))
}

async fn admit(State(consul): State<Consul>, request: Request, next: Next) -> Response<Body> {
    let guard = consul.handle.guard();
    // Without rules a token is not even looked for.
    if guard.is_open() {
        return next.run(request).await;
    }
    let token = match token(&request) {
        Ok(token) => token,
        Err(failure) => return failure.into_response(),
    };
    match guard.admit(token.as_deref(), need(request.method(), request.uri().path())) {
        Ok(caller) => acting_for(caller, next.run(request)).await,
        Err(denied) => refuse(&denied).into_response(),
    }
}

fn need(method: &Method, path: &str) -> Need<'static> {
    match *method {
        // Asked by load balancers and tests to see whether anybody is there.
        Method::GET | Method::HEAD if path.starts_with("/v1/status/") => Need::Nothing,
        Method::OPTIONS => Need::Nothing,
        Method::GET | Method::HEAD => Need::Read,
        // No command stands behind it that would be looked at again.
        Method::PUT if path == "/v1/agent/reload" => Need::Operate,
        _ => Need::Change,
    }
}

/// In `?token`, `X-Consul-Token` or `Authorization`, the first that is not empty; none is the anonymous one.
fn token(request: &Request) -> Result<Option<String>, Failure> {
    if let Some(token) = Params::read(request.uri())?.filled("token") {
        return Ok(Some(token.to_owned()));
    }
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("not readable").trim());
    let bearer = header(AUTHORIZATION.as_str()).map(|text| match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    });
    Ok([header("x-consul-token"), bearer].into_iter().flatten().find(|token| !token.is_empty()).map(str::to_owned))
}

fn refuse(denied: &Denied) -> Failure {
    match denied {
        Denied::UnknownToken => Failure::new(StatusCode::FORBIDDEN, "ACL not found"),
        denied => Failure::denied(&denied.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_command_stands_behind_is_decided_by_its_path() {
        assert_eq!(need(&Method::PUT, "/v1/agent/reload"), Need::Operate);
        assert_eq!(need(&Method::PUT, "/v1/agent/service/register"), Need::Change);
        assert_eq!(need(&Method::GET, "/v1/status/leader"), Need::Nothing);
        assert_eq!(need(&Method::GET, "/v1/agent/self"), Need::Read);
    }
}
