//! Checkers: one invariant each, of design section 4, looked at after every event that touches it; in worlds of more than
//! [`moves::WHOLE_UP_TO`] hosts at what the event touched, and in full when all is at rest.
//!
//! | checker  | invariants | looks at |
//! |----------|------------|----------|
//! | heads    | 1          | heads of the agent that handled something |
//! | prefix   | 2, 5       | records of an origin whose head moved there |
//! | deletes  | 4          | what a new view serves |
//! | writes   | 3          | answers; at rest, every view |
//! | visible  | 6, 12      | new views and their changes; at rest, every view |
//! | leases   | 7          | what an agent keeps without a sign of life; at rest, what is renewed |
//! | life     | 7, 9       | what views say of agents |
//! | verdicts | 4, 9       | how members change at the agent that handled something |
//! | ready    | 8          | readiness in views |
//! | limits   | 10, 13     | datagrams; at rest, what is still sent |
//! | imports  | 11         | heads that moved; what views show of other datacenters |
//! | vouched  | 11         | who is shown there as down, and what as heard |

mod deletes;
mod heads;
mod imports;
mod leases;
pub mod life;
mod limits;
pub mod moves;
mod prefix;
mod ready;
#[cfg(test)]
mod tests;
mod verdicts;
mod visible;
mod vouched;
mod writes;

use crate::history::History;
use crate::truth::Truth;
use crate::violation::Violation;
use crate::workload::Client;
use crate::world::{HostId, Note, World};
use moves::Moved;
use std::sync::Arc;
use tidings::engine::Engine;
use tidings::model::names::NodeId;
use tidings::model::record::Head;
use tidings::view::{Changes, Entry, View};

/// What checkers may look at.
pub struct Scene<'a> {
    pub world: &'a World<Engine>,
    pub truth: &'a Truth,
    pub history: &'a History,
    pub clients: &'a [Client],
    /// The newest view of each host's process.
    pub views: &'a [Option<Arc<View>>],
    pub is_sharp: bool,
    pub disturbed_at: u64,
    /// When a member last told of heads that are none.
    pub lied_at: Option<u64>,
    /// Since when all is right and nothing is done to anybody any more.
    pub resting_since: Option<u64>,
    pub changed_at: &'a [u64],
    /// What the event moved at the host that handled it.
    pub moved: &'a Moved,
}

impl<'a> Scene<'a> {
    pub fn engine(&self, host: HostId) -> Option<&'a Engine> {
        self.world.machine(host)
    }

    pub fn node(&self, host: HostId) -> Option<NodeId> {
        self.engine(host).map(|engine| engine.membership().me().node)
    }

    /// Hosts whose process runs, with its node id.
    pub fn running(&self) -> impl Iterator<Item = (HostId, NodeId)> + '_ {
        self.world.host_ids().filter_map(|host| Some((host, self.node(host)?)))
    }

    pub fn view(&self, host: HostId) -> Option<&'a Arc<View>> {
        self.views[host.index()].as_ref()
    }

    /// The number of a host's datacenter.
    pub fn datacenter(&self, host: HostId) -> u16 {
        self.world.network.datacenter(host)
    }

    /// How many datacenters there are.
    pub fn datacenters(&self) -> u16 {
        self.world.network.datacenters()
    }

    /// The hosts of a datacenter that are meant to be gateways.
    pub fn gateways(&self, datacenter: u16) -> impl Iterator<Item = HostId> + '_ {
        self.world.host_ids().filter(move |host| self.datacenter(*host) == datacenter && self.world.config(*host).gateway.is_some())
    }

    /// Whether views are read whole whenever they change.
    pub fn is_small(&self) -> bool {
        self.views.len() <= moves::WHOLE_UP_TO
    }

    /// The marked heads of origins that the event took from among those that are told of, at the host that handled it.
    pub fn reaped(&self, host: HostId) -> impl Iterator<Item = Head> + '_ {
        let catalog = self.engine(host).map(|engine| engine.catalog());
        let heads = self.moved.gone.iter().filter_map(move |origin| catalog?.head(*origin));
        heads.filter(|head| head.flags.reaped.is_some())
    }

    /// Nothing was done to anybody for so long.
    pub fn is_calm_for(&self, ns: u64) -> bool {
        let is_fine = self.world.network.is_whole() && self.world.network.conditions.is_calm() && !self.world.has_slow_streams();
        is_fine && self.world.now() - self.disturbed_at >= ns
    }

    pub fn violation(&self, checker: &'static str, hosts: &[HostId], expected: String, found: String) -> Violation {
        Violation { checker, at: self.world.now(), hosts: hosts.to_vec(), expected, found }
    }
}

/// Looks on while a run goes, and says when an invariant is broken.
pub trait Checker {
    /// # Errors
    /// The invariant does not hold.
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation>;

    /// Everything at once, when nothing is on its way any more.
    ///
    /// # Errors
    /// The invariant does not hold.
    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let _ = scene;
        Ok(())
    }
}

/// The entries of a host's new view that differ from those of the one at `since`; all of them in small worlds, and where the view does
/// not reach back that far.
fn changed<'a>(scene: &Scene<'_>, view: &'a View, since: u64) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
    let whole = || Box::new(view.services(None).flat_map(|service| service.entries.iter()));
    if scene.is_small() {
        return whole();
    }
    match view.changes_since(since) {
        Changes::Resync => whole(),
        Changes::Batches(batches) => {
            let after: Vec<&Entry> =
                batches.into_iter().flat_map(|batch| batch.changes.iter()).filter_map(|change| change.after.as_ref()).collect();
            Box::new(after.into_iter())
        }
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(heads::Heads::default()),
        Box::new(prefix::Prefix),
        Box::new(deletes::Deletes::default()),
        Box::new(writes::Writes),
        Box::new(visible::Visible::default()),
        Box::new(leases::Leases::default()),
        Box::new(life::Life::default()),
        Box::new(verdicts::Verdicts::default()),
        Box::new(ready::Ready::default()),
        Box::new(limits::Limits::default()),
        Box::new(imports::Imports::default()),
        Box::new(vouched::Vouched::default()),
    ]
}
