//! The catalog of one agent, to which a script of batches, snapshots, heads, commands, deaths and waits happens.

use std::mem::discriminant;

use tidings::{
    engine::{
        catalog::{Catalog, Chunk, Effect, Host, Staged, Supply, Word, config::CatalogConfig},
        io::{Restored, Token},
        wire::{
            compress,
            packet::{Advert, Frame, Part, Want},
        },
    },
    model::{
        command::Command,
        names::{NodeId, NodeName},
        node::NodeInfo,
        record::{Batch, Head, Lineage, Record},
        time::Now,
    },
};

use super::{Trace, script};

const PART: u8 = 0;
const FRAME: u8 = 1;
const COMMAND: u8 = 2;
const MEMBER: u8 = 3;
const WAIT: u8 = 4;
const OPERATIONS: u8 = 5;

/// Turns of one moment before it counts as a loop: each does a bounded share of what is due.
const TURNS_MAX: usize = 10_000;

const BATCH_BYTES: usize = 1_000;

/// A script of what happens to a catalog.
pub fn catalog(bytes: &[u8], trace: &mut Trace) {
    let mut world = World::new();
    for (operation, operand) in script::steps(bytes) {
        match operation % OPERATIONS {
            PART => world.part(operand, trace),
            FRAME => world.frame(operand, trace),
            COMMAND => {
                if let Ok(command) = postcard::from_bytes::<Command>(operand) {
                    world.catalog.command(world.now, Token(1), command);
                }
            }
            MEMBER => world.member(operand),
            WAIT => world.wait(script::number(operand, u64::from(u32::MAX))),
            _ => unreachable!("a remainder of {OPERATIONS}"),
        }
        world.settle(trace);
    }
    world.look_back(trace);
}

/// Scripts in which one golden part, frame or command happens, to a catalog that knows its origin.
pub fn recorded(parts: &[Vec<u8>], frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut scripts = Vec::new();
    let mut all = Vec::new();
    let origin = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128;
    script::put(&mut all, MEMBER, &[&[0][..], &origin.to_le_bytes()].concat());
    let known = all.clone();
    let mut add = |operation, operand: &[u8]| {
        script::put(&mut all, operation, operand);
        let mut one = known.clone();
        script::put(&mut one, operation, operand);
        script::put(&mut one, WAIT, &1_000_u32.to_be_bytes());
        scripts.push(one);
    };
    frames.iter().for_each(|frame| add(FRAME, frame));
    for part in parts {
        add(PART, part);
        if let Ok(Part::Ask { command, .. }) = postcard::from_bytes(part) {
            add(COMMAND, &postcard::to_stdvec(&command).expect("plain data encodes"));
        }
    }
    scripts.push(all);
    scripts
}

struct World {
    catalog: Catalog,
    now: Now,
    staged: Option<Staged>,
    lineage: Lineage,
}

