//! Services and checks that a configuration defines, as bodies of registrations: the agent has them for as long as its configuration does.
//!
//! What a configuration defined carries a mark, so that it goes with its definition, also while the agent did not run.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::agent::{put_check, put_service};
use super::body::{self, Fields};
use super::json::service::One;
use super::refuse::Failure;
use super::{Consul, Settings, mapping};
use crate::agent::handle::Handle;
use crate::model::command::{Command, Condition};
use crate::model::names::{InstanceId, Namespace};

/// What is defined; read, and not looked at more closely before it is applied.
#[derive(Debug, Default)]
pub struct Definitions {
    services: Vec<body::Service>,
    checks: Vec<body::Check>,
}

impl Definitions {
    /// # Errors
    /// One of them is none, in the words in which its registration would be refused.
    pub fn read(services: &[Value], checks: &[Value]) -> Result<Self, String> {
        let service = |value: &Value| {
            let mut service = body::Service::read(Fields::of(&one_key_of_checks(value), "service")?)?;
            service.is_defined = true;
            mapping::service(&service, mapping::Setting { now_ms: 0, allows_scripts: true })?;
            Ok(service)
        };
        let check = |value: &Value| {
            let check = body::Check::read(Fields::of(value, "check")?)?;
            if check.name.is_empty() {
                return Err(Failure::bad("Missing check name"));
            }
            Ok(check)
        };
        let why = |failure: Failure| failure.text;
        Ok(Self {
            services: services.iter().map(service).collect::<Result<_, Failure>>().map_err(why)?,
            checks: checks.iter().map(check).collect::<Result<_, Failure>>().map_err(why)?,
        })
    }

    /// Registers what is defined, and deregisters what was. `seed` is fresh entropy. Says what was refused; all others are there then.
    pub async fn apply(&self, handle: &Handle, seed: u64) -> Vec<String> {
        let consul = Consul::new(handle.clone(), Settings::default(), seed);
        let namespace = Namespace::default();
        let mut refused = Vec::new();
        let mut note = |name: &str, outcome: Result<(), Failure>| {
            if let Err(failure) = outcome {
                refused.push(format!("{name}: {}", failure.text));
            }
        };
        for service in &self.services {
            note(&service.name, put_service(&consul, &namespace, service.clone(), true).await);
        }
        for check in &self.checks {
            note(&check.name, put_check(&consul, &namespace, check.clone()).await);
        }
        for (id, command) in self.undefined(&consul, &namespace) {
            note(&id, handle.call(command).await.map(|_| ()).map_err(Failure::from));
        }
        refused
    }

    /// What was defined and is not any more.
    fn undefined(&self, consul: &Consul, namespace: &Namespace) -> Vec<(String, Command)> {
        let id = |service: &body::Service| if service.id.is_empty() { service.name.clone() } else { service.id.clone() };
        let defined: BTreeSet<String> = self.services.iter().map(id).collect();
        let view = consul.handle.view();
        let places = consul.own.all(&view, namespace);
        let gone = places.iter().filter_map(|place| {
            let one = place.entry(&view).and_then(One::of).filter(|one| one.is_defined() && !defined.contains(one.id()))?;
            let target = place.target(InstanceId::new(one.id()).ok()?);
            Some((one.id().to_owned(), Command::Deregister { target, condition: Condition::Always }))
        });
        gone.collect()
    }
}

/// HCL has several blocks of one name where JSON has a list: then `check` is one, too.
fn one_key_of_checks(value: &Value) -> Value {
    let Some(object) = value.as_object().filter(|object| object.get("check").is_some_and(Value::is_array)) else { return value.clone() };
    let mut renamed: Map<String, Value> = object.clone();
    let mut checks = renamed.remove("check").and_then(|list| list.as_array().cloned()).unwrap_or_default();
    checks.extend(renamed.remove("checks").and_then(|list| list.as_array().cloned()).unwrap_or_default());
    renamed.insert("checks".to_owned(), Value::Array(checks));
    Value::Object(renamed)
}
