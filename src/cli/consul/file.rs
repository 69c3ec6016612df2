//! Consul's configuration, JSON or HCL, and what of it is ours.
//!
//! Files, directories and `CONSUL_LOCAL_CONFIG` are laid over each other in their order; flags lie on top, as values of the same keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Exit, Failure};

/// The longest configuration that is read.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Keys that mean nothing here and are part of most configurations: nobody needs to hear that they are ignored.
const SILENT: &[&str] = &[
    "server",
    "bootstrap",
    "bootstrap_expect",
    "performance",
    "disable_update_check",
    "disable_host_node_id",
    "ui",
    "ui_config",
    "ui_dir",
    "leave_on_terminate",
    "skip_leave_on_interrupt",
    "rejoin_after_leave",
    "retry_interval",
    "retry_max",
    "protocol",
    "raft_protocol",
    "connect",
    "peering",
    "acl",
    "telemetry",
    "autopilot",
    "limits",
    "gossip_lan",
    "enable_debug",
    "disable_keyring_file",
    "log_rotate_bytes",
    "translate_wan_addrs",
    "primary_datacenter",
    "check_update_interval",
    "discovery_max_stale",
    "experiments",
    "enable_central_service_config",
    "retry_join_wan",
    "start_join_wan",
    "enable_syslog",
    "log_json",
];

/// What a configuration says in our terms; none: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub node_name: Option<String>,
    pub datacenter: Option<String>,
    pub data_dir: Option<String>,
    pub pid_file: Option<String>,
    pub log_level: Option<String>,
    pub bind: Option<String>,
    pub client: Option<String>,
    pub advertise: Option<String>,
    pub encrypt: Option<String>,
    pub domain: Option<String>,
    pub alt_domain: Option<String>,
    pub join: Vec<String>,
    pub recursors: Vec<String>,
    pub scripts: Option<bool>,
    /// By Consul's name: `http`, `dns`, `serf_lan`, `server`; none below zero, which switches off.
    pub ports: BTreeMap<String, Option<u16>>,
    /// By Consul's name: `http`, `dns`.
    pub addresses: BTreeMap<String, String>,
    pub node_meta: BTreeMap<String, String>,
    /// Definitions, as the bodies of registrations.
    pub services: Vec<Value>,
    pub checks: Vec<Value>,
    /// What is ignored, to be warned of.
    pub ignored: Vec<String>,
}

impl Said {
    /// Lays what an object says over what was said before.
    ///
    /// # Errors
    /// A key that is ours has a value of another kind.
    pub fn lay(&mut self, object: &Map<String, Value>) -> Result<(), Failure> {
        for (key, value) in object {
            let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a text"));
            match key.as_str() {
                "node_name" => self.node_name = Some(text()?),
                "datacenter" => self.datacenter = Some(text()?.to_lowercase()),
                "data_dir" => self.data_dir = Some(text()?),
                "pid_file" => self.pid_file = Some(text()?),
                "log_level" => self.log_level = Some(text()?),
                "bind_addr" => self.bind = Some(text()?),
                "client_addr" => self.client = Some(text()?),
                "advertise_addr" => self.advertise = Some(text()?),
                "encrypt" => self.encrypt = Some(text()?),
                "domain" => self.domain = Some(text()?),
                "alt_domain" => self.alt_domain = Some(text()?),
                "start_join" | "retry_join" => self.join.extend(texts(key, value)?),
                "recursors" => self.recursors.extend(texts(key, value)?),
                "enable_script_checks" | "enable_local_script_checks" => {
                    let is_on = value.as_bool().ok_or_else(|| wrong(key, "true or false"))?;
                    self.scripts = Some(self.scripts.unwrap_or_default() || is_on);
                }
                "ports" => self.lay_ports(value)?,
                "service" | "services" => self.services.extend(definitions(key, value)?),
                "check" | "checks" => self.checks.extend(definitions(key, value)?),
                "addresses" => self.addresses.extend(pairs(key, value)?),
                "node_meta" => self.node_meta.extend(pairs(key, value)?),
                other if SILENT.contains(&other) || other.starts_with("verify_") => {}
                other => self.ignored.push(other.to_owned()),
            }
        }
        Ok(())
    }

    fn lay_ports(&mut self, value: &Value) -> Result<(), Failure> {
        for (name, port) in value.as_object().ok_or_else(|| wrong("ports", "an object"))? {
            let number = port.as_i64().ok_or_else(|| wrong("ports", "whole numbers"))?;
            let port = if number < 0 { None } else { Some(u16::try_from(number).map_err(|_| wrong("ports", "ports"))?) };
            self.ports.insert(name.clone(), port);
        }
        Ok(())
    }
}

/// One definition or a list of them.
fn definitions(key: &str, value: &Value) -> Result<Vec<Value>, Failure> {
    let all = match value {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    if all.iter().all(Value::is_object) { Ok(all) } else { Err(wrong(key, "an object or a list of objects")) }
}

fn wrong(key: &str, wanted: &str) -> Failure {
    Failure::new(Exit::Usage, format!("the configuration's {key:?} must be {wanted}"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let list = value.as_array().ok_or_else(|| wrong(key, "a list of texts"))?;
    list.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a list of texts"))).collect()
}

fn pairs(key: &str, value: &Value) -> Result<Vec<(String, String)>, Failure> {
    let map = value.as_object().ok_or_else(|| wrong(key, "an object of texts"))?;
    let pair =
        |(name, value): (&String, &Value)| Ok((name.clone(), value.as_str().ok_or_else(|| wrong(key, "an object of texts"))?.to_owned()));
    map.iter().map(pair).collect()
}

/// The configuration that a file holds.
pub fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|why| Failure::new(Exit::Usage, format!("{} cannot be read: {why}", path.display())))?;
    parse(&path.display().to_string(), &text)
}

/// JSON where it begins as an object does, else HCL; what a file is called does not matter. Blocks of one name are a list.
///
/// # Errors
/// It is neither.
pub fn parse(name: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{name} is no {what}: {why}"));
    if text.len() > FILE_BYTES_MAX {
        return Err(wrong("configuration", &format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let value = match text.trim_start().chars().next() {
        Some('{' | '[') => serde_json::from_str(text).map_err(|why| wrong("JSON", &why))?,
        _ => hcl::from_str(text).map_err(|why| wrong("HCL", &why))?,
    };
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(wrong("configuration", &"it holds no object")),
    }
}

/// The configuration files of a directory, in order of their names.
pub fn of_directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refuse = |why: std::io::Error| Failure::new(Exit::Usage, format!("{} cannot be read: {why}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(refuse)? {
        let file = entry.map_err(refuse)?.path();
        if file.extension().is_some_and(|ending| ending == "json" || ending == "hcl") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
