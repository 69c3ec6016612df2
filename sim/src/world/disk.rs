//! A host's disk: the fold of what was synced, what is on its way there, and what of it a crash leaves.

use crate::rng::Rng;
use std::collections::VecDeque;
use tidings::engine::catalog::copy::Copied;
use tidings::engine::io::{Mark, Restored, StoreOp};

/// What a process finds when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFate {
    /// All that was reported durable, and perhaps some of what was on its way.
    Intact,
    /// The disk lied: of what it called durable, this many transactions from the end are gone. Each is whole or not there.
    LostTail { transactions: usize },
    /// Somebody restored a copy made at this instant.
    RolledBack { to: u64 },
    /// A new data directory.
    Wiped,
}

/// How long a sync takes.
#[derive(Debug, Clone, Copy)]
pub struct SyncTimes {
    pub ns_min: u64,
    pub ns_max: u64,
    /// Now and then the device is busy with something else for up to this long.
    pub stall_ns_max: u64,
    pub stall_chance: f64,
}

impl Default for SyncTimes {
    fn default() -> Self {
        Self { ns_min: 500_000, ns_max: 4_000_000, stall_ns_max: 150_000_000, stall_chance: 0.002 }
    }
}

#[derive(Debug)]
pub struct Disk {
    rng: Rng,
    pub times: SyncTimes,
    /// While it is full, syncs fail.
    pub is_full: bool,
    durable: Restored,
    /// All that became durable, with the instant it did: older copies are folds of its beginnings.
    log: Vec<(u64, Vec<StoreOp>)>,
    waiting: VecDeque<(Mark, Vec<StoreOp>)>,
    /// How many of those waiting the running sync takes along.
    syncing: usize,
    has_failed: bool,
}

/// That a process had copied its catalog when it died.
const COPIED_CHANCE: f64 = 0.5;

/// How long the store leaves a disk alone that failed.
const RETRY_NS: u64 = 1_000_000_000;

/// A copy of a disk.
#[derive(Debug, Clone)]
pub struct Copy {
    durable: Restored,
    log: Vec<(u64, Vec<StoreOp>)>,
}

/// What came of a sync.
#[derive(Debug, PartialEq, Eq)]
pub enum Synced {
    Durable(Mark),
    Failed(Mark),
}

