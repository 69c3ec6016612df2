//! What a cut between two datacenters of real agents does to lookups inside of them, what is told of the other meanwhile, and what it
//! takes to mend. Linked and cut periods alternate in one run, under the same registrations.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::http::Http;
use crate::lab::wait_until;
use crate::report;
use crate::wan::{HOSTS, PATIENCE, World, register};

/// Long enough that the other datacenter counts as not heard for most of it.
const PERIOD: Duration = Duration::from_secs(20);
/// Between two registrations, on each side.
const WRITE_EVERY: Duration = Duration::from_millis(20);
/// Between two lookups, on each side.
const READ_EVERY: Duration = Duration::from_millis(2);
const SERVICES: usize = 10;

/// A client in a loop of its own, until it is told to stop.
struct Client<T> {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<T>,
}

impl<T: Send + Default + 'static> Client<T> {
    fn start(every: Duration, mut act: impl FnMut(u32, &mut T) + Send + 'static) -> Client<T> {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (start, mut kept, mut n) = (Instant::now(), T::default(), 0);
            while !seen.load(Ordering::SeqCst) {
                std::thread::sleep((start + every * n).saturating_duration_since(Instant::now()));
                act(n, &mut kept);
                n += 1;
            }
            kept
        });
        Client { is_over, thread }
    }

    fn stop(self) -> T {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("a client returns")
    }
}

pub fn measure(rounds: usize) {
    let Some(world) = World::start(3) else { return };
    println!(
        "{rounds} rounds of {PERIOD:?} linked and {PERIOD:?} cut; on each side a registration every {WRITE_EVERY:?} and a lookup every {READ_EVERY:?}"
    );
    let (mut linked, mut cut, mut complete) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        linked.extend(period(&world, &format!("linked-{round}")).0);
        world.set_apart(true);
        let (lookups, written) = period(&world, &format!("cut-{round}"));
        cut.extend(lookups);
        tell_age(&world, round);
        let before = world.wan_bytes();
        world.set_apart(false);
        let healed = Instant::now();
        wait_until(PATIENCE, "both sides show all of the other", || (0..2).all(|side| is_complete(&world, side)));
        complete.push(healed.elapsed());
        let bytes = world.wan_bytes() - before;
        println!(
            "round {round}: {written} instances new during the cut, {bytes} B crossed until both were complete, {} B each",
            bytes / written.max(1)
        );
    }
    report("local lookup while linked", &mut linked);
    report("local lookup while cut", &mut cut);
    let p99 = |sorted: &[Duration]| sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)].as_secs_f64();
    println!("p99 while cut over p99 while linked: {:.2}", p99(&cut) / p99(&linked));
    report("healed to complete on both sides", &mut complete);
}

/// Registrations and lookups on both sides for a while: how long each lookup took, and how many registrations there were.
fn period(world: &World, name: &str) -> (Vec<Duration>, u64) {
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for side in 0..2 {
        let (writing, reading) = (world.agents[side * HOSTS + 2].http.clone(), world.agents[side * HOSTS + 3].http.clone());
        let name = name.to_owned();
        writers.push(Client::start(WRITE_EVERY, move |n, written: &mut u64| {
            register(&writing, &format!("load-{}", n as usize % SERVICES), &format!("{name}-{n}"), 8_080);
            *written += 1;
        }));
        readers.push(Client::start(READ_EVERY, move |n, took: &mut Vec<Duration>| {
            let asked = Instant::now();
            let path = format!("/api/v1/services/load-{}?limit=10", n as usize % SERVICES);
            reading.json("GET", &path, None).unwrap_or_else(|why| panic!("a local lookup: {why}"));
            took.push(asked.elapsed());
        }));
    }
    std::thread::sleep(PERIOD);
    let written = writers.into_iter().map(Client::stop).sum();
    (readers.into_iter().flat_map(Client::stop).collect(), written)
}

/// What the west's last agent says of the east, whose last word is some time ago.
fn tell_age(world: &World, round: usize) {
    let list = world.agents[2 * HOSTS - 1].http.json("GET", "/api/v1/services/load-0?dc=east", None).unwrap_or(Value::Null);
    let ages: BTreeSet<String> = list["instances"].as_array().into_iter().flatten().map(|one| one["age"].to_string()).collect();
    println!("round {round}: at the end of the cut instances of the other datacenter say ages {ages:?}");
}

fn is_complete(world: &World, side: usize) -> bool {
    let (here, there) = (&world.agents[side * HOSTS + 3].http, &world.agents[(1 - side) * HOSTS + 3].http);
    let of = ["east", "west"][side];
    (0..SERVICES).all(|service| {
        let ids = |http: &Http, dc: &str| -> Option<BTreeSet<String>> {
            let list = http.json("GET", &format!("/api/v1/services/load-{service}{dc}"), None).ok()?;
            list["instances"].as_array()?.iter().map(|one| Some(one["id"].as_str()?.to_owned())).collect()
        };
        let own = ids(here, "");
        own.is_some() && own == ids(there, &format!("?dc={of}"))
    })
}
