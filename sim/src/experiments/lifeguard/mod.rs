//! The detector's experiment after the Lifeguard paper (arXiv 1707.00788): members whose packets stand still again and again, and what the
//! others, and they themselves, then say of members that are well; and how soon real deaths are known.
//!
//! The anomaly is the paper's: `C` members at once neither send nor receive for `D`, then do for `I`, while their timers run. A member
//! counts as accused when somebody comes to hold it down: *false* where it was healthy, *at the healthy* where the accuser was, too, and a
//! *flap* where it was one that stood still. Plain SWIM is foca alone. The paper's numbers are of real machines with
//! another implementation: compare shares of plain SWIM, not counts.

mod plain;

use super::Summary;
use crate::agent;
use crate::rng::Rng;
use crate::world::clock::Clock;
use crate::world::network::Conditions;
use crate::world::{Freeze, HostId, Machine, Note, World};
use plain::Plain;
use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;
use tidings::engine::Engine;
use tidings::engine::config::EngineConfig;
use tidings::engine::io::Token;
use tidings::engine::membership::MemberState;
use tidings::model::command::Command;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
/// How long anomalies last, and how long it is listened after them.
const ANOMALY_NS: u64 = 120 * SECOND;
const AFTER_NS: u64 = 20 * SECOND;
/// How long a cluster has to form and to come to rest.
const SETTLE_NS: u64 = 45 * SECOND;
/// How long real deaths are watched.
const DEATHS_NS: u64 = 60 * SECOND;

#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub loss: f64,
    /// Members that stand still together.
    pub stalled: Vec<u32>,
    /// For so many milliseconds.
    pub stall_ms: Vec<u64>,
    /// With so many milliseconds between.
    pub pause_ms: Vec<u64>,
    /// Clusters of which eight members die.
    pub deaths: u32,
}

/// One detector.
pub struct Variant {
    pub name: &'static str,
    pub detector: Detector,
}

#[derive(Clone)]
pub enum Detector {
    /// foca alone; its suspicion lasts this many times the decimal logarithm of the cluster's size, in seconds.
    Plain { alpha: f64 },
    /// The engine, with its settings changed.
    Ours(fn(&mut EngineConfig)),
}

/// What each ingredient contributes: the engine without it.
pub fn variants() -> Vec<Variant> {
    let plain = |name, alpha| Variant { name, detector: Detector::Plain { alpha } };
    let ours = |name, alter| Variant { name, detector: Detector::Ours(alter) };
    vec![
        plain("SWIM, alpha 5", 5.0),
        plain("SWIM, alpha 2", 2.0),
        plain("SWIM, alpha 1", 1.0),
        ours("tidings", |_| {}),
        ours("tidings, probing every 1 s", |config| {
            let membership = &mut config.membership;
            (membership.probe_period_ms, membership.probe_rtt_ms, membership.suspicion_min_ms) = (1_000, 500, 3_000);
        }),
        ours("without confirmations", |config| config.membership.suspicion_stretch = 1),
        ours("without jury", |config| config.membership.jury = 0),
        ours("without doubt of itself", |config| {
            let membership = &mut config.membership;
            (membership.silence_ms, membership.postpone_ms, membership.stall_ms) = (3_600_000, 0, 3_600_000);
        }),
    ]
}

/// The figures of one detector.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub name: String,
    pub runs: u32,
    /// Healthy members that somebody came to hold down.
    pub false_positives: u64,
    /// Of them, by healthy ones.
    pub at_healthy: u64,
    /// The stalled that somebody came to hold down.
    pub flaps: u64,
    pub messages_a_node_s: f64,
    pub bytes_a_node_s: f64,
    /// Seconds from a real death to the first that knows, and to the last.
    pub first_s: Option<Summary>,
    pub full_s: Option<Summary>,
    /// Deaths that somebody did not learn of in time.
    pub unknown: u64,
}

/// Measures one detector over the whole matrix.
pub fn measure(settings: &Settings, variant: &Variant, progress: &dyn Fn(&str)) -> Figures {
    match &variant.detector {
        Detector::Plain { alpha } => {
            let config = plain_config(settings.nodes, *alpha);
            matrix::<Plain>(settings, variant.name, &|_| config.clone(), progress)
        }
        Detector::Ours(alter) => {
            let config = |number| {
                let mut config = agent::config(number);
                alter(&mut config);
                config
            };
            matrix::<Engine>(settings, variant.name, &config, progress)
        }
    }
}

/// memberlist's settings as foca has them, with what it needs to be plain SWIM at its best: as many transmissions as memberlist makes, and
/// no word to members that were declared down, which SWIM does not have.
fn plain_config(nodes: u32, alpha: f64) -> foca::Config {
    let mut config = foca::Config::new_lan(NonZeroU32::new(nodes).unwrap_or(NonZeroU32::MIN));
    let decades = f64::from(nodes).log10();
    config.suspect_to_down_after = Duration::from_secs_f64(alpha * decades.max(1.0));
    config.max_transmissions = NonZeroU8::new((4.0 * f64::from(nodes + 1).log10().ceil()) as u8).unwrap_or(NonZeroU8::MIN);
    config.notify_down_members = false;
    config
}

