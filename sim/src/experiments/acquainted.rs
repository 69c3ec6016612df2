//! Clusters that begin whole: every agent starts alone and is then told of all others at once, members and records alike.
//!
//! What a join brings over streams costs the square of the cluster's size in virtual traffic; where an experiment asks what happens
//! afterwards, it begins here. From then on the agents are on their own, with their own packets and timers.

use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::{HostId, World};
use tidings::engine::Engine;
use tidings::engine::acquaint::Introduction;
use tidings::engine::config::EngineConfig;

/// How the cluster of an experiment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Beginning {
    /// Everybody joins three seeds.
    Joined,
    /// Everybody knows everybody.
    Acquainted,
}

/// How long the agents are left to themselves: newcomers keep what they hear to themselves for 10 s, and probes drift apart.
pub const REST_NS: u64 = 20 * SECOND;

/// How long a cluster may take to form.
const FORMED_WITHIN_NS: u64 = 120 * SECOND;

/// Tells all hosts of each other; each must run, and know nobody.
pub fn acquaint(world: &mut World<Engine>, hosts: &[HostId], progress: &dyn Fn(&str)) {
    let introductions: Vec<Introduction> = hosts.iter().filter_map(|host| world.machine(*host)).map(Engine::introduction).collect();
    for (at, host) in hosts.iter().enumerate() {
        if at % 100 == 0 {
            progress(&format!("{at} of {} agents know all others", hosts.len()));
        }
        world.reach(*host, |engine, now| engine.acquaint(now, &introductions));
    }
}

/// Adds this many agents that know each other to a run without any, and lets them come to rest.
///
/// # Errors
/// An engine logged an error.
pub fn cluster(
    run: &mut Run,
    nodes: u32,
    configure: &dyn Fn(&mut EngineConfig),
    progress: &dyn Fn(&str),
) -> Result<Vec<HostId>, Violation> {
    let hosts = run.add_agents(nodes, configure);
    for host in &hosts {
        run.start(*host);
    }
    // Their first writes become durable, and views show them, while each is alone; not for so long that one takes itself for deaf.
    run.run_for(SECOND / 2)?;
    acquaint(&mut run.world, &hosts, progress);
    run.set_seeds((0..nodes.min(3)).collect());
    run.run_for(REST_NS)?;
    Ok(hosts)
}

/// A cluster that joined three seeds within 20 ms an agent, or is acquainted; and when it was whole, where it had to become so. It is at rest.
///
/// # Errors
/// An engine logged an error, or the cluster did not become whole in time.
pub fn begin(
    run: &mut Run,
    nodes: u32,
    beginning: Beginning,
    configure: &dyn Fn(&mut EngineConfig),
    progress: &dyn Fn(&str),
) -> Result<(Vec<HostId>, Option<u64>), Violation> {
    if beginning == Beginning::Acquainted {
        return Ok((cluster(run, nodes, configure, progress)?, None));
    }
    let mut rng = Rng::new(run.world.seed(), "beginning", 0);
    run.set_seeds((0..nodes.min(3)).collect());
    let hosts = run.add_agents(nodes, configure);
    for host in &hosts {
        run.start(*host);
        run.run_for(rng.between(0, 20_000_000))?;
    }
    while run.world.now() < FORMED_WITHIN_NS {
        run.run_for(SECOND / 10)?;
        progress(&format!("{nodes} agents form: {:.1} virtual s", run.world.now() as f64 / 1e9));
        if is_whole(&run.world, &hosts) {
            let formed = run.world.now();
            run.run_for(REST_NS)?;
            return Ok((hosts, Some(formed)));
        }
    }
    Err(run.violation("experiment", hosts[..1].to_vec(), "a whole cluster within 120 s", "it is not"))
}

/// Seals an experiment's packets, as those of a cluster outside of one machine are.
pub fn sealed(seed: u64) -> impl Fn(&mut EngineConfig) {
    let key = Rng::new(seed, "key", 0).seed();
    move |config| config.keys = vec![key]
}

/// Whether everybody knows everybody and holds the same records.
pub fn is_whole(world: &World<Engine>, hosts: &[HostId]) -> bool {
    let root = world.machine(hosts[0]).map(|engine| engine.catalog().root());
    hosts
        .iter()
        .filter_map(|host| world.machine(*host))
        .all(|engine| engine.membership().alive() == hosts.len() && engine.is_ready() && Some(engine.catalog().root()) == root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::network::Conditions;

    #[test]
    fn a_cluster_that_begins_whole_stays_so_and_is_quiet() {
        let mut run = Run::new(1, Conditions::LAN);
        let hosts = cluster(&mut run, 30, &|_| {}, &|_| {}).expect("nothing fails");
        assert!(is_whole(&run.world, &hosts));
        let streams = |run: &Run| hosts.iter().map(|host| run.world.host(*host).traffic.streams_opened).sum::<u64>();
        assert_eq!(streams(&run), 0, "nobody has anything to ask");
        run.run_for(60 * SECOND).expect("nothing fails");
        assert!(is_whole(&run.world, &hosts));
        assert_eq!(streams(&run), 0);
    }
}
