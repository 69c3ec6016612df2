//! A thread that tells those who wait that something changed, so that the engine's thread need not: waking ten thousand takes
//! milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};

use super::published::{Changed, Published};
use crate::model::names::ServiceKey;
use crate::view::{Changes, View};

/// The thread; ends when this is dropped.
pub struct WakeThread {
    thread: Thread,
    is_over: Arc<AtomicBool>,
    join: Option<JoinHandle<()>>,
}

impl WakeThread {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(published: Arc<Published>) -> std::io::Result<WakeThread> {
        let is_over = Arc::new(AtomicBool::new(false));
        // Read here: a thread that starts late would take what the engine has shown meanwhile for told already.
        let seen = published.view().revision;
        let join = std::thread::Builder::new().name("tidings-wake".to_owned()).spawn({
            let is_over = Arc::clone(&is_over);
            move || run(&published, seen, &is_over)
        })?;
        Ok(WakeThread { thread: join.thread().clone(), is_over, join: Some(join) })
    }

    /// A new view is shown.
    pub fn view_shown(&self) {
        self.thread.unpark();
    }
}

impl Drop for WakeThread {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // A panic of the thread was printed by itself.
            let _ = join.join();
        }
    }
}

fn run(published: &Published, mut seen: u64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let view = published.view();
        if view.revision == seen {
            // A view that is shown between the look and the park has left its token: the park returns at once.
            std::thread::park();
            continue;
        }
        published.wake(&changed_since(&view, seen));
        seen = view.revision;
    }
}

fn changed_since(view: &View, seen: u64) -> Changed {
    match view.changes_since(seen) {
        Changes::Resync => Changed::Any,
        Changes::Batches(batches) => {
            let changes = batches.iter().flat_map(|batch| &batch.changes);
            let mut services: Vec<&ServiceKey> = changes.map(|change| &change.service).collect();
            services.sort();
            services.dedup();
            Changed::Services(services.into_iter().cloned().collect())
        }
    }
}