/// A machine whose accusations can be heard.
trait Accuser: Machine {
    /// Whether it tells at any time; otherwise with its views.
    const TELLS_ALWAYS: bool;
    /// Whom it came to hold down since the last call, by address, as `before` and the machine tell.
    fn accused(&mut self, known: &mut BTreeMap<std::net::SocketAddr, MemberState>) -> Vec<std::net::SocketAddr>;
}

impl Accuser for Plain {
    const TELLS_ALWAYS: bool = true;

    fn accused(&mut self, _: &mut BTreeMap<std::net::SocketAddr, MemberState>) -> Vec<std::net::SocketAddr> {
        std::mem::take(&mut self.downs)
    }
}

impl Accuser for Engine {
    const TELLS_ALWAYS: bool = false;

    fn accused(&mut self, known: &mut BTreeMap<std::net::SocketAddr, MemberState>) -> Vec<std::net::SocketAddr> {
        let mut accused = Vec::new();
        for member in self.membership().members() {
            let was = known.insert(member.addr, member.state);
            if member.state == MemberState::Down && was.is_some_and(|was| was != MemberState::Down) {
                accused.push(member.addr);
            }
        }
        accused
    }
}

/// A cluster under observation.
struct Cluster<M: Machine> {
    world: World<M>,
    hosts: Vec<HostId>,
    known: Vec<BTreeMap<std::net::SocketAddr, MemberState>>,
    /// Who came to hold whom down, and when.
    accusations: Vec<(u64, HostId, HostId)>,
}

impl<M: Accuser> Cluster<M> {
    fn form(seed: u64, settings: &Settings, config: &dyn Fn(u32) -> M::Config) -> Self {
        let mut world = World::new(seed, Conditions { loss: settings.loss, ..Conditions::LAN });
        let hosts: Vec<HostId> = (0..settings.nodes).map(|number| world.add_host(0, Clock::default(), config(number))).collect();
        let known = vec![BTreeMap::new(); hosts.len()];
        let mut cluster = Self { world, hosts, known, accusations: Vec::new() };
        let seeds = vec![World::<M>::address_of(0), World::<M>::address_of(1)];
        for host in cluster.hosts.clone() {
            cluster.world.start(host);
            cluster.world.command(host, Token(0), Command::SetSeeds(seeds.clone()));
            cluster.run_for(10 * MS);
        }
        cluster.run_for(SETTLE_NS);
        cluster.accusations.clear();
        cluster
    }

    fn run_for(&mut self, ns: u64) {
        let end = self.world.now() + ns;
        while self.world.next_at().is_some_and(|next| next <= end) {
            self.world.step();
            while let Some(note) = self.world.note() {
                if let Note::Handled { host } | Note::View { host, .. } = note {
                    self.look(host, matches!(note, Note::View { .. }));
                }
            }
        }
        self.world.idle_until(end);
    }

    fn look(&mut self, host: HostId, is_view: bool) {
        let at = self.world.now();
        if !is_view && !M::TELLS_ALWAYS {
            return;
        }
        let Some(process) = &mut self.world.host_mut(host).process else { return };
        let accused = process.machine.accused(&mut self.known[host.index()]);
        let accused = accused.into_iter().filter_map(|address| self.world.host_at(address));
        self.accusations.extend(accused.map(|accused| (at, host, accused)));
    }
}

fn matrix<M: Accuser>(settings: &Settings, name: &str, config: &dyn Fn(u32) -> M::Config, progress: &dyn Fn(&str)) -> Figures {
    let mut figures = Figures {
        name: name.into(),
        runs: 0,
        false_positives: 0,
        at_healthy: 0,
        flaps: 0,
        messages_a_node_s: 0.0,
        bytes_a_node_s: 0.0,
        first_s: None,
        full_s: None,
        unknown: 0,
    };
    let (mut messages, mut bytes) = (0, 0);
    for &stalled in &settings.stalled {
        for &stall_ms in &settings.stall_ms {
            for &pause_ms in &settings.pause_ms {
                progress(&format!("{name}: {stalled} stalled for {stall_ms} ms, every {pause_ms} ms"));
                let mut cluster = Cluster::<M>::form(settings.seed + u64::from(figures.runs), settings, config);
                let before = traffic(&cluster);
                anomaly(&mut cluster, settings.seed + u64::from(figures.runs), stalled, stall_ms, pause_ms, &mut figures);
                let after = traffic(&cluster);
                (messages, bytes) = (messages + after.0 - before.0, bytes + after.1 - before.1);
                figures.runs += 1;
            }
        }
    }
    let node_seconds = f64::from(figures.runs) * f64::from(settings.nodes) * ((ANOMALY_NS + AFTER_NS) / SECOND) as f64;
    (figures.messages_a_node_s, figures.bytes_a_node_s) = (messages as f64 / node_seconds, bytes as f64 / node_seconds);
    deaths::<M>(settings, config, &mut figures, progress);
    figures
}

