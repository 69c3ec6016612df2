//! `mutate`: knocks on every door with changed inputs, on stable Rust.
//!
//!     cargo run --release --manifest-path tests/fuzz/Cargo.toml -- --seconds 600
//!
//! One door's inputs follow from its seed alone: `--target NAME --seed N` goes the same way again.
//!
//! It begins with the golden files and `tests/corpus`, changes one of them, and keeps what leads somewhere new. A panic writes its input to
//! `tests/corpus` and ends the run with exit code 1. `--keep` writes the inputs that led somewhere new there as well.

use std::{
    collections::BTreeSet,
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use tidings_fuzz::{
    mutation::{below, mutate},
    targets::{self, Target, Trace},
};

/// Inputs kept a door: beyond it new ones replace old ones at random.
const INPUTS_MAX: usize = 4_096;

/// The longest input that mutation makes, in bytes; longer ones are cut.
const INPUT_BYTES_MAX: usize = 32_768;

/// Half of what a thread has by default: no input may decide how deep the stack grows.
const STACK_BYTES: usize = 1_024 * 1_024;

/// Shorter inputs tried for one that is written.
const SHRINK_TRIES_MAX: usize = 20_000;

/// How long one door is knocked on before the next one's turn.
const TURN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\nusage: mutate [--seconds N] [--seed N] [--target NAME] [--keep]");
            return ExitCode::from(2);
        }
    };
    let run = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || run(&options)).expect("one thread can be started");
    run.join().unwrap_or(ExitCode::FAILURE)
}

fn run(options: &Options) -> ExitCode {
    let mut doors: Vec<Door> = targets::ALL
        .iter()
        .filter(|(name, _)| options.target.as_deref().is_none_or(|one| one == *name))
        .map(|target| Door::new(target, options.seed))
        .collect();
    if doors.is_empty() {
        eprintln!("no such target; they are {}", targets::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
        return ExitCode::from(2);
    }
    let (began, end) = (Instant::now(), Duration::from_secs(options.seconds));
    while began.elapsed() < end {
        for door in &mut doors {
            let turn = Instant::now();
            while turn.elapsed() < TURN {
                let input = door.mutated();
                if let Err(path) = door.knock(input, options.keep) {
                    eprintln!("{} panics on {} (seed {})", door.name, path.display(), options.seed);
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    for door in &doors {
        println!("{:<12} {:>12} inputs led to {:>4} places", door.name, door.knocks, door.places.len());
    }
    println!("no panic in {} s (seed {})", began.elapsed().as_secs(), options.seed);
    ExitCode::SUCCESS
}

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    keep: bool,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { seconds: 60, seed: 1, target: None, keep: false };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            let number = |value: String| value.parse().map_err(|_| format!("{value} is no number"));
            match argument.as_str() {
                "--seconds" => options.seconds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--target" => options.target = Some(value()?),
                "--keep" => options.keep = true,
                _ => return Err(format!("{argument} is no option")),
            }
        }
        Ok(options)
    }
}

/// One target with the inputs that led somewhere.
struct Door {
    name: &'static str,
    run: fn(&[u8], &mut Trace),
    rng: ChaCha12Rng,
    inputs: Vec<Vec<u8>>,
    /// Places that any input led to.
    places: BTreeSet<u64>,
    knocks: u64,
}

impl Door {
    fn new(&(name, run): &Target, seed: u64) -> Self {
        let mut inputs = targets::golden_file(name).map(golden).unwrap_or_default();
        inputs.extend(targets::recorded(name, golden));
        inputs.extend(kept(name));
        inputs.push(Vec::new());
        let mut known = Trace::default();
        inputs.iter().for_each(|input| run(input, &mut known));
        // Each door draws by itself: its n-th input is the same however fast the others are.
        Self { name, run, rng: ChaCha12Rng::seed_from_u64(seed), inputs, places: known.0, knocks: 0 }
    }

    /// Runs the target; a panic is the path where its input was written.
    fn knock(&mut self, input: Vec<u8>, keep: bool) -> Result<(), PathBuf> {
        self.knocks += 1;
        let Some(trace) = self.trace(&input) else {
            return Err(write(self.name, "panic", &shrunk(input, |input| self.trace(input).is_none())));
        };
        let new: BTreeSet<u64> = trace.0.difference(&self.places).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        if keep {
            let leads_there = |input: &[u8]| self.trace(input).is_some_and(|trace| new.is_subset(&trace.0));
            write(self.name, "place", &shrunk(input.clone(), leads_there));
        }
        self.places.extend(new);
        if self.inputs.len() < INPUTS_MAX {
            self.inputs.push(input);
        } else {
            let at = below(&mut self.rng, self.inputs.len());
            self.inputs[at] = input;
        }
        Ok(())
    }

    /// Where the input leads; none if to a panic.
    fn trace(&self, input: &[u8]) -> Option<Trace> {
        let mut trace = Trace::default();
        catch_unwind(AssertUnwindSafe(|| (self.run)(input, &mut trace))).ok().map(|()| trace)
    }

    /// One of the inputs, changed in one to eight ways.
    fn mutated(&mut self) -> Vec<u8> {
        let mut input = self.inputs[below(&mut self.rng, self.inputs.len())].clone();
        for _ in 0..=below(&mut self.rng, 8) {
            let other = below(&mut self.rng, self.inputs.len());
            mutate(&mut input, &self.inputs[other], &mut self.rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }
}

/// The input without what is not needed to do the same: pieces are left out, large ones first.
fn shrunk(mut input: Vec<u8>, does_the_same: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut piece = input.len() / 2;
    let mut tries = SHRINK_TRIES_MAX;
    while piece > 0 && tries > 0 {
        let mut at = 0;
        while at < input.len() && tries > 0 {
            tries -= 1;
            let mut without = input.clone();
            without.drain(at..(at + piece).min(input.len()));
            if does_the_same(&without) {
                input = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    input
}

/// The inputs of `tests/corpus`, in the order of their names.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(corpus(target)) else { return Vec::new() };
    let paths: BTreeSet<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn golden(file: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(repository().join("tests/golden/wire").join(file)).expect("the golden files are committed");
    targets::golden_things(&text)
}

/// Writes an input to `tests/corpus`, named by its content.
fn write(target: &str, why: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = corpus(target).join(format!("{why}-{:016x}", hasher.finish()));
    fs::create_dir_all(corpus(target)).and_then(|()| fs::write(&path, input)).expect("the corpus can be written");
    path
}

fn corpus(target: &str) -> PathBuf {
    repository().join("tests/corpus").join(target)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
