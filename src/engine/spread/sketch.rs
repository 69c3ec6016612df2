//! What two agents' heads differ in, found with one datagram (protocol.md §4, Sketch).
//!
//! Where two roots, sums over heads, are not equal, a [`Sketch`] tells in what: it is an invertible Bloom lookup table over the
//! heads. Each head is mixed into four cells; the receiver takes its own heads out again, and what is left are the heads in which the two
//! differ, which come off one by one as long as some cell holds a single one.
//!
//! Fifty-five cells have to fit a datagram, so a cell holds no whole head but 14 bytes of it: a 48-bit short name of the origin, the
//! low 40 bits of seq, 24 bits of a hash over epoch and flags. That is enough to say whose heads differ, and who is ahead in the same
//! life of an origin; whole heads follow in adverts and wants. Short names and hashes are keyed by the salt of the sketch, so two
//! heads that look alike once do not look alike again. A decoded difference is believed only if it explains the sender's root; one
//! that is a lie all the same costs an exchange of true heads, nothing else.
//!
//! When to send which sketch, and what to answer, is decided elsewhere.

use std::{collections::BTreeMap, fmt, hash::Hasher as _};

use bytes::Bytes;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::{
    engine::wire::{
        LabelKey,
        packet::{Advert, SketchCells},
    },
    model::names::NodeId,
};

/// The bytes of a cell: how many heads, the exclusive or of their elements, that of their checks.
pub const CELL_BYTES: usize = 1 + ELEMENT_BYTES + 4;

/// Cells in one datagram.
pub const CELLS_A_PART: usize = 55;

/// Cells each head is mixed into. Of 1,000 sketches of 55 cells decode, with 10, 15 and 18 diverged origins: 993, 962, 892 at three
/// cells a head (two heads share all of them too often), 999, 993, 879 at four, 1,000, 983, 485 at five.
const CELLS_A_HEAD: usize = 4;

const ELEMENT_BYTES: usize = (SHORT_BITS + SEQ_BITS + LIFE_BITS) as usize / 8;
const SHORT_BITS: u32 = 48;
const SEQ_BITS: u32 = 40;
const LIFE_BITS: u32 = 24;

/// How many cells a sketch has; both sides of a comparison have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 55 cells, one datagram.
    Small,
    /// 220 cells, four datagrams of one moment.
    Large,
}

impl Size {
    /// Datagrams a sketch of this size takes.
    pub fn parts(self) -> u8 {
        match self {
            Self::Small => 1,
            Self::Large => 4,
        }
    }

    pub fn cells(self) -> usize {
        usize::from(self.parts()) * CELLS_A_PART
    }

    fn of_parts(parts: u8) -> Option<Self> {
        [Self::Small, Self::Large].into_iter().find(|size| size.parts() == parts)
    }
}

/// The keyed hash over heads that the agents of one cluster share.
#[derive(Clone, Copy)]
pub struct HeadKey(LabelKey);

impl HeadKey {
    /// The hash of the cluster called `label`.
    pub fn new(label: &str) -> Self {
        Self(LabelKey::new(label, b"tidings sketch 1"))
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadKey")
    }
}

/// The name of an origin inside the sketches of one salt, as [`Part::Whose`](crate::engine::wire::packet::Part::Whose) carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortOrigin(pub u64);

/// The heads among `own` that go by one of these short names in the sketches of that salt: what a peer that knows no more asks for.
pub fn by_short_name(key: &HeadKey, salt: u64, wanted: &[ShortOrigin], own: impl IntoIterator<Item = Advert>) -> Vec<Advert> {
    let hash = Salted::new(key, salt);
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    own.into_iter().filter(|head| wanted.binary_search(&hash.short(head.origin)).is_ok()).collect()
}

/// A set of heads, mixed into cells.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch {
    size: Size,
    salt: u64,
    /// The sum over what the cells hold: the root of the very heads that are encoded here.
    root: u64,
    /// [`Size::cells`] of them.
    cells: Vec<Cell>,
}

