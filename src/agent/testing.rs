//! For tests: doors without an engine behind them; real agents in one process, over loopback, in memory where nothing else is said.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::handle::{DriverSide, Facts, Handle};
use super::{Agent, Ports};
use crate::model::names::{Datacenter, NodeName};
use crate::settings::{Flags, Settings};
use crate::view::View;

pub fn settings(node: &str, dir: Option<&Path>, join: Option<SocketAddr>) -> Settings {
    let mut flags = Flags { is_dev: true, ..Flags::default() };
    flags.set("gossip.listen", "127.0.0.1:0");
    flags.set("node.name", node);
    flags.set("gossip.encrypt", "ab".repeat(32));
    dir.iter().for_each(|dir| flags.set("node.data_dir", dir.display().to_string()));
    join.iter().for_each(|seed| flags.set("gossip.join", seed.to_string()));
    Settings::load(flags, []).expect("these settings are good").0
}

/// An agent alone.
pub async fn agent(node: &str) -> Agent {
    Agent::start(&settings(node, None, None), Ports::default()).await.expect("loopback is free")
}

/// An agent that joins another.
pub async fn joined(node: &str, other: &Agent) -> Agent {
    Agent::start(&settings(node, None, Some(other.handle().facts().advertise)), Ports::default()).await.expect("loopback is free")
}

/// A door whose other side is the test's.
pub fn door() -> (Handle, DriverSide) {
    door_to(Arc::new(View::default()))
}

/// The same, with something to be seen from the start.
pub fn door_to(view: Arc<View>) -> (Handle, DriverSide) {
    let facts = Facts {
        node: NodeName::new("n1").expect("it is a name"),
        datacenter: Datacenter::new("dc1").expect("it is a name"),
        zone: None,
        version: "0",
        gossip: ([127, 0, 0, 1], 1).into(),
        advertise: ([127, 0, 0, 1], 1).into(),
        wan: None,
        data_dir: None,
        key: None,
        allows_scripts: false,
        started_at_ms: 0,
    };
    Handle::new(facts, view)
}
