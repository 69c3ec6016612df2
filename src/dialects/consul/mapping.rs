//! From Consul's terms to ours (api.md §2). The one table of what becomes of a registration; `json` reads it back.
//!
//! | Consul | canonical |
//! |---|---|
//! | `ID`, else `Name` | id, unique at its agent |
//! | `Name` | service |
//! | registered at an agent; in the catalog | scope agent; scope node |
//! | `Address`; empty stays empty | address; empty means the node's |
//! | `Port`, 0 for none | port |
//! | `TaggedAddresses` | addresses |
//! | `Tags` | tags, as they are |
//! | `Meta` | metadata |
//! | Go Micro's tags `v-` and `t-` | in addition metadata, named in `ext.consul.Decoded` |
//! | `Weights`, 1 and 1 | weight and weight_warning |
//! | `Kind`, `Proxy`, `Connect`, `EnableTagOverride` | `ext.consul`, as they are |
//! | a check; its `TTL` | a check; a check of kind ttl: Consul leases checks, not instances |
//! | `CheckID`, else `service:<ID>`, of several `service:<ID>:1`, `:2`… | its id |
//! | `Status`, else critical | its first state |
//! | `Interval`, at least 1 s; `Timeout`, else 10 s | the same |
//! | `SuccessBeforePassing`, `FailuresBeforeCritical` | results in a row before a flip |
//! | `DeregisterCriticalServiceAfter`, at least 1 min | its remove_after |
//! | maintenance | an override |

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::refuse::Failure;
use super::{body, gomicro};
use crate::model::instance::{Check, CheckKind, Endpoint, Health, Instance, Source, check_output};
use crate::model::limits;
use crate::model::names::{InstanceId, Namespace, ServiceName};
use crate::model::record::Scope;
use crate::model::text::Text;
use crate::model::time::WallMs;

/// The name under which `ext` keeps what only Consul knows of.
pub const EXT: &str = "consul";
/// Sooner nothing critical is deregistered: Consul's own bound.
const DEREGISTER_AFTER_MS_MIN: u64 = 60_000;
const INTERVAL_MS_MAX: u64 = 86_400_000;
/// A check that does not say how long it waits.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
const TIMEOUT_MS_MIN: u64 = 10;
const MS_NS: u64 = 1_000_000;
const WEIGHT: u32 = 1_000;

/// What decides on a registration besides its body.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Wall clock in Unix milliseconds.
    pub now_ms: u64,
    pub allows_scripts: bool,
}

/// A registration under its canonical names.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    pub service: ServiceName,
    pub id: InstanceId,
    pub instance: Instance<'static>,
}

/// What a service's definition means.
///
/// # Errors
/// In Consul's words.
pub fn service(definition: &body::Service, setting: Setting) -> Result<Mapped, Failure> {
    let name = &definition.name;
    if name.is_empty() {
        return Err(Failure::bad("Missing service name"));
    }
    if definition.address.parse().is_ok_and(|address: IpAddr| address.is_unspecified()) {
        return Err(Failure::bad("Invalid service address"));
    }
    if definition.connect.as_ref().is_some_and(|connect| connect.get("SidecarService").is_some_and(|sidecar| !sidecar.is_null())) {
        return Err(Failure::bad("not offered here: a sidecar is the service mesh's, and this is a registry"));
    }
    let id = if definition.id.is_empty() { name } else { &definition.id };
    let named = |refused: crate::model::names::NameError| Failure::bad(format!("Invalid service: {refused}"));
    let (service, id) = (ServiceName::new(name).map_err(named)?, InstanceId::new(id).map_err(named)?);
    let (passing, warning) = definition.weights.unwrap_or((1, 1));
    let (metadata, decoded) = metadata(definition);
    let instance = Instance {
        address: definition.address.clone().into(),
        port: Some(definition.port).filter(|port| *port != 0),
        addresses: definition.tagged_addresses.iter().map(address).collect(),
        tags: definition.tags.iter().cloned().map(Text::from).collect(),
        metadata,
        weight: passing * WEIGHT,
        weight_warning: warning * WEIGHT,
        enabled: true,
        checks: checks(&service, &id, &definition.checks, setting)?,
        source: Source::Consul,
        registered_at: WallMs(setting.now_ms),
        changed_at: WallMs(setting.now_ms),
        ext: ext(definition, decoded).map(|kept| (Text::borrowed(EXT), Text::from(kept))).into_iter().collect(),
        ..Instance::default()
    };
    check_limits(&instance)?;
    Ok(Mapped { service, id, instance })
}

