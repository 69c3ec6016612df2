//! Figures of whole clusters.

use super::real_now;
use crate::experiments::acquainted::Beginning;
use crate::experiments::lifeguard;
use crate::experiments::plot::{Plot, Point};
use crate::experiments::scale::{self, Gauge};
use crate::experiments::{deaths, detect, rapid, repair, spread, storm, wan_cut};
use crate::log;
use crate::violation::Violation;
use clap::{Args, ValueEnum as _};
use serde::Serialize;
use std::fmt::Display;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Args)]
pub struct SpreadArguments {
    #[arg(long, value_delimiter = ',', default_value = "100")]
    nodes: Vec<u32>,
    /// The share of datagrams that are lost.
    #[arg(long, value_delimiter = ',', default_value = "0.05")]
    loss: Vec<f64>,
    #[arg(long, default_value_t = 50)]
    trials: u32,
    /// How the cluster begins: by joining three seeds, or knowing each other.
    #[arg(long, value_enum, default_value = "joined")]
    beginning: Beginning,
    /// Instead of single changes, a storm of so many a second, for ten seconds.
    #[arg(long, value_name = "CHANGES")]
    storm: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw how long a change takes over the number of agents.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Args)]
pub struct DetectArguments {
    #[arg(long, default_value_t = 10)]
    nodes: u32,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Deaths of each kind: killed, frozen, unplugged.
    #[arg(long, default_value_t = 20)]
    deaths: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn spread(arguments: &SpreadArguments) -> ExitCode {
    const STORM_S: u64 = 10;
    log::listen(None);
    let SpreadArguments { trials, beginning, seed, .. } = *arguments;
    let cases = || arguments.nodes.iter().flat_map(|nodes| arguments.loss.iter().map(|loss| (*nodes, *loss)));
    if let Some(changes_a_second) = arguments.storm {
        let settings = |(nodes, loss)| storm::Settings { seed, nodes, loss, changes_a_second, seconds: STORM_S, beginning };
        return print_all(cases().map(|case| storm::measure(&settings(case), &progress)), arguments.json).0;
    }
    let settings = |(nodes, loss)| spread::Settings { seed, nodes, loss, trials, beginning };
    let (code, figures) = print_all(cases().map(|case| spread::measure(&settings(case), &progress)), arguments.json);
    let Some(path) = &arguments.svg else { return code };
    let point = |row: &spread::Figures| {
        let colour = if row.loss == 0.0 { "seagreen" } else { "steelblue" };
        let name = format!("{} agents, {:.0} %", row.nodes, row.loss * 100.0);
        Some(Point { x: f64::from(row.nodes), y: row.all_ms?.p99, name, colour })
    };
    let points: Vec<Point> = figures.iter().filter_map(point).collect();
    let title = "One change to all agents, LAN delays; the share of datagrams that are lost";
    draw(path, &Plot { title, x: "agents", y: "milliseconds, 99th percentile", points: &points })
}

pub fn detect(arguments: &DetectArguments) -> ExitCode {
    log::listen(None);
    let DetectArguments { nodes, loss, deaths, seed, json } = *arguments;
    print_figures(&detect::measure(&detect::Settings { seed, nodes, loss, deaths }), json)
}

/// Prints the figures of several runs, each as soon as it is there; JSON as one list. Stops at the first that fails.
fn print_all<F: Display + Serialize>(runs: impl Iterator<Item = Result<F, Violation>>, is_json: bool) -> (ExitCode, Vec<F>) {
    let mut all = Vec::new();
    for figures in runs {
        progress("");
        match figures {
            Err(violation) => return (print_figures::<F>(&Err(violation), is_json), all),
            Ok(figures) => {
                if !is_json {
                    println!("{figures}");
                }
                all.push(figures);
            }
        }
    }
    if is_json {
        println!("{}", serde_json::to_string_pretty(&all).expect("figures are numbers and names"));
    }
    (ExitCode::SUCCESS, all)
}

fn draw(path: &Path, plot: &Plot<'_>) -> ExitCode {
    match std::fs::write(path, plot.to_svg()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn print_figures<F: Display + Serialize>(figures: &Result<F, Violation>, is_json: bool) -> ExitCode {
    match figures {
        Ok(figures) if is_json => println!("{}", serde_json::to_string_pretty(figures).expect("figures are numbers and names")),
        Ok(figures) => println!("{figures}"),
        Err(violation) => {
            println!("FAILED {violation}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

#[derive(Args)]
pub struct ScaleArguments {
    #[arg(long, value_delimiter = ',', default_value = "100,300,1000")]
    nodes: Vec<u32>,
    /// Virtual seconds that each cluster is watched while idle.
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// How clusters begin: by joining three seeds, or knowing each other.
    #[arg(long, value_enum, default_value = "joined")]
    beginning: Beginning,
    /// Agents that are killed at once at the end; it is waited until all others know.
    #[arg(long, default_value_t = 0)]
    crashes: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw time and memory over the number of agents.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn scale(arguments: &ScaleArguments) -> ExitCode {
    log::listen(None);
    let gauge = ThisProcess(real_now());
    let ScaleArguments { idle_s, beginning, crashes, seed, .. } = *arguments;
    let settings = |nodes| scale::Settings { seed, nodes, idle_s, beginning, crashes };
    let (code, figures) =
        print_all(arguments.nodes.iter().map(|nodes| scale::measure(&settings(*nodes), &gauge, &progress)), arguments.json);
    let Some(path) = &arguments.svg else { return code };
    let points: Vec<Point> = figures
        .iter()
        .flat_map(|row| {
            let of = |y, what: &str, colour| Point { x: f64::from(row.nodes), y, name: format!("{what}, {}", row.nodes), colour };
            [of(1_000.0 / row.times_real_time, "ms a virtual s", "steelblue"), of(row.memory_mib, "MiB", "crimson")]
        })
        .collect();
    draw(path, &Plot { title: "A cluster at rest in the simulator", x: "agents", y: "milliseconds of a core; MiB", points: &points })
}

#[derive(Args)]
pub struct DeathsArguments {
    #[arg(long, default_value_t = 100)]
    nodes: u32,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Agents that are killed at once.
    #[arg(long, default_value_t = 1)]
    deaths: u32,
    /// Instances that each of them has.
    #[arg(long, default_value_t = 100)]
    instances: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn deaths(arguments: &DeathsArguments) -> ExitCode {
    log::listen(None);
    let DeathsArguments { nodes, loss, deaths, instances, seed, json } = *arguments;
    let figures = deaths::measure(&deaths::Settings { seed, nodes, loss, instances, deaths }, &progress);
    progress("");
    print_figures(&figures, json)
}

#[derive(Args)]
pub struct RepairArguments {
    /// Agents, and so origins, where an agent misses a few changes.
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// Origins of which it misses one; none: leaves this out.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,999")]
    diverged: Vec<u32>,
    /// Agents of a cluster that is cut in half; 0: leaves this out.
    #[arg(long, default_value_t = 20)]
    halved: u32,
    /// For so many seconds.
    #[arg(long, default_value_t = 3_600)]
    apart_s: u64,
    /// On each side meanwhile.
    #[arg(long, default_value_t = 10_000)]
    changes: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn repair(arguments: &RepairArguments) -> ExitCode {
    log::listen(None);
    let RepairArguments { nodes, halved, apart_s, changes, seed, .. } = *arguments;
    let of_few = arguments.diverged.iter().map(|diverged| {
        let settings = repair::Diverged { seed, nodes, diverged: *diverged };
        repair::diverged(&settings, &progress)
    });
    let of_halves = (halved > 0).then(|| repair::partition(&repair::Partition { seed, nodes: halved, apart_s, changes }, &progress));
    let figures = of_few.chain(of_halves).collect();
    progress("");
    print_table(figures, arguments.json, repair::table)
}

#[derive(Args)]
pub struct WanCutArguments {
    /// Agents of each of the two datacenters.
    #[arg(long, default_value_t = 6)]
    agents: u32,
    /// Of these, gateways.
    #[arg(long, default_value_t = 2)]
    gateways: u32,
    #[arg(long, default_value_t = 3_600)]
    apart_s: u64,
    /// On each side meanwhile.
    #[arg(long, default_value_t = 10_000)]
    changes: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn wan_cut(arguments: &WanCutArguments) -> ExitCode {
    log::listen(None);
    let WanCutArguments { agents, gateways, apart_s, changes, seed, json } = *arguments;
    let figures = wan_cut::measure(&wan_cut::Settings { seed, agents, gateways, apart_s, changes }, &progress);
    progress("");
    print_figures(&figures, json)
}

#[derive(Args)]
pub struct RapidArguments {
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// Which cases; all, if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<rapid::Case>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn rapid(arguments: &RapidArguments) -> ExitCode {
    log::listen(None);
    let cases = if arguments.cases.is_empty() { rapid::Case::value_variants() } else { &arguments.cases };
    let settings = cases.iter().map(|case| rapid::Settings { seed: arguments.seed, nodes: arguments.nodes, case: *case });
    let figures: Result<Vec<_>, Violation> = settings.map(|settings| rapid::measure(&settings, &progress)).collect();
    progress("");
    print_table(figures, arguments.json, rapid::table)
}

/// Figures of several runs.
fn print_table<F: Serialize>(figures: Result<Vec<F>, Violation>, is_json: bool, table: impl Fn(&[F]) -> String) -> ExitCode {
    match figures {
        Ok(figures) if is_json => println!("{}", serde_json::to_string_pretty(&figures).expect("figures are numbers and names")),
        Ok(figures) => println!("\n{}", table(&figures)),
        Err(violation) => {
            println!("FAILED {violation}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One line on standard error that the next one overwrites; nothing where nobody watches.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{line:<78}");
    }
}

/// Reads what the system counts of this process.
struct ThisProcess(Instant);

impl Gauge for ThisProcess {
    /// Of the scheduler, in nanoseconds on the processor; where that is not told, the wall clock.
    fn processor_s(&self) -> f64 {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let on_processor = told.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        on_processor.map_or_else(|| self.0.elapsed().as_secs_f64(), |ns| ns / 1e9)
    }

    fn memory_bytes(&self) -> u64 {
        const PAGE_BYTES: u64 = 4_096;
        let told = std::fs::read_to_string("/proc/self/statm").ok();
        told.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE_BYTES)
    }
}

#[derive(Args)]
pub struct LifeguardArguments {
    #[arg(long, default_value_t = 128)]
    nodes: u32,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// What befalls members again and again.
    #[arg(long, value_enum, default_value = "stall")]
    anomaly: lifeguard::Anomaly,
    /// Members that it befalls together.
    #[arg(long, value_delimiter = ',', default_value = "4,16")]
    stalled: Vec<u32>,
    /// For so many milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "2048,8192,16384")]
    stall_ms: Vec<u64>,
    /// With so many milliseconds between.
    #[arg(long, value_delimiter = ',', default_value = "64,4096")]
    pause_ms: Vec<u64>,
    /// Clusters of which eight members really die.
    #[arg(long, default_value_t = 4)]
    deaths: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the detectors of these names.
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw false positives over the time to full detection.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn lifeguard(arguments: &LifeguardArguments) -> ExitCode {
    log::listen(None);
    let settings = lifeguard::Settings {
        seed: arguments.seed,
        nodes: arguments.nodes,
        loss: arguments.loss,
        stalled: arguments.stalled.clone(),
        stall_ms: arguments.stall_ms.clone(),
        pause_ms: arguments.pause_ms.clone(),
        deaths: arguments.deaths,
        anomaly: arguments.anomaly,
    };
    let is_wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let wanted = lifeguard::variants().into_iter().filter(|variant| is_wanted(variant.name));
    let figures: Vec<_> = wanted.map(|variant| lifeguard::measure(&settings, &variant, &progress)).collect();
    progress("");
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures).expect("figures are numbers and names"));
    } else {
        println!("\n{}", lifeguard::table(&settings, &figures));
    }
    if let Some(path) = &arguments.svg {
        let point = |row: &lifeguard::Figures| {
            let colour = if row.name.starts_with("SWIM") { "crimson" } else { "steelblue" };
            Some(Point { x: row.full_s?.p50, y: row.false_positives as f64, name: row.name.clone(), colour })
        };
        let points: Vec<Point> = figures.iter().filter_map(point).collect();
        let title = format!("{} members, {:.0} % loss: left and low is better", settings.nodes, settings.loss * 100.0);
        let plot = Plot { title: &title, x: "seconds until all know of a death, median", y: "healthy members held down", points: &points };
        return draw(path, &plot);
    }
    ExitCode::SUCCESS
}
