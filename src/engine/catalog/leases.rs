//! Leases: signs of life that end at this agent (protocol §3). Renewals move timers and write nothing; what runs out writes one record.
//!
//! ```text
//!   live ──ttl without a sign──> expired (one record: critical) ──remove_after──> removed (a tombstone)
//!     ^                             |
//!     └──────── a sign of life ─────┘ (one record)
//! ```
//!
//! A check may say for how long it may be critical: after that time without a break, its instance is removed. That time is this life's
//! own: a restarted agent first finds out what is still critical, and counts from there.

use crate::model::command::LeaseId;
use crate::model::instance::{Check, CheckKind, Health, Instance, Lease};
use crate::model::record::Uid;
use crate::model::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// How long an instance whose client held something open stays as it was when the agent restarts, in milliseconds: the client connects
/// again, and registers.
const HELD_GRACE_MS: u64 = 10_000;
/// Open leases of one agent; more are refused.
pub const OPEN_LEASES_MAX: usize = 1_000_000;

/// What runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The instance's own lease, or the time it has left once that ran out.
    Instance(Uid),
    /// The check at this place in the instance's list.
    Check(Uid, u16),
    /// The time that a check of this instance may be critical.
    Critical(Uid),
    Open(LeaseId),
}

/// All timers of signs of life, in the order in which they run out.
#[derive(Debug, Default)]
pub(super) struct Leases {
    due: BTreeSet<(u64, Timer)>,
    instances: BTreeMap<Uid, Kept>,
    open: BTreeMap<LeaseId, Open>,
    /// Checks that remove their instance, while they are critical.
    critical: BTreeMap<Uid, Vec<Critical>>,
    last: u64,
}

/// The timers of one instance.
#[derive(Debug, Default)]
struct Kept {
    due_ns: Option<u64>,
    open: Option<LeaseId>,
    /// By place in the instance's list.
    checks: BTreeMap<u16, (u64, u64)>,
    ttl_ms: Option<u64>,
}

/// A check that is critical, and when it removes its instance.
#[derive(Debug)]
struct Critical {
    check: Box<str>,
    since_ns: u64,
    due_ns: u64,
}

#[derive(Debug)]
struct Open {
    ttl_ms: Option<u64>,
    due_ns: Option<u64>,
    instances: BTreeSet<Uid>,
}

/// Why an instance is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Registered(Option<LeaseId>),
    /// The agent restarted: each lease gets one whole TTL.
    Restarted,
}

impl Leases {
    /// `first` is above every lease of earlier lives.
    pub fn new(now: Now) -> Self {
        Self { last: now.wall_ms << 20, ..Self::default() }
    }