fn address((name, address, port): &(String, String, u16)) -> (Text<'static>, Endpoint<'static>) {
    (name.clone().into(), Endpoint { address: address.clone().into(), port: *port })
}

/// Metadata by key, and which of it only tags say.
fn metadata(definition: &body::Service) -> (Vec<(Text<'static>, Text<'static>)>, Vec<String>) {
    let mut metadata = definition.meta.clone();
    let mut decoded = Vec::new();
    for (key, value) in gomicro::metadata(definition.tags.iter().map(String::as_str)) {
        if metadata.len() < limits::METADATA_PAIRS_MAX && metadata.iter().all(|(known, _)| *known != key) {
            decoded.push(key.clone());
            metadata.push((key, value));
        }
    }
    metadata.sort();
    decoded.sort();
    (metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect(), decoded)
}

/// What has no canonical field, as JSON.
fn ext(definition: &body::Service, decoded: Vec<String>) -> Option<String> {
    let mut kept = Map::new();
    let mut keep = |name: &str, value: Value| kept.insert(name.to_owned(), value);
    if !definition.kind.is_empty() {
        keep("Kind", json!(definition.kind));
    }
    if definition.enable_tag_override {
        keep("EnableTagOverride", json!(true));
    }
    if definition.is_defined {
        keep("Defined", json!(true));
    }
    for (name, map) in [("Connect", &definition.connect), ("Proxy", &definition.proxy)] {
        if let Some(map) = map.as_ref().filter(|map| !map.is_empty()) {
            keep(name, Value::Object(map.clone()));
        }
    }
    if !decoded.is_empty() {
        keep("Decoded", json!(decoded));
    }
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

fn check_limits(instance: &Instance<'_>) -> Result<(), Failure> {
    let over = |what: &str, max: usize| Err(Failure::bad(format!("Invalid service: {what}; at most {max} are allowed")));
    if instance.address.len() > limits::ADDRESS_BYTES_MAX {
        return over("its address is too long in bytes", limits::ADDRESS_BYTES_MAX);
    }
    if instance.addresses.len() > limits::ADDRESSES_MAX {
        return over("it has too many tagged addresses", limits::ADDRESSES_MAX);
    }
    if instance.tags.len() > limits::TAGS_MAX {
        return over("it has too many tags", limits::TAGS_MAX);
    }
    if instance.tags.iter().any(|tag| tag.len() > limits::TAG_BYTES_MAX) {
        return over("a tag is too long in bytes", limits::TAG_BYTES_MAX);
    }
    if instance.metadata.len() > limits::METADATA_PAIRS_MAX {
        return over("it has too many pairs of metadata", limits::METADATA_PAIRS_MAX);
    }
    if instance.metadata.iter().any(|(key, _)| key.is_empty() || key.len() > limits::METADATA_KEY_BYTES_MAX) {
        return over("a key of its metadata is empty or too long in bytes", limits::METADATA_KEY_BYTES_MAX);
    }
    if instance.metadata.iter().any(|(_, value)| value.len() > limits::METADATA_VALUE_BYTES_MAX) {
        return over("a value of its metadata is too long in bytes", limits::METADATA_VALUE_BYTES_MAX);
    }
    if instance.ext.iter().any(|(_, kept)| kept.len() > limits::EXT_BYTES_MAX) {
        return over("Connect and Proxy are too long in bytes", limits::EXT_BYTES_MAX);
    }
    check_count(&instance.checks)
}

/// # Errors
/// There are more checks than an instance has.
pub fn check_count(checks: &[Check<'_>]) -> Result<(), Failure> {
    match checks.len() {
        0..=limits::CHECKS_MAX => Ok(()),
        count => Err(Failure::bad(format!("Invalid service: it has {count} checks; at most {} are allowed", limits::CHECKS_MAX))),
    }
}

/// The checks of a service, with ids by Consul's rule.
fn checks(service: &ServiceName, id: &InstanceId, definitions: &[body::Check], setting: Setting) -> Result<Vec<Check<'static>>, Failure> {
    let mut checks: Vec<Check<'static>> = Vec::new();
    for (at, definition) in definitions.iter().enumerate() {
        if !definition.status.is_empty() && health(&definition.status).is_none() {
            return Err(Failure::bad("Status for checks must 'passing', 'warning', 'critical'"));
        }
        let mut check = check(definition, setting)?;
        if check.id.is_empty() {
            check.id = if definitions.len() == 1 { format!("service:{id}") } else { format!("service:{id}:{}", at + 1) }.into();
        }
        if check.name.is_empty() {
            check.name = format!("Service '{service}' check").into();
        }
        // The last word on an id counts.
        checks.retain(|other| other.id != check.id);
        checks.push(check);
    }
    Ok(checks)
}

/// One check, its id as it is said.
///
/// # Errors
/// In Consul's words: what it says of itself makes no check.
pub fn check(definition: &body::Check, setting: Setting) -> Result<Check<'static>, Failure> {
    let kind = check_kind(definition, setting).map_err(|why| Failure::bad(format!("Invalid check: {why}")))?;
    let interval_ms = (definition.interval_ns / MS_NS).clamp(limits::CHECK_INTERVAL_MS_MIN, INTERVAL_MS_MAX);
    let timeout_ms = match definition.timeout_ns / MS_NS {
        0 => TIMEOUT_MS_DEFAULT,
        ms => ms.clamp(TIMEOUT_MS_MIN, INTERVAL_MS_MAX),
    };
    let remove_after_ms = Some(definition.deregister_after_ns / MS_NS).filter(|_| definition.deregister_after_ns > 0);
    if [&definition.id, &definition.name].iter().any(|text| text.len() > limits::INSTANCE_ID_BYTES_MAX) {
        return Err(Failure::bad(format!("Invalid check: its id or name has more than {} bytes", limits::INSTANCE_ID_BYTES_MAX)));
    }
    Ok(Check {
        id: definition.id.clone().into(),
        name: definition.name.clone().into(),
        notes: check_output(&definition.notes).to_owned().into(),
        kind,
        interval_ms,
        timeout_ms,
        passing_after: definition.success_before_passing.max(1),
        warning_after: 1,
        critical_after: definition.failures_before_critical.max(1),
        state: health(&definition.status).unwrap_or(Health::Critical),
        output: check_output(&definition.output).to_owned().into(),
        since: WallMs(setting.now_ms),
        remove_after_ms: remove_after_ms.map(|ms| ms.max(DEREGISTER_AFTER_MS_MIN)),
    })
}

