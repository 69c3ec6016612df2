//! The cases of the Rapid paper (ATC'18): many start at once, ten crash, and one member of a hundred is reached or heard badly.
//!
//! *Faulty* are those that are struck, *healthy* all others. A case watches what each agent's views say of each other one: who is held
//! down by whom, who is taken back, and how many different sets of members there are on the way. Several of those at one time are
//! no failure here, as they are in Rapid, whose views are agreed on: gossip spreads a death as it spreads a record. What counts is that
//! nobody healthy is removed, that the faulty are, and that they do not come and go.

use super::acquainted;
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::network::{Ailment, Conditions};
use crate::world::{HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use tidings::model::names::NodeId;
use tidings::view::{MemberState, View};

/// The seed runs alone for so long before everybody else starts.
const ALONE_NS: u64 = 10 * SECOND;
/// How long a cluster may take to form.
const FORMED_WITHIN_NS: u64 = 120 * SECOND;
/// How long a fault lasts, and how long it is looked on after it.
const FAULT_NS: u64 = 160 * SECOND;
const AFTER_NS: u64 = 90 * SECOND;
/// Flip-flops change so often.
const FLIP_NS: u64 = 20 * SECOND;
/// How exactly times are taken.
const LOOK_NS: u64 = SECOND / 10;
/// One member of so many is struck.
const STRUCK_OF: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// All but one start at once and are told of that one.
    Bootstrap,
    /// One of a hundred is killed.
    Crash,
    /// Nothing reaches one of a hundred for 20 s, then everything for 20 s, and so on.
    FlipFlop,
    /// Of what is sent to one of a hundred, 80 % is lost.
    LossIn,
    /// Of what one of a hundred sends, 80 % is lost.
    LossOut,
    /// Nothing reaches one of a hundred; what it sends arrives.
    Deaf,
    /// What one of a hundred sends is lost; it hears all.
    Mute,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub case: Case,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub case: Case,
    pub nodes: u32,
    pub faulty: u32,
    /// Seconds until all agents know all (bootstrap), or all healthy ones first hold all faulty ones down; none: never.
    pub converged_s: Option<f64>,
    /// Different numbers of members that healthy agents showed, and different sets.
    pub sizes: usize,
    pub sets: usize,
    /// Healthy agents that a healthy one, or a faulty one, came to hold down.
    pub healthy_removed: u64,
    pub healthy_removed_by_faulty: u64,
    /// Removals of a faulty agent by a healthy one, for each such pair; and how often it was taken back while the fault lasted.
    pub removals_a_pair: f64,
    pub returns_a_pair: f64,
    /// The share of time in which a healthy agent held a faulty one down, while the fault lasted; and of such pairs at its end.
    pub down_share: f64,
    pub down_at_end: f64,
    /// Seconds from the end of the fault until everybody holds everybody up.
    pub healed_s: Option<f64>,
    /// Bytes sent by an agent a second, headers of IP and UDP included, mean over the case.
    pub bytes_a_node_s: f64,
}

