//! The native HTTP API (api.md §1): routes to the handle and back.
//!
//! ```text
//! app        one request: Host and Origin rules, the router, headers that every answer has
//! routes     which path is whose
//! reads      services and instances: lists, one instance
//! pick, http_sd  other pictures of the same
//! writes     register, merge, deregister, heartbeat, override, batch
//! watch      server-sent events
//! cluster    members, status, events, join, leave, keys
//! state      what all of these share
//! query, pages, meant  what a reader wants to see; where a page ends; which instance is meant
//! places     which datacenters are asked
//! near       how far instances are from a member
//! tag        ETags
//! answer     answers with their revision, and waiting for one
//! encode     a view's entries as JSON
//! request    query parameters, names in paths, bodies
//! json       reading a body so that a refusal names the very place
//! registration  the JSON of a registration as an Instance, and back
//! refuse     problems as answers; the one place where a Refusal becomes one
//! events     the last changes of the picture
//! page       /ui/, one file
//! ```
//!
//! Reads never leave the view. Writes are commands to the handle; their answer comes when they are durable and visible here.

#![allow(clippy::result_large_err, reason = "a refusal is made once and becomes the answer at once")]

mod answer;
mod app;
mod cluster;
mod encode;
mod events;
mod fetch;
mod http_sd;
mod json;
mod known;
mod meant;
mod near;
mod page;
mod pages;
mod pick;
mod places;
mod query;
mod reads;
mod refuse;
mod registration;
mod request;
mod routes;
mod state;
mod tag;
mod watch;
mod writes;

pub use app::{App, Transport};
pub use state::Api;

#[cfg(test)]
mod tests;
