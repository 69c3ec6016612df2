//! A storm of changes: how long each takes to reach all agents while many others are on their way, and what a change then costs.

use super::Summary;
use super::acquainted::{self, Beginning};
use super::spread::Meter;
use crate::plan::{Intent, Kept, PlannedClient};
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use crate::world::network::Conditions;

/// Of so many changes, the way of one is followed.
const FOLLOWED_OF: u64 = 50;
/// How exactly times are taken.
const LOOK_NS: u64 = 5_000_000;
/// How long it is waited for the last after the storm.
const AFTER_NS: u64 = 60 * SECOND;
/// Instances of a service that nobody follows.
const INSTANCES_A_SERVICE: u64 = 50;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub loss: f64,
    pub changes_a_second: u64,
    pub seconds: u64,
    pub beginning: Beginning,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub loss: f64,
    pub changes: u64,
    pub refused: u64,
    /// Milliseconds from a command to the last agent's view, of those that were followed.
    pub all_ms: Option<Summary>,
    /// To any agent's view.
    pub any_ms: Option<Summary>,
    /// That did not reach everybody within a minute of the storm's end.
    pub lost: u64,
    /// Milliseconds after the storm until all held the same.
    pub whole_ms: Option<f64>,
    /// Bytes that a node received in packets of their own, a change, and in streams.
    pub bytes_a_node: f64,
    pub packets_a_node: f64,
    pub stream_bytes_a_node: f64,
    /// Times that two agents whose roots differed compared heads, and those of them that found nothing.
    pub exchanges: u64,
    pub exchanges_in_vain: u64,
}

/// A change on its way.
struct Followed {
    service: String,
    began: u64,
    waiting: Vec<HostId>,
}

/// # Errors
/// The cluster did not come together.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let mut run = Run::new(settings.seed, Conditions { loss: settings.loss, ..Conditions::LAN });
    let configure = acquainted::sealed(settings.seed);
    let (hosts, _) = acquainted::begin(&mut run, settings.nodes, settings.beginning, &configure, progress)?;
    let mut rng = Rng::new(settings.seed, "storm", 0);
    let mut meter = Meter::new(&run);
    let streams = stream_bytes(&run);
    let exchanges_before = exchanges(&run);
    run.world.notes_packets = true;
    let (began, changes) = (run.world.now(), settings.changes_a_second * settings.seconds);
    let mut ways = Ways { followed: Vec::new(), all: Vec::new(), any: Vec::new() };
    for change in 0..changes {
        let from = *rng.pick(&hosts);
        let is_followed = change % FOLLOWED_OF == 0;
        let service = if is_followed { 1_000_000 + change } else { change / INSTANCES_A_SERVICE };
        let home = from.0;
        let client = run.add_client(PlannedClient {
            keeps: Kept::Instance,
            service: service as u32,
            is_agent_scoped: false,
            ttl_ms: None,
            home,
            dies_at: None,
        });
        if is_followed {
            let service = run.clients[client as usize].service().as_str().to_owned();
            ways.followed.push(Followed { service, began: run.world.now(), waiting: hosts.clone() });
        }
        run.operate(client, Intent::Register);
        let next = began + (change + 1) * SECOND / settings.changes_a_second;
        while run.world.now() < next {
            let now = run.world.now();
            let look = (now / LOOK_NS + 1) * LOOK_NS;
            meter.run_for(&mut run, look.min(next) - now)?;
            if run.world.now() == look {
                ways.look(&run);
            }
        }
        if change % 100 == 0 {
            progress(&format!("{} agents: {change} of {changes} changes", settings.nodes));
        }
    }
    let ended = run.world.now();
    let mut whole_ms = None;
    while (whole_ms.is_none() || !ways.followed.is_empty()) && run.world.now() < ended + AFTER_NS {
        meter.run_for(&mut run, LOOK_NS)?;
        ways.look(&run);
        if whole_ms.is_none() && acquainted::is_whole(&run.world, &hosts) {
            whole_ms = Some((run.world.now() - ended) as f64 / 1e6);
        }
    }
    let exchanges = exchanges(&run);
    let acknowledged = run.clients.iter().filter(|client| client.is_registered).count() as u64;
    let copies = changes as f64 * f64::from(settings.nodes);
    Ok(Figures {
        nodes: settings.nodes,
        loss: settings.loss,
        changes,
        refused: changes - acknowledged,
        all_ms: Summary::of(&ways.all),
        any_ms: Summary::of(&ways.any),
        lost: ways.followed.len() as u64,
        whole_ms,
        bytes_a_node: meter.bytes as f64 / copies,
        packets_a_node: meter.packets as f64 / copies,
        stream_bytes_a_node: (stream_bytes(&run) - streams) as f64 / copies,
        exchanges: exchanges.0 - exchanges_before.0,
        exchanges_in_vain: exchanges.1 - exchanges_before.1,
    })
}

