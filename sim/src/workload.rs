//! Clients: each keeps one thing - an instance, an entry, an external node - at whichever agent it talks to at the moment.
//!
//! A client asks one thing at a time, waits a while for the answer, and goes to another agent when its own does not listen.

use crate::history::{OpId, Operation, Outcome};
use crate::plan::{Intent, Kept, PlannedClient};
use crate::world::HostId;
use std::collections::BTreeMap;
use tidings::model::command::{Command, Condition, Registration, Report, Target};
use tidings::model::entry::{EntryBody, EntryKey};
use tidings::model::instance::{Health, Instance, Lease};
use tidings::model::names::{InstanceId, Namespace, NodeId, NodeName, ServiceName};
use tidings::model::node::NodeInfo;
use tidings::model::record::{Content, Key, Kind, Scope, Uid};
use tidings::model::text::Text;
use tidings::view::View;

/// How long a client waits for an answer.
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// The namespace of all that clients keep.
const DEFAULT: &str = "default";
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

/// The service of that number.
pub fn service_name(number: u32) -> ServiceName {
    ServiceName::new(&format!("service-{number}")).expect("letters and digits are a name")
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
        service_name(self.planned.service)
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
        match self.planned.keeps {
            Kept::Instance => self.registration(0).key().uid(origin),
            Kept::Entry => entry_uid(&self.name()),
            Kept::Node => node_uid(&self.name()),
        }
    }

    /// Of its entry, or its node.
    fn name(&self) -> String {
        format!("kept/{}", self.id_of)
    }

    /// What is said of an external node.
    fn node_info(&self, operation: OpId) -> NodeInfo<'static> {
        NodeInfo {
            address: "192.0.2.1".into(),
            gossip: None,
            http_port: None,
            dns_port: None,
            datacenter: "".into(),
            zone: None,
            is_gateway: false,
            version: "".into(),
            metadata: vec![(OPERATION_KEY.into(), operation.to_string().into())],
            checks: Vec::new(),
        }
    }

    /// Which operation wrote what a view shows of the client's thing.
    pub fn seen(&self, view: &View, uid: Uid) -> Option<OpId> {
        match self.planned.keeps {
            Kept::Instance => {
                let service = view.service(DEFAULT, self.service().as_str())?;
                let (_, instance) = service.find(uid)?.instance().ok()?;
                instance.metadata(OPERATION_KEY)?.parse().ok()
            }
            Kept::Entry | Kept::Node => kept(view).find(|(shown, _)| *shown == uid)?.1,
        }
    }

    fn target(&self, uid: Uid) -> Target {
        Target { namespace: Namespace::default(), service: self.service(), id: self.id(), uid: Some(uid) }
    }

    /// The command that carries out an intent, and what it will have registered. None where there is nothing to do it to.
    pub fn command(&self, intent: Intent, id: OpId, origin: NodeId) -> Option<(Command, Option<OpId>)> {
        let uid = self.uid(origin);
        let register = |content: OpId| (self.writing(content), Some(content));
        let keeps_instance = self.planned.keeps == Kept::Instance;
        Some(match intent {
            Intent::Heartbeat | Intent::Report if !keeps_instance => return None,
            Intent::Deregister if !keeps_instance => (self.deleting(), None),
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

    /// The command that writes the client's thing as of an operation.
    fn writing(&self, operation: OpId) -> Command {
        match self.planned.keeps {
            Kept::Instance => Command::Register(Box::new(self.registration(operation))),
            Kept::Entry => Command::PutEntry {
                namespace: Namespace::default(),
                key: self.entry_key(),
                value: operation.to_string().into_bytes(),
                flags: 0,
                condition: Condition::Always,
            },
            Kept::Node => Command::RegisterNode { name: self.node_name(), info: Box::new(self.node_info(operation)) },
        }
    }

    fn deleting(&self) -> Command {
        match self.planned.keeps {
            Kept::Node => Command::DeregisterNode { name: self.node_name() },
            Kept::Entry | Kept::Instance => {
                Command::DeleteEntry { namespace: Namespace::default(), key: self.entry_key(), condition: Condition::Always }
            }
        }
    }

    fn entry_key(&self) -> EntryKey {
        EntryKey::new(&self.name()).expect("a short text is a key")
    }

    fn node_name(&self) -> NodeName {
        NodeName::new(&self.name()).expect("a short text is a name")
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

/// The entries and external nodes that a view shows, and which operation wrote each.
pub fn kept(view: &View) -> impl Iterator<Item = (Uid, Option<OpId>)> + '_ {
    let entries = view.entries(DEFAULT, "").map(|entry| (entry_uid(&entry.key), read_operation(entry.value())));
    let nodes = view.nodes.iter().filter(|node| node.is_external).map(|node| {
        let written = node.metadata.iter().find(|(key, _)| key == OPERATION_KEY).and_then(|(_, operation)| operation.parse().ok());
        (Uid(node.id.0), written)
    });
    entries.chain(nodes)
}

fn entry_uid(key: &str) -> Uid {
    let (namespace, name, id) = (DEFAULT.into(), key.into(), Text::default());
    Key { kind: Kind::ENTRY, scope: Scope::Datacenter, namespace, name, id }.uid(NodeId::default())
}

fn node_uid(name: &str) -> Uid {
    let (scope, namespace, id) = (Scope::Node(name.into()), Text::default(), Text::default());
    Key { kind: Kind::NODE, scope, namespace, name: name.into(), id }.uid(NodeId::default())
}

/// Which operation wrote a record.
pub fn written_by(content: &Content) -> Option<OpId> {
    match content.key().ok()?.kind {
        Kind::INSTANCE => content.decode::<Instance<'_>>().ok()?.1.metadata(OPERATION_KEY)?.parse().ok(),
        Kind::ENTRY => read_operation(content.decode::<EntryBody<'_>>().ok()?.1.value),
        Kind::NODE => {
            let (_, info) = content.decode::<NodeInfo<'_>>().ok()?;
            info.metadata.iter().find(|(key, _)| key.as_str() == OPERATION_KEY)?.1.parse().ok()
        }
        _ => None,
    }
}

fn read_operation(value: &[u8]) -> Option<OpId> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// How often each kind of operation had each kind of end.
pub type Tally = BTreeMap<(&'static str, &'static str), u64>;

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::model::time::Now;
    use tidings::view::{AgentView, Editor, KeyValue};

    #[test]
    fn what_a_client_wrote_is_found_in_record_and_view_alike() {
        let planned = PlannedClient { keeps: Kept::Entry, service: 0, is_agent_scoped: false, ttl_ms: None, home: 0, dies_at: None };
        let client = Client::new(3, planned);
        let Some((Command::PutEntry { namespace, key, value, .. }, Some(7))) = client.command(Intent::Register, 7, NodeId(1)) else {
            panic!("whoever keeps an entry puts it")
        };
        let id = Text::default();
        let key = Key { kind: Kind::ENTRY, scope: Scope::Datacenter, namespace: namespace.as_str().into(), name: key.as_str().into(), id };
        let content = Content::encode(&key, &EntryBody { flags: 0, value: &value });
        assert_eq!((written_by(&content), client.uid(NodeId(1))), (Some(7), key.uid(NodeId(2))));
        let mut editor = Editor::new(AgentView::default(), 1);
        editor.block_reserved(1 << 50);
        editor.put_entry(KeyValue::new(content, 1).unwrap());
        let view = editor.publish(Now { ns: 0, wall_ms: 1 }).unwrap();
        assert_eq!(client.seen(&view, client.uid(NodeId(1))), Some(7));
        assert!(client.command(Intent::Heartbeat, 8, NodeId(1)).is_none(), "nothing of an entry beats");
    }
}
