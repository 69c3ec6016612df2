//! Problems as answers; and the one place where a refusal of the engine becomes one.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;

use super::tag;
use crate::access::Denied;
use crate::model::command::Refusal;
use crate::schema::{Kind, Problem};

/// When a client whom the agent cannot serve may come back, where nobody knows better.
const RETRY_AFTER_S: u64 = 1;

const CHALLENGES: &[(Kind, &str)] = &[
    (Kind::NoToken, "Bearer realm=\"tidings\""),
    (Kind::UnknownToken, "Bearer realm=\"tidings\", error=\"invalid_token\""),
    (Kind::NotGranted, "Bearer realm=\"tidings\", error=\"insufficient_scope\""),
];

/// A problem and the headers that go with it.
#[derive(Debug)]
pub struct No {
    pub problem: Box<Problem>,
    retry_after_s: Option<u64>,
    /// The version that holds, where a condition did not.
    version: Option<u64>,
    allow: Option<HeaderValue>,
    /// How the client may show that he may (RFC 6750).
    challenge: Option<&'static str>,
}

impl From<Problem> for No {
    fn from(problem: Problem) -> Self {
        let challenge = CHALLENGES.iter().find(|(kind, _)| kind.uri() == problem.kind).map(|(_, challenge)| *challenge);
        let retry_after_s = matches!(problem.status, 429 | 503).then_some(RETRY_AFTER_S);
        Self { problem: Box::new(problem), retry_after_s, version: None, allow: None, challenge }
    }
}

impl No {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem::new(kind, detail).into()
    }

    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.problem.pointer = Some(pointer.into());
        self
    }

    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.problem.allowed = Some(allowed.into());
        self
    }

    /// The method is not for this path; those that are.
    pub fn method(allow: &str) -> Self {
        let problem = Problem::new(Kind::NoSuchMethod, "that method is not for this path").allowed(allow);
        Self { allow: HeaderValue::from_str(allow).ok(), ..problem.into() }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let kind = match refusal {
            Refusal::NotFound { .. } => Kind::NotFound,
            Refusal::Condition { .. } => Kind::ConditionFailed,
            Refusal::Ambiguous => Kind::Ambiguous,
            Refusal::TooLarge { .. } => Kind::TooLarge,
            Refusal::Invalid { .. } => Kind::Invalid,
            Refusal::Busy { .. } => Kind::Busy,
            Refusal::Unavailable { .. } => Kind::Unavailable,
            Refusal::Denied { has_token: false, .. } => Kind::NoToken,
            Refusal::Denied { has_token: true, .. } => Kind::NotGranted,
        };
        let mut no = Self::new(kind, detail);
        match refusal {
            Refusal::Condition { version } => no.version = version,
            Refusal::TooLarge { bytes_max, .. } => return no.allowed(format!("at most {bytes_max} bytes")),
            Refusal::Busy { retry_after_ms, .. } => no.retry_after_s = Some(retry_after_ms.div_ceil(1000).max(1)),
            _ => {}
        }
        no
    }
}

impl From<Denied> for No {
    fn from(denied: Denied) -> Self {
        let kind = match denied {
            Denied::Misdirected { .. } => Kind::Misdirected,
            Denied::ForeignOrigin { .. } => Kind::Forbidden,
            Denied::NoToken { .. } => Kind::NoToken,
            Denied::UnknownToken => Kind::UnknownToken,
            Denied::NotGranted { .. } => Kind::NotGranted,
        };
        Self::new(kind, denied.to_string())
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&*self.problem).expect("a problem is texts and a number");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.problem.status).expect("the closed list holds statuses");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(version) = self.version {
            headers.insert(ETAG, tag::of_version(version));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, allow);
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
