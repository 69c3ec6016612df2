//! The store against a disk that loses what was not synced, and one that fills up.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use redb::StorageBackend;

use super::*;
use crate::model::names::NodeId;
use crate::model::record::{Content, Head, HeadFlags, Kind, Record, RecordState, Uid};

/// A disk that keeps what was written and remembers what was not synced yet.
#[derive(Debug, Clone, Default)]
struct Disk {
    state: Arc<Mutex<DiskState>>,
    is_full: Arc<AtomicBool>,
    /// Copies of the state before each write, once they are asked for.
    journal: Arc<Mutex<Option<Vec<DiskState>>>>,
}

#[derive(Debug, Clone, Default)]
struct DiskState {
    bytes: Vec<u8>,
    /// As of the last sync.
    synced: Vec<u8>,
    /// Since then, in order.
    since: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    At(usize, Vec<u8>),
    Length(usize),
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::At(offset, data) => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[*offset..offset + data.len()].copy_from_slice(data);
        }
        Write::Length(length) => bytes.resize(*length, 0),
    }
}

impl DiskState {
    /// What a power cut leaves: all that was synced, and of the rest what `survives` says, one answer a write.
    fn crashed(&self, survives: &[bool]) -> Disk {
        let mut bytes = self.synced.clone();
        for (at, write) in self.since.iter().enumerate() {
            // The file's length is the file system's, which journals it.
            if matches!(write, Write::Length(_)) || survives[at % survives.len()] {
                apply(&mut bytes, write);
            }
        }
        let state = DiskState { synced: bytes.clone(), bytes, since: Vec::new() };
        Disk { state: Arc::new(Mutex::new(state)), ..Disk::default() }
    }
}

impl Disk {
    /// Keeps copies from now on.
    fn begin(&self) {
        *self.journal.lock().unwrap() = Some(Vec::new());
    }

    /// The states before each write since [`Disk::begin`], and the one of now.
    fn states(&self) -> Vec<DiskState> {
        let mut states = self.journal.lock().unwrap().take().unwrap();
        states.push(self.state.lock().unwrap().clone());
        states
    }

    fn open(&self) -> Opener {
        let disk = self.clone();
        Box::new(move || Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create_with_backend(disk.clone()))
    }

    fn restored(&self) -> Restored {
        Store::with(self.open()).expect("it opens").1
    }

