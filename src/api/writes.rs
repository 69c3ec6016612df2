//! Register, merge, deregister, heartbeat, override, batch: JSON to commands, replies to JSON.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ETAG, HeaderMap};
use axum::http::{Response, StatusCode, Uri};
use serde_json::Value;

use super::answer::answer;
use super::encode;
use super::json::At;
use super::meant::{find, target};
use super::refuse::No;
use super::registration::{self, Said, Setting};
use super::request::{self, BATCH_BYTES_MAX, BODY_BYTES_MAX, Names, Parameters, Wanted};
use super::state::Api;
use super::tag;
use crate::agent::handle::wall_ms;
use crate::model::command::{Command, OverrideTarget, Refusal, Registration, Reply, Report, Target, WriteResult, Written};
use crate::model::instance::{Health, Instance, check_output};
use crate::model::limits;
use crate::model::names::{InstanceId, Namespace, NodeName, ServiceName};
use crate::model::node::Override;
use crate::model::record::{Key, Scope};
use crate::schema::{self, Kind};

/// Attempts of a merge whose instance keeps changing under it.
const MERGE_ATTEMPTS: usize = 5;
/// The longest an operator's word holds by itself.
const OVERRIDE_MS_MAX: u64 = 366 * 86_400_000;
const REASON_BYTES_MAX: usize = 1_024;

/// What a write of one instance may say in its query.
const PARAMETERS: &[&str] = &["namespace", "uid"];

/// `PUT /api/v1/services/{service}/instances/{id}`
pub async fn register(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["namespace"])?;
    let wanted = Wanted::of(&headers)?;
    let body = need(request::json(body, BODY_BYTES_MAX).await?)?;
    let said = registration::read(&At::root(&body), registration::FIELDS, setting(&api))?;
    let namespace = agreed(&parameters, said.namespace.as_deref(), "/namespace")?;
    let target = target(namespace, &service, &id, &parameters)?;
    // Only `If-Match: *` has to know what is there; all else is the engine's to decide.
    let version = if wanted == Wanted::Present { find(&api.handle.view(), &target)?.map(|(_, entry)| entry.version) } else { None };
    let registration = Registration {
        namespace: target.namespace.clone(),
        service: target.service.clone(),
        id: target.id.clone(),
        scope: said.scope,
        instance: said.instance,
        condition: wanted.condition(version)?,
        lease: None,
    };
    let written = written(api.handle.call(Command::Register(Box::new(registration))).await?)?;
    Ok(write_answer(&api, &target, written))
}

