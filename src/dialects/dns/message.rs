//! Messages, read and written by hickory-proto: what is taken from a query, and what stands around the records of an answer.
//!
//! A query is read in its parts, header, question and records, so that one that breaks off late is refused with its own question. The
//! question's bytes go into the answer as they came: that keeps its case, and pointers to its name stay right.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder, DecodeError, NameEncoding};
use std::net::IpAddr;

pub const HEADER_BYTES: usize = 12;
/// The OPT record of an answer: no name, no options.
const OPT_BYTES: usize = 11;
/// The front of an option of OPT: code and length.
const OPTION_HEAD_BYTES: usize = 4;
/// Records behind the question of a query: one OPT is usual, a signature possible.
const QUERY_RECORDS_MAX: usize = 16;
/// What an answer without EDNS may have over UDP.
pub const PLAIN_UDP_BYTES_MAX: usize = 512;
/// What an answer over UDP has at most, whatever the client advertises: more gains little and would be worth forging a sender for.
pub const UDP_BYTES_MAX: usize = 4_096;
pub const TCP_BYTES_MAX: usize = 65_535;

/// Where messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What a query says beside its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    metadata: Metadata,
    edns: Option<Edns>,
}

/// A query of the usual form: one question of the Internet's class.
#[derive(Debug)]
pub struct Query<'m> {
    pub head: Head,
    /// Name, kind and class, as they were asked.
    pub question: &'m [u8],
    pub name: Name,
    pub kind: RecordType,
}

/// Why there is no question to think about.
#[derive(Debug, PartialEq, Eq)]
pub enum Unasked<'m> {
    /// Not answered at all: whatever is sent back could be sent back again.
    Ignored(Ignored),
    /// Answered with this; the question is empty where none could be read.
    Refused { head: Head, question: &'m [u8], rcode: ResponseCode },
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
        let mut decoder = BinDecoder::new(message);
        let Ok(Header { metadata, counts }) = Header::read(&mut decoder) else { return Err(Unasked::Ignored(Ignored::Short)) };
        if metadata.message_type == MessageType::Response {
            return Err(Unasked::Ignored(Ignored::Response));
        }
        let mut head = Head { metadata, edns: None };
        let refuse = |head, question, rcode| Err(Unasked::Refused { head, question, rcode });
        if metadata.op_code != OpCode::Query {
            return refuse(head, &[], ResponseCode::NotImp);
        }
        let records = [counts.answers, counts.authorities, counts.additionals].map(usize::from).iter().sum::<usize>();
        if counts.queries != 1 || records > QUERY_RECORDS_MAX {
            return refuse(head, &[], ResponseCode::FormErr);
        }
        let Some((asked, question)) = read_question(message, &mut decoder) else { return refuse(head, &[], ResponseCode::FormErr) };
        match read_edns(&mut decoder, counts) {
            Ok(edns) => head.edns = edns,
            Err(_) => return refuse(head, question, ResponseCode::FormErr),
        }
        if head.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return refuse(head, question, ResponseCode::BADVERS);
        }
        match (asked.query_class, asked.query_type) {
            (DNSClass::IN | DNSClass::ANY, RecordType::AXFR | RecordType::IXFR) => refuse(head, question, ResponseCode::NotImp),
            (DNSClass::IN | DNSClass::ANY, kind) => Ok(Query { head, question, name: asked.name, kind }),
            _ => refuse(head, question, ResponseCode::Refused),
        }
    }

    pub fn wants_recursion(&self) -> bool {
        self.head.metadata.recursion_desired
    }

    /// The bytes of the name that is asked for: labels behind their lengths, the last one empty.
    pub fn name_bytes(&self) -> &'m [u8] {
        &self.question[..self.question.len() - 4]
    }

    /// How long the answer may be.
    pub fn bytes_max(&self, transport: Transport) -> usize {
        match (transport, &self.head.edns) {
            (Transport::Tcp, _) => TCP_BYTES_MAX,
            (Transport::Udp, None) => PLAIN_UDP_BYTES_MAX,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(PLAIN_UDP_BYTES_MAX, UDP_BYTES_MAX),
        }
    }
}

/// A question's name may point nowhere: nothing but the header stands before it, and that is another one in the answer.
fn read_question<'m>(message: &'m [u8], decoder: &mut BinDecoder<'m>) -> Option<(Question, &'m [u8])> {
    let asked = Question::read(decoder).ok()?;
    let bytes = message.get(HEADER_BYTES..decoder.index())?;
    let name_bytes: usize = 1 + asked.name.iter().map(|label| 1 + label.len()).sum::<usize>();
    (bytes.len() == name_bytes + 4).then_some((asked, bytes))
}

fn read_edns(decoder: &mut BinDecoder<'_>, counts: HeaderCounts) -> Result<Option<Edns>, DecodeError> {
    for count in [counts.answers, counts.authorities] {
        Message::read_records(decoder, usize::from(count), false, OpCode::Query)?;
    }
    Message::read_records(decoder, usize::from(counts.additionals), true, OpCode::Query).map(|(_, edns, _)| edns)
}

impl Head {
    fn subnet(&self) -> Option<ClientSubnet> {
        match self.edns.as_ref()?.option(EdnsCode::Subnet)? {
            EdnsOption::Subnet(subnet) => Some(*subnet),
            _ => None,
        }
    }

    /// What the answer's OPT record will take.
    pub fn opt_bytes(&self) -> usize {
        let subnet = self.subnet().map_or(0, |subnet| OPTION_HEAD_BYTES + usize::from(subnet.len()));
        if self.edns.is_some() { OPT_BYTES + subnet } else { 0 }
    }

