//! Records: what an origin writes, how it is ordered, and what two agents compare.
//!
//! Order inside an origin is `seq`; between the lives of an origin, `epoch`; between origins that write one key, `claim`.
//! No clock decides anything here but ties that nobody else can break.

use super::names::NodeId;
use super::text::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

/// Orders the lives of an origin: each start takes a higher one.
pub type Epoch = u64;
/// Orders changes inside an origin; goes on across epochs.
pub type Seq = u64;
/// Decides between the writers of one datacenter-scoped key: hybrid time in milliseconds, max(own clock, highest seen for the key + 1).
pub type Claim = u64;

/// The highest epoch, seq or claim that is believed of others. They rise by ones or follow a clock in milliseconds, so that none ever
/// comes near, and there is room above for what is one more than the highest heard.
pub const NUMBER_MAX: u64 = 1 << 62;
/// The same of this agent's own epochs and seqs, as others remember them: what it numbers after that is still believed by all.
pub const OWN_NUMBER_MAX: u64 = NUMBER_MAX / 2;

/// Lives of an origin that are remembered: who holds an older one yet has been away for so many restarts.
const LIVES_MAX: usize = 16;

/// The lives that an origin's history is made of before the one it is in, and of each the seq up to which it is: what a restart found,
/// what was taken back from others. Whoever holds no more of a life than this loses nothing by taking the history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Epoch, Seq)>")]
pub struct Lineage(Vec<(Epoch, Seq)>);

impl Lineage {
    /// The history holds what was written in `epoch` up to `seq`.
    pub fn add(&mut self, epoch: Epoch, seq: Seq) {
        match self.0.binary_search_by_key(&epoch, |(life, _)| *life) {
            Ok(at) => self.0[at].1 = seq.max(self.0[at].1),
            Err(0) if self.0.len() == LIVES_MAX => {}
            Err(at) => {
                self.0.insert(at, (epoch, seq));
                if self.0.len() > LIVES_MAX {
                    self.0.remove(0);
                }
            }
        }
    }

    /// The history holds what another one does.
    pub fn merge(&mut self, other: &Lineage) {
        other.0.iter().for_each(|(epoch, seq)| self.add(*epoch, *seq));
    }

    /// Whether all that was written in `epoch` up to `seq` is part of the history. Of lives before the oldest that is remembered, it is.
    pub fn contains(&self, epoch: Epoch, seq: Seq) -> bool {
        match self.0.binary_search_by_key(&epoch, |(life, _)| *life) {
            Ok(at) => seq <= self.0[at].1,
            Err(0) => self.0.len() == LIVES_MAX,
            Err(_) => false,
        }
    }

    /// The latest of them, and how far it goes.
    pub fn last(&self) -> Option<(Epoch, Seq)> {
        self.0.last().copied()
    }

    /// The highest of its epochs and seqs.
    pub fn highest_number(&self) -> u64 {
        self.0.iter().map(|(epoch, seq)| (*epoch).max(*seq)).max().unwrap_or(0)
    }
}

/// In order and within bounds, whatever a peer says.
impl From<Vec<(Epoch, Seq)>> for Lineage {
    fn from(lives: Vec<(Epoch, Seq)>) -> Self {
        let mut lineage = Self::default();
        lives.into_iter().for_each(|(epoch, seq)| lineage.add(epoch, seq));
        lineage
    }
}

/// What a record is about. A number rather than an enum: kinds that a newer agent knows are kept and passed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind(pub u8);

impl Kind {
    /// An agent's host, or an external node.
    pub const NODE: Kind = Kind(0);
    pub const INSTANCE: Kind = Kind(1);
    pub const LEASE: Kind = Kind(2);
    /// Settings of a service, with or without instances.
    pub const SERVICE: Kind = Kind(3);
    /// A key-value entry.
    pub const ENTRY: Kind = Kind(4);
    /// An operator's word on an instance or a node.
    pub const OVERRIDE: Kind = Kind(5);
    /// A value stored once by its content hash.
    pub const BLOB: Kind = Kind(6);
    /// A user event, in one of its origin's slots.
    pub const EVENT: Kind = Kind(7);
    /// What a gateway says of another datacenter, beside that datacenter's own records.
    pub const LINK: Kind = Kind(8);
    /// The same: what a gateway heard of a service there that does not cross in full.
    pub const SUMMARY: Kind = Kind(9);
    /// The same: a part of what it was answered when it asked for such a service.
    pub const ANSWER: Kind = Kind(10);

