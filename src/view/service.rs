//! One service as readers see it, and its entries.

use super::node::Node;
use crate::model::instance::{Health, Instance};
use crate::model::names::ServiceKey;
use crate::model::node::{Liveness, Override};
use crate::model::record::{Content, Key, Uid, Undecodable};
use bytes::Bytes;
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A service that has, or had, instances.
#[derive(Debug)]
pub struct Service {
    pub key: ServiceKey,
    /// When it last changed, as this agent saw it.
    pub revision: u64,
    /// In ascending order of uid; empty once the last instance is gone.
    pub entries: Box<[Entry]>,
    pub counts: Counts,
    /// What of it was encoded already, for as long as it does not change.
    pub bodies: Bodies,
}

impl Service {
    pub(super) fn new(key: ServiceKey, revision: u64, entries: Vec<Entry>, budget: &Arc<BodyBudget>) -> Self {
        let counts = Counts::of(&entries);
        Self { key, revision, entries: entries.into_boxed_slice(), counts, bodies: Bodies::new(budget) }
    }

    pub fn find(&self, uid: Uid) -> Option<&Entry> {
        self.entries.binary_search_by_key(&uid, |entry| entry.uid).ok().map(|at| &self.entries[at])
    }

    /// Entries of that id: one in datacenter scope, one an agent or node in theirs.
    pub fn with_id<'a, 'b>(&'a self, id: &'b str) -> impl Iterator<Item = &'a Entry> + use<'a, 'b> {
        self.entries.iter().filter(move |entry| entry.content.key().is_ok_and(|key| &*key.id == id))
    }

    /// All entries in the order of lists: what is suspected stands last.
    pub fn listed(&self) -> impl Iterator<Item = &Entry> {
        // Nobody is suspected, nearly always: then one pass is enough, and nodes need not be looked at.
        let has_suspects = self.counts.suspect > 0;
        let passes: &[bool] = if has_suspects { &[false, true] } else { &[false] };
        passes.iter().flat_map(move |is_last| self.entries.iter().filter(move |entry| !has_suspects || entry.is_suspect() == *is_last))
    }

    /// What lookups hand out, suspects last.
    pub fn available(&self) -> impl Iterator<Item = &Entry> {
        self.listed().filter(|entry| entry.is_available())
    }
}

/// How many entries there are, by what decides on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// In the order of [`Health::ALL`].
    pub by_health: [u32; 5],
    pub available: u32,
    pub disabled: u32,
    pub suspect: u32,
    /// Of agents that are down.
    pub down: u32,
    /// Of agents that nobody vouches for at present.
    pub unverified: u32,
}

impl Counts {
    fn of(entries: &[Entry]) -> Self {
        let mut counts = Self::default();
        for entry in entries {
            counts.by_health[entry.health as usize] += 1;
            counts.available += u32::from(entry.is_available());
            counts.disabled += u32::from(!entry.is_enabled());
            counts.suspect += u32::from(entry.is_suspect());
            counts.down += u32::from(entry.node.liveness == Liveness::Down);
            counts.unverified += u32::from(entry.node.liveness == Liveness::Unverified);
        }
        counts
    }
}

/// One instance in a service's list. Some 80 bytes: with a million of them, each byte is a megabyte.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub uid: Uid,
    /// Key and [`Instance`] as the origin wrote them.
    pub content: Content,
    pub node: Arc<Node>,
    /// An operator's word on it.
    pub word: Option<Arc<Override<'static>>>,
    /// Names what the record says now: the ETag, the `Condition::Version`.
    pub version: u64,
    /// When it last changed, as this agent saw it.
    pub revision: u64,
    /// One bit of 64 for each tag: an entry without the bit has not the tag, and its content need not be fetched from memory.
    pub(super) tag_marks: u64,
    /// In thousandths, as the present health has it.
    pub weight: u32,
    pub health: Health,
    pub standing: Standing,
    /// As it was registered, before any operator's word.
    is_enabled: bool,
}

/// What becomes of an entry in a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Enabled, healthy, its agent alive or suspected.
    Available,
    /// Enabled and healthy by the word of an agent that nobody vouches for; handed out because nothing else is left.
    Unverified,
    Hidden,
}

impl Entry {
    /// # Errors
    /// The content is not a key and an instance: such a record is served to nobody.
    pub fn new(
        uid: Uid,
        content: Content,
        node: Arc<Node>,
        version: u64,
        word: Option<Arc<Override<'static>>>,
    ) -> Result<Self, Undecodable> {
        let (_, instance) = content.decode::<Instance<'_>>()?;
        let health = instance.health().max(node.health());
        let weight = if health == Health::Warning { instance.weight_warning } else { instance.weight };
        let is_enabled = instance.enabled;
        let tag_marks = tag_marks(&instance.tags);
        Ok(Self { uid, content, node, word, version, revision: 0, tag_marks, weight, health, standing: Standing::Hidden, is_enabled })
    }

