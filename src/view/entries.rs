//! Key-value entries as readers see them: in order of namespace and key, with the revisions at which this agent saw them change.
//!
//! They stand in chunks of sorted entries. Publishing a change copies one chunk's pointers and the list of chunks, whatever the number
//! of entries; each chunk knows its newest change, so that the revision of a prefix does not look at each entry under it.

use crate::model::entry::EntryBody;
use crate::model::record::Content;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Entries in a chunk before it is halved.
const CHUNK_MAX: usize = 128;
/// Deletions that are remembered one by one. Any that was forgotten counts as the latest forgotten.
const DELETIONS_MAX: usize = 1_024;

/// One key-value entry.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub namespace: Arc<str>,
    pub key: Arc<str>,
    /// The client's, opaque here.
    pub flags: u64,
    /// Names what the record says now: for a `Condition::Version`.
    pub version: u64,
    /// When it came, as this agent saw it; anew after a deletion.
    pub created: u64,
    /// When it last changed, as this agent saw it.
    pub modified: u64,
    /// Key and [`EntryBody`] as the origin wrote them.
    content: Content,
    /// Where the value stands in them.
    value: Range<u32>,
}

impl KeyValue {
    /// None where the content is not a key and an entry's body: such a record is served to nobody.
    pub fn new(content: Content, version: u64) -> Option<Self> {
        let (key, body) = content.decode::<EntryBody<'_>>().ok()?;
        let start = body.value.as_ptr() as usize - content.as_bytes().as_ptr() as usize;
        let value = u32::try_from(start).ok()?..u32::try_from(start + body.value.len()).ok()?;
        let (namespace, name, flags) = (Arc::from(&*key.namespace), Arc::from(&*key.name), body.flags);
        Some(Self { namespace, key: name, flags, version, created: 0, modified: 0, value, content })
    }

    pub fn value(&self) -> &[u8] {
        &self.content.as_bytes()[self.value.start as usize..self.value.end as usize]
    }

    /// Whether readers see the same in both; revisions follow from it.
    pub(super) fn is_same(&self, other: &KeyValue) -> bool {
        self.version == other.version && self.content == other.content
    }

    fn name(&self) -> (&str, &str) {
        (&self.namespace, &self.key)
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of {} B", self.namespace, self.key, self.value().len())
    }
}

/// Never empty once it stands in the list.
#[derive(Debug, Clone, Default)]
struct Chunk {
    entries: Vec<Arc<KeyValue>>,
    /// The latest change of any of them.
    newest: u64,
}

impl Chunk {
    fn first(&self) -> (&str, &str) {
        self.entries.first().map_or(("", ""), |entry| entry.name())
    }

    fn place(&self, name: (&str, &str)) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.name().cmp(&name))
    }

    fn refresh(&mut self) {
        self.newest = self.entries.iter().map(|entry| entry.modified).max().unwrap_or(0);
    }
}

/// All entries, and what of them went lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    chunks: Arc<Vec<Arc<Chunk>>>,
    len: usize,
    /// In the order in which they went.
    deletions: Arc<VecDeque<Deletion>>,
    /// Of the latest deletion that was forgotten; at least the first revision of this life.
    pub floor: u64,
}

#[derive(Debug, Clone)]
struct Deletion {
    revision: u64,
    namespace: Arc<str>,
    key: Arc<str>,
}

