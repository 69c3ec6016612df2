//! Records encoded once and handed out many times: what is chosen for each query is their order and how many of them fit.
//!
//! Encoding an answer of ten records anew for each query costs several times what all the rest of a query does. So hickory-proto
//! encodes each record when it is prepared, with all names written out, and what is left to do for a query is to copy them behind its
//! question. Only owners are put in then: a name that already stands in the answer becomes a pointer to it (RFC 1035 §4.1.4).
//!
//! ```text
//! row     one record as it stands among the answers; what it names may have records in the additional part
//! group   those of one name: its addresses, or the texts of a node. However many rows lead to a name, an answer has them once
//! fixed   the first rows keep their places: a CNAME stands before what it leads to
//! ```

use super::config::Config;
use super::draws::Draws;
use super::message::{self, Counts, HEADER_BYTES, Query, Transport, Verdict};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};
use std::ops::Range;

/// Records of one answer over TCP: more make no client happier.
const TCP_RECORDS_MAX: usize = 4_096;
/// Pointers reach so far into a message.
const POINTER_MAX: usize = 0x3fff;
/// Groups of one row: the addresses of what it names, the texts of its node.
const GROUPS_A_ROW: usize = 2;

/// All that may be answered to one question, as long as the catalog says the same.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub rcode: ResponseCode,
    /// All records, one behind the other.
    bytes: Vec<u8>,
    rows: Vec<Row>,
    groups: Vec<Group>,
    fixed: usize,
    /// A permutation of the rows that are not fixed. Shuffling goes on from the last one: from wherever it starts, it ends anywhere.
    order: Vec<u32>,
    /// Chances differ from row to row.
    is_weighted: bool,
    is_addresses: bool,
    /// The name a CNAME leads out of our domains to.
    pub leads_to: Option<Name>,
    /// The start of authority, where there is no answer.
    authority: Range<usize>,
    /// Groups that rows of the answer being written have asked for, and where their owner stands in it.
    wanted: Vec<(u32, Option<usize>)>,
}

#[derive(Debug, Clone)]
struct Row {
    record: Range<usize>,
    /// From the record's start to the name that it leads to.
    target_at: usize,
    /// Chance of standing first; never zero.
    weight: u32,
    groups: [Option<(u32, Anchor)>; GROUPS_A_ROW],
}

/// Additional records of one owner, each without it.
#[derive(Debug, Clone)]
struct Group {
    owner: Range<usize>,
    records: Vec<Range<usize>>,
}

/// Where an answer already has the owner of a group.
#[derive(Debug, Clone, Copy)]
enum Anchor {
    /// In the question.
    Question,
    /// At the end of the row that asks for the group.
    Target,
    Nowhere,
}

/// A group that rows can ask for.
#[derive(Debug, Clone, Copy)]
pub struct GroupId(u32);

