//! Records encoded once and handed out many times: what is chosen for each query is their order and how many of them fit.
//!
//! ```text
//! row     one record as it stands among the answers, and the addresses of what it names, which stand in the additional part
//! fixed   the first rows keep their places: a CNAME stands before what it leads to
//! ```

use super::config::Config;
use super::name::Name;
use super::wire::{self, Counts, Kind, OPT_BYTES, POINTER_MAX, QUESTION_NAME, Query, Rcode, Verdict, kind};
use crate::select::random;
use std::net::IpAddr;

/// Records of one answer over TCP: more make no client happier.
const TCP_RECORDS_MAX: usize = 4_096;
/// From the start of an SRV record whose owner is a pointer to the name it leads to.
const SRV_TARGET_AT: usize = 2 + 10 + 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// All that may be answered to one question, as long as the catalog says the same.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub rcode: Rcode,
    /// All rows, one behind the other.
    bytes: Vec<u8>,
    rows: Vec<Row>,
    fixed: usize,
    /// A permutation of the rows that are not fixed. Shuffling goes on from the last one: from wherever it starts, it ends anywhere.
    order: Vec<u32>,
    /// Chances differ from row to row.
    is_weighted: bool,
    is_addresses: bool,
    /// The name a CNAME leads out of our domains to.
    pub leads_to: Option<Name>,
    /// The start of authority, where there is no answer; it is written out whole.
    authority: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    start: u32,
    /// Where the answer ends and the rest of the additional records begins: kind, class, time, data; their owner is the target.
    glue: u32,
    end: u32,
    /// Chance of standing first; never zero.
    weight: u32,
}

impl Prepared {
    pub fn new(rcode: Rcode) -> Self {
        Self {
            rcode,
            bytes: Vec::new(),
            rows: Vec::new(),
            fixed: 0,
            order: Vec::new(),
            is_weighted: false,
            is_addresses: true,
            leads_to: None,
            authority: Vec::new(),
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
        size_of::<Self>() + self.bytes.len() + self.authority.len() + self.rows.len() * (size_of::<Row>() + size_of::<u32>())
    }

    /// A record of the name that was asked for.
    pub fn push(&mut self, kind: Kind, ttl: u32, data: &[u8], weight: u32) {
        self.push_owned(&QUESTION_NAME, kind, ttl, data, weight);
    }

    /// A record of another name, in full.
    pub fn push_owned(&mut self, owner: &[u8], kind: Kind, ttl: u32, data: &[u8], weight: u32) {
        let start = self.bytes.len() as u32;
        wire::put_record(&mut self.bytes, owner, kind, ttl, data);
        let end = self.bytes.len() as u32;
        self.is_addresses &= matches!(kind, kind::A | kind::AAAA | kind::CNAME);
        self.rows.push(Row { start, glue: end, end, weight: weight.max(1) });
    }

    /// A record that leads to `target`, and the address there.
    pub fn push_srv(&mut self, ttl: u32, [priority, weight, port]: [u16; 3], target: &Name, glue: Option<IpAddr>, chance: u32) {
        let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|number| number.to_be_bytes()).collect();
        // Written out: RFC 2782 forbids pointers here.
        data.extend_from_slice(target.as_bytes());
        self.push(kind::SRV, ttl, &data, chance);
        self.put_glue(ttl, glue);
    }

    /// A name server and its address.
    pub fn push_ns(&mut self, owner: &Name, ttl: u32, target: &Name, address: IpAddr) {
        self.push_owned(owner.as_bytes(), kind::NS, ttl, target.as_bytes(), 1);
        let (kind, data) = wire::address(address);
        wire::put_record(&mut self.bytes, target.as_bytes(), kind, ttl, &data);
        self.end_row();
    }

    fn put_glue(&mut self, ttl: u32, glue: Option<IpAddr>) {
        let Some(ip) = glue else { return };
        let (kind, data) = wire::address(ip);
        wire::put_record(&mut self.bytes, &[], kind, ttl, &data);
        self.end_row();
    }

    fn end_row(&mut self) {
        let end = self.bytes.len() as u32;
        if let Some(row) = self.rows.last_mut() {
            row.end = end;
        }
    }

