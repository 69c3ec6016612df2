//! The copy of the catalog on disk: what a restart answers with while it reaches nobody (design §5, store).
//!
//! ```text
//! catalog.copy    "tidings copy 1\n", then frames: length (4 bytes), hash (8 bytes), lz4 of one encoded piece
//! ```
//!
//! Every [`Copier::every`], and when the agent stops, the engine's thread reads a piece a turn and hands it to a thread that writes;
//! a file that is complete takes the place of the last one. It is a convenience and never the only copy of anything: one that is
//! missing, old or damaged is left out, and a disk that fails is tried again at the next time.

use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::engine::catalog::Catalog;
use crate::engine::catalog::copy::{Collector, Copied, CopyReader, Piece};

const FILE: &str = "catalog.copy";
const MAGIC: &[u8] = b"tidings copy 1\n";
/// Of one piece, encoded: what a turn of the engine's thread may take.
const PIECE_BYTES: usize = 256 * 1024;
/// The longest piece that is read back: no record is longer, and one is always taken.
const PIECE_BYTES_MAX: usize = 4 * PIECE_BYTES;
/// Pieces that wait for the disk.
const WAITING_MAX: usize = 4;
/// The pause between two pieces where nothing else wakes the engine's thread.
const PAUSE: Duration = Duration::from_millis(5);
/// An older copy is of a cluster that has reaped and forgotten since.
const AGE_MAX: Duration = Duration::from_secs(3 * 86_400);

/// Reads the copy of an earlier life; empty where there is none that is fit for use.
pub fn read(dir: &Path) -> Vec<Copied> {
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(why) => {
            tracing::warn!(%why, file = %path.display(), "the copy of the catalog cannot be read");
            return Vec::new();
        }
    };
    let age = file.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age > AGE_MAX) {
        tracing::info!(?age, "the copy of the catalog is too old to be of use");
        return Vec::new();
    }
    match read_all(&mut BufReader::new(file)) {
        Ok(copied) => {
            tracing::info!(origins = copied.len(), ?age, "answering from a copy of the catalog until others are met");
            copied
        }
        Err(why) => {
            tracing::warn!(%why, file = %path.display(), "the copy of the catalog is damaged and left out");
            Vec::new()
        }
    }
}

fn read_all(file: &mut impl io::Read) -> io::Result<Vec<Copied>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(damaged("it is no copy of this format"));
    }
    let mut collector = Collector::default();
    loop {
        let mut head = [0; 12];
        file.read_exact(&mut head)?;
        let (length, hash) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("it was split there")) as usize;
        if length == 0 {
            // The end is written: what came before is all there was.
            return Ok(collector.finish());
        }
        if length > PIECE_BYTES_MAX {
            return Err(damaged("a piece is too long"));
        }
        let mut frame = vec![0; length];
        file.read_exact(&mut frame)?;
        if hash_of(&frame).to_le_bytes() != *hash {
            return Err(damaged("a piece is not what was written"));
        }
        let (plain_length, _) = lz4_flex::block::uncompressed_size(&frame).map_err(|_| damaged("a piece is too short"))?;
        if plain_length > PIECE_BYTES_MAX {
            return Err(damaged("a piece is too long"));
        }
        let bytes = lz4_flex::decompress_size_prepended(&frame).map_err(|_| damaged("a piece does not unpack"))?;
        collector.take(postcard::from_bytes::<Piece>(&bytes).map_err(|_| damaged("a piece does not decode"))?);
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Copies the catalog now and then; lives on the engine's thread.
#[derive(Debug)]
pub struct Copier {
    every_ns: u64,
    due_ns: u64,
    /// Of the catalog when it was last copied: an equal one is not copied again.
    root: Option<u64>,
    reader: Option<CopyReader>,
    /// The disk did not keep up.
    waiting: Option<Task>,
    writer: SyncSender<Task>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Task {
    Begin,
    Piece(Piece),
    Commit,
}

impl Copier {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(dir: &Path, every: Duration, now_ns: u64) -> io::Result<Copier> {
        let (writer, tasks) = sync_channel(WAITING_MAX);
        let file = CopyFile { path: dir.join(FILE), open: None };
        let thread = std::thread::Builder::new().name("tidings-copy".to_owned()).spawn(move || write(file, &tasks))?;
        let every_ns = nanoseconds(every);
        Ok(Copier { every_ns, due_ns: now_ns.saturating_add(every_ns), root: None, reader: None, waiting: None, writer, thread })
    }

    /// When the next piece is due, in nanoseconds of the engine's clock.
    pub fn deadline(&self) -> u64 {
        self.due_ns
    }

    /// Hands one piece on, if it is time and the disk keeps up.
    pub fn turn(&mut self, now_ns: u64, catalog: &Catalog) {
        if now_ns < self.due_ns {
            return;
        }
        self.due_ns = now_ns.saturating_add(nanoseconds(PAUSE));
        let Some(task) = self.waiting.take().or_else(|| self.next(catalog)) else {
            self.due_ns = now_ns.saturating_add(self.every_ns);
            return;
        };
        let is_last = matches!(task, Task::Commit);
        // A full queue leaves the task here; a writer that is gone takes none, and the engine goes on without.
        if let Err(TrySendError::Full(task)) = self.writer.try_send(task) {
            self.waiting = Some(task);
        } else if is_last {
            self.due_ns = now_ns.saturating_add(self.every_ns);
        }
    }

