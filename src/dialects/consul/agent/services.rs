//! `agent/service/…`: services of this agent, by id.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::put;

use super::change::decide_and_write;
use crate::dialects::consul::body::{self, Fields};
use crate::dialects::consul::mapping::{self, Mapped};
use crate::dialects::consul::own::Place;
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::{self, BODY_BYTES_MAX, Params, Tail};
use crate::dialects::consul::{Consul, answer};
use crate::model::command::{Command, Condition, OverrideTarget};
use crate::model::names::{InstanceId, Namespace};
use crate::model::record::Scope;
use crate::view::View;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/service/register", only("PUT", put(register)))
        .route("/v1/agent/service/deregister/", only("PUT", put(deregister)))
        .route("/v1/agent/service/deregister/{*id}", only("PUT", put(deregister)))
        .route("/v1/agent/service/maintenance/", only("PUT", put(maintain)))
        .route("/v1/agent/service/maintenance/{*id}", only("PUT", put(maintain)))
}

/// `PUT /v1/agent/service/register`
async fn register(State(consul): State<Consul>, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    let namespace = params.namespace()?;
    let replaces_checks = params.flag("replace-existing-checks")?;
    let value = body::object(&request::body(body, BODY_BYTES_MAX).await?)?;
    put_definition(&consul, &namespace, body::Service::read(Fields::of(&value, "")?)?, replaces_checks).await?;
    Ok(answer::empty())
}

/// Registers with this agent what is defined.
pub async fn put_definition(
    consul: &Consul,
    namespace: &Namespace,
    mut definition: body::Service,
    replaces_checks: bool,
) -> Result<(), Failure> {
    let view = consul.handle.view();
    definition.checks.iter_mut().for_each(|check| name_alias(consul, &view, namespace, check));
    let mapped = mapping::service(&definition, consul.setting())?;
    register_here(consul, namespace, &mapped, replaces_checks).await
}

/// An alias names the id of a service of this agent: it is as healthy as the service that has it. One that is not known here may be a name.
pub fn name_alias(consul: &Consul, view: &View, namespace: &Namespace, check: &mut body::Check) {
    if let Some(place) = consul.own.with_id(view, namespace, &check.alias_service).first() {
        check.alias_service = place.service.service.to_string();
    }
}

/// Registers with this agent. An id is unique there: what had it under another name goes. Checks of before that are not named stay,
/// unless they are replaced.
async fn register_here(consul: &Consul, namespace: &Namespace, mapped: &Mapped, replaces_checks: bool) -> Result<(), Failure> {
    decide_and_write(&consul.handle, |view| {
        let known = consul.own.with_id(view, namespace, mapped.id.as_str());
        let (same, others): (Vec<Place>, Vec<Place>) = known.into_iter().partition(|place| place.service.service == mapped.service);
        let (id, mut mapped) = (mapped.id.clone(), mapped.clone());
        let (mut scope, mut condition) = (Scope::Agent, Condition::Always);
        if let Some((place, entry)) = same.first().and_then(|place| Some((place, place.entry(view)?)))
            && let Ok((key, before)) = entry.instance()
        {
            // What another dialect registered here is adopted: no twin comes beside it.
            scope = if place.is_agents_own() { Scope::Agent } else { key.scope.into_owned() };
            let is_named = |id: &str| mapped.instance.checks.iter().any(|check| *check.id == *id);
            let kept: Vec<_> = before.checks.into_iter().filter(|check| !replaces_checks && !is_named(&check.id)).collect();
            if !kept.is_empty() {
                condition = Condition::Version(entry.version);
                mapped.instance.checks.extend(kept.into_iter().map(crate::model::instance::Check::into_owned));
                mapping::check_count(&mapped.instance.checks)?;
            }
        }
        let register = Command::Register(Box::new(mapped.registration(namespace.clone(), scope, condition)));
        let gone = others.into_iter().filter(Place::is_agents_own);
        let mut commands: Vec<Command> =
            gone.map(|place| Command::Deregister { target: place.target(id.clone()), condition: Condition::Always }).collect();
        if commands.is_empty() {
            return Ok(register);
        }
        commands.push(register);
        Ok(Command::Batch(commands))
    })
    .await
}

/// `PUT /v1/agent/service/deregister/{id}`
async fn deregister(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let (place, id) = find(&consul, &consul.handle.view(), &params, tail)?;
    consul.handle.call(Command::Deregister { target: place.target(id), condition: Condition::Always }).await?;
    Ok(answer::empty())
}

/// `PUT /v1/agent/service/maintenance/{id}?enable&reason`
async fn maintain(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let is_enabled = params.enable()?;
    let (place, id) = find(&consul, &consul.handle.view(), &params, tail)?;
    let of = OverrideTarget::Instance(place.target(id));
    super::maintenance::set(&consul, of, is_enabled, &params, "service").await?;
    Ok(answer::empty())
}

/// One of this agent's services by its id.
fn find(consul: &Consul, view: &View, params: &Params, tail: Tail) -> Result<(Place, InstanceId), Failure> {
    let id = tail.need("Missing service ID")?;
    let unknown = || Failure::not_found(format!("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."));
    let place = consul.own.with_id(view, &params.namespace()?, &id).into_iter().next().ok_or_else(unknown)?;
    Ok((place, InstanceId::new(&id).map_err(|_| unknown())?))
}
