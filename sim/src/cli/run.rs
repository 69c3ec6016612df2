//! One seed of the swarm.

use super::{HowArguments, line, print_failure, real_now};
use crate::log;
use crate::swarm;
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct RunArguments {
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    how: HowArguments,
    /// Show the engines' logs down to this level.
    #[arg(long, value_name = "LEVEL")]
    trace: Option<tracing::Level>,
    /// Show all events that are remembered of the hosts concerned, packets included.
    #[arg(long)]
    packets: bool,
}

pub fn run(arguments: &RunArguments) -> ExitCode {
    log::listen(arguments.trace);
    let began = real_now();
    match swarm::run_seed(arguments.seed, &arguments.how.options()) {
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
