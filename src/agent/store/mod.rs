//! The durable store: what a restart must find again, in one redb file of the data directory.
//!
//! A thread of its own commits; the engine's thread never waits for the disk. What is to be stored is folded into one pending change
//! that waits for the thread, so all that comes while one fsync runs shares the next (group commit), and the queue holds keys, not
//! history. When the disk fails (full, gone) the pending change is kept, tried again every [`RETRY`], and the engine is told both
//! times: lookups and gossip go on, writes are refused meanwhile.
//!
//! Which operations there are and what they fold to is [`Restored::apply`]'s.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Builder, Database, DatabaseError};
use tokio::sync::Notify;

use self::pending::Pending;
use crate::engine::io::{Mark, Restored, StoreOp};

mod pending;
mod tables;
#[cfg(test)]
mod tests;

/// How long a failed disk is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// redb's page cache: the file is written often and read once.
const CACHE_BYTES: usize = 8 << 20;
const FILE: &str = "tidings.redb";
const LOCK: &str = "lock";

/// Why a data directory cannot be used; each message says what to do.
#[derive(Debug)]
pub enum StoreError {
    Directory { dir: PathBuf, why: std::io::Error },
    InUse { dir: PathBuf, pid: String },
    Damaged { file: PathBuf, why: String },
    Newer { file: PathBuf, format: u64 },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Directory { dir, why } => {
                write!(f, "the data directory {} cannot be used: {why}\nGive another with --data-dir DIR.", dir.display())
            }
            StoreError::InUse { dir, pid } => {
                let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
                write!(
                    f,
                    "another agent{who} runs with the data directory {}\nStop it, or give this one its own: --data-dir DIR.",
                    dir.display()
                )
            }
            StoreError::Damaged { file, why } => write!(
                f,
                "{} is damaged: {why}\nMove it away and start again: this agent then begins as a new one, and clients register anew.",
                file.display()
            ),
            StoreError::Newer { file, format } => {
                write!(f, "{} was written by a newer tidings (format {format}); run that, or give another --data-dir", file.display())
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// Opens the database again; the disk's ways to fail are tested through it.
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// An opened store, before its thread runs.
pub struct Store {
    database: Database,
    open: Opener,
    /// Held as long as the store lives: a second agent with this directory is refused.
    lock: Option<File>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Makes the directory if need be, locks it, and reads what an earlier life left.
    ///
    /// # Errors
    /// The directory cannot be used, another agent uses it, or its file is damaged beyond redb's own repair.
    pub fn open(dir: &Path) -> Result<(Store, Restored), StoreError> {
        let unusable = |why| StoreError::Directory { dir: dir.to_owned(), why };
        make_private_dir(dir).map_err(unusable)?;
        let lock = lock_dir(dir)?;
        let path = dir.join(FILE);
        // redb would create it readable by all; gossip keys are in it.
        private().read(true).append(true).create(true).open(&path).map_err(unusable)?;
        let opener: Opener = Box::new({
            let path = path.clone();
            move || Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(&path)
        });
        let (mut store, restored) = Store::with(opener).map_err(|why| match why {
            OpenError::Newer(format) => StoreError::Newer { file: path.clone(), format },
            OpenError::Redb(redb::Error::Io(why)) if why.kind() != std::io::ErrorKind::InvalidData => unusable(why),
            OpenError::Redb(redb::Error::DatabaseAlreadyOpen) => StoreError::InUse { dir: dir.to_owned(), pid: String::new() },
            OpenError::Redb(why) => StoreError::Damaged { file: path.clone(), why: why.to_string() },
            OpenError::Undecodable(what) => StoreError::Damaged { file: path.clone(), why: format!("its {what} cannot be read") },
        })?;
        store.lock = Some(lock);
        Ok((store, restored))
    }

    fn with(open: Opener) -> Result<(Store, Restored), OpenError> {
        let database = open().map_err(redb::Error::from)?;
        let restored = tables::read(&database)?;
        Ok((Store { database, open, lock: None }, restored))
    }

    /// Starts the thread that commits.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self) -> std::io::Result<Writer> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("tidings-store".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || Committer { database: Some(self.database), open: self.open, shared, _lock: self.lock }.run()
        })?;
        Ok(Writer { shared, thread: Some(thread) })
    }
}

