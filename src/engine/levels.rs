//! How full the queues and tables are that have a limit. Metrics show them; the simulator holds each to its limit after every event, those
//! of the spread with limits so low that they are met.

use super::{Engine, forwarding, lookups, proof, wire};

/// One queue or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// `room_thing`, as metrics name it.
    pub name: &'static str,
    pub held: usize,
    pub limit: usize,
}

impl Level {
    pub fn new(name: &'static str, held: usize, limit: usize) -> Self {
        Self { name, held, limit }
    }
}

impl Engine {
    /// All of this agent's, but what it keeps of other datacenters and has open with them.
    pub fn levels(&self) -> impl Iterator<Item = Level> + '_ {
        let door = [
            Level::new("forwarding_asked", self.forwarding.len(), forwarding::ASKS_MAX),
            Level::new("forwarding_served", self.questions.len(), forwarding::SERVED_MAX),
            Level::new("lookups_asked", self.lookups.len(), lookups::LOOKUPS_MAX),
            Level::new("proof_addresses", self.proofs.len(), proof::ADDRESSES_MAX),
            Level::new("seal_windows", self.sealer.windows(), wire::replay::WINDOWS_MAX),
        ];
        door.into_iter().chain(self.membership.levels()).chain(self.catalog.levels()).chain(self.spread.levels())
    }
}
