//! Rules broken on purpose, one at a time: each must be found.

#[cfg(feature = "sabotage")]
use crate::{
    log,
    swarm::{self, Options},
};
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct SabotageArguments {
    /// The rule to break; a name that is none prints them all.
    #[arg(required_unless_present_any = ["all", "few"])]
    rule: Option<String>,
    /// Every rule in turn.
    #[arg(long, conflicts_with = "rule")]
    all: bool,
    /// So many rules that a commit's id chooses.
    #[arg(long, value_name = "COUNT", requires = "commit", conflicts_with_all = ["rule", "all"])]
    few: Option<usize>,
    /// The commit's id, in hexadecimal.
    #[arg(long, value_parser = super::sweep::commit)]
    commit: Option<u64>,
    /// Seeds tried for each.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
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
    let first = arguments.commit.unwrap_or(0) as usize % Rule::ALL.len();
    let in_turn = Rule::ALL.into_iter().cycle().skip(first).take(arguments.few.unwrap_or(Rule::ALL.len()).min(Rule::ALL.len()));
    let rules: Vec<Rule> = named.flatten().map_or_else(|| in_turn.collect(), |rule| vec![rule]);
    let mut missed = 0;
    for rule in rules {
        // Nobody waits ten minutes for a tombstone to go.
        let is_about_tombstones = rule == Rule::TombstonesByAge;
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