impl Prepared {
    pub fn new(rcode: ResponseCode) -> Self {
        Self {
            rcode,
            bytes: Vec::new(),
            rows: Vec::new(),
            groups: Vec::new(),
            fixed: 0,
            order: Vec::new(),
            is_weighted: false,
            is_addresses: true,
            leads_to: None,
            authority: 0..0,
            wanted: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether what stands in front was drawn by lot when it was made.
    pub fn is_fixed(&self) -> bool {
        self.fixed > 0
    }

    /// What it holds in memory, about.
    pub fn size(&self) -> usize {
        let records: usize = self.groups.iter().map(|group| group.records.len()).sum();
        let rows = self.rows.len() * (size_of::<Row>() + size_of::<u32>());
        size_of::<Self>() + self.bytes.len() + rows + self.groups.len() * size_of::<Group>() + records * size_of::<Range<usize>>()
    }

    /// A record of the name that was asked for.
    pub fn push(&mut self, ttl: u32, data: RData, weight: u32) {
        let pointer = pointer(HEADER_BYTES);
        self.push_row(&pointer, ttl, data, weight);
    }

    /// A record of another name.
    pub fn push_owned(&mut self, owner: &Name, ttl: u32, data: RData, weight: u32) {
        self.push_row(&message::encode_name(owner), ttl, data, weight);
    }

    fn push_row(&mut self, owner: &[u8], ttl: u32, data: RData, weight: u32) {
        let target_bytes = match &data {
            RData::SRV(srv) => message::encode_name(&srv.target).len(),
            RData::NS(ns) => message::encode_name(&ns.0).len(),
            _ => 0,
        };
        let is_address = matches!(data.record_type(), RecordType::A | RecordType::AAAA | RecordType::CNAME);
        let start = self.bytes.len();
        let Some(record) = self.store(owner, ttl, data) else { return };
        self.is_addresses &= is_address;
        let target_at = record.end - start - target_bytes;
        self.rows.push(Row { record, target_at, weight: weight.max(1), groups: [None; GROUPS_A_ROW] });
    }

    /// Appends a record behind an owner; none where no message could hold it.
    fn store(&mut self, owner: &[u8], ttl: u32, data: RData) -> Option<Range<usize>> {
        let encoded = message::encode(&Name::root(), ttl, data)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(owner);
        // The root's name is a single byte.
        self.bytes.extend_from_slice(&encoded[1..]);
        Some(start..self.bytes.len())
    }

    /// Additional records of one name, for rows to ask for.
    pub fn group(&mut self, owner: &Name, ttl: u32, records: impl IntoIterator<Item = RData>) -> GroupId {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&message::encode_name(owner));
        let owner = start..self.bytes.len();
        let records = records.into_iter().filter_map(|data| self.store(&[], ttl, data)).collect();
        self.groups.push(Group { owner, records });
        GroupId(self.groups.len() as u32 - 1)
    }

    /// The row that was pushed last asks for a group of the name that it leads to.
    pub fn want_of_target(&mut self, group: GroupId) {
        self.want(group, Anchor::Target);
    }

    /// The same, of the name that was asked for.
    pub fn want_of_question(&mut self, group: GroupId) {
        self.want(group, Anchor::Question);
    }

    /// The same, of a name that the answer has not yet.
    pub fn want_of_other(&mut self, group: GroupId) {
        self.want(group, Anchor::Nowhere);
    }

    fn want(&mut self, GroupId(group): GroupId, anchor: Anchor) {
        if let Some(free) = self.rows.last_mut().and_then(|row| row.groups.iter_mut().find(|place| place.is_none())) {
            *free = Some((group, anchor));
        }
    }

    /// What was pushed so far keeps its place at the front.
    pub fn fix(&mut self) {
        self.fixed = self.rows.len();
    }

    /// Says who is in charge of the domain, as an answer without records must (RFC 2308).
    pub fn set_authority(&mut self, domain: &Name, data: RData) {
        self.authority = self.store(&message::encode_name(domain), 0, data).unwrap_or(0..0);
    }

    /// Ready to be handed out.
    pub fn seal(mut self) -> Self {
        let loose = &self.rows[self.fixed..];
        self.is_weighted = loose.windows(2).any(|pair| pair[0].weight != pair[1].weight);
        self.order = (self.fixed as u32..self.rows.len() as u32).collect();
        self
    }

    /// Writes the answer to a query.
    pub fn write(&mut self, query: &Query<'_>, config: &Config, transport: Transport, draws: &mut Draws, out: &mut Vec<u8>) {
        message::begin(out, query.question);
        let room = query.bytes_max(transport) - query.head.opt_bytes();
        let all = self.fixed + self.order.len();
        let most = self.records_max(config, transport).min(all);
        let is_unwanted = most < all && (transport == Transport::Tcp || self.is_limited_on_purpose(config, most));
        if self.is_weighted {
            draws.sort_by_luck(&mut self.order, |at| self.rows[at as usize].weight);
        }
        let written = self.write_rows(most, room, draws, out);
        let is_cut = written < most || (most < all && !is_unwanted);
        let mut counts = Counts { answers: written as u16, additional: self.write_groups(room, out), authority: 0 };
        if written == 0 && !is_cut && !self.authority.is_empty() && out.len() + self.authority.len() <= room {
            out.extend_from_slice(&self.bytes[self.authority.clone()]);
            counts.authority = 1;
        }
        let is_truncated = is_cut && config.tells_truncation && transport == Transport::Udp;
        let verdict = Verdict { rcode: self.rcode, is_authoritative: true, is_truncated, recursion_available: config.recurses };
        message::finish(out, &query.head, true, verdict, counts);
    }

    /// Writes rows while they fit, and notes which groups they ask for.
    fn write_rows(&mut self, most: usize, room: usize, draws: &mut Draws, out: &mut Vec<u8>) -> usize {
        self.wanted.clear();
        for place in 0..most {
            let at = if place < self.fixed { place } else { self.next(place - self.fixed, draws) };
            let row = &self.rows[at];
            if out.len() + row.record.len() > room {
                return place;
            }
            for (group, anchor) in row.groups.iter().flatten() {
                let owner_at = match anchor {
                    Anchor::Question => Some(HEADER_BYTES),
                    Anchor::Target => Some(out.len() + row.target_at),
                    Anchor::Nowhere => None,
                };
                self.wanted.push((*group, owner_at.filter(|at| *at <= POINTER_MAX)));
            }
            out.extend_from_slice(&self.bytes[row.record.clone()]);
        }
        most
    }

    /// Additional records are left out silently where they do not fit: a client can ask for them.
    fn write_groups(&mut self, room: usize, out: &mut Vec<u8>) -> u16 {
        // Addresses first: they come first in `groups`, and save a client a question.
        self.wanted.sort_unstable_by_key(|(group, owner_at)| (*group, owner_at.is_none(), *owner_at));
        self.wanted.dedup_by_key(|(group, _)| *group);
        let mut count = 0;
        for &(group, owner_at) in &self.wanted {
            let Group { owner, records } = &self.groups[group as usize];
            let pointer = owner_at.map(pointer);
            let owner = pointer.as_ref().map_or(&self.bytes[owner.clone()], |pointer| &pointer[..]);
            for record in records {
                if out.len() + owner.len() + record.len() > room {
                    break;
                }
                out.extend_from_slice(owner);
                out.extend_from_slice(&self.bytes[record.clone()]);
                count += 1;
            }
        }
        count
    }

    fn records_max(&self, config: &Config, transport: Transport) -> usize {
        let limit = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        let addresses = if self.is_addresses { limit(config.addresses_max) } else { usize::MAX };
        match transport {
            Transport::Udp => addresses.min(limit(config.udp_answers_max)),
            Transport::Tcp => addresses.min(TCP_RECORDS_MAX),
        }
    }

    /// Fewer addresses than there are, because somebody wants it so, is no truncation.
    fn is_limited_on_purpose(&self, config: &Config, most: usize) -> bool {
        self.is_addresses && config.addresses_max == most
    }

    /// The row that comes `place`th behind the fixed ones.
    fn next(&mut self, place: usize, draws: &mut Draws) -> usize {
        if !self.is_weighted {
            let left = (self.order.len() - place) as u64;
            self.order.swap(place, place + draws.below(left) as usize);
        }
        self.order[place] as usize
    }
}

/// A name that stands at a place of the message, within the reach of pointers.
fn pointer(at: usize) -> [u8; 2] {
    [0xc0 | (at >> 8) as u8, at as u8]
}
