//! Checks of instances and nodes: what they find becomes a record only where their state flips, and what flaps is damped (design §5,
//! checks). Who reports to a TTL check is a lease's client: see [`super::leases`].

use super::commands::encode;
use super::{Catalog, Urgency, claims};
use crate::model::command::{Refusal, Reply, Target, WriteResult, Written};
use crate::model::instance::{Check, CheckKind, Health, Instance, check_output};
use crate::model::node::NodeInfo;
use crate::model::record::{Content, Key, Kind, RecordState, Scope, Uid};
use crate::model::text::Text;
use crate::model::time::{Now, WallMs};

/// Flips in a row that are passed on as they come; further ones towards the better wait.
const FREE_FLIPS: u32 = 3;
/// The longest a check has to stay well before a flip is believed that flaps, in milliseconds.
const DAMPING_MS_MAX: u64 = 60_000;
/// A check that did not flip for so long starts afresh, in milliseconds.
const CALM_MS: u64 = 300_000;

/// What a TTL check says that heard nothing.
const SILENT: &str = "no sign of life within the TTL";

pub(super) fn is_silent(check: &Check<'_>) -> bool {
    matches!(check.kind, CheckKind::Ttl { .. }) && check.state == Health::Critical && check.output.as_str() == SILENT
}

/// A client's word on checks: on one of them or, without a report, that all are alive. Says which one was meant, by its place.
pub(super) fn hear_report(now: Now, checks: &mut [Check<'_>], report: Option<(&str, Health, &str)>) -> Result<Option<u16>, Refusal> {
    let Some((id, state, output)) = report else {
        for check in checks.iter_mut().filter(|check| is_silent(check)) {
            (check.state, check.output, check.since) = (Health::Passing, Text::default(), WallMs(now.wall_ms));
        }
        return Ok(None);
    };
    let at = checks.iter().position(|check| check.id.as_str() == id);
    let at = at.ok_or_else(|| Refusal::NotFound { what: format!("check {id}") })?;
    let check = &mut checks[at];
    if check.state != state {
        (check.state, check.since) = (state, WallMs(now.wall_ms));
        check.output = Text::from(check_output(output).to_owned());
    }
    Ok(Some(at as u16))
}

/// A check that is registered again as it was keeps what it found.
pub(super) fn keep_found(checks: &mut [Check<'static>], before: &[Check<'_>], now: Now) {
    for check in checks {
        let known = before.iter().find(|known| known.id == check.id && known.kind == check.kind);
        match known {
            Some(known) => {
                (check.state, check.since) = (known.state, known.since);
                check.output = known.output.clone().into_owned();
            }
            None => check.since = WallMs(now.wall_ms),
        }
    }
}

/// What a check that the agent ran says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding<'a> {
    pub check: &'a str,
    pub state: Health,
    pub output: &'a str,
}

/// What a check said lately.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streak {
    state: Health,
    /// Results of that state in a row.
    results: u32,
    since_ns: u64,
    flips: u32,
    flipped_ns: u64,
}

/// A record that has checks, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked<'a> {
    Instance(Box<Instance<'a>>),
    Node(Box<NodeInfo<'a>>),
}

impl<'a> Checked<'a> {
    pub fn read(content: &'a Content) -> Option<(Key<'a>, Self)> {
        match content.key().ok()?.kind {
            Kind::INSTANCE => content.decode().ok().map(|(key, instance)| (key, Checked::Instance(Box::new(instance)))),
            Kind::NODE => content.decode().ok().map(|(key, info)| (key, Checked::Node(Box::new(info)))),
            _ => None,
        }
    }

    pub fn checks(&self) -> &[Check<'a>] {
        match self {
            Checked::Instance(instance) => &instance.checks,
            Checked::Node(info) => &info.checks,
        }
    }

    pub fn checks_mut(&mut self) -> &mut Vec<Check<'a>> {
        match self {
            Checked::Instance(instance) => &mut instance.checks,
            Checked::Node(info) => &mut info.checks,
        }
    }

    pub fn health(&self) -> Health {
        match self {
            Checked::Instance(instance) => instance.health(),
            Checked::Node(info) => info.health(),
        }
    }
}

impl Catalog {
    /// What a check of an own instance found. Says whether it became a record.
    pub(super) fn check_result(&mut self, now: Now, target: &Target, finding: &Finding<'_>) -> Result<(Reply, bool), Refusal> {
        let missing = || Refusal::NotFound { what: "the instance".into() };
        let uid = self.resolve(target)?.ok_or_else(missing)?;
        claims::visible(&self.table, uid).filter(|slot| slot.origin == self.own_ix).ok_or_else(missing)?;
        self.found(now, uid, finding)
    }

