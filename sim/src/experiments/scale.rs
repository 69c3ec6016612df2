//! How fast the simulator is: wall seconds a simulated one, of clusters that form and that are idle, and what they take in memory.

use crate::agent;
use crate::rng::Rng;
use crate::world::clock::Clock;
use crate::world::network::Conditions;
use crate::world::{HostId, World};
use tidings::engine::Engine;
use tidings::engine::io::Token;
use tidings::model::command::Command;

const SECOND: u64 = 1_000_000_000;
/// How long a cluster may take to form.
const FORMED_WITHIN_NS: u64 = 120 * SECOND;
/// How long it rests before it counts as idle.
const REST_NS: u64 = 20 * SECOND;

/// What only the machine underneath knows.
pub trait Gauge {
    /// Seconds of processor time since some instant.
    fn processor_s(&self) -> f64;
    /// Bytes of memory in use.
    fn memory_bytes(&self) -> u64;
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    /// Virtual seconds from nothing to a whole cluster; none if that took too long.
    pub formed_virtual_s: Option<f64>,
    pub formed_processor_s: f64,
    pub idle_virtual_s: u64,
    pub idle_processor_s: f64,
    /// Virtual seconds a second of processor time while idle.
    pub times_real_time: f64,
    pub events_a_node_s: f64,
    pub datagrams_a_node_s: f64,
    pub bytes_a_node_s: f64,
    pub memory_mib: f64,
}

/// Forms a cluster, lets it rest, and measures it idle.
pub fn measure(seed: u64, nodes: u32, idle_s: u64, gauge: &dyn Gauge, progress: &dyn Fn(&str)) -> Figures {
    let mut world = World::<Engine>::new(seed, Conditions::LAN);
    let mut rng = Rng::new(seed, "scale", 0);
    let began = gauge.processor_s();
    let hosts: Vec<HostId> = (0..nodes).map(|number| world.add_host(0, Clock::default(), agent::config(number))).collect();
    let seeds: Vec<_> = (0..3.min(nodes)).map(World::<Engine>::address_of).collect();
    for host in &hosts {
        world.start(*host);
        world.command(*host, Token(0), Command::SetSeeds(seeds.clone()));
        run_until(&mut world, rng.between(0, 20_000_000));
    }
    let formed = loop {
        if is_formed(&world, &hosts) {
            break Some(world.now());
        }
        if world.now() > FORMED_WITHIN_NS {
            break None;
        }
        run_until(&mut world, SECOND / 5);
        progress(&format!("{nodes} agents form: {:.1} virtual s", world.now() as f64 / 1e9));
    };
    let formed_processor_s = gauge.processor_s() - began;
    run_until(&mut world, REST_NS);
    let (before, events, traffic) = (gauge.processor_s(), world.events(), traffic(&world));
    for second in 0..idle_s {
        progress(&format!("{nodes} agents are idle: {second} of {idle_s} virtual s"));
        run_until(&mut world, SECOND);
    }
    let idle_processor_s = gauge.processor_s() - before;
    let after = self::traffic(&world);
    let node_seconds = f64::from(nodes) * idle_s as f64;
    Figures {
        nodes,
        formed_virtual_s: formed.map(|ns| ns as f64 / 1e9),
        formed_processor_s,
        idle_virtual_s: idle_s,
        idle_processor_s,
        times_real_time: idle_s as f64 / idle_processor_s.max(1e-9),
        events_a_node_s: (world.events() - events) as f64 / node_seconds,
        datagrams_a_node_s: (after.0 - traffic.0) as f64 / node_seconds,
        bytes_a_node_s: (after.1 - traffic.1) as f64 / node_seconds,
        memory_mib: gauge.memory_bytes() as f64 / f64::from(1 << 20),
    }
}

fn run_until(world: &mut World<Engine>, ns: u64) {
    let end = world.now() + ns;
    while world.next_at().is_some_and(|next| next <= end) {
        world.step();
        while world.note().is_some() {}
    }
    world.idle_until(end);
}

fn is_formed(world: &World<Engine>, hosts: &[HostId]) -> bool {
    let root = world.machine(hosts[0]).map(|engine| engine.catalog().root());
    hosts.iter().all(|host| {
        world
            .machine(*host)
            .is_some_and(|engine| engine.membership().alive() == hosts.len() && engine.is_ready() && Some(engine.catalog().root()) == root)
    })
}

fn traffic(world: &World<Engine>) -> (u64, u64) {
    world.host_ids().map(|host| world.host(host).traffic).fold((0, 0), |sum, one| (sum.0 + one.datagrams_out, sum.1 + one.bytes_out))
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>6} agents: formed in {} virtual s ({:.1} s of a core); idle {:.1} times real time; {:.1} events, {:.2} datagrams, {:.0} B a node and second; {:.0} MiB",
            self.nodes,
            self.formed_virtual_s.map_or("more than 120".to_owned(), |s| format!("{s:.1}")),
            self.formed_processor_s,
            self.times_real_time,
            self.events_a_node_s,
            self.datagrams_a_node_s,
            self.bytes_a_node_s,
            self.memory_mib
        )
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
        let figures = measure(1, 5, 10, &Still, &|_| {});
        assert!(figures.formed_virtual_s.is_some_and(|s| s < 10.0));
        assert!(figures.datagrams_a_node_s > 1.0 && figures.datagrams_a_node_s < 30.0, "{figures}");
    }
}
