//! What is done to the agents and when: a plan made from a seed before anything starts.
//!
//! Two tracks run side by side, one for processes and one for the network, so that a kill may fall into a split. Each track has
//! one fault at a time; between two there may be some calm.

use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// `kill -9`, and a restart with the same data directory at the end.
    Kill(usize),
    /// SIGSTOP, and SIGCONT at the end.
    Pause(usize),
    /// Two agents at once: with five, this leaves the smallest majority.
    KillTwo(usize, usize),
    Isolate(usize),
    /// The network device of its host is down.
    Unplug(usize),
    /// These on one side, the others on the other.
    Split(Vec<usize>),
    /// Packets from the first no longer reach the second.
    OneWay(usize, usize),
    /// Every way is slow and lossy.
    Slow {
        delay: Duration,
        jitter: Duration,
        loss: f64,
    },
}

impl Fault {
    /// The agents that cannot answer while it lasts.
    pub fn silences(&self) -> Vec<usize> {
        match self {
            Fault::Kill(agent) | Fault::Pause(agent) => vec![*agent],
            Fault::KillTwo(one, other) => vec![*one, *other],
            Fault::Isolate(_) | Fault::Unplug(_) | Fault::Split(_) | Fault::OneWay(..) | Fault::Slow { .. } => vec![],
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub at: Duration,
    pub until: Duration,
    pub fault: Fault,
}

/// The faults of a run, by their beginning.
pub fn plan(seed: u64, agents: usize, length: Duration) -> Vec<Planned> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut faults = track(&mut random, length, 3, |random, kind| process_fault(random, kind, agents));
    faults.extend(track(&mut random, length, 5, |random, kind| network_fault(random, kind, agents)));
    faults.sort_by_key(|planned| planned.at);
    faults
}

/// Faults one after the other; every kind has its turn before one has a second.
fn track(random: &mut ChaCha12Rng, length: Duration, kinds: usize, make: impl Fn(&mut ChaCha12Rng, usize) -> Fault) -> Vec<Planned> {
    let mut faults = Vec::new();
    let mut order: Vec<usize> = Vec::new();
    let mut at = span(random, 500, 3_000);
    while at < length {
        let kind = order.pop().unwrap_or_else(|| {
            order = (0..kinds).collect();
            order.shuffle(random);
            order.pop().expect("there are kinds")
        });
        let until = (at + span(random, 300, 7_000)).min(length);
        faults.push(Planned { at, until, fault: make(random, kind) });
        at = until + span(random, 0, 3_000);
    }
    faults
}

fn process_fault(random: &mut ChaCha12Rng, kind: usize, agents: usize) -> Fault {
    let (one, other) = two(random, agents);
    match kind {
        0 => Fault::Kill(one),
        1 => Fault::Pause(one),
        _ => Fault::KillTwo(one, other),
    }
}

fn network_fault(random: &mut ChaCha12Rng, kind: usize, agents: usize) -> Fault {
    let (one, other) = two(random, agents);
    match kind {
        0 => Fault::Isolate(one),
        1 => Fault::Unplug(one),
        2 => {
            let side = random.random_range(1..agents);
            let mut all: Vec<usize> = (0..agents).collect();
            all.shuffle(random);
            Fault::Split(all[..side].to_vec())
        }
        3 => Fault::OneWay(one, other),
        _ => Fault::Slow {
            delay: span(random, 1, 60),
            jitter: span(random, 0, 40),
            loss: *[0.0, 0.02, 0.05, 0.2].choose(random).expect("there are some"),
        },
    }
}

fn two(random: &mut ChaCha12Rng, agents: usize) -> (usize, usize) {
    let one = random.random_range(0..agents);
    (one, (one + random.random_range(1..agents)) % agents)
}

fn span(random: &mut ChaCha12Rng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(random.random_range(from_ms..=to_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_holds_every_kind_of_fault() {
        let minute = Duration::from_secs(60);
        let faults = plan(7, 5, minute);
        assert_eq!(faults, plan(7, 5, minute));
        assert_ne!(faults, plan(8, 5, minute));
        let mut kinds: Vec<_> = faults.iter().map(|planned| std::mem::discriminant(&planned.fault)).collect();
        kinds.dedup();
        let distinct = kinds.iter().enumerate().filter(|(place, kind)| !kinds[..*place].contains(kind)).count();
        assert_eq!(distinct, 8, "{faults:#?}");
        assert!(faults.iter().all(|planned| planned.at <= planned.until && planned.until <= minute));
    }
}
