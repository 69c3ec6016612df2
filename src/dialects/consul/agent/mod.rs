//! `/v1/agent`: this agent, what is registered with it, and how that is.
//!
//! ```text
//! services   register, deregister, maintenance, lists
//! checks     register, deregister, signs of life and words on health, lists
//! maintenance  on and off, of a service or the node
//! change     a new list of checks for an instance that is there
//! ```

mod change;
mod checks;
mod maintenance;
mod services;

use axum::Router;

use super::Consul;

pub fn routes() -> Router<Consul> {
    Router::new().merge(services::routes()).merge(checks::routes()).merge(maintenance::routes())
}
