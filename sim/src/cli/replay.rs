//! What happened in a seed or a scenario file, line by line.

use super::{HowArguments, host, virtual_seconds};
use crate::found::Found;
use crate::log;
use crate::replay::{self, Telling};
use crate::swarm::WHOLE_WITHIN_NS;
use crate::world::HostId;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub struct ReplayArguments {
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    seed: Option<u64>,
    /// A scenario file instead of a seed.
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    how: HowArguments,
    /// Stop at this virtual time; two minutes after calm where it is not said.
    #[arg(long, value_name = "SECONDS", value_parser = virtual_seconds)]
    until: Option<u64>,
    /// Tell what happens: faults, operations, answers, writes, what each agent hears of whom, changes of views.
    #[arg(long)]
    trace: bool,
    /// Tell from this virtual time on only.
    #[arg(long, value_name = "SECONDS", value_parser = virtual_seconds, requires = "trace", default_value = "0")]
    from: u64,
    /// Tell of these hosts only, as in h0,h3.
    #[arg(long, value_delimiter = ',', value_parser = host, requires = "trace")]
    node: Vec<HostId>,
    /// Of catalogs, tell only what this host writes.
    #[arg(long, value_parser = host, requires = "trace")]
    origin: Option<HostId>,
    /// Tell of every datagram, with the kinds of its parts.
    #[arg(long, requires = "trace")]
    packets: bool,
}

pub fn replay(arguments: &ReplayArguments) -> ExitCode {
    log::listen(None);
    let mut options = arguments.how.options();
    let plan = match &arguments.file {
        None => options.plan(arguments.seed.unwrap_or_default()),
        Some(path) => match Found::read(path) {
            Ok(found) => {
                options.tombstone_ms = found.tombstone_ms;
                found.plan
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
    };
    let telling = arguments.trace.then(|| Telling {
        from: arguments.from,
        hosts: arguments.node.iter().copied().collect(),
        origin: arguments.origin,
        packets: arguments.packets,
    });
    let until = arguments.until.unwrap_or(plan.calm_from + WHOLE_WITHIN_NS);
    match replay::replay(&plan, &options, until, telling.as_ref(), &mut |line| println!("{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            println!("FAILED {violation}");
            ExitCode::FAILURE
        }
    }
}