/// `PATCH …/{id}`: an RFC 7396 merge into what is visible here, again if it changes meanwhile.
pub async fn merge(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, PARAMETERS)?;
    let wanted = Wanted::of(&headers)?;
    if wanted == Wanted::Absent {
        return Err(No::new(Kind::BadParameter, "nothing can be merged into what is absent"));
    }
    let patch = need(request::json(body, BODY_BYTES_MAX).await?)?;
    // Fields are checked in the patch itself too: one that takes away what does not exist would otherwise pass unseen.
    let fields = At::root(&patch).object(registration::FIELDS)?;
    let namespace = fields.get("namespace").map(|at| at.text()).transpose()?;
    let target = target(agreed(&parameters, namespace, "/namespace")?, &service, &id, &parameters)?;
    for attempt in 1.. {
        let view = api.handle.view();
        let Some((_, entry)) = find(&view, &target)? else { return Err(not_found(&target)) };
        if let Wanted::Version(version) = wanted
            && version != entry.version
        {
            return Err(Refusal::Condition { version: Some(entry.version) }.into());
        }
        let command = merged(&api, &target, entry, &patch)?;
        match api.handle.call(command).await {
            Ok(reply) => return Ok(write_answer(&api, &target, written(reply)?)),
            // It changed between the look and the write. A client that named a version wants to know; others want their merge.
            Err(Refusal::Condition { .. }) if !matches!(wanted, Wanted::Version(_)) && attempt < MERGE_ATTEMPTS => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    unreachable!("the last attempt returns")
}

/// The registration that a merge into `entry` amounts to.
fn merged(api: &Api, target: &Target, entry: &crate::view::Entry, patch: &Value) -> Result<Command, No> {
    let (key, before): (Key<'_>, Instance<'_>) =
        entry.instance().map_err(|undecodable| No::new(Kind::Internal, undecodable.to_string()))?;
    let mut whole = registration::write(&key.scope, &before);
    registration::merge(&mut whole, patch);
    let setting = Setting { allows_scripts: true, ..setting(api) };
    let Said { scope, mut instance, .. } = registration::read(&At::root(&whole), registration::FIELDS, setting)?;
    if scope != key.scope && !matches!(key.scope, Scope::Node(_)) {
        return Err(No::new(Kind::Invalid, "the scope of an instance is part of its name; register it anew").at("/scope"));
    }
    if !api.handle.facts().allows_scripts
        && instance
            .checks
            .iter()
            .any(|check| registration::kind_word(&check.kind) == "script" && !before.checks.iter().any(|known| known.kind == check.kind))
    {
        return Err(No::new(Kind::BadCheck, "this agent runs no scripts; its setting checks.scripts allows them").at("/checks"));
    }
    registration::keep_findings(&mut instance, &before);
    instance.source = before.source;
    instance.registered_at = before.registered_at;
    if !matches!(before.lease, crate::model::instance::Lease::Ttl { .. }) && patch.get("ttl").is_none() {
        instance.lease = before.lease;
    }
    Ok(Command::Register(Box::new(Registration {
        namespace: target.namespace.clone(),
        service: target.service.clone(),
        id: target.id.clone(),
        scope: key.scope.into_owned(),
        instance,
        condition: crate::model::command::Condition::Version(entry.version),
        lease: None,
    })))
}

/// `DELETE …/{id}`
pub async fn deregister(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, PARAMETERS)?;
    let wanted = Wanted::of(&headers)?;
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let version = if wanted == Wanted::Present { find(&api.handle.view(), &target)?.map(|(_, entry)| entry.version) } else { None };
    let condition = wanted.condition(version)?;
    let reply = api.handle.call(Command::Deregister { target: target.clone(), condition }).await?;
    Ok(write_answer(&api, &target, written(reply)?))
}

/// `PUT …/{id}/heartbeat`
pub async fn heartbeat(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    uri: Uri,
    body: Body,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, PARAMETERS)?;
    let body = request::json(body, BODY_BYTES_MAX).await?.unwrap_or(Value::Null);
    let report = read_report(&At::root(&body), &["check", "status", "output"])?;
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let reply = api.handle.call(Command::Heartbeat { target: target.clone(), report }).await?;
    Ok(write_answer(&api, &target, written(reply)?))
}

/// What a sign of life says besides.
fn read_report(body: &At<'_>, known: &[&str]) -> Result<Option<Report>, No> {
    if body.value.is_null() {
        return Ok(None);
    }
    let object = body.object(known)?;
    let check = object.get("check").map(|at| at.text_within(limits::INSTANCE_ID_BYTES_MAX).map(str::to_owned)).transpose()?;
    let output = object.get("output").map_or(Ok(""), |at| at.text())?;
    let state = object.get("status").map(|at| registration::read_health(&at)).transpose()?;
    if state.is_none() && check.is_none() && output.is_empty() {
        return Ok(None);
    }
    Ok(Some(Report { check, state: state.unwrap_or(Health::Passing), output: check_output(output).to_owned() }))
}

/// `PUT …/{id}/override`
pub async fn set_override(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    uri: Uri,
    body: Body,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, PARAMETERS)?;
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let word = read_word(body).await?;
    let command = Command::SetOverride { of: OverrideTarget::Instance(target.clone()), word };
    Ok(write_answer(&api, &target, written(api.handle.call(command).await?)?))
}

