//! `/v1/event`: user events, which every agent hears of and keeps the newest of.
//!
//! An agent lists the events that are meant for it: its name fits the node filter, and a service on it the filters of service and tag. The
//! index of a list is its newest event's id folded to 64 bits, which goes up and down; 1 where there is none.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::{get, put};
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::blocking::{Watched, wait_until};
use super::json::Uuid;
use super::kv::base64;
use super::refuse::{Failure, only};
use super::request::{self, Params, Tail};
use super::{Consul, answer};
use crate::model::command::Command;
use crate::model::event::UserEvent;
use crate::model::limits::{EVENT_FILTER_BYTES_MAX, EVENT_NAME_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX};
use crate::view::{FiredEvent, View};

/// The format of events.
const VERSION: u64 = 1;
/// What one filter's pattern may take once it is compiled.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// The index of an empty list.
const INDEX_EMPTY: u64 = 1;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/event/fire/", only("PUT", put(fire)))
        .route("/v1/event/fire/{*name}", only("PUT", put(fire)))
        .route("/v1/event/list", only("GET", get(list)))
}

/// An event as Consul shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'v> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'v str,
    /// Null where it is empty.
    #[serde(serialize_with = "base64")]
    payload: Option<&'v [u8]>,
    node_filter: &'v str,
    service_filter: &'v str,
    tag_filter: &'v str,
    version: u64,
    #[serde(rename = "LTime")]
    l_time: u64,
}

impl<'v> Shown<'v> {
    fn of(event: &'v UserEvent, l_time: u64) -> Self {
        Self {
            id: Uuid(event.uuid),
            name: &event.name,
            payload: Some(&*event.payload).filter(|payload| !payload.is_empty()),
            node_filter: &event.node_filter,
            service_filter: &event.service_filter,
            tag_filter: &event.tag_filter,
            version: event.version,
            l_time,
        }
    }
}

/// `PUT /v1/event/fire/{name}`
async fn fire(State(consul): State<Consul>, tail: Tail, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    params.check_datacenter(&consul)?;
    let name = tail.need("Missing name")?;
    if name.len() > EVENT_NAME_BYTES_MAX {
        return Err(Failure::bad(format!("the name has more than {EVENT_NAME_BYTES_MAX} bytes")));
    }
    let event = UserEvent {
        uuid: u128::from(consul.dice.roll()) << 64 | u128::from(consul.dice.roll()),
        name,
        payload: request::body(body, EVENT_PAYLOAD_BYTES_MAX).await?.to_vec(),
        node_filter: pattern(&params, "node")?,
        service_filter: pattern(&params, "service")?,
        tag_filter: pattern(&params, "tag")?,
        version: VERSION,
        fired_at: 0,
    };
    if event.service_filter.is_empty() && !event.tag_filter.is_empty() {
        return Err(Failure::bad("Cannot provide tag filter without service filter"));
    }
    consul.handle.call(Command::FireEvent(Box::new(event.clone()))).await?;
    Ok(answer::json(&params, &Shown::of(&event, 0)))
}

/// A filter that listeners can apply.
fn pattern(params: &Params, name: &str) -> Result<String, Failure> {
    let text = params.one(name).unwrap_or_default();
    if text.len() > EVENT_FILTER_BYTES_MAX {
        return Err(Failure::bad(format!("?{name} has more than {EVENT_FILTER_BYTES_MAX} bytes")));
    }
    compile(text).map(|_| text.to_owned()).map_err(|refused| Failure::bad(format!("Invalid {name} filter: {refused}")))
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build()
}

/// `GET /v1/event/list`
async fn list(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let (index, wait) = (params.index()?, if params.has("wait") { params.wait()? } else { request::WAIT_MAX });
    let listed = |view: &View| -> u64 { heard(&consul, view, &params).last().map_or(INDEX_EMPTY, |event| folded(event.event.uuid)) };
    let view = wait_until(&consul, wait, Watched::Everything, |view| index == 0 || listed(view) != index).await;
    let events: Vec<Shown<'_>> = heard(&consul, &view, &params).iter().map(|heard| Shown::of(&heard.event, heard.claim)).collect();
    let mut response = answer::json(&params, &events);
    // No leader has a part in this: no other header is there.
    response.headers_mut().insert(answer::INDEX, listed(&view).into());
    Ok(response)
}

/// The events of a name, if one is given, that are meant for this agent; oldest first.
fn heard<'v>(consul: &Consul, view: &'v View, params: &Params) -> Vec<&'v FiredEvent> {
    let name = params.filled("name");
    let named = view.user_events.iter().map(|event| &**event).filter(|fired| name.is_none_or(|name| fired.event.name == name));
    named.filter(|fired| is_for_us(consul, view, &fired.event)).collect()
}

fn is_for_us(consul: &Consul, view: &View, event: &UserEvent) -> bool {
    // One that another program wrote may not be a pattern: then it fits nothing.
    let fits = |pattern: &str, text: &str| pattern.is_empty() || compile(pattern).is_ok_and(|pattern| pattern.is_match(text));
    if !fits(&event.node_filter, &view.agent.name) {
        return false;
    }
    if event.service_filter.is_empty() {
        return true;
    }
    consul.on_node(view, view.agent.id).iter().any(|one| {
        let has_tag = || one.instance.tags.iter().any(|tag| fits(&event.tag_filter, tag));
        fits(&event.service_filter, one.service()) && (event.tag_filter.is_empty() || has_tag())
    })
}

/// Both halves of an id, one laid over the other.
fn folded(id: u128) -> u64 {
    (id >> 64) as u64 ^ id as u64
}