impl Entries {
    /// Whatever is asked for, nothing changed before `revision`.
    pub fn new(revision: u64) -> Self {
        Self { floor: revision, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn find(&self, namespace: &str, key: &str) -> Option<&Arc<KeyValue>> {
        let chunk = self.chunks.get(self.chunk_of((namespace, key)))?;
        chunk.place((namespace, key)).ok().map(|at| &chunk.entries[at])
    }

    /// The entries of a namespace whose key begins with `prefix`, in order of key, from the first one behind `after` on.
    pub fn range<'a>(&'a self, namespace: &'a str, prefix: &'a str, after: Option<&str>) -> impl Iterator<Item = &'a Arc<KeyValue>> {
        let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let is_from_behind = after.is_some_and(|after| after >= prefix);
        let at = self.chunk_of((namespace, from));
        let start = self.chunks.get(at).map_or(0, |chunk| match chunk.place((namespace, from)) {
            Ok(place) => place + usize::from(is_from_behind),
            Err(place) => place,
        });
        let first = self.chunks.get(at).map_or(&[][..], |chunk| &chunk.entries[start..]);
        let rest = self.chunks.get(at + 1..).unwrap_or_default().iter().flat_map(|chunk| chunk.entries.iter());
        first.iter().chain(rest).take_while(move |entry| *entry.namespace == *namespace && entry.key.starts_with(prefix))
    }

    /// When anything under a prefix last changed, as this agent saw it, deletions included; never goes back.
    pub fn revision(&self, namespace: &str, prefix: &str) -> u64 {
        let is_under = |of: &str, key: &str| of == namespace && key.starts_with(prefix);
        let deleted = self.deletions.iter().rev().find(|gone| is_under(&gone.namespace, &gone.key)).map_or(0, |gone| gone.revision);
        let mut newest = deleted.max(self.floor);
        for chunk in &self.chunks[self.chunk_of((namespace, prefix)).min(self.chunks.len())..] {
            let (of, key) = chunk.first();
            if (of, key) > (namespace, prefix) && !is_under(of, key) {
                break;
            }
            if chunk.newest > newest {
                let under = chunk.entries.iter().filter(|entry| is_under(&entry.namespace, &entry.key));
                newest = under.map(|entry| entry.modified).fold(newest, u64::max);
            }
        }
        newest
    }

    /// Puts an entry in the place of the one of its name.
    pub fn put(&mut self, mut entry: KeyValue, revision: u64) {
        (entry.created, entry.modified) = (revision, revision);
        let at = self.chunk_of(entry.name());
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.newest = revision;
        match chunk.place(entry.name()) {
            Ok(place) => {
                entry.created = chunk.entries[place].created;
                // One allocation for all entries of a namespace that nobody renames.
                (entry.namespace, entry.key) = (Arc::clone(&chunk.entries[place].namespace), Arc::clone(&chunk.entries[place].key));
                chunk.entries[place] = Arc::new(entry);
            }
            Err(place) => {
                let neighbour = chunk.entries.get(place.saturating_sub(1)).filter(|neighbour| neighbour.namespace == entry.namespace);
                if let Some(neighbour) = neighbour {
                    entry.namespace = Arc::clone(&neighbour.namespace);
                }
                chunk.entries.insert(place, Arc::new(entry));
                self.len += 1;
            }
        }
        if chunk.entries.len() > CHUNK_MAX {
            let mut upper = Chunk { entries: chunk.entries.split_off(CHUNK_MAX / 2), newest: 0 };
            upper.refresh();
            chunk.refresh();
            chunks.insert(at + 1, Arc::new(upper));
        }
    }

    /// Takes an entry away and remembers that; says whether it was there.
    pub fn remove(&mut self, namespace: &str, key: &str, revision: u64) -> bool {
        let at = self.chunk_of((namespace, key));
        let Some(place) = self.chunks.get(at).and_then(|chunk| chunk.place((namespace, key)).ok()) else { return false };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        let gone = chunk.entries.remove(place);
        chunk.refresh();
        if chunk.entries.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
        let deletions = Arc::make_mut(&mut self.deletions);
        deletions.push_back(Deletion { revision, namespace: Arc::clone(&gone.namespace), key: Arc::clone(&gone.key) });
        if deletions.len() > DELETIONS_MAX
            && let Some(forgotten) = deletions.pop_front()
        {
            self.floor = self.floor.max(forgotten.revision);
        }
        true
    }

    /// The chunk in which an entry of that name is, or would be.
    fn chunk_of(&self, name: (&str, &str)) -> usize {
        self.chunks.partition_point(|chunk| chunk.first() <= name).saturating_sub(1)
    }
}
