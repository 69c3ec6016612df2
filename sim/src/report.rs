//! What a failure prints: the checker and what it found, the last events that touched those concerned, and one line that shows it again.

use crate::run::Run;
use crate::violation::Violation;
use crate::world::HostId;
use crate::world::trace::{Happening, Instant};
use std::fmt;

/// Events shown of each host.
const EVENTS_SHOWN: usize = 14;

/// A seed, or a scenario, that failed.
#[derive(Debug)]
pub struct Failure {
    pub violation: Violation,
    /// The last ones that tell a story.
    pub events: Vec<String>,
    /// All that is remembered of everybody, packets included.
    pub all_events: Vec<String>,
    pub again: String,
}

impl Failure {
    pub fn of_scenario(name: &str, run: &Run, violation: Violation) -> Self {
        Self::telling(run, violation, format!("cargo run -p tidings-sim --release -- scenario {name}"))
    }

    /// Tells of a violation; `again` is the line that shows it again.
    pub fn telling(run: &Run, violation: Violation, again: String) -> Self {
        let events = events(run, &violation, EVENTS_SHOWN, &Happening::is_notable);
        let all_events = events_of_all(run, &violation);
        Self { violation, events, all_events, again }
    }
}

/// The last events of the hosts concerned, in the order they happened.
fn events(run: &Run, violation: &Violation, most: usize, is_wanted: &dyn Fn(&Happening) -> bool) -> Vec<String> {
    let mut told: Vec<(u64, HostId, String)> = Vec::new();
    for &host in &violation.hosts {
        let trace = &run.world.host(host).trace;
        let wanted = trace.events().rev().filter(|(_, happening)| is_wanted(happening)).take(most);
        let mut wanted: Vec<_> = wanted.map(|(at, happening)| (*at, host, happening.to_string())).collect();
        wanted.reverse();
        told.extend(wanted);
    }
    told.sort_by_key(|(at, ..)| *at);
    told.into_iter().map(|(at, host, what)| format!("{:>14} {host:<4} {what}", Instant(at).to_string())).collect()
}

fn events_of_all(run: &Run, violation: &Violation) -> Vec<String> {
    const HOSTS_SHOWN_MAX: usize = 16;
    let hosts: Vec<HostId> = run.world.host_ids().take(HOSTS_SHOWN_MAX).collect();
    events(run, &Violation { hosts, ..violation.clone() }, usize::MAX, &|_| true)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAILED {}", self.violation)?;
        for line in &self.events {
            writeln!(f, "  {line}")?;
        }
        write!(f, "again: {}", self.again)
    }
}
