//! DNS messages as bytes (RFC 1035 §4, RFC 6891): what is read of a question, and the few pieces every answer is made of.
//!
//! An answer here is prepared records copied behind the question's own bytes. A general message library would parse the question into
//! names and records of its own and encode the answer from such again for each query, which costs several times what the rest of the
//! work does; tests decode all that is written here with hickory-proto, which is nobody of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const HEADER_BYTES: usize = 12;
/// The OPT record of an answer: no name, no options.
pub const OPT_BYTES: usize = 11;
/// A name with the lengths of its labels (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// Records behind the question of a query: one OPT is usual, a signature possible.
const QUERY_RECORDS_MAX: usize = 16;
/// What an answer without EDNS may have over UDP.
pub const PLAIN_UDP_BYTES_MAX: usize = 512;
/// What an answer over UDP has at most, whatever the client advertises: more gains little and would be worth forging a sender for.
pub const UDP_BYTES_MAX: usize = 4_096;
pub const TCP_BYTES_MAX: usize = 65_535;
/// The question's name, which every answer has at this place.
pub const QUESTION_NAME: [u8; 2] = [0xc0, HEADER_BYTES as u8];
/// Pointers reach so far into a message.
pub const POINTER_MAX: usize = 0x3fff;

/// The number of a kind of record.
pub type Kind = u16;
pub mod kind {
    use super::Kind;
    pub const A: Kind = 1;
    pub const NS: Kind = 2;
    pub const CNAME: Kind = 5;
    pub const SOA: Kind = 6;
    pub const PTR: Kind = 12;
    pub const TXT: Kind = 16;
    pub const AAAA: Kind = 28;
    pub const SRV: Kind = 33;
    pub const OPT: Kind = 41;
    pub const IXFR: Kind = 251;
    pub const AXFR: Kind = 252;
    pub const ANY: Kind = 255;
}

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    /// An EDNS version that is not known here (RFC 6891 §6.1.3).
    BadVers,
}

impl Rcode {
    pub const ALL: [Rcode; 7] =
        [Rcode::NoError, Rcode::FormErr, Rcode::ServFail, Rcode::NxDomain, Rcode::NotImp, Rcode::Refused, Rcode::BadVers];

    pub fn as_str(self) -> &'static str {
        match self {
            Rcode::NoError => "noerror",
            Rcode::FormErr => "formerr",
            Rcode::ServFail => "servfail",
            Rcode::NxDomain => "nxdomain",
            Rcode::NotImp => "notimp",
            Rcode::Refused => "refused",
            Rcode::BadVers => "badvers",
        }
    }

    fn number(self) -> u16 {
        match self {
            Rcode::NoError => 0,
            Rcode::FormErr => 1,
            Rcode::ServFail => 2,
            Rcode::NxDomain => 3,
            Rcode::NotImp => 4,
            Rcode::Refused => 5,
            Rcode::BadVers => 16,
        }
    }

    /// Of an answer that somebody else wrote; what has no name here failed.
    pub fn of(message: &[u8]) -> Rcode {
        let number = message.get(3).map(|byte| u16::from(byte & 0x0f));
        Rcode::ALL.into_iter().find(|rcode| Some(rcode.number()) == number).unwrap_or(Rcode::ServFail)
    }
}

/// What a query says beside its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub id: u16,
    opcode: u8,
    pub recursion_desired: bool,
    pub edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// What the client can take over UDP.
    pub udp_bytes: u16,
    version: u8,
}

/// A query of the usual form: one question of the Internet's class.
#[derive(Debug, Clone, Copy)]
pub struct Query<'m> {
    pub head: Head,
    /// Name, kind and class, as they were asked.
    pub question: &'m [u8],
    /// The name alone: labels behind their lengths, the last one empty.
    pub name: &'m [u8],
    pub kind: Kind,
}

/// Why there is no question to think about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked<'m> {
    /// Not answered at all: whatever is sent back could be sent back again.
    Ignored(Ignored),
    /// Answered with this; the question is empty where none could be read.
    Refused { head: Head, question: &'m [u8], rcode: Rcode },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Not even a header.
    Short,
    /// An answer.
    Response,
}

