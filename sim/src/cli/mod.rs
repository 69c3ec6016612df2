//! What the command line's verbs do.

use crate::experiments::{detect, spread};
use crate::faults::FaultKind;
use crate::log;
use crate::report::Failure;
use crate::scenarios;
use crate::swarm::{self, Options, Passed};
use crate::violation::Violation;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct RunArguments {
    #[arg(long)]
    seed: u64,
    /// Kinds of fault to leave out, by name.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    without: Vec<FaultKind>,
    /// Show the engines' logs down to this level.
    #[arg(long, value_name = "LEVEL")]
    trace: Option<tracing::Level>,
    /// Show all events that are remembered of the hosts concerned, packets included.
    #[arg(long)]
    packets: bool,
    /// Break this rule of the engine (needs `--features sabotage`).
    #[arg(long)]
    sabotage: Option<String>,
    /// Keep tombstones so long only.
    #[arg(long)]
    tombstone_ms: Option<u64>,
}

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

#[derive(Args)]
pub struct ScenarioArguments {
    /// None: lists them.
    name: Option<String>,
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Show all events that are remembered of the hosts concerned, packets included.
    #[arg(long)]
    packets: bool,
    #[arg(long, value_name = "LEVEL")]
    trace: Option<tracing::Level>,
}

#[derive(Args)]
pub struct SpreadArguments {
    #[arg(long, default_value_t = 100)]
    nodes: u32,
    /// The share of datagrams that are lost.
    #[arg(long, default_value_t = 0.05)]
    loss: f64,
    #[arg(long, default_value_t = 50)]
    trials: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct DetectArguments {
    #[arg(long, default_value_t = 10)]
    nodes: u32,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Deaths of each kind: killed, frozen, unplugged.
    #[arg(long, default_value_t = 20)]
    deaths: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct SabotageArguments {
    /// The rule to break.
    #[arg(required_unless_present = "all")]
    rule: Option<String>,
    /// Every rule in turn.
    #[arg(long)]
    all: bool,
    /// Seeds tried for each.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
}

fn kind(name: &str) -> Result<FaultKind, String> {
    let known = || FaultKind::ALL.map(FaultKind::name).join(", ");
    FaultKind::from_name(name).ok_or_else(|| format!("no such kind of fault; there are {}", known()))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are a range, as in 0..500")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.trim_end_matches('s').parse().map(Duration::from_secs).map_err(|error| format!("{text:?}: {error}"))
}

/// The one place where real time is read: budgets and rates are people's, never a run's.
#[expect(clippy::disallowed_methods, reason = "budgets and rates are people's; no run sees them")]
pub fn real_now() -> Instant {
    Instant::now()
}

pub fn run(arguments: &RunArguments) -> ExitCode {
    log::listen(arguments.trace);
    let options = Options {
        masked: arguments.without.iter().copied().collect(),
        sabotage: arguments.sabotage.clone(),
        tombstone_ms: arguments.tombstone_ms,
    };
    let began = real_now();
    match swarm::run_seed(arguments.seed, &options) {
        Ok(passed) => {
            println!("{}", line(&passed));
            for (what, times) in &passed.coverage {
                println!("  {times:>6} {what}");
            }
            println!("took {:.3} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print_failure(&failure, arguments.packets);
            ExitCode::FAILURE
        }
    }
}

pub fn scenario(arguments: &ScenarioArguments) -> ExitCode {
    log::listen(arguments.trace);
    let is_wanted = |name: &str| arguments.all || arguments.name.as_deref() == Some(name);
    let (mut played, mut failed) = (0, 0);
    for scenario in scenarios::all() {
        if arguments.name.is_none() && !arguments.all {
            println!("{:<28} {}", scenario.name, scenario.about);
            continue;
        }
        if !is_wanted(scenario.name) {
            continue;
        }
        played += 1;
        let began = real_now();
        match scenario.play() {
            Ok((virtual_ns, hash)) => println!(
                "passed {:<28} {:>6.0} virtual s in {:>6.2} s, hash {hash:016x}",
                scenario.name,
                virtual_ns as f64 / 1e9,
                began.elapsed().as_secs_f64()
            ),
            Err(failure) => {
                failed += 1;
                print_failure(&failure, arguments.packets);
            }
        }
    }
    if let (0, Some(name)) = (played, &arguments.name) {
        eprintln!("no scenario is called {name}; without a name they are listed");
        return ExitCode::from(2);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn spread(arguments: &SpreadArguments) -> ExitCode {
    log::listen(None);
    let SpreadArguments { nodes, loss, trials, seed, json } = *arguments;
    print_figures(&spread::measure(&spread::Settings { seed, nodes, loss, trials }), json)
}

pub fn detect(arguments: &DetectArguments) -> ExitCode {
    log::listen(None);
    let DetectArguments { nodes, loss, deaths, seed, json } = *arguments;
    print_figures(&detect::measure(&detect::Settings { seed, nodes, loss, deaths }), json)
}

#[cfg(not(feature = "sabotage"))]
pub fn sabotage(_: &SabotageArguments) -> ExitCode {
    eprintln!("no rule can be broken in this build; run it with --features sabotage");
    ExitCode::from(2)
}

#[cfg(feature = "sabotage")]
pub fn sabotage(arguments: &SabotageArguments) -> ExitCode {
    use tidings::engine::sabotage::Rule;
    log::listen(None);
    std::panic::set_hook(Box::new(|_| {}));
    let named = arguments.rule.as_deref().map(Rule::from_name);
    if named == Some(None) {
        let names = Rule::ALL.map(Rule::name).join(", ");
        eprintln!("no such rule; there are {names}");
        return ExitCode::from(2);
    }
    let rules = named.flatten().map_or(Rule::ALL.to_vec(), |rule| vec![rule]);
    let mut missed = 0;
    for rule in rules {
        // Nobody waits ten minutes for a tombstone to go; and only where some have gone, snapshots are taken within an epoch.
        let is_about_tombstones = matches!(rule, Rule::TombstonesByAge | Rule::SnapshotRemovesNewer);
        let sound = Options { tombstone_ms: is_about_tombstones.then_some(20_000), ..Options::default() };
        let broken = Options { sabotage: Some(rule.name().into()), ..sound.clone() };
        // Only what passes with the rule in force counts as found by breaking it.
        let find = |seed| swarm::run_seed(seed, &broken).err().filter(|_| swarm::run_seed(seed, &sound).is_ok());
        match (0..arguments.seeds).find_map(|seed| find(seed).map(|failure| (seed, failure))) {
            Some((seed, failure)) => println!("{:<24} found by seed {seed:>3}: {}", rule.name(), failure.violation.checker),
            None => {
                missed += 1;
                println!("{:<24} NOT FOUND within {} seeds", rule.name(), arguments.seeds);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_figures<F: Display + Serialize>(figures: &Result<F, Violation>, is_json: bool) -> ExitCode {
    match figures {
        Ok(figures) if is_json => println!("{}", serde_json::to_string_pretty(figures).expect("figures are numbers and names")),
        Ok(figures) => println!("{figures}"),
        Err(violation) => {
            println!("FAILED {violation}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn print_failure(failure: &Failure, with_packets: bool) {
    for event in failure.all_events.iter().filter(|_| with_packets) {
        println!("  {event}");
    }
    println!("{failure}\n");
}

fn line(passed: &Passed) -> String {
    format!(
        "seed {} passed: {} agents, {} kinds of fault, {} operations, {:.0} virtual s, {} events, whole {:.1} s after calm, hash {:016x}",
        passed.seed,
        passed.agents,
        passed.kinds,
        passed.operations,
        passed.virtual_ns as f64 / 1e9,
        passed.events,
        passed.healed_ns as f64 / 1e9,
        passed.hash,
    )
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
