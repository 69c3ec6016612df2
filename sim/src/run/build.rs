//! How a run begins: the hosts of a plan, of one cluster, or of several datacenters.

use super::{Entry, Run};
use crate::agent;
use crate::checkers::{self, Checker};
use crate::faults::FaultKind;
use crate::plan::{Plan, PlannedHost, PlannedWan};
use crate::sweep;
use crate::world::HostId;
use crate::world::network::Conditions;
use std::collections::BTreeSet;
use tidings::engine::config::{EngineConfig, Export};
use tidings::model::names::Zone;

/// How long a datacenter may know nothing of an origin before others drop it: short, that a run may see it.
const UNKNOWN_MS: u64 = 60_000;

impl Run {
    /// The run that a plan describes, with all checkers.
    pub fn of_plan(plan: &Plan, configure: &dyn Fn(&mut EngineConfig)) -> Self {
        let mut run = Self::new(plan.seed, plan.conditions);
        run.world.network.between_zones_ns = plan.between_zones_ns;
        run.is_sharp = plan.is_history_sharp();
        if plan.kinds.contains(&FaultKind::Twin) {
            // Giving a node id up is an operator's business, and says so.
            run.allow_errors("node id");
        }
        run.seeds.clone_from(&plan.seeds);
        run.checkers = checkers::all();
        run.world.notes_packets = true;
        if plan.kinds.contains(&FaultKind::ClockOff) {
            run.coverage.insert(sweep::fault(FaultKind::ClockOff), 1);
        }
        let key = plan.key();
        for planned in &plan.hosts {
            let host = run.add_host(*planned, key, configure);
            if let Some(limits) = &plan.limits {
                limits.apply(&mut run.world.config_mut(host).spread);
            }
            if let Some(wan) = &plan.wan {
                run.link(host, planned, wan, plan.wan_key());
            }
            run.schedule(planned.starts_at, Entry::Start(host));
        }
        for planned in &plan.clients {
            run.add_client(*planned);
        }
        for operation in &plan.operations {
            run.schedule(operation.at, Entry::Operation(*operation));
        }
        for scheduled in &plan.faults {
            run.schedule(scheduled.at, Entry::Stroke(scheduled.clone()));
        }
        run
    }

    /// A cluster of `agents` that know each other as seeds, started, with all checkers.
    pub fn cluster(seed: u64, agents: u32) -> Self {
        Self::cluster_with(seed, agents, &|_| {})
    }

    pub fn cluster_with(seed: u64, agents: u32, configure: &dyn Fn(&mut EngineConfig)) -> Self {
        let mut run = Self::new(seed, Conditions::LAN);
        run.checkers = checkers::all();
        run.seeds = (0..agents.min(3)).collect();
        run.add_agents(agents, configure);
        for host in run.world.host_ids() {
            run.start(host);
        }
        run
    }

    /// Adds datacenters of so many agents each, the first of them gateways, and starts all; from one to another it takes `apart_ns`.
    pub fn add_datacenters(&mut self, sizes: &[(u32, u32)], apart_ns: u64, configure: &dyn Fn(&mut EngineConfig)) -> Vec<Vec<HostId>> {
        let count = sizes.len() as u16;
        let distances = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b, apart_ns))).collect();
        let wan = PlannedWan { distances, has_certificates: true, kept: vec![BTreeSet::new(); sizes.len()], by_summary: BTreeSet::new() };
        let mut datacenters = Vec::new();
        for (datacenter, (agents, gateways)) in (0..count).zip(sizes) {
            let planned = |at| PlannedHost { datacenter, is_gateway: at < *gateways, ..PlannedHost::default() };
            let mut hosts = Vec::new();
            for planned in (0..*agents).map(planned) {
                let host = self.add_host(planned, None, configure);
                self.link(host, &planned, &wan, None);
                hosts.push(host);
            }
            self.seeds.extend(hosts.iter().take(2).map(|host| host.0));
            datacenters.push(hosts);
        }
        self.world.host_ids().for_each(|host| self.start(host));
        datacenters
    }

    /// Adds hosts with true clocks and does not start them.
    pub fn add_agents(&mut self, agents: u32, configure: &dyn Fn(&mut EngineConfig)) -> Vec<HostId> {
        let planned = PlannedHost::default();
        (0..agents).map(|_| self.add_host(planned, None, configure)).collect()
    }

    pub fn set_seeds(&mut self, seeds: Vec<u32>) {
        self.seeds = seeds;
    }

    pub fn set_checkers(&mut self, checkers: Vec<Box<dyn Checker>>) {
        self.checkers = checkers;
    }

    fn add_host(&mut self, planned: PlannedHost, key: Option<[u8; 32]>, configure: &dyn Fn(&mut EngineConfig)) -> HostId {
        let number = self.views.len() as u32;
        let mut config = agent::config_in(number, planned.datacenter);
        config.node.zone = Some(Zone::new(&format!("zone-{}", planned.zone)).expect("letters and digits are a name"));
        config.keys.extend(key);
        configure(&mut config);
        self.views.push(None);
        self.changed_at.push(0);
        let host = self.world.add_host(planned.zone, planned.clock, config);
        self.world.network.set_datacenter(host, planned.datacenter);
        host
    }

    /// Puts what lies between datacenters around a host, and makes it a gateway if it is one.
    fn link(&mut self, host: HostId, planned: &PlannedHost, wan: &PlannedWan, key: Option<[u8; 32]>) {
        for (a, b, ns) in &wan.distances {
            self.world.network.set_distance(*a, *b, *ns);
        }
        self.world.config_mut(host).wan.unknown_ms = UNKNOWN_MS;
        if planned.is_gateway {
            let kept = &wan.kept[usize::from(planned.datacenter)];
            let otherwise = if wan.by_summary.contains(&planned.datacenter) { Export::Summary } else { Export::Full };
            self.world.config_mut(host).gateway = Some(agent::gateway(host.0, key, 0, kept, otherwise));
            self.world.host_mut(host).certificate = wan.has_certificates.then(|| agent::datacenter(planned.datacenter));
        }
    }
}
