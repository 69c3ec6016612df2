//! `?dc=`: reads of other datacenters, answered from this agent's own memory as it answers for its own (protocol.md §6).
//!
//! Consul forwards such a read to a server over there; here nothing waits for a gateway, and the answer says how old it may be in
//! `X-Consul-LastContact`. Lists and services of a datacenter have the revisions of its own view as their indexes. What agents keep beside
//! their own view, the index of names for one, is not kept for others: their lists are read off the view, and their index is the view's.

use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;

use super::blocking::{Watched, block, wait_until};
use super::refuse::Failure;
use super::request::Params;
use super::{Consul, answer};
use crate::agent::handle::wall_ms;
use crate::model::names::ServiceKey;
use crate::view::View;

/// What a read is answered from: this datacenter's view, or another's.
pub struct Seen {
    view: Arc<View>,
    /// None at home: nothing is older here than what the agent knows.
    age_ms: Option<u64>,
}

impl Deref for Seen {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Seen {
    /// Says in an answer how old it may be.
    pub fn tell(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(age_ms) = self.age_ms {
            answer::put_age(response.headers_mut(), age_ms);
        }
        response
    }

    /// The same of one service, whose instances may have been fetched longer ago.
    pub fn of_service(mut self, consul: &Consul, params: &Params, service: Option<&ServiceKey>) -> Self {
        let view = consul.handle.view();
        let known = params.elsewhere(consul).and_then(|datacenter| view.datacenter(datacenter));
        let fetched_ms = known.zip(service).and_then(|(known, key)| known.fetched_ms(key.namespace.as_str(), key.service.as_str()));
        if let (Some(fetched_ms), Some(age_ms)) = (fetched_ms, self.age_ms.as_mut()) {
            *age_ms = (*age_ms).max(wall_ms().saturating_sub(fetched_ms));
        }
        self
    }

    fn of(view: &View, datacenter: &str) -> Result<Self, Failure> {
        let known = view.datacenter(datacenter).ok_or_else(Failure::no_path_to_datacenter)?;
        Ok(Self { view: Arc::clone(&known.view), age_ms: Some(known.age_ms(wall_ms())) })
    }
}

/// What is known at this moment of the datacenter that a read names.
pub fn now(consul: &Consul, params: &Params) -> Result<Seen, Failure> {
    let view = consul.handle.view();
    match params.elsewhere(consul) {
        Some(datacenter) => Seen::of(&view, datacenter),
        None => Ok(Seen { view, age_ms: None }),
    }
}

/// A read of one service: where its datacenter tells summaries, its instances are fetched for the next who asks.
pub fn look_up(consul: &Consul, params: &Params, service: Option<&ServiceKey>) {
    let view = consul.handle.view();
    let known = params.elsewhere(consul).and_then(|datacenter| view.datacenter(datacenter));
    if let (Some(known), Some(service)) = (known, service) {
        consul.handle.look_up(known, service);
    }
}

/// As [`block`], in the datacenter that the read names; `watched` is what wakes it at home.
pub async fn block_there(consul: &Consul, params: &Params, watched: Watched, index_of: impl Fn(&View) -> u64) -> Result<Seen, Failure> {
    let Some(datacenter) = params.elsewhere(consul) else {
        return Ok(Seen { view: block(consul, params, watched, index_of).await?, age_ms: None });
    };
    let (index, wait) = (params.index()?, params.wait()?);
    if index == 0 {
        return now(consul, params);
    }
    // One that is forgotten meanwhile has nothing to wait for.
    let has_moved = |view: &View| view.datacenter(datacenter).is_none_or(|known| index_of(&known.view).max(1) != index);
    Seen::of(&*wait_until(consul, wait, Watched::Everything, has_moved).await, datacenter)
}
