//! `?dc=`: reads of other datacenters, answered from this agent's own memory as it answers for its own (protocol.md §6).
//!
//! Consul forwards such a read to a server over there; here nothing waits for a gateway, and the answer says how old it may be in
//! `X-Consul-LastContact`. Only for a service that is known by its summary a reader waits while a gateway fetches its instances: Consul's
//! answers have no word for "not here yet", and an empty list would be taken for the truth. Lists and services of a datacenter have the
//! revisions of its own view as their indexes. What agents keep beside their own view, the index of names for one, is not kept for others:
//! their lists are read off the view, and their index is the view's.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;

use super::blocking::{Watched, block, wait_until};
use super::refuse::Failure;
use super::request::Params;
use super::{Consul, answer};
use crate::agent::handle::{Named, wall_ms};
use crate::model::names::ServiceKey;
use crate::view::{DatacenterView, View};

/// How long a read waits for the instances of a service that are fetched for it: several round trips, and a second try. Clients of Consul
/// bear more where it forwards such a read.
const FETCHED_WITHIN: Duration = Duration::from_secs(3);

/// What a read is answered from: this datacenter's view, or another's.
pub struct Seen {
    view: Arc<View>,
    /// None at home.
    pub other: Option<Arc<DatacenterView>>,
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

    fn of(view: &View, datacenter: &str) -> Result<Self, Failure> {
        let known = view.datacenter(datacenter).ok_or_else(Failure::no_path_to_datacenter)?;
        Ok(Self { view: Arc::clone(&known.view), other: Some(Arc::clone(known)), age_ms: Some(known.age_ms(wall_ms())) })
    }
}

/// What is known at this moment of the datacenter that a read names.
pub fn now(consul: &Consul, params: &Params) -> Result<Seen, Failure> {
    let view = consul.handle.view();
    match params.elsewhere(consul) {
        Some(datacenter) => Seen::of(&view, datacenter),
        None => Ok(Seen { view, other: None, age_ms: None }),
    }
}

/// The service of another datacenter that a read is about.
pub fn named(consul: &Consul, params: &Params, service: Option<&ServiceKey>) -> Option<Named> {
    let (datacenter, service) = (params.elsewhere(consul)?, service?);
    Some(Named { datacenter: datacenter.to_owned(), services: vec![service.clone()] })
}

/// What is known of a service of another datacenter, once its instances are here.
///
/// # Errors
/// It is known to have instances, and they do not come: a client then keeps what it knows, and asks again.
pub async fn fetched(consul: &Consul, named: &Named) -> Result<Seen, Failure> {
    let view = consul.handle.fetched(named, FETCHED_WITHIN).await;
    let mut seen = Seen::of(&view, &named.datacenter)?;
    for key in &named.services {
        let Some(known) = &seen.other else { continue };
        if known.lacks(key.namespace.as_str(), key.service.as_str()).is_some() {
            return Err(Failure::failed(format!("No answer from {} about {:?} yet", named.datacenter, key.service.as_str())));
        }
        seen.age_ms = seen.age_ms.max(Some(known.age_of(key.namespace.as_str(), key.service.as_str(), wall_ms())));
    }
    Ok(seen)
}

/// As [`block`], in the datacenter that the read names; `watched` is what wakes it at home.
pub async fn block_there(consul: &Consul, params: &Params, watched: Watched, index_of: impl Fn(&View) -> u64) -> Result<Seen, Failure> {
    block_known(consul, params, watched, &index_of, |known| index_of(&known.view)).await
}

/// The same, where another datacenter's index is not its view's alone.
pub async fn block_known(
    consul: &Consul,
    params: &Params,
    watched: Watched,
    index_of: impl Fn(&View) -> u64,
    index_there: impl Fn(&DatacenterView) -> u64,
) -> Result<Seen, Failure> {
    let Some(datacenter) = params.elsewhere(consul) else {
        return Ok(Seen { view: block(consul, params, watched, index_of).await?, other: None, age_ms: None });
    };
    let (index, wait) = (params.index()?, params.wait()?);
    if index == 0 {
        return now(consul, params);
    }
    // One that is forgotten meanwhile has nothing to wait for.
    let has_moved = |view: &View| view.datacenter(datacenter).is_none_or(|known| index_there(known).max(1) != index);
    Seen::of(&*wait_until(consul, wait, Watched::Everything, has_moved).await, datacenter)
}