/// # Errors
/// An engine logged an error.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let mut run = Run::new(settings.seed, Conditions::LAN);
    if settings.case == Case::Bootstrap {
        return bootstrap(run, settings, progress);
    }
    let hosts = acquainted::cluster(&mut run, settings.nodes, &acquainted::sealed(settings.seed), progress)?;
    let mut order = hosts.clone();
    Rng::new(settings.seed, "rapid", 0).shuffle(&mut order);
    order.truncate(settings.nodes.div_ceil(STRUCK_OF) as usize);
    let mut scene = Scene::new(&run, hosts, &order);
    let (began, sent) = (run.world.now(), sent(&run));
    scene.began = began;
    let mut fault = Fault { case: settings.case, faulty: order, is_on: false };
    while run.world.now() < began + FAULT_NS {
        fault.set(&mut run, began);
        let end = run.world.now() + LOOK_NS;
        run.run_until_told(end, &mut |run, note| scene.read(run.world.now(), note))?;
        scene.look();
        progress(&format!("{:?}: {:.0} of {} virtual s", settings.case, (run.world.now() - began) as f64 / 1e9, FAULT_NS / SECOND));
    }
    let bytes = self::sent(&run) - sent;
    let down_at_end = scene.down_share_now();
    let mut figures = scene.figures(settings, &fault);
    figures.down_at_end = down_at_end;
    figures.bytes_a_node_s = bytes as f64 / f64::from(settings.nodes) / (FAULT_NS / SECOND) as f64;
    if settings.case != Case::Crash {
        fault.end(&mut run);
        let ended = run.world.now();
        while figures.healed_s.is_none() && run.world.now() < ended + AFTER_NS {
            let end = run.world.now() + LOOK_NS;
            run.run_until_told(end, &mut |run, note| scene.read(run.world.now(), note))?;
            let is_healed = scene.down.iter().all(BTreeSet::is_empty);
            figures.healed_s = is_healed.then(|| (run.world.now() - ended) as f64 / 1e9);
            progress(&format!("{:?}: {:.0} virtual s after it", settings.case, (run.world.now() - ended) as f64 / 1e9));
        }
        (figures.healthy_removed, figures.healthy_removed_by_faulty) = (scene.healthy_removed, scene.healthy_removed_by_faulty);
    }
    Ok(figures)
}

fn bootstrap(mut run: Run, settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    run.set_seeds(vec![0]);
    let hosts = run.add_agents(settings.nodes, &acquainted::sealed(settings.seed));
    run.start(hosts[0]);
    run.run_for(ALONE_NS)?;
    let (began, sent) = (run.world.now(), sent(&run));
    for host in &hosts[1..] {
        run.start(*host);
    }
    let (mut converged_s, mut sizes) = (None, BTreeSet::new());
    while converged_s.is_none() && run.world.now() < began + FORMED_WITHIN_NS {
        run.run_for(LOOK_NS)?;
        let alive = |host: &HostId| run.world.machine(*host).map(|engine| engine.membership().alive());
        sizes.extend(hosts.iter().filter_map(alive));
        let is_complete = hosts.iter().all(|host| alive(host) == Some(hosts.len()));
        converged_s = is_complete.then(|| (run.world.now() - began) as f64 / 1e9);
        progress(&format!("bootstrap of {}: {:.1} virtual s", settings.nodes, (run.world.now() - began) as f64 / 1e9));
    }
    let passed_s = (run.world.now() - began) as f64 / 1e9;
    Ok(Figures {
        case: settings.case,
        nodes: settings.nodes,
        faulty: 0,
        converged_s,
        sizes: sizes.len(),
        sets: 0,
        healthy_removed: 0,
        healthy_removed_by_faulty: 0,
        removals_a_pair: 0.0,
        returns_a_pair: 0.0,
        down_share: 0.0,
        down_at_end: 0.0,
        healed_s: None,
        bytes_a_node_s: (self::sent(&run) - sent) as f64 / f64::from(settings.nodes) / passed_s,
    })
}

fn sent(run: &Run) -> u64 {
    const HEADER_BYTES: u64 = 28;
    run.world
        .host_ids()
        .map(|host| run.world.host(host).traffic)
        .map(|one| one.bytes_out + one.datagrams_out * HEADER_BYTES + one.stream_bytes_out)
        .sum()
}

struct Fault {
    case: Case,
    faulty: Vec<HostId>,
    is_on: bool,
}

impl Fault {
    /// Puts the fault on or off, as it should be at this time.
    fn set(&mut self, run: &mut Run, began: u64) {
        let is_due = self.case != Case::FlipFlop || ((run.world.now() - began) / FLIP_NS).is_multiple_of(2);
        if is_due != self.is_on {
            self.turn(run, is_due);
        }
    }

