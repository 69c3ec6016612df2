//! Real agents for tests: in one process, over loopback, in memory where nothing else is said.

use std::net::SocketAddr;
use std::path::Path;

use super::{Agent, Ports};
use crate::settings::{Flags, Settings};

pub fn settings(node: &str, dir: Option<&Path>, join: Option<SocketAddr>) -> Settings {
    let mut flags = Flags { is_dev: true, ..Flags::default() };
    flags.set("gossip.listen", "127.0.0.1:0");
    flags.set("node.name", node);
    flags.set("gossip.encrypt", "ab".repeat(32));
    dir.iter().for_each(|dir| flags.set("node.data_dir", dir.display().to_string()));
    join.iter().for_each(|seed| flags.set("gossip.join", seed.to_string()));
    Settings::load(flags, []).unwrap().0
}

/// An agent alone.
pub async fn agent(node: &str) -> Agent {
    Agent::start(&settings(node, None, None), Ports::default()).await.unwrap()
}

/// An agent that joins another.
pub async fn joined(node: &str, other: &Agent) -> Agent {
    Agent::start(&settings(node, None, Some(other.handle().facts().advertise)), Ports::default()).await.unwrap()
}
