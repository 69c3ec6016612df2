//! What this agent has: its services and their checks by id, and one of its services with a hash to wait on.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response};
use axum::routing::get;
use serde::Serialize;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher as _;

use crate::dialects::consul::blocking::{Watched, wait_until};
use crate::dialects::consul::filter::Filter;
use crate::dialects::consul::filter::shape::Shape;
use crate::dialects::consul::json::check::{self, CheckJson, SERF_HEALTH};
use crate::dialects::consul::json::service::{AgentServiceJson, One};
use crate::dialects::consul::json::shape;
use crate::dialects::consul::own::{self, Place};
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::{Params, Tail};
use crate::dialects::consul::{Consul, answer};
use crate::model::names::Namespace;
use crate::view::View;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/services", only("GET", get(services)))
        .route("/v1/agent/checks", only("GET", get(checks)))
        .route("/v1/agent/service/", only("GET", get(service)))
        .route("/v1/agent/service/{*id}", only("GET", get(service)))
}

/// `GET /v1/agent/services`
async fn services(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let filter = read_filter(&params, &shape::SERVICE)?;
    let view = consul.handle.view();
    let all = instances(&consul, &view, &params.namespace()?);
    let shown = all.iter().map(|one| (one.id(), one.agent_service())).filter(|(_, service)| takes(filter.as_ref(), service));
    Ok(answer::json(&params, &shown.collect::<BTreeMap<_, _>>()))
}

/// `GET /v1/agent/checks`: of its services and its node; that the agent lives is not for itself to check.
async fn checks(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let filter = read_filter(&params, &shape::CHECK)?;
    let view = consul.handle.view();
    let all = instances(&consul, &view, &params.namespace()?);
    let shown = node_checks(&view).into_iter().chain(all.iter().flat_map(check::of_instance));
    let shown = shown.filter(|check| takes(filter.as_ref(), check)).map(|check| (check.check_id.to_string(), check));
    Ok(answer::json(&params, &shown.collect::<BTreeMap<_, _>>()))
}

/// The checks on this agent's node that are not SWIM's verdict on it.
pub fn node_checks(view: &View) -> Vec<CheckJson<'_>> {
    let mut checks = own::node(view).map(|node| check::of_node(node, view.nodes_revision)).unwrap_or_default();
    checks.retain(|check| check.check_id != SERF_HEALTH);
    checks
}

/// This agent's instances, one an id, in order of the ids.
pub fn instances<'v>(consul: &Consul, view: &'v View, namespace: &Namespace) -> Vec<One<'v>> {
    consul.own.all(view, namespace).iter().filter_map(|place| One::of(place.entry(view)?)).collect()
}

fn read_filter(params: &Params, shape: &Shape) -> Result<Option<Filter>, Failure> {
    params.filled("filter").map(|text| Filter::read(text, shape)).transpose().map_err(|refused| Failure::bad(refused.to_string()))
}

fn takes(filter: Option<&Filter>, element: &impl Serialize) -> bool {
    filter.is_none_or(|filter| serde_json::to_value(element).is_ok_and(|element| filter.matches(&element)))
}

/// A service with the hash of what it is registered as.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Hashed<'a> {
    #[serde(flatten)]
    service: AgentServiceJson<'a>,
    content_hash: String,
}

/// `GET /v1/agent/service/{id}?hash&wait`: at once where the hash is another, else once it is, or the service is gone.
async fn service(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let id = tail.need("Missing service ID")?;
    let namespace = params.namespace()?;
    let unknown = || Failure::not_found(format!("unknown service ID: {id}"));
    let find = |view: &View| consul.own.with_id(view, &namespace, &id).into_iter().next();
    let mut view = consul.handle.view();
    if let Some(known) = params.filled("hash") {
        let place = find(&view).ok_or_else(unknown)?;
        // Under another name it would be another service: that of before ends then, which wakes as well.
        let watched = Watched::Services(vec![place.service.clone()]);
        view = wait_until(&consul, params.wait()?, watched, |view| hash_at(&place, view).is_none_or(|hash| hash != known)).await;
    }
    let place = find(&view).ok_or_else(unknown)?;
    let one = place.entry(&view).and_then(One::of).ok_or_else(unknown)?;
    let content_hash = hash_of(&one);
    let header = HeaderValue::from_str(&content_hash).expect("hexadecimal digits may stand in a header");
    let mut response = answer::json(&params, &Hashed { service: one.agent_service(), content_hash });
    response.headers_mut().insert(answer::CONTENT_HASH, header);
    Ok(response)
}

fn hash_at(place: &Place, view: &View) -> Option<String> {
    place.entry(view).and_then(One::of).as_ref().map(hash_of)
}

fn hash_of(one: &One<'_>) -> String {
    let encoded = serde_json::to_vec(&one.agent_service()).expect("a service is texts and numbers");
    let mut hasher = SipHasher13::new();
    hasher.write(&encoded);
    format!("{:016x}", hasher.finish128().h1)
}
