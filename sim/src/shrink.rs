//! Cuts a failing plan down: what can be taken away while the same checker still bites is taken away.
//!
//! In turns until nothing more goes: kinds of fault, time, single faults, operations, clients, hosts, settings. Lists are halved as in
//! delta debugging: large parts first, then smaller ones. Each attempt is a whole run, so attempts are counted and bounded.

use crate::faults::{FaultKind, Scheduled, Stroke};
use crate::plan::Plan;
use crate::world::HostId;
use std::collections::BTreeSet;

/// Whole runs that one search may take.
pub const ATTEMPTS_MAX: u32 = 600;
/// Nothing befalls anybody before agents have had this long to start.
const CALM_FROM_MIN: u64 = 6_000_000_000;
/// Calm begins so long after the last thing that happens.
const AFTER_LAST_NS: u64 = 1_000_000_000;

/// A search for the smallest plan that `fails` still holds for.
pub struct Shrinker<'a> {
    plan: Plan,
    fails: &'a mut dyn FnMut(&Plan) -> bool,
    attempts: u32,
    attempts_max: u32,
}

impl<'a> Shrinker<'a> {
    /// `plan` must fail; `fails` says whether another one does in the same way.
    pub fn new(plan: Plan, attempts_max: u32, fails: &'a mut dyn FnMut(&Plan) -> bool) -> Self {
        Self { plan, fails, attempts: 0, attempts_max }
    }

    /// The smallest plan found, and how many were tried.
    pub fn search(mut self) -> (Plan, u32) {
        loop {
            let before = self.plan.clone();
            self.drop_kinds();
            self.cut_time();
            self.drop_faults();
            self.drop_operations();
            self.drop_clients();
            self.drop_hosts();
            self.plain_settings();
            if self.plan == before || self.attempts >= self.attempts_max {
                return (self.plan, self.attempts);
            }
        }
    }

    /// Takes a smaller plan if it fails as well.
    fn attempt(&mut self, plan: Plan) -> bool {
        if plan == self.plan || self.attempts >= self.attempts_max {
            return false;
        }
        self.attempts += 1;
        let fails = (self.fails)(&plan);
        if fails {
            self.plan = plan;
        }
        fails
    }

    fn drop_kinds(&mut self) {
        for kind in FaultKind::ALL {
            if self.plan.kinds.contains(&kind) {
                self.attempt(without_kind(&self.plan, kind));
            }
        }
    }

    /// Ends earlier: by halves of what is left, then by what comes last.
    fn cut_time(&mut self) {
        loop {
            let shorter = CALM_FROM_MIN + self.plan.calm_from.saturating_sub(CALM_FROM_MIN) / 2;
            if self.plan.calm_from < CALM_FROM_MIN + AFTER_LAST_NS || !self.attempt(ending_at(&self.plan, shorter)) {
                break;
            }
        }
        let last = self.plan.faults.iter().map(|fault| fault.at).chain(self.plan.operations.iter().map(|operation| operation.at)).max();
        let end = (last.unwrap_or(0) + AFTER_LAST_NS).max(CALM_FROM_MIN);
        if end < self.plan.calm_from {
            self.attempt(ending_at(&self.plan, end));
        }
    }

    fn drop_faults(&mut self) {
        let all: BTreeSet<(FaultKind, u32)> = self.plan.faults.iter().map(|fault| (fault.kind, fault.occurrence)).collect();
        self.halve(all.into_iter().collect(), &|plan, kept| {
            let mut plan = plan.clone();
            plan.faults.retain(|fault| kept.contains(&(fault.kind, fault.occurrence)));
            with_kinds_of_faults(plan)
        });
        // Of what is left, ends may be superfluous: calm ends everything.
        let strokes = self.plan.faults.clone();
        self.halve(strokes, &|plan, kept| with_kinds_of_faults(Plan { faults: kept.to_vec(), ..plan.clone() }));
    }