/// `DELETE …/{id}/override`
pub async fn clear_override(State(api): State<Api>, Names((service, id)): Names<(String, String)>, uri: Uri) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, PARAMETERS)?;
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let command = Command::ClearOverride { of: OverrideTarget::Instance(target.clone()) };
    Ok(write_answer(&api, &target, written(api.handle.call(command).await?)?))
}

/// `PUT /api/v1/members/{node}/override`
pub async fn drain(State(api): State<Api>, Names(node): Names<String>, uri: Uri, body: Body) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let node = NodeName::new(&node).map_err(|e| No::new(Kind::BadName, e.to_string()))?;
    let word = read_word(body).await?;
    let written = written(api.handle.call(Command::SetOverride { of: OverrideTarget::Node(node), word }).await?)?;
    Ok(plain_answer(written))
}

/// `DELETE /api/v1/members/{node}/override`
pub async fn undrain(State(api): State<Api>, Names(node): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let node = NodeName::new(&node).map_err(|e| No::new(Kind::BadName, e.to_string()))?;
    let written = written(api.handle.call(Command::ClearOverride { of: OverrideTarget::Node(node) }).await?)?;
    Ok(plain_answer(written))
}

async fn read_word(body: Body) -> Result<Override<'static>, No> {
    let body = need(request::json(body, BODY_BYTES_MAX).await?)?;
    let object = At::root(&body).object(&["enabled", "reason", "expires"])?;
    let enabled = object.need("enabled")?.boolean()?;
    let reason = object.get("reason").map_or(Ok(""), |at| at.text_within(REASON_BYTES_MAX))?;
    let expires_ms = object.get("expires").map(|at| at.duration(1_000..=OVERRIDE_MS_MAX)).transpose()?;
    let now_ms = wall_ms();
    Ok(Override { enabled, reason: reason.to_owned().into(), expires_at: expires_ms.map(|ms| now_ms + ms), set_at: now_ms })
}

/// `POST /api/v1/batch`: all valid or nothing.
pub async fn batch(State(api): State<Api>, uri: Uri, body: Body) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["namespace"])?;
    let body = need(request::json(body, BATCH_BYTES_MAX).await?)?;
    let root = At::root(&body);
    // A bare list is the same as an object with nothing but items.
    let (items, namespace) = if root.value.is_array() {
        (root.list(limits::BATCH_COMMANDS_MAX)?, agreed(&parameters, None, "")?)
    } else {
        let object = root.object(&["namespace", "items"])?;
        let namespace = object.get("namespace").map(|at| at.text()).transpose()?;
        (object.need("items")?.list(limits::BATCH_COMMANDS_MAX)?, agreed(&parameters, namespace, "/namespace")?)
    };
    let commands = items.iter().map(|item| batch_command(&api, item, &namespace)).collect::<Result<Vec<Command>, No>>()?;
    if commands.is_empty() {
        return Ok(answer(api.handle.view().revision, encode::to_bytes(&schema::Batch { results: Vec::new() })));
    }
    let results = match api.handle.call(Command::Batch(commands)).await? {
        Reply::Batch(results) => results,
        other => return Err(unexpected(&other)),
    };
    let revision = results.iter().map(|written| written.revision).max().unwrap_or_default();
    let results = results.iter().map(shown).collect();
    Ok(answer(revision, encode::to_bytes(&schema::Batch { results })))
}

