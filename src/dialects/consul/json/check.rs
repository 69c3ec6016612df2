//! Health checks. Consul knows no health but that of checks, so whatever has a say here stands as one:
//!
//! | what | CheckID | as Consul has it |
//! |---|---|---|
//! | SWIM's verdict on an agent | `serfHealth` | yes |
//! | an operator's word on a node | `_node_maintenance` | yes |
//! | a check of a node | its id | yes |
//! | a check of an instance registered through Consul | its id | yes |
//! | a check of any other instance | `service:<ServiceID>:<id>`; its id if Consul's client put it there | ids are unique on a node |
//! | a lease, or a client's word on its own health | `service:<ServiceID>` | as a single TTL check |
//! | an operator's word on an instance, or its client's | `_service_maintenance:<ServiceID>` | yes |

use std::borrow::Cow;

use serde::Serialize;

use super::Indexes;
use super::service::One;
use crate::dialects::consul::mapping::{self, CheckIds};
use crate::model::instance::{Check, CheckKind, Health, Lease};
use crate::model::node::{Liveness, Override};
use crate::model::text::Text;
use crate::model::time::WallMs;
use crate::view::{Node, Standing};

pub const SERF_HEALTH: &str = "serfHealth";
pub const NODE_MAINTENANCE: &str = "_node_maintenance";
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const MAINTENANCE: &str = "maintenance";

/// A check as Consul 1.8 shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckJson<'a> {
    pub node: &'a str,
    #[serde(rename = "CheckID")]
    pub check_id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub status: Status,
    pub notes: &'a str,
    pub output: &'a str,
    #[serde(rename = "ServiceID")]
    pub service_id: &'a str,
    pub service_name: &'a str,
    pub service_tags: &'a [Text<'a>],
    #[serde(rename = "Type")]
    pub kind: &'static str,
    definition: Definition,
    #[serde(flatten)]
    pub indexes: Indexes,
}

/// What a check does is its agent's affair: Consul shows this object, and leaves it empty.
#[derive(Debug, Serialize)]
struct Definition {}

/// Consul knows three states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Passing,
    Warning,
    Critical,
}

impl From<Health> for Status {
    fn from(health: Health) -> Self {
        match health {
            Health::Passing => Status::Passing,
            Health::Warning => Status::Warning,
            // What is not ready, or not known to be, gets no traffic.
            Health::Starting | Health::Unknown | Health::Critical => Status::Critical,
        }
    }
}

impl Status {
    /// By Consul's word for it.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "passing" => Some(Status::Passing),
            "warning" => Some(Status::Warning),
            "critical" => Some(Status::Critical),
            _ => None,
        }
    }
}

/// The checks of a node as such, in order of their ids. `changed` is the revision at which it was last seen to change.
pub fn of_node(node: &Node, changed: u64) -> Vec<CheckJson<'_>> {
    node_checks(node, changed, verdict(node.liveness, Standing::Unverified))
}

/// The same as one instance has them: what nobody vouches for is critical where something better is left.
pub fn of_node_for<'a>(one: &One<'a>) -> Vec<CheckJson<'a>> {
    node_checks(&one.entry.node, one.entry.revision, verdict(one.entry.node.liveness, one.entry.standing))
}

