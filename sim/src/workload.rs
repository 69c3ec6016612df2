//! Clients: each keeps one instance registered, at whichever agent it talks to at the moment.
//!
//! A client asks one thing at a time, waits a while for the answer, and goes to another agent when its own does not listen.

use crate::history::{OpId, Operation, Outcome};
use crate::plan::{Intent, PlannedClient};
use crate::world::HostId;
use std::collections::BTreeMap;
use tidings::model::command::{Command, Condition, Registration, Report, Target};
use tidings::model::instance::{Health, Instance, Lease};
use tidings::model::names::{InstanceId, Namespace, NodeId, ServiceName};
use tidings::model::record::{Scope, Uid};

/// How long a client waits for an answer.
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// The metadata key that says which operation wrote an instance.
pub const OPERATION_KEY: &str = "operation";

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    pub number: u32,
    /// Whose id its instance has: its own, unless two mean to have the same.
    pub id_of: u32,
    pub planned: PlannedClient,
    /// The agent it talks to.
    pub at: HostId,
    pub waits_for: Option<OpId>,
    /// What it registered last: what it renews.
    pub registered: Option<OpId>,
    /// Whether it wants to be registered.
    pub is_registered: bool,
    pub is_silent: bool,
    /// Makes what it registers larger by so many bytes.
    pub padding_bytes: usize,
}

impl Client {
    pub fn new(number: u32, planned: PlannedClient) -> Self {
        Self {
            number,
            id_of: number,
            planned,
            at: HostId(planned.home),
            waits_for: None,
            registered: None,
            is_registered: false,
            is_silent: false,
            padding_bytes: 0,
        }
    }

    pub fn service(&self) -> ServiceName {
        ServiceName::new(&format!("service-{}", self.planned.service)).expect("letters and digits are a name")
    }

    pub fn id(&self) -> InstanceId {
        InstanceId::new(&format!("client-{}", self.id_of)).expect("letters and digits are an id")
    }

    pub fn scope(&self) -> Scope<'static> {
        if self.planned.is_agent_scoped { Scope::Agent } else { Scope::Datacenter }
    }

    pub fn lease(&self) -> Lease {
        self.planned.ttl_ms.map_or(Lease::Agent, |ttl_ms| Lease::Ttl { ttl_ms, remove_after_ms: ttl_ms })
    }

    pub fn registration(&self, operation: OpId) -> Registration {
        Registration {
            namespace: Namespace::default(),
            service: self.service(),
            id: self.id(),
            scope: self.scope(),
            instance: Instance {
                address: "10.9.0.1".into(),
                port: Some(8_000 + self.number as u16),
                metadata: vec![(OPERATION_KEY.into(), operation.to_string().into())],
                weight: 1_000,
                weight_warning: 1_000,
                enabled: true,
                lease: self.lease(),
                tags: (self.padding_bytes > 0).then(|| "x".repeat(self.padding_bytes).into()).into_iter().collect(),
                ..Instance::default()
            },
            condition: Condition::Always,
            lease: None,
        }
    }

    /// What its instance is called; `origin` counts in agent scope only.
    pub fn uid(&self, origin: NodeId) -> Uid {
        self.registration(0).key().uid(origin)
    }

    fn target(&self, uid: Uid) -> Target {
        Target { namespace: Namespace::default(), service: self.service(), id: self.id(), uid: Some(uid) }
    }

    /// The command that carries out an intent, and what it will have registered. None where there is nothing to do it to.
    pub fn command(&self, intent: Intent, id: OpId, origin: NodeId) -> Option<(Command, Option<OpId>)> {
        let uid = self.uid(origin);
        let register = |content: OpId| (Command::Register(Box::new(self.registration(content))), Some(content));
        Some(match intent {
            Intent::Register => register(id),
            Intent::Renew => register(self.registered.filter(|_| self.is_registered)?),
            Intent::Deregister => (Command::Deregister { target: self.target(uid), condition: Condition::Always }, None),
            Intent::Heartbeat => (Command::Heartbeat { target: self.target(uid), report: None }, self.registered),
            Intent::Report => {
                let state = if id.is_multiple_of(2) { Health::Passing } else { Health::Warning };
                let report = Report { check: None, state, output: format!("says operation {id}") };
                (Command::Heartbeat { target: self.target(uid), report: Some(report) }, self.registered)
            }
        })
    }

    /// Takes note of an answer to what it waited for.
    pub fn answered(&mut self, operation: &Operation) {
        if self.waits_for == Some(operation.id) {
            self.waits_for = None;
        }
        if let Outcome::Acknowledged { .. } = operation.outcome {
            match operation.intent {
                Intent::Register => (self.registered, self.is_registered) = (Some(operation.id), true),
                Intent::Deregister => self.is_registered = false,
                Intent::Renew | Intent::Heartbeat | Intent::Report => {}
            }
        }
    }
}

/// Which operation wrote an instance, read from its metadata.
pub fn written_by(instance: &Instance<'_>) -> Option<OpId> {
    instance.metadata(OPERATION_KEY)?.parse().ok()
}

/// How often each kind of operation had each kind of end.
pub type Tally = BTreeMap<(&'static str, &'static str), u64>;
