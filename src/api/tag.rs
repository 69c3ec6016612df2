//! ETags: of one instance, by its version, and of lists, by what they were read from.

use axum::http::HeaderValue;
use bytes::Bytes;

/// A version as an ETag; `If-Match` takes it back.
pub fn of_version(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version:016x}\"")).expect("quotes and digits may stand in a header")
}

/// Of a list at a revision, as this agent has it: another agent's, or another life's, is another list.
pub fn of_list(agent: &str, revision: u64) -> HeaderValue {
    let mut text = Vec::with_capacity(32);
    text.push(b'"');
    text.extend_from_slice(&agent.as_bytes()[..8]);
    text.push(b'-');
    text.extend_from_slice(revision.to_string().as_bytes());
    text.push(b'"');
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and quotes may stand in a header")
}
