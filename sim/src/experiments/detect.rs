//! How long the instances of an agent that stops are still handed out by the others (figure 2 of the registry's issue, in virtual time).

use super::Summary;
use crate::plan::{Intent, Kept, PlannedClient};
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::network::Conditions;
use crate::world::{Freeze, HostId};
use tidings::view::{Entry, MemberState};

#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub loss: f64,
    /// Of each kind.
    pub deaths: u32,
}

/// How an agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// As by SIGKILL.
    Killed,
    /// As by SIGSTOP; it goes on a minute later.
    Frozen,
    /// Its link is down for a minute.
    Unplugged,
}

/// The figures, in milliseconds.
#[derive(Debug, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub loss: f64,
    /// Until the last of the others does not hand the instances out any more, by kind of death.
    pub full: Vec<(String, Option<Summary>)>,
    /// Until the first of them does not.
    pub first: Vec<(String, Option<Summary>)>,
    /// Healthy members that anybody held down at any time.
    pub false_deaths: u64,
    /// Agents that were not back everywhere within two minutes of their return.
    pub not_back: u64,
}

/// # Errors
/// The cluster did not come together.
pub fn measure(settings: &Settings) -> Result<Figures, Violation> {
    let mut run = Run::new(settings.seed, Conditions { loss: settings.loss, ..Conditions::LAN });
    run.set_seeds(vec![0, 1, 2]);
    let hosts = run.add_agents(settings.nodes, &|_| {});
    for host in &hosts {
        run.start(*host);
    }
    run.run_for(20 * SECOND)?;
    for host in &hosts {
        let client = run.add_client(PlannedClient {
            keeps: Kept::Instance,
            service: 0,
            is_agent_scoped: false,
            ttl_ms: None,
            home: host.0,
            dies_at: None,
        });
        run.operate(client, Intent::Register);
        run.run_for(SECOND / 10)?;
    }
    run.run_for(70 * SECOND)?;
    let mut rng = Rng::new(settings.seed, "experiment", 0);
    let mut figures = Figures { nodes: settings.nodes, loss: settings.loss, full: vec![], first: vec![], false_deaths: 0, not_back: 0 };
    for death in [Death::Killed, Death::Frozen, Death::Unplugged] {
        let (mut full, mut first) = (Vec::new(), Vec::new());
        for _ in 0..settings.deaths {
            let victim = *rng.pick(&hosts);
            run.run_for(rng.between(0, 2 * SECOND))?;
            let gone = die(&mut run, victim, death, &mut figures.false_deaths)?;
            full.extend(gone.iter().copied().reduce(f64::max));
            first.extend(gone.iter().copied().reduce(f64::min));
            come_back(&mut run, victim, death);
            let back = run.run_while(120 * SECOND, &mut |run| !is_back(run, victim))?;
            figures.not_back += u64::from(back.is_none());
        }
        figures.full.push((format!("{death:?}").to_lowercase(), Summary::of(&full)));
        figures.first.push((format!("{death:?}").to_lowercase(), Summary::of(&first)));
    }
    Ok(figures)
}

/// Stops an agent for a minute; milliseconds until each of the others does not hand its instance out any more.
fn die(run: &mut Run, victim: HostId, death: Death, false_deaths: &mut u64) -> Result<Vec<f64>, Violation> {
    let began = run.world.now();
    match death {
        Death::Killed => run.kill(victim),
        Death::Frozen => run.world.freeze(victim, Freeze::Whole),
        Death::Unplugged => run.world.network.isolate(victim),
    }
    let mut waiting: Vec<HostId> = run.world.host_ids().filter(|host| *host != victim).collect();
    let mut times = Vec::new();
    let mut accused = Vec::new();
    while run.world.now() < began + 60 * SECOND {
        run.run_for(if waiting.is_empty() { SECOND } else { 5_000_000 })?;
        let now = run.world.now();
        waiting.retain(|host| {
            let is_served = served(run, *host, victim);
            if !is_served {
                times.push((now - began) as f64 / 1e6);
            }
            is_served
        });
        for (viewer, other) in pairs(run, victim) {
            if is_down(run, viewer, other) && !accused.contains(&(viewer, other)) {
                accused.push((viewer, other));
            }
        }
    }
    *false_deaths += accused.len() as u64;
    // Who never noticed counts as the whole minute.
    times.extend(waiting.iter().map(|_| 60_000.0));
    Ok(times)
}

fn come_back(run: &mut Run, victim: HostId, death: Death) {
    match death {
        Death::Killed => run.start(victim),
        Death::Frozen => run.world.thaw(victim),
        Death::Unplugged => run.world.network.rejoin(victim),
    }
}

fn served(run: &Run, viewer: HostId, owner: HostId) -> bool {
    let Some(view) = &run.views[viewer.index()] else { return false };
    let client = &run.clients[owner.index()];
    view.service("default", client.service().as_str()).is_some_and(|service| service.with_id(client.id().as_str()).any(Entry::is_available))
}

fn is_back(run: &Run, victim: HostId) -> bool {
    run.world.host_ids().all(|host| served(run, host, victim) && served(run, victim, host))
}

fn pairs(run: &Run, victim: HostId) -> Vec<(HostId, HostId)> {
    let healthy: Vec<HostId> = run.world.host_ids().filter(|host| *host != victim).collect();
    healthy.iter().flat_map(|a| healthy.iter().map(|b| (*a, *b))).filter(|(a, b)| a != b).collect()
}

fn is_down(run: &Run, viewer: HostId, other: HostId) -> bool {
    let (Some(view), Some(node)) = (&run.views[viewer.index()], run.node(other)) else { return false };
    view.members.iter().any(|member| member.id == node && member.state == MemberState::Down)
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} agents, {:.0} % loss, LAN delays; milliseconds until instances of a dead agent are handed out no more",
            self.nodes,
            self.loss * 100.0
        )?;
        let shown = |summary: &Option<Summary>| summary.map_or("nothing".to_owned(), |summary| summary.to_string());
        for ((kind, full), (_, first)) in self.full.iter().zip(&self.first) {
            writeln!(f, "  {kind:<10} by the last  {}", shown(full))?;
            writeln!(f, "  {:<10} by the first {}", "", shown(first))?;
        }
        write!(f, "  healthy members held down: {}; not back everywhere within 120 s: {}", self.false_deaths, self.not_back)
    }
}
