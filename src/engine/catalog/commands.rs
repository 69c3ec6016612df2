//! What clients ask for: decided here, forwarded to the origin that decides, or taken over from one that is gone (protocol §2, writes
//! at another agent).
//!
//! ```text
//!   visible record is        renewal, report, removal      registration
//!   this agent's             done here                     identical: a renewal; else a new claim
//!   a living origin's        forwarded                     identical: forwarded as a renewal; else taken here, a new claim
//!   one that is gone         taken over                    taken here, a new claim
//!   nobody's                 not found; removal: absent    a new claim
//! ```

use super::checks::{Checked, Finding, hear_report, keep_found};
use super::entries::entry_key;
use super::fold::version_of;
use super::leases::Begin;
use super::node_checks::date_checks;
use super::table::{OriginIx, Slot};
use super::{Catalog, Effect, Urgency, claims};
use crate::engine::io::Token;
use crate::engine::sabotage::Rule;
use crate::model::command::{Command, Condition, LeaseId, Refusal, Registration, Reply, Report, Target, WriteResult, Written};
use crate::model::entry::EntryBody;
use crate::model::instance::{Check, Instance, Lease};
use crate::model::limits;
use crate::model::names::{NodeId, ServiceKey};
use crate::model::node::Liveness;
use crate::model::record::{Claim, Content, Key, Kind, RecordState, Scope, Uid};
use crate::model::time::{Now, WallMs};
use std::collections::BTreeMap;

/// What is remembered of checks between their transitions.
#[derive(Debug, Default)]
pub(super) struct Checks(pub BTreeMap<(Uid, String), super::checks::Streak>);

/// From whom a command comes, and so who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stance {
    /// A client's: what another living origin holds is that one's to decide.
    Client,
    /// Another agent's, which takes this one for the origin.
    Forwarded,
    /// A client's, whose origin did not answer.
    TakeOver,
}

/// What becomes of a command.
pub(super) enum Decision {
    Done(Reply),
    /// Nothing became durable: renewals.
    Renewed(Reply),
    Forward(NodeId, Command),
}

pub(super) type Decided = Result<Decision, Refusal>;

fn written(uid: Uid, result: WriteResult) -> Reply {
    Reply::Written(Written { uid, result, revision: 0 })
}

/// What was decided of a reply that says whether it became a record; what did not is no write.
fn decision((reply, is_write): (Reply, bool)) -> Decision {
    if is_write { Decision::Done(reply) } else { Decision::Renewed(reply) }
}

impl Catalog {
    /// Carries a client's command out, or says with [`Effect::Forward`] who is to.
    pub fn command(&mut self, now: Now, token: Token, command: Command) {
        if let Command::DeleteEntries { namespace, prefix } = &command {
            return self.delete_entries(now, token, namespace, prefix);
        }
        let decided = self.decide(now, command, Stance::Client);
        self.answer(token, decided);
    }

    /// Another agent forwards a command as to the origin. The flag says whether it is a write, to be answered once it is durable.
    pub fn forwarded(&mut self, now: Now, _from: NodeId, command: Command) -> (Result<Reply, Refusal>, bool) {
        match self.decide(now, command, Stance::Forwarded) {
            Ok(Decision::Done(reply)) => (Ok(reply), true),
            Ok(Decision::Renewed(reply)) => (Ok(reply), false),
            Ok(Decision::Forward(..)) => (Err(Refusal::NotFound { what: "the instance".into() }), false),
            Err(refusal) => (Err(refusal), false),
        }
    }

    /// Carries out here what an origin was asked for that is gone or silent.
    pub fn take_over(&mut self, now: Now, token: Token, command: Command) {
        let decided = self.decide(now, command, Stance::TakeOver);
        self.answer(token, decided);
    }

    fn answer(&mut self, token: Token, decided: Decided) {
        self.effects.push_back(match decided {
            Ok(Decision::Done(reply)) => Effect::Reply { token, outcome: Ok(reply), is_write: true },
            Ok(Decision::Renewed(reply)) => Effect::Reply { token, outcome: Ok(reply), is_write: false },
            Ok(Decision::Forward(to, command)) => Effect::Forward { token, to, command },
            Err(refusal) => Effect::Reply { token, outcome: Err(refusal), is_write: false },
        });
    }

