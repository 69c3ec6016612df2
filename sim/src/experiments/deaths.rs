//! What deaths cost: of one agent with many instances, and of a large part of the cluster at once.
//!
//! Instances of a dead agent must be gone from all views soon, and by the membership's word alone: no record is written for them
//! (invariant 7). So this counts what travels of each: updates of the membership that are news to somebody, records and heads.

use super::watch::Watch;
use super::{Summary, acquainted};
use crate::plan::{Intent, Kept, PlannedClient};
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use crate::world::network::Conditions;
use tidings::engine::Engine;
use tidings::view::Entry;

/// How long it is looked on.
const WITHIN_NS: u64 = 60 * SECOND;
/// How exactly times are taken.
const LOOK_NS: u64 = 20_000_000;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub loss: f64,
    /// That each of the dying has.
    pub instances: u32,
    /// Killed at once.
    pub deaths: u32,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub loss: f64,
    pub deaths: u32,
    /// Of each of the dead.
    pub instances: u32,
    /// Seconds until one of the others handed none of their instances out any more, over the others.
    pub gone_s: Option<Summary>,
    /// Others that handed some of them out for the whole time.
    pub still_served_by: usize,
    /// Seconds until the first, half, and the last of the others held all of the dead down.
    pub known_first_s: Option<f64>,
    pub known_half_s: Option<f64>,
    pub known_all_s: Option<f64>,
    /// Of those that live, held down by others at the end.
    pub healthy_down: u64,
    /// Heads that moved at the others: each record that travels moves one.
    pub heads_moved: u64,
    /// Deltas that the others sent.
    pub deltas_sent: u64,
    /// Packets and bytes of the membership that an agent sent more than while nobody dies, a death.
    pub packets_more: f64,
    pub bytes_more: f64,
}

/// # Errors
/// An engine logged an error.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let mut run = Run::new(settings.seed, Conditions { loss: settings.loss, ..Conditions::LAN });
    let hosts = acquainted::cluster(&mut run, settings.nodes, &acquainted::sealed(settings.seed), progress)?;
    let mut order = hosts.clone();
    Rng::new(settings.seed, "deaths", 0).shuffle(&mut order);
    let others = order.split_off(order.len().min(settings.deaths as usize));
    register(&mut run, &order, settings.instances)?;
    progress("instances spread");
    run.run_for(20 * SECOND)?;
    // The same time without deaths.
    let before = Sum::over(&run, &others);
    run.run_for(WITHIN_NS)?;
    let calm = Sum::over(&run, &others);
    let heads = heads(&run, &others);

    let mut watch = Watch::new(&run, &order, &others);
    for host in &order {
        run.kill(*host);
    }
    let (mut waiting, mut gone) = (others.clone(), Vec::new());
    while run.world.now() < watch.began + WITHIN_NS {
        run.run_for(if waiting.is_empty() && watch.all_s.is_some() { SECOND } else { LOOK_NS })?;
        let seconds = (run.world.now() - watch.began) as f64 / 1e9;
        waiting.retain(|host| {
            let serves = serves(&run, *host, &order);
            if !serves {
                gone.push(seconds);
            }
            serves
        });
        watch.look(&run);
        progress(&format!("{} died {seconds:.1} virtual s ago; {} agents serve what they had", order.len(), waiting.len()));
    }
    let after = Sum::over(&run, &others);
    let per_death = |calm: u64, storm: u64| (storm as f64 - calm as f64) / others.len() as f64 / order.len() as f64;
    let dead = order.len();
    let down = |engine: &Engine| engine.membership().members().filter(|member| !member.is_up()).count();
    let healthy_down =
        others.iter().filter_map(|host| run.world.machine(*host)).map(|engine| down(engine).saturating_sub(dead) as u64).sum();
    Ok(Figures {
        nodes: settings.nodes,
        loss: settings.loss,
        deaths: settings.deaths,
        instances: settings.instances,
        gone_s: Summary::of(&gone),
        still_served_by: waiting.len(),
        known_first_s: watch.first_s,
        known_half_s: watch.half_s,
        known_all_s: watch.all_s,
        healthy_down,
        heads_moved: self::heads(&run, &others) - heads,
        deltas_sent: after.deltas - calm.deltas,
        packets_more: per_death(calm.packets - before.packets, after.packets - calm.packets),
        bytes_more: per_death(calm.bytes - before.bytes, after.bytes - calm.bytes),
    })
}