    fn drop_operations(&mut self) {
        let all = self.plan.operations.clone();
        self.halve(all, &|plan, kept| Plan { operations: kept.to_vec(), ..plan.clone() });
    }

    /// Those that do nothing go. A client's number is its name, so who stays may have to keep it: then only the last ones go.
    fn drop_clients(&mut self) {
        let busy: BTreeSet<u32> = self.plan.operations.iter().map(|operation| operation.client).collect();
        let mut few = self.plan.clone();
        few.clients = busy.iter().map(|client| self.plan.clients[*client as usize]).collect();
        few.operations.iter_mut().for_each(|operation| operation.client = busy.range(..operation.client).count() as u32);
        if !self.attempt(few) {
            let used = busy.last().map_or(0, |last| *last as usize + 1);
            let mut fewer = self.plan.clone();
            fewer.clients.truncate(used);
            self.attempt(fewer);
        }
        for at in 0..self.plan.clients.len() {
            let mut plan = self.plan.clone();
            (plan.clients[at].ttl_ms, plan.clients[at].dies_at, plan.clients[at].is_agent_scoped) = (None, None, false);
            self.attempt(plan);
        }
    }

    fn drop_hosts(&mut self) {
        while self.plan.hosts.len() > 2 {
            let last = self.plan.hosts.len() as u32 - 1;
            // The last one goes, or another one takes its number along.
            let goes = (0..=last).rev().any(|host| self.attempt(without_host(&self.plan, HostId(host))));
            if !goes {
                break;
            }
        }
    }

    fn plain_settings(&mut self) {
        self.attempt(Plan { is_sealed: false, ..self.plan.clone() });
        self.attempt(Plan { between_zones_ns: 0, ..self.plan.clone() });
        self.attempt(Plan { limits: None, ..self.plan.clone() });
        let hosts = self.plan.hosts.len() as u32;
        self.attempt(Plan { seeds: (0..hosts).collect(), ..self.plan.clone() });
        let mut together = self.plan.clone();
        together.hosts.iter_mut().for_each(|host| (host.starts_at, host.zone, host.clock.drift_ppm) = (0, 0, 0));
        self.attempt(together);
    }

    /// Delta debugging over a list: tries to do without ever smaller parts of it.
    fn halve<T: Clone>(&mut self, mut items: Vec<T>, with: &dyn Fn(&Plan, &[T]) -> Plan) {
        let mut size = items.len();
        while size > 0 && !items.is_empty() {
            let mut at = 0;
            while at < items.len() {
                let mut fewer = items.clone();
                fewer.drain(at..(at + size).min(items.len()));
                if self.attempt(with(&self.plan, &fewer)) {
                    items = fewer;
                } else {
                    at += size;
                }
                if self.attempts >= self.attempts_max {
                    return;
                }
            }
            size /= 2;
        }
    }
}

/// The plan without one kind of fault. Nothing else moves.
pub fn without_kind(plan: &Plan, kind: FaultKind) -> Plan {
    let mut plan = plan.clone();
    plan.faults.retain(|fault| fault.kind != kind);
    plan.kinds.remove(&kind);
    if kind == FaultKind::ClockOff {
        plan.hosts.iter_mut().for_each(|host| host.clock.offset_ms = 0);
    }
    plan
}

/// Only kinds that still strike blur what clients know.
fn with_kinds_of_faults(mut plan: Plan) -> Plan {
    let is_off = plan.kinds.contains(&FaultKind::ClockOff);
    plan.kinds = plan.faults.iter().map(|fault| fault.kind).chain(is_off.then_some(FaultKind::ClockOff)).collect();
    plan
}

/// The plan up to an instant, from which on all is calm.
pub fn ending_at(plan: &Plan, at: u64) -> Plan {
    let mut plan = Plan { calm_from: at, ..plan.clone() };
    plan.faults.retain(|fault| fault.at <= at);
    plan.operations.retain(|operation| operation.at <= at);
    plan
}

