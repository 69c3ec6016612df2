//! Invariants 10 and 13: no datagram above its limit, no queue or table above its own, traffic within budget, and silence about the
//! catalog when nothing changes.

use super::{Checker, Scene};
use crate::reader::Reader;
use crate::violation::Violation;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::engine::levels::Level;
use tidings::engine::wire::packet::DATAGRAM_BYTES_MAX;

/// What a host may send in one second, datagrams and streams together: far above what a handful of agents need, far below a storm.
const BYTES_A_SECOND_MAX: u64 = 4 << 20;

/// So long after the last head moved anywhere, nobody speaks of any of them: a difference that was seen just before is looked into after
/// three seconds of calm, once.
const SPOKEN_OF_NS: u64 = 8_000_000_000;

/// A head that was told and that nobody has is asked for so long: thirty seconds, and a pause between two questions.
const ASKED_FOR_NS: u64 = 32_000_000_000;
const SAID_OF_WHAT_IS_NOT: [&str; 2] = ["wants", "fetch-instead"];

/// The membership's packets with sums and coordinates that ride along, renewals on their way to their agents, and proofs of addresses.
const SAID_AT_REST: [&str; 7] = ["swim", "roots", "coordinate", "ask", "answer", "challenge", "echo"];

/// First and second in rank compare with the other side every ten seconds, and pass on what they hear.
const SAID_OF_DATACENTERS: [&str; 4] = ["lane", "datacenters", "gateway", "members"];

/// What each host has sent in the second that runs.
#[derive(Default)]
pub struct Limits {
    sent: BTreeMap<HostId, (u64, u64)>,
    /// When a head moved last, at whomever.
    moved_at: u64,
}

impl Limits {
    /// # Errors
    /// What was sent in this second.
    fn observe(&mut self, host: HostId, at: u64, bytes: usize) -> Result<(), u64> {
        let second = at / 1_000_000_000;
        let sent = self.sent.entry(host).or_default();
        *sent = if sent.0 == second { (second, sent.1 + bytes as u64) } else { (second, bytes as u64) };
        if sent.1 > BYTES_A_SECOND_MAX { Err(sent.1) } else { Ok(()) }
    }
}

impl Limits {
    /// What a datagram says of the catalog where there is nothing to say.
    fn idle_words(&self, scene: &Scene<'_>, host: HostId, bytes: &[u8]) -> Option<String> {
        if scene.resting_since.is_none_or(|since| scene.world.now() < self.moved_at.max(since) + SPOKEN_OF_NS) {
            return None;
        }
        let config = scene.world.config(host);
        let parts = Reader::new(&config.label, config.keys.first().copied()).parts(bytes)?;
        let is_of_others = |part: &&str| scene.datacenters() > 1 && SAID_OF_DATACENTERS.contains(part);
        let is_asked_for = scene.lied_at.is_some_and(|at| scene.world.now() < at + ASKED_FOR_NS);
        let is_of_lies = |part: &&str| is_asked_for && SAID_OF_WHAT_IS_NOT.contains(part);
        let is_said = |part: &&str| SAID_AT_REST.contains(part) || is_of_others(part) || is_of_lies(part);
        let spoken: Vec<&str> = parts.into_iter().filter(|part| !is_said(part)).collect();
        (!spoken.is_empty()).then(|| spoken.join(", "))
    }
}

/// What is fuller than it may be.
fn above(mut levels: impl Iterator<Item = Level>) -> Option<Level> {
    levels.find(|level| level.held > level.limit)
}

impl Checker for Limits {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        let is_moved = !scene.moved.heads.is_empty() || !scene.moved.gone.is_empty();
        if matches!(note, Note::Handled { .. }) && is_moved {
            self.moved_at = scene.world.now();
        }
        if let Note::Handled { host } = note
            && let Some(over) = scene.engine(*host).and_then(|engine| above(engine.levels()))
        {
            let expected = format!("at most {} in {}", over.limit, over.name);
            return Err(scene.violation("within-limits", &[*host], expected, over.held.to_string()));
        }
        let Note::Sent { host, bytes, .. } = note else { return Ok(()) };
        if let Some(spoken) = self.idle_words(scene, *host, bytes) {
            let expected = format!("no word on the catalog {} s after the last head moved", SPOKEN_OF_NS / 1_000_000_000);
            return Err(scene.violation("rest-is-silence", &[*host], expected, spoken));
        }
        if bytes.len() > DATAGRAM_BYTES_MAX {
            let found = format!("{} bytes", bytes.len());
            return Err(scene.violation("datagram-limit", &[*host], format!("at most {DATAGRAM_BYTES_MAX} bytes"), found));
        }
        self.observe(*host, scene.world.now(), bytes.len())
            .map_err(|found| scene.violation("bytes-a-second", &[*host], format!("at most {BYTES_A_SECOND_MAX}"), found.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Run, SECOND};

    #[test]
    fn a_table_above_its_limit_is_caught_and_one_at_its_limit_is_not() {
        let over = Level { name: "here", held: 3, limit: 2 };
        let full = Level { held: 2, ..over };
        assert_eq!(above([full, over].into_iter()), Some(over));
        assert_eq!(above([full].into_iter()), None);
        let mut run = Run::cluster_with(1, 4, &|config| config.membership.members_max = 2);
        run.set_checkers(vec![Box::new(Limits::default())]);
        run.run_for(5 * SECOND).expect("the third of the others finds no room");
        let engine = run.scene().engine(HostId(0)).expect("it runs");
        let members = engine.levels().find(|level| level.name == "membership_members");
        assert_eq!(members.map(|level| (level.held, level.limit)), Some((2, 2)));
    }

    #[test]
    fn bites_within_one_second_and_forgets_with_the_next() {
        let mut limits = Limits::default();
        limits.observe(HostId(0), 0, BYTES_A_SECOND_MAX as usize).unwrap();
        limits.observe(HostId(1), 0, BYTES_A_SECOND_MAX as usize).unwrap();
        limits.observe(HostId(0), 1_000_000_000, 1_000).unwrap();
        assert_eq!(limits.observe(HostId(1), 999_999_999, 1), Err(BYTES_A_SECOND_MAX + 1));
    }
}
