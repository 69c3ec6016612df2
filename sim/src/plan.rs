//! The swarm's plan: what one seed does to which cluster. Every draw is made whatever is masked, so that a masked kind of fault leaves
//! all the others as they were.

use crate::faults::{self, FaultKind, Layout, Scheduled};
use crate::rng::Rng;
use crate::world::HostId;
use crate::world::clock::Clock;
use crate::world::network::Conditions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tidings::engine::spread::SpreadConfig;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

pub const AGENTS_MIN: u64 = 3;
pub const AGENTS_MAX: u64 = 24;
/// Operations of clients in one run, heartbeats that go by themselves not counted.
pub const OPERATIONS_MIN: u64 = 200;
const OPERATIONS_MAX: u64 = 400;
/// When faults and operations begin.
const BUSY_FROM: u64 = 5 * SECOND;
/// When they end, at the earliest and the latest.
const BUSY_TO_MIN: u64 = 100 * SECOND;
const BUSY_TO_MAX: u64 = 150 * SECOND;
/// How likely a kind of fault is part of a seed.
const KIND_CHANCE: f64 = 0.3;
/// Clocks that are off are off by up to this much.
const CLOCK_OFF_MS_MAX: i64 = 600_000;
/// Clocks that are right are right to this many milliseconds, as NTP keeps them.
const CLOCK_ERROR_MS_MAX: i64 = 3;
const DRIFT_PPM_MAX: i32 = 50;

/// The share of seeds with several datacenters.
const SEVERAL_CHANCE: f64 = 0.34;
/// How often a datacenter of several tells summaries of what it does not keep.
const BY_SUMMARY_CHANCE: f64 = 0.33;
pub const DATACENTERS_MAX: u64 = 3;
/// Gateways of one datacenter.
const GATEWAYS_MAX: u64 = 3;
const SERVICES_MAX: u64 = 8;
/// The share of seeds whose agents have next to no room to spread from.
const CRAMPED_CHANCE: f64 = 0.25;
const CRAMPED_MAX: u64 = 6;

/// One host of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedHost {
    pub zone: u16,
    pub clock: Clock,
    pub starts_at: u64,
    #[serde(default)]
    pub datacenter: u16,
    #[serde(default)]
    pub is_gateway: bool,
}

/// What lies between the datacenters of a plan that has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWan {
    /// What a packet needs longer from one datacenter to another, the lower first.
    pub distances: Vec<(u16, u16, u64)>,
    /// Whether gateways show certificates.
    pub has_certificates: bool,
    /// Services that each datacenter keeps to itself.
    pub kept: Vec<BTreeSet<u32>>,
    /// Datacenters that tell summaries of what they do not keep; the others export it in full.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub by_summary: BTreeSet<u16>,
}

/// What agents may hold at once of what they have to spread: so little that a few agents meet the limits that thousands meet otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLimits {
    pub pushes: usize,
    pub adverts: usize,
    pub lacks: usize,
    pub answers: usize,
    pub answer_parts: usize,
    pub page_heads: usize,
    pub exchanges: usize,
    pub sponsored: usize,
    pub fetches: usize,
}

impl PlannedLimits {
    pub fn apply(&self, config: &mut SpreadConfig) {
        (config.pushes_max, config.adverts_max) = (self.pushes, self.adverts);
        (config.lacks_max, config.answers_max) = (self.lacks, self.answers);
        (config.answer_parts_max, config.page_heads_max) = (self.answer_parts, self.page_heads);
        (config.exchanges_open_max, config.sponsored_max, config.fetches_max) = (self.exchanges, self.sponsored, self.fetches);
    }
}

/// What a client keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    #[default]
    Instance,
    /// A key-value entry.
    Entry,
    /// An external node.
    Node,
}

/// One client, which keeps one thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedClient {
    #[serde(default)]
    pub keeps: Kept,
    pub service: u32,
    pub is_agent_scoped: bool,
    /// None: an instance that lives until it is deregistered.
    pub ttl_ms: Option<u64>,
    pub home: u32,
    /// When the client falls silent: its lease runs out.
    pub dies_at: Option<u64>,
}

