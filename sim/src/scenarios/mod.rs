//! Scenarios: each the shortest history of one way to fail, by name. All checkers look on.

mod cuts;
mod datacenters;
mod deaths;
mod disks;
pub(crate) mod steps;
mod writes;

use crate::report::Failure;
use crate::run::Run;
use crate::violation::Violation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidings::engine::config::EngineConfig;

/// One history.
pub struct Scenario {
    pub name: &'static str,
    /// What must come out.
    pub about: &'static str,
    pub agents: u32,
    pub configure: fn(&mut EngineConfig),
    pub play: fn(&mut Run) -> Result<(), Violation>,
}

/// One seed for all: what varies is what a scenario says.
const SEED: u64 = 1;

fn as_it_is(_: &mut EngineConfig) {}

pub fn all() -> Vec<Scenario> {
    [writes::scenarios(), cuts::scenarios(), deaths::scenarios(), disks::scenarios(), datacenters::scenarios()]
        .into_iter()
        .flatten()
        .collect()
}

impl Scenario {
    /// Plays it; says how long it was and the hash of all that happened.
    ///
    /// # Errors
    /// What did not come out as it must.
    pub fn play(&self) -> Result<(u64, u64), Box<Failure>> {
        let mut run = Run::cluster_with(SEED, self.agents, &self.configure);
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.play)(&mut run)));
        let verdict = verdict.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(run.violation("no-panic", vec![], "no panic", &text.unwrap_or_default()))
        });
        match verdict {
            Ok(()) => Ok((run.world.now(), run.world.hash())),
            Err(violation) => Err(Box::new(Failure::of_scenario(self.name, &run, violation))),
        }
    }
}

#[cfg(test)]
mod tests;