fn batch_command(api: &Api, item: &At<'_>, namespace: &Namespace) -> Result<Command, No> {
    let object = item.any_object()?;
    let op = object.need("op")?;
    let name = |field: &str| -> Result<(&str, String), No> {
        let at = object.need(field)?;
        Ok((at.text()?, at.pointer))
    };
    let bad_name = |e: crate::model::names::NameError, pointer: String| No::new(Kind::BadName, e.to_string()).at(pointer);
    let (service, at_service) = name("service")?;
    let (id, at_id) = name("id")?;
    let service = ServiceName::new(service).map_err(|e| bad_name(e, at_service))?;
    let id = InstanceId::new(id).map_err(|e| bad_name(e, at_id))?;
    let namespace = match object.get("namespace") {
        Some(at) => Namespace::new(at.text()?).map_err(|e| bad_name(e, at.pointer.clone()))?,
        None => namespace.clone(),
    };
    const NAMES: [&str; 4] = ["op", "service", "id", "namespace"];
    let with_names = |fields: &[&'static str]| -> Vec<&'static str> { NAMES.iter().chain(fields).copied().collect() };
    let condition = crate::model::command::Condition::Always;
    match op.text()? {
        "register" => {
            let known = with_names(&registration::FIELDS[1..]);
            let Said { scope, instance, .. } = registration::read(item, &known, setting(api))?;
            Ok(Command::Register(Box::new(Registration { namespace, service, id, scope, instance, condition, lease: None })))
        }
        "deregister" => {
            item.object(&with_names(&[]))?;
            Ok(Command::Deregister { target: Target { namespace, service, id, uid: None }, condition })
        }
        "heartbeat" => {
            let report = read_report(item, &with_names(&["check", "status", "output"]))?;
            Ok(Command::Heartbeat { target: Target { namespace, service, id, uid: None }, report })
        }
        other => Err(op.refuse(Kind::BadValue, format!("{other:?} is no operation")).allowed("register, deregister, heartbeat").into()),
    }
}

fn setting(api: &Api) -> Setting {
    Setting { now_ms: wall_ms(), allows_scripts: api.handle.facts().allows_scripts }
}

pub fn need(body: Option<Value>) -> Result<Value, No> {
    body.ok_or_else(|| No::new(Kind::BadJson, "the body is empty"))
}

/// The namespace that query and body name, which must be one.
fn agreed(parameters: &Parameters, in_body: Option<&str>, pointer: &str) -> Result<Namespace, No> {
    let in_query = parameters.one("namespace")?;
    match (in_query, in_body) {
        (Some(query), Some(body)) if query != body => {
            Err(No::new(Kind::Disagreement, format!("the query names the namespace {query:?}, the body {body:?}")).at(pointer))
        }
        (None, Some(body)) => Namespace::new(body).map_err(|e| No::new(Kind::BadName, e.to_string()).at(pointer)),
        _ => parameters.namespace(),
    }
}

fn not_found(target: &Target) -> No {
    No::new(Kind::NotFound, format!("there is no instance {:?} of {:?}", target.id.as_str(), target.service.as_str()))
}

fn unexpected(reply: &Reply) -> No {
    No::new(Kind::Internal, format!("the engine answered {reply:?} to something else"))
}

pub fn written(reply: Reply) -> Result<Written, No> {
    match reply {
        Reply::Written(written) => Ok(written),
        other => Err(unexpected(&other)),
    }
}

fn shown(written: &Written) -> schema::Write {
    let result = match written.result {
        WriteResult::Created => "created",
        WriteResult::Updated => "updated",
        WriteResult::Unchanged => "unchanged",
        WriteResult::Removed => "removed",
        WriteResult::Absent => "absent",
    };
    schema::Write { uid: written.uid.to_string(), result: result.to_owned(), revision: written.revision }
}

pub fn plain_answer(written: Written) -> Response<Body> {
    let mut response = answer(written.revision, encode::to_bytes(&shown(&written)));
    if written.result == WriteResult::Created {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

/// The answer to a write of one instance, with the ETag that it now has here.
fn write_answer(api: &Api, target: &Target, written: Written) -> Response<Body> {
    let mut response = plain_answer(written);
    let view = api.handle.view();
    let service = view.service(target.namespace.as_str(), target.service.as_str());
    if let Some(entry) = service.and_then(|service| service.find(written.uid)) {
        response.headers_mut().insert(ETAG, tag::of_version(entry.version));
    }
    response
}
