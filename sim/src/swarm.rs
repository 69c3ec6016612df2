//! One seed from its plan to its verdict: rough time, then calm, in which everything must come right within a bound.

use crate::checkers::life::DETECTED_WITHIN_NS;
use crate::faults::FaultKind;
use crate::plan::Plan;
use crate::report::Failure;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::whole;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidings::engine::config::EngineConfig;

/// How long after calm a cluster may take to be whole again: healing tries old acquaintances once a minute, twice if need be.
pub const WHOLE_WITHIN_NS: u64 = 120 * SECOND;
/// The same for several datacenters: their gateways heal as slowly, and only then dial again, with pauses of up to a minute.
pub const LINKED_WITHIN_NS: u64 = 240 * SECOND;
/// How often it is looked whether everything has come right.
const LOOK_NS: u64 = SECOND / 2;
/// With nothing written for so long, nothing is on its way.
const STILL_NS: u64 = SECOND;

/// How long it is looked on at the end, when nothing should happen any more: longer than it takes to see a death.
const REST_NS: u64 = DETECTED_WITHIN_NS;

/// Who was right for so long met everybody.
const SETTLED_NS: u64 = 4 * SECOND;
/// What changes by itself, as where a lease runs out, has spread within this.
const WRONG_NS_MAX: u64 = 2 * SECOND;

/// What became of a seed that passed.
#[derive(Debug, Clone)]
pub struct Passed {
    pub seed: u64,
    pub hash: u64,
    pub agents: usize,
    pub kinds: usize,
    pub operations: usize,
    pub virtual_ns: u64,
    pub events: u64,
    /// From calm to whole.
    pub healed_ns: u64,
    pub coverage: BTreeMap<String, u64>,
}

/// How seeds are run.
#[derive(Clone, Default)]
pub struct Options {
    pub masked: BTreeSet<FaultKind>,
    /// The name of a broken rule, if any.
    pub sabotage: Option<String>,
    /// In how many datacenters, where it is not as the seed draws.
    pub datacenters: Option<u16>,
    /// How long agents keep tombstones, where it is not as long as usual.
    pub tombstone_ms: Option<u64>,
}

/// Runs one seed. A panic is a failure like any other.
///
/// # Errors
/// What went wrong, and how to see it again.
pub fn run_seed(seed: u64, options: &Options) -> Result<Passed, Box<Failure>> {
    run_plan(&options.plan(seed), options, &|| again(seed, options))
}

/// Runs one plan; `again` says how to see it again where it fails.
///
/// # Errors
/// What went wrong.
pub fn run_plan(plan: &Plan, options: &Options, again: &dyn Fn() -> String) -> Result<Passed, Box<Failure>> {
    let mut run = prepare(plan, options);
    match live(plan, &mut run) {
        Ok(healed_ns) => Ok(Passed {
            seed: plan.seed,
            hash: run.world.hash(),
            agents: plan.hosts.len(),
            kinds: plan.kinds.len(),
            operations: run.history.operations().count(),
            virtual_ns: run.world.now(),
            events: run.world.events(),
            healed_ns,
            coverage: run.coverage,
        }),
        Err(violation) => Err(Box::new(Failure::telling(&run, violation, again()))),
    }
}

/// The run of a plan, before anything happens.
pub fn prepare(plan: &Plan, options: &Options) -> Run {
    Run::of_plan(plan, &|config| {
        config.catalog.tombstone_ms = options.tombstone_ms.unwrap_or(config.catalog.tombstone_ms);
        configure(config, options);
    })
}

/// The line that shows a seed again.
pub fn again(seed: u64, options: &Options) -> String {
    let features = if options.sabotage.is_some() { " --features sabotage" } else { "" };
    format!("cargo run -p tidings-sim --release{features} -- run --seed {seed}{options}")
}

impl Options {
    /// What a seed means.
    pub fn plan(&self, seed: u64) -> Plan {
        Plan::of_seed(seed, &self.masked, self.datacenters)
    }
}

impl std::fmt::Display for Options {
    /// As the command line takes them, each behind a space.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.masked.is_empty() {
            let names: Vec<&str> = self.masked.iter().map(|kind| kind.name()).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if let Some(name) = &self.sabotage {
            write!(f, " --sabotage {name}")?;
        }
        if let Some(count) = self.datacenters {
            write!(f, " --datacenters {count}")?;
        }
        self.tombstone_ms.map_or(Ok(()), |ms| write!(f, " --tombstone-ms {ms}"))
    }
}

