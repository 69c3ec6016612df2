//! The clients of a chaos run: one that writes, and one that reads at each agent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use crate::Run;
use crate::lab::http::{Failure, Http};
use crate::oracle::{Key, Oracle, State};

const SERVICES: u64 = 8;
const WRITE_INTERVAL: Duration = Duration::from_millis(30);
const WRITE_PATIENCE: Duration = Duration::from_secs(3);
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// Each read at an agent that lives and is not paused is answered within this.
const READ_PATIENCE: Duration = Duration::from_secs(1);
/// The share of writes tried at an agent known to be dead or paused.
const BLIND_WRITES: f64 = 0.05;
/// Keys written last, and the share of changes that go to one of them: two writes of one key within one fault find more than two
/// writes minutes apart.
const RECENT_KEYS: usize = 12;
const RECENT_WRITES: f64 = 0.6;
const PAGE: usize = 500;

/// How a run's requests ended.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub refused: u64,
    pub in_doubt: u64,
    pub slowest: Duration,
}

impl Tally {
    pub fn add(self, other: Tally) -> Tally {
        Tally {
            done: self.done + other.done,
            refused: self.refused + other.refused,
            in_doubt: self.in_doubt + other.in_doubt,
            slowest: self.slowest.max(other.slowest),
        }
    }
}

/// The one client that writes.
pub struct Writer {
    run: Arc<Run>,
    doors: Vec<Http>,
    random: ChaCha12Rng,
    oracle: Oracle,
    tally: Tally,
    number: u64,
    recent: VecDeque<Key>,
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Register,
    Patch,
    Deregister,
}

/// What a request did, as far as its answer tells.
#[derive(Debug)]
enum Outcome {
    Done,
    /// It changed nothing.
    Nothing,
    Doubt,
}

impl Writer {
    pub fn new(run: Arc<Run>, doors: Vec<Http>) -> Writer {
        let random = ChaCha12Rng::seed_from_u64(run.seed ^ 0x77_72_69_74_65);
        Writer { run, doors, random, oracle: Oracle::default(), tally: Tally::default(), number: 0, recent: VecDeque::new() }
    }

    /// Writes until the run is stopped.
    pub fn write_on(mut self) -> (Oracle, Tally) {
        while !self.run.stopped() {
            self.write_once();
            std::thread::sleep(WRITE_INTERVAL);
        }
        (self.oracle, self.tally)
    }

    fn write_once(&mut self) {
        let agent = self.random.random_range(0..self.doors.len());
        let phase = self.run.phase(agent);
        if phase.is_none() && !self.random.random_bool(BLIND_WRITES) {
            return;
        }
        let (verb, key) = self.choose();
        self.recent.push_back(key.clone());
        if self.recent.len() > RECENT_KEYS {
            self.recent.pop_front();
        }
        self.number += 1;
        let number = self.number;
        let (method, body) = match verb {
            Verb::Register => ("PUT", Some(json!({"address": "10.9.8.7", "port": 80, "metadata": {"number": number.to_string()}}))),
            Verb::Patch => ("PATCH", Some(json!({"metadata": {"number": number.to_string()}}))),
            Verb::Deregister => ("DELETE", None),
        };
        let state: State = (!matches!(verb, Verb::Deregister)).then_some(number);

        // A delete ends what its agent shows. Where that is not yet what was written last, the later write may outlive it.
        let is_current = !matches!(verb, Verb::Deregister) || self.read(agent, &key).is_ok_and(|read| read == self.oracle.told(&key));

        let start = Instant::now();
        let outcome = self.send(agent, method, &key, body.as_ref());
        self.oracle.note(&key, format!("{:?} {verb:?} {number} at {agent} in {:?}: {outcome:?}", start - self.run.start, start.elapsed()));
        match outcome {
            Outcome::Done if !is_current => {
                self.tally.in_doubt += 1;
                self.oracle.doubt(&key, state);
            }
            Outcome::Done => {
                self.tally.done += 1;
                self.tally.slowest = self.tally.slowest.max(start.elapsed());
                self.oracle.acknowledge(&key, state);
                if phase.is_some() {
                    self.read_back(agent, phase, &key, state);
                }
            }
            Outcome::Nothing => self.tally.refused += 1,
            Outcome::Doubt => {
                self.tally.in_doubt += 1;
                self.oracle.doubt(&key, state);
            }
        }
    }