    fn end(&mut self, run: &mut Run) {
        if self.is_on {
            self.turn(run, false);
        }
    }

    fn turn(&mut self, run: &mut Run, is_on: bool) {
        self.is_on = is_on;
        let everybody: Vec<HostId> = run.world.host_ids().collect();
        let ailment = match self.case {
            Case::LossIn => Ailment { loss_in: 0.8, ..Ailment::default() },
            Case::LossOut => Ailment { loss_out: 0.8, ..Ailment::default() },
            _ => Ailment::default(),
        };
        match (self.case, is_on) {
            (Case::Bootstrap, _) | (Case::Crash, false) => {}
            (Case::Crash, true) => self.faulty.iter().for_each(|host| run.kill(*host)),
            (Case::LossIn | Case::LossOut, true) => self.faulty.iter().for_each(|host| run.world.network.ail(*host, ailment)),
            (Case::LossIn | Case::LossOut, false) => self.faulty.iter().for_each(|host| run.world.network.ail(*host, Ailment::default())),
            (Case::FlipFlop | Case::Deaf, true) => run.world.network.cut(&everybody, &self.faulty),
            (Case::FlipFlop | Case::Deaf, false) => run.world.network.mend(&everybody, &self.faulty),
            (Case::Mute, true) => run.world.network.cut(&self.faulty, &everybody),
            (Case::Mute, false) => run.world.network.mend(&self.faulty, &everybody),
        }
    }
}

/// What everybody shows of everybody.
struct Scene {
    began: u64,
    by_node: BTreeMap<NodeId, HostId>,
    hosts: Vec<HostId>,
    is_faulty: Vec<bool>,
    /// Whom each agent's last view shows as down.
    down: Vec<BTreeSet<HostId>>,
    /// Pairs of a healthy agent and a faulty one that it holds down, at the moment; and summed up over the looks.
    pairs_down: u64,
    pairs_down_sum: u64,
    looks: u64,
    converged_at: Option<u64>,
    sets: BTreeSet<BTreeSet<HostId>>,
    healthy_removed: u64,
    healthy_removed_by_faulty: u64,
    removals: u64,
    returns: u64,
}

impl Scene {
    fn new(run: &Run, hosts: Vec<HostId>, faulty: &[HostId]) -> Self {
        Self {
            began: 0,
            by_node: hosts.iter().filter_map(|host| Some((run.node(*host)?, *host))).collect(),
            is_faulty: hosts.iter().map(|host| faulty.contains(host)).collect(),
            down: vec![BTreeSet::new(); hosts.len()],
            hosts,
            pairs_down: 0,
            pairs_down_sum: 0,
            looks: 0,
            converged_at: None,
            sets: BTreeSet::new(),
            healthy_removed: 0,
            healthy_removed_by_faulty: 0,
            removals: 0,
            returns: 0,
        }
    }

    fn read(&mut self, at: u64, note: &Note) {
        let Note::View { host, view } = note else { return };
        let down = self.down_in(view);
        let before = std::mem::replace(&mut self.down[host.index()], down.clone());
        if before == down {
            return;
        }
        let is_viewer_faulty = self.is_faulty[host.index()];
        for removed in down.difference(&before) {
            match (is_viewer_faulty, self.is_faulty[removed.index()]) {
                (false, true) => (self.removals, self.pairs_down) = (self.removals + 1, self.pairs_down + 1),
                (false, false) => self.healthy_removed += 1,
                (true, false) => self.healthy_removed_by_faulty += 1,
                (true, true) => {}
            }
        }
        if is_viewer_faulty {
            return;
        }
        let returned = before.difference(&down).filter(|host| self.is_faulty[host.index()]).count() as u64;
        (self.returns, self.pairs_down) = (self.returns + returned, self.pairs_down - returned);
        self.sets.insert(down);
        if self.pairs_down == self.pairs() {
            self.converged_at.get_or_insert(at);
        }
    }