#[cfg_attr(not(feature = "sabotage"), expect(unused_variables, reason = "rules are broken only where the feature compiles them in"))]
fn configure(config: &mut EngineConfig, options: &Options) {
    #[cfg(feature = "sabotage")]
    if let Some(name) = &options.sabotage {
        config.break_rule(tidings::engine::sabotage::Rule::from_name(name).expect("the command line has looked it up"));
    }
}

/// Lives a prepared plan through to its end; says how long healing took. A panic is a violation like any other.
///
/// # Errors
/// What a checker found.
pub fn live(plan: &Plan, run: &mut Run) -> Result<u64, Violation> {
    let verdict = catch_unwind(AssertUnwindSafe(|| rough_then_calm(plan, run)));
    verdict.unwrap_or_else(|panic| Err(run.violation("no-panic", vec![], "no panic", &panic_text(&*panic))))
}

fn rough_then_calm(plan: &Plan, run: &mut Run) -> Result<u64, Violation> {
    run.run_until(plan.calm_from)?;
    run.calm_down();
    let within_ns = if plan.wan.is_some() { LINKED_WITHIN_NS } else { WHOLE_WITHIN_NS };
    let healed = until_whole(run, within_ns)?;
    until_still(run)?;
    run.check_at_rest()?;
    until_settled(run)?;
    rest(run)?;
    run.check_at_rest()?;
    for host in run.world.host_ids() {
        run.harvest(host);
    }
    Ok(healed)
}

/// Waits until all has been right for a while: where agents meet who know of different dead, it may be so for a moment before.
///
/// # Errors
/// It did not stay right in time, or a checker bit.
fn until_settled(run: &mut Run) -> Result<(), Violation> {
    let from = run.world.now();
    let mut right_since = from;
    while run.world.now() < right_since + SETTLED_NS {
        run.run_for(LOOK_NS)?;
        let Some((hosts, lack)) = whole::lack(&run.scene()) else { continue };
        right_since = run.world.now();
        if right_since > from + WHOLE_WITHIN_NS {
            return Err(run.violation("settles", hosts, "all right for a few seconds", &lack));
        }
    }
    Ok(())
}

/// Looks on for a while in which nothing is done to anybody: what was right stays so, but for the moments that a change takes to spread.
///
/// # Errors
/// It does not, or a checker bit.
fn rest(run: &mut Run) -> Result<(), Violation> {
    let end = run.world.now() + REST_NS;
    let mut right_at = run.world.now();
    while run.world.now() < end {
        run.rest(LOOK_NS)?;
        match whole::lack(&run.scene()) {
            None => right_at = run.world.now(),
            Some((hosts, lack)) if run.world.now() > right_at + WRONG_NS_MAX => {
                return Err(run.violation("stays-right", hosts, "all right, as it was", &lack));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Waits until everything has come right; says how long that took.
///
/// # Errors
/// It did not come right in time, or a checker bit.
pub fn until_whole(run: &mut Run, within_ns: u64) -> Result<u64, Violation> {
    let from = run.world.now();
    loop {
        run.run_for(LOOK_NS)?;
        let Some((hosts, lack)) = whole::lack(&run.scene()) else { return Ok(run.world.now() - from) };
        if run.world.now() - from > within_ns {
            let expected = format!("whole within {} s of calm", within_ns / SECOND);
            return Err(run.violation("comes-right", hosts, &expected, &lack));
        }
    }
}

/// Waits until nothing has been written for a moment, and everything is right then.
///
/// # Errors
/// There was no such moment, or a checker bit.
pub fn until_still(run: &mut Run) -> Result<(), Violation> {
    const LOOKS_MAX: u32 = 240;
    let mut last = (Vec::new(), String::new());
    for _ in 0..LOOKS_MAX {
        let before = run.truth.writes();
        run.run_for(STILL_NS)?;
        match whole::lack(&run.scene()) {
            None if run.truth.writes() == before => return Ok(()),
            None => {}
            Some(found) => last = found,
        }
    }
    Err(run.violation("comes-to-rest", last.0, "a second in which nothing is written", &last.1))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without words".into())
}