    /// What was pushed so far keeps its place at the front.
    pub fn fix(&mut self) {
        self.fixed = self.rows.len();
    }

    /// Says who is in charge of the domain, as an answer without records must (RFC 2308).
    pub fn set_authority(&mut self, domain: &Name, data: &[u8]) {
        wire::put_record(&mut self.authority, domain.as_bytes(), kind::SOA, 0, data);
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
        wire::begin(out, query.question);
        let opt = if query.head.edns.is_some() { OPT_BYTES } else { 0 };
        let room = bytes_max(query, transport) - opt;
        let mut counts = Counts::default();
        let wanted = self.fixed + self.order.len();
        let most = self.records_max(config, transport).min(wanted);
        let mut is_cut = most < wanted && transport == Transport::Udp && !self.is_limited_on_purpose(config, most);
        // Offsets of the answers, for the additional records that point at them.
        let mut written = Vec::with_capacity(if self.has_glue() { most } else { 0 });
        if self.is_weighted {
            self.sort_by_luck(draws);
        }
        for place in 0..most {
            let at = if place < self.fixed { place } else { self.next(place - self.fixed, draws) };
            let row = self.rows[at];
            let answer = &self.bytes[row.start as usize..row.glue as usize];
            if out.len() + answer.len() > room {
                is_cut = true;
                break;
            }
            if row.glue < row.end {
                written.push((at, out.len()));
            }
            out.extend_from_slice(answer);
            counts.answers += 1;
        }
        for (at, answer_at) in written {
            let row = self.rows[at];
            counts.additional += u16::from(self.write_glue(row, answer_at, room, out));
        }
        if counts.answers == 0 && !is_cut && out.len() + self.authority.len() <= room && !self.authority.is_empty() {
            out.extend_from_slice(&self.authority);
            counts.authority = 1;
        }
        let is_truncated = is_cut && config.tells_truncation && transport == Transport::Udp;
        let verdict = Verdict { rcode: self.rcode, is_authoritative: true, is_truncated, recursion_available: config.recurses };
        wire::finish(out, &query.head, verdict, counts);
    }

    fn has_glue(&self) -> bool {
        self.rows.first().is_some_and(|row| row.glue < row.end) || !self.is_addresses
    }

    /// Additional records are left out silently where they do not fit: a client can ask for them.
    fn write_glue(&self, row: Row, answer_at: usize, room: usize, out: &mut Vec<u8>) -> bool {
        let glue = &self.bytes[row.glue as usize..row.end as usize];
        let answer = &self.bytes[row.start as usize..row.glue as usize];
        let is_srv = answer.starts_with(&QUESTION_NAME);
        let target = answer_at + SRV_TARGET_AT;
        let pointer = [0xc0 | (target >> 8) as u8, target as u8];
        let owner = match () {
            () if !is_srv => &[][..],
            () if target <= POINTER_MAX => &pointer[..],
            () => &answer[SRV_TARGET_AT..],
        };
        let fits = out.len() + owner.len() + glue.len() <= room;
        if fits {
            out.extend_from_slice(owner);
            out.extend_from_slice(glue);
        }
        fits
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

    /// Each row stands first in proportion to its weight, and so on among those that are left (Efraimidis and Spirakis 2006).
    fn sort_by_luck(&mut self, draws: &mut Draws) {
        let rows = &self.rows;
        let mut luck = |at: u32| draws.unit().ln() / f64::from(rows[at as usize].weight);
        let mut drawn: Vec<(f64, u32)> = self.order.iter().map(|&at| (luck(at), at)).collect();
        drawn.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        for (slot, (_, at)) in self.order.iter_mut().zip(drawn) {
            *slot = at;
        }
    }
}

/// How long the answer to a query may be.
pub fn bytes_max(query: &Query<'_>, transport: Transport) -> usize {
    match (transport, query.head.edns) {
        (Transport::Tcp, _) => wire::TCP_BYTES_MAX,
        (Transport::Udp, None) => wire::PLAIN_UDP_BYTES_MAX,
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_bytes).clamp(wire::PLAIN_UDP_BYTES_MAX, wire::UDP_BYTES_MAX),
    }
}

/// Random numbers from a seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(random::STEP);
        random::mix(self.0)
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Above zero, up to one.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
