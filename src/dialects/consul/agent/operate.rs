//! What operators and test suites do to an agent: `join`, `leave`, `force-leave`, `reload`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::put;

use crate::dialects::consul::blocking::{Watched, wait_until};
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::{Params, Tail};
use crate::dialects::consul::{Consul, answer};
use crate::model::command::Command;
use crate::view::{MemberState, View};

/// How long a join may take before it is said to have failed; it goes on being tried.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/join/{*address}", only("PUT", put(join)))
        .route("/v1/agent/leave", only("PUT", put(leave)))
        .route("/v1/agent/force-leave/{*node}", only("PUT", put(force_leave)))
        .route("/v1/agent/reload", only("PUT", put(reload)))
}

/// `PUT /v1/agent/join/{address}`: done once one of the addresses belongs to a living member whose name is known.
async fn join(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let text = tail.need("Missing address")?;
    if params.flag("wan")? {
        return Err(Failure::not_offered("not offered here: datacenters are linked by gateways, not by joining their members"));
    }
    let addresses = resolve(&text, consul.handle.facts().gossip.port()).await?;
    consul.handle.call(Command::Join(addresses.clone())).await?;
    let is_joined = |view: &View| {
        view.members
            .iter()
            .any(|member| member.state == MemberState::Alive && !member.name.is_empty() && addresses.contains(&member.gossip))
    };
    let view = wait_until(&consul, JOIN_PATIENCE, Watched::Everything, is_joined).await;
    if is_joined(&view) {
        Ok(answer::empty())
    } else {
        Err(Failure::failed(format!("1 error occurred:\n\t* Failed to join {text}: no answer")))
    }
}

/// An address with a port, or with that of our own gossip.
async fn resolve(text: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let text = text.trim_matches('/');
    let found: std::io::Result<Vec<SocketAddr>> = match text.parse::<std::net::IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Err(_) if text.contains(':') => tokio::net::lookup_host(text).await.map(Iterator::collect),
        Err(_) => tokio::net::lookup_host((text, port)).await.map(Iterator::collect),
    };
    found.map_err(|why| Failure::failed(format!("1 error occurred:\n\t* Failed to resolve {text}: {why}")))
}

/// `PUT /v1/agent/leave`
async fn leave(State(consul): State<Consul>) -> Result<Response<Body>, Failure> {
    consul.handle.call(Command::Leave).await?;
    Ok(answer::empty())
}

/// `PUT /v1/agent/force-leave/{node}`: gives up a member that is not alive.
async fn force_leave(State(consul): State<Consul>, tail: Tail) -> Result<Response<Body>, Failure> {
    let name = tail.need("Missing node name")?;
    let view = consul.handle.view();
    let plain = name.strip_suffix(&format!(".{}", view.agent.datacenter)).unwrap_or(&name);
    let member = view.members.iter().find(|member| member.name == name || member.name == plain);
    let member = member.ok_or_else(|| Failure::failed(format!("agent: No node found with name '{name}'")))?;
    // One that is gone for good already needs no giving up; one that lives would only refute it.
    if member.state == MemberState::Down {
        consul.handle.call(Command::Forget(member.id)).await?;
    }
    Ok(answer::empty())
}

/// `PUT /v1/agent/reload`
async fn reload(State(consul): State<Consul>) -> Result<Response<Body>, Failure> {
    consul.handle.reload().await?;
    Ok(answer::empty())
}
