//! Errors as Consul gives them: a status and a line of text. The one place where a refusal of the engine becomes one, and the closed list
//! of what is not offered, with the reason.

use axum::Router;
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any};

use super::Consul;
use crate::model::command::Refusal;

/// What a client gets instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: StatusCode,
    pub text: String,
    allow: Option<&'static str>,
    retry_after_s: Option<u64>,
}

impl Failure {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), allow: None, retry_after_s: None }
    }

    /// 400: the request is wrong.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404: what it names is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 500: Consul's own status for much that is no fault of the server.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 501: not offered here, and why.
    pub fn not_offered(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, text)
    }

    /// 403: whoever asks may not. Clients look for the first two words.
    pub fn denied(why: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("Permission denied: {why}"))
    }

    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Request body too large, max size: {bytes_max} bytes"))
    }

    /// Clients take it as the sign of a datacenter that is down or does not exist.
    pub fn no_path_to_datacenter() -> Self {
        Self::failed("No path to datacenter")
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NotFound { .. } => Self::not_found(text),
            Refusal::Condition { .. } => Self::new(StatusCode::CONFLICT, text),
            Refusal::Ambiguous | Refusal::Invalid { .. } => Self::bad(text),
            Refusal::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            Refusal::Busy { retry_after_ms, .. } => {
                let retry_after_s = Some(retry_after_ms.div_ceil(1000).max(1));
                Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
            }
            Refusal::Unavailable { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, text),
            Refusal::Denied { .. } => Self::denied(&text),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Refuses the other methods with the list of those that are for this path; answers OPTIONS with it.
pub fn only(allow: &'static str, methods: MethodRouter<Consul>) -> MethodRouter<Consul> {
    methods.fallback(move |method: Method| async move {
        let (status, text) = match method {
            Method::OPTIONS => (StatusCode::OK, String::new()),
            other => (StatusCode::METHOD_NOT_ALLOWED, format!("method {other} not allowed")),
        };
        Failure { allow: Some(allow), ..Failure::new(status, text) }
    })
}

const CONSENSUS: &str = "it needs consensus among servers, and this registry has none: it goes on answering when others cannot agree";
const MESH: &str = "this is a registry, not a service mesh";
const ACL: &str = "ACL support disabled";

/// What is not offered: the part of a path behind `/v1/`, and why. What is under it is refused alike.
const NOT_OFFERED: &[(&str, &str)] = &[
    ("session", CONSENSUS),
    ("txn", CONSENSUS),
    ("query", CONSENSUS),
    ("snapshot", "each agent holds the whole catalog and repairs from the others; there is nothing to snapshot"),
    ("config", CONSENSUS),
    ("peering", "datacenters are linked by gateways"),
    ("operator", "there is no leader, no Raft and no license to operate"),
    ("connect", MESH),
    ("discovery-chain", MESH),
    ("exported-services", MESH),
    ("imported-services", MESH),
    ("internal", "the page is at /ui/, its data at /api/v1/"),
    ("agent/connect", MESH),
    ("agent/monitor", "the log is on standard error"),
    ("agent/debug", "/metrics tells what the agent counts"),
];

/// Access lists: 401, which clients take as the word that they are off.
const ACCESS_LISTS: &[&str] = &["acl", "agent/token"];

/// What is refused, and every path of `/v1` that is nobody's.
pub fn routes() -> Router<Consul> {
    let mut router = Router::new().route("/v1/{*rest}", any(nothing)).route("/v1", any(nothing)).route("/v1/", any(nothing));
    let refused = NOT_OFFERED.iter().map(|&(path, why)| (path, Failure::not_offered(format!("not offered here: {why}"))));
    let closed = ACCESS_LISTS.iter().map(|&path| (path, Failure::new(StatusCode::UNAUTHORIZED, ACL)));
    for (path, failure) in refused.chain(closed) {
        let answer = move || std::future::ready(failure.clone());
        router = router.route(&format!("/v1/{path}"), any(answer.clone())).route(&format!("/v1/{path}/{{*rest}}"), any(answer));
    }
    router
}

async fn nothing(uri: Uri) -> Failure {
    Failure::not_found(format!("Invalid URL path: there is nothing at {}", uri.path()))
}