impl Sketch {
    /// The sketch of `heads`, one an origin; `salt` is drawn anew for each.
    pub fn build(key: &HeadKey, size: Size, salt: u64, heads: impl IntoIterator<Item = Advert>) -> Self {
        let hash = Salted::new(key, salt);
        let mut sketch = Self { size, salt, root: 0, cells: vec![Cell::default(); size.cells()] };
        for head in heads {
            let element = hash.element(&head);
            let mark = hash.mark(element, sketch.cells.len());
            sketch.root = sketch.root.wrapping_add(mark.term);
            for at in mark.cells {
                sketch.cells[at].mix(1, element, mark.check);
            }
        }
        sketch
    }

    /// The sketch as packets, `id` being the sender's number for it.
    pub fn parts(&self, id: u32) -> Vec<SketchCells> {
        let encode = |cells: &[Cell]| cells.iter().flat_map(|cell| cell.to_bytes()).collect::<Vec<u8>>();
        let (salt, root, parts) = (self.salt, self.root, self.size.parts());
        let numbered = self.cells.chunks(CELLS_A_PART).map(encode).zip(0..);
        numbered.map(|(cells, part)| SketchCells { id, salt, root, part, parts, cells: Bytes::from(cells) }).collect()
    }

    /// The salt it was built with.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// What the sender of this sketch and the holder of `own` differ in.
    pub fn diff<I>(self, key: &HeadKey, own: I) -> Result<Diff, Undecodable>
    where
        I: IntoIterator<Item = Advert> + Clone,
    {
        let hash = Salted::new(key, self.salt);
        let mut left = Self::build(key, self.size, self.salt, own.clone());
        for (mine, theirs) in left.cells.iter_mut().zip(&self.cells) {
            mine.mix(theirs.count.wrapping_neg(), theirs.element, theirs.check);
        }
        let (only_mine, only_theirs) = left.peel(&hash)?;
        let sum = |side: &[Peeled]| side.iter().fold(0_u64, |sum, (_, term)| sum.wrapping_add(*term));
        if left.root.wrapping_sub(sum(&only_mine)).wrapping_add(sum(&only_theirs)) != self.root {
            return Err(Undecodable::Root);
        }
        Ok(Diff::resolve(&hash, &only_mine, &only_theirs, own))
    }

    /// Takes single elements out of the cells until none is left: those counted once, then those counted minus once.
    ///
    /// Of honest sketches each cell gives up at most one element; more of them than cells means that somebody made a circle.
    fn peel(&mut self, hash: &Salted) -> Result<(Vec<Peeled>, Vec<Peeled>), Undecodable> {
        let (mut once, mut minus_once) = (Vec::new(), Vec::new());
        let mut waiting: Vec<usize> = (0..self.cells.len()).collect();
        while let Some(at) = waiting.pop() {
            let Cell { count, element, check } = self.cells[at];
            let side = match count {
                1 => &mut once,
                MINUS_ONE => &mut minus_once,
                _ => continue,
            };
            let mark = hash.mark(element, self.cells.len());
            if mark.check != check || !mark.cells.contains(&at) {
                continue;
            }
            side.push((element, mark.term));
            if once.len() + minus_once.len() > self.cells.len() {
                return Err(Undecodable::Circle);
            }
            for at in mark.cells {
                self.cells[at].mix(count.wrapping_neg(), element, check);
                waiting.push(at);
            }
        }
        if self.cells.iter().any(|cell| *cell != Cell::default()) {
            return Err(Undecodable::Stuck);
        }
        Ok((once, minus_once))
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sketch({} cells, salt {:x}, root {:x})", self.cells.len(), self.salt, self.root)
    }
}

/// The parts of one sketch as they come in, in any order; the parts of another begin anew. Bounded by the largest sketch.
#[derive(Debug, Default)]
pub struct Gathering {
    parts: Vec<SketchCells>,
}