/// A check of the catalog: nobody carries it out, and its state is what was last said.
///
/// # Errors
/// It has neither id nor name.
pub fn catalog_check(definition: &body::Check, setting: Setting) -> Result<Check<'static>, Failure> {
    let id = if definition.id.is_empty() { &definition.name } else { &definition.id };
    if id.is_empty() {
        return Err(Failure::failed("Must provide a check's ID or name"));
    }
    // No timer runs on what no agent answers for, so that the TTL is but a word.
    let definition = body::Check { id: id.clone(), ttl_ns: limits::TTL_MS_MAX * MS_NS, ..definition.clone() };
    check(&definition, setting)
}

/// What a check does; what it must not say beside that is refused as Consul refuses it.
fn check_kind(definition: &body::Check, setting: Setting) -> Result<CheckKind<'static>, String> {
    let text = |text: &String| Text::from(text.clone());
    let has_interval = definition.interval_ns > 0;
    if let Some(kind) = definition.unsupported {
        return Err(format!("checks of kind {kind} are not carried out here"));
    }
    if has_interval && definition.ttl_ns > 0 {
        return Err("Interval and TTL cannot both be specified".to_owned());
    }
    if !definition.alias_service.is_empty() || !definition.alias_node.is_empty() {
        return match (has_interval, definition.ttl_ns > 0, definition.alias_service.is_empty()) {
            (true, ..) => Err("Interval cannot be set for Alias checks".to_owned()),
            (_, true, _) => Err("TTL must be not be set for Alias checks".to_owned()),
            (.., true) => Err("an alias of a whole node is not offered here; name a service".to_owned()),
            _ => Ok(CheckKind::Alias { service: text(&definition.alias_service) }),
        };
    }
    let kind = if !definition.args.is_empty() {
        if !setting.allows_scripts {
            return Err("Scripts are disabled on this agent; its setting checks.scripts allows them".to_owned());
        }
        CheckKind::Script { args: definition.args.iter().cloned().map(Text::from).collect() }
    } else if !definition.http.is_empty() {
        CheckKind::Http {
            url: text(&definition.http),
            method: if definition.method.is_empty() { Text::borrowed("GET") } else { text(&definition.method) },
            headers: definition.header.iter().map(|(name, value)| (text(name), text(value))).collect(),
            body: text(&definition.body),
            skip_tls_verify: definition.tls_skip_verify,
        }
    } else if !definition.tcp.is_empty() {
        CheckKind::Tcp { address: text(&definition.tcp) }
    } else if !definition.grpc.is_empty() {
        let (address, service) = definition.grpc.split_once('/').unwrap_or((&definition.grpc, ""));
        CheckKind::Grpc { address: address.to_owned().into(), service: service.to_owned().into(), tls: definition.grpc_use_tls }
    } else {
        return match definition.ttl_ns {
            0 => Err("TTL must be > 0 for TTL checks".to_owned()),
            ns => Ok(CheckKind::Ttl { ttl_ms: (ns / MS_NS).max(limits::TTL_MS_MIN) }),
        };
    };
    if !has_interval {
        return Err("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks".to_owned());
    }
    Ok(kind)
}

