//! Which services of other datacenters a gateway has fetched, for whom they are known by summary alone; and when it fetches again.
//!
//! ```text
//!   agent ── Part::Fetch ──► gateway here ── LinkFrame::Fetch ──► gateway there
//!                               │  ◄──────── LinkFrame::Fetched ──────┘
//!                               └── records of its own ──► all agents here
//! ```
//!
//! An answer is kept as long as it is looked up, and fetched anew while it is; it is never merged with what crosses by itself. Nobody
//! waits here: an agent that hears nothing asks again.

use crate::engine::spread::pack;
use crate::engine::wire::compress;
use crate::engine::wire::packet::{Frame, LinkFrame};
use crate::model::answer::Told;
use crate::model::names::{Datacenter, ServiceKey};
use crate::model::record::Content;
use crate::model::time::Now;
use crate::view::Service;
use std::collections::BTreeMap;

/// Services that a gateway keeps answers about; beyond, the one that was looked up longest ago goes.
pub const ANSWERS_MAX: usize = 256;
/// What all of them take together: every agent here holds them.
pub const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// What one may take; a larger service is not told, and must be exported in full.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Frames that wait on a link to be sent, above which nothing is fetched over it.
pub const ANSWER_QUEUE_MAX: usize = 64;
/// Parts of one frame, in bytes before compression; a single part may be larger.
const FRAME_BYTES: usize = 48 * 1_024;
/// What is looked up is fetched anew so often at most, in milliseconds.
pub const REFRESH_MS: u64 = 10_000;
/// No answer came for so long: it is asked for again, in milliseconds.
const ASK_AGAIN_MS: u64 = 2_000;
/// What nobody has looked up for so long is dropped, in milliseconds.
pub const UNUSED_MS: u64 = 300_000;

type Name = (Datacenter, ServiceKey);

#[derive(Debug)]
struct Fetched {
    used_ns: u64,
    asked_ns: Option<u64>,
    /// When the present answer came.
    fetched_ns: Option<u64>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Fetching {
    services: BTreeMap<Name, Fetched>,
}

impl Fetching {
    /// Somebody looks a service up. Says whether it is to be asked for now.
    pub fn look_up(&mut self, now: Now, name: Name) -> bool {
        let one = self.services.entry(name).or_insert(Fetched { used_ns: 0, asked_ns: None, fetched_ns: None, bytes: 0 });
        one.used_ns = now.ns;
        let is_over = |since: Option<u64>, ms: u64| since.is_none_or(|since| now.ns >= since + ms * 1_000_000);
        let is_due = is_over(one.fetched_ns, REFRESH_MS) && is_over(one.asked_ns, ASK_AGAIN_MS);
        if is_due {
            one.asked_ns = Some(now.ns);
        }
        is_due
    }

    /// An answer came. Says whether it was asked for.
    pub fn take(&mut self, now: Now, name: &Name, bytes: usize) -> bool {
        let Some(one) = self.services.get_mut(name) else { return false };
        (one.fetched_ns, one.bytes) = (Some(now.ns), bytes);
        true
    }

    /// Forgets what was not looked up for long and is to be had again, and what is too much; says which.
    pub fn drop_unused(&mut self, now: Now, is_heard: impl Fn(&Datacenter) -> bool) -> Vec<Name> {
        let is_unused = |name: &Name, one: &Fetched| now.ns > one.used_ns + UNUSED_MS * 1_000_000 && is_heard(&name.0);
        let mut dropped: Vec<Name> =
            self.services.iter().filter(|(name, one)| is_unused(name, one)).map(|(name, _)| name.clone()).collect();
        self.services.retain(|name, one| !is_unused(name, one));
        let bytes = |services: &BTreeMap<Name, Fetched>| services.values().map(|one| one.bytes).sum::<usize>();
        while self.services.len() > ANSWERS_MAX || bytes(&self.services) > ANSWERS_BYTES_MAX {
            let oldest = self.services.iter().min_by_key(|(_, one)| one.used_ns).map(|(name, _)| name.clone());
            let Some(name) = oldest else { break };
            self.services.remove(&name);
            dropped.push(name);
        }
        dropped
    }