/// What a client means to do. Whether it can is seen when the time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Register, or change what is registered.
    Register,
    /// The very same registration again.
    Renew,
    Deregister,
    Heartbeat,
    /// A heartbeat that says how the client is.
    Report,
}

impl Intent {
    pub const ALL: [Intent; 5] = [Intent::Register, Intent::Renew, Intent::Deregister, Intent::Heartbeat, Intent::Report];

    pub fn name(self) -> &'static str {
        match self {
            Intent::Register => "register",
            Intent::Renew => "renew",
            Intent::Deregister => "deregister",
            Intent::Heartbeat => "heartbeat",
            Intent::Report => "report",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedOperation {
    pub at: u64,
    pub client: u32,
    pub intent: Intent,
    /// Where the client goes from now on, if it may.
    pub moves_to: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub hosts: Vec<PlannedHost>,
    /// Who is in each host's list of seeds, by number.
    pub seeds: Vec<u32>,
    pub is_sealed: bool,
    pub conditions: Conditions,
    pub between_zones_ns: u64,
    #[serde(default)]
    pub wan: Option<PlannedWan>,
    /// None: as agents have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PlannedLimits>,
    pub clients: Vec<PlannedClient>,
    pub operations: Vec<PlannedOperation>,
    pub faults: Vec<Scheduled>,
    pub kinds: BTreeSet<FaultKind>,
    /// From here on nothing more befalls anybody.
    pub calm_from: u64,
}

impl Plan {
    /// What a seed means, without the faults in `masked`, in so many datacenters; none: in as many as the seed draws.
    pub fn of_seed(seed: u64, masked: &BTreeSet<FaultKind>, datacenters: Option<u16>) -> Self {
        let mut rng = Rng::new(seed, "plan", 0);
        let agents = rng.between(AGENTS_MIN, AGENTS_MAX) as u32;
        let is_sealed = rng.chance(0.5);
        let zones = rng.between(1, 3) as u16;
        let between_zones_ns = rng.between(0, 5 * MS);
        let calm_from = rng.between(BUSY_TO_MIN, BUSY_TO_MAX);
        let starts_together = rng.chance(0.5);
        let knows_all = rng.chance(0.5);
        // A generator for each kind: a new kind leaves the seeds without it as they were.
        let wanted: BTreeSet<FaultKind> =
            FaultKind::ALL.into_iter().filter(|kind| Rng::new(seed, kind.name(), 1).chance(KIND_CHANCE)).collect();
        let kinds: BTreeSet<FaultKind> = wanted.difference(masked).copied().collect();
        let hosts = (0..agents).map(|_| draw_host(&mut rng, zones, starts_together, kinds.contains(&FaultKind::ClockOff))).collect();
        let mut hosts: Vec<PlannedHost> = hosts;
        let wan = draw_datacenters(&mut Rng::new(seed, "datacenters", 0), &mut hosts, datacenters);
        let wan = wan.map(|wan| PlannedWan { by_summary: draw_by_summary(&mut Rng::new(seed, "exports", 0), wan.kept.len()), ..wan });
        let layout = Layout::of(&hosts);
        let seeds = if knows_all { (0..agents).collect() } else { layout.first_two() };
        let mut faults = Vec::new();
        for kind in FaultKind::ALL {
            // A generator for each kind: what one draws never shifts another.
            let drawn = faults::draw(&mut Rng::new(seed, kind.name(), 0), kind, &layout, BUSY_FROM, calm_from);
            if kinds.contains(&kind) {
                faults.extend(drawn);
            }
        }
        faults.sort_by_key(|scheduled| scheduled.at);
        let (mut clients, mut operations) = draw_work(&mut Rng::new(seed, "work", 0), agents, calm_from);
        draw_kept(&mut Rng::new(seed, "kept", 0), &mut clients);
        for operation in &mut operations {
            let home = HostId(clients[operation.client as usize].home);
            operation.moves_to = operation.moves_to.map(|to| layout.near(home, HostId(to)).0);
        }
        let conditions = Conditions::LAN;
        let limits = draw_limits(&mut Rng::new(seed, "limits", 0));
        Self { seed, hosts, seeds, is_sealed, conditions, between_zones_ns, wan, limits, clients, operations, faults, kinds, calm_from }
    }

    /// The key that seals packets, if they are.
    pub fn key(&self) -> Option<[u8; 32]> {
        self.is_sealed.then(|| Rng::new(self.seed, "key", 0).seed())
    }

    /// The key of the pool of gateways.
    pub fn wan_key(&self) -> Option<[u8; 32]> {
        self.is_sealed.then(|| Rng::new(self.seed, "wan-key", 0).seed())
    }

    /// Whether what clients were told must come out in the order of true time.
    pub fn is_history_sharp(&self) -> bool {
        !self.kinds.iter().any(|kind| kind.blurs_history())
    }
}

fn draw_host(rng: &mut Rng, zones: u16, starts_together: bool, may_be_off: bool) -> PlannedHost {
    let zone = rng.below(u64::from(zones)) as u16;
    let signed = |rng: &mut Rng, most: i64| rng.between(0, 2 * most as u64) as i64 - most;
    let (off, right) = (signed(rng, CLOCK_OFF_MS_MAX), signed(rng, CLOCK_ERROR_MS_MAX));
    let is_off = rng.chance(0.4) && may_be_off;
    let drift_ppm = signed(rng, i64::from(DRIFT_PPM_MAX)) as i32;
    let late = rng.between(0, 4 * SECOND);
    PlannedHost {
        zone,
        clock: Clock { drift_ppm, offset_ms: if is_off { off } else { right } },
        starts_at: if starts_together { late / 100 } else { late },
        datacenter: 0,
        is_gateway: false,
    }
}

/// Spreads the hosts over datacenters, if there are to be several.
fn draw_datacenters(rng: &mut Rng, hosts: &mut [PlannedHost], wanted: Option<u16>) -> Option<PlannedWan> {
    let drawn = if rng.chance(SEVERAL_CHANCE) { rng.between(2, DATACENTERS_MAX) as u16 } else { 1 };
    let gateways: [u64; DATACENTERS_MAX as usize] = std::array::from_fn(|_| rng.between(1, GATEWAYS_MAX));
    let apart = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (a, b, rng.between(5 * MS, 75 * MS)));
    let has_certificates = rng.chance(0.5);
    let mut keep = || (0..SERVICES_MAX as u32).filter(|_| rng.chance(0.2)).collect::<BTreeSet<u32>>();
    let kept: [BTreeSet<u32>; DATACENTERS_MAX as usize] = std::array::from_fn(|_| keep());
    let count = wanted.unwrap_or(drawn).clamp(1, DATACENTERS_MAX as u16);
    if count == 1 {
        return None;
    }
    let all = hosts.len();
    let mut sizes = [0; DATACENTERS_MAX as usize];
    for (at, host) in hosts.iter_mut().enumerate() {
        let datacenter = at * usize::from(count) / all;
        host.datacenter = datacenter as u16;
        host.is_gateway = sizes[datacenter] < gateways[datacenter];
        sizes[datacenter] += 1;
    }
    let distances = apart.into_iter().filter(|(_, b, _)| *b < count).collect();
    Some(PlannedWan { distances, has_certificates, kept: kept.into_iter().take(usize::from(count)).collect(), by_summary: BTreeSet::new() })
}

fn draw_limits(rng: &mut Rng) -> Option<PlannedLimits> {
    let is_cramped = rng.chance(CRAMPED_CHANCE);
    let mut few = || rng.between(1, CRAMPED_MAX);
    let limits = PlannedLimits {
        // Changes leave within milliseconds: hardly ever do two origins wait.
        pushes: 1,
        adverts: few() as usize,
        lacks: few() as usize,
        answers: few() as usize,
        answer_parts: few() as usize,
        page_heads: few() as usize,
        exchanges: few() as usize,
        sponsored: few() as usize,
        fetches: few() as usize,
    };
    is_cramped.then_some(limits)
}

fn draw_by_summary(rng: &mut Rng, count: usize) -> BTreeSet<u16> {
    (0..count as u16).filter(|_| rng.chance(BY_SUMMARY_CHANCE)).collect()
}

fn draw_work(rng: &mut Rng, agents: u32, calm_from: u64) -> (Vec<PlannedClient>, Vec<PlannedOperation>) {
    let count = rng.between(12, 40) as u32;
    let services = rng.between(2, SERVICES_MAX);
    let clients = (0..count)
        .map(|_| {
            let (service, home) = (rng.below(services) as u32, rng.below(u64::from(agents)) as u32);
            let is_agent_scoped = rng.chance(0.25);
            let (ttl_ms, has_ttl) = (rng.between(4_000, 20_000), rng.chance(0.4));
            let (dies_at, dies) = (rng.between(BUSY_FROM, calm_from), rng.chance(0.3));
            let ttl_ms = has_ttl.then_some(ttl_ms);
            PlannedClient { keeps: Kept::Instance, service, is_agent_scoped, ttl_ms, home, dies_at: dies.then_some(dies_at) }
        })
        .collect();
    let mut operations: Vec<_> = (0..rng.between(OPERATIONS_MIN, OPERATIONS_MAX))
        .map(|_| {
            let at = rng.between(BUSY_FROM, calm_from);
            let client = rng.below(u64::from(count)) as u32;
            // Twice register, so that there is something to do the rest to.
            let intents = [Intent::ALL.as_slice(), &[Intent::Register, Intent::Register]].concat();
            let intent = *rng.pick(&intents);
            let (moves_to, moves) = (rng.below(u64::from(agents)) as u32, rng.chance(0.3));
            PlannedOperation { at, client, intent, moves_to: moves.then_some(moves_to) }
        })
        .collect();
    operations.sort_by_key(|operation| operation.at);
    (clients, operations)
}

/// Some clients keep an entry or an external node: neither is an agent's own, nor has a lease.
fn draw_kept(rng: &mut Rng, clients: &mut [PlannedClient]) {
    for client in clients {
        let keeps = match rng.below(10) {
            0..6 => continue,
            6..9 => Kept::Entry,
            _ => Kept::Node,
        };
        *client = PlannedClient { keeps, is_agent_scoped: false, ttl_ms: None, ..*client };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_a_kind_leaves_everything_else_as_it_was() {
        for seed in 0..20 {
            let whole = Plan::of_seed(seed, &BTreeSet::new(), None);
            for kind in FaultKind::ALL {
                let masked = Plan::of_seed(seed, &BTreeSet::from([kind]), None);
                let rest: Vec<_> = whole.faults.iter().filter(|scheduled| scheduled.kind != kind).cloned().collect();
                let mut expected = Plan { faults: rest, ..whole.clone() };
                expected.kinds.remove(&kind);
                if kind == FaultKind::ClockOff {
                    for (host, masked) in expected.hosts.iter_mut().zip(&masked.hosts) {
                        assert!(masked.clock.offset_ms.abs() <= CLOCK_ERROR_MS_MAX, "right without the fault");
                        host.clock.offset_ms = masked.clock.offset_ms;
                    }
                }
                assert_eq!(masked, expected, "seed {seed} without {kind}");
            }
        }
    }

    #[test]
    fn the_swarm_is_as_large_and_as_rough_as_it_should_be() {
        let plans: Vec<Plan> = (0..500).map(|seed| Plan::of_seed(seed, &BTreeSet::new(), None)).collect();
        let mut kinds: Vec<usize> = plans.iter().map(|plan| plan.kinds.len()).collect();
        kinds.sort_unstable();
        assert!(kinds[250] >= 5, "five kinds of fault in the median seed, not {}", kinds[250]);
        for plan in &plans {
            assert!((3..=AGENTS_MAX as usize).contains(&plan.hosts.len()));
            assert!(plan.operations.len() >= 200);
        }
        let sharp = plans.iter().filter(|plan| plan.is_history_sharp()).count();
        assert!(sharp > 25, "{sharp} of 500 seeds know what came after what");
    }
}
