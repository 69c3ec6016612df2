//! Checks on nodes: the worst of them counts into the health of all that is on the node (design §5, checks).
//!
//! They stand in the node's record. Those of this agent's own node are its to run: TTL ones by the engine's timers, the others by the
//! shell. Those of an external node say what a client said last.

use super::checks::{Checked, Finding, hear_report, keep_found};
use super::{Catalog, Urgency};
use crate::model::command::{Refusal, Reply, Report, WriteResult, Written};
use crate::model::instance::Check;
use crate::model::limits;
use crate::model::names::NodeName;
use crate::model::record::Uid;
use crate::model::time::{Now, WallMs};

/// The node that a command about checks means.
enum Whose<'a> {
    Own(Uid),
    External(&'a str),
}

impl Catalog {
    pub(super) fn set_node_check(&mut self, now: Now, node: Option<&NodeName>, check: Check<'static>) -> Result<(Reply, bool), Refusal> {
        let is_own = matches!(self.whose(node)?, Whose::Own(_));
        let id = check.id.to_string();
        self.edit_checks(now, node, Some(&id), |checks| {
            let mut check = check;
            let before = checks.iter().position(|known| known.id == check.id).map(|at| checks.remove(at));
            if let Some(before) = before.filter(|_| is_own) {
                keep_found(std::slice::from_mut(&mut check), &[before], now);
            }
            checks.push(check);
            Ok(())
        })
    }

    pub(super) fn remove_node_check(&mut self, now: Now, node: Option<&NodeName>, check: &str) -> Result<(Reply, bool), Refusal> {
        if let Whose::Own(uid) = self.whose(node)? {
            self.checks.0.remove(&(uid, check.to_owned()));
        }
        let (reply, is_write) = self.edit_checks(now, node, None, |checks| {
            checks.retain(|known| known.id.as_str() != check);
            Ok(())
        })?;
        let Reply::Written(written) = reply else { return Ok((reply, is_write)) };
        let result = if is_write { WriteResult::Removed } else { WriteResult::Absent };
        Ok((Reply::Written(Written { result, ..written }), is_write))
    }

    /// A client's word on a node's checks: a sign of life, too.
    pub(super) fn report_node(&mut self, now: Now, node: Option<&NodeName>, report: Option<&Report>) -> Result<(Reply, bool), Refusal> {
        let word = match report {
            Some(Report { check: Some(check), state, output }) => Some((check.as_str(), *state, output.as_str())),
            Some(Report { check: None, .. }) => return Err(Refusal::Invalid { what: "a report on a node names a check".into() }),
            None => None,
        };
        let mut said = None;
        let outcome = self.edit_checks(now, node, None, |checks| {
            said = hear_report(now, checks, word)?;
            Ok(())
        })?;
        if let Whose::Own(uid) = self.whose(node)? {
            self.leases.renew(now, uid, said);
        }
        Ok(outcome)
    }

    /// What a check of this agent's own node found.
    pub(super) fn node_check_result(&mut self, now: Now, finding: &Finding<'_>) -> Result<(Reply, bool), Refusal> {
        match self.whose(None)? {
            Whose::Own(uid) => self.found(now, uid, finding),
            Whose::External(name) => Err(unknown(name)),
        }
    }

    fn whose<'a>(&self, node: Option<&'a NodeName>) -> Result<Whose<'a>, Refusal> {
        let name = match node {
            Some(name) if *name != self.host.name => name.as_str(),
            _ => return self.table.origin(self.own_ix).node_uid.map(Whose::Own).ok_or_else(|| unknown(self.host.name.as_str())),
        };
        if self.external_record(name).is_some() {
            return Ok(Whose::External(name));
        }
        match self.agents_named(name).next() {
            Some(_) => Err(Refusal::Invalid { what: format!("node {name} is another agent's: its checks are set there") }),
            None => Err(unknown(name)),
        }
    }

    /// Changes a node's checks and writes the node's record, if there is anything new in it. A check that is `renewed` has its time again.
    fn edit_checks(
        &mut self,
        now: Now,
        node: Option<&NodeName>,
        renewed: Option<&str>,
        edit: impl FnOnce(&mut Vec<Check<'static>>) -> Result<(), Refusal>,
    ) -> Result<(Reply, bool), Refusal> {
        let uid = match self.whose(node)? {
            Whose::Own(uid) => uid,
            Whose::External(name) => {
                let before = self.external_record(name).ok_or_else(|| unknown(name))?;
                let mut info = before.clone();
                edit(&mut info.checks)?;
                return self.write_external(now, name, Some(&before), info);
            }
        };
        let content = self.own_content(uid).cloned();
        let read = content.as_ref().and_then(Checked::read);
        let (key, mut checked) = read.ok_or_else(|| unknown(self.host.name.as_str()))?;
        let before: Vec<Check<'static>> = checked.checks().iter().cloned().map(Check::into_owned).collect();
        let (was, mut checks) = (checked.health(), before.clone());
        edit(&mut checks)?;
        checks.sort_by(|a, b| a.id.cmp(&b.id));
        check_count(&checks)?;
        date_checks(now, &before, &mut checks);
        let is_write = checks != before;
        if is_write {
            *checked.checks_mut() = checks.clone();
            let urgency = if checked.health() > was { Urgency::Removal } else { Urgency::Registration };
            self.rewrite(now, uid, &key, checked, urgency)?;
        }
        self.leases.keep_node(now, uid, &before, &checks, renewed);
        let result = if is_write { WriteResult::Updated } else { WriteResult::Unchanged };
        Ok((Reply::Written(Written { uid, result, revision: 0 }), is_write))
    }
}

/// A check that says nothing new says it since it first did.
pub(super) fn date_checks(now: Now, before: &[Check<'_>], checks: &mut [Check<'static>]) {
    for check in checks {
        let known = before.iter().find(|known| known.id == check.id && known.state == check.state);
        check.since = known.map_or(WallMs(now.wall_ms), |known| known.since);
    }
}

pub(super) fn check_count(checks: &[Check<'_>]) -> Result<(), Refusal> {
    if checks.len() > limits::NODE_CHECKS_MAX {
        return Err(Refusal::Invalid { what: format!("a node has at most {} checks", limits::NODE_CHECKS_MAX) });
    }
    Ok(())
}

fn unknown(node: &str) -> Refusal {
    Refusal::NotFound { what: format!("node {node}") }
}