    /// What is to be written next; nothing where the last copy is complete and the catalog is as it was.
    fn next(&mut self, catalog: &Catalog) -> Option<Task> {
        if let Some(reader) = &mut self.reader {
            let piece = reader.next(catalog, PIECE_BYTES).map(Task::Piece);
            if piece.is_none() {
                self.reader = None;
            }
            return Some(piece.unwrap_or(Task::Commit));
        }
        if self.root == Some(catalog.root()) {
            return None;
        }
        self.root = Some(catalog.root());
        self.reader = Some(catalog.copy());
        Some(Task::Begin)
    }

    /// Copies what changed since the last copy, whatever the time, and waits until that is on the disk.
    pub fn finish(mut self, catalog: &Catalog) {
        // A writer that is gone takes none, and then there is nothing to wait for.
        let mut is_taking = true;
        while is_taking {
            let Some(task) = self.waiting.take().or_else(|| self.next(catalog)) else { break };
            is_taking = self.writer.send(task).is_ok();
        }
        drop(self.writer);
        let _ = self.thread.join();
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The file that is being written, beside the one that it will replace.
struct CopyFile {
    path: PathBuf,
    open: Option<BufWriter<File>>,
}

fn write(mut file: CopyFile, tasks: &Receiver<Task>) {
    while let Ok(task) = tasks.recv() {
        if let Err(why) = file.take(task) {
            file.open = None;
            tracing::warn!(%why, file = %file.path.display(), "the catalog could not be copied; the next copy tries again");
        }
    }
}

impl CopyFile {
    fn take(&mut self, task: Task) -> io::Result<()> {
        match task {
            Task::Begin => {
                let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.draft())?;
                let mut file = BufWriter::new(file);
                file.write_all(MAGIC)?;
                self.open = Some(file);
            }
            Task::Piece(piece) => {
                // After a failure the rest of that copy is let go.
                let Some(file) = &mut self.open else { return Ok(()) };
                let bytes = postcard::to_stdvec(&piece).expect("a piece is numbers and bytes, and memory is at hand");
                let frame = lz4_flex::compress_prepend_size(&bytes);
                file.write_all(&u32::try_from(frame.len()).expect("a piece is far shorter").to_le_bytes())?;
                file.write_all(&hash_of(&frame).to_le_bytes())?;
                file.write_all(&frame)?;
            }
            Task::Commit => {
                let Some(mut file) = self.open.take() else { return Ok(()) };
                file.write_all(&[0; 12])?;
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                fs::rename(self.draft(), &self.path)?;
            }
        }
        Ok(())
    }

    fn draft(&self) -> PathBuf {
        self.path.with_extension("copy.new")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::NodeId;
    use crate::model::record::{Base, Content, Head, HeadFlags, Lineage, Record, RecordState};

    fn written(dir: &Path, pieces: Vec<Piece>) {
        let mut file = CopyFile { path: dir.join(FILE), open: None };
        let tasks = [Task::Begin].into_iter().chain(pieces.into_iter().map(Task::Piece)).chain([Task::Commit]);
        tasks.for_each(|task| file.take(task).unwrap());
    }

    fn head(origin: u128) -> Head {
        Head { origin: NodeId(origin), epoch: 1, seq: 2, base: Base::default(), flags: HeadFlags::default() }
    }

    fn records() -> Vec<Record> {
        let state = RecordState::Live(Content::from_bytes(&[7; 3_000]));
        vec![Record { seq: 1, claim: 1, state: state.clone() }, Record { seq: 2, claim: 2, state }]
    }

    #[test]
    fn what_was_copied_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [
            Piece::Origin { head: head(1), sum: Some(5), lineage: Lineage::default() },
            Piece::Records(records()),
            Piece::Records(records()),
            Piece::Complete,
        ];
        let broken = [Piece::Origin { head: head(2), sum: None, lineage: Lineage::default() }, Piece::Records(records()), Piece::Broken];
        let cut = [Piece::Origin { head: head(3), sum: None, lineage: Lineage::default() }, Piece::Records(records())];
        written(dir.path(), whole.into_iter().chain(broken).chain(cut).collect());
        let copied = read(dir.path());
        assert_eq!(copied, [Copied { head: head(1), sum: Some(5), lineage: Lineage::default(), records: [records(), records()].concat() }]);
    }

    #[test]
    fn a_damaged_copy_is_left_out_wherever_the_damage_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), [], "there is none");
        written(
            dir.path(),
            vec![Piece::Origin { head: head(1), sum: None, lineage: Lineage::default() }, Piece::Records(records()), Piece::Complete],
        );
        let good = fs::read(dir.path().join(FILE)).unwrap();
        assert_eq!(read(dir.path()).len(), 1);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            // The last frame is nothing but its length of zero.
            let is_beyond = at >= good.len() - 8;
            fs::write(dir.path().join(FILE), &bad).unwrap();
            assert_eq!(read(dir.path()).len(), usize::from(is_beyond), "byte {at} of {}", good.len());
            fs::write(dir.path().join(FILE), &good[..at]).unwrap();
            assert_eq!(read(dir.path()), [], "cut off at byte {at}");
        }
    }
}
