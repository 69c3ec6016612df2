//! Many seeds of the swarm, several at a time.

use super::{kind, real_now, seconds, seeds};
use crate::faults::FaultKind;
use crate::log;
use crate::report::Failure;
use crate::swarm::{self, Options, Passed};
use clap::Args;
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Args)]
pub struct SweepArguments {
    /// From the first to before the last.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Range<u64>,
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Start no more seeds after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    budget: Option<Duration>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    without: Vec<FaultKind>,
}

/// What a sweep found.
#[derive(Default)]
struct Swept {
    passed: Vec<Passed>,
    failures: Vec<(u64, Box<Failure>)>,
}

pub fn sweep(arguments: &SweepArguments) -> ExitCode {
    log::listen(None);
    // The report says it; the default hook would print every panic between the lines.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options { masked: arguments.without.iter().copied().collect(), sabotage: None, tombstone_ms: None };
    let began = real_now();
    let next = AtomicU64::new(arguments.seeds.start);
    let swept = Mutex::new(Swept::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seeds.end || arguments.budget.is_some_and(|budget| began.elapsed() > budget) {
                        return;
                    }
                    let outcome = swarm::run_seed(seed, &options);
                    let mut swept = swept.lock().expect("no seed panics outside its own net");
                    match outcome {
                        Ok(passed) => swept.passed.push(passed),
                        Err(failure) => {
                            println!("{failure}\n");
                            swept.failures.push((seed, failure));
                            if !arguments.keep_going {
                                next.store(u64::MAX / 2, Ordering::Relaxed);
                            }
                        }
                    }
                    let done = swept.passed.len() + swept.failures.len();
                    if done.is_multiple_of(25) {
                        eprintln!("{done} seeds, {} failed, {:.1} s", swept.failures.len(), began.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let mut swept = swept.into_inner().expect("no seed panics outside its own net");
    swept.passed.sort_by_key(|passed| passed.seed);
    summarise(&swept, began.elapsed());
    if swept.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summarise(swept: &Swept, took: Duration) {
    let mut coverage: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, times) in swept.passed.iter().flat_map(|passed| &passed.coverage) {
        *coverage.entry(what).or_default() += times;
    }
    for (what, times) in &coverage {
        println!("  {times:>8} {what}");
    }
    for kind in FaultKind::ALL.into_iter().filter(|kind| !coverage.contains_key(format!("fault {kind}").as_str())) {
        println!("  never struck: {kind}");
    }
    let middle = |of: fn(&Passed) -> u64| {
        let mut values: Vec<u64> = swept.passed.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let hash = swept.passed.iter().fold(0_u64, |hash, passed| hash.rotate_left(7) ^ passed.hash);
    println!(
        "{} seeds passed, {} failed in {:.1} s; at the median {} agents, {} kinds of fault, {} operations, {} virtual s, whole {:.1} s after calm; hash {hash:016x}",
        swept.passed.len(),
        swept.failures.len(),
        took.as_secs_f64(),
        middle(|passed| passed.agents as u64),
        middle(|passed| passed.kinds as u64),
        middle(|passed| passed.operations as u64),
        middle(|passed| passed.virtual_ns) / 1_000_000_000,
        middle(|passed| passed.healed_ns) as f64 / 1e9,
    );
    if !swept.failures.is_empty() {
        let mut by_checker: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (seed, failure) in &swept.failures {
            by_checker.entry(failure.violation.checker).or_default().push(*seed);
        }
        for (checker, seeds) in by_checker {
            println!("failed {checker}: seeds {seeds:?}");
        }
    }
}
