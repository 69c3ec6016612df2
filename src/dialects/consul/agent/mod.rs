//! `/v1/agent`: this agent, what is registered with it, and how that is.
//!
//! ```text
//! services     register, deregister and maintain services
//! checks       register and deregister checks; signs of life and words on health
//! maintenance  on and off, of a service or the node
//! change       writes that depend on what is there
//! lists        its services and checks, one service with a hash to wait on
//! health       how a service here is, as a status
//! about        the agent itself, its host, the members, the metrics
//! operate      join, leave, reload
//! ```

mod about;
mod change;
mod checks;
mod health;
mod lists;
mod maintenance;
mod operate;
mod services;

pub use change::{change_checks, decide_and_write};
pub use checks::put_definition as put_check;
pub use services::put_definition as put_service;

use axum::Router;

use super::Consul;

pub fn routes() -> Router<Consul> {
    Router::new()
        .merge(services::routes())
        .merge(checks::routes())
        .merge(maintenance::routes())
        .merge(lists::routes())
        .merge(health::routes())
        .merge(about::routes())
        .merge(operate::routes())
}
