//! Where instances live, who the members are, and what the agent says of itself.

use crate::model::names::NodeId;
use crate::model::node::{Liveness, Override};
use std::net::SocketAddr;

/// A node as the entries of one origin refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The agent that answers for it.
    pub id: NodeId,
    /// As it is shown: `name~1f3a` for the younger of two of one name.
    pub name: String,
    /// An IP or a host name; stands for an instance's own where that is empty.
    pub address: String,
    pub zone: Option<String>,
    pub datacenter: String,
    pub liveness: Liveness,
    /// An operator's word on all instances here.
    pub word: Option<Override<'static>>,
}

impl Node {
    /// Whether this agent vouches for what the node's records say.
    pub fn is_verified(&self) -> bool {
        matches!(self.liveness, Liveness::Alive | Liveness::Suspect)
    }
}

/// An agent as SWIM and the catalog together know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    pub id: NodeId,
    /// As it is shown; empty while its node record has not come.
    pub name: String,
    pub gossip: SocketAddr,
    pub state: MemberState,
    pub incarnation: u64,
    pub datacenter: String,
    pub zone: Option<String>,
    /// The version of its program; empty while its node record has not come.
    pub version: String,
    pub http_port: Option<u16>,
    pub dns_port: Option<u16>,
    pub is_gateway: bool,
    /// Instances it is the visible origin of.
    pub instances: u64,
    /// Since when the state is what it is: wall clock in Unix milliseconds.
    pub since: u64,
    /// Another member claims the same name.
    pub is_name_taken: bool,
    /// An operator's word on it.
    pub word: Option<Override<'static>>,
}

/// What membership holds of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    Alive,
    Suspect,
    Down,
    Left,
}

impl MemberState {
    pub const ALL: [MemberState; 4] = [MemberState::Alive, MemberState::Suspect, MemberState::Down, MemberState::Left];

    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Down => "down",
            MemberState::Left => "left",
        }
    }
}

/// The agent that shows the view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentView {
    pub id: NodeId,
    pub name: String,
    pub datacenter: String,
    pub zone: Option<String>,
    /// The version of the program.
    pub version: String,
    /// Has caught up with the others once; a partition never takes it back.
    pub is_ready: bool,
    /// Seems to be the one that is cut off: keeps the lost members suspected.
    pub is_cut_off: bool,
    /// Is on its way out.
    pub is_leaving: bool,
}
