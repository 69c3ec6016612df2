//! Summaries: what a gateway says of its datacenter's services that do not cross in full, and how the other side takes that in.
//!
//! ```text
//!   view of east ──► Summaries ── table, then changes ──► Incoming ──► records of this gateway in the catalog of "east"
//! ```
//!
//! Of a datacenter's gateways the first in rank says them, on its one link: all when the link opens or the rank comes to it, then what
//! changed, a service at most once a second. What the receiving gateway heard it says to the agents of its own datacenter as it says how
//! its link stands; which of several gateways counts there is [`super::imports`]'s.

use super::config::{Export, ExportPolicy};
use crate::engine::spread::pack;
use crate::engine::wire::compress;
use crate::engine::wire::packet::{Frame, LinkFrame};
use crate::model::names::ServiceKey;
use crate::model::summary::{Said, Summary};
use crate::view::{Changes, View};
use std::collections::{BTreeMap, BTreeSet};

/// Services of one datacenter that have summaries; what comes later, in order of names, has none and is counted.
pub const SERVICES_MAX: usize = 8_192;
/// Summaries of one frame, in bytes before compression.
const FRAME_BYTES: usize = 48 * 1_024;

/// What the own datacenter's gateway says.
#[derive(Debug, Default)]
pub struct Summaries {
    table: BTreeMap<ServiceKey, Summary>,
    /// The view up to which it is true.
    revision: u64,
    /// Services that found no room, counted each time they changed.
    pub left_out: u64,
}

impl Summaries {
    /// Takes in what changed in the view; says of which services the summaries are not what they were.
    pub fn follow(&mut self, view: &View, policy: &ExportPolicy) -> Vec<Said> {
        let before = std::mem::replace(&mut self.revision, view.revision);
        if !policy.has_summaries() {
            return Vec::new();
        }
        let touched: BTreeSet<ServiceKey> = match view.changes_since(before) {
            Changes::Batches(batches) => {
                batches.iter().flat_map(|batch| batch.changes.iter()).map(|change| change.service.clone()).collect()
            }
            Changes::Resync => view.services(None).map(|service| service.key.clone()).chain(self.table.keys().cloned()).collect(),
        };
        touched.into_iter().filter_map(|key| self.look_at(view, policy, key)).collect()
    }

    fn look_at(&mut self, view: &View, policy: &ExportPolicy, key: ServiceKey) -> Option<Said> {
        let (namespace, name) = (key.namespace.as_str(), key.service.as_str());
        let crosses = policy.of(namespace, name) == Export::Summary;
        let summary = view.service(namespace, name).filter(|_| crosses).map(|service| service.summary());
        if self.table.get(&key) == summary.as_ref() {
            return None;
        }
        let said = Said::new(&key, summary.clone());
        match summary {
            Some(_) if self.table.len() >= SERVICES_MAX && !self.table.contains_key(&key) => {
                self.left_out += 1;
                return None;
            }
            Some(summary) => self.table.insert(key, summary),
            None => self.table.remove(&key),
        };
        Some(said)
    }

    /// All of them, for somebody who knows none.
    pub fn whole(&self) -> Vec<Frame> {
        frames(self.table.iter().map(|(key, summary)| Said::new(key, Some(summary.clone()))), true)
    }
}

/// Changes for somebody who knew all before.
pub fn changes(said: &[Said]) -> Vec<Frame> {
    if said.is_empty() { Vec::new() } else { frames(said.iter().cloned(), false) }
}

/// Another gateway says them from now on.
pub fn yielded() -> Frame {
    Frame::Link(LinkFrame::Summaries { is_whole: false, is_end: false, packed: pack(&Vec::<Said>::new()) })
}

fn frames(said: impl Iterator<Item = Said>, is_whole: bool) -> Vec<Frame> {
    let mut pieces: Vec<Vec<Said>> = vec![Vec::new()];
    let mut bytes = 0;
    for one in said {
        if bytes >= FRAME_BYTES {
            pieces.push(Vec::new());
            bytes = 0;
        }
        let zones = one.summary.iter().flat_map(|summary| &summary.zones).map(|(zone, _)| zone.len() + 6).sum::<usize>();
        bytes += one.namespace.len() + one.service.len() + zones + 64;
        pieces.last_mut().expect("there is always one").push(one);
    }
    let last = pieces.len() - 1;
    let frame = |(at, piece): (usize, &Vec<Said>)| Frame::Link(LinkFrame::Summaries { is_whole, is_end: at == last, packed: pack(piece) });
    pieces.iter().enumerate().map(frame).collect()
}

/// What came on one link. While a datacenter is split, more than one gateway there may say summaries.
#[derive(Debug, Default)]
pub struct Gathering {
    coming: BTreeMap<ServiceKey, Summary>,
    /// All that was said, and when it was said as a whole: what follows are changes. None before, and once another gateway says them.
    complete: Option<(u64, BTreeMap<ServiceKey, Summary>)>,
}