    pub(super) fn decide(&mut self, now: Now, command: Command, stance: Stance) -> Decided {
        match command {
            Command::Register(registration) => self.register(now, *registration, stance),
            Command::Deregister { target, condition } => self.deregister(now, target, condition, stance),
            Command::Heartbeat { target, report } => self.heartbeat(now, target, report, stance),
            Command::CheckResult { target, check, state, output } => {
                self.check_result(now, &target, &Finding { check: &check, state, output: &output }).map(decision)
            }
            Command::SetOverride { of, word } => self.set_override(now, &of, &word).map(Decision::Done),
            Command::ClearOverride { of } => self.clear_override(now, &of).map(Decision::Done),
            Command::Batch(commands) => self.batch(now, commands, stance),
            Command::RegisterNode { name, info } => self.register_node(now, &name, &info).map(decision),
            Command::DeregisterNode { name } => Ok(decision(self.deregister_node(now, &name))),
            Command::SetNodeCheck { node, check } => self.set_node_check(now, node.as_ref(), *check).map(decision),
            Command::RemoveNodeCheck { node, check } => self.remove_node_check(now, node.as_ref(), &check).map(decision),
            Command::ReportNode { node, report } => self.report_node(now, node.as_ref(), report.as_ref()).map(decision),
            Command::NodeCheckResult { check, state, output } => {
                self.node_check_result(now, &Finding { check: &check, state, output: &output }).map(decision)
            }
            Command::PutEntry { namespace, key, value, flags, condition } => {
                self.put_entry(now, &entry_key(&namespace, &key), &EntryBody { flags, value: &value }, condition).map(decision)
            }
            Command::DeleteEntry { namespace, key, condition } => {
                self.delete_entry(now, &entry_key(&namespace, &key), condition).map(decision)
            }
            Command::FireEvent(event) => self.fire_event(now, *event).map(Decision::Done),
            Command::OpenLease { ttl_ms } => self.open_lease(now, ttl_ms),
            Command::RenewLease(id) if self.leases.renew_open(now, id) => Ok(Decision::Renewed(Reply::Done)),
            Command::EndLease(id) if self.end_lease(now, id) => Ok(Decision::Done(Reply::Done)),
            Command::RenewLease(_) | Command::EndLease(_) => Err(Refusal::NotFound { what: "the lease".into() }),
            Command::Leave => {
                self.leave(now);
                Ok(Decision::Done(Reply::Done))
            }
            Command::Forget(node) => self.forget(now, node).map(|()| Decision::Done(Reply::Done)),
            _ => Err(Refusal::Invalid { what: "this is no command for the catalog".into() }),
        }
    }

    fn open_lease(&mut self, now: Now, ttl_ms: Option<u64>) -> Decided {
        let too_many = || Refusal::Busy { retry_after_ms: 10_000, why: "too many leases are open at this agent".into() };
        self.leases.open(now, ttl_ms).map(|id| Decision::Renewed(Reply::Lease(id))).ok_or_else(too_many)
    }

    /// The agent goes for good: its instances are absent from here on, everywhere the head comes to.
    fn leave(&mut self, now: Now) {
        let own = self.own_ix;
        self.table.change_head(own, |origin| {
            origin.flags.left = true;
            origin.changed_ns = now.ns;
        });
        let seq = self.table.origin(own).seq;
        self.effects.push_back(Effect::Fresh { origin: self.me, seq, urgency: Urgency::Removal });
        self.head_moved(own);
    }

