//! `catalog/register` and `catalog/deregister`: nodes that no agent answers for, and what is on them, by the word of whoever writes here.
//!
//! A node that an agent answers for is that agent's to speak of: Consul takes such a write and lets the agent undo it a minute later; here
//! it is refused at once.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::put;

use super::agent::{change_checks, decide_and_write};
use super::body::{self, Deregistration, Fields, Registration};
use super::json::service::One;
use super::refuse::{Failure, only};
use super::request::{self, BODY_BYTES_MAX, Params};
use super::{Consul, answer, mapping};
use crate::model::command::{Command, Condition, Target};
use crate::model::instance::Check;
use crate::model::names::{InstanceId, Namespace, NodeName, ServiceKey, ServiceName};
use crate::model::node::NodeInfo;
use crate::model::record::{Scope, Uid};
use crate::model::text::Text;
use crate::view::{MemberState, Node, View};

pub fn routes() -> Router<Consul> {
    Router::new().route("/v1/catalog/register", only("PUT", put(register))).route("/v1/catalog/deregister", only("PUT", put(deregister)))
}

/// An instance on an external node.
struct Place {
    service: ServiceKey,
    id: InstanceId,
    uid: Uid,
}

/// `PUT /v1/catalog/register`
async fn register(State(consul): State<Consul>, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    let value = body::object(&request::body(body, BODY_BYTES_MAX).await?)?;
    let mut said = Registration::read(Fields::of(&value, "")?)?;
    let name = node_named(&consul, &params, &said.node, &said.datacenter)?;
    if said.address.is_empty() && !said.skip_node_update {
        return Err(Failure::failed("Must provide address if SkipNodeUpdate is not set"));
    }
    let namespace = params.namespace()?;
    let (mut on_node, mut on_services) = (Vec::new(), Vec::new());
    for mut check in std::mem::take(&mut said.checks) {
        // A check that came with a service and names none is still the node's, as in Consul.
        let service = std::mem::take(&mut check.service_id);
        let check = mapping::catalog_check(&check, consul.setting())?;
        if service.is_empty() { on_node.push(check) } else { on_services.push((service, check)) }
    }
    let setting = consul.setting();
    let service = match &said.service {
        Some(service) if service.name.is_empty() => return Err(Failure::failed("Must provide service name with ID")),
        service => service.as_ref().map(|service| mapping::service(service, setting)).transpose()?,
    };
    register_node(&consul, &name, &said, on_node).await?;
    if let Some(mapped) = service {
        let own = take_checks_of(mapped.id.as_str(), &mut on_services);
        register_service(&consul, &namespace, &name, mapped, &own).await?;
    }
    while let Some((id, _)) = on_services.first() {
        let id = id.clone();
        let checks = take_checks_of(&id, &mut on_services);
        let missing = || Failure::failed(format!("Missing service registration: node {name:?} has no service {id:?}"));
        let place = find(&consul, &consul.handle.view(), &namespace, name.as_str(), &id).ok_or_else(missing)?;
        change_checks(&consul, &place.service, place.uid, missing, |known| put_checks(&mut known.checks, &checks)).await?;
    }
    Ok(answer::json(&params, &true))
}

/// The node that a write names, which must not be an agent's.
fn node_named(consul: &Consul, params: &Params, node: &str, datacenter: &str) -> Result<NodeName, Failure> {
    params.check_datacenter(consul)?;
    if !datacenter.is_empty() && datacenter != consul.handle.facts().datacenter.as_str() {
        return Err(Failure::no_path_to_datacenter());
    }
    if node.is_empty() {
        return Err(Failure::failed("Must provide node"));
    }
    NodeName::new(node).map_err(|bad| Failure::bad(bad.to_string()))
}

/// Puts the node there, or what is new of it.
async fn register_node(consul: &Consul, name: &NodeName, said: &Registration, checks: Vec<Check<'static>>) -> Result<(), Failure> {
    let view = consul.handle.view();
    let known = external(&view, name.as_str());
    if said.skip_node_update && known.is_some() {
        for check in checks {
            consul.handle.call(Command::SetNodeCheck { node: Some(name.clone()), check: Box::new(check) }).await?;
        }
        return Ok(());
    }
    if said.address.is_empty() {
        return Err(Failure::failed(format!("Missing node registration: {name:?} is not known")));
    }
    let pair = |(key, value): &(String, String)| (Text::from(key.clone()), Text::from(value.clone()));
    let info = NodeInfo {
        address: said.address.clone().into(),
        gossip: None,
        http_port: None,
        dns_port: None,
        datacenter: consul.handle.facts().datacenter.to_string().into(),
        zone: None,
        is_gateway: false,
        version: Text::default(),
        metadata: said.node_meta.iter().map(pair).collect(),
        checks,
    };
    consul.handle.call(Command::RegisterNode { name: name.clone(), info: Box::new(info) }).await?;
    Ok(())
}