/// One of Consul's three words; any other is none.
pub fn health(word: &str) -> Option<Health> {
    match word {
        "passing" => Some(Health::Passing),
        "warning" => Some(Health::Warning),
        "critical" => Some(Health::Critical),
        _ => None,
    }
}

/// Under this name `ext` keeps the ids of checks that Consul's clients put on an instance which another dialect registered.
const OWN_CHECKS: &str = "Checks";

/// Which checks of an instance go by their own ids among all checks of a node: those that came from Consul are unique there by themselves.
#[derive(Debug)]
pub enum CheckIds {
    Own,
    /// Behind the instance's id, but for these.
    Behind {
        but: Vec<String>,
    },
}

impl CheckIds {
    pub fn of(instance: &Instance<'_>) -> Self {
        if instance.source == Source::Consul {
            return Self::Own;
        }
        let kept = kept(instance);
        let ids = kept.get(OWN_CHECKS).and_then(Value::as_array).into_iter().flatten();
        Self::Behind { but: ids.filter_map(Value::as_str).map(str::to_owned).collect() }
    }

    /// What a check of that instance is called.
    pub fn id<'c>(&self, instance: &str, check: &'c str) -> Cow<'c, str> {
        match self {
            Self::Behind { but } if but.iter().all(|own| own != check) => format!("service:{instance}:{check}").into(),
            _ => check.into(),
        }
    }
}

/// Notes that a check came from one of Consul's clients, so that it goes by the id that client knows.
pub fn note_own_check(instance: &mut Instance<'static>, check: &str) {
    let CheckIds::Behind { but } = CheckIds::of(instance) else { return };
    let known = |id: &String| instance.checks.iter().any(|check| *check.id == **id);
    let mut ids: Vec<String> = but.into_iter().filter(|id| id != check && known(id)).collect();
    ids.push(check.to_owned());
    let mut kept = kept(instance);
    kept.insert(OWN_CHECKS.to_owned(), json!(ids));
    instance.ext.retain(|(dialect, _)| dialect != EXT);
    instance.ext.push((Text::borrowed(EXT), Value::Object(kept).to_string().into()));
}

/// What `ext` keeps for Consul.
fn kept(instance: &Instance<'_>) -> Map<String, Value> {
    let text = instance.ext.iter().find(|(dialect, _)| dialect == EXT).map(|(_, text)| text);
    // What another program wrote there is nothing.
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What stands for an instance's lease, or its client's word on its health.
pub fn lease_check_id(instance: &str) -> String {
    format!("service:{instance}")
}

impl Mapped {
    /// As a command under its scope.
    pub fn registration(
        self,
        namespace: Namespace,
        scope: Scope<'static>,
        condition: crate::model::command::Condition,
    ) -> crate::model::command::Registration {
        let Self { service, id, instance } = self;
        crate::model::command::Registration { namespace, service, id, scope, instance, condition, lease: None }
    }
}