impl Disk {
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            times: SyncTimes::default(),
            is_full: false,
            durable: Restored::default(),
            log: Vec::new(),
            waiting: VecDeque::new(),
            syncing: 0,
            has_failed: false,
        }
    }

    /// What would be found if the process started now.
    pub fn durable(&self) -> &Restored {
        &self.durable
    }

    /// The process copied what it knows of others just before it died, or long ago: then what an earlier life copied is still there.
    pub fn keep_copies(&mut self, copies: impl FnOnce() -> Vec<Copied>) {
        if self.rng.chance(COPIED_CHANCE) && !self.is_full {
            self.durable.copies = copies();
        }
    }

    /// All that is durable, as a backup takes it.
    pub fn copy(&self) -> Copy {
        Copy { durable: self.durable.clone(), log: self.log.clone() }
    }

    /// Puts a copy in the place of what is there.
    pub fn restore(&mut self, copy: Copy) {
        self.durable = copy.durable;
        self.log = copy.log;
    }

    /// Takes operations in; says how long the sync takes that this starts, if none is running.
    pub fn persist(&mut self, mark: Mark, ops: Vec<StoreOp>) -> Option<u64> {
        self.waiting.push_back((mark, ops));
        if self.syncing > 0 { None } else { self.begin() }
    }

    /// Ends the running sync.
    pub fn synced(&mut self, at: u64) -> Option<Synced> {
        let taken = std::mem::take(&mut self.syncing);
        if self.is_full {
            // The store keeps what it could not write, and tries again.
            self.has_failed = true;
            return taken.checked_sub(1).and_then(|last| self.waiting.get(last)).map(|(mark, _)| Synced::Failed(*mark));
        }
        self.has_failed = false;
        let mut last = None;
        for _ in 0..taken {
            let (mark, ops) = self.waiting.pop_front()?;
            self.write(at, ops);
            last = Some(mark);
        }
        last.map(Synced::Durable)
    }

    /// Starts the next sync if something waits; says how long it takes.
    pub fn begin(&mut self) -> Option<u64> {
        self.syncing = self.waiting.len();
        let took = self.rng.between(self.times.ns_min, self.times.ns_max);
        let stall = self.rng.between(0, self.times.stall_ns_max);
        let stalls = self.rng.chance(self.times.stall_chance);
        let pause = if self.has_failed { RETRY_NS } else { 0 };
        (self.syncing > 0).then_some(pause + took + if stalls { stall } else { 0 })
    }

    /// The process dies: what its running sync had taken along may or may not have reached the disk, in order.
    pub fn crash(&mut self, at: u64) {
        let reached = self.rng.between(0, self.syncing as u64);
        for (_, ops) in self.waiting.drain(..).take(reached as usize).collect::<Vec<_>>() {
            if !self.is_full {
                self.write(at, ops);
            }
        }
        self.waiting.clear();
        (self.syncing, self.has_failed) = (0, false);
    }

    /// Makes the disk what a fate says; what is undone is undone for good.
    pub fn suffer(&mut self, fate: DiskFate) {
        let keep = match fate {
            DiskFate::Intact => return,
            DiskFate::LostTail { transactions } => self.log.len().saturating_sub(transactions),
            DiskFate::RolledBack { to } => self.log.partition_point(|(at, _)| *at <= to),
            DiskFate::Wiped => 0,
        };
        self.log.truncate(keep);
        // A file of its own: an older store may lie beside a newer copy.
        let copies = std::mem::take(&mut self.durable.copies);
        self.durable = Restored { copies: if fate == DiskFate::Wiped { Vec::new() } else { copies }, ..Restored::default() };
        for op in self.log.iter().flat_map(|(_, ops)| ops) {
            self.durable.apply(op.clone());
        }
    }

    /// What becomes durable.
    pub fn write(&mut self, at: u64, ops: Vec<StoreOp>) {
        for op in &ops {
            self.durable.apply(op.clone());
        }
        self.log.push((at, ops));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(writes: u64) -> Disk {
        let mut disk = Disk::new(Rng::new(1, "disk", 0));
        for n in 1..=writes {
            assert!(disk.persist(Mark(n), vec![StoreOp::Revision(n)]).is_some());
            assert_eq!(disk.synced(n * 10), Some(Synced::Durable(Mark(n))));
        }
        disk
    }

    #[test]
    fn one_sync_takes_along_what_waited_when_it_began() {
        let mut disk = disk_with(0);
        assert!(disk.persist(Mark(1), vec![]).is_some());
        assert!(disk.persist(Mark(2), vec![]).is_none(), "the next sync takes it");
        assert!(disk.persist(Mark(3), vec![]).is_none());
        assert_eq!(disk.synced(5), Some(Synced::Durable(Mark(1))));
        assert!(disk.begin().is_some());
        assert_eq!(disk.synced(9), Some(Synced::Durable(Mark(3))));
        assert!(disk.begin().is_none());
    }

    #[test]
    fn a_crash_keeps_what_was_durable_and_at_most_what_was_being_synced() {
        for seed in 0..20 {
            let mut disk = disk_with(2);
            disk.rng = Rng::new(seed, "disk", 0);
            let _ = disk.persist(Mark(3), vec![StoreOp::Revision(3)]);
            let _ = disk.persist(Mark(4), vec![StoreOp::Revision(4)]);
            disk.crash(30);
            assert!((2..=3).contains(&disk.durable().revision));
            assert!(disk.begin().is_none(), "nothing waits in a dead process");
        }
    }

    #[test]
    fn fates_leave_what_they_say() {
        let after = |fate| {
            let mut disk = disk_with(5);
            disk.suffer(fate);
            disk.durable().revision
        };
        assert_eq!(after(DiskFate::Intact), 5);
        assert_eq!(after(DiskFate::LostTail { transactions: 2 }), 3);
        assert_eq!(after(DiskFate::RolledBack { to: 20 }), 2);
        assert_eq!(after(DiskFate::Wiped), 0);
    }

    #[test]
    fn a_full_disk_fails_the_sync_and_what_it_refused_is_written_later() {
        let mut disk = disk_with(2);
        disk.is_full = true;
        let _ = disk.persist(Mark(3), vec![StoreOp::Revision(3)]);
        assert_eq!(disk.synced(30), Some(Synced::Failed(Mark(3))));
        assert_eq!(disk.durable().revision, 2);
        disk.is_full = false;
        assert!(disk.begin().is_some_and(|took| took >= RETRY_NS));
        assert_eq!(disk.synced(40), Some(Synced::Durable(Mark(3))));
        assert_eq!(disk.durable().revision, 3);
    }
}
