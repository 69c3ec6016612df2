//! Histories with names, and scenario files.

use super::{line, print_failure, real_now};
use crate::found::Found;
use crate::log;
use crate::scenarios;
use clap::Args;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct ScenarioArguments {
    /// A name, or a file that `shrink` wrote. None: lists the names.
    #[arg(value_name = "NAME|FILE")]
    name: Option<String>,
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Break this rule of the engine while a file is played (needs `--features sabotage`).
    #[arg(long, value_name = "RULE", value_parser = super::rule, requires = "name")]
    sabotage: Option<String>,
    /// Show all events that are remembered of the hosts concerned, packets included.
    #[arg(long)]
    packets: bool,
    #[arg(long, value_name = "LEVEL")]
    trace: Option<tracing::Level>,
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
    if let (0, Some(file)) = (played, arguments.name.as_ref().map(Path::new).filter(|path| path.extension().is_some())) {
        return play(file, arguments);
    }
    if let (0, Some(name)) = (played, &arguments.name) {
        eprintln!("no scenario is called {name}; without a name they are listed");
        return ExitCode::from(2);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(file: &Path, arguments: &ScenarioArguments) -> ExitCode {
    let found = match Found::read(file) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    println!("{}", found.about);
    if let Some(why) = &found.open {
        println!("open: {why}");
    }
    match found.play(file, arguments.sabotage.as_deref()) {
        Ok(passed) => println!("{}", line(&passed)),
        Err(failure) => {
            print_failure(&failure, arguments.packets);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
