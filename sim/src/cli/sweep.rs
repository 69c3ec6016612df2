//! Many seeds of the swarm, several at a time.

use super::{kind, real_now, seconds, seeds};
use crate::faults::FaultKind;
use crate::log;
use crate::swarm::{Options, Passed};
use crate::sweep::{self, Swept};
use clap::Args;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A seed takes well under a second. One that is at it for this long in real time never ends: time in its world stands still.
const STUCK_AFTER: Duration = Duration::from_secs(180);

#[derive(Args)]
pub struct SweepArguments {
    /// From the first to before the last.
    #[arg(long, value_name = "A..B", value_parser = seeds, required_unless_present = "from_commit")]
    seeds: Option<Range<u64>>,
    /// So many seeds that a commit's id chooses: each commit tries others, and tries the same again.
    #[arg(long, value_name = "COUNT", requires = "commit", conflicts_with = "seeds")]
    from_commit: Option<u64>,
    /// The commit's id, in hexadecimal.
    #[arg(long, value_parser = commit)]
    commit: Option<u64>,
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
    /// All in so many datacenters, instead of as many as each seed draws.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3))]
    datacenters: Option<u16>,
    /// A file of seeds, one a line, that failed once: they are run first.
    #[arg(long, value_name = "FILE")]
    and_of: Option<PathBuf>,
    /// From so many seeds on, fail if a kind of fault, an operation or a state of the engine was never exercised.
    #[arg(long, default_value_t = 150)]
    cover_from: usize,
    /// Print the hash over all runs, and nothing else where all passed.
    #[arg(long)]
    hash_only: bool,
}

/// The first 64 bits of a commit's id.
pub fn commit(text: &str) -> Result<u64, String> {
    let digits: String = text.chars().take(16).collect();
    u64::from_str_radix(&digits, 16).map_err(|error| format!("{text:?}: {error}"))
}

/// The seeds of a file; what follows a number on its line is for people.
fn failed_once(path: &Path) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seed = |line: &str| {
        let number = line.split_whitespace().next().unwrap_or_default();
        number.parse().map_err(|error| format!("{}: {line:?}: {error}", path.display()))
    };
    lines.map(seed).collect()
}

pub fn sweep(arguments: &SweepArguments) -> ExitCode {
    log::listen(None);
    // The report says it; the default hook would print every panic between the lines.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options { masked: arguments.without.iter().copied().collect(), datacenters: arguments.datacenters, ..Options::default() };
    let band = match (&arguments.seeds, arguments.from_commit, arguments.commit) {
        (Some(seeds), ..) => seeds.clone(),
        // Far above all seeds that people choose; a million bands, so that two commits rarely share one.
        (None, count, commit) => {
            let first = 1_000_000 + commit.unwrap_or(0) % 1_000_000 * 1_000;
            first..first + count.unwrap_or(0)
        }
    };
    let (began, told) = (real_now(), AtomicUsize::new(0));
    let under_way = watch();
    let at = |job, seed: Option<u64>| {
        let mut table = under_way.lock().expect("nobody panics with it");
        match seed {
            Some(seed) => table.insert(job, (seed, real_now())),
            None => table.remove(&job),
        };
    };
    let go_on = |swept: &Swept| {
        if swept.failures.len() > told.swap(swept.failures.len(), Ordering::Relaxed)
            && let Some((_, failure)) = swept.failures.last()
        {
            println!("{failure}\n");
        }
        if swept.count().is_multiple_of(25) && !arguments.hash_only {
            eprintln!("{} seeds, {} failed, {:.1} s", swept.count(), swept.failures.len(), began.elapsed().as_secs_f64());
        }
        let is_spent = arguments.budget.is_some_and(|budget| began.elapsed() > budget);
        !is_spent && (arguments.keep_going || swept.failures.is_empty())
    };
    let first = match arguments.and_of.as_deref().map(failed_once).transpose() {
        Ok(first) => first.unwrap_or_default(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let all: Vec<u64> = first.into_iter().chain(band.clone()).collect();
    let swept = sweep::sweep(&all, arguments.jobs, &options, &at, &go_on);
    let is_vacuous = swept.count() >= arguments.cover_from && options.masked.is_empty() && !swept.never().is_empty();
    if arguments.hash_only {
        println!("{:016x}", swept.hash());
    } else {
        println!("seeds from {} on", band.start);
        summarise(&swept, began.elapsed());
    }
    if is_vacuous {
        println!("FAILED: never exercised in {} seeds: {}", swept.count(), swept.never().join(", "));
    }
    if swept.failures.is_empty() && !is_vacuous { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What each job is at, and since when.
type UnderWay = Arc<Mutex<BTreeMap<usize, (u64, Instant)>>>;

/// Ends the process where a seed does not end: a sweep must fail then, not hang.
#[expect(clippy::disallowed_methods, reason = "it looks at real time, beside all worlds")]
fn watch() -> UnderWay {
    let under_way = UnderWay::default();
    let watched = Arc::clone(&under_way);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let table = watched.lock().expect("nobody panics with it");
            if let Some((seed, _)) = table.values().find(|(_, since)| since.elapsed() > STUCK_AFTER) {
                println!("FAILED: seed {seed} does not end; to see how far it comes: tidings-sim replay --seed {seed}");
                std::process::exit(1);
            }
        }
    });
    under_way
}

fn summarise(swept: &Swept, took: Duration) {
    for (what, times) in &swept.coverage() {
        println!("  {times:>8} {what}");
    }
    for what in swept.never() {
        println!("  {:>8} {what}", "never");
    }
    let middle = |of: fn(&Passed) -> u64| {
        let mut values: Vec<u64> = swept.passed.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    println!(
        "{} seeds passed, {} failed in {:.1} s; at the median {} agents, {} kinds of fault, {} operations, {} virtual s, whole {:.1} s after calm; hash {:016x}",
        swept.passed.len(),
        swept.failures.len(),
        took.as_secs_f64(),
        middle(|passed| passed.agents as u64),
        middle(|passed| passed.kinds as u64),
        middle(|passed| passed.operations as u64),
        middle(|passed| passed.virtual_ns) / 1_000_000_000,
        middle(|passed| passed.healed_ns) as f64 / 1e9,
        swept.hash(),
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