/// The ways of those that are followed, and the times of those that have arrived.
struct Ways {
    followed: Vec<Followed>,
    all: Vec<f64>,
    any: Vec<f64>,
}

impl Ways {
    fn look(&mut self, run: &Run) {
        let now = run.world.now();
        for one in &mut self.followed {
            let ms = (now - one.began) as f64 / 1e6;
            let before = one.waiting.len();
            one.waiting.retain(|host| {
                let view = run.views[host.index()].as_ref();
                view.is_none_or(|view| view.service("default", &one.service).is_none())
            });
            self.any.extend(std::iter::repeat_n(ms, before - one.waiting.len()));
            if one.waiting.is_empty() {
                self.all.push(ms);
            }
        }
        self.followed.retain(|one| !one.waiting.is_empty());
    }
}

fn stream_bytes(run: &Run) -> u64 {
    run.world.host_ids().map(|host| run.world.host(host).traffic.stream_bytes_out).sum()
}

/// All that were begun, and those in vain.
fn exchanges(run: &Run) -> (u64, u64) {
    let counters = run.world.host_ids().filter_map(|host| Some(run.world.machine(host)?.spread().counters));
    counters.fold((0, 0), |(all, vain), counters| (all + counters.exchanges, vain + counters.exchanges_in_vain))
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |summary: &Option<Summary>| summary.map_or("nothing".to_owned(), |summary| summary.to_string());
        writeln!(
            f,
            "{} agents, {:.0} % loss, LAN delays; {} changes, {} refused",
            self.nodes,
            self.loss * 100.0,
            self.changes,
            self.refused
        )?;
        writeln!(f, "  one change to all, ms   {}; {} did not get everywhere", shown(&self.all_ms), self.lost)?;
        writeln!(f, "  one change to each, ms  {}", shown(&self.any_ms))?;
        writeln!(
            f,
            "  all the same            {} after the storm",
            self.whole_ms.map_or("not within 60 s".to_owned(), |ms| format!("{ms:.0} ms"))
        )?;
        writeln!(
            f,
            "  bytes a node, a change  {:.0} in {:.2} packets, {:.0} in streams",
            self.bytes_a_node, self.packets_a_node, self.stream_bytes_a_node
        )?;
        write!(f, "  heads compared          {} times, {} in vain", self.exchanges, self.exchanges_in_vain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_reaches_all_and_shares_packets() {
        let settings = Settings { seed: 1, nodes: 10, loss: 0.0, changes_a_second: 500, seconds: 2, beginning: Beginning::Acquainted };
        let figures = measure(&settings, &|_| {}).expect("nothing fails");
        assert_eq!((figures.lost, figures.refused, figures.changes), (0, 0, 1_000), "{figures}");
        assert_eq!(figures.all_ms.map(|summary| summary.count), Some(20), "{figures}");
        assert!(figures.packets_a_node < 3.0, "{figures}");
        assert_eq!(figures.exchanges_in_vain, 0, "{figures}");
    }
}
