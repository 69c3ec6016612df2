//! Whom to announce to, and when: joining never gives up, and what was cut is found again (protocol section 1).
//!
//! foca stops announcing when its last active member goes, so two cut nodes stay apart for ever; this schedule runs in every state.
//! It is pure: the membership tells it who is met already and sends what it names.

use super::config::MembershipConfig;
use super::counters::Counters;
use std::net::SocketAddr;

/// Announcements of one turn of joining.
const JOIN_BURST: usize = 8;
/// Addresses named by [`Healing::join`] are tried so often.
const JOIN_TRIES: u8 = 6;

#[derive(Debug)]
pub(super) struct Healing {
    seeds: Vec<SocketAddr>,
    /// Where members were met in former lives.
    remembered: Vec<SocketAddr>,
    /// Asked for by hand, with the tries that are left.
    wanted: Vec<(SocketAddr, u8)>,
    join_at: Option<u64>,
    join_pause_ms: u64,
    heal_at: u64,
    recent_at: u64,
    seed_turn: usize,
    remembered_turn: usize,
    down_turn: usize,
}

impl Healing {
    pub fn new(now_ns: u64, config: &MembershipConfig, jitter: u64) -> Self {
        Self {
            seeds: Vec::new(),
            remembered: Vec::new(),
            wanted: Vec::new(),
            join_at: None,
            join_pause_ms: config.join_min_ms,
            heal_at: now_ns + config.heal_period_ms * 1_000_000 * jitter / 1_000,
            recent_at: now_ns + config.heal_recent_period_ms * 1_000_000,
            seed_turn: 0,
            remembered_turn: 0,
            down_turn: 0,
        }
    }

    pub fn set_seeds(&mut self, seeds: Vec<SocketAddr>, config: &MembershipConfig, counters: &mut Counters) {
        if seeds.iter().any(|seed| !self.seeds.contains(seed)) {
            self.join_soon(config);
        }
        self.seeds = bounded(seeds, config, counters);
    }

    /// Whether there is nowhere to announce to but to `own`, an address of this agent's.
    pub fn knows_nowhere(&self, own: SocketAddr) -> bool {
        let wanted = self.wanted.iter().map(|(addr, _)| addr);
        self.seeds.iter().chain(&self.remembered).chain(wanted).all(|addr| *addr == own)
    }

    pub fn remember(&mut self, addrs: Vec<SocketAddr>, config: &MembershipConfig, counters: &mut Counters) {
        self.remembered = bounded(addrs, config, counters);
        self.join_soon(config);
    }

    pub fn join(&mut self, addr: SocketAddr, config: &MembershipConfig, counters: &mut Counters) {
        self.wanted.retain(|(wanted, _)| *wanted != addr);
        if self.wanted.len() >= config.addresses_max {
            counters.dropped_addresses_full += 1;
            return;
        }
        self.wanted.push((addr, JOIN_TRIES));
        self.join_soon(config);
    }

    /// Starts the hurried phase (again): at the start, with new seeds, and when the last member is lost.
    pub fn join_soon(&mut self, config: &MembershipConfig) {
        self.join_pause_ms = config.join_min_ms;
        self.join_at = Some(0);
    }

    pub fn deadline(&self) -> u64 {
        self.heal_at.min(self.recent_at).min(self.join_at.unwrap_or(u64::MAX))
    }

    /// Addresses to announce to in this turn of joining, none if it is not due. `is_met`: an up member lives there, or we do. An agent
    /// that has company stops after the longest pause and leaves the rest to healing; a lonely one goes on.
    pub fn join_turn(
        &mut self,
        now_ns: u64,
        is_lonely: bool,
        config: &MembershipConfig,
        jitter: u64,
        is_met: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        if self.join_at.is_none_or(|at| at > now_ns) {
            return Vec::new();
        }
        self.wanted.retain(|(addr, tries)| *tries > 0 && !is_met(*addr));
        let mut turn: Vec<SocketAddr> = self.wanted.iter().take(JOIN_BURST).map(|(addr, _)| *addr).collect();
        for (_, tries) in self.wanted.iter_mut().take(JOIN_BURST) {
            *tries -= 1;
        }
        pick(&self.seeds, &mut self.seed_turn, JOIN_BURST, &is_met, &mut turn);
        if is_lonely {
            pick(&self.remembered, &mut self.remembered_turn, JOIN_BURST / 2, &is_met, &mut turn);
        }
        let goes_on = is_lonely || (!turn.is_empty() && self.join_pause_ms < config.join_max_ms);
        self.join_at = goes_on.then(|| now_ns + self.join_pause_ms * 1_000 * jitter);
        self.join_pause_ms = (self.join_pause_ms * 2).min(config.join_max_ms);
        turn
    }

    /// The turn that comes once a minute for ever: a seed and a remembered address that are not met; the caller adds a down member.
    pub fn heal_turn(
        &mut self,
        now_ns: u64,
        config: &MembershipConfig,
        jitter: u64,
        is_met: impl Fn(SocketAddr) -> bool,
    ) -> Option<Vec<SocketAddr>> {
        if self.heal_at > now_ns {
            return None;
        }
        self.heal_at = now_ns + config.heal_period_ms * 1_000 * jitter;
        let mut turn = Vec::new();
        pick(&self.seeds, &mut self.seed_turn, 1, &is_met, &mut turn);
        pick(&self.remembered, &mut self.remembered_turn, 1, &is_met, &mut turn);
        Some(turn)
    }

    /// Whether it is time to announce to one of the lately lost; with `members` agents doing so the pause grows, so that the dead are not
    /// showered.
    pub fn recent_turn(&mut self, now_ns: u64, members: usize, config: &MembershipConfig, jitter: u64) -> bool {
        if self.recent_at > now_ns {
            return false;
        }
        let stretched = config.heal_recent_period_ms * members.div_ceil(10) as u64;
        self.recent_at = now_ns + stretched.min(config.heal_period_ms) * 1_000 * jitter;
        true
    }

    /// Which of `count` down members has its turn.
    pub fn down_turn(&mut self, count: usize) -> usize {
        self.down_turn = self.down_turn.wrapping_add(1);
        self.down_turn % count.max(1)
    }
}

fn bounded(mut addrs: Vec<SocketAddr>, config: &MembershipConfig, counters: &mut Counters) -> Vec<SocketAddr> {
    addrs.sort_unstable();
    addrs.dedup();
    counters.dropped_addresses_full += addrs.len().saturating_sub(config.addresses_max) as u64;
    addrs.truncate(config.addresses_max);
    addrs
}

/// Adds up to `count` addresses in turn that are not met yet.
fn pick(from: &[SocketAddr], turn: &mut usize, count: usize, is_met: &impl Fn(SocketAddr) -> bool, into: &mut Vec<SocketAddr>) {
    let mut picked = 0;
    for _ in 0..from.len() {
        if picked == count {
            return;
        }
        let addr = from[*turn % from.len()];
        *turn = turn.wrapping_add(1);
        if !is_met(addr) && !into.contains(&addr) {
            into.push(addr);
            picked += 1;
        }
    }
}
