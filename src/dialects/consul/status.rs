//! `status/leader` and `status/peers`: clients and test suites take a leader as the sign that a cluster is up, so each agent answers with
//! itself. It is no lie they could stumble over: whatever they would ask of a leader, this agent answers.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::get;

use super::refuse::{Failure, only};
use super::request::Params;
use super::{Consul, answer};

pub fn routes() -> Router<Consul> {
    Router::new().route("/v1/status/leader", only("GET", get(leader))).route("/v1/status/peers", only("GET", get(peers)))
}

async fn leader(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_datacenter(&consul)?;
    Ok(answer::json(&params, &consul.server()))
}

async fn peers(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_datacenter(&consul)?;
    Ok(answer::json(&params, &[consul.server()]))
}