fn traffic<M: Machine>(cluster: &Cluster<M>) -> (u64, u64) {
    const HEADER_BYTES: u64 = 28;
    cluster.hosts.iter().fold((0, 0), |(messages, bytes), host| {
        let traffic = cluster.world.host(*host).traffic;
        (messages + traffic.datagrams_out, bytes + traffic.bytes_out + traffic.datagrams_out * HEADER_BYTES)
    })
}

/// Lets `stalled` members stand still in lock-step, and counts who is accused of what.
fn anomaly<M: Accuser>(cluster: &mut Cluster<M>, seed: u64, stalled: u32, stall_ms: u64, pause_ms: u64, figures: &mut Figures) {
    let mut rng = Rng::new(seed, "lifeguard", 0);
    let mut order = cluster.hosts.clone();
    rng.shuffle(&mut order);
    order.truncate(stalled as usize);
    let end = cluster.world.now() + ANOMALY_NS;
    while cluster.world.now() < end {
        for host in &order {
            cluster.world.freeze(*host, Freeze::Packets);
        }
        cluster.run_for(stall_ms * MS);
        for host in &order {
            cluster.world.thaw(*host);
        }
        cluster.run_for(pause_ms * MS);
    }
    cluster.run_for(AFTER_NS);
    for (_, accuser, accused) in cluster.accusations.drain(..) {
        if order.contains(&accused) {
            figures.flaps += 1;
        } else {
            figures.false_positives += 1;
            figures.at_healthy += u64::from(!order.contains(&accuser));
        }
    }
}

/// Kills eight members at once; how long until the first, and the last, of the others knows.
fn deaths<M: Accuser>(settings: &Settings, config: &dyn Fn(u32) -> M::Config, figures: &mut Figures, progress: &dyn Fn(&str)) {
    const DYING: usize = 8;
    let (mut first, mut full) = (Vec::new(), Vec::new());
    for trial in 0..settings.deaths {
        progress(&format!("{}: deaths, cluster {} of {}", figures.name, trial + 1, settings.deaths));
        let seed = settings.seed + 10_000 + u64::from(trial);
        let mut cluster = Cluster::<M>::form(seed, settings, config);
        let mut rng = Rng::new(seed, "lifeguard", 1);
        let mut order = cluster.hosts.clone();
        rng.shuffle(&mut order);
        let began = cluster.world.now();
        let (dying, left) = order.split_at(DYING.min(order.len() / 2));
        for host in dying {
            cluster.world.kill(*host);
        }
        cluster.run_for(DEATHS_NS);
        for victim in dying {
            let mut heard: BTreeMap<HostId, u64> = BTreeMap::new();
            for (at, accuser, _) in cluster.accusations.iter().filter(|(_, accuser, accused)| accused == victim && left.contains(accuser)) {
                heard.entry(*accuser).or_insert(*at);
            }
            let seconds = |at: &u64| (at - began) as f64 / 1e9;
            first.extend(heard.values().min().map(seconds));
            if heard.len() == left.len() {
                full.extend(heard.values().max().map(seconds));
            } else {
                figures.unknown += 1;
            }
        }
    }
    (figures.first_s, figures.full_s) = (Summary::of(&first), Summary::of(&full));
}

/// The figures as a table.
pub fn table(settings: &Settings, figures: &[Figures]) -> String {
    let mut text = format!(
        "{} members, {:.0} % loss; stalled {:?}, for {:?} ms, every {:?} ms, 120 s each\n{:<28}{:>8}{:>8}{:>9}{:>8}{:>8}  {:<22}{}\n",
        settings.nodes,
        settings.loss * 100.0,
        settings.stalled,
        settings.stall_ms,
        settings.pause_ms,
        "detector",
        "false",
        "healthy",
        "flaps",
        "msg/s",
        "B/s",
        "first known, s",
        "known to all, s"
    );
    for row in figures {
        let times =
            |summary: &Option<Summary>| summary.map_or("never".to_owned(), |summary| format!("{:.2} p99 {:.2}", summary.p50, summary.p99));
        text += &format!(
            "{:<28}{:>8}{:>8}{:>9}{:>8.1}{:>8.0}  {:<22}{}\n",
            row.name,
            row.false_positives,
            row.at_healthy,
            row.flaps,
            row.messages_a_node_s,
            row.bytes_a_node_s,
            times(&row.first_s),
            times(&row.full_s)
        );
    }
    text
}
