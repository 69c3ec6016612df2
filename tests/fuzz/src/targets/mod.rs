//! The doors by which bytes from elsewhere come in. None may panic, whatever the bytes; what does decode has to encode to its like.
//!
//! Each leaves a trace of what the bytes led to, so that a mutator can tell inputs that lead somewhere new.

mod catalog;
#[cfg(feature = "agent")]
mod dns;
mod engine;
#[cfg(feature = "agent")]
mod http;
mod script;
mod swim;

pub use catalog::catalog;
#[cfg(feature = "agent")]
pub use dns::dns;
pub use engine::engine;
#[cfg(feature = "agent")]
pub use http::{DELIBERATE, http, requests};
pub use swim::swim;

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher as _},
    mem::discriminant,
};

use bytes::Bytes;
use tidings::{
    engine::{
        mail,
        spread::sketch::{CELL_BYTES, CELLS_A_PART, Gathering, HeadKey},
        wire::{
            FRAME_BODY_BYTES_MAX, compress,
            frame::FrameReader,
            keyring::{Key, Keyring},
            packet::{Advert, Frame, Part, SnapshotChunk},
            seal::Sealer,
            stream::StreamSeal,
        },
    },
    model::{
        instance::Instance,
        names::NodeId,
        node::{NodeInfo, Override},
        record::{Batch, Content, HeadFlags, Record, RecordState},
    },
};

/// Where bytes led: each place once, hashed.
#[derive(Default)]
pub struct Trace(pub BTreeSet<u64>);

impl Trace {
    pub fn see(&mut self, place: impl Hash) {
        let mut hasher = DefaultHasher::new();
        place.hash(&mut hasher);
        self.0.insert(hasher.finish());
    }
}