impl Gathering {
    /// Takes a part; the sketch, if that was the last one missing.
    pub fn push(&mut self, part: SketchCells) -> Result<Option<Sketch>, BadSketch> {
        let size = Size::of_parts(part.parts).ok_or(BadSketch::Parts)?;
        if part.part >= part.parts {
            return Err(BadSketch::Parts);
        }
        if part.cells.len() != CELLS_A_PART * CELL_BYTES {
            return Err(BadSketch::Cells);
        }
        let of = |part: &SketchCells| (part.id, part.salt, part.root, part.parts);
        self.parts.retain(|other| of(other) == of(&part) && other.part != part.part);
        let (salt, root) = (part.salt, part.root);
        self.parts.push(part);
        if self.parts.len() < usize::from(size.parts()) {
            return Ok(None);
        }
        self.parts.sort_by_key(|part| part.part);
        let parts = std::mem::take(&mut self.parts);
        let cells = parts.iter().flat_map(|part| part.cells.as_chunks::<CELL_BYTES>().0).map(Cell::from_bytes).collect();
        Ok(Some(Sketch { size, salt, root, cells }))
    }
}

/// Where two sets of heads differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Origins that the holder knows, in the order of its heads.
    pub diverged: Vec<Diverged>,
    /// Origins that only the sender knows.
    pub unknown: Vec<ShortOrigin>,
}

/// An origin on whose head two agents differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diverged {
    pub mine: Advert,
    pub theirs: Theirs,
}

/// What the sender has of an origin, seen from the holder's own head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theirs {
    /// It does not know the origin.
    Nothing,
    /// Another seq with the same epoch and flags.
    Seq(u64),
    /// Another epoch or other flags: only whole heads tell who is ahead.
    OtherLife,
}

impl Diff {
    fn resolve(hash: &Salted, only_mine: &[Peeled], only_theirs: &[Peeled], own: impl IntoIterator<Item = Advert>) -> Self {
        let mut theirs: BTreeMap<ShortOrigin, u128> = only_theirs.iter().map(|&(element, _)| (short_of(element), element)).collect();
        let mut mine: Vec<ShortOrigin> = only_mine.iter().map(|&(element, _)| short_of(element)).collect();
        mine.sort_unstable();
        let mut diff = Self::default();
        for head in own {
            let short = hash.short(head.origin);
            let element = theirs.remove(&short);
            if element.is_none() && mine.binary_search(&short).is_err() {
                continue;
            }
            let theirs = match element {
                None => Theirs::Nothing,
                Some(element) if life_of(element) != hash.life(&head) => Theirs::OtherLife,
                Some(element) => Theirs::Seq(seq_near(head.seq, element)),
            };
            diff.diverged.push(Diverged { mine: head, theirs });
        }
        diff.unknown = theirs.into_keys().collect();
        diff
    }
}

/// Why a sketch gave no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// No cell holds a single element: too much differs for this many cells.
    Stuck,
    /// It does not come to an end.
    Circle,
    /// What came out does not explain the sender's root.
    Root,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stuck => "too much differs for so few cells",
            Self::Circle => "the sketch does not come to an end",
            Self::Root => "the sketch does not explain its root",
        })
    }
}

impl std::error::Error for Undecodable {}

/// Why packets are no sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadSketch {
    /// No sketch has such a part.
    Parts,
    /// No part has so many cells.
    Cells,
}

impl fmt::Display for BadSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parts => "no sketch has such a part",
            Self::Cells => "no part of a sketch has so many cells",
        })
    }
}

impl std::error::Error for BadSketch {}

/// An element and its share of the root.
type Peeled = (u128, u64);

/// A count of minus one.
const MINUS_ONE: u8 = u8::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    /// Heads mixed in, modulo 256: only differences are read, and those that can be are small.
    count: u8,
    element: u128,
    check: u32,
}

impl Cell {
    fn mix(&mut self, count: u8, element: u128, check: u32) {
        self.count = self.count.wrapping_add(count);
        self.element ^= element;
        self.check ^= check;
    }

