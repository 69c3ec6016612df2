//! Maintenance: an operator's word on a service or on the whole node, which is what Consul's clients switch on by it. Such a word outlives
//! the registration it is about; switched off, it is taken back.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::put;

use crate::agent::handle::wall_ms;
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::Params;
use crate::dialects::consul::{Consul, answer};
use crate::model::command::{Command, OverrideTarget};
use crate::model::names::NodeName;
use crate::model::node::Override;

/// What is kept of a reason.
const REASON_BYTES_MAX: usize = 1_024;

pub fn routes() -> Router<Consul> {
    Router::new().route("/v1/agent/maintenance", only("PUT", put(maintain_node)))
}

/// `PUT /v1/agent/maintenance?enable&reason`
async fn maintain_node(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let is_enabled = params.enable()?;
    let node = NodeName::new(&consul.handle.view().agent.name).map_err(|bad| Failure::failed(bad.to_string()))?;
    set(&consul, OverrideTarget::Node(node), is_enabled, &params, "node").await?;
    Ok(answer::empty())
}

/// Switches maintenance on or off; `what` is said in the reason where none is given.
pub async fn set(consul: &Consul, of: OverrideTarget, is_enabled: bool, params: &Params, what: &str) -> Result<(), Failure> {
    let command = if is_enabled {
        let reason = params.filled("reason").map_or_else(
            || format!("Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."),
            |reason| reason.chars().take(REASON_BYTES_MAX / 4).collect(),
        );
        let word = Override { enabled: false, reason: reason.into(), expires_at: None, set_at: wall_ms() };
        Command::SetOverride { of, word }
    } else {
        Command::ClearOverride { of }
    };
    consul.handle.call(command).await?;
    Ok(())
}
