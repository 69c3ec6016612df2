//! Figures of ten real agents: how fast a registration spreads, how fast a death is noticed, how fast a leave is.
//!
//! ```text
//! cargo bench --bench figures -- spread     1,000 registrations at 50 a second, seen through nine event streams (loopback)
//! cargo bench --bench figures -- deaths     60 deaths under 50 registrations a second: kill -9, SIGSTOP, link down (root, Linux)
//! cargo bench --bench figures -- leaves     20 times SIGTERM under the same load (root, Linux)
//! cargo bench --bench figures -- join       5 cold joins to an agent that holds 200,000 instances (loopback)
//! cargo bench --bench figures -- lookups    5 alternating runs: GET of a service under writes, against a bare axum handler (loopback)
//! cargo bench --bench figures -- waiters    10,000 blocking queries of Consul's kind, woken ten and all at a time (loopback)
//! cargo bench --bench figures -- alone      60 s of reads of Consul's kind and DNS at the last of ten agents, nine killed at once (loopback)
//! cargo bench --bench figures -- wan        two datacenters, 100 ms and 1 % loss apart: 400 registrations, 8 deaths, bytes (root, Linux)
//! cargo bench --bench figures -- wan-cut    6 times 20 s linked and 20 s cut: lookups at home, ages, and how it mends (root, Linux)
//! cargo bench --bench figures -- wan-kills  120 s of gateways killed in turn under registrations, and without (root, Linux)
//! ```
//!
//! `deaths 9` does nine. Each prints what it measured on, every figure from a raw list, and says what failed. The agents are
//! the release build, started with the flags that a user would give: `--gossip --http --data-dir --encrypt @key --join`.
#![allow(clippy::disallowed_methods, reason = "a benchmark lives in real time")]

mod alone;
#[cfg(target_os = "linux")]
mod deaths;
#[cfg(target_os = "linux")]
mod fleet;
mod join;
#[path = "../../../tests/lab/mod.rs"]
mod lab;
mod lookups;
mod spread;
mod waiters;
#[cfg(target_os = "linux")]
mod wan;
#[cfg(target_os = "linux")]
mod wan_cut;

use std::time::Duration;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let count = |default| arguments.get(1).map_or(default, |word| word.parse().expect("the second argument is a number"));
    if let [word, flavour] = arguments.as_slice()
        && word == "bare"
    {
        return lookups::serve_bare(flavour);
    }
    machine();
    match arguments.first().map(String::as_str) {
        Some("spread") => spread::measure(count(1_000)),
        #[cfg(target_os = "linux")]
        Some("deaths") => deaths::measure(count(60)),
        #[cfg(target_os = "linux")]
        Some("leaves") => deaths::measure_leaves(count(20)),
        #[cfg(target_os = "linux")]
        Some("wan") => wan::measure(count(400)),
        #[cfg(target_os = "linux")]
        Some("wan-cut") => wan_cut::measure(count(6)),
        #[cfg(target_os = "linux")]
        Some("wan-kills") => wan::measure_kills(count(120)),
        Some("join") => join::measure(count(200_000)),
        Some("waiters") => waiters::measure(count(10_000)),
        Some("alone") => alone::measure(count(60)),
        Some("lookups") => lookups::measure(count(5)),
        _ => {
            eprintln!(
                "which figure? cargo bench --bench figures -- spread|deaths|leaves|join|lookups|waiters|alone|wan|wan-cut|wan-kills [COUNT]"
            )
        }
    }
    machine();
}

fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let date = std::process::Command::new("date").arg("-u").output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    println!("# {}, {cores} cores, load {}", date.unwrap_or_default().trim(), load.trim());
}

/// One line of figures.
pub fn report(what: &str, samples: &mut [Duration]) {
    samples.sort_unstable();
    let at = |share: f64| samples.get(((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1)));
    let ms = |sample: Option<&Duration>| sample.map_or(String::from("-"), |d| format!("{:.1}", d.as_secs_f64() * 1e3));
    println!(
        "{what:<44} n {:>5}  p50 {:>8}  p90 {:>8}  p99 {:>8}  max {:>8} ms",
        samples.len(),
        ms(at(0.5)),
        ms(at(0.9)),
        ms(at(0.99)),
        ms(samples.last())
    );
}