    /// Leases that clients opened.
    pub fn open_len(&self) -> usize {
        self.open.len()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// The next timer that is due; it is set no more.
    pub fn pop(&mut self, now: Now) -> Option<Timer> {
        let (due_ns, timer) = self.due.first().copied().filter(|(due_ns, _)| *due_ns <= now.ns)?;
        self.due.remove(&(due_ns, timer));
        match timer {
            Timer::Instance(uid) => {
                if let Some(kept) = self.instances.get_mut(&uid) {
                    kept.due_ns = None;
                }
            }
            Timer::Check(uid, at) => {
                if let Some(kept) = self.instances.get_mut(&uid) {
                    kept.checks.insert(at, (u64::MAX, kept.checks.get(&at).map_or(0, |(_, ttl_ms)| *ttl_ms)));
                }
            }
            Timer::Critical(_) => {}
            Timer::Open(id) => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.due_ns = None;
                }
            }
        }
        Some(timer)
    }

    /// Sets the timers of an instance as it was written.
    pub fn keep(&mut self, now: Now, uid: Uid, instance: &Instance<'_>, begin: Begin) {
        self.drop_timers(uid);
        self.watch_critical(now, uid, &instance.checks);
        let mut kept = Kept::default();
        match (instance.lease, begin) {
            (Lease::Agent, _) => {}
            (Lease::Ttl { remove_after_ms, .. } | Lease::Held { remove_after_ms }, _) if instance.is_expired => {
                kept.due_ns = Some(now.after_ms(remove_after_ms));
            }
            (Lease::Ttl { ttl_ms, .. }, _) => {
                kept.ttl_ms = Some(ttl_ms);
                kept.due_ns = Some(now.after_ms(ttl_ms));
            }
            (Lease::Held { .. }, Begin::Registered(open)) => {
                kept.open = open.filter(|id| self.open.contains_key(id));
                if kept.open.is_none() {
                    kept.due_ns = Some(now.after_ms(HELD_GRACE_MS));
                }
            }
            (Lease::Held { .. }, Begin::Restarted) => kept.due_ns = Some(now.after_ms(HELD_GRACE_MS)),
        }
        if let Some(open) = kept.open.and_then(|id| self.open.get_mut(&id)) {
            open.instances.insert(uid);
        }
        self.begin(now, uid, kept, &instance.checks);
    }

    /// Sets the timers of a node's checks as they were written. Those that are in `before` as well keep the time they have left, but for
    /// the `renewed` one.
    pub fn keep_node(&mut self, now: Now, uid: Uid, before: &[Check<'_>], checks: &[Check<'_>], renewed: Option<&str>) {
        let kept = self.instances.get(&uid);
        let due_of = |check: &Check<'_>| {
            let at = before.iter().position(|known| known.id == check.id && known.kind == check.kind)?;
            kept?.checks.get(&(at as u16)).map(|(due_ns, _)| *due_ns).filter(|_| renewed != Some(check.id.as_str()))
        };
        let dues: Vec<Option<u64>> = checks.iter().map(due_of).collect();
        self.drop_timers(uid);
        self.begin(now, uid, Kept::default(), checks);
        let Some(kept) = self.instances.get_mut(&uid) else { return };
        for (at, due_ns) in dues.into_iter().enumerate().filter_map(|(at, due_ns)| Some((at as u16, due_ns?))) {
            if let Some((set_ns, _)) = kept.checks.get_mut(&at) {
                self.due.remove(&(*set_ns, Timer::Check(uid, at)));
                *set_ns = due_ns;
                // One that was silent for its whole time has no timer until it speaks again.
                self.due.extend((due_ns != u64::MAX).then_some((due_ns, Timer::Check(uid, at))));
            }
        }
    }

    fn begin(&mut self, now: Now, uid: Uid, mut kept: Kept, checks: &[Check<'_>]) {
        for (at, check) in checks.iter().enumerate() {
            if let CheckKind::Ttl { ttl_ms } = check.kind {
                kept.checks.insert(at as u16, (now.after_ms(ttl_ms), ttl_ms));
            }
        }
        if kept.due_ns.is_none() && kept.open.is_none() && kept.checks.is_empty() {
            return;
        }
        self.due.extend(kept.due_ns.map(|due_ns| (due_ns, Timer::Instance(uid))));
        self.due.extend(kept.checks.iter().map(|(at, (due_ns, _))| (*due_ns, Timer::Check(uid, *at))));
        self.instances.insert(uid, kept);
    }

    /// A sign of life of the instance: its lease and all its TTL checks, or one check, have a whole TTL again.
    pub fn renew(&mut self, now: Now, uid: Uid, check: Option<u16>) {
        let Some(kept) = self.instances.get_mut(&uid) else { return };
        if let Some(ttl_ms) = kept.ttl_ms {
            if let Some(due_ns) = kept.due_ns.replace(now.after_ms(ttl_ms)) {
                self.due.remove(&(due_ns, Timer::Instance(uid)));
            }
            self.due.extend(kept.due_ns.map(|due_ns| (due_ns, Timer::Instance(uid))));
        }
        for (at, (due_ns, ttl_ms)) in kept.checks.iter_mut().filter(|(at, _)| check.is_none_or(|check| check == **at)) {
            self.due.remove(&(*due_ns, Timer::Check(uid, *at)));
            *due_ns = now.after_ms(*ttl_ms);
            self.due.insert((*due_ns, Timer::Check(uid, *at)));
        }
    }

    /// What an instance's checks say was written: the critical ones that remove it have their time, from when they became so.
    pub fn watch_critical(&mut self, now: Now, uid: Uid, checks: &[Check<'_>]) {
        let before = self.drop_critical(uid);
        let now_critical = checks.iter().filter(|check| check.state == Health::Critical);
        let watched = now_critical.filter_map(|check| {
            let remove_after_ms = check.remove_after_ms?;
            let since_ns = before.iter().find(|known| *known.check == *check.id).map_or(now.ns, |known| known.since_ns);
            let due_ns = since_ns.saturating_add(remove_after_ms.saturating_mul(1_000_000));
            Some(Critical { check: (&*check.id).into(), since_ns, due_ns })
        });
        let watched: Vec<Critical> = watched.collect();
        if let Some(due_ns) = watched.iter().map(|check| check.due_ns).min() {
            self.due.insert((due_ns, Timer::Critical(uid)));
            self.critical.insert(uid, watched);
        }
    }

    fn drop_critical(&mut self, uid: Uid) -> Vec<Critical> {
        let before = self.critical.remove(&uid).unwrap_or_default();
        if let Some(due_ns) = before.iter().map(|check| check.due_ns).min() {
            self.due.remove(&(due_ns, Timer::Critical(uid)));
        }
        before
    }

    /// Lets go of all timers of an instance that is gone, or another agent's.
    pub fn drop_instance(&mut self, uid: Uid) {
        self.drop_critical(uid);
        self.drop_timers(uid);
    }

    fn drop_timers(&mut self, uid: Uid) {
        let Some(kept) = self.instances.remove(&uid) else { return };
        if let Some(due_ns) = kept.due_ns {
            self.due.remove(&(due_ns, Timer::Instance(uid)));
        }
        for (at, (due_ns, _)) in kept.checks {
            self.due.remove(&(due_ns, Timer::Check(uid, at)));
        }
        if let Some(open) = kept.open.and_then(|id| self.open.get_mut(&id)) {
            open.instances.remove(&uid);
        }
    }

    /// Opens a lease; none where there are too many.
    pub fn open(&mut self, now: Now, ttl_ms: Option<u64>) -> Option<LeaseId> {
        if self.open.len() >= OPEN_LEASES_MAX {
            return None;
        }
        self.last += 1;
        let id = LeaseId(self.last);
        let due_ns = ttl_ms.map(|ttl_ms| now.after_ms(ttl_ms));
        self.due.extend(due_ns.map(|due_ns| (due_ns, Timer::Open(id))));
        self.open.insert(id, Open { ttl_ms, due_ns, instances: BTreeSet::new() });
        Some(id)
    }

    pub fn is_open(&self, id: LeaseId) -> bool {
        self.open.contains_key(&id)
    }

    /// Says whether there is such a lease.
    pub fn renew_open(&mut self, now: Now, id: LeaseId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        if let Some(due_ns) = open.due_ns {
            self.due.remove(&(due_ns, Timer::Open(id)));
        }
        open.due_ns = open.ttl_ms.map(|ttl_ms| now.after_ms(ttl_ms));
        self.due.extend(open.due_ns.map(|due_ns| (due_ns, Timer::Open(id))));
        true
    }

    /// Ends a lease and hands back what hung on it.
    pub fn end(&mut self, id: LeaseId) -> Option<Vec<Uid>> {
        let open = self.open.remove(&id)?;
        if let Some(due_ns) = open.due_ns {
            self.due.remove(&(due_ns, Timer::Open(id)));
        }
        Some(open.instances.into_iter().collect())
    }
}
