//! Checkers: one invariant each, of design section 4, looked at after every event that touches it.
//!
//! | checker  | invariants | looks at |
//! |----------|------------|----------|
//! | heads    | 1          | heads of the agent that handled something |
//! | prefix   | 2, 5       | records of an origin whose head moved there |
//! | deletes  | 4          | what a new view serves |
//! | writes   | 3          | answers; at rest, every view |
//! | visible  | 6, 12      | new views and their changes; at rest, every view |
//! | life     | 7, 9       | what views say of agents |
//! | ready    | 8          | readiness in views |
//! | limits   | 10, 13     | datagrams; at rest, what is still sent |

mod deletes;
mod heads;
mod life;
mod limits;
mod prefix;
mod ready;
mod visible;
mod writes;

use crate::history::History;
use crate::truth::Truth;
use crate::violation::Violation;
use crate::workload::Client;
use crate::world::{HostId, Note, World};
use std::sync::Arc;
use tidings::engine::Engine;
use tidings::model::names::NodeId;
use tidings::view::View;

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
    pub changed_at: &'a [u64],
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

/// All of them.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(heads::Heads::default()),
        Box::new(prefix::Prefix::default()),
        Box::new(deletes::Deletes::default()),
        Box::new(writes::Writes),
        Box::new(visible::Visible::default()),
        Box::new(life::Life),
        Box::new(ready::Ready::default()),
        Box::new(limits::Limits::default()),
    ]
}
