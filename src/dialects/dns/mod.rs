//! DNS: questions about services and nodes, answered from the view (reference: Consul's DNS interface; RFC 1035, 2308, 2782, 6891).
//!
//! ```text
//! message    queries and answers as hickory-proto reads and writes them
//! name       names out of texts
//! subject    what a name asks for
//! lookup     the records that answer it, out of one view
//! text       what is known of a node, as texts
//! folded     services by their names in lower case
//! prepared   records encoded once, shuffled and cut to size for each query
//! draws      lots for the order of answers
//! config     what decides on answers beside the catalog
//! ```
//!
//! No sockets, no clocks and no waiting here: bytes come in with the view of that moment, bytes go out. Sockets, and the recursors that names of
//! others are asked of, are `serve::dns`'.

pub mod config;
mod draws;
mod folded;
mod lookup;
pub mod message;
pub mod name;
mod prepared;
mod subject;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::agent::handle::Named;
use crate::view::{DatacenterView, View};
use config::Config;
use draws::Draws;
use folded::Folded;
pub use hickory_proto::op::ResponseCode;
pub use hickory_proto::rr::RecordType;
use lookup::{Basis, Lookup};
pub use message::{Ignored, Transport};
use message::{Query, Unasked};
pub use name::Name;
use prepared::Prepared;
use subject::{Meant, Subject};

/// What prepared answers of one worker hold in memory, at most; with more of them all are made anew.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Answers of one worker, at most.
const CACHE_ANSWERS_MAX: usize = 16_384;

/// Answers queries; each worker has its own.
pub struct Responder {
    config: Arc<Config>,
    folded: Folded,
    /// The same of other datacenters that were asked about and are known, by name.
    elsewhere: BTreeMap<String, Folded>,
    draws: Draws,
    /// By the question's name in lower case and its kind.
    cache: HashMap<Box<[u8]>, Cached>,
    cache_bytes: usize,
    key: Vec<u8>,
    looked_up: Option<Named>,
}

struct Cached {
    prepared: Prepared,
    basis: Basis,
    /// The newest view in which the basis was seen to hold.
    revision: u64,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is written.
    Answered(ResponseCode),
    /// There is none.
    Ignored(Ignored),
    /// Recursors are to be asked, with the same bytes.
    Forward,
    /// An answer is written that leads to a name of others, whose addresses of that kind belong behind it; `bytes_max` long at most.
    Chase { name: Name, kind: RecordType, bytes_max: usize },
}

impl Responder {
    /// `seed` decides on the order of answers, and nothing else.
    pub fn new(config: Arc<Config>, seed: u64) -> Self {
        Self {
            config,
            folded: Folded::default(),
            elsewhere: BTreeMap::new(),
            draws: Draws::new(seed),
            cache: HashMap::new(),
            cache_bytes: 0,
            key: Vec::new(),
            looked_up: None,
        }
    }

    /// Answers one message out of a view, into `out`.
    pub fn answer(&mut self, message: &[u8], view: &View, transport: Transport, out: &mut Vec<u8>) -> Outcome {
        self.looked_up = None;
        match Query::read(message) {
            Ok(query) => self.resolve(&query, view, transport, out),
            Err(Unasked::Ignored(why)) => Outcome::Ignored(why),
            Err(Unasked::Refused { head, question, rcode }) => {
                message::refuse(out, &head, question, rcode);
                Outcome::Answered(rcode)
            }
        }
    }

    /// Services of another datacenter that the last answer looked at, and that are known by their summaries: whoever asked uses them. Where
    /// their instances are not here the answer is a failure, and where they are it may be old: another may be had once they are fetched.
    pub fn take_looked_up(&mut self) -> Option<Named> {
        self.looked_up.take()
    }

    fn resolve(&mut self, query: &Query<'_>, view: &View, transport: Transport, out: &mut Vec<u8>) -> Outcome {
        self.folded.follow(view);
        self.key.clear();
        self.key.extend_from_slice(query.name_bytes());
        self.key.make_ascii_lowercase();
        self.key.extend_from_slice(&u16::from(query.kind).to_be_bytes());
        if let Some(cached) = self.cache.get_mut(self.key.as_slice()) {
            if cached.revision == view.revision || cached.basis.holds(view, &self.folded) {
                cached.revision = view.revision;
                cached.prepared.write(query, &self.config, transport, &mut self.draws, out);
                return Outcome::Answered(cached.prepared.rcode);
            }
            self.forget();
        }
        self.prepare(query, view, transport, out)
    }

