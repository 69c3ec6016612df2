//! For tests: pictures that are made by hand, without an engine.

use std::sync::Arc;

use super::{AgentView, DatacenterView, Editor, Entry, LinkState, LinkView, MemberState, MemberView, Node};
use crate::model::instance::Instance;
use crate::model::names::{Namespace, NodeId, ServiceKey, ServiceName};
use crate::model::node::Liveness;
use crate::model::record::{Content, Key, Kind, Scope};
use crate::model::time::Now;

/// What the agent `n1` of a datacenter sees: nothing yet.
pub fn editor(agent: NodeId, datacenter: &str) -> Editor {
    let agent = AgentView { id: agent, name: "n1".into(), datacenter: datacenter.into(), is_ready: true, ..AgentView::default() };
    let mut editor = Editor::new(agent, 0);
    editor.block_reserved(1 << 52);
    editor
}

/// A member that is alive, at no known distance.
pub fn member(id: u128, name: &str) -> MemberView {
    MemberView {
        id: NodeId(id),
        name: name.to_owned(),
        gossip: ([127, 0, 0, 1], 1).into(),
        state: MemberState::Alive,
        incarnation: 0,
        datacenter: "dc1".to_owned(),
        zone: None,
        version: String::new(),
        http_port: None,
        dns_port: None,
        is_gateway: false,
        instances: 0,
        rtt_us: None,
        coordinate: None,
        since: 0,
        is_name_taken: false,
        word: None,
    }
}

/// A host that is alive.
pub fn node(id: NodeId, name: &str, datacenter: &str) -> Arc<Node> {
    Arc::new(Node {
        id,
        name: name.into(),
        address: "10.0.0.1".into(),
        zone: None,
        datacenter: datacenter.into(),
        metadata: Vec::new(),
        is_external: false,
        liveness: Liveness::Alive,
        word: None,
        checks: Vec::new(),
    })
}

/// Puts an instance on a host into the default namespace.
pub fn put(editor: &mut Editor, node: &Arc<Node>, service: &str, id: &str, instance: &Instance<'_>) {
    let key = Key { kind: Kind::INSTANCE, scope: Scope::Datacenter, namespace: "default".into(), name: service.into(), id: id.into() };
    let entry = Entry::new(key.uid(node.id), Content::encode(&key, instance), Arc::clone(node), 1, None).expect("it was encoded just now");
    editor.put(&ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).expect("a test's name is one") }, entry);
}

/// What is known of another datacenter by one link: as its editor has it, shown at `wall_ms`.
pub fn datacenter(
    editor: &mut Editor,
    name: &str,
    wall_ms: u64,
    state: LinkState,
    rtt_us: u32,
    stale_since_ms: Option<u64>,
) -> Arc<DatacenterView> {
    let view = editor.publish(Now { ns: 0, wall_ms }).expect("something changed there");
    let peers = vec![(NodeId(7), ([192, 0, 2, 1], 7977).into())];
    let link = LinkView { gateway: NodeId(1), peers, state, rtt_us: Some(rtt_us), backlog: 3 };
    Arc::new(DatacenterView {
        name: name.into(),
        state,
        stale_since_ms,
        rtt_us: Some(rtt_us),
        links: vec![link],
        view,
        summaries: Arc::new([]),
        fetched: Arc::new([]),
        revision: 0,
    })
}