    /// Whether a record of this kind stays when its origin is gone for good, whatever its scope; see [`Key::outlives_its_origin`].
    pub fn outlives_its_origin(self) -> bool {
        matches!(self, Kind::SERVICE | Kind::ENTRY | Kind::OVERRIDE)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] =
            ["node", "instance", "lease", "service", "entry", "override", "blob", "event", "link", "summary", "answer"];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

/// Within what a key is one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Scope<'a> {
    /// One thing wherever in the datacenter it is written; the highest claim is visible.
    #[default]
    Datacenter,
    /// One thing per origin: never competes with another agent's.
    Agent,
    /// One thing per named external node.
    Node(#[serde(borrow)] Text<'a>),
}

impl Scope<'_> {
    /// Lets go of the bytes it was decoded from.
    pub fn into_owned(self) -> Scope<'static> {
        match self {
            Scope::Datacenter => Scope::Datacenter,
            Scope::Agent => Scope::Agent,
            Scope::Node(node) => Scope::Node(node.into_owned()),
        }
    }
}

/// What a record is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key<'a> {
    pub kind: Kind,
    #[serde(borrow)]
    pub scope: Scope<'a>,
    pub namespace: Text<'a>,
    /// The service's name; of a node record the node's.
    pub name: Text<'a>,
    /// The instance's id; empty where the name says it all.
    pub id: Text<'a>,
}

impl Key<'_> {
    /// The hash of the scoped key; `origin` counts in agent scope only.
    pub fn uid(&self, origin: NodeId) -> Uid {
        // A fixed key: uids are names, equal on all agents for ever, and guard nothing.
        let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x7569_6420_6f66_206b);
        hasher.write_u8(self.kind.0);
        match &self.scope {
            Scope::Datacenter => hasher.write_u8(0),
            Scope::Agent => {
                hasher.write_u8(1);
                hasher.write(&origin.0.to_le_bytes());
            }
            Scope::Node(node) => {
                hasher.write_u8(2);
                write_framed(&mut hasher, node);
            }
        }
        for part in [&self.namespace, &self.name, &self.id] {
            write_framed(&mut hasher, part);
        }
        Uid(hasher.finish128().as_u128())
    }

    /// Whether the record stays when its origin is gone for good: an external node and what is on it have no agent of their own, and
    /// live until they are deregistered, whatever becomes of the agent that wrote them.
    pub fn outlives_its_origin(&self) -> bool {
        self.kind.outlives_its_origin() || matches!(self.scope, Scope::Node(_))
    }

    pub fn into_owned(self) -> Key<'static> {
        Key {
            kind: self.kind,
            scope: self.scope.into_owned(),
            namespace: self.namespace.into_owned(),
            name: self.name.into_owned(),
            id: self.id.into_owned(),
        }
    }
}

/// The length goes first, or ("ab", "c") and ("a", "bc") would be one key.
fn write_framed(hasher: &mut SipHasher24, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}

/// A 128-bit hash of a scoped key: the name under which all rooms know one thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub u128);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}

/// An encoded record's content, key first, body behind it: kept as its origin wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<[u8]>);

impl Content {
    /// Encodes a key and its body.
    pub fn encode<B: Serialize>(key: &Key<'_>, body: &B) -> Self {
        let mut bytes = postcard::to_stdvec(key).expect("a key is strings and numbers, and memory is at hand");
        bytes = postcard::to_extend(body, bytes).expect("a body is strings and numbers, and memory is at hand");
        Self(bytes.into())
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// # Errors
    /// The bytes hold no key.
    pub fn key(&self) -> Result<Key<'_>, Undecodable> {
        postcard::take_from_bytes(&self.0).map(|(key, _)| key).map_err(|_| Undecodable)
    }

    /// The key and the body; bytes behind what `B` knows stay unread.
    ///
    /// # Errors
    /// The bytes hold no key or no such body.
    pub fn decode<'a, B: Deserialize<'a>>(&'a self) -> Result<(Key<'a>, B), Undecodable> {
        let (key, rest) = postcard::take_from_bytes(&self.0).map_err(|_| Undecodable)?;
        let (body, _) = postcard::take_from_bytes(rest).map_err(|_| Undecodable)?;
        Ok((key, body))
    }
}

impl Serialize for Content {
    /// As one run of bytes; serde's own way for a slice asks for each byte apart.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self::from_bytes)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.len())
    }
}

/// The bytes of a record are not what its kind promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record does not decode")
    }
}

impl std::error::Error for Undecodable {}

/// The latest word of an origin on one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub seq: Seq,
    pub claim: Claim,
    pub state: RecordState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordState {
    Live(Content),
    /// A tombstone: deletes what any origin holds of this key with the record's claim or a lower one.
    Deleted {
        uid: Uid,
        kind: Kind,
    },
}

