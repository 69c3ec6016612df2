//! The least of a failing seed that still fails, as a scenario file.

use super::{HowArguments, print_failure, real_now};
use crate::found::{self, Found};
use crate::log;
use crate::plan::Plan;
use crate::shrink::{ATTEMPTS_MAX, Shrinker};
use crate::swarm;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub struct ShrinkArguments {
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    how: HowArguments,
    /// Whole runs that the search may take.
    #[arg(long, default_value_t = ATTEMPTS_MAX)]
    attempts: u32,
    /// Write the scenario here instead of printing it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn shrink(arguments: &ShrinkArguments) -> ExitCode {
    log::listen(None);
    // Attempts that panic are findings, not accidents.
    std::panic::set_hook(Box::new(|_| {}));
    let options = arguments.how.options();
    let plan = options.plan(arguments.seed);
    let again = || swarm::again(arguments.seed, &options);
    let Err(failure) = swarm::run_plan(&plan, &options, &again) else {
        eprintln!("seed {} passes: there is nothing to cut down", arguments.seed);
        return ExitCode::from(2);
    };
    let checker = failure.violation.checker;
    let (began, mut tried) = (real_now(), 0);
    let mut fails = |plan: &Plan| {
        tried += 1;
        let fails = swarm::run_plan(plan, &options, &again).is_err_and(|failure| failure.violation.checker == checker);
        if fails {
            let (kinds, strokes, operations) = (plan.kinds.len(), plan.faults.len(), plan.operations.len());
            eprint!(
                "\r{tried:>4} tried: {} hosts, {kinds} kinds of fault, {strokes} strokes, {operations} operations   ",
                plan.hosts.len()
            );
        }
        fails
    };
    let (small, attempts) = Shrinker::new(plan, arguments.attempts, &mut fails).search();
    eprintln!("\n{attempts} runs in {:.1} s", began.elapsed().as_secs_f64());
    let shown = arguments.output.clone().unwrap_or_else(|| "FILE".into());
    let again = || found::again(&shown, options.sabotage.as_deref());
    let Err(failure) = swarm::run_plan(&small, &options, &again) else {
        eprintln!("what was cut down passes now: this run is not the one before, and that is a defect of the simulator");
        return ExitCode::FAILURE;
    };
    let found = Found {
        about: format!("cut down from seed {}{options}: expected {}", arguments.seed, failure.violation.expected),
        checker: checker.into(),
        open: None,
        tombstone_ms: options.tombstone_ms,
        plan: small,
    };
    match &arguments.output {
        None => print!("{}", found.to_text()),
        Some(path) => {
            if let Err(error) = std::fs::write(path, found.to_text()) {
                eprintln!("{}: {error}", path.display());
                return ExitCode::from(2);
            }
            print_failure(&failure, false);
        }
    }
    ExitCode::SUCCESS
}