/// What is to be done about a frame of summaries.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// More follows.
    Nothing,
    /// These are all; or another gateway says them from now on.
    Anew,
    Changes(Vec<(ServiceKey, Option<Summary>)>),
}

impl Gathering {
    /// # Errors
    /// The bytes are not summaries, or more of them than a datacenter may have.
    pub fn take(&mut self, now_ns: u64, is_whole: bool, is_end: bool, packed: &[u8]) -> Result<Taken, &'static str> {
        let unpacked = compress::unpack(packed).map_err(|_| "link_summaries")?;
        let said: Vec<Said> = postcard::from_bytes(&unpacked).map_err(|_| "link_summaries")?;
        let changes: Option<Vec<_>> = said.into_iter().map(|one| one.service().map(|service| (service, one.summary))).collect();
        let changes = changes.ok_or("link_summaries")?;
        if !is_whole && !is_end && changes.is_empty() {
            self.complete = None;
            return Ok(Taken::Anew);
        }
        if !is_whole {
            return self.change(changes);
        }
        self.coming.extend(changes.into_iter().filter_map(|(service, summary)| Some((service, summary?))));
        if self.coming.len() > SERVICES_MAX {
            return Err("link_summaries_size");
        }
        if !is_end {
            return Ok(Taken::Nothing);
        }
        self.complete = Some((now_ns, std::mem::take(&mut self.coming)));
        Ok(Taken::Anew)
    }

    fn change(&mut self, changes: Vec<(ServiceKey, Option<Summary>)>) -> Result<Taken, &'static str> {
        let (_, table) = self.complete.as_mut().ok_or("link_nonsense")?;
        for (service, summary) in &changes {
            match summary {
                Some(summary) => table.insert(service.clone(), summary.clone()),
                None => table.remove(service),
            };
        }
        if table.len() > SERVICES_MAX { Err("link_summaries_size") } else { Ok(Taken::Changes(changes)) }
    }

    /// All of them, as they are now, and when they were said as a whole.
    pub fn whole(&self) -> Option<(u64, &BTreeMap<ServiceKey, Summary>)> {
        self.complete.as_ref().map(|(at_ns, table)| (*at_ns, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{Namespace, ServiceName};

    fn key(at: usize) -> ServiceKey {
        ServiceKey { namespace: Namespace::default(), service: ServiceName::new(&format!("service-{at:05}-{}", "x".repeat(100))).unwrap() }
    }

    fn table(count: usize) -> Summaries {
        let table = (0..count).map(|at| (key(at), Summary { instances: at as u32, ..Summary::default() })).collect();
        Summaries { table, ..Summaries::default() }
    }

    fn take_all(gathering: &mut Gathering, frames: Vec<Frame>) -> Result<Taken, &'static str> {
        let mut taken = Ok(Taken::Nothing);
        for frame in frames {
            let Frame::Link(LinkFrame::Summaries { is_whole, is_end, packed }) = frame else { panic!("{frame:?}") };
            taken = Ok(gathering.take(7, is_whole, is_end, &packed)?);
        }
        taken
    }

    #[test]
    fn a_table_of_many_frames_counts_with_its_last() {
        let said = table(2_000);
        let frames = said.whole();
        assert!(frames.len() > 3, "{} frames", frames.len());
        let mut gathering = Gathering::default();
        assert_eq!(take_all(&mut gathering, frames[..3].to_vec()), Ok(Taken::Nothing));
        assert_eq!(take_all(&mut gathering, frames[3..].to_vec()), Ok(Taken::Anew));
        assert_eq!(gathering.whole(), Some((7, &said.table)));
        let gone = changes(&[Said::new(&key(7), None)]);
        assert_eq!(take_all(&mut gathering, gone), Ok(Taken::Changes(vec![(key(7), None)])));
    }

    #[test]
    fn what_is_yielded_is_not_current_any_more_until_it_comes_whole_again() {
        let mut gathering = Gathering::default();
        take_all(&mut gathering, table(1).whole()).unwrap();
        assert!(gathering.whole().is_some());
        assert_eq!(take_all(&mut gathering, vec![yielded()]), Ok(Taken::Anew));
        assert_eq!(gathering.whole(), None);
        assert_eq!(take_all(&mut gathering, changes(&[Said::new(&key(7), None)])), Err("link_nonsense"));
    }

    #[test]
    fn changes_before_the_whole_bytes_that_are_none_and_ever_more_services_are_refused() {
        let mut gathering = Gathering::default();
        assert_eq!(take_all(&mut gathering, changes(&[Said::new(&key(7), None)])), Err("link_nonsense"));
        assert_eq!(gathering.take(7, true, true, &[255; 9]), Err("link_summaries"));
        assert!(take_all(&mut gathering, table(SERVICES_MAX).whole()).is_ok(), "at the limit");
        assert_eq!(take_all(&mut gathering, table(SERVICES_MAX + 1).whole()), Err("link_summaries_size"));
    }
}
