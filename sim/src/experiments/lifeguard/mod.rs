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
use tidings::engine::io::Token;
use tidings::engine::membership::{MemberState, MembershipConfig};
use tidings::model::command::Command;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
/// How long anomalies last, and how long it is listened after them: for longer than probation lasts.
const ANOMALY_NS: u64 = 120 * SECOND;
const AFTER_NS: u64 = 40 * SECOND;
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
    pub anomaly: Anomaly,
}

/// What befalls members again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Anomaly {
    /// They neither send nor receive; both are made up for afterwards, as in the paper.
    Stall,
    /// Nothing reaches them; what they send arrives.
    Deaf,
    /// What they send is lost; they hear all.
    Mute,
}

/// One detector.
pub struct Variant {
    pub name: &'static str,
    pub detector: Detector,
}

#[derive(Clone)]
pub enum Detector {
    /// foca alone.
    Plain(PlainSettings),
    /// The engine, with its settings changed.
    Ours(fn(&mut MembershipConfig)),
}

/// How plain SWIM is set.
#[derive(Clone, Copy)]
pub struct PlainSettings {
    /// A suspicion lasts this many times the decimal logarithm of the cluster's size, in probe periods.
    alpha: f64,
    probe_period_ms: u64,
    probe_rtt_ms: u64,
    /// Whether members that are held down are told, so that they come back: foca's default, and what memberlist's gossip brings about.
    /// Otherwise they are out for good, as in the paper.
    tells_the_dead: bool,
}

/// The published setting: a probe a second, half a second for its answer, alpha 5.
const PUBLISHED: PlainSettings = PlainSettings { alpha: 5.0, probe_period_ms: 1_000, probe_rtt_ms: 500, tells_the_dead: false };
/// As often as the engine probes.
const FAST: PlainSettings = PlainSettings { probe_period_ms: 300, probe_rtt_ms: 100, ..PUBLISHED };

/// The engine with plain SWIM's probes, for what is to be compared message by message.
fn probe_each_second(config: &mut MembershipConfig) {
    (config.probe_period_ms, config.probe_rtt_ms, config.suspicion_min_ms) = (1_000, 500, 1_500);
}

/// Plain SWIM and the engine, each at several settings: the curves; and what each ingredient contributes: the engine without it.
pub fn variants() -> Vec<Variant> {
    let plain = |name, settings| Variant { name, detector: Detector::Plain(settings) };
    let ours = |name, alter| Variant { name, detector: Detector::Ours(alter) };
    vec![
        plain("SWIM, alpha 5", PUBLISHED),
        plain("SWIM, alpha 3", PlainSettings { alpha: 3.0, ..PUBLISHED }),
        plain("SWIM, alpha 2", PlainSettings { alpha: 2.0, ..PUBLISHED }),
        plain("SWIM, alpha 1", PlainSettings { alpha: 1.0, ..PUBLISHED }),
        plain("SWIM, alpha 5, dead told", PlainSettings { tells_the_dead: true, ..PUBLISHED }),
        plain("SWIM, alpha 2, dead told", PlainSettings { alpha: 2.0, tells_the_dead: true, ..PUBLISHED }),
        plain("SWIM at 300 ms", FAST),
        plain("SWIM at 300 ms, dead told", PlainSettings { tells_the_dead: true, ..FAST }),
        ours("tidings", |_| {}),
        ours("tidings, suspicion x 2", |config| config.suspicion_min_ms *= 2),
        ours("tidings, suspicion / 2", |config| config.suspicion_min_ms /= 2),
        ours("tidings at 1 s", probe_each_second),
        ours("at 1 s, suspicion x 2", |config| {
            probe_each_second(config);
            config.suspicion_min_ms *= 2;
        }),
        ours("without confirmations", |config| config.suspicion_stretch = 1),
        ours("without looking", |config| config.looks = 0),
        ours("without sense of health", |config| config.unwell_max = 0),
        ours("without sense of silence", |config| {
            (config.silence_ms, config.postpone_ms, config.stall_ms) = (3_600_000, 0, 3_600_000);
        }),
        ours("without probation", |config| config.return_wait_max_ms = 0),
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
    /// The stalled that somebody still holds down twenty seconds after the last stall.
    pub out: u64,
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
        Detector::Plain(plain) => {
            let config = plain_config(settings.nodes, *plain);
            matrix::<Plain>(settings, variant.name, &|_| config.clone(), progress)
        }
        Detector::Ours(alter) => {
            let config = |number| {
                let mut config = agent::config(number);
                alter(&mut config.membership);
                config
            };
            matrix::<Engine>(settings, variant.name, &config, progress)
        }
    }
}

/// memberlist's settings as foca has them, with what it needs to be plain SWIM at its best: as many transmissions as memberlist makes.
fn plain_config(nodes: u32, plain: PlainSettings) -> foca::Config {
    let mut config = foca::Config::new_lan(NonZeroU32::new(nodes).unwrap_or(NonZeroU32::MIN));
    let decades = f64::from(nodes).log10();
    config.probe_period = Duration::from_millis(plain.probe_period_ms);
    config.probe_rtt = Duration::from_millis(plain.probe_rtt_ms);
    config.suspect_to_down_after = config.probe_period.mul_f64(plain.alpha * decades.max(1.0));
    config.max_transmissions = NonZeroU8::new((4.0 * f64::from(nodes + 1).log10().ceil()) as u8).unwrap_or(NonZeroU8::MIN);
    config.notify_down_members = plain.tells_the_dead;
    config
}