    /// The answer's OPT record: what is taken here; and the client's network again (RFC 7871 §7.2.1), for whom the answer is as for all.
    fn opt(&self, rcode: ResponseCode) -> Option<Edns> {
        let asked = self.edns.as_ref()?;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX as u16).set_dnssec_ok(asked.flags().dnssec_ok).set_rcode_high(rcode.high());
        if let Some(mut subnet) = self.subnet() {
            subnet.set_scope_prefix(0);
            edns.options_mut().insert(EdnsOption::Subnet(subnet));
        }
        Some(edns)
    }
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
    pub rcode: ResponseCode,
    pub is_authoritative: bool,
    pub is_truncated: bool,
    pub recursion_available: bool,
}

impl Verdict {
    pub fn new(rcode: ResponseCode) -> Self {
        Self { rcode, is_authoritative: false, is_truncated: false, recursion_available: false }
    }
}

/// Begins an answer: room for the header, then the question as it was asked, if there is one.
pub fn begin(out: &mut Vec<u8>, question: &[u8]) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    out.extend_from_slice(question);
}

/// Ends an answer: the OPT record where the query had one, and the header in front of all.
pub fn finish(out: &mut Vec<u8>, head: &Head, has_question: bool, verdict: Verdict, counts: Counts) {
    let opt = head.opt(verdict.rcode).map_or(Ok(0), |edns| append(out, &edns).map(|()| 1));
    let mut metadata = Metadata::response_from_request(&head.metadata);
    metadata.response_code = verdict.rcode;
    metadata.authoritative = verdict.is_authoritative;
    metadata.truncation = verdict.is_truncated;
    metadata.recursion_available = verdict.recursion_available;
    let counts = HeaderCounts {
        queries: u16::from(has_question),
        answers: counts.answers,
        authorities: counts.authority,
        additionals: counts.additional + opt.unwrap_or(0),
    };
    Header { metadata, counts }.emit(&mut BinEncoder::new(out)).expect("room for the header was made at the front");
}

fn append(out: &mut Vec<u8>, edns: &Edns) -> Result<(), ProtoError> {
    let end = out.len();
    let written = edns.emit(&mut BinEncoder::with_offset(out, end as u32));
    if written.is_err() {
        out.truncate(end);
    }
    written
}

/// An answer that holds nothing but its rcode.
pub fn refuse(out: &mut Vec<u8>, head: &Head, question: &[u8], rcode: ResponseCode) {
    begin(out, question);
    finish(out, head, !question.is_empty(), Verdict::new(rcode), Counts::default());
}

/// One record with all names in it written out, so that it can stand anywhere in a message; none where it is longer than a message.
pub fn encode(owner: &Name, ttl: u32, data: RData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    Record::from_rdata(owner.clone(), ttl, data).emit(&mut encoder).ok()?;
    Some(bytes)
}

/// A name by itself, written out.
pub fn encode_name(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    name.emit(&mut encoder).expect("a name that exists is short enough to be written");
    bytes
}

/// An address as a record's data.
pub fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// A query with one question, that wants recursion.
pub fn ask(id: u16, name: &Name, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(name.clone(), kind));
    message.to_vec().ok()
}

/// The header and the question of a message with one.
fn front(message: &[u8]) -> Option<(Metadata, Question)> {
    let mut decoder = BinDecoder::new(message);
    let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
    let question = Question::read(&mut decoder).ok()?;
    (counts.queries == 1).then_some((metadata, question))
}

/// Whether `answer` answers `query`: the same id and question, whatever its case. Anything else is a stray or forged.
pub fn answers(answer: &[u8], query: &[u8]) -> bool {
    let (Some((reply, replied)), Some((asked, question))) = (front(answer), front(query)) else { return false };
    reply.message_type == MessageType::Response && reply.id == asked.id && replied == question
}

/// What an answer that somebody else wrote says of itself; what is no answer failed.
pub fn rcode_of(answer: &[u8]) -> ResponseCode {
    Header::read(&mut BinDecoder::new(answer)).map_or(ResponseCode::ServFail, |header| header.metadata.response_code)
}

/// The addresses among an answer's records, at most so many, with the time each may be kept.
pub fn addresses(answer: &[u8], most: usize) -> Vec<(IpAddr, u32)> {
    let Ok(answer) = Message::from_vec(answer) else { return Vec::new() };
    let found = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some((ip.0.into(), record.ttl)),
        RData::AAAA(ip) => Some((ip.0.into(), record.ttl)),
        _ => None,
    });
    found.take(most).collect()
}

/// Puts further answers behind those of a finished one, as many as fit.
pub fn append_answers(out: &mut Vec<u8>, owner: &Name, found: &[(IpAddr, u32)], bytes_max: usize) {
    let Ok(mut answer) = Message::from_vec(out) else { return };
    answer.add_answers(found.iter().map(|(ip, ttl)| Record::from_rdata(owner.clone(), *ttl, address(*ip))));
    for _ in 0..found.len() {
        match answer.to_vec() {
            Ok(bytes) if bytes.len() <= bytes_max => {
                *out = bytes;
                return;
            }
            _ => answer.answers.pop(),
        };
    }
}

/// Stands for an answer of somebody else that is too long for whoever asked `query`: the question, and that there is more.
pub fn truncate(answer: &mut Vec<u8>, query: &Query<'_>) {
    let verdict = Verdict { is_truncated: true, recursion_available: true, ..Verdict::new(rcode_of(answer)) };
    begin(answer, query.question);
    finish(answer, &query.head, true, verdict, Counts::default());
}
