//! Which instance a client means by service and id.

use std::sync::Arc;

use super::refuse::No;
use super::request::{Parameters, service_key, wrong};
use crate::model::command::Target;
use crate::model::names::{InstanceId, Namespace};
use crate::model::record::{Scope, Uid};
use crate::schema::Kind;
use crate::view::{Entry, Service, View};

/// The instance a client means: by uid; else the datacenter's; else this agent's own; else the only one.
pub fn find<'v>(view: &'v View, target: &Target) -> Result<Option<(&'v Arc<Service>, &'v Entry)>, No> {
    let Some(service) = view.service(target.namespace.as_str(), target.service.as_str()) else { return Ok(None) };
    if let Some(uid) = target.uid {
        let entry = service.find(uid);
        return Ok(entry.filter(|entry| entry.content.key().is_ok_and(|key| &*key.id == target.id.as_str())).map(|entry| (service, entry)));
    }
    let found: Vec<&Entry> = service.with_id(target.id.as_str()).collect();
    let in_datacenter = |entry: &&&Entry| entry.content.key().is_ok_and(|key| key.scope == Scope::Datacenter);
    let is_own = |entry: &&&Entry| entry.node.id == view.agent.id;
    let entry =
        found.iter().find(in_datacenter).or_else(|| found.iter().find(is_own)).or(if found.len() == 1 { found.first() } else { None });
    match entry {
        Some(entry) => Ok(Some((service, entry))),
        None if found.is_empty() => Ok(None),
        None => Err(No::new(Kind::Ambiguous, format!("{} agents have an instance of that name; name one by ?uid=", found.len()))),
    }
}

/// The target that path and query name.
pub fn target(namespace: Namespace, service: &str, id: &str, parameters: &Parameters) -> Result<Target, No> {
    let key = service_key(namespace, service)?;
    let id = InstanceId::new(id).map_err(|e| No::new(Kind::BadName, e.to_string()))?;
    let uid = parameters.one("uid")?.map(|text| {
        let is_uid = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = if is_uid { u128::from_str_radix(text, 16).ok() } else { None };
        number.map(Uid).ok_or_else(|| wrong("uid", format!("{text:?} is no uid")).allowed("32 hexadecimal digits"))
    });
    Ok(Target { namespace: key.namespace, service: key.service, id, uid: uid.transpose()? })
}
