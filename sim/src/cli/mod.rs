//! What the command line's verbs do: one file each, and here what they share.

mod experiments;
mod replay;
mod run;
mod sabotage;
mod scenario;
mod shrink;
mod sweep;

pub use experiments::{
    DeathsArguments, DetectArguments, LifeguardArguments, RapidArguments, RepairArguments, ScaleArguments, SpreadArguments,
    WanCutArguments, deaths, detect, lifeguard, rapid, repair, scale, spread, wan_cut,
};
pub use replay::{ReplayArguments, replay};
pub use run::{RunArguments, run};
pub use sabotage::{SabotageArguments, sabotage};
pub use scenario::{ScenarioArguments, scenario};
pub use shrink::{ShrinkArguments, shrink};
pub use sweep::{SweepArguments, sweep};

use crate::faults::FaultKind;
use crate::report::Failure;
use crate::swarm::{Options, Passed};
use crate::world::HostId;
use clap::Args;
use std::ops::Range;
use std::time::{Duration, Instant};
use tidings::engine::sabotage::Rule;

/// How a seed is run: what `run`, `replay` and `shrink` have in common.
#[derive(Args)]
pub struct HowArguments {
    /// Kinds of fault to leave out, by name.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    without: Vec<FaultKind>,
    /// In so many datacenters, instead of as many as the seed draws.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3))]
    datacenters: Option<u16>,
    /// Break this rule of the engine (needs `--features sabotage`).
    #[arg(long, value_name = "RULE", value_parser = rule)]
    sabotage: Option<String>,
    /// Keep tombstones so long only.
    #[arg(long)]
    tombstone_ms: Option<u64>,
}

impl HowArguments {
    fn options(&self) -> Options {
        Options {
            masked: self.without.iter().copied().collect(),
            datacenters: self.datacenters,
            sabotage: self.sabotage.clone(),
            tombstone_ms: self.tombstone_ms,
        }
    }
}

fn kind(name: &str) -> Result<FaultKind, String> {
    let known = || FaultKind::ALL.map(FaultKind::name).join(", ");
    FaultKind::from_name(name).ok_or_else(|| format!("no such kind of fault; there are {}", known()))
}

/// The name of a rule that can be broken in this build.
fn rule(name: &str) -> Result<String, String> {
    if !cfg!(feature = "sabotage") {
        return Err("no rule can be broken in this build: run it with --features sabotage".into());
    }
    let known = || Rule::ALL.map(Rule::name).join(", ");
    Rule::from_name(name).map(|rule| rule.name().to_owned()).ok_or_else(|| format!("no such rule; there are {}", known()))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are a range, as in 0..500")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.trim_end_matches('s').parse().map(Duration::from_secs).map_err(|error| format!("{text:?}: {error}"))
}

/// `h3` or `3`.
fn host(text: &str) -> Result<HostId, String> {
    text.trim_start_matches('h').parse().map(HostId).map_err(|error| format!("{text:?}: {error}; hosts are h0, h1, ..."))
}

/// Virtual seconds, as nanoseconds.
fn virtual_seconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|error| format!("{text:?}: {error}"))?;
    if (0.0..1e9).contains(&seconds) { Ok((seconds * 1e9) as u64) } else { Err(format!("{text:?} lies outside of any run")) }
}

/// The one place where real time is read: budgets and rates are people's, never a run's.
#[expect(clippy::disallowed_methods, reason = "budgets and rates are people's; no run sees them")]
pub fn real_now() -> Instant {
    Instant::now()
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