    fn register(&mut self, now: Now, registration: Registration, stance: Stance) -> Decided {
        let key = registration.key();
        let uid = key.uid(self.me);
        let visible = claims::visible(&self.table, uid);
        check_condition(registration.condition, visible)?;
        if let Some(lease) = registration.lease.filter(|lease| !self.leases.is_open(*lease)) {
            return Err(Refusal::NotFound { what: format!("lease {}", lease.0) });
        }
        let before = visible.and_then(|slot| slot.content()).cloned();
        let holder = visible.map(|slot| slot.origin);
        let before = before.as_ref().and_then(|content| content.decode::<Instance<'_>>().ok()).map(|(_, instance)| instance);
        let mut is_same = before.as_ref().is_some_and(|before| before.is_same_registration(&registration.instance));
        if let Scope::Node(node) = &registration.scope {
            self.check_external(node, &registration.instance)?;
            // Nobody makes its checks: what the client says of them is all there is.
            is_same &= before.as_ref().is_some_and(|before| says_the_same(&before.checks, &registration.instance.checks));
        }
        // What hangs on something held open here is this agent's to keep.
        if is_same && registration.lease.is_none() {
            match holder {
                Some(holder) if holder == self.own_ix => return self.renew_registration(now, uid, registration.lease),
                Some(holder) if stance == Stance::Client && self.is_deciding(now, holder) => {
                    let target = target_of(&registration, uid);
                    return Ok(Decision::Forward(self.table.origin(holder).id, Command::Heartbeat { target, report: None }));
                }
                _ => {}
            }
        }
        if is_same && holder == Some(self.own_ix) {
            return self.renew_registration(now, uid, registration.lease);
        }
        let result = if before.is_some() { WriteResult::Updated } else { WriteResult::Created };
        let mut instance = registration.instance.clone();
        instance.registered_at = before.as_ref().map_or(WallMs(now.wall_ms), |before| before.registered_at);
        instance.changed_at = WallMs(now.wall_ms);
        instance.is_expired = false;
        let found = before.as_ref().map_or(&[][..], |before| &before.checks);
        match registration.scope {
            Scope::Node(_) => date_checks(now, found, &mut instance.checks),
            Scope::Agent | Scope::Datacenter => keep_found(&mut instance.checks, found, now),
        }
        let content = encode(&key, &instance)?;
        if holder.is_some_and(|holder| holder != self.own_ix) {
            self.counters.taken_over += 1;
        }
        let claim = claims::next(&self.table, uid, now.wall_ms);
        let urgency = if result == WriteResult::Created { Urgency::Registration } else { Urgency::Metadata };
        self.write(now, uid, claim, RecordState::Live(content), urgency);
        self.keep(now, uid, &registration.scope, &instance, Begin::Registered(registration.lease));
        Ok(Decision::Done(written(uid, result)))
    }

    /// An instance of an external node lives by its record alone.
    pub(super) fn check_external(&self, node: &str, instance: &Instance<'_>) -> Result<(), Refusal> {
        if self.external_record(node).is_none() {
            return Err(Refusal::NotFound { what: format!("the external node {node}") });
        }
        if instance.lease != Lease::Agent {
            return Err(Refusal::Invalid {
                what: "an instance of an external node has no lease: it lives until it is deregistered".into(),
            });
        }
        Ok(())
    }

    /// Sets the timers of an own instance as it was written; none runs on those of external nodes.
    pub(super) fn keep(&mut self, now: Now, uid: Uid, scope: &Scope<'_>, instance: &Instance<'_>, begin: Begin) {
        if !matches!(scope, Scope::Node(_)) {
            self.leases.keep(now, uid, instance, begin);
        }
    }

    /// The same registration again: a sign of life.
    fn renew_registration(&mut self, now: Now, uid: Uid, lease: Option<LeaseId>) -> Decided {
        if self.revive(now, uid, None)? {
            return Ok(Decision::Done(written(uid, WriteResult::Updated)));
        }
        if let (Some(lease), Some(content)) = (lease, self.own_content(uid).cloned()) {
            // It may hang on another lease than before.
            if let Ok((key, instance)) = content.decode::<Instance<'_>>() {
                self.keep(now, uid, &key.scope, &instance, Begin::Registered(Some(lease)));
            }
        }
        Ok(Decision::Renewed(written(uid, WriteResult::Unchanged)))
    }

    /// A sign of life of an own instance. Says whether that had to be written: it was expired, or a check of it was silent.
    fn revive(&mut self, now: Now, uid: Uid, report: Option<&Report>) -> Result<bool, Refusal> {
        let content = self.own_content(uid).cloned().ok_or_else(no_instance)?;
        let (key, mut instance) = content.decode::<Instance<'_>>().map_err(|_| no_instance())?;
        let before = instance.clone();
        instance.is_expired = false;
        let said = match report {
            Some(Report { check: None, state, .. }) => {
                instance.status = *state;
                None
            }
            Some(Report { check: Some(id), state, output }) => hear_report(now, &mut instance.checks, Some((id, *state, output)))?,
            None => hear_report(now, &mut instance.checks, None)?,
        };
        let is_write = instance != before;
        if is_write {
            let urgency = if instance.health() > before.health() { Urgency::Removal } else { Urgency::Registration };
            self.rewrite(now, uid, &key, Checked::Instance(Box::new(instance.clone())), urgency)?;
        }
        if before.is_expired {
            self.keep(now, uid, &key.scope, &instance, Begin::Registered(None));
        }
        self.leases.renew(now, uid, said);
        Ok(is_write)
    }

