//! Where instances live, who the members are, and what the agent says of itself.

use crate::model::coordinate::Coordinate;
use crate::model::event::UserEvent;
use crate::model::instance::{Check, Health};
use crate::model::names::NodeId;
use crate::model::node::{self, Liveness, Override};
use crate::model::record::Claim;
use std::net::SocketAddr;

/// A node as instances refer to it: an agent's host, or an external one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The agent that answers for it; of an external node, which has none, a number made of its name.
    pub id: NodeId,
    /// As it is shown: `name~1f3a` for the younger of two of one name.
    pub name: String,
    /// An IP or a host name; stands for an instance's own where that is empty.
    pub address: String,
    pub zone: Option<String>,
    pub datacenter: String,
    /// By key, in ascending order.
    pub metadata: Vec<(String, String)>,
    /// Has no agent: lives in the catalog until it is deregistered.
    pub is_external: bool,
    /// An external one is alive for as long as it is there.
    pub liveness: Liveness,
    /// An operator's word on all instances here.
    pub word: Option<Override<'static>>,
    /// Checks on the node as such, by id.
    pub checks: Vec<Check<'static>>,
}

impl Node {
    /// The worst of what its checks say: no instance here is better.
    pub fn health(&self) -> Health {
        node::worst(&self.checks)
    }

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
    /// This agent's estimate of the round trip to it, in microseconds; none before the first probe came back. Shown coarsely.
    pub rtt_us: Option<u32>,
    /// Where it stands among round trips; none before it told. Shown coarsely.
    pub coordinate: Option<Coordinate>,
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

/// A user event as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredEvent {
    /// Orders events of all agents, with the uuid where two are equal.
    pub claim: Claim,
    pub event: UserEvent,
}
