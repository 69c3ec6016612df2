//! How fast the simulator is: wall seconds a simulated one, of clusters that form and that are idle, and what they take in memory.

use super::acquainted::{self, Beginning};
use super::watch::Watch;
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::network::Conditions;
use crate::world::{HostId, World};
use std::collections::BTreeSet;
use tidings::engine::Engine;
use tidings::model::names::NodeId;

/// How long it is waited until all know of the dead.
const KNOWN_WITHIN_NS: u64 = 60 * SECOND;

/// What only the machine underneath knows.
pub trait Gauge {
    /// Seconds of processor time since some instant.
    fn processor_s(&self) -> f64;
    /// Bytes of memory in use.
    fn memory_bytes(&self) -> u64;
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    /// Virtual seconds that the cluster is watched while idle.
    pub idle_s: u64,
    /// How it begins.
    pub beginning: Beginning,
    /// Agents that are killed at once at the end.
    pub crashes: u32,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub beginning: Beginning,
    /// Virtual seconds from nothing to a whole cluster; none if nobody had to join.
    pub formed_virtual_s: Option<f64>,
    /// Until it is whole and has come to rest.
    pub formed_processor_s: f64,
    pub idle_virtual_s: u64,
    pub idle_processor_s: f64,
    /// Virtual seconds a second of processor time while idle.
    pub times_real_time: f64,
    pub events_a_node_s: f64,
    pub datagrams_a_node_s: f64,
    pub bytes_a_node_s: f64,
    pub crash: Option<Crash>,
    /// Of processor time, in all.
    pub processor_s: f64,
    /// At the end; nothing is given back before.
    pub memory_mib: f64,
    /// Bytes of memory for each agent that one agent knows.
    pub bytes_a_pair: f64,
}

/// Some were killed at once.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Crash {
    pub killed: u32,
    /// Virtual seconds until the first, and the last, of the others held the last of them down; none if it took too long.
    pub first_s: Option<f64>,
    pub all_s: Option<f64>,
    pub processor_s: f64,
    /// Of those that live, held down by anybody at the end.
    pub healthy_down: u64,
}

/// Begins a cluster, lets it rest, measures it idle, and kills some.
///
/// # Errors
/// An engine logged an error.
pub fn measure(settings: &Settings, gauge: &dyn Gauge, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let Settings { seed, nodes, idle_s, beginning, crashes } = *settings;
    let began = gauge.processor_s();
    let mut run = Run::new(seed, Conditions::LAN);
    let (hosts, formed) = acquainted::begin(&mut run, nodes, beginning, &acquainted::sealed(seed), progress)?;
    let formed_processor_s = gauge.processor_s() - began;
    let (before, events, traffic) = (gauge.processor_s(), run.world.events(), traffic(&run.world));
    for second in 0..idle_s {
        progress(&format!("{nodes} agents are idle: {second} of {idle_s} virtual s"));
        run.run_for(SECOND)?;
    }
    let idle_processor_s = gauge.processor_s() - before;
    let (events, after) = (run.world.events() - events, self::traffic(&run.world));
    let crash = if crashes > 0 { Some(crash(&mut run, &hosts, settings, gauge, progress)?) } else { None };
    let node_seconds = f64::from(nodes) * idle_s as f64;
    let memory_bytes = gauge.memory_bytes() as f64;
    Ok(Figures {
        nodes,
        beginning,
        formed_virtual_s: formed.map(|ns| ns as f64 / 1e9),
        formed_processor_s,
        idle_virtual_s: idle_s,
        idle_processor_s,
        times_real_time: idle_s as f64 / idle_processor_s.max(1e-9),
        events_a_node_s: events as f64 / node_seconds,
        datagrams_a_node_s: (after.0 - traffic.0) as f64 / node_seconds,
        bytes_a_node_s: (after.1 - traffic.1) as f64 / node_seconds,
        crash,
        processor_s: gauge.processor_s() - began,
        memory_mib: memory_bytes / f64::from(1 << 20),
        bytes_a_pair: memory_bytes / (f64::from(nodes) * f64::from(nodes)),
    })
}

fn crash(run: &mut Run, hosts: &[HostId], settings: &Settings, gauge: &dyn Gauge, progress: &dyn Fn(&str)) -> Result<Crash, Violation> {
    let began = gauge.processor_s();
    let mut order = hosts.to_vec();
    Rng::new(settings.seed, "scale", 1).shuffle(&mut order);
    let left = order.split_off(order.len().min(settings.crashes as usize));
    let mut watch = Watch::new(run, &order, &left);
    for host in &order {
        run.kill(*host);
    }
    while watch.all_s.is_none() && run.world.now() < watch.began + KNOWN_WITHIN_NS {
        run.run_for(SECOND / 10)?;
        progress(&format!(
            "{} agents: {} died {:.1} virtual s ago",
            settings.nodes,
            order.len(),
            (run.world.now() - watch.began) as f64 / 1e9
        ));
        watch.look(run);
    }
    let healthy: BTreeSet<NodeId> = left.iter().filter_map(|host| run.node(*host)).collect();
    let down =
        |engine: &Engine| engine.membership().members().filter(|member| !member.is_up() && healthy.contains(&member.node)).count() as u64;
    let healthy_down = left.iter().filter_map(|host| run.world.machine(*host)).map(down).sum();
    Ok(Crash {
        killed: order.len() as u32,
        first_s: watch.first_s,
        all_s: watch.all_s,
        processor_s: gauge.processor_s() - began,
        healthy_down,
    })
}

fn traffic(world: &World<Engine>) -> (u64, u64) {
    world.host_ids().map(|host| world.host(host).traffic).fold((0, 0), |sum, one| (sum.0 + one.datagrams_out, sum.1 + one.bytes_out))
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let formed = self.formed_virtual_s.map_or("acquainted".to_owned(), |s| format!("formed in {s:.1} virtual s"));
        write!(
            f,
            "{:>6} agents: {formed} ({:.1} s of a core); idle {:.1} times real time; {:.1} events, {:.2} datagrams, {:.0} B a node and second",
            self.nodes, self.formed_processor_s, self.times_real_time, self.events_a_node_s, self.datagrams_a_node_s, self.bytes_a_node_s,
        )?;
        if let Some(crash) = &self.crash {
            let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("{s:.1}"));
            write!(
                f,
                "; {} killed: known to the first after {} virtual s, to all after {} ({:.1} s of a core), {} healthy held down",
                crash.killed,
                seconds(crash.first_s),
                seconds(crash.all_s),
                crash.processor_s,
                crash.healthy_down
            )?;
        }
        write!(f, "; in all {:.1} s of a core, {:.0} MiB, {:.0} B a pair", self.processor_s, self.memory_mib, self.bytes_a_pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Still;

    impl Gauge for Still {
        fn processor_s(&self) -> f64 {
            0.0
        }

        fn memory_bytes(&self) -> u64 {
            1 << 20
        }
    }

    #[test]
    fn a_handful_forms_and_is_quiet() {
        let settings = Settings { seed: 1, nodes: 5, idle_s: 10, beginning: Beginning::Joined, crashes: 1 };
        let figures = measure(&settings, &Still, &|_| {}).expect("nothing fails");
        assert!(figures.formed_virtual_s.is_some_and(|s| s < 10.0));
        assert!(figures.datagrams_a_node_s > 1.0 && figures.datagrams_a_node_s < 30.0, "{figures}");
        let crash = figures.crash.expect("one was killed");
        assert!(crash.first_s <= crash.all_s && crash.all_s.is_some_and(|s| s < 10.0) && crash.healthy_down == 0);
    }
}
