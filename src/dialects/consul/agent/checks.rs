//! `agent/check/…`: checks on this agent's services and on its node, by id.
//!
//! A TTL check is renewed and judged by its client; an id that is not known is 404, by which clients see that they have to register again.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::put;

use super::change::change_checks;
use super::services::name_alias;
use crate::dialects::consul::body::{self, Fields, Update};
use crate::dialects::consul::own::{self, Meant, Place};
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::{self, BODY_BYTES_MAX, Params, Tail};
use crate::dialects::consul::{Consul, answer, mapping};
use crate::model::command::{Command, Report};
use crate::model::instance::{Check, CheckKind, Health, check_output};
use crate::model::names::{InstanceId, Namespace};
use crate::view::View;

pub fn routes() -> Router<Consul> {
    let mut routes = Router::new()
        .route("/v1/agent/check/register", only("PUT", put(register)))
        .route("/v1/agent/check/deregister/{*id}", only("PUT", put(deregister)))
        .route("/v1/agent/check/update/{*id}", only("PUT", put(update)));
    for (word, state) in [("pass", Health::Passing), ("warn", Health::Warning), ("fail", Health::Critical)] {
        let judge = async move |State(consul): State<Consul>, tail: Tail, params: Params| {
            let output = params.one("note").unwrap_or_default().to_owned();
            report(&consul, &params, tail, state, output).await
        };
        routes = routes.route(&format!("/v1/agent/check/{word}/{{*id}}"), only("PUT", put(judge)));
    }
    routes
}

/// Where a check is.
enum Subject {
    Instance(Place, Meant),
    Node,
}

fn find(consul: &Consul, view: &View, namespace: &Namespace, id: &str) -> Option<Subject> {
    if let Some((place, meant)) = consul.own.with_check(view, namespace, id) {
        return Some(Subject::Instance(place, meant));
    }
    own::node(view).is_some_and(|node| node.checks.iter().any(|check| *check.id == *id)).then_some(Subject::Node)
}