/// Where an origin's history stands: what it wrote is known up to `seq` of `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub origin: NodeId,
    pub epoch: Epoch,
    pub seq: Seq,
    pub base: Base,
    pub flags: HeadFlags,
}

/// What an epoch stands on: a copy without gaps exactly there, with that sum, keeps its records when the epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    pub epoch: Epoch,
    pub seq: Seq,
    pub sum: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeadFlags {
    /// The origin left on purpose: its instances are absent until it returns.
    pub left: bool,
    /// The day (Unix days) on which the origin was given up; accepted for 6 days, forgotten at 7.
    pub reaped: Option<u32>,
}

/// All that an origin changed in `(from, to]`: the latest record of each key whose seq lies there, and nothing else changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub origin: NodeId,
    pub epoch: Epoch,
    pub base: Base,
    pub from: Seq,
    pub to: Seq,
    pub flags: HeadFlags,
    pub as_of: AsOf,
    /// In ascending order of seq.
    pub records: Vec<Record>,
}

impl Head {
    /// The highest of its epochs and seqs.
    pub fn highest_number(&self) -> u64 {
        self.epoch.max(self.seq).max(self.base.epoch).max(self.base.seq)
    }
}

impl Record {
    /// The higher of its seq and claim.
    pub fn highest_number(&self) -> u64 {
        self.seq.max(self.claim)
    }
}

impl Batch {
    /// The highest of its epochs, seqs and claims.
    pub fn highest_number(&self) -> u64 {
        let records = self.records.iter().map(Record::highest_number).max().unwrap_or(0);
        let known_to = if let AsOf::Later(seq) = self.as_of { seq } else { 0 };
        records.max(known_to).max(self.epoch).max(self.from).max(self.to).max(self.base.epoch).max(self.base.seq)
    }
}

/// What whoever wrote a batch knew of the origin beyond the batch's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AsOf {
    /// Nothing: `to` was the newest, and this the sum over the live records.
    Newest { sum: u64 },
    /// Changes up to this seq: keys changed again until there are not in the batch, and a receiver that is not there yet may hold other
    /// versions of them than the origin's history has.
    Later(Seq),
}

impl AsOf {
    pub fn sum(self) -> Option<u64> {
        match self {
            AsOf::Newest { sum } => Some(sum),
            AsOf::Later(_) => None,
        }
    }
}

/// One live record's share of its origin's additive sum.
pub fn sum_term(uid: Uid, seq: Seq) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x7375_6d20_6f66_2072);
    hasher.write(&uid.0.to_le_bytes());
    hasher.write(&seq.to_le_bytes());
    hasher.finish128().h1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::Instance;

    fn key<'a>(scope: Scope<'a>, name: &'a str, id: &'a str) -> Key<'a> {
        Key { kind: Kind::INSTANCE, scope, namespace: "default".into(), name: name.into(), id: id.into() }
    }

    #[test]
    fn a_uid_depends_on_the_origin_in_agent_scope_only() {
        let (a, b) = (NodeId(1), NodeId(2));
        assert_eq!(key(Scope::Datacenter, "web", "1").uid(a), key(Scope::Datacenter, "web", "1").uid(b));
        assert_ne!(key(Scope::Agent, "web", "1").uid(a), key(Scope::Agent, "web", "1").uid(b));
        assert_ne!(key(Scope::Node("x".into()), "web", "1").uid(a), key(Scope::Node("y".into()), "web", "1").uid(a));
        assert_ne!(key(Scope::Datacenter, "we", "b1").uid(a), key(Scope::Datacenter, "web", "1").uid(a));
    }

    #[test]
    fn bytes_of_a_newer_agent_survive_and_do_not_disturb() {
        let key = key(Scope::Agent, "web", "1");
        let body = Instance { address: "10.0.0.1".into(), port: Some(80), ..Instance::default() };
        let mut bytes = Content::encode(&key, &body).as_bytes().to_vec();
        bytes.extend_from_slice(b"from the future");
        let content = Content::from_bytes(&bytes);
        let (key_again, body_again) = content.decode::<Instance<'_>>().unwrap();
        assert_eq!((key_again, body_again), (key, body));
    }

    #[test]
    fn truncated_bytes_are_undecodable_and_never_panic() {
        let content = Content::encode(&key(Scope::Datacenter, "web", "1"), &Instance { tags: vec!["a".into(); 3], ..Instance::default() });
        for end in 0..content.as_bytes().len() {
            assert!(Content::from_bytes(&content.as_bytes()[..end]).decode::<Instance<'_>>().is_err());
        }
    }
}
