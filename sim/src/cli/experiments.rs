//! Figures of whole clusters.

use crate::experiments::{detect, spread};
use crate::log;
use crate::violation::Violation;
use clap::Args;
use serde::Serialize;
use std::fmt::Display;
use std::process::ExitCode;

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