    pub fn holds(&self, name: &Name) -> bool {
        self.services.contains_key(name)
    }
}

/// A service as the frames that tell it; none where it is too large. One that is not there is told as empty.
pub fn frames(key: &ServiceKey, service: Option<&Service>) -> Option<Vec<Frame>> {
    let told = service.map(Service::told).unwrap_or_default();
    if told.iter().map(Told::bytes).sum::<usize>() > ANSWER_BYTES_MAX {
        return None;
    }
    let mut pieces: Vec<Vec<Told<'_>>> = vec![Vec::new()];
    let mut bytes = 0;
    for one in told {
        if bytes > 0 && bytes + one.bytes() > FRAME_BYTES {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += one.bytes();
        pieces.last_mut().expect("there is always one").push(one);
    }
    let last = pieces.len() - 1;
    let frame = |(at, piece): (usize, &Vec<Told<'_>>)| {
        let (namespace, service) = (key.namespace.clone(), key.service.clone());
        Frame::Link(LinkFrame::Fetched { namespace, service, is_end: at == last, packed: pack(piece) })
    };
    Some(pieces.iter().enumerate().map(frame).collect())
}

/// An answer on its way in: its parts, each under its id.
#[derive(Debug)]
pub struct Arriving {
    service: ServiceKey,
    parts: Vec<(String, Content)>,
    bytes: usize,
}

/// All of an answer.
#[derive(Debug)]
pub struct Arrived {
    pub parts: Vec<(String, Content)>,
    pub bytes: usize,
}

impl Arriving {
    /// The next frame of it, or the first of another; the answer, when that was the last.
    ///
    /// # Errors
    /// The bytes are no parts of an answer, or too many.
    pub fn take(before: &mut Option<Self>, service: &ServiceKey, is_end: bool, packed: &[u8]) -> Result<Option<Arrived>, &'static str> {
        let former = before.take().filter(|former| former.service == *service);
        let mut arriving = former.unwrap_or_else(|| Self { service: service.clone(), parts: Vec::new(), bytes: 0 });
        let unpacked = compress::unpack(packed).map_err(|_| "link_answer")?;
        arriving.bytes += unpacked.len();
        if arriving.bytes > 2 * ANSWER_BYTES_MAX {
            return Err("link_answer_size");
        }
        let told: Vec<Told<'_>> = postcard::from_bytes(&unpacked).map_err(|_| "link_answer")?;
        for one in told {
            let id = one.id();
            let content = Content::encode(&crate::model::answer::answer_key(service, &id), &one);
            arriving.parts.push((id, content));
        }
        if is_end {
            return Ok(Some(Arrived { parts: arriving.parts, bytes: arriving.bytes }));
        }
        *before = Some(arriving);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{Namespace, ServiceName};

    const SECOND_NS: u64 = 1_000_000_000;

    fn name(at: usize) -> Name {
        let service = ServiceName::new(&format!("s{at}")).unwrap();
        (Datacenter::new("east").unwrap(), ServiceKey { namespace: Namespace::default(), service })
    }

    fn at(seconds: u64) -> Now {
        Now { ns: seconds * SECOND_NS, wall_ms: 0 }
    }

    #[test]
    fn a_service_is_asked_for_once_until_an_answer_is_overdue_or_old() {
        let mut fetching = Fetching::default();
        assert!(fetching.look_up(at(0), name(1)));
        assert!(!fetching.look_up(at(1), name(1)), "it is on its way");
        assert!(fetching.look_up(at(2), name(1)), "nothing came");
        assert!(fetching.take(at(3), &name(1), 10));
        assert!(!fetching.look_up(at(12), name(1)), "it is new enough");
        assert!(fetching.look_up(at(13), name(1)));
        assert!(!fetching.take(at(14), &name(2), 10), "nobody asked for that");
    }

    #[test]
    fn what_nobody_looks_up_is_dropped_unless_it_could_not_be_had_again() {
        let mut fetching = Fetching::default();
        fetching.look_up(at(0), name(1));
        assert_eq!(fetching.drop_unused(at(300), |_| true), []);
        assert_eq!(fetching.drop_unused(at(301), |_| false), []);
        assert_eq!(fetching.drop_unused(at(301), |_| true), [name(1)]);
        assert!(!fetching.holds(&name(1)));
    }

    #[test]
    fn too_many_answers_or_bytes_push_out_what_was_looked_up_longest_ago() {
        let mut fetching = Fetching::default();
        for one in 0..ANSWERS_MAX + 2 {
            fetching.look_up(at(one as u64), name(one));
        }
        assert_eq!(fetching.drop_unused(at(258), |_| true), [name(0), name(1)]);
        fetching.take(at(258), &name(2), ANSWERS_BYTES_MAX);
        fetching.take(at(258), &name(3), 1);
        assert_eq!(fetching.drop_unused(at(258), |_| true), [name(2)]);
    }

    #[test]
    fn an_answer_that_is_no_answer_or_never_ends_is_refused() {
        let mut arriving = None;
        let (_, key) = name(1);
        assert_eq!(Arriving::take(&mut arriving, &key, true, &[255; 9]).unwrap_err(), "link_answer");
        let told = |id: u128| {
            let content = Content::from_bytes(&vec![7; 60_000]);
            Told::Instance(crate::model::answer::ToldInstance {
                uid: crate::model::record::Uid(id),
                node: crate::model::names::NodeId(1),
                version: 1,
                word: None,
                content,
            })
        };
        let ends = (0..100).find_map(|id| Arriving::take(&mut arriving, &key, false, &pack(&vec![told(id)])).err());
        assert_eq!(ends, Some("link_answer_size"));
    }
}
