//! Many seeds, several at a time: one verdict, one hash over all, and what was exercised.
//!
//! A run depends on its seed alone and results are put in the order of seeds, so the hash is the same with any number of jobs.

use crate::faults::FaultKind;
use crate::plan::Intent;
use crate::report::Failure;
use crate::states;
use crate::swarm::{self, Options, Passed};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a sweep found.
#[derive(Default)]
pub struct Swept {
    /// By seed.
    pub passed: Vec<Passed>,
    pub failures: Vec<(u64, Box<Failure>)>,
}

/// Runs seeds in `jobs` threads. `at` is told what each job is at, and none once it is done with that; after each, `go_on` is told how far
/// things are and says whether to begin another.
pub fn sweep(
    seeds: &[u64],
    jobs: usize,
    options: &Options,
    at: &(dyn Fn(usize, Option<u64>) + Sync),
    go_on: &(dyn Fn(&Swept) -> bool + Sync),
) -> Swept {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let swept = Mutex::new(Swept::default());
    std::thread::scope(|scope| {
        for job in 0..jobs.max(1) {
            let (next, is_over, swept) = (&next, &is_over, &swept);
            scope.spawn(move || {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_over.load(Ordering::Relaxed)) {
                    at(job, Some(*seed));
                    let outcome = swarm::run_seed(*seed, options);
                    at(job, None);
                    let mut swept = swept.lock().expect("no seed panics outside its own net");
                    match outcome {
                        Ok(passed) => swept.passed.push(passed),
                        Err(failure) => swept.failures.push((*seed, failure)),
                    }
                    if !go_on(&swept) {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut swept = swept.into_inner().expect("no seed panics outside its own net");
    swept.passed.sort_by_key(|passed| passed.seed);
    swept.failures.sort_by_key(|(seed, _)| *seed);
    swept
}

impl Swept {
    pub fn count(&self) -> usize {
        self.passed.len() + self.failures.len()
    }

    /// One number over all runs that passed, in the order of their seeds.
    pub fn hash(&self) -> u64 {
        self.passed.iter().fold(0, |hash: u64, passed| hash.rotate_left(7) ^ passed.hash ^ passed.seed)
    }

    /// How often what was exercised.
    pub fn coverage(&self) -> BTreeMap<String, u64> {
        let mut coverage = BTreeMap::new();
        for (what, times) in self.passed.iter().flat_map(|passed| &passed.coverage) {
            *coverage.entry(what.clone()).or_default() += times;
        }
        coverage
    }

    /// What was never exercised: kinds of fault, operations that were done, states of the engine.
    pub fn never(&self) -> Vec<String> {
        let coverage = self.coverage();
        let is_far = FaultKind::ALL.into_iter().any(|kind| kind.is_far() && coverage.contains_key(&fault(kind)));
        wanted(is_far).filter(|what| coverage.get(what).is_none_or(|times| *times == 0)).collect()
    }
}

/// What a sweep must exercise, in one datacenter or in several.
fn wanted(is_far: bool) -> impl Iterator<Item = String> {
    let faults = FaultKind::ALL.into_iter().filter(move |kind| is_far || !kind.is_far()).map(fault);
    let operations = Intent::ALL.into_iter().map(|intent| format!("{} acknowledged", intent.name()));
    faults.chain(operations).chain(states::names(is_far).map(state))
}

/// A kind of fault, as it is counted.
pub fn fault(kind: FaultKind) -> String {
    format!("fault {kind}")
}

/// A state of the engine, as it is counted.
pub fn state(name: &str) -> String {
    format!("state {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_with_any_number_of_jobs_and_another_for_other_seeds() {
        crate::log::listen(None);
        let hash = |seeds: &[u64], jobs| sweep(seeds, jobs, &Options::default(), &|_, _| {}, &|_| true).hash();
        let one = hash(&[4, 7], 1);
        assert_eq!(one, hash(&[7, 4], 2));
        assert_ne!(one, hash(&[4], 1));
    }

    #[test]
    fn what_was_never_exercised_is_named_and_what_was_is_not() {
        let mut swept = Swept::default();
        assert_eq!(swept.never().len(), wanted(false).count());
        let coverage = wanted(true).filter(|what| what != "fault split").map(|what| (what, 1)).collect();
        swept.passed.push(Passed {
            seed: 1,
            hash: 0,
            agents: 3,
            kinds: 0,
            operations: 0,
            virtual_ns: 0,
            events: 0,
            healed_ns: 0,
            coverage,
        });
        assert_eq!(swept.never(), ["fault split"]);
    }

    #[test]
    fn a_sweep_ends_when_it_is_told_to() {
        crate::log::listen(None);
        let swept = sweep(&(0..50).collect::<Vec<_>>(), 1, &Options::default(), &|_, _| {}, &|_| false);
        assert_eq!(swept.count(), 1);
    }
}