impl World {
    fn new() -> Self {
        let now = Now { ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let info = NodeInfo {
            address: "10.0.0.1".into(),
            gossip: None,
            http_port: None,
            dns_port: None,
            datacenter: "dc1".into(),
            zone: None,
            is_gateway: false,
            version: "1".into(),
            metadata: Vec::new(),
            checks: Vec::new(),
        };
        let host = Host { name: NodeName::new("n1").expect("a plain name"), info };
        let catalog = Catalog::new(CatalogConfig::default(), host, NodeId(1), 0, &Restored::default(), now);
        Self { catalog, now, staged: None, lineage: Lineage::default() }
    }

    fn part(&mut self, operand: &[u8], trace: &mut Trace) {
        match postcard::from_bytes::<Part>(operand) {
            Ok(Part::Delta { changes, .. }) => {
                let known = self.catalog.head(changes.origin);
                if let Some(batch) = changes.into_batch(known.as_ref()) {
                    self.batch(batch, trace);
                }
            }
            Ok(Part::Adverts(adverts)) => adverts.iter().for_each(|advert| self.hear(advert, trace)),
            Ok(Part::Heads(page)) => page.heads.iter().for_each(|advert| self.hear(advert, trace)),
            Ok(Part::Wants(wants)) => wants.iter().for_each(|want| self.serve(want, trace)),
            Ok(Part::Ask { command, .. }) => {
                let (outcome, is_write) = self.catalog.forwarded(self.now, NodeId(2), command);
                trace.see(("forwarded", outcome.is_ok(), is_write));
            }
            _ => {}
        }
    }

    fn frame(&mut self, operand: &[u8], trace: &mut Trace) {
        match postcard::from_bytes::<Frame>(operand) {
            Ok(Frame::Batch(packed)) => {
                if let Ok(batch) = postcard::from_bytes(&unpacked(&packed)) {
                    self.batch(batch, trace);
                }
            }
            Ok(Frame::Heads(heads)) => heads.iter().for_each(|head| self.hear(&advert(head), trace)),
            Ok(Frame::Wants(wants)) => wants.iter().for_each(|want| self.serve(want, trace)),
            Ok(Frame::Lineage(lineage)) => self.lineage = lineage,
            Ok(Frame::SnapshotStart { head, sum }) => self.staged = self.catalog.stage(self.now, head, sum, self.lineage.clone()),
            Ok(Frame::SnapshotRecords(packed)) => {
                if let (Some(staged), Ok(records)) = (&mut self.staged, postcard::from_bytes::<Vec<Record>>(&unpacked(&packed))) {
                    staged.push(records);
                }
            }
            Ok(Frame::SnapshotEnd { .. }) => {
                if let Some(staged) = self.staged.take() {
                    let applied = self.catalog.finish(self.now, staged);
                    trace.see(("snapshot", applied.advanced, applied.news.is_some()));
                }
            }
            _ => {}
        }
    }

    fn batch(&mut self, batch: Batch, trace: &mut Trace) {
        let before = self.catalog.head(batch.origin);
        let origin = batch.origin;
        let applied = self.catalog.apply(self.now, batch);
        trace.see(("batch", applied.advanced, applied.news.is_some(), applied.gap.is_some(), applied.needs_snapshot));
        let after = self.catalog.head(origin);
        if let (Some(before), Some(after)) = (before, after) {
            assert!((after.epoch, after.seq) >= (before.epoch, before.seq), "a head went back: {before:?}, then {after:?}");
        }
    }

    fn hear(&mut self, advert: &Advert, trace: &mut Trace) {
        trace.see(("heard", discriminant(&self.catalog.hear(self.now, advert))));
    }

    fn serve(&mut self, want: &Want, trace: &mut Trace) {
        let supply = self.catalog.batch_after(want.origin, want.epoch, want.from, want.sum, BATCH_BYTES);
        trace.see(("supply", discriminant(&supply)));
        if let Supply::Batch(batch) = supply {
            assert!(batch.from <= batch.to && batch.records.iter().all(|record| record.seq > batch.from && record.seq <= batch.to));
        }
    }

    /// The first byte is the word, the others are the node.
    fn member(&mut self, operand: &[u8]) {
        const WORDS: [Word; 6] = [Word::Alive, Word::Suspected, Word::Hearsay, Word::Lost, Word::Down, Word::Left];
        let Some((word, node)) = operand.split_first() else { return };
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(node).for_each(|(to, from)| *to = *from);
        let node = NodeId(u128::from_le_bytes(bytes));
        match WORDS.get(usize::from(*word)) {
            Some(word) => self.catalog.on_member(self.now, node, *word),
            None => self.catalog.taken_over(self.now, node),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = Now { ns: self.now.after_ms(ms), wall_ms: self.now.wall_ms + ms };
    }

    /// Takes the turns that are due, which come to an end, and publishes.
    fn settle(&mut self, trace: &mut Trace) {
        let mut turns = 0;
        loop {
            while let Some(effect) = self.catalog.poll() {
                trace.see(("effect", discriminant(&effect)));
                if let Effect::Forward { token, command, .. } = effect {
                    self.catalog.take_over(self.now, token, command);
                }
            }
            if self.catalog.deadline().is_none_or(|due| due > self.now.ns) {
                break;
            }
            self.catalog.handle_timeout(self.now);
            turns += 1;
            assert!(turns < TURNS_MAX, "a deadline that does not pass");
        }
        let counters = format!("{:?}", self.catalog.counters);
        counters.split(", ").filter(|counter| !counter.ends_with(": 0")).for_each(|counter| trace.see(counter.split(':').next()));
    }

    /// Everything that is known can be told to others, and has an end.
    fn look_back(&mut self, trace: &mut Trace) {
        let heads: Vec<Head> = self.catalog.heads().collect();
        trace.see(("heads", heads.len().min(4)));
        for head in heads {
            let Some(mut reader) = self.catalog.snapshot(head.origin) else { continue };
            for _ in 0..TURNS_MAX {
                match reader.next(&self.catalog, BATCH_BYTES) {
                    Chunk::Records(records) => assert!(!records.is_empty()),
                    Chunk::End | Chunk::Broken => break,
                }
            }
            self.serve(&Want { origin: head.origin, epoch: 0, from: 0, sum: 0 }, trace);
        }
    }
}

/// What a frame has packed; nothing where it is packed badly.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    compress::unpack(packed).unwrap_or_default()
}

fn advert(head: &Head) -> Advert {
    Advert { origin: head.origin, epoch: head.epoch, seq: head.seq, flags: head.flags }
}