    fn deregister(&mut self, now: Now, target: Target, condition: Condition, stance: Stance) -> Decided {
        let Some(uid) = self.resolve(&target)? else {
            check_condition(condition, None)?;
            let uid = target.uid.unwrap_or_else(|| datacenter_uid(&target));
            return Ok(Decision::Renewed(written(uid, result_of_nothing(&target, condition, stance))));
        };
        let Some(visible) = claims::visible(&self.table, uid) else {
            check_condition(condition, None)?;
            return Ok(Decision::Renewed(written(uid, result_of_nothing(&target, condition, stance))));
        };
        check_condition(condition, Some(visible))?;
        let (holder, claim) = (visible.origin, visible.claim);
        if is_after(claim, condition) {
            // As if it had come in time, and the registration after it.
            return Ok(Decision::Renewed(written(uid, WriteResult::Removed)));
        }
        if holder != self.own_ix {
            if stance == Stance::Client && self.is_deciding(now, holder) {
                let target = Target { uid: Some(uid), ..target };
                let condition = Condition::NotAfter(claims::next(&self.table, uid, now.wall_ms));
                return Ok(Decision::Forward(self.table.origin(holder).id, Command::Deregister { target, condition }));
            }
            self.counters.taken_over += 1;
        }
        // A delete makes no new claim: it ends the one that is visible, and all below.
        self.write_tombstone(now, uid, Kind::INSTANCE, claim);
        self.leases.drop_instance(uid);
        self.drop_streaks(uid);
        Ok(Decision::Done(written(uid, WriteResult::Removed)))
    }

    fn heartbeat(&mut self, now: Now, target: Target, report: Option<Report>, stance: Stance) -> Decided {
        let uid = self.resolve(&target)?.ok_or_else(no_instance)?;
        let visible = claims::visible(&self.table, uid).ok_or_else(no_instance)?;
        let holder = visible.origin;
        if holder != self.own_ix {
            if stance == Stance::Client && self.is_deciding(now, holder) {
                let target = Target { uid: Some(uid), ..target };
                return Ok(Decision::Forward(self.table.origin(holder).id, Command::Heartbeat { target, report }));
            }
            if stance == Stance::Forwarded {
                return Err(no_instance());
            }
            self.move_here(now, uid)?;
            self.revive(now, uid, report.as_ref())?;
            return Ok(Decision::Done(written(uid, WriteResult::Updated)));
        }
        let is_write = self.revive(now, uid, report.as_ref())?;
        if self.config.broken.is(Rule::RenewalsTravel)
            && let Some((claim, content)) = claims::visible(&self.table, uid).and_then(|slot| Some((slot.claim, slot.content()?.clone())))
        {
            self.write(now, uid, claim, RecordState::Live(content), Urgency::Metadata);
        }
        Ok(if is_write {
            Decision::Done(written(uid, WriteResult::Updated))
        } else {
            Decision::Renewed(written(uid, WriteResult::Unchanged))
        })
    }

    /// Takes an instance over from an origin that is gone: the same, under a new claim of this agent's.
    fn move_here(&mut self, now: Now, uid: Uid) -> Result<(), Refusal> {
        let content = claims::visible(&self.table, uid).and_then(|slot| slot.content()).cloned().ok_or_else(no_instance)?;
        let (key, instance) = content.decode::<Instance<'_>>().map_err(|_| no_instance())?;
        if key.scope == Scope::Agent {
            // Its uid is the gone agent's: here it would be another instance, and only a registration makes one.
            return Err(no_instance());
        }
        // It is the old word that goes on: a newer one that was not heard of here stays above it, whatever the clock says.
        let claim = claims::next(&self.table, uid, 0);
        self.counters.taken_over += 1;
        self.write(now, uid, claim, RecordState::Live(content.clone()), Urgency::Registration);
        self.keep(now, uid, &key.scope, &instance, Begin::Registered(None));
        Ok(())
    }

