//! Looks at a cluster in which some died: who of the others holds all of them down, and since when.

use crate::run::Run;
use crate::world::HostId;
use tidings::engine::Engine;
use tidings::model::names::NodeId;

/// The dead, and those that have yet to learn of them.
pub struct Watch {
    pub began: u64,
    dead: Vec<NodeId>,
    waiting: Vec<HostId>,
    /// Seconds until the first, the middle one, and the last of the others held all of the dead down.
    pub first_s: Option<f64>,
    pub half_s: Option<f64>,
    pub all_s: Option<f64>,
    others: usize,
}

impl Watch {
    /// To be made before they die.
    pub fn new(run: &Run, dying: &[HostId], others: &[HostId]) -> Self {
        Self {
            began: run.world.now(),
            dead: dying.iter().filter_map(|host| run.node(*host)).collect(),
            waiting: others.to_vec(),
            first_s: None,
            half_s: None,
            all_s: None,
            others: others.len(),
        }
    }

    pub fn look(&mut self, run: &Run) {
        let dead = &self.dead;
        let is_up = |engine: &Engine, node: &NodeId| engine.membership().member(*node).is_some_and(|member| member.is_up());
        self.waiting.retain(|host| run.world.machine(*host).is_some_and(|engine| dead.iter().any(|node| is_up(engine, node))));
        let seconds = (run.world.now() - self.began) as f64 / 1e9;
        let know = self.others - self.waiting.len();
        if know > 0 {
            self.first_s.get_or_insert(seconds);
        }
        if know * 2 >= self.others {
            self.half_s.get_or_insert(seconds);
        }
        if self.waiting.is_empty() {
            self.all_s.get_or_insert(seconds);
        }
    }
}