/// Has a client register each instance, in services of ten; all of one agent's at one agent.
fn register(run: &mut Run, at: &[HostId], instances: u32) -> Result<(), Violation> {
    const INSTANCES_A_SERVICE: u32 = 10;
    for host in at {
        for number in 0..instances {
            let client = run.add_client(PlannedClient {
                keeps: Kept::Instance,
                service: number / INSTANCES_A_SERVICE,
                is_agent_scoped: false,
                ttl_ms: None,
                home: host.0,
                dies_at: None,
            });
            run.operate(client, Intent::Register);
        }
        run.run_for(SECOND / 20)?;
    }
    Ok(())
}

/// Whether an agent hands out any instance of one of these.
fn serves(run: &Run, viewer: HostId, owners: &[HostId]) -> bool {
    let Some(view) = &run.views[viewer.index()] else { return false };
    run.clients.iter().filter(|client| owners.contains(&client.at)).any(|client| {
        view.service("default", client.service().as_str())
            .is_some_and(|service| service.with_id(client.id().as_str()).any(Entry::is_available))
    })
}

/// What some agents have sent so far.
struct Sum {
    packets: u64,
    bytes: u64,
    deltas: u64,
}

impl Sum {
    fn over(run: &Run, hosts: &[HostId]) -> Self {
        let mut sum = Self { packets: 0, bytes: 0, deltas: 0 };
        for engine in hosts.iter().filter_map(|host| run.world.machine(*host)) {
            sum.packets += engine.membership().counters.packets_sent;
            sum.bytes += engine.membership().counters.bytes_sent;
            sum.deltas += engine.spread().counters.deltas_sent;
        }
        sum
    }
}

/// Where all heads stand, summed up over the agents that hold them.
fn heads(run: &Run, hosts: &[HostId]) -> u64 {
    hosts.iter().filter_map(|host| run.world.machine(*host)).flat_map(|engine| engine.catalog().heads()).map(|head| head.seq).sum()
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("{s:.2}"));
        writeln!(
            f,
            "{} of {} agents die at once, with {} instances each; {:.0} % loss, LAN delays",
            self.deaths,
            self.nodes,
            self.instances,
            self.loss * 100.0
        )?;
        let gone = self.gone_s.map_or("nothing".to_owned(), |s| format!("p50 {:.2}  p99 {:.2}  max {:.2}", s.p50, s.p99, s.max));
        writeln!(f, "  not handed out, s           {gone}; {} agents go on", self.still_served_by)?;
        writeln!(
            f,
            "  all of them held down, s    by the first {}, by half {}, by all {}",
            seconds(self.known_first_s),
            seconds(self.known_half_s),
            seconds(self.known_all_s)
        )?;
        writeln!(f, "  healthy members held down   {}", self.healthy_down)?;
        writeln!(f, "  records that travelled      {} heads moved, {} deltas sent", self.heads_moved, self.deltas_sent)?;
        write!(f, "  membership, a node, a death {:.1} packets and {:.0} B more than at rest in 60 s", self.packets_more, self.bytes_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_empty_the_views_and_write_no_record() {
        let settings = Settings { seed: 1, nodes: 12, loss: 0.0, instances: 20, deaths: 3 };
        let figures = measure(&settings, &|_| {}).expect("nothing fails");
        assert_eq!((figures.still_served_by, figures.heads_moved, figures.deltas_sent, figures.healthy_down), (0, 0, 0, 0), "{figures}");
        let gone = figures.gone_s.expect("all saw it");
        assert!(gone.count == 9 && gone.max > 0.5 && gone.max < 10.0, "{figures}");
    }
}