    /// What a check of an own record found. Says whether it became a record.
    pub(super) fn found(&mut self, now: Now, uid: Uid, finding: &Finding<'_>) -> Result<(Reply, bool), Refusal> {
        let Finding { check, state, output } = *finding;
        let content = self.own_content(uid).cloned();
        let read = content.as_ref().and_then(Checked::read);
        let (key, mut checked) = read.ok_or_else(|| Refusal::NotFound { what: "what is checked".into() })?;
        let before = checked.health();
        let found = checked.checks_mut().iter_mut().find(|known| known.id.as_str() == check);
        let found = found.ok_or_else(|| Refusal::NotFound { what: format!("check {check}") })?;
        let unchanged = Reply::Written(Written { uid, result: WriteResult::Unchanged, revision: 0 });
        let after = match state {
            Health::Passing => found.passing_after,
            Health::Warning => found.warning_after,
            _ => found.critical_after,
        };
        let streak = self.checks.0.entry((uid, check.to_owned())).or_default();
        if streak.results == 0 || streak.state != state {
            (streak.state, streak.results, streak.since_ns) = (state, 0, now.ns);
        }
        streak.results = streak.results.saturating_add(1);
        if found.state == state || streak.results < u32::from(after.max(1)) {
            return Ok((unchanged, false));
        }
        if now.ns.saturating_sub(streak.flipped_ns) > CALM_MS * 1_000_000 {
            streak.flips = 0;
        }
        let steady_ms = now.ns.saturating_sub(streak.since_ns) / 1_000_000;
        if state < found.state && steady_ms < damping_ms(streak.flips) {
            self.counters.flaps_damped += 1;
            return Ok((unchanged, false));
        }
        (streak.flips, streak.flipped_ns) = (streak.flips.saturating_add(1), now.ns);
        (found.state, found.since) = (state, WallMs(now.wall_ms));
        found.output = Text::from(check_output(output).to_owned());
        let urgency = if checked.health() > before { Urgency::Removal } else { Urgency::Registration };
        self.rewrite(now, uid, &key, checked, urgency)?;
        Ok((Reply::Written(Written { uid, result: WriteResult::Updated, revision: 0 }), true))
    }

    /// A TTL check heard nothing for its whole TTL.
    pub(super) fn silence_check(&mut self, now: Now, uid: Uid, at: u16) {
        let Some(content) = self.own_content(uid).cloned() else { return self.leases.drop_instance(uid) };
        let Some((key, mut checked)) = Checked::read(&content) else { return };
        let check = checked.checks_mut().get_mut(usize::from(at));
        let Some(check) = check.filter(|check| check.state != Health::Critical) else { return };
        self.counters.expired += 1;
        (check.state, check.since, check.output) = (Health::Critical, WallMs(now.wall_ms), Text::borrowed(SILENT));
        // A state is no longer than what a check may say.
        let _ = self.rewrite(now, uid, &key, checked, Urgency::Removal);
    }

    /// A check was critical for as long as its instance may be.
    pub(super) fn remove_critical(&mut self, now: Now, uid: Uid) {
        self.counters.expired += 1;
        if self.own_content(uid).is_some() {
            self.remove_own(now, uid);
        }
        self.leases.drop_instance(uid);
    }

    /// Writes a state of an own record that makes no new claim: renewals and flips of health.
    pub(super) fn rewrite(&mut self, now: Now, uid: Uid, key: &Key<'_>, mut checked: Checked<'_>, urgency: Urgency) -> Result<(), Refusal> {
        let claim = self.table.find(self.own_ix, uid).map_or(now.wall_ms, |ix| self.table.slot(ix).claim);
        let content = match &mut checked {
            Checked::Instance(instance) => {
                instance.changed_at = WallMs(now.wall_ms);
                encode(key, instance)?
            }
            Checked::Node(info) => encode(key, info)?,
        };
        self.write(now, uid, claim, RecordState::Live(content), urgency);
        if key.kind == Kind::INSTANCE && !matches!(key.scope, Scope::Node(_)) {
            self.leases.watch_critical(now, uid, checked.checks());
        }
        Ok(())
    }

    /// What checks of an instance said is of no use once it is gone.
    pub(super) fn drop_streaks(&mut self, uid: Uid) {
        let streaks = self.checks.0.range((uid, String::new())..).take_while(|((of, _), _)| *of == uid);
        let keys: Vec<_> = streaks.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.checks.0.remove(&key);
        }
    }
}

/// How long a check that flipped so often has to stay well.
fn damping_ms(flips: u32) -> u64 {
    match flips.checked_sub(FREE_FLIPS) {
        None => 0,
        Some(more) => (1_000_u64 << more.min(6)).min(DAMPING_MS_MAX),
    }
}
