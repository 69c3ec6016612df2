//! What faults do to the world of a run, and how it ends.

use super::Run;
use crate::agent;
use crate::faults::{FaultKind, Stroke};
use crate::plan::{Kept, PlannedClient};
use crate::reader::{self, Reader};
use crate::sweep;
use crate::workload::Client;
use crate::world::network::Ailment;
use crate::world::{HostId, World};
use tidings::engine::Engine;
use tidings::engine::config::Export;
use tidings::model::command::Command;
use tidings::model::names::InstanceId;

impl Run {
    /// Does to the world what a fault says.
    pub fn strike(&mut self, kind: FaultKind, stroke: Stroke) {
        self.disturbed_at = self.world.now();
        *self.coverage.entry(sweep::fault(kind)).or_default() += 1;
        for host in stroke.hosts() {
            self.remark(host, &format!("{kind}: {stroke}"));
        }
        match stroke {
            Stroke::Weather(of, probability) => {
                let base = self.calm;
                let weather = &mut self.world.network.conditions;
                match of {
                    FaultKind::Loss => weather.loss = base.loss + probability,
                    FaultKind::Duplicate => weather.duplicate = base.duplicate + probability,
                    FaultKind::Reorder => weather.reorder = base.reorder + probability,
                    FaultKind::Burst => weather.burst = base.burst + probability,
                    FaultKind::WanLoss => weather.wan_loss = base.wan_loss + probability,
                    _ => weather.corrupt = base.corrupt + probability,
                }
            }
            Stroke::Cut { from, to } => self.world.network.cut(&from, &to),
            Stroke::Mend { from, to } => self.world.network.mend(&from, &to),
            Stroke::Isolate(host) => self.world.network.isolate(host),
            Stroke::Rejoin(host) => self.world.network.rejoin(host),
            Stroke::Ail(host, ailment) => self.world.network.ail(host, ailment),
            Stroke::Kill(host) => self.kill(host),
            Stroke::Start(host, revival) => {
                if !self.world.host(host).is_up() {
                    let fate = revival.disk.fate(self.world.now());
                    self.world.suffer(host, fate);
                    if revival.is_moved {
                        self.moved += 1;
                        self.world.readdress(host, World::<Engine>::address_of(60_000 + self.moved));
                    }
                    self.start(host);
                }
            }
            Stroke::Freeze(host, how) => self.world.freeze(host, how),
            Stroke::Thaw(host) => self.world.thaw(host),
            Stroke::ClockJump(host, ms) => self.world.host_mut(host).clock.offset_ms += ms,
            Stroke::DiskFull(host, is_full) => self.world.host_mut(host).disk.is_full = is_full,
            Stroke::Leave(host) => self.leave(host),
            Stroke::Noise { to, draw } => self.make_noise(to, draw),
            Stroke::Stranger { to, draw } => self.make_stranger(to, draw),
            Stroke::CloneDisk { from, to } => {
                if !self.world.host(to).is_up() {
                    self.clone_disk(from, to);
                }
            }
            Stroke::Upgrade(host, version) => self.world.config_mut(host).node.version = format!("simulated-{version}"),
            Stroke::Export { host, edition, kept } => {
                if let Some(gateway) = &mut self.world.config_mut(host).gateway {
                    // Whatever it told summaries of crosses, too: else what it had excepted from that would be taken back.
                    gateway.export = agent::export(edition, &kept, Export::Full);
                }
            }
            Stroke::Bury(host) => self.bury(host),
            Stroke::Lie { from, to, draw } => {
                self.lied_at = Some(self.world.now());
                self.lie(from, to, draw);
            }
            Stroke::Newer(host) => {
                if !self.world.host(host).is_up() {
                    self.write_newer(host);
                }
            }
            Stroke::Flood { to, number, draw } => self.flood(to, number, draw),
        }
    }

    pub fn leave(&mut self, host: HostId) {
        self.disturb(host);
        self.order(host, Command::Leave);
    }

    pub(super) fn make_noise(&mut self, to: HostId, draw: u64) {
        let from = World::<Engine>::address_of((draw % 5) as u32);
        let old = (!self.overheard.is_empty()).then(|| self.overheard[draw as usize % self.overheard.len()].clone());
        let length = self.noise.between(0, 1_300) as usize;
        let random: Vec<u8> = (0..length).map(|_| self.noise.number() as u8).collect();
        match old.filter(|_| draw & 1 == 0) {
            Some((sender, bytes)) => self.world.inject(to, if draw & 2 == 0 { sender } else { from }, bytes),
            None => self.world.inject(to, from, random.into()),
        }
    }

    /// An overheard packet as a cluster with another label, or under another key, would have sent it.
    pub(super) fn make_stranger(&mut self, to: HostId, draw: u64) {
        if self.overheard.is_empty() {
            return;
        }
        let (sender, bytes) = self.overheard[draw as usize % self.overheard.len()].clone();
        let config = self.world.config(to);
        let (label, key) = (config.label.clone(), config.keys.first().copied());
        let Some(body) = Reader::new(&label, key).body(&bytes) else { return };
        let label = if draw & 4 == 0 { format!("{label}-other") } else { label };
        let key = if draw & 4 == 0 { key } else { Some([draw as u8; 32]) };
        self.world.inject(to, sender, reader::sealed(&label, key, draw, &body));
    }

    /// Kills a host for good, where more than half of its datacenter are left; none that speaks for it.
    fn bury(&mut self, host: HostId) {
        let datacenter = self.world.network.datacenter(host);
        let is_here = |other: &HostId| self.world.network.datacenter(*other) == datacenter;
        let hosts = self.world.host_ids().filter(is_here).count();
        let buried = self.buried.iter().copied().filter(is_here).count();
        // Who knows nobody but the seeds finds nobody where they are all gone.
        let seeds = self.seeds_of(host);
        let is_last_seed = seeds.contains(&host) && seeds.iter().all(|seed| *seed == host || self.buried.contains(seed));
        if 2 * (buried + 1) < hosts && !is_last_seed && self.world.config(host).gateway.is_none() {
            self.kill(host);
            self.buried.insert(host);
        }
    }

    /// Registrations at once, each with a lease that nobody renews.
    pub(super) fn flood(&mut self, to: HostId, number: u32, draw: u64) {
        for at in 0..number {
            let planned = PlannedClient {
                keeps: Kept::Instance,
                service: at % 7,
                is_agent_scoped: false,
                ttl_ms: Some(5_000),
                home: to.0,
                dies_at: None,
            };
            let mut registration = Client::new(at, planned).registration(0);
            registration.id = InstanceId::new(&format!("flood-{draw:x}-{at}")).expect("letters and digits are an id");
            self.order(to, Command::Register(Box::new(registration)));
        }
    }

    /// Ends all that was done to the world: what is dead comes back, what is frozen thaws.
    pub fn calm_down(&mut self) {
        self.disturbed_at = self.world.now();
        self.world.network.heal();
        self.world.network.conditions = self.calm;
        for host in self.world.host_ids() {
            self.world.host_mut(host).disk.is_full = false;
            self.world.thaw(host);
            self.start(host);
        }
    }

    /// Copies a host's disk as it is onto another that is not running.
    pub fn clone_disk(&mut self, from: HostId, to: HostId) {
        let copy = self.world.host(from).disk.copy();
        self.world.host_mut(to).disk.restore(copy);
    }

    /// Puts a host's own link right or wrong.
    pub fn ail(&mut self, host: HostId, ailment: Ailment) {
        self.world.network.ail(host, ailment);
        self.disturbed_at = self.world.now();
    }
}