/// A machine whose accusations can be heard.
trait Accuser: Machine {
    /// Whether it tells at any time; otherwise with its views.
    const TELLS_ALWAYS: bool;
    /// Whom it came to hold down since the last call, by address, as `before` and the machine tell.
    fn accused(&mut self, known: &mut BTreeMap<std::net::SocketAddr, MemberState>) -> Vec<std::net::SocketAddr>;
    fn holds_down(&self, member: std::net::SocketAddr) -> bool;
    /// Packets of the membership, and their bytes, that it sent in this life.
    fn sent(&self) -> (u64, u64);
}

impl Accuser for Plain {
    const TELLS_ALWAYS: bool = true;

    fn accused(&mut self, _: &mut BTreeMap<std::net::SocketAddr, MemberState>) -> Vec<std::net::SocketAddr> {
        std::mem::take(&mut self.downs)
    }

    fn holds_down(&self, member: std::net::SocketAddr) -> bool {
        self.is_out(member)
    }

    fn sent(&self) -> (u64, u64) {
        self.sent
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

    fn holds_down(&self, address: std::net::SocketAddr) -> bool {
        self.membership().members().any(|member| member.addr == address && member.state == MemberState::Down)
    }

    fn sent(&self) -> (u64, u64) {
        let counters = self.membership().counters;
        (counters.packets_sent, counters.bytes_sent)
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
        out: 0,
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
                let stalls = Stalls { anomaly: settings.anomaly, members: stalled, stall_ms, pause_ms };
                strike(&mut cluster, settings.seed + u64::from(figures.runs), &stalls, &mut figures);
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

/// What the membership of all has sent, with headers of UDP and IP; what the catalog sends beside it has no counterpart in plain SWIM.
fn traffic<M: Accuser>(cluster: &Cluster<M>) -> (u64, u64) {
    const HEADER_BYTES: u64 = 28;
    cluster.hosts.iter().fold((0, 0), |(messages, bytes), host| {
        let (sent, sent_bytes) = cluster.world.machine(*host).map_or((0, 0), Accuser::sent);
        (messages + sent, bytes + sent_bytes + sent * HEADER_BYTES)
    })
}

/// One cell of the matrix.
struct Stalls {
    anomaly: Anomaly,
    members: u32,
    stall_ms: u64,
    pause_ms: u64,
}

impl<M: Accuser> Cluster<M> {
    fn begin(&mut self, anomaly: Anomaly, struck: &[HostId], well: &[HostId]) {
        match anomaly {
            Anomaly::Stall => struck.iter().for_each(|host| self.world.freeze(*host, Freeze::Packets)),
            Anomaly::Deaf => self.world.network.cut(well, struck),
            Anomaly::Mute => self.world.network.cut(struck, well),
        }
    }

    fn end(&mut self, anomaly: Anomaly, struck: &[HostId], well: &[HostId]) {
        match anomaly {
            Anomaly::Stall => struck.iter().for_each(|host| self.world.thaw(*host)),
            Anomaly::Deaf => self.world.network.mend(well, struck),
            Anomaly::Mute => self.world.network.mend(struck, well),
        }
    }

    /// How many of `members` somebody of the others holds down, counted for each who does.
    fn held_down(&self, members: &[HostId], by: &[HostId]) -> u64 {
        let held = |viewer: &HostId, member: &HostId| {
            let address = self.world.host(*member).address;
            self.world.machine(*viewer).is_some_and(|machine| machine.holds_down(address))
        };
        by.iter().map(|viewer| members.iter().filter(|member| held(viewer, member)).count() as u64).sum()
    }
}

/// Lets members stand still in lock-step, and counts who is accused of what.
fn strike<M: Accuser>(cluster: &mut Cluster<M>, seed: u64, stalls: &Stalls, figures: &mut Figures) {
    let mut rng = Rng::new(seed, "lifeguard", 0);
    let mut order = cluster.hosts.clone();
    rng.shuffle(&mut order);
    let well = order.split_off(order.len().min(stalls.members as usize));
    let end = cluster.world.now() + ANOMALY_NS;
    while cluster.world.now() < end {
        cluster.begin(stalls.anomaly, &order, &well);
        cluster.run_for(stalls.stall_ms * MS);
        cluster.end(stalls.anomaly, &order, &well);
        cluster.run_for(stalls.pause_ms * MS);
    }
    cluster.run_for(AFTER_NS);
    figures.out += cluster.held_down(&order, &well);
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
        "{} members, {:.0} % loss; {:?} of {:?} for {:?} ms, with {:?} ms between, 120 s each\n{:<28}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}  {:<34}{}\n",
        settings.nodes,
        settings.loss * 100.0,
        settings.anomaly,
        settings.stalled,
        settings.stall_ms,
        settings.pause_ms,
        "detector",
        "false",
        "healthy",
        "flaps",
        "out",
        "msg/s",
        "B/s",
        "first known, s",
        "known to all, s"
    );
    for row in figures {
        let times = |summary: &Option<Summary>| {
            summary.map_or("never".to_owned(), |s| format!("{:.2} p99 {:.2} p99.9 {:.2}", s.p50, s.p99, s.p999))
        };
        text += &format!(
            "{:<28}{:>8}{:>8}{:>9}{:>8}{:>8.1}{:>8.0}  {:<34}{}\n",
            row.name,
            row.false_positives,
            row.at_healthy,
            row.flaps,
            row.out,
            row.messages_a_node_s,
            row.bytes_a_node_s,
            times(&row.first_s),
            times(&row.full_s)
        );
    }
    text
}