fn node_checks<'a>(node: &'a Node, changed: u64, (status, output): (Status, &'static str)) -> Vec<CheckJson<'a>> {
    let blank = || CheckJson {
        node: &node.name,
        check_id: "".into(),
        name: "".into(),
        status: Status::Critical,
        notes: "",
        output: "",
        service_id: "",
        service_name: "",
        service_tags: &[],
        kind: "",
        definition: Definition {},
        indexes: Indexes::at(changed),
    };
    let mut checks: Vec<CheckJson<'a>> =
        node.checks.iter().map(|check| CheckJson { check_id: check.id.as_str().into(), ..found(blank(), check, changed) }).collect();
    if !node.is_external {
        checks.push(CheckJson { check_id: SERF_HEALTH.into(), name: "Serf Health Status".into(), status, output, ..blank() });
    }
    if let Some(word) = node.word.as_ref().filter(|word| !word.enabled) {
        checks.push(CheckJson { check_id: NODE_MAINTENANCE.into(), ..maintenance(blank(), "Node Maintenance Mode", word, changed) });
    }
    checks.sort_by(|a, b| a.check_id.cmp(&b.check_id));
    checks
}

/// The checks of an instance alone, in order of their ids.
pub fn of_instance<'a>(one: &'a One<'_>) -> Vec<CheckJson<'a>> {
    let (entry, instance, id) = (one.entry, &one.instance, one.id());
    let blank = || CheckJson {
        node: &entry.node.name,
        check_id: mapping::lease_check_id(id).into(),
        name: format!("Service '{}' check", one.service()).into(),
        status: Status::Critical,
        notes: "",
        output: "",
        service_id: id,
        service_name: one.service(),
        service_tags: &instance.tags,
        kind: "",
        definition: Definition {},
        indexes: Indexes::of(instance.changed_at, entry.revision),
    };
    let ids = CheckIds::of(instance);
    let mut checks: Vec<CheckJson<'a>> = instance
        .checks
        .iter()
        .map(|check| CheckJson { check_id: ids.id(id, &check.id), ..found(blank(), check, entry.revision) })
        .collect();
    if instance.lease != Lease::Agent || instance.status != Health::Passing {
        checks.push(lease(blank(), one));
    }
    let maintenance_id = || format!("{SERVICE_MAINTENANCE}{id}").into();
    match &entry.word {
        Some(word) if word.enabled => {}
        Some(word) => {
            checks.push(CheckJson { check_id: maintenance_id(), ..maintenance(blank(), "Service Maintenance Mode", word, entry.revision) })
        }
        None if instance.enabled => {}
        None => checks.push(CheckJson {
            check_id: maintenance_id(),
            name: "Service Maintenance Mode".into(),
            notes: "Its client switched it off.",
            kind: MAINTENANCE,
            ..blank()
        }),
    }
    checks.sort_by(|a, b| a.check_id.cmp(&b.check_id));
    checks
}

/// SWIM's verdict, in Serf's words where it has some.
fn verdict(liveness: Liveness, standing: Standing) -> (Status, &'static str) {
    match liveness {
        Liveness::Alive | Liveness::Suspect => (Status::Passing, "Agent alive and reachable"),
        Liveness::Unverified if standing == Standing::Unverified => (Status::Passing, "Nobody vouches for the agent at present"),
        Liveness::Unverified => (Status::Critical, "Nobody vouches for the agent at present"),
        Liveness::Down | Liveness::Left => (Status::Critical, "Agent not live or unreachable"),
    }
}

/// What a check last found.
fn found<'a>(blank: CheckJson<'a>, check: &'a Check<'_>, changed: u64) -> CheckJson<'a> {
    let name = if check.name.is_empty() { blank.name } else { check.name.as_str().into() };
    let kind = match check.kind {
        CheckKind::Ttl { .. } => "ttl",
        CheckKind::Http { .. } => "http",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Grpc { .. } => "grpc",
        CheckKind::Script { .. } => "script",
        CheckKind::Alias { .. } => "alias",
    };
    CheckJson {
        name,
        status: check.state.into(),
        notes: &check.notes,
        output: &check.output,
        kind,
        indexes: Indexes::of(check.since, changed),
        ..blank
    }
}

fn lease<'a>(blank: CheckJson<'a>, one: &One<'_>) -> CheckJson<'a> {
    let (status, output) = match one.instance.is_expired {
        true => (Status::Critical, "TTL expired"),
        false => (one.instance.status.into(), ""),
    };
    CheckJson { status, output, kind: "ttl", ..blank }
}

fn maintenance<'a>(blank: CheckJson<'a>, name: &'static str, word: &'a Override<'_>, changed: u64) -> CheckJson<'a> {
    CheckJson { name: name.into(), notes: &word.reason, kind: MAINTENANCE, indexes: Indexes::of(WallMs(word.set_at), changed), ..blank }
}