    /// Whether what `origin` was asked to do, and says it did, has come here: before that, the client would not read its own write.
    pub fn has_seen(&self, origin: NodeId, command: &Command) -> bool {
        let held = |target: &Target| {
            let uid = self.resolve(target).ok().flatten()?;
            claims::visible(&self.table, uid).filter(|slot| self.table.origin(slot.origin).id == origin)
        };
        match command {
            Command::Batch(commands) => commands.iter().all(|command| self.has_seen(origin, command)),
            Command::Deregister { target, condition } => held(target).is_none_or(|slot| is_after(slot.claim, *condition)),
            Command::Heartbeat { target, report: Some(Report { check, state, .. }) } => {
                let content = held(target).and_then(|slot| slot.content());
                content.and_then(|content| content.decode::<Instance<'_>>().ok()).is_none_or(|(_, instance)| match check {
                    Some(id) => instance.checks.iter().all(|check| check.id.as_str() != id || check.state == *state),
                    None => instance.status == *state,
                })
            }
            // A sign of life of what is well writes nothing.
            _ => true,
        }
    }

    /// Whether an origin lives and can be asked.
    pub(super) fn is_deciding(&self, now: Now, holder: OriginIx) -> bool {
        matches!(self.liveness(holder, now), Liveness::Alive | Liveness::Suspect)
    }

    /// Which instance is meant: by uid where it is given; else the datacenter-scoped one of that name, else this agent's own, else the
    /// only one.
    pub(super) fn resolve(&self, target: &Target) -> Result<Option<Uid>, Refusal> {
        let is_visible = |uid: &Uid| claims::visible(&self.table, *uid).is_some();
        if let Some(uid) = target.uid {
            return Ok(Some(uid).filter(is_visible));
        }
        if let Some(uid) = self.uids_of(target).into_iter().find(is_visible) {
            return Ok(Some(uid));
        }
        let key = ServiceKey { namespace: target.namespace.clone(), service: target.service.clone() };
        let id = target.id.as_str();
        let entries = self.fold.entries(&key).iter();
        let mut named =
            entries.filter(|entry| entry.content.key().is_ok_and(|key| &*key.id == id)).map(|entry| entry.uid).filter(is_visible);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(Refusal::Ambiguous),
            (one, None) => Ok(one),
        }
    }

    /// The uids a target's name has in datacenter scope and at this agent.
    pub(super) fn uids_of(&self, target: &Target) -> [Uid; 2] {
        [datacenter_uid(target), key_of(target, Scope::Agent).uid(self.me)]
    }
}

/// Whether checks of the same definitions are in the same states.
fn says_the_same(before: &[Check<'_>], now: &[Check<'_>]) -> bool {
    let said = |check: &Check<'_>| (check.state, check.output.to_string());
    before.iter().map(said).eq(now.iter().map(said))
}

pub(super) fn no_instance() -> Refusal {
    Refusal::NotFound { what: "the instance".into() }
}

fn key_of<'a>(target: &'a Target, scope: Scope<'a>) -> Key<'a> {
    Key {
        kind: Kind::INSTANCE,
        scope,
        namespace: target.namespace.as_str().into(),
        name: target.service.as_str().into(),
        id: target.id.as_str().into(),
    }
}

fn datacenter_uid(target: &Target) -> Uid {
    key_of(target, Scope::Datacenter).uid(NodeId::default())
}

fn target_of(registration: &Registration, uid: Uid) -> Target {
    Target { namespace: registration.namespace.clone(), service: registration.service.clone(), id: registration.id.clone(), uid: Some(uid) }
}

/// What a removal says where there is nothing to remove. What is taken over from an origin that did not answer was visible when it was
/// sent there: it is gone by now, by the origin's hand, and only the answer was lost.
fn result_of_nothing(target: &Target, condition: Condition, stance: Stance) -> WriteResult {
    match (stance, condition) {
        (Stance::TakeOver, Condition::NotAfter(_)) if target.uid.is_some() => WriteResult::Removed,
        _ => WriteResult::Absent,
    }
}

/// Whether what has this claim was registered after a removal was asked for.
fn is_after(claim: Claim, condition: Condition) -> bool {
    matches!(condition, Condition::NotAfter(until) if claim > until)
}

/// Whether the visible record is what the writer asks for.
pub(super) fn check_condition(condition: Condition, visible: Option<&Slot>) -> Result<(), Refusal> {
    let version = visible.and_then(Slot::content).map(version_of);
    let holds = match condition {
        // What is too new for a removal is left alone, and no reason to refuse.
        Condition::Always | Condition::NotAfter(_) => true,
        Condition::Absent => version.is_none(),
        Condition::Version(wanted) => version == Some(wanted),
    };
    if holds { Ok(()) } else { Err(Refusal::Condition { version }) }
}

/// Encodes a record within the limit.
pub(super) fn encode<B: serde::Serialize>(key: &Key<'_>, body: &B) -> Result<Content, Refusal> {
    encode_within(key, body, limits::RECORD_BYTES_MAX)
}

/// Encodes a record within a limit of its kind's own.
pub(super) fn encode_within<B: serde::Serialize>(key: &Key<'_>, body: &B, bytes_max: usize) -> Result<Content, Refusal> {
    let content = Content::encode(key, body);
    let bytes = content.as_bytes().len();
    if bytes > bytes_max {
        return Err(Refusal::TooLarge { bytes, bytes_max });
    }
    Ok(content)
}