    fn prepare(&mut self, query: &Query<'_>, view: &View, transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let config = Arc::clone(&self.config);
        let Meant { subject, domain, elsewhere } = subject::parse(&query.name, &config, view);
        let (Some(domain), false) = (domain.or(config.domains.first()), subject == Subject::Foreign) else {
            return self.foreign(query, out);
        };
        // Whose the domain is does not depend on where in it somebody looks.
        let elsewhere = elsewhere.filter(|_| !matches!(query.kind, RecordType::SOA | RecordType::NS));
        if elsewhere.is_some() {
            self.elsewhere.retain(|name, _| view.datacenter(name).is_some());
        }
        let mut lookup = match elsewhere {
            None => Lookup::new(view, &self.folded, &config, &mut self.draws),
            Some(known) => {
                let folded = self.elsewhere.entry(known.name.clone()).or_default();
                folded.follow(&known.view);
                Lookup { elsewhere: Some(known), ..Lookup::new(&known.view, folded, &config, &mut self.draws) }
            }
        };
        let mut prepared = lookup.answer(&subject, &query.name, query.kind, domain);
        let basis = lookup.basis;
        let services = lookup.summarized;
        let named = |known: &Arc<DatacenterView>| Named { datacenter: known.name.clone(), services };
        self.looked_up = elsewhere.map(named).filter(|named| !named.services.is_empty());
        if matches!(subject, Subject::Reverse(_)) && prepared.rcode == ResponseCode::NXDomain && self.may_forward(query) {
            return Outcome::Forward;
        }
        prepared.write(query, &config, transport, &mut self.draws, out);
        if let Some(name) = prepared.leads_to.take().filter(|_| query.wants_recursion()) {
            let kind = if query.kind == RecordType::AAAA { RecordType::AAAA } else { RecordType::A };
            return Outcome::Chase { name, kind, bytes_max: query.bytes_max(transport) };
        }
        let rcode = prepared.rcode;
        let is_frequent = matches!(query.kind, RecordType::A | RecordType::AAAA | RecordType::SRV | RecordType::ANY);
        // What is kept is checked against the own view alone.
        if elsewhere.is_none()
            && is_frequent
            && rcode == ResponseCode::NoError
            && matches!(subject, Subject::Service(_))
            && !prepared.is_fixed()
        {
            self.keep(Cached { prepared, basis, revision: view.revision });
        }
        Outcome::Answered(rcode)
    }

    /// Names of others are nothing of ours: they are asked for elsewhere, or refused.
    fn foreign(&self, query: &Query<'_>, out: &mut Vec<u8>) -> Outcome {
        if self.may_forward(query) {
            return Outcome::Forward;
        }
        message::refuse(out, &query.head, query.question, ResponseCode::Refused);
        Outcome::Answered(ResponseCode::Refused)
    }

    fn may_forward(&self, query: &Query<'_>) -> bool {
        self.config.recurses && query.wants_recursion()
    }

    /// Keeps an answer under the key that was looked up last.
    fn keep(&mut self, cached: Cached) {
        let size = cached.prepared.size() + self.key.len();
        if self.cache_bytes + size > CACHE_BYTES_MAX || self.cache.len() >= CACHE_ANSWERS_MAX {
            self.cache.clear();
            self.cache_bytes = 0;
        }
        self.cache_bytes += size;
        self.cache.insert(self.key.as_slice().into(), cached);
    }

    /// Takes out what was found under the key that was looked up last.
    fn forget(&mut self) {
        if let Some(old) = self.cache.remove(self.key.as_slice()) {
            self.cache_bytes = self.cache_bytes.saturating_sub(old.prepared.size() + self.key.len());
        }
    }
}

/// Answers a query with an rcode alone: where nobody could be asked.
pub fn fail(message: &[u8], rcode: ResponseCode, out: &mut Vec<u8>) {
    if let Ok(query) = Query::read(message) {
        message::refuse(out, &query.head, query.question, rcode);
    }
}

/// What recursors answered to a message, as whoever sent it can take it.
pub fn relay(message: &[u8], transport: Transport, found: &mut Vec<u8>) {
    match Query::read(message) {
        Ok(query) if found.len() > query.bytes_max(transport) => message::truncate(found, &query),
        _ => {}
    }
}