/// The plan without one host; the ones behind it take the numbers before theirs.
fn without_host(plan: &Plan, gone: HostId) -> Plan {
    let moved = |number: u32| if number > gone.0 { number - 1 } else { number };
    let mut plan = plan.clone();
    plan.hosts.remove(gone.index());
    let left = plan.hosts.len() as u32;
    plan.seeds = plan.seeds.iter().filter(|seed| **seed != gone.0).map(|seed| moved(*seed)).collect();
    if plan.seeds.is_empty() {
        plan.seeds.push(0);
    }
    plan.clients.iter_mut().for_each(|client| client.home = moved(client.home) % left);
    plan.operations.iter_mut().for_each(|operation| operation.moves_to = operation.moves_to.filter(|to| *to != gone.0).map(moved));
    plan.faults = plan.faults.into_iter().filter_map(|fault| stroke_without(fault, gone, &moved)).collect();
    plan
}

fn stroke_without(mut fault: Scheduled, gone: HostId, moved: &dyn Fn(u32) -> u32) -> Option<Scheduled> {
    let stays = match &mut fault.stroke {
        // What is cut off from what is left of the others.
        Stroke::Cut { from, to } | Stroke::Mend { from, to } => {
            from.retain(|host| *host != gone);
            to.retain(|host| *host != gone);
            !from.is_empty() && !to.is_empty()
        }
        stroke => !stroke.hosts().contains(&gone),
    };
    fault.stroke.hosts_mut().into_iter().for_each(|host| host.0 = moved(host.0));
    stays.then_some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan in which host 2 crashes, and one that fails where that and one operation come together.
    fn rough() -> Plan {
        let seeds = 0..200;
        let crashes =
            |plan: &Plan| plan.faults.iter().any(|fault| fault.kind == FaultKind::Crash && fault.stroke == Stroke::Kill(HostId(2)));
        let plan = seeds.map(|seed| Plan::of_seed(seed, &BTreeSet::new(), None)).find(|plan| crashes(plan) && plan.kinds.len() > 8);
        plan.expect("some seed crashes host 2")
    }

    #[test]
    fn nothing_is_left_but_what_it_takes() {
        let plan = rough();
        let wanted = plan.operations[plan.operations.len() / 2];
        let mut fails = |plan: &Plan| {
            let crashes = plan.faults.iter().any(|fault| matches!(fault.stroke, Stroke::Kill(_)) && fault.kind == FaultKind::Crash);
            crashes && plan.operations.iter().any(|operation| operation.at == wanted.at) && plan.hosts.len() >= 3
        };
        let (small, attempts) = Shrinker::new(plan, ATTEMPTS_MAX, &mut fails).search();
        assert!(attempts < ATTEMPTS_MAX, "{attempts} attempts");
        assert_eq!(small.kinds, BTreeSet::from([FaultKind::Crash]));
        assert_eq!((small.faults.len(), small.operations.len(), small.clients.len(), small.hosts.len()), (1, 1, 1, 3));
        assert!(!small.is_sealed && small.calm_from <= wanted.at.max(small.faults[0].at).max(CALM_FROM_MIN) + AFTER_LAST_NS);
    }

    #[test]
    fn a_plan_without_a_host_speaks_of_no_host_that_is_not_there() {
        for seed in 0..30 {
            let plan = Plan::of_seed(seed, &BTreeSet::new(), None);
            for gone in 0..plan.hosts.len() as u32 {
                let less = without_host(&plan, HostId(gone));
                let text = serde_json::to_string(&less.faults).unwrap();
                let back: Vec<Scheduled> = serde_json::from_str(&text).unwrap();
                let left = less.hosts.len() as u32;
                assert!(less.seeds.iter().all(|seed| *seed < left) && less.clients.iter().all(|client| client.home < left));
                assert!(back.into_iter().all(|fault| stroke_without(fault, HostId(left), &|number| number).is_some()));
            }
        }
    }

    #[test]
    fn the_search_ends_with_its_attempts() {
        let (_, attempts) = Shrinker::new(rough(), 17, &mut |_| false).search();
        assert_eq!(attempts, 17);
    }
}