impl<'m> Query<'m> {
    /// Reads a message; every byte of it is a stranger's.
    ///
    /// # Errors
    /// Says what to do with a message that asks nothing that could be answered.
    pub fn read(message: &'m [u8]) -> Result<Self, Unasked<'m>> {
        let Some(header) = message.get(..HEADER_BYTES) else { return Err(Unasked::Ignored(Ignored::Short)) };
        if header[2] & 0x80 != 0 {
            return Err(Unasked::Ignored(Ignored::Response));
        }
        let opcode = header[2] >> 3 & 0x0f;
        let mut head = Head { id: be16(header, 0), opcode, recursion_desired: header[2] & 0x01 != 0, edns: None };
        let refuse = |head, question, rcode| Err(Unasked::Refused { head, question, rcode });
        if opcode != 0 {
            return refuse(head, &[], Rcode::NotImp);
        }
        let records = [6, 8, 10].map(|at| usize::from(be16(header, at))).iter().sum::<usize>();
        if be16(header, 4) != 1 || records > QUERY_RECORDS_MAX {
            return refuse(head, &[], Rcode::FormErr);
        }
        let mut reader = Reader { message, at: HEADER_BYTES };
        let Some((name, kind, class)) = reader.question() else { return refuse(head, &[], Rcode::FormErr) };
        let question = &message[HEADER_BYTES..reader.at];
        for _ in 0..records {
            let Some(record) = reader.record() else { return refuse(head, question, Rcode::FormErr) };
            if record.kind != kind::OPT {
                continue;
            }
            if head.edns.is_some() || !record.is_root {
                return refuse(head, question, Rcode::FormErr);
            }
            head.edns = Some(Edns { udp_bytes: record.class, version: (record.ttl >> 16) as u8 });
        }
        if head.edns.is_some_and(|edns| edns.version != 0) {
            return refuse(head, question, Rcode::BadVers);
        }
        match (class, kind) {
            (CLASS_IN | CLASS_ANY, kind::AXFR | kind::IXFR) => refuse(head, question, Rcode::NotImp),
            (CLASS_IN | CLASS_ANY, _) => Ok(Query { head, question, name, kind }),
            _ => refuse(head, question, Rcode::Refused),
        }
    }
}

/// Reads what never was checked, from front to end.
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

/// One record of a message, and where its data stands.
struct Read<'m> {
    is_root: bool,
    kind: Kind,
    class: u16,
    ttl: u32,
    data: &'m [u8],
}

impl<'m> Reader<'m> {
    fn take(&mut self, bytes: usize) -> Option<&'m [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(bytes)?)?;
        self.at += bytes;
        Some(taken)
    }

    /// A question's name may point nowhere: nothing stands before it.
    fn question(&mut self) -> Option<(&'m [u8], Kind, u16)> {
        let start = self.at;
        loop {
            let length = usize::from(*self.take(1)?.first()?);
            if length > LABEL_BYTES_MAX || self.at + length - start > NAME_BYTES_MAX {
                return None;
            }
            self.take(length)?;
            if length == 0 {
                break;
            }
        }
        let name = &self.message[start..self.at];
        let fixed = self.take(4)?;
        Some((name, be16(fixed, 0), be16(fixed, 2)))
    }

    /// Skips a name, pointers included; says whether it was the root's.
    fn name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => return Some(self.at == start + 1),
                0xc0.. => {
                    self.take(1)?;
                    return Some(false);
                }
                length if usize::from(length) <= LABEL_BYTES_MAX => {
                    self.take(usize::from(length))?;
                }
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Read<'m>> {
        let is_root = self.name()?;
        let fixed = self.take(10)?;
        let ttl = u32::from(be16(fixed, 4)) << 16 | u32::from(be16(fixed, 6));
        let data = self.take(usize::from(be16(fixed, 8)))?;
        Some(Read { is_root, kind: be16(fixed, 0), class: be16(fixed, 2), ttl, data })
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// How many records stand in which part of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub answers: u16,
    pub authority: u16,
    pub additional: u16,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub rcode: Rcode,
    pub is_authoritative: bool,
    pub is_truncated: bool,
    pub recursion_available: bool,
}

impl Verdict {
    pub fn new(rcode: Rcode) -> Self {
        Self { rcode, is_authoritative: false, is_truncated: false, recursion_available: false }
    }
}

/// Begins an answer: room for the header, then the question as it was asked, if there is one.
pub fn begin(out: &mut Vec<u8>, question: &[u8]) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    out[5] = u8::from(!question.is_empty());
    out.extend_from_slice(question);
}