    fn to_bytes(self) -> [u8; CELL_BYTES] {
        let mut bytes = [0; CELL_BYTES];
        bytes[0] = self.count;
        bytes[1..=ELEMENT_BYTES].copy_from_slice(&self.element.to_le_bytes()[..ELEMENT_BYTES]);
        bytes[1 + ELEMENT_BYTES..].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; CELL_BYTES]) -> Self {
        let [count, middle @ .., c0, c1, c2, c3] = *bytes;
        let mut element = [0; 16];
        element[..ELEMENT_BYTES].copy_from_slice(&middle);
        Self { count, element: u128::from_le_bytes(element), check: u32::from_le_bytes([c0, c1, c2, c3]) }
    }
}

/// The hashes of one salt.
struct Salted {
    key: [u8; 16],
}

/// Where an element goes and how it is recognised.
struct Mark {
    cells: [usize; CELLS_A_HEAD],
    check: u32,
    /// Its share of the root.
    term: u64,
}

impl Salted {
    fn new(key: &HeadKey, salt: u64) -> Self {
        let mut hasher = SipHasher24::new_with_key(key.0.bytes());
        hasher.write(&salt.to_le_bytes());
        Self { key: hasher.finish128().as_bytes() }
    }

    fn hash(&self, what: u8, bytes: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&[what]);
        hasher.write(bytes);
        hasher.finish128().as_u64()
    }

    fn short(&self, origin: NodeId) -> ShortOrigin {
        ShortOrigin(self.hash(0, &origin.0.to_le_bytes()).0 >> (64 - SHORT_BITS))
    }

    fn life(&self, head: &Advert) -> u64 {
        self.hash(1, &life_bytes(head)).0 >> (64 - LIFE_BITS)
    }

    fn element(&self, head: &Advert) -> u128 {
        let seq = head.seq & low_bits(SEQ_BITS);
        (u128::from(self.short(head.origin).0) << (SEQ_BITS + LIFE_BITS)) | (u128::from(seq) << LIFE_BITS) | u128::from(self.life(head))
    }

    /// The cells are distinct, or an element could take itself out again.
    fn mark(&self, element: u128, cells: usize) -> Mark {
        let (term, places) = self.hash(2, &element.to_le_bytes());
        let mut chosen = [usize::MAX; CELLS_A_HEAD];
        for nth in 0..CELLS_A_HEAD {
            let random = (places >> (16 * nth)) as usize & 0xffff;
            // One of those not chosen yet: each chosen one at or below it moves it up. They are kept in ascending order for that.
            let mut at = (random * (cells - nth)) >> 16;
            let mut place = 0;
            while place < nth && at >= chosen[place] {
                at += 1;
                place += 1;
            }
            chosen[place..=nth].rotate_right(1);
            chosen[place] = at;
        }
        Mark { cells: chosen, check: term as u32, term }
    }
}

/// What tells the lives of an origin apart, and what it last said of itself.
fn life_bytes(head: &Advert) -> [u8; 13] {
    let mut bytes = [0; 13];
    bytes[..8].copy_from_slice(&head.epoch.to_le_bytes());
    bytes[8] = u8::from(head.flags.left) | (u8::from(head.flags.reaped.is_some()) << 1);
    bytes[9..].copy_from_slice(&head.flags.reaped.unwrap_or(0).to_le_bytes());
    bytes
}

fn short_of(element: u128) -> ShortOrigin {
    ShortOrigin((element >> (SEQ_BITS + LIFE_BITS)) as u64)
}

fn life_of(element: u128) -> u64 {
    element as u64 & low_bits(LIFE_BITS)
}

/// The seq nearest to `mine` whose low bits the element holds.
fn seq_near(mine: u64, element: u128) -> u64 {
    let ahead = ((element >> LIFE_BITS) as u64).wrapping_sub(mine) & low_bits(SEQ_BITS);
    if ahead < 1 << (SEQ_BITS - 1) { mine.wrapping_add(ahead) } else { mine.wrapping_sub((1 << SEQ_BITS) - ahead) }
}

fn low_bits(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
#[path = "tests/sketch.rs"]
mod tests;