    /// A verb and a key that is not in doubt.
    fn choose(&mut self) -> (Verb, Key) {
        let recent = self.recent.iter().filter(|key| self.oracle.holds(key)).choose(&mut self.random).cloned();
        let known = match recent {
            Some(recent) if self.random.random_bool(RECENT_WRITES) => Some(recent),
            _ => self.oracle.certain().choose(&mut self.random).cloned(),
        };
        let verbs = [Verb::Register, Verb::Register, Verb::Register, Verb::Patch, Verb::Deregister];
        match (*verbs.choose(&mut self.random).expect("there are verbs"), known) {
            (verb, Some(known)) if !matches!(verb, Verb::Register) || self.random.random_bool(0.5) => (verb, known),
            _ => {
                let service = format!("service-{}", self.random.random_range(0..SERVICES));
                (Verb::Register, (service, format!("{:016x}", self.random.random::<u64>())))
            }
        }
    }

    fn send(&self, agent: usize, method: &str, key: &Key, body: Option<&Value>) -> Outcome {
        match self.doors[agent].send(method, &path(key), body, WRITE_PATIENCE) {
            Ok(answer) if matches!(answer.status, 200 | 201) => match answer.json()["result"].as_str() {
                // There is nothing to delete there now: it never came there, or the origin that was asked deleted it and its answer
                // was lost on the way.
                Some("absent") => Outcome::Doubt,
                _ => Outcome::Done,
            },
            Ok(answer) if matches!(answer.status, 404 | 429 | 503) => Outcome::Nothing,
            Ok(answer) => {
                self.run.complain(format!("{method} {key:?} at agent {agent}: {answer}"));
                Outcome::Doubt
            }
            Err(Failure::NotSent(_)) => Outcome::Nothing,
            Err(Failure::Unanswered(_)) => Outcome::Doubt,
        }
    }

    /// What one agent shows of a key.
    fn read(&self, agent: usize, key: &Key) -> Result<State, String> {
        match self.doors[agent].send("GET", &path(key), None, READ_PATIENCE) {
            Ok(answer) if answer.status == 200 => Ok(number_of(&answer.json())),
            Ok(answer) if answer.status == 404 => Ok(None),
            Ok(answer) => Err(answer.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// What was acknowledged is read back at the same agent at once.
    fn read_back(&self, agent: usize, phase: Option<u64>, key: &Key, state: State) {
        let read = self.read(agent, key);
        if self.run.phase(agent) != phase {
            return;
        }
        let read = match read {
            Ok(read) => read,
            Err(why) => return self.run.complain(format!("reading {key:?} back at agent {agent}: {why}")),
        };
        if read != state {
            self.run.complain(format!("{key:?} at agent {agent}: wrote {state:?}, was told that it is done, and read {read:?}"));
        }
    }
}

/// Reads at one agent until the run is stopped.
pub fn read_on(run: &Run, agent: usize, door: &Http) -> Tally {
    let mut random = ChaCha12Rng::seed_from_u64(run.seed ^ agent as u64);
    let mut tally = Tally::default();
    while !run.stopped() {
        std::thread::sleep(READ_INTERVAL);
        let Some(phase) = run.phase(agent) else { continue };
        let service = random.random_range(0..SERVICES);
        let start = Instant::now();
        let answer = door.send("GET", &format!("/api/v1/services/service-{service}"), None, READ_PATIENCE);
        let took = start.elapsed();
        if run.phase(agent) != Some(phase) {
            continue;
        }
        match answer {
            Ok(answer) if answer.status == 200 => {
                tally.done += 1;
                tally.slowest = tally.slowest.max(took);
            }
            Ok(answer) => run.complain(format!("a read at agent {agent}: {answer}")),
            Err(failure) => run.complain(format!("a read at agent {agent} after {took:?}: {failure}")),
        }
    }
    tally
}

/// All available instances that an agent shows, with the number of the write that made each.
pub fn everything(door: &Http) -> Result<BTreeMap<Key, u64>, String> {
    let mut shown = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = door.json("GET", &format!("/api/v1/instances?limit={PAGE}{after}"), None)?;
        for instance in page["instances"].as_array().ok_or_else(|| format!("no list: {page}"))? {
            let field = |name: &str| instance[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}: {instance}"));
            let number = number_of(instance).ok_or_else(|| format!("no number: {instance}"))?;
            shown.insert((field("service")?, field("id")?), number);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(shown),
        }
    }
}

fn path((service, id): &Key) -> String {
    format!("/api/v1/services/{service}/instances/{id}")
}

fn number_of(instance: &Value) -> State {
    instance["metadata"]["number"].as_str()?.parse().ok()
}