#[derive(Debug)]
enum OpenError {
    Redb(redb::Error),
    Undecodable(&'static str),
    Newer(u64),
}

impl<E: Into<redb::Error>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

/// What became of what was handed in, as of now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// All up to and with this mark is durable.
    pub durable: Mark,
    /// What is behind it is not, up to this mark, and why; none once a later attempt succeeded.
    pub failed: Option<(Mark, String)>,
}

/// The engine's side of the store. Without a data directory there is none, and everything counts as durable.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    progressed: Notify,
}

#[derive(Default)]
struct Queue {
    pending: Pending,
    /// The last mark that was handed in.
    mark: Mark,
    progress: Progress,
    is_closed: bool,
}

impl Writer {
    /// Takes note of what is to be made durable; never waits for the disk.
    pub fn persist(&self, mark: Mark, ops: Vec<StoreOp>) {
        let mut queue = self.shared.lock();
        ops.into_iter().for_each(|op| queue.pending.put(op));
        queue.mark = mark;
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Waits until there is something new in [`Writer::progress`].
    pub async fn progressed(&self) {
        self.shared.progressed.notified().await;
    }

    pub fn progress(&self) -> Progress {
        self.shared.lock().progress.clone()
    }

    /// Commits what is pending, once, and ends the thread.
    pub fn close(mut self) -> Progress {
        self.end();
        self.progress()
    }

    fn end(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Every change under the lock is whole, so what a panicking thread left can be used.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that commits.
struct Committer {
    /// None after a failure, until it can be opened again: redb refuses all work after an I/O error.
    database: Option<Database>,
    open: Opener,
    shared: Arc<Shared>,
    _lock: Option<File>,
}

impl Committer {
    fn run(mut self) {
        while let Some((pending, mark)) = self.next() {
            match self.commit(&pending) {
                Ok(()) => self.succeeded(mark),
                Err(why) => {
                    tracing::warn!(%why, "the store cannot be written: registrations are refused until it can");
                    self.failed(pending, mark, why.to_string());
                    if self.rest() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to commit; none when the writer is closed and nothing is left.
    fn next(&self) -> Option<(Pending, Mark)> {
        let mut queue = self.shared.lock();
        while queue.mark == queue.progress.durable && queue.pending.is_empty() {
            if queue.is_closed {
                return None;
            }
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some((std::mem::take(&mut queue.pending), queue.mark))
    }

    fn commit(&mut self, pending: &Pending) -> Result<(), redb::Error> {
        if self.database.is_none() {
            self.database = Some((self.open)()?);
        }
        let database = self.database.as_ref().expect("it was opened above");
        let result = if pending.is_empty() { Ok(()) } else { tables::write(database, pending) };
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn succeeded(&self, mark: Mark) {
        let mut queue = self.shared.lock();
        if queue.progress.failed.take().is_some() {
            tracing::info!("the store can be written again");
        }
        queue.progress.durable = mark;
        drop(queue);
        self.shared.progressed.notify_one();
    }

    fn failed(&self, pending: Pending, mark: Mark, why: String) {
        let mut queue = self.shared.lock();
        queue.pending.put_under(pending);
        queue.progress.failed = Some((mark, format!("the store cannot be written: {why}")));
        drop(queue);
        self.shared.progressed.notify_one();
    }

    /// Leaves the disk alone for a while; says whether the writer was closed meanwhile.
    fn rest(&self) -> bool {
        let queue = self.shared.lock();
        let (queue, _) =
            self.shared.filled.wait_timeout_while(queue, RETRY, |queue| !queue.is_closed).unwrap_or_else(PoisonError::into_inner);
        queue.is_closed
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Takes the directory's lock and writes who has it.
fn lock_dir(dir: &Path) -> Result<File, StoreError> {
    let unusable = |why| StoreError::Directory { dir: dir.to_owned(), why };
    let mut lock = private().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK)).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Whoever has it is writing at this moment, at worst.
            let _ = lock.read_to_string(&mut pid);
            return Err(StoreError::InUse { dir: dir.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(std::fs::TryLockError::Error(why)) => return Err(unusable(why)),
    }
    // The lock counts, not the text; a full disk is no reason not to start.
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(lock)
}