/// Puts a service on a node. Its id is unique there: what had it under another name goes. Checks of before that are not named stay.
async fn register_service(
    consul: &Consul,
    namespace: &Namespace,
    node: &NodeName,
    mut mapped: mapping::Mapped,
    checks: &[Check<'static>],
) -> Result<(), Failure> {
    let checks = mapped.instance.checks.drain(..).chain(checks.iter().cloned()).collect::<Vec<_>>();
    decide_and_write(&consul.handle, |view| {
        let mut mapped = mapped.clone();
        let scope = Scope::Node(node.to_string().into());
        let (mut commands, mut condition) = (Vec::new(), Condition::Always);
        if let Some(place) = find(consul, view, namespace, node.as_str(), mapped.id.as_str()) {
            let entry = view.service(namespace.as_str(), place.service.service.as_str()).and_then(|service| service.find(place.uid));
            if place.service.service != mapped.service {
                commands.push(Command::Deregister { target: place.target(), condition: Condition::Always });
            } else if let Some((entry, (_, before))) = entry.and_then(|entry| Some((entry, entry.instance().ok()?))) {
                mapped.instance.checks = before.checks.into_iter().map(Check::into_owned).collect();
                condition = Condition::Version(entry.version);
            }
        }
        put_checks(&mut mapped.instance.checks, &checks);
        mapping::check_count(&mapped.instance.checks)?;
        let register = Command::Register(Box::new(mapped.registration(namespace.clone(), scope, condition)));
        if commands.is_empty() {
            return Ok(register);
        }
        commands.push(register);
        Ok(Command::Batch(commands))
    })
    .await
}

fn take_checks_of(service: &str, on_services: &mut Vec<(String, Check<'static>)>) -> Vec<Check<'static>> {
    on_services.extract_if(.., |(of, _)| of == service).map(|(_, check)| check).collect()
}

/// Puts checks in the place of those of their ids.
fn put_checks(known: &mut Vec<Check<'static>>, checks: &[Check<'static>]) {
    for check in checks {
        match known.iter_mut().find(|known| known.id == check.id) {
            Some(known) => *known = check.clone(),
            None => known.push(check.clone()),
        }
    }
}

fn external<'v>(view: &'v View, name: &str) -> Option<&'v Node> {
    view.nodes.iter().find(|node| node.is_external && node.name == name).map(|node| &**node)
}

/// An instance of an external node by its id.
fn find(consul: &Consul, view: &View, namespace: &Namespace, node: &str, id: &str) -> Option<Place> {
    let on_it = consul.on_node(view, external(view, node)?.id);
    let one: One<'_> = on_it.into_iter().find(|one| one.id() == id && one.key.namespace.as_str() == namespace.as_str())?;
    let service = ServiceKey { namespace: namespace.clone(), service: ServiceName::new(one.service()).ok()? };
    Some(Place { service, id: InstanceId::new(id).ok()?, uid: one.entry.uid })
}

impl Place {
    fn target(&self) -> Target {
        let ServiceKey { namespace, service } = self.service.clone();
        Target { namespace, service, id: self.id.clone(), uid: Some(self.uid) }
    }
}

/// `PUT /v1/catalog/deregister`: a service, a check, or the whole node. What is not there is as good as deregistered.
async fn deregister(State(consul): State<Consul>, params: Params, body: Body) -> Result<Response<Body>, Failure> {
    let value = body::object(&request::body(body, BODY_BYTES_MAX).await?)?;
    let said = Deregistration::read(Fields::of(&value, "")?)?;
    let name = node_named(&consul, &params, &said.node, &said.datacenter)?;
    let namespace = params.namespace()?;
    let view = consul.handle.view();
    if let Some(member) = view.members.iter().find(|member| member.name == said.node && external(&view, &said.node).is_none()) {
        let is_whole = said.service_id.is_empty() && said.check_id.is_empty();
        // The one thing others may say of an agent: that it is gone for good.
        if !is_whole || member.state != MemberState::Down {
            return Err(Failure::bad(format!("node {name} is an agent's: deregister there")));
        }
        consul.handle.call(Command::Forget(member.id)).await?;
    } else if !said.service_id.is_empty() {
        if let Some(place) = find(&consul, &view, &namespace, &said.node, &said.service_id) {
            consul.handle.call(Command::Deregister { target: place.target(), condition: Condition::Always }).await?;
        }
    } else if !said.check_id.is_empty() {
        remove_check(&consul, &view, &name, &said.check_id).await?;
    } else {
        consul.handle.call(Command::DeregisterNode { name }).await?;
    }
    Ok(answer::json(&params, &true))
}

async fn remove_check(consul: &Consul, view: &View, node: &NodeName, id: &str) -> Result<(), Failure> {
    let Some(known) = external(view, node.as_str()) else { return Ok(()) };
    if known.checks.iter().any(|check| *check.id == *id) {
        consul.handle.call(Command::RemoveNodeCheck { node: Some(node.clone()), check: id.to_owned() }).await?;
        return Ok(());
    }
    let on_it = consul.on_node(view, known.id);
    let Some(one) = on_it.iter().find(|one| one.instance.checks.iter().any(|check| *check.id == *id)) else { return Ok(()) };
    let gone = || Failure::not_found(format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."));
    let names = Namespace::new(one.key.namespace.as_str()).ok().zip(ServiceName::new(one.service()).ok());
    let (namespace, service) = names.ok_or_else(gone)?;
    change_checks(consul, &ServiceKey { namespace, service }, one.entry.uid, gone, |known| known.checks.retain(|check| *check.id != *id))
        .await
}