/// Ends an answer: the OPT record where the query had one, and the header in front of all.
pub fn finish(out: &mut Vec<u8>, head: &Head, verdict: Verdict, mut counts: Counts) {
    let rcode = verdict.rcode.number();
    if head.edns.is_some() {
        counts.additional += 1;
        let [high, low] = (UDP_BYTES_MAX as u16).to_be_bytes();
        out.extend_from_slice(&[0, 0, kind::OPT as u8, high, low, (rcode >> 4) as u8, 0, 0, 0, 0, 0]);
    }
    out[0..2].copy_from_slice(&head.id.to_be_bytes());
    let bit = |is_set: bool, at: u8| u8::from(is_set) << at;
    out[2] = 0x80 | head.opcode << 3 | bit(verdict.is_authoritative, 2) | bit(verdict.is_truncated, 1) | bit(head.recursion_desired, 0);
    out[3] = bit(verdict.recursion_available, 7) | (rcode & 0x0f) as u8;
    for (at, count) in [(6, counts.answers), (8, counts.authority), (10, counts.additional)] {
        out[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// An answer that holds nothing but its rcode.
pub fn refuse(out: &mut Vec<u8>, head: &Head, question: &[u8], rcode: Rcode) {
    begin(out, question);
    finish(out, head, Verdict::new(rcode), Counts::default());
}

/// Appends a record; `data` holds no pointers.
pub fn put_record(out: &mut Vec<u8>, owner: &[u8], kind: Kind, ttl: u32, data: &[u8]) {
    out.extend_from_slice(owner);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(data);
}

/// An address as a record's kind and data.
pub fn address(ip: IpAddr) -> (Kind, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (kind::A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (kind::AAAA, ip.octets().to_vec()),
    }
}

/// A query with one question, that wants recursion.
pub fn ask(id: u16, name: &[u8], kind: Kind) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 4);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(name);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// Whether `answer` answers `query`: the same id and question, whatever its case. Anything else is a stray or forged.
pub fn answers(answer: &[u8], query: &[u8]) -> bool {
    let Ok(asked) = Query::read(query) else { return false };
    let end = HEADER_BYTES + asked.question.len();
    let (Some(answer), Some(query)) = (answer.get(..end), query.get(..end)) else { return false };
    answer[2] & 0x80 != 0
        && answer[..2] == query[..2]
        && be16(answer, 4) == 1
        && answer[HEADER_BYTES..].eq_ignore_ascii_case(&query[HEADER_BYTES..])
}

/// The addresses among an answer's records, at most so many, with the time each may be kept.
pub fn addresses(answer: &[u8], most: usize) -> Vec<(IpAddr, u32)> {
    let mut found = Vec::new();
    let mut reader = Reader { message: answer, at: HEADER_BYTES };
    if answer.len() < HEADER_BYTES || be16(answer, 4) != 1 || reader.question().is_none() {
        return found;
    }
    for _ in 0..be16(answer, 6) {
        let Some(record) = reader.record() else { break };
        let ip = match (record.kind, record.data) {
            (kind::A, data) => <[u8; 4]>::try_from(data).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            (kind::AAAA, data) => <[u8; 16]>::try_from(data).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => None,
        };
        found.extend(ip.map(|ip| (ip, record.ttl)));
        if found.len() == most {
            break;
        }
    }
    found
}

/// Puts further answers behind those of a finished answer that has nothing else but, perhaps, an OPT record.
pub fn append_answers(out: &mut Vec<u8>, has_opt: bool, owner: &[u8], found: &[(IpAddr, u32)], bytes_max: usize) {
    let opt = out.split_off(out.len() - if has_opt { OPT_BYTES } else { 0 });
    let mut count = be16(out, 6);
    for (ip, ttl) in found {
        let (kind, data) = address(*ip);
        if out.len() + owner.len() + 10 + data.len() + opt.len() > bytes_max {
            break;
        }
        put_record(out, owner, kind, *ttl, &data);
        count += 1;
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&opt);
}

/// Shortens an answer that is too long for its client to the question, and says so.
pub fn truncate(answer: &mut Vec<u8>) {
    let mut reader = Reader { message: answer, at: HEADER_BYTES };
    let end = if reader.question().is_some() { reader.at } else { HEADER_BYTES };
    if answer.len() < HEADER_BYTES {
        return;
    }
    answer.truncate(end);
    answer[2] |= 0x02;
    answer[5] = u8::from(end > HEADER_BYTES);
    answer[6..HEADER_BYTES].fill(0);
}
