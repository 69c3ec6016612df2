//! Invariant 8, as far as it is seen from outside: who is ready stays ready, and all are within ten seconds of calm.

use super::{Checker, Scene};
use crate::reader::{self, Reader};
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::BTreeSet;

/// Design section 4: in any connected set, however started, all are ready within this time of calm.
pub const READY_WITHIN_NS: u64 = 10_000_000_000;

/// Which processes have said that they are ready.
#[derive(Default)]
pub struct Ready {
    ready: BTreeSet<HostId>,
}

impl Ready {
    /// # Errors
    /// It was ready before.
    fn observe(&mut self, host: HostId, is_ready: bool) -> Result<(), ()> {
        if is_ready {
            self.ready.insert(host);
            return Ok(());
        }
        if self.ready.contains(&host) { Err(()) } else { Ok(()) }
    }
}

impl Checker for Ready {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                self.ready.remove(host);
            }
            Note::View { host, view } => {
                let observed = self.observe(*host, view.agent.is_ready);
                observed.map_err(|_| scene.violation("ready-stays-ready", &[*host], "ready".into(), "not ready any more".into()))?;
            }
            Note::Sent { host, bytes, .. } => {
                // One that is ready now may have become so by what it just handled, and one that is not never was.
                let is_ready = scene.engine(*host).is_none_or(|engine| engine.spread().is_ready());
                if !is_ready && speaks_for_others(scene, *host, bytes) {
                    let found = "the sum over its heads, by which others measure what they know".into();
                    return Err(scene.violation("unready-are-silent", &[*host], "nothing of what it knows of others".into(), found));
                }
            }
            Note::Handled { host } => {
                let engine = scene.engine(*host);
                // Whose packets stand still is connected to nobody, and may hold that all others are there.
                if scene.world.host(*host).frozen.is_some() {
                    return Ok(());
                }
                if scene.is_calm_for(READY_WITHIN_NS) && engine.is_some_and(|engine| !engine.spread().is_ready()) {
                    let expected = format!("ready {} s after the last fault", READY_WITHIN_NS / 1_000_000_000);
                    return Err(scene.violation("all-are-ready", &[*host], expected, "not ready".into()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a datagram carries roots: who sends them is taken for ready.
fn speaks_for_others(scene: &Scene<'_>, host: HostId, bytes: &[u8]) -> bool {
    let config = scene.world.config(host);
    let parts = Reader::new(&config.label, config.keys.first().copied()).variants(bytes);
    parts.is_some_and(|parts| parts.contains(&reader::ROOTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bites_when_readiness_is_taken_back_and_lets_a_new_process_begin_without() {
        let mut ready = Ready::default();
        ready.observe(HostId(0), false).unwrap();
        ready.observe(HostId(0), true).unwrap();
        assert_eq!(ready.observe(HostId(0), false), Err(()));
        ready.ready.remove(&HostId(0));
        ready.observe(HostId(0), false).unwrap();
    }
}
