//! Results of checks that the agent runs: only transitions become records, and what flaps is damped (design §5, checks).

use super::commands::encode;
use super::{Catalog, Urgency, claims};
use crate::model::command::{Refusal, Reply, Target, WriteResult, Written};
use crate::model::instance::{Health, Instance, check_output};
use crate::model::record::Uid;
use crate::model::text::Text;
use crate::model::time::{Now, WallMs};

/// Flips in a row that are passed on as they come; further ones towards the better wait.
const FREE_FLIPS: u32 = 3;
/// The longest a check has to stay well before a flip is believed that flaps, in milliseconds.
const DAMPING_MS_MAX: u64 = 60_000;
/// A check that did not flip for so long starts afresh, in milliseconds.
const CALM_MS: u64 = 300_000;

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

impl Catalog {
    /// What a check found. Says whether it became a record.
    pub(super) fn check_result(
        &mut self,
        now: Now,
        target: &Target,
        check: &str,
        state: Health,
        output: &str,
    ) -> Result<(Reply, bool), Refusal> {
        let missing = || Refusal::NotFound { what: "the instance".into() };
        let uid = self.resolve(target)?.ok_or_else(missing)?;
        let visible = claims::visible(&self.table, uid).filter(|slot| slot.origin == self.own_ix).ok_or_else(missing)?;
        let content = visible.content().cloned().ok_or_else(missing)?;
        let (key, mut instance) = content.decode::<Instance<'_>>().map_err(|_| missing())?;
        let before = instance.health();
        let found = instance.checks.iter_mut().find(|known| known.id.as_str() == check);
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
        instance.changed_at = WallMs(now.wall_ms);
        let urgency = if instance.health() > before { Urgency::Removal } else { Urgency::Registration };
        let content = encode(&key, &instance)?;
        self.rewrite(now, uid, content, urgency);
        Ok((Reply::Written(Written { uid, result: WriteResult::Updated, revision: 0 }), true))
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
