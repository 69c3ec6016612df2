//! Commands that are carried out all or none: tried first, then decided by the one origin they speak of, or here.

use super::commands::{Decided, Decision, Stance, check_condition, encode, no_instance};
use super::table::Slot;
use super::{Catalog, claims};
use crate::model::command::{Command, Condition, Refusal, Reply, Target};
use crate::model::instance::Instance;
use crate::model::limits;
use crate::model::names::NodeId;
use crate::model::record::{Scope, Uid};
use crate::model::time::Now;
use std::collections::BTreeSet;

impl Catalog {
    /// All valid or nothing: each is tried on what stands before any is carried out.
    pub(super) fn batch(&mut self, now: Now, commands: Vec<Command>, stance: Stance) -> Decided {
        if commands.len() > limits::BATCH_COMMANDS_MAX {
            return Err(Refusal::Invalid { what: format!("a batch has at most {} commands", limits::BATCH_COMMANDS_MAX) });
        }
        let mut created = BTreeSet::new();
        for command in &commands {
            self.check_command(command, &mut created)?;
        }
        // What is all another origin's goes there whole; a mixture is decided here, where it can be all or nothing.
        if stance == Stance::Client
            && let Some(to) = self.one_decider(now, &commands)
        {
            let commands = commands.into_iter().map(|command| self.as_of(now, command)).collect();
            return Ok(Decision::Forward(to, Command::Batch(commands)));
        }
        let (mut all, mut is_write) = (Vec::with_capacity(commands.len()), false);
        for command in commands {
            match self.decide(now, command, Stance::TakeOver)? {
                Decision::Done(Reply::Written(one)) => {
                    is_write = true;
                    all.push(one);
                }
                Decision::Renewed(Reply::Written(one)) => all.push(one),
                _ => {}
            }
        }
        Ok(if is_write { Decision::Done(Reply::Batch(all)) } else { Decision::Renewed(Reply::Batch(all)) })
    }

    /// Whether a command of a batch can be carried out, `created` being what those before it register.
    fn check_command(&self, command: &Command, created: &mut BTreeSet<Uid>) -> Result<(), Refusal> {
        match command {
            Command::Register(registration) => {
                let (key, uid) = (registration.key(), registration.key().uid(self.me));
                check_condition(registration.condition, claims::visible(&self.table, uid))?;
                if let Some(lease) = registration.lease.filter(|lease| !self.leases.is_open(*lease)) {
                    return Err(Refusal::NotFound { what: format!("lease {}", lease.0) });
                }
                if let Scope::Node(node) = &registration.scope {
                    self.check_external(node, &registration.instance)?;
                }
                encode(&key, &registration.instance)?;
                created.insert(uid);
                Ok(())
            }
            Command::Deregister { target, condition } => {
                let uid = self.resolve(target)?;
                check_condition(*condition, uid.and_then(|uid| claims::visible(&self.table, uid)))
            }
            Command::Heartbeat { target, report } => {
                let known = self.resolve(target)?;
                let uid = known.or_else(|| self.uids_of(target).into_iter().find(|uid| created.contains(uid))).ok_or_else(no_instance)?;
                if created.contains(&uid) {
                    return Ok(());
                }
                let content = claims::visible(&self.table, uid).and_then(Slot::content).ok_or_else(no_instance)?;
                let (key, instance) = content.decode::<Instance<'_>>().map_err(|_| no_instance())?;
                let is_own = self.own_content(uid).is_some();
                if key.scope == Scope::Agent && !is_own {
                    return Err(no_instance());
                }
                match report.as_ref().and_then(|report| report.check.as_ref()) {
                    Some(id) if !instance.checks.iter().any(|check| check.id.as_str() == id) => {
                        Err(Refusal::NotFound { what: format!("check {id}") })
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(Refusal::Invalid { what: "a batch holds registrations, deregistrations and heartbeats".into() }),
        }
    }

    /// A command of a batch that is forwarded: its removals say until when.
    fn as_of(&self, now: Now, command: Command) -> Command {
        match command {
            Command::Deregister { target, condition: _ } => {
                let uid = self.resolve(&target).ok().flatten();
                let until = uid.map_or(now.wall_ms, |uid| claims::next(&self.table, uid, now.wall_ms));
                Command::Deregister { target: Target { uid, ..target }, condition: Condition::NotAfter(until) }
            }
            other => other,
        }
    }

    /// The one living origin whose every instance is that a batch speaks of.
    fn one_decider(&self, now: Now, commands: &[Command]) -> Option<NodeId> {
        let mut decider = None;
        for command in commands {
            let (Command::Heartbeat { target, .. } | Command::Deregister { target, .. }) = command else { return None };
            let uid = self.resolve(target).ok()??;
            let holder = claims::visible(&self.table, uid)?.origin;
            if holder == self.own_ix || decider.is_some_and(|decider| decider != holder) {
                return None;
            }
            decider = Some(holder);
        }
        decider.filter(|holder| self.is_deciding(now, *holder)).map(|holder| self.table.origin(holder).id)
    }
}
