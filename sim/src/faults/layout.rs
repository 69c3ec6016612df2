//! Who is where: what drawing has to know of a plan's hosts.

use crate::plan::PlannedHost;
use crate::world::HostId;

/// Hosts by datacenter, and which of them are gateways.
#[derive(Debug, Clone)]
pub struct Layout {
    datacenters: Vec<Vec<HostId>>,
    gateways: Vec<HostId>,
}

impl Layout {
    pub fn of(hosts: &[PlannedHost]) -> Self {
        let count = hosts.iter().map(|host| usize::from(host.datacenter) + 1).max().unwrap_or(1);
        let mut layout = Self { datacenters: vec![Vec::new(); count], gateways: Vec::new() };
        for (host, planned) in hosts.iter().enumerate().map(|(at, planned)| (HostId(at as u32), planned)) {
            layout.datacenters[usize::from(planned.datacenter)].push(host);
            if planned.is_gateway {
                layout.gateways.push(host);
            }
        }
        layout
    }

    pub fn hosts(&self) -> u32 {
        self.datacenters.iter().map(Vec::len).sum::<usize>() as u32
    }

    pub fn datacenters(&self) -> &[Vec<HostId>] {
        &self.datacenters
    }

    pub fn gateways(&self) -> &[HostId] {
        &self.gateways
    }

    pub fn is_gateway(&self, host: HostId) -> bool {
        self.gateways.contains(&host)
    }

    /// The hosts of a host's datacenter.
    pub fn beside(&self, host: HostId) -> &[HostId] {
        self.datacenters.iter().find(|hosts| hosts.contains(&host)).map_or(&[], Vec::as_slice)
    }

    /// `to`, if it is in the datacenter of `home`; else some host that is.
    pub fn near(&self, home: HostId, to: HostId) -> HostId {
        let beside = self.beside(home);
        if beside.contains(&to) || beside.is_empty() { to } else { beside[to.index() % beside.len()] }
    }

    /// The numbers of the first two hosts of each datacenter.
    pub fn first_two(&self) -> Vec<u32> {
        self.datacenters.iter().flat_map(|hosts| hosts.iter().take(2)).map(|host| host.0).collect()
    }
}
