//! What a request needs to be allowed, and what a command does.

use std::fmt;

use crate::model::command::{Command, OverrideTarget, Target};

/// What has to be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// Anybody may: whether the agent lives, the page itself, the document of the API.
    Nothing,
    /// To see the catalog, the members, the metrics.
    Read,
    /// To change something; what exactly is in the body. Any grant to change will do for now: the command is looked at again.
    Change,
    /// To change the instances of a service.
    Write { namespace: &'a str, service: &'a str },
    /// To change what belongs to no service: entries, external nodes, checks of nodes, events. None: in no namespace either.
    WriteAll { namespace: Option<&'a str> },
    /// To change the cluster: members, keys, settings, an operator's word on a whole host.
    Operate,
}

impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Nothing => f.write_str("nothing"),
            Need::Read => f.write_str("read"),
            Need::Change => f.write_str("write"),
            Need::Write { namespace: "default", service } => write!(f, "write:{service}"),
            Need::Write { namespace, service } => write!(f, "write@{namespace}:{service}"),
            Need::WriteAll { namespace: Some(namespace) } => write!(f, "write@{namespace}"),
            Need::WriteAll { namespace: None } => f.write_str("write"),
            Need::Operate => f.write_str("operator"),
        }
    }
}

/// Hands each need of a command to `may`, until one is denied. `is_of` tells whether the uid in a target is that of an instance of the
/// service it names: a uid alone decides which instance is meant, so a target whose uid is another's needs a grant to write everywhere.
///
/// # Errors
/// What `may` said to the first need that it denied.
pub fn of<E>(command: &Command, is_of: &dyn Fn(&Target) -> bool, may: &mut dyn FnMut(Need<'_>) -> Result<(), E>) -> Result<(), E> {
    let mut target = |target: &Target| {
        if target.uid.is_none() || is_of(target) {
            may(Need::Write { namespace: target.namespace.as_str(), service: target.service.as_str() })
        } else {
            may(Need::WriteAll { namespace: None })
        }
    };
    match command {
        Command::Register(new) => may(Need::Write { namespace: new.namespace.as_str(), service: new.service.as_str() }),
        Command::Deregister { target: of, .. } | Command::Heartbeat { target: of, .. } | Command::CheckResult { target: of, .. } => {
            target(of)
        }
        Command::SetOverride { of: OverrideTarget::Instance(of), .. } | Command::ClearOverride { of: OverrideTarget::Instance(of) } => {
            target(of)
        }
        Command::SetOverride { of: OverrideTarget::Node(_), .. } | Command::ClearOverride { of: OverrideTarget::Node(_) } => {
            may(Need::Operate)
        }
        Command::Batch(commands) => commands.iter().try_for_each(|command| self::of(command, is_of, may)),
        Command::RegisterNode { .. }
        | Command::DeregisterNode { .. }
        | Command::SetNodeCheck { .. }
        | Command::RemoveNodeCheck { .. }
        | Command::ReportNode { .. }
        | Command::NodeCheckResult { .. }
        | Command::FireEvent(_) => may(Need::WriteAll { namespace: None }),
        Command::PutEntry { namespace, .. } | Command::DeleteEntry { namespace, .. } | Command::DeleteEntries { namespace, .. } => {
            may(Need::WriteAll { namespace: Some(namespace.as_str()) })
        }
        // What hangs on a lease was allowed by itself.
        Command::OpenLease { .. } | Command::RenewLease(_) | Command::EndLease(_) => may(Need::Change),
        Command::Fetch { .. } => may(Need::Read),
        Command::Join(_)
        | Command::SetSeeds(_)
        | Command::Leave
        | Command::Forget(_)
        | Command::ListKeys
        | Command::InstallKey(_)
        | Command::UseKey(_)
        | Command::RemoveKey(_)
        | Command::JoinWan(_)
        | Command::SetWanSeeds(_)
        | Command::ForgetDatacenter(_) => may(Need::Operate),
    }
}