/// A door, by its name.
pub type Target = (&'static str, fn(&[u8], &mut Trace));

/// All doors. Their names are those of the directories in `tests/corpus`.
pub const ALL: &[Target] = &[
    ("datagram", datagram),
    ("body", body),
    ("frame", frame),
    ("frame_body", frame_body),
    ("chunk", chunk),
    ("swim", swim),
    ("catalog", catalog),
    ("engine", engine),
    #[cfg(feature = "agent")]
    ("dns", dns),
    #[cfg(feature = "agent")]
    ("http", http),
];

/// First inputs of a door that are made rather than kept; `golden` are the things a golden file holds.
pub fn recorded(target: &str, golden: impl Fn(&str) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match target {
        "swim" => swim::recorded(),
        "catalog" => catalog::recorded(&golden("parts"), &golden("frames")),
        "engine" => engine::recorded(&golden("parts"), &golden("frames")),
        #[cfg(feature = "agent")]
        "dns" => dns::recorded(),
        #[cfg(feature = "agent")]
        "http" => http::recorded(),
        _ => Vec::new(),
    }
}

/// The things of a golden file: a name and hexadecimal digits a line.
pub fn golden_things(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.lines().filter_map(|line| line.split_once(' ')?.1.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// The golden file whose things are first inputs of a door.
pub fn golden_file(target: &str) -> Option<&'static str> {
    match target {
        "datagram" => Some("datagrams"),
        "body" => Some("parts"),
        "frame" => Some("sealed_frames"),
        "frame_body" => Some("frames"),
        _ => None,
    }
}

/// A datagram as it comes from a socket, to an agent with keys and to one without.
pub fn datagram(bytes: &[u8], trace: &mut Trace) {
    for mut sealer in sealers() {
        match sealer.open(bytes) {
            Ok(opened) => {
                trace.see(("opened", opened.proven));
                body(&opened.body, trace);
            }
            Err(refused) => trace.see(("datagram", refused)),
        }
    }
}

/// The body of a datagram whose seal was good: parts behind their lengths, or, as golden files have it, a part alone.
pub fn body(bytes: &[u8], trace: &mut Trace) {
    let alone = postcard::from_bytes::<Part>(bytes).ok().map(|part| Ok(Some(part)));
    for part in alone.into_iter().chain(mail::parts(Bytes::copy_from_slice(bytes))) {
        match part {
            Ok(Some(part)) => see_part(part, trace),
            Ok(None) => trace.see("a part of an unknown kind"),
            Err(_) => trace.see("a part of a bad length"),
        }
    }
}

/// What comes over a stream: as one frame, and as bytes that are cut anywhere.
pub fn frame(bytes: &[u8], trace: &mut Trace) {
    for mut sealer in sealers() {
        match StreamSeal::accept(&mut sealer, bytes) {
            Ok((mut stream, first)) => {
                trace.see(("accepted", first.last));
                frame_body(&first.body, trace);
                trace.see(("again", stream.take(&sealer, bytes).expect_err("no frame is accepted twice")));
            }
            Err(refused) => trace.see(("frame", refused)),
        }
    }
    let mut reader = FrameReader::default();
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.pop() {
            trace.see(("popped", frame.len().ilog2()));
        }
    }
    trace.see(("left", reader.pop().is_err(), reader.is_between_frames()));
}

/// The body of a frame whose seal was good.
pub fn frame_body(bytes: &[u8], trace: &mut Trace) {
    let Ok(frame) = postcard::from_bytes::<Frame>(bytes) else { return trace.see("no frame") };
    assert_like(&frame);
    trace.see(("frame", discriminant(&frame)));
    match frame {
        Frame::SnapshotRecords(packed) => chunk(&packed, trace),
        Frame::Batch(packed) => batch(&packed, trace),
        _ => {}
    }
}

/// A packed batch.
fn batch(bytes: &[u8], trace: &mut Trace) {
    if let Some(batch) = compress::unpack(bytes).ok().and_then(|bytes| postcard::from_bytes::<Batch>(&bytes).ok()) {
        see_records(&batch.records, trace);
    }
}

/// A packed chunk of a snapshot.
pub fn chunk(bytes: &[u8], trace: &mut Trace) {
    match compress::unpack(bytes) {
        Ok(chunk) => {
            assert!(chunk.len() <= compress::CHUNK_BYTES_MAX);
            let packed = compress::pack(&chunk);
            assert!(packed.len() < FRAME_BODY_BYTES_MAX);
            assert_eq!(compress::unpack(&packed).as_ref(), Ok(&chunk));
            trace.see(("chunk", chunk.len().checked_ilog2(), bytes.first()));
            if let Ok(records) = postcard::from_bytes::<SnapshotChunk>(&chunk) {
                see_records(&records, trace);
            }
        }
        Err(bad) => trace.see(bad.to_string()),
    }
}

fn see_part(part: Part, trace: &mut Trace) {
    assert_like(&part);
    trace.see(("part", discriminant(&part)));
    match part {
        Part::Delta { changes, .. } => see_records(&changes.records, trace),
        Part::Ask { command, .. } => trace.see(("command", discriminant(&command))),
        Part::Answer { outcome: Ok(reply), .. } => trace.see(("reply", discriminant(&reply))),
        Part::Answer { outcome: Err(refusal), .. } => trace.see(("refusal", discriminant(&refusal))),
        Part::Sketch(mut cells) => {
            // Mutation alone hardly ever makes all cells: missing ones are zero.
            let mut whole = cells.cells.to_vec();
            whole.resize(CELLS_A_PART * CELL_BYTES, 0);
            (cells.cells, cells.part, cells.parts) = (whole.into(), 0, 1);
            let sketch = Gathering::default().push(cells).expect("a part of that size").expect("the only part");
            let own = (1..30).map(|origin| Advert { origin: NodeId(origin), epoch: 1, seq: 7, flags: HeadFlags::default() });
            match sketch.diff(&HeadKey::new("test"), own) {
                Ok(diff) => trace.see(("diff", diff.diverged.len(), diff.unknown.len())),
                Err(undecodable) => trace.see(undecodable.to_string()),
            }
        }
        _ => {}
    }
}

fn see_records(records: &[Record], trace: &mut Trace) {
    trace.see(("records", records.len().min(4)));
    for record in records {
        let RecordState::Live(content) = &record.state else { continue };
        trace.see(("kind", content.key().ok().map(|key| key.kind.0.min(8))));
        if let Ok((key, instance)) = content.decode::<Instance<'_>>() {
            assert!(Content::encode(&key, &instance).decode::<Instance<'_>>() == Ok((key, instance)));
        }
        let bodies = [content.decode::<NodeInfo<'_>>().is_ok(), content.decode::<Override<'_>>().is_ok()];
        trace.see(("bodies", content.decode::<Instance<'_>>().is_ok(), bodies));
    }
}

/// What was decoded is what comes back when it is encoded and decoded again.
fn assert_like<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(thing: &T) {
    let encoded = postcard::to_stdvec(thing).expect("plain data encodes");
    assert_eq!(&postcard::from_bytes::<T>(&encoded).expect("what was encoded decodes"), thing);
}

fn sealers() -> [Sealer; 2] {
    let ring = Keyring::new(Key::from_bytes([1; 32]));
    [Some(ring), None].map(|keyring| Sealer::new("test", keyring, NodeId(0xb), 7))
}