    fn write(&self, write: Write) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        let mut state = self.state.lock().unwrap();
        if let Some(states) = self.journal.lock().unwrap().as_mut() {
            states.push(state.clone());
        }
        apply(&mut state.bytes, &write);
        state.since.push(write);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let read = state.bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(Write::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut state = self.state.lock().unwrap();
        state.synced = state.bytes.clone();
        state.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(Write::At(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

fn uid(n: u8) -> Uid {
    Uid(u128::from(n))
}

fn record(seq: u64) -> Record {
    Record { seq, claim: seq, state: RecordState::Live(Content::from_bytes(&seq.to_le_bytes().repeat(1 + seq as usize % 40))) }
}

fn head(seq: u64) -> StoreOp {
    let head = Head { origin: NodeId(1), epoch: 1, seq, base: Default::default(), flags: HeadFlags::default() };
    StoreOp::Head { head, sum: seq }
}

fn op() -> impl Strategy<Value = StoreOp> {
    prop_oneof![
        6 => (0..20_u8, 1..1000_u64).prop_map(|(n, seq)| StoreOp::Record { uid: uid(n), record: record(seq) }),
        1 => (0..20_u8, 1..1000_u64).prop_map(|(n, seq)| StoreOp::Record {
            uid: uid(n),
            record: Record { seq, claim: seq, state: RecordState::Deleted { uid: uid(n), kind: Kind::INSTANCE } },
        }),
        3 => (0..20_u8).prop_map(|n| StoreOp::Forget { uid: uid(n) }),
        2 => (1..1000_u64).prop_map(head),
        1 => any::<u128>().prop_map(|id| StoreOp::Node { node: NodeId(id) }),
        1 => prop::collection::vec(any::<u16>(), 0..4)
            .prop_map(|ports| StoreOp::Members(ports.into_iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect())),
        1 => prop::collection::vec(any::<[u8; 32]>(), 0..3).prop_map(StoreOp::Keys),
        1 => any::<u64>().prop_map(StoreOp::Revision),
    ]
}

fn wait_for(writer: &Writer, what: &str, is_met: impl Fn(&Progress) -> bool) -> Progress {
    for _ in 0..2_000 {
        let progress = writer.progress();
        if is_met(&progress) {
            return progress;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come: {:?}", writer.progress());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_finds_the_fold_of_what_was_stored(batches in prop::collection::vec(prop::collection::vec(op(), 0..12), 1..12)) {
        let disk = Disk::default();
        let (store, _) = Store::with(disk.open()).unwrap();
        let writer = store.start().unwrap();
        let mut expected = Restored::default();
        for (mark, ops) in (1..).zip(batches) {
            ops.iter().cloned().for_each(|op| expected.apply(op));
            writer.persist(Mark(mark), ops);
        }
        writer.close();
        prop_assert_eq!(disk.restored(), expected);
    }

    /// The power goes at any write of the last commit, and the disk keeps any part of what was not synced.
    #[test]
    fn a_power_cut_loses_nothing_that_was_acknowledged_and_leaves_no_half(
        batches in prop::collection::vec(prop::collection::vec(op(), 1..12), 1..6),
        survives in prop::collection::vec(any::<bool>(), 1..60),
    ) {
        let disk = Disk::default();
        let (store, _) = Store::with(disk.open()).unwrap();
        let (mut before, mut after) = (Restored::default(), Restored::default());
        for ops in batches {
            before = after.clone();
            let mut pending = Pending::default();
            for op in ops {
                pending.put(op.clone());
                after.apply(op);
            }
            disk.begin();
            tables::write(&store.database, &pending).unwrap();
        }
        let states = disk.states();
        prop_assert!(states.len() > 3, "a commit is several writes");
        for state in &states {
            let found = state.crashed(&survives).restored();
            prop_assert!(found == before || found == after, "neither before nor after: {found:?}");
        }
        prop_assert_eq!(states.last().unwrap().crashed(&survives).restored(), after, "what was acknowledged");
    }
}

#[test]
fn a_full_disk_is_told_and_what_waits_is_stored_once_there_is_room() {
    let disk = Disk::default();
    let (store, _) = Store::with(disk.open()).unwrap();
    let writer = store.start().unwrap();
    writer.persist(Mark(1), vec![StoreOp::Revision(1)]);
    wait_for(&writer, "the first mark", |progress| progress.durable == Mark(1));
    disk.is_full.store(true, Ordering::Relaxed);
    writer.persist(Mark(2), vec![StoreOp::Record { uid: uid(1), record: record(1) }, StoreOp::Revision(2)]);
    let progress = wait_for(&writer, "the failure", |progress| progress.failed.is_some());
    assert_eq!(progress.durable, Mark(1));
    assert!(progress.failed.unwrap().1.contains("no space left"));
    writer.persist(Mark(3), vec![StoreOp::Record { uid: uid(1), record: record(2) }]);
    disk.is_full.store(false, Ordering::Relaxed);
    let progress = wait_for(&writer, "the recovery", |progress| progress.durable == Mark(3));
    assert_eq!(progress.failed, None);
    writer.close();
    let restored = disk.restored();
    assert_eq!(restored.records, [(uid(1), record(2))]);
    assert_eq!(restored.revision, 2);
}

#[test]
fn an_empty_list_is_answered_as_well() {
    let (store, _) = Store::with(Disk::default().open()).unwrap();
    let writer = store.start().unwrap();
    writer.persist(Mark(1), Vec::new());
    wait_for(&writer, "the mark", |progress| progress.durable == Mark(1));
}

#[test]
fn a_second_agent_with_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let (store, restored) = Store::open(&dir).unwrap();
    assert_eq!(restored, Restored::default());
    let refusal = Store::open(&dir).unwrap_err();
    assert!(matches!(refusal, StoreError::InUse { .. }), "{refusal}");
    assert!(refusal.to_string().contains(&std::process::id().to_string()), "{refusal}");
    drop(store);
    Store::open(&dir).unwrap();
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let (store, _) = Store::open(&dir).unwrap();
    store.start().unwrap().persist(Mark(1), vec![StoreOp::Keys(vec![[7; 32]])]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(FILE)), 0o600);
    assert_eq!(Store::open(&dir).unwrap().1.keys, [[7; 32]]);
}

#[test]
fn a_damaged_file_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let writer = store.start().unwrap();
    writer.persist(Mark(1), (0..50).map(|n| StoreOp::Record { uid: uid(n), record: record(u64::from(n) + 100) }).collect());
    writer.close();
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, &bytes).unwrap();
    let refusal = Store::open(dir.path()).unwrap_err();
    assert!(matches!(refusal, StoreError::Damaged { .. }), "{refusal}");
    std::fs::write(&path, b"not a database at all").unwrap();
    let refusal = Store::open(dir.path()).unwrap_err();
    assert!(refusal.to_string().contains("Move it away"), "{refusal}");
}
