//! Time: what is due, in which order, and what an agent that stood still makes of it.

use super::Membership;
use super::codec::header_bytes;
use super::identity::Identity;
use super::swim::{SwimTimer, forged_ack};
use crate::engine::sabotage::Rule;
use crate::model::time::Now;

/// Housekeeping comes so often.
pub(super) const TICK_MS: u64 = 1_000;
/// foca timers of one turn: more are never due at once unless the clock jumped.
const TIMERS_MAX: usize = 64;
/// Who must not gossip looks again after this.
const MUTE_MS: u64 = 200;
/// Down members forgotten in one turn.
const FORGET_MAX: usize = 64;

impl Membership {
    /// When to call [`Membership::handle_timeout`], in nanoseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<u64> {
        if self.has_left {
            return None;
        }
        let mut deadline = self.tick_at.min(self.healing.deadline());
        let others = [
            self.timers.first_key_value().map(|((at, _), _)| *at),
            self.gossip_at,
            self.suspicions.deadline(),
            self.roll_call.deadline(),
            self.rumours.deadline(),
            self.probation.deadline(),
        ];
        for at in others.into_iter().flatten() {
            deadline = deadline.min(at);
        }
        Some(deadline)
    }

    /// Does what is due. Packets that wait in the socket should be handed in first: they may refute what this would conclude.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.has_left {
            return;
        }
        self.note_stall(now);
        self.swim_due(now);
        self.return_due(now);
        self.take_roll(now);
        self.judge(now);
        self.judge_rumours(now);
        self.gossip_due(now);
        self.join_due(now);
        self.heal_due(now);
        if self.tick_at <= now.ns {
            self.tick_at = now.after_ms(TICK_MS);
            self.forget_old(now);
        }
        self.settle(now);
    }

    /// Notices that own timers are late: this agent stood still, the others did not.
    pub(super) fn note_stall(&mut self, now: Now) {
        let timers = [self.timers.first_key_value().map(|((at, _), _)| *at), self.suspicions.deadline(), self.roll_call.deadline()];
        let Some(at) = timers.into_iter().flatten().min() else { return };
        if now.ns.saturating_sub(at) < self.config.stall_ms * 1_000_000 || self.awareness.is_unsure(now.ns) {
            return;
        }
        self.counters.stalls += 1;
        self.awareness.stalled(now.ns, &self.config);
        let until = now.after_ms(self.config.postpone_ms);
        self.counters.verdicts_postponed += self.suspicions.postpone(until) as u64;
    }

    fn swim_due(&mut self, now: Now) {
        for _ in 0..TIMERS_MAX {
            let Some(entry) = self.timers.first_entry() else { return };
            if entry.key().0 > now.ns {
                return;
            }
            let timer = entry.remove();
            if matches!(timer, SwimTimer::ProbeRandomMember(_)) && self.is_deaf(now) {
                self.forgive_probe(now);
            }
            self.swim_call(now, |swim, outbox| swim.handle_timer(timer, outbox));
        }
    }

    /// The probe under way proves nothing: as far as foca goes it was answered. A silence is forgiven at its beginning only, or nobody
    /// would ever be suspected.
    fn forgive_probe(&mut self, now: Now) {
        let forgiven_until = self.awareness.last_heard() + (self.config.silence_ms * 2 + self.config.postpone_ms) * 1_000_000;
        if now.ns > forgiven_until {
            return;
        }
        let Some(probe) = self.probe.filter(|probe| !probe.is_answered) else { return };
        let Some(target) = self.table.find(probe.target).filter(|member| member.is_up()).map(|member| member.update()) else { return };
        self.counters.probes_forgiven += 1;
        let bytes = header_bytes(&forged_ack(&target, self.identity(), probe.number));
        self.swim_call(now, |swim, outbox| swim.handle_data(&bytes, outbox));
    }

    fn gossip_due(&mut self, now: Now) {
        if self.gossip_at.is_none_or(|at| at > now.ns) {
            return;
        }
        self.gossip_at = None;
        if !self.has_news() {
            return;
        }
        if self.is_mute(now) {
            self.gossip_at = Some(now.after_ms(MUTE_MS));
            return;
        }
        self.gossiped_ns = Some(now.ns);
        self.swim_call(now, |swim, outbox| swim.gossip(outbox));
        if self.has_news() && self.swim.num_members() > 0 {
            self.gossip_at = Some(now.after_ms(self.config.gossip_period_ms));
        }
    }

    fn has_news(&mut self) -> bool {
        self.swim.updates_backlog() > 0 || self.suspicions.has_untold()
    }

    pub(super) fn join_due(&mut self, now: Now) {
        let is_lonely = self.is_lonely();
        let jitter = self.jitter();
        let (table, own) = (&self.table, self.me.addr);
        let is_met = |addr| addr == own || table.at(addr).any(|member| member.state == super::MemberState::Alive);
        let addrs = self.healing.join_turn(now.ns, is_lonely, &self.config, jitter, is_met);
        // Whoever met somebody once has left joining behind.
        let is_over = self.first_contact_ns.is_some() && self.config.broken.is(Rule::HealingByFoca);
        for addr in addrs.into_iter().filter(|_| !is_over) {
            self.announce(Identity::stranger(addr));
        }
    }

    fn heal_due(&mut self, now: Now) {
        let jitter = self.jitter();
        let (table, own) = (&self.table, self.me.addr);
        let is_met = |addr| addr == own || table.at(addr).any(|member| member.state == super::MemberState::Alive);
        let is_left_to_foca = self.config.broken.is(Rule::HealingByFoca);
        if let Some(addrs) = self.healing.heal_turn(now.ns, &self.config, jitter, is_met) {
            for addr in addrs.into_iter().filter(|_| !is_left_to_foca) {
                self.announce(Identity::stranger(addr));
            }
            if !is_left_to_foca {
                self.announce_to_down(u64::MAX, now);
            }
        }
        let members = self.alive();
        if self.healing.recent_turn(now.ns, members, &self.config, jitter) && !is_left_to_foca {
            self.announce_to_down(self.config.heal_recent_ms * 1_000_000, now);
        }
    }

    /// Announces us to one member that went down at most `age_ns` ago, each in turn.
    fn announce_to_down(&mut self, age_ns: u64, now: Now) {
        let horizon = now.ns.saturating_sub(age_ns);
        let is_recent = |at: u64| at >= horizon;
        let count = self.table.recent_down().take_while(|(at, _)| is_recent(*at)).count();
        if count == 0 {
            return;
        }
        let turn = self.healing.down_turn(count);
        let addr = self.table.recent_down().nth(turn).map(|(_, member)| member.addr);
        if let Some(addr) = addr {
            self.announce(Identity::stranger(addr));
        }
    }

    /// Down members whose time is over, or that are too many.
    fn forget_old(&mut self, now: Now) {
        for _ in 0..FORGET_MAX {
            let Some((at, node)) = self.table.oldest_down() else { return };
            let is_old = now.ns >= at.saturating_add(self.config.remember_down_ms * 1_000_000);
            let is_too_many = self.table.down_len() > self.config.down_max;
            if !is_old && !is_too_many {
                return;
            }
            if !is_old {
                self.counters.forgotten_early += 1;
            }
            self.forget(node);
        }
    }
}