fn unknown(id: &str) -> Failure {
    Failure::not_found(format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."))
}

/// `PUT /v1/agent/check/register`
async fn register(State(consul): State<Consul>, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    let namespace = params.namespace()?;
    let value = body::object(&request::body(body, BODY_BYTES_MAX).await?)?;
    put_definition(&consul, &namespace, body::Check::read(Fields::of(&value, "")?)?).await?;
    Ok(answer::empty())
}

/// Puts a check on one of this agent's services, or on its node.
pub async fn put_definition(consul: &Consul, namespace: &Namespace, mut definition: body::Check) -> Result<(), Failure> {
    if definition.name.is_empty() {
        return Err(Failure::bad("Missing check name"));
    }
    if !definition.status.is_empty() && mapping::health(&definition.status).is_none() {
        return Err(Failure::bad("Bad check status"));
    }
    let view = consul.handle.view();
    name_alias(consul, &view, namespace, &mut definition);
    let mut check = mapping::check(&definition, consul.setting())?;
    if check.id.is_empty() {
        check.id = definition.name.clone().into();
    }
    let place = match definition.service_id.as_str() {
        "" => None,
        id => {
            let missing = || Failure::not_found(format!("ServiceID {id:?} does not exist"));
            Some(consul.own.with_id(&view, namespace, id).into_iter().next().ok_or_else(missing)?)
        }
    };
    // An id is one check on a node: where it was on something else before, it moves.
    match (find(consul, &view, namespace, &check.id), &place) {
        (Some(Subject::Instance(before, Meant::Check(id))), place) if place.as_ref() != Some(&before) => {
            remove(consul, &before, &id).await?
        }
        (Some(Subject::Node), Some(_)) => remove_from_node(consul, &check.id).await?,
        _ => {}
    }
    match place {
        Some(place) => put_on(consul, &place, &definition.service_id, check).await?,
        None => {
            consul.handle.call(Command::SetNodeCheck { node: None, check: Box::new(check) }).await?;
        }
    }
    Ok(())
}

async fn put_on(consul: &Consul, place: &Place, service_id: &str, check: Check<'static>) -> Result<(), Failure> {
    let gone = || Failure::not_found(format!("ServiceID {service_id:?} does not exist"));
    change_checks(consul, &place.service, place.uid, gone, |instance| {
        match instance.checks.iter_mut().find(|known| known.id == check.id) {
            Some(known) => *known = check.clone(),
            None => instance.checks.push(check.clone()),
        }
        mapping::note_own_check(instance, &check.id);
    })
    .await
}

/// `PUT /v1/agent/check/deregister/{id}`
async fn deregister(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let id = tail.need("Missing check ID")?;
    match find(&consul, &consul.handle.view(), &params.namespace()?, &id).ok_or_else(|| unknown(&id))? {
        Subject::Instance(place, Meant::Check(own)) => remove(&consul, &place, &own).await?,
        Subject::Instance(_, Meant::Lease) => {
            return Err(Failure::bad(format!("the check {id:?} is the service's lease; it goes with the service")));
        }
        Subject::Node => remove_from_node(&consul, &id).await?,
    }
    Ok(answer::empty())
}

async fn remove(consul: &Consul, place: &Place, id: &str) -> Result<(), Failure> {
    change_checks(consul, &place.service, place.uid, || unknown(id), |instance| instance.checks.retain(|check| *check.id != *id)).await
}

async fn remove_from_node(consul: &Consul, id: &str) -> Result<(), Failure> {
    consul.handle.call(Command::RemoveNodeCheck { node: None, check: id.to_owned() }).await?;
    Ok(())
}

/// `PUT /v1/agent/check/update/{id}`: a word on health with what the check printed.
async fn update(State(consul): State<Consul>, tail: Tail, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    let value = body::object(&request::body(body, BODY_BYTES_MAX).await?)?;
    let Update { status, output } = Update::read(Fields::of(&value, "")?)?;
    let state = mapping::health(&status).ok_or_else(|| Failure::bad(format!("Invalid check status: '{status}'")))?;
    report(&consul, &params, tail, state, output).await
}

/// A sign of life of a TTL check, and its client's word on its health.
async fn report(consul: &Consul, params: &Params, tail: Tail, state: Health, output: String) -> Result<Response<Body>, Failure> {
    let id = tail.need("Missing check ID")?;
    let view = consul.handle.view();
    let output = check_output(&output).to_owned();
    let subject = find(consul, &view, &params.namespace()?, &id).ok_or_else(|| unknown(&id))?;
    let command = match subject {
        Subject::Instance(place, meant) => {
            let (key, instance) = place.entry(&view).and_then(|entry| entry.instance().ok()).ok_or_else(|| unknown(&id))?;
            let check = match meant {
                Meant::Check(own) => {
                    need_ttl(instance.checks.iter().find(|check| *check.id == *own), &id)?;
                    Some(own)
                }
                Meant::Lease => None,
            };
            let target = place.target(InstanceId::new(&key.id).map_err(|_| unknown(&id))?);
            Command::Heartbeat { target, report: Some(Report { check, state, output }) }
        }
        Subject::Node => {
            need_ttl(own::node(&view).and_then(|node| node.checks.iter().find(|check| *check.id == *id)), &id)?;
            Command::ReportNode { node: None, report: Some(Report { check: Some(id.clone()), state, output }) }
        }
    };
    match consul.handle.call(command).await {
        Ok(_) => Ok(answer::empty()),
        // It went between the look and the word.
        Err(crate::model::command::Refusal::NotFound { .. }) => Err(unknown(&id)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// What the agent checks itself takes nobody's word.
fn need_ttl(check: Option<&Check<'_>>, id: &str) -> Result<(), Failure> {
    match check.map(|check| &check.kind) {
        Some(CheckKind::Ttl { .. }) => Ok(()),
        Some(_) => Err(Failure::failed(format!("CheckID {id:?} does not have associated TTL"))),
        None => Err(unknown(id)),
    }
}
