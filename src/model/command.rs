//! Commands: everything a client or the shell may ask of the engine, and what it answers.
//!
//! They travel: a write that belongs to another origin is forwarded as the same value.

use super::entry::EntryKey;
use super::event::UserEvent;
use super::instance::{Check, Health, Instance};
use super::names::{Datacenter, InstanceId, Namespace, NodeId, NodeName, ServiceName};
use super::node::{NodeInfo, Override};
use super::record::{Claim, Key, Kind, Scope, Uid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Register or replace; identical: a renewal.
    Register(Box<Registration>),
    Deregister {
        target: Target,
        condition: Condition,
    },
    /// A sign of life; with a report, also the client's word on its health.
    Heartbeat {
        target: Target,
        report: Option<Report>,
    },
    /// What a check that the agent itself runs found. Only the shell sends it.
    CheckResult {
        target: Target,
        check: String,
        state: Health,
        output: String,
    },
    SetOverride {
        of: OverrideTarget,
        #[serde(deserialize_with = "owned::word")]
        word: Override<'static>,
    },
    ClearOverride {
        of: OverrideTarget,
    },
    /// All of them or, where one is refused, none. Register, deregister and heartbeat only.
    Batch(#[serde(deserialize_with = "owned::batch")] Vec<Command>),
    /// Puts an external node into the catalog, or what is new of it. Checks that `info` names are set, with the state they say; others
    /// that it has stay.
    RegisterNode {
        name: NodeName,
        #[serde(deserialize_with = "owned::info")]
        info: Box<NodeInfo<'static>>,
    },
    /// Takes an external node away, and all instances of its scope.
    DeregisterNode {
        name: NodeName,
    },
    /// Sets a check of an external node or, without a name, of this agent's own; of the same definition, it keeps what it found.
    SetNodeCheck {
        node: Option<NodeName>,
        #[serde(deserialize_with = "owned::check")]
        check: Box<Check<'static>>,
    },
    RemoveNodeCheck {
        node: Option<NodeName>,
        check: String,
    },
    /// A client's word on a check of a node; without one, a sign of life of all its silent TTL checks.
    ReportNode {
        node: Option<NodeName>,
        report: Option<Report>,
    },
    /// What a check of its own node that the agent itself runs found. Only the shell sends it.
    NodeCheckResult {
        check: String,
        state: Health,
        output: String,
    },
    /// Puts a key-value entry, at any agent: the latest claim is the last writer.
    PutEntry {
        namespace: Namespace,
        key: EntryKey,
        /// At most [`ENTRY_VALUE_BYTES_MAX`](super::limits::ENTRY_VALUE_BYTES_MAX).
        #[serde(with = "super::bytes")]
        value: Vec<u8>,
        flags: u64,
        condition: Condition,
    },
    DeleteEntry {
        namespace: Namespace,
        key: EntryKey,
        condition: Condition,
    },
    /// Deletes all entries whose key begins with `prefix`, as this agent knows them now; answered with [`Reply::Deleted`].
    DeleteEntries {
        namespace: Namespace,
        prefix: String,
    },
    /// Says something to all agents.
    FireEvent(Box<UserEvent>),
    /// A lease of something held open (a connection, a session): ends with [`Command::EndLease`] or, if it has a ttl, unrenewed.
    OpenLease {
        ttl_ms: Option<u64>,
    },
    RenewLease(LeaseId),
    EndLease(LeaseId),
    /// Addresses to announce to now.
    Join(Vec<SocketAddr>),
    /// The seeds as their names resolve today.
    SetSeeds(Vec<SocketAddr>),
    Leave,
    /// Give up a node that is not alive, and its records.
    Forget(NodeId),
    ListKeys,
    /// 32 bytes; accepted from now on.
    InstallKey(GossipKey),
    /// Seals with it from now on.
    UseKey(KeyId),
    RemoveKey(KeyId),
    /// Addresses of other datacenters' gateways to announce to now. Of a gateway.
    JoinWan(Vec<SocketAddr>),
    /// The same as their names resolve today; tried for ever. Replaces the list.
    SetWanSeeds(Vec<SocketAddr>),
    /// Drop all that is known of another datacenter, at every agent here. Refused while it is heard.
    ForgetDatacenter(Datacenter),
    /// Somebody looks up a service of another datacenter that is known by its summary alone: its instances are to be fetched. Answered at
    /// once; what comes shows in the view.
    Fetch {
        datacenter: Datacenter,
        namespace: Namespace,
        service: ServiceName,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub namespace: Namespace,
    pub service: ServiceName,
    pub id: InstanceId,
    #[serde(deserialize_with = "owned::scope")]
    pub scope: Scope<'static>,
    #[serde(deserialize_with = "owned::instance")]
    pub instance: Instance<'static>,
    pub condition: Condition,
    /// The open lease that an instance of [`Lease::Held`](super::instance::Lease::Held) hangs on.
    pub lease: Option<LeaseId>,
}

impl Registration {
    pub fn key(&self) -> Key<'_> {
        Key {
            kind: Kind::INSTANCE,
            scope: self.scope.clone(),
            namespace: self.namespace.as_str().into(),
            name: self.service.as_str().into(),
            id: self.id.as_str().into(),
        }
    }
}

/// Which instance is meant: by uid where it is given; else the datacenter-scoped one of that name, else this agent's own, else the only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub namespace: Namespace,
    pub service: ServiceName,
    pub id: InstanceId,
    pub uid: Option<Uid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverrideTarget {
    Instance(Target),
    Node(NodeName),
}

/// What must hold of the visible record, at the agent that decides, for a write to happen. Not a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Condition {
    #[default]
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match` with the version a reader saw.
    Version(u64),
    /// Nothing was claimed after this. Agents say it of removals that they forward: one that arrives late, or twice, does not remove
    /// what was registered since.
    NotAfter(Claim),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The check it is about; none: the instance itself.
    pub check: Option<String>,
    pub state: Health,
    pub output: String,
}

/// An open lease of one agent's life; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// A gossip key's secret bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey(pub [u8; 32]);

impl fmt::Debug for GossipKey {
    /// The secret never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a gossip key")
    }
}

/// The public name of a gossip key, derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Written(Written),
    /// One a command, in their order.
    Batch(Vec<Written>),
    /// So many entries were deleted; the revision as of [`Written`].
    Deleted {
        entries: u64,
        revision: u64,
    },
    Lease(LeaseId),
    /// The key in use first.
    Keys(Vec<KeyId>),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub uid: Uid,
    pub result: WriteResult,
    /// The revision of this agent's view that holds the write. Zero in what another agent answers; the asking one puts its own there.
    pub revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteResult {
    Created,
    Updated,
    /// Nothing a reader could see changed; leases are renewed.
    Unchanged,
    Removed,
    /// There was nothing to remove.
    Absent,
}

/// Why a command was not carried out; then nothing changed, unless it says that the outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No such instance, lease, key or node.
    NotFound {
        what: String,
    },
    /// The [`Condition`] does not hold; the version that does, if there is one.
    Condition {
        version: Option<u64>,
    },
    /// Several agents have an instance of that name in agent scope, none of them this one.
    Ambiguous,
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    /// Shape and sense are the caller's to check first; what only the engine can see.
    Invalid {
        what: String,
    },
    /// Spread does not keep up with the writes.
    Busy {
        retry_after_ms: u64,
        why: String,
    },
    /// The write cannot be made durable, or the agent is stopping. What was begun before that may still take effect, and then it says so.
    Unavailable {
        why: String,
    },
    /// Who asks may not. Said by the agent that is asked, never by an engine.
    Denied {
        why: String,
        /// False: a token might do.
        has_token: bool,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound { what } => write!(f, "{what} is not known here"),
            Refusal::Condition { version: Some(version) } => write!(f, "the condition does not hold; the version is {version:016x}"),
            Refusal::Condition { version: None } => f.write_str("the condition does not hold; there is no such instance"),
            Refusal::Ambiguous => f.write_str("several agents have an instance of that name; give its uid or ask its agent"),
            Refusal::TooLarge { bytes, bytes_max } => write!(f, "the record has {bytes} bytes; at most {bytes_max} are allowed"),
            Refusal::Invalid { what } => f.write_str(what),
            Refusal::Busy { why, .. } | Refusal::Unavailable { why } | Refusal::Denied { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

/// Commands outlive the packet they came in: they are decoded into values of their own.
mod owned {
    use super::{Check, Command, Condition, Instance, NodeInfo, Override, Registration, Report, Scope, Target};
    use serde::{Deserialize, Deserializer};

    /// What a batch may hold, numbered as in [`Command`]. Were it commands of any kind, a packet of batches in batches would decide how
    /// deep the decoder's stack grows.
    #[derive(Deserialize)]
    enum Single {
        Register(Box<Registration>),
        Deregister { target: Target, condition: Condition },
        Heartbeat { target: Target, report: Option<Report> },
    }

    pub fn batch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Command>, D::Error> {
        let command = |single| match single {
            Single::Register(registration) => Command::Register(registration),
            Single::Deregister { target, condition } => Command::Deregister { target, condition },
            Single::Heartbeat { target, report } => Command::Heartbeat { target, report },
        };
        Vec::deserialize(deserializer).map(|singles: Vec<Single>| singles.into_iter().map(command).collect())
    }

    pub fn instance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instance<'static>, D::Error> {
        Instance::deserialize(deserializer).map(Instance::into_owned)
    }

    pub fn info<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<NodeInfo<'static>>, D::Error> {
        NodeInfo::deserialize(deserializer).map(|info| Box::new(info.into_owned()))
    }

    pub fn check<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Check<'static>>, D::Error> {
        Check::deserialize(deserializer).map(|check| Box::new(check.into_owned()))
    }

    pub fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scope<'static>, D::Error> {
        Scope::deserialize(deserializer).map(Scope::into_owned)
    }

    pub fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Override<'static>, D::Error> {
        Override::deserialize(deserializer).map(Override::into_owned)
    }
}
