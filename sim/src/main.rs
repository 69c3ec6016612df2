//! The simulator's command line.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tidings_sim::cli;

/// Whole clusters of tidings in virtual time: finds what tests do not, and shows it again.
#[derive(Parser)]
#[command(name = "tidings-sim", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One seed of the swarm.
    Run(cli::RunArguments),
    /// Many seeds of the swarm, until one fails or the budget is used up.
    Sweep(cli::SweepArguments),
    /// What happened in a seed, line by line, up to an instant.
    Replay(cli::ReplayArguments),
    /// The least of a failing seed that still fails, as a scenario file.
    Shrink(cli::ShrinkArguments),
    /// A named history or a scenario file, or all histories.
    Scenario(cli::ScenarioArguments),
    /// How long one change takes to reach all agents, and what it costs.
    Spread(cli::SpreadArguments),
    /// How long the dead are still handed out.
    Detect(cli::DetectArguments),
    /// How fast the simulator is, by the number of agents.
    Scale(cli::ScaleArguments),
    /// What the death of an agent, or of many at once, costs, and how soon it shows.
    Deaths(cli::DeathsArguments),
    /// What it takes to find and mend a difference between a few origins, and between two halves that were apart.
    Repair(cli::RepairArguments),
    /// What a cut between two datacenters does to either, and what it takes to mend.
    WanCut(cli::WanCutArguments),
    /// The cases of the Rapid paper: many start at once, ten of a thousand crash, are reached or heard badly.
    Rapid(cli::RapidArguments),
    /// The detector against plain SWIM, where members stand still again and again.
    Lifeguard(cli::LifeguardArguments),
    /// Breaks rules of the engine, one at a time, and looks how soon each is found (needs `--features sabotage`).
    Sabotage(cli::SabotageArguments),
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Run(arguments) => cli::run(&arguments),
        Verb::Sweep(arguments) => cli::sweep(&arguments),
        Verb::Replay(arguments) => cli::replay(&arguments),
        Verb::Shrink(arguments) => cli::shrink(&arguments),
        Verb::Scenario(arguments) => cli::scenario(&arguments),
        Verb::Spread(arguments) => cli::spread(&arguments),
        Verb::Detect(arguments) => cli::detect(&arguments),
        Verb::Scale(arguments) => cli::scale(&arguments),
        Verb::Deaths(arguments) => cli::deaths(&arguments),
        Verb::Repair(arguments) => cli::repair(&arguments),
        Verb::WanCut(arguments) => cli::wan_cut(&arguments),
        Verb::Rapid(arguments) => cli::rapid(&arguments),
        Verb::Lifeguard(arguments) => cli::lifeguard(&arguments),
        Verb::Sabotage(arguments) => cli::sabotage(&arguments),
    }
}
