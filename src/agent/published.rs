//! The view that readers see, and who waits for a newer one.
//!
//! Reading takes no lock. Whoever waits names the services that concern him and is woken for those alone; a change between two waits is
//! kept, so none is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::model::names::ServiceKey;
use crate::view::View;

/// The one view of an agent.
pub struct Published {
    view: ArcSwap<View>,
    /// Rises with each view; what agent-wide watchers wait on.
    count: watch::Sender<u64>,
    watchers: Watchers,
    stopping: watch::Sender<bool>,
}

/// Which services a view changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    Services(Vec<ServiceKey>),
    /// More than the view remembers.
    Any,
}

impl Published {
    pub fn new(view: Arc<View>) -> Arc<Self> {
        let (count, stopping) = (watch::Sender::new(0), watch::Sender::new(false));
        Arc::new(Self { view: ArcSwap::new(view), count, watchers: Watchers::default(), stopping })
    }

    /// What readers see at this moment.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Readers see this from now on; who waits is told by [`Published::wake`].
    pub fn show(&self, view: Arc<View>) {
        self.view.store(view);
    }

    /// Wakes those whom a new view concerns.
    pub fn wake(&self, changed: &Changed) {
        self.count.send_modify(|count| *count += 1);
        let woken = match changed {
            Changed::Services(services) => services.iter().flat_map(|service| self.watchers.of(service)).collect(),
            Changed::Any => self.watchers.all(),
        };
        woken.iter().for_each(|waiting| waiting.notify_one());
    }

    /// Tells listeners and watchers that the agent is over, whatever became of its engine.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until the agent begins to stop.
    pub async fn stopping(&self) {
        // The sender lives in what is borrowed here, so the wait ends by the flag alone.
        let _ = self.stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }

    /// Waits until one of these services changes.
    pub fn watch(self: &Arc<Self>, services: Vec<ServiceKey>) -> Watch {
        let (id, woken) = self.watchers.enter(&services);
        let concern = Concern::Services { id, woken, services, stopping: self.stopping.subscribe() };
        Watch { concern, published: Arc::clone(self) }
    }

    /// Waits for any change.
    pub fn watch_all(self: &Arc<Self>) -> Watch {
        Watch { concern: Concern::Everything(self.count.subscribe()), published: Arc::clone(self) }
    }

    #[cfg(test)]
    pub(super) fn is_unwatched(&self) -> bool {
        lock(&self.watchers.by_service).is_empty()
    }
}

/// Waits for changes of the view.
pub struct Watch {
    concern: Concern,
    published: Arc<Published>,
}

enum Concern {
    Services { id: u64, woken: Arc<Notify>, services: Vec<ServiceKey>, stopping: watch::Receiver<bool> },
    Everything(watch::Receiver<u64>),
}

impl Watch {
    /// The view after a change that concerns this watch since the last call, or since it began; also returns when the agent stops. It
    /// may return without a change, so compare revisions:
    ///
    /// ```text
    /// let mut watch = handle.watch([key]);          // before the first look, or a change between the two is missed
    /// let mut view = handle.view();
    /// while view.revision_of("default", "web") == seen && !handle.is_stopping() { view = watch.changed().await }
    /// ```
    pub async fn changed(&mut self) -> Arc<View> {
        match &mut self.concern {
            Concern::Services { woken, stopping, .. } => tokio::select! {
                () = woken.notified() => {}
                _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
            },
            Concern::Everything(count) => tokio::select! {
                _ = count.changed() => {}
                () = self.published.stopping() => {}
            },
        }
        self.published.view()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Concern::Services { id, services, .. } = &self.concern {
            self.published.watchers.leave(*id, services);
        }
    }
}

/// Who waits for which service.
#[derive(Default)]
struct Watchers {
    last_id: AtomicU64,
    // Looked up, never iterated.
    by_service: Mutex<HashMap<ServiceKey, BTreeMap<u64, Arc<Notify>>>>,
}

impl Watchers {
    fn enter(&self, services: &[ServiceKey]) -> (u64, Arc<Notify>) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let woken = Arc::new(Notify::new());
        let mut by_service = lock(&self.by_service);
        for service in services {
            by_service.entry(service.clone()).or_default().insert(id, Arc::clone(&woken));
        }
        (id, woken)
    }

    fn leave(&self, id: u64, services: &[ServiceKey]) {
        let mut by_service = lock(&self.by_service);
        for service in services {
            if let Some(waiting) = by_service.get_mut(service) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    by_service.remove(service);
                }
            }
        }
    }

    /// Who waits for this service. They are woken outside the lock: ten thousand of them come back for it at once.
    fn of(&self, service: &ServiceKey) -> Vec<Arc<Notify>> {
        lock(&self.by_service).get(service).map(|waiting| waiting.values().cloned().collect()).unwrap_or_default()
    }

    fn all(&self) -> Vec<Arc<Notify>> {
        #[allow(clippy::disallowed_methods, reason = "the order in which tasks are woken decides nothing")]
        lock(&self.by_service).values().flat_map(|waiting| waiting.values().cloned()).collect()
    }
}

/// What a panicking thread left behind is still whole: every change under these locks is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