    /// The whole instance, borrowed from its bytes.
    ///
    /// # Errors
    /// Never for an entry that [`Entry::new`] made.
    pub fn instance(&self) -> Result<(Key<'_>, Instance<'_>), Undecodable> {
        self.content.decode()
    }

    /// Refers to another state of its node from now on; its health follows.
    pub(super) fn move_to(&mut self, node: Arc<Node>) {
        if let Ok(moved) = Self::new(self.uid, self.content.clone(), node, self.version, self.word.take()) {
            *self = Self { revision: self.revision, ..moved };
        }
    }

    pub fn is_available(&self) -> bool {
        self.standing != Standing::Hidden
    }

    /// An operator's word on the instance wins over its registration; one on the node can only take away.
    pub fn is_enabled(&self) -> bool {
        self.word.as_ref().map_or(self.is_enabled, |word| word.enabled) && self.node.word.as_ref().is_none_or(|word| word.enabled)
    }

    pub fn is_suspect(&self) -> bool {
        self.node.liveness == Liveness::Suspect
    }

    /// What it would be alone: unverified ones are hidden by any that is available.
    fn own_standing(&self) -> Standing {
        if !self.is_enabled() || !self.health.is_serving() {
            return Standing::Hidden;
        }
        match self.node.liveness {
            Liveness::Alive | Liveness::Suspect => Standing::Available,
            Liveness::Unverified => Standing::Unverified,
            Liveness::Down | Liveness::Left => Standing::Hidden,
        }
    }

    /// Whether readers see the same in both; revisions and standing follow from it.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        self.uid == other.uid
            && self.version == other.version
            && self.content == other.content
            && (Arc::ptr_eq(&self.node, &other.node) || self.node == other.node)
            && self.word == other.word
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {} on {}", self.uid, self.standing, self.health, self.node.name)
    }
}

/// The bits of [`Entry::tag_marks`] that these tags set.
pub(super) fn tag_marks<T: Deref<Target = str>>(tags: &[T]) -> u64 {
    tags.iter().fold(0, |marks, tag| {
        // A fixed key: whoever chooses tags that collide makes lookups of his own service slower, nothing else.
        let mut hasher = SipHasher13::new_with_keys(0x7469_6469_6e67_7321, 0x7461_6773);
        hasher.write(tag.as_bytes());
        marks | 1 << (hasher.finish() % 64)
    })
}

/// Decides for all entries of one service what lookups do with them.
pub(super) fn settle(entries: &mut [Entry]) {
    let mut has_available = false;
    for entry in &mut *entries {
        entry.standing = entry.own_standing();
        has_available |= entry.standing == Standing::Available;
    }
    if has_available {
        for entry in entries.iter_mut().filter(|entry| entry.standing == Standing::Unverified) {
            entry.standing = Standing::Hidden;
        }
    }
}

/// Answers about one service that are kept once somebody encoded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The native API's list of what is available.
    List,
    /// Its list of all there is.
    Any,
    /// Consul's `health/service`.
    ConsulHealth,
    /// The same with `?passing`.
    ConsulPassing,
}

/// Encoded answers, made when first asked for, dropped with the service they describe.
pub struct Bodies {
    cells: [OnceLock<Bytes>; 4],
    budget: Arc<BodyBudget>,
}

impl Bodies {
    fn new(budget: &Arc<BodyBudget>) -> Self {
        Self { cells: Default::default(), budget: Arc::clone(budget) }
    }

    /// The answer, encoded by the first who asks. Where the budget is used up, by everyone.
    pub fn get_or_encode(&self, body: Body, encode: impl FnOnce() -> Bytes) -> Bytes {
        let cell = &self.cells[body as usize];
        if let Some(bytes) = cell.get() {
            return bytes.clone();
        }
        let bytes = encode();
        if self.budget.take(bytes.len()) && cell.set(bytes.clone()).is_err() {
            // Another reader was first: its bytes are the ones that are kept and counted.
            self.budget.give_back(bytes.len());
        }
        bytes
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        self.budget.give_back(self.cells.iter().filter_map(OnceLock::get).map(Bytes::len).sum());
    }
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kept", self.cells.iter().filter(|cell| cell.get().is_some()).count())
    }
}

/// What encoded bodies may take, over all services and all Views that readers still hold.
#[derive(Debug)]
pub(super) struct BodyBudget {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl BodyBudget {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_within = taken.saturating_add(bytes) <= self.bytes_max;
        if !is_within {
            self.give_back(bytes);
        }
        is_within
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