    fn down_in(&self, view: &View) -> BTreeSet<HostId> {
        let is_down = |state: MemberState| matches!(state, MemberState::Down | MemberState::Left);
        view.members.iter().filter(|member| is_down(member.state)).filter_map(|member| self.by_node.get(&member.id).copied()).collect()
    }

    /// Of a healthy agent and a faulty one.
    fn pairs(&self) -> u64 {
        let faulty = self.is_faulty.iter().filter(|is_faulty| **is_faulty).count();
        (faulty * (self.hosts.len() - faulty)) as u64
    }

    fn look(&mut self) {
        (self.looks, self.pairs_down_sum) = (self.looks + 1, self.pairs_down_sum + self.pairs_down);
    }

    fn down_share_now(&self) -> f64 {
        self.pairs_down as f64 / self.pairs().max(1) as f64
    }

    fn figures(&self, settings: &Settings, fault: &Fault) -> Figures {
        let pairs = self.pairs().max(1) as f64;
        let sizes: BTreeSet<usize> = self.sets.iter().map(BTreeSet::len).collect();
        Figures {
            case: settings.case,
            nodes: settings.nodes,
            faulty: fault.faulty.len() as u32,
            converged_s: self.converged_at.map(|at| (at - self.began) as f64 / 1e9),
            sizes: sizes.len(),
            sets: self.sets.len(),
            healthy_removed: self.healthy_removed,
            healthy_removed_by_faulty: self.healthy_removed_by_faulty,
            removals_a_pair: self.removals as f64 / pairs,
            returns_a_pair: self.returns as f64 / pairs,
            down_share: self.pairs_down_sum as f64 / self.looks.max(1) as f64 / pairs,
            down_at_end: 0.0,
            healed_s: None,
            bytes_a_node_s: 0.0,
        }
    }
}

/// The figures as a table.
pub fn table(figures: &[Figures]) -> String {
    let mut text = format!(
        "{:<11}{:>6}{:>8}{:>12}{:>7}{:>7}{:>9}{:>11}{:>10}{:>9}{:>8}{:>8}{:>9}{:>8}\n",
        "case",
        "nodes",
        "faulty",
        "converged,s",
        "sizes",
        "sets",
        "healthy-",
        "by faulty",
        "removals",
        "returns",
        "down",
        "at end",
        "healed,s",
        "B/s"
    );
    let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("{s:.1}"));
    for row in figures {
        let case = clap::ValueEnum::to_possible_value(&row.case).map(|value| value.get_name().to_owned()).unwrap_or_default();
        text += &format!(
            "{case:<11}{:>6}{:>8}{:>12}{:>7}{:>7}{:>9}{:>11}{:>10.2}{:>9.2}{:>7.1}%{:>7.1}%{:>9}{:>8.0}\n",
            row.nodes,
            row.faulty,
            seconds(row.converged_s),
            row.sizes,
            row.sets,
            row.healthy_removed,
            row.healthy_removed_by_faulty,
            row.removals_a_pair,
            row.returns_a_pair,
            row.down_share * 100.0,
            row.down_at_end * 100.0,
            seconds(row.healed_s),
            row.bytes_a_node_s,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nodes: u32, case: Case) -> Figures {
        measure(&Settings { seed: 1, nodes, case }, &|_| {}).expect("nothing fails")
    }

    #[test]
    fn the_dead_are_removed_once_and_nobody_else_is() {
        let figures = of(20, Case::Crash);
        assert!(figures.converged_s.is_some_and(|s| s < 10.0), "{figures:?}");
        assert_eq!((figures.healthy_removed, figures.removals_a_pair, figures.returns_a_pair), (0, 1.0, 0.0));
    }

    #[test]
    fn a_handful_that_starts_at_once_is_complete_soon() {
        assert!(of(20, Case::Bootstrap).converged_s.is_some_and(|s| s < 10.0));
    }
}
