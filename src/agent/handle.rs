//! The only door to a running agent: commands go in, the view comes out.
//!
//! Reading never waits for the engine: the view is swapped in atomically. Whoever waits for a change names the services that
//! concern him, and is woken for those alone. Writing waits for the engine's answer, which comes after the write is durable and a view
//! that holds it is published (design §2, §3).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use self::elsewhere::{Named, Remote, Remotes};
pub use super::clock::wall_ms;
pub use super::guard::{Guard, acting_for};
use super::metrics::{self, Sample};
pub use super::published::{Changed, Published, Watch};
use super::reload::{self, Reloaded, Reloads};
use crate::model::command::{Command, KeyId, LeaseId, Refusal, Reply};
use crate::model::names::{Datacenter, NodeName, ServiceKey, Zone};
use crate::view::View;

mod elsewhere;

/// Commands that were handed in and are not answered yet; what is above is refused as [`Refusal::Busy`].
pub const COMMANDS_MAX: usize = 8_192;
/// Questions for a sample of the counters that wait.
const SAMPLES_MAX: usize = 4;
/// How long the metrics wait for the engine's share.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(1);
/// When a caller who was refused may try again.
const BUSY_RETRY_MS: u64 = 500;
/// The driver turns at least this often, so a longer silence means that it is stuck.
pub const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of an agent when it starts and stays so while it runs.
#[derive(Debug, Clone)]
pub struct Facts {
    pub node: NodeName,
    pub datacenter: Datacenter,
    pub zone: Option<Zone>,
    /// The version of this program.
    pub version: &'static str,
    /// Where its gossip listens, and what others are told.
    pub gossip: SocketAddr,
    pub advertise: SocketAddr,
    /// What gateways of other datacenters are told; none: this agent is no gateway.
    pub wan: Option<SocketAddr>,
    /// None: everything is in memory.
    pub data_dir: Option<PathBuf>,
    /// The name of the gossip key in use at the start; none: gossip travels in clear.
    pub key: Option<KeyId>,
    /// Whether checks may run scripts.
    pub allows_scripts: bool,
    /// Wall clock in Unix milliseconds.
    pub started_at_ms: u64,
}

/// The door to a running agent; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    facts: Facts,
    guard: Guard,
    published: Arc<Published>,
    commands: mpsc::Sender<Call>,
    /// One permit a command that is not answered yet, so that the driver's table of them is bounded as well.
    in_flight: Arc<Semaphore>,
    /// Held leases whose guards were dropped. At most as many as are open; never lost, however busy the engine is.
    ended_leases: Mutex<Vec<LeaseId>>,
    leases_ended: Notify,
    samples: mpsc::Sender<oneshot::Sender<Sample>>,
    reloads: Reloads,
    halted: Notify,
    /// What listeners and others count, beside what the engine does.
    registry: Mutex<Registry>,
    /// What the engine was told to have fetched.
    told: Mutex<elsewhere::Told>,
    /// Milliseconds since `started` at the engine's last turn.
    turned_at_ms: AtomicU64,
    started: Instant,
}

impl Handle {
    /// The door and the driver's side of it. The first view is what readers see until the engine publishes one.
    pub fn new(facts: Facts, view: Arc<View>) -> (Handle, DriverSide) {
        let (commands, calls) = mpsc::channel(COMMANDS_MAX);
        let (samples, asked_samples) = mpsc::channel(SAMPLES_MAX);
        let mut registry = Registry::default();
        let shared = Arc::new(Shared {
            facts,
            guard: Guard::new(&mut registry),
            published: Published::new(view),
            commands,
            in_flight: Arc::new(Semaphore::new(COMMANDS_MAX)),
            ended_leases: Mutex::default(),
            leases_ended: Notify::new(),
            samples,
            reloads: Reloads::default(),
            halted: Notify::new(),
            registry: Mutex::new(registry),
            told: Mutex::default(),
            turned_at_ms: AtomicU64::new(0),
            started: now(),
        });
        (Handle { shared: Arc::clone(&shared) }, DriverSide { shared, calls, samples: asked_samples })
    }

    pub fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    /// Who may do what here.
    pub fn guard(&self) -> &Guard {
        &self.shared.guard
    }

    /// What readers see at this moment.
    pub fn view(&self) -> Arc<View> {
        self.shared.published.view()
    }

    /// Hands a command to the engine and waits for its answer.
    ///
    /// A caller that stops waiting does not take the command back.
    ///
    /// # Errors
    /// The engine's refusal; [`Refusal::Busy`] when too many commands wait already; [`Refusal::Unavailable`] when the agent has stopped;
    /// [`Refusal::Denied`] when whoever this runs for ([`acting_for`]) may not.
    pub async fn call(&self, command: Command) -> Answer {
        let answer = self.send(command)?;
        answer.await.unwrap_or_else(|_| Err(stopped_meanwhile()))
    }

    fn send(&self, command: Command) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.guard().permit(&command, &self.view())?;
        let permit = Arc::clone(&self.shared.in_flight).try_acquire_owned().map_err(|_| busy())?;
        let (reply, answer) = oneshot::channel();
        self.shared.commands.try_send(Call { command, reply, permit }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => busy(),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        Ok(answer)
    }

    /// Opens a lease that ends when the guard is dropped: the sign of life of a connection or a session.
    ///
    /// # Errors
    /// As [`Handle::call`].
    pub async fn open_lease(&self, ttl_ms: Option<u64>) -> Result<HeldLease, Refusal> {
        match self.call(Command::OpenLease { ttl_ms }).await? {
            Reply::Lease(id) => Ok(HeldLease { id, handle: self.clone() }),
            other => Err(Refusal::Unavailable { why: format!("the engine answered {other:?} to the opening of a lease") }),
        }
    }

    /// Waits until one of these services changes; see [`Watch::changed`].
    pub fn watch(&self, services: impl IntoIterator<Item = ServiceKey>) -> Watch {
        self.shared.published.watch(services.into_iter().collect())
    }

    /// Waits for any change of the view.
    pub fn watch_all(&self) -> Watch {
        self.shared.published.watch_all()
    }

    /// Adds metrics to what [`Handle::metrics`] tells; call it once a thing that counts.
    pub fn register_metrics<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut lock(&self.shared.registry))
    }

    /// All metrics as OpenMetrics text. Where the engine does not answer in time, its share is missing.
    pub async fn metrics(&self) -> String {
        let (reply, answer) = oneshot::channel();
        let sample = match self.shared.samples.try_send(reply) {
            Ok(()) => tokio::time::timeout(SAMPLE_TIMEOUT, answer).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        metrics::encode(&lock(&self.shared.registry), sample.unwrap_or_default())
    }

    /// Hears who wants a reload from now on; called once, by whoever reads the settings.
    pub(super) fn take_reloads(&self) -> mpsc::Receiver<reload::Asked> {
        self.shared.reloads.take()
    }

    /// Reads the settings again, as SIGHUP does.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]: the settings are wrong; nothing changed. [`Refusal::Busy`]: they are being read already.
    /// [`Refusal::Unavailable`]: the agent stops, or reads none.
    pub async fn reload(&self) -> Result<Reloaded, Refusal> {
        self.shared.reloads.ask().await
    }

    /// Ends the driver without leaving, as a crash would.
    pub(super) fn halt(&self) {
        self.shared.halted.notify_one();
    }

    /// Tells listeners and watchers that the agent is over, whatever became of its engine.
    pub(super) fn stop(&self) {
        self.shared.published.stop();
    }

    /// How long ago the engine turned; the driver turns at least every [`TURN_INTERVAL`].
    pub fn since_last_turn(&self) -> Duration {
        let turned_at = Duration::from_millis(self.shared.turned_at_ms.load(Ordering::Relaxed));
        now().saturating_duration_since(self.shared.started).saturating_sub(turned_at)
    }

    /// Whether the agent is leaving: listeners take no new work from now on.
    pub fn is_stopping(&self) -> bool {
        self.shared.published.is_stopping()
    }

    /// Waits until the agent begins to stop.
    pub async fn stopping(&self) {
        self.shared.published.stopping().await;
    }
}

fn busy() -> Refusal {
    Refusal::Busy { retry_after_ms: BUSY_RETRY_MS, why: format!("{COMMANDS_MAX} commands wait for an answer already") }
}

fn stopped() -> Refusal {
    Refusal::Unavailable { why: "the agent is stopping".to_owned() }
}

/// The engine had the command, and ended before it answered.
fn stopped_meanwhile() -> Refusal {
    Refusal::Unavailable { why: "the agent stopped before it answered: whether the command was carried out is not known".to_owned() }
}

#[allow(clippy::disallowed_methods, reason = "the shell lives in real time")]
fn now() -> Instant {
    Instant::now()
}

/// A lease that ends when this is dropped.
pub struct HeldLease {
    id: LeaseId,
    handle: Handle,
}

impl HeldLease {
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// A sign of life, for leases that were opened with a TTL.
    ///
    /// # Errors
    /// As [`Handle::call`]; [`Refusal::NotFound`] when it ran out before.
    pub async fn renew(&self) -> Result<(), Refusal> {
        self.handle.call(Command::RenewLease(self.id)).await.map(|_| ())
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        lock(&self.handle.shared.ended_leases).push(self.id);
        self.handle.shared.leases_ended.notify_one();
    }
}

/// The driver's side of the door.
pub struct DriverSide {
    shared: Arc<Shared>,
    calls: mpsc::Receiver<Call>,
    samples: mpsc::Receiver<oneshot::Sender<Sample>>,
}

pub type Answer = Result<Reply, Refusal>;

/// What comes through the door.
pub enum Request {
    Call(Call),
    /// Somebody wants to see the counters.
    Sample(oneshot::Sender<Sample>),
    /// Some leases ended; see [`DriverSide::take_ended_leases`].
    LeasesEnded,
    Halt,
}

/// A command on its way in.
pub struct Call {
    pub command: Command,
    pub reply: oneshot::Sender<Answer>,
    /// Kept until the reply is given.
    pub permit: OwnedSemaphorePermit,
}

impl DriverSide {
    /// The next request.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            () = self.shared.halted.notified() => Request::Halt,
            () = self.shared.leases_ended.notified() => Request::LeasesEnded,
            Some(call) = self.calls.recv() => Request::Call(call),
            Some(reply) = self.samples.recv() => Request::Sample(reply),
        }
    }

    pub fn try_next_call(&mut self) -> Option<Call> {
        self.calls.try_recv().ok()
    }

    pub fn take_ended_leases(&self) -> Vec<LeaseId> {
        std::mem::take(&mut *lock(&self.shared.ended_leases))
    }

    /// What readers see, and who waits for it.
    pub fn published(&self) -> &Arc<Published> {
        &self.shared.published
    }

    /// Says that the engine turns.
    pub fn turned(&self) {
        let since_start = now().saturating_duration_since(self.shared.started).as_millis();
        self.shared.turned_at_ms.store(u64::try_from(since_start).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What a panicking thread left behind is still whole: every change under these locks is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::testing::door;
    use super::*;
    use crate::model::names::{Namespace, ServiceName};

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: Namespace::default(), service: ServiceName::new(name).unwrap() }
    }

    async fn returns(future: impl Future) -> bool {
        tokio::time::timeout(Duration::from_millis(20), future).await.is_ok()
    }

    #[tokio::test]
    async fn only_those_whom_a_change_concerns_are_woken() {
        let (handle, driver) = door();
        let (mut web, mut db, mut any) = (handle.watch([key("web"), key("api")]), handle.watch([key("db")]), handle.watch_all());
        driver.published().wake(&Changed::Services(vec![key("api")]));
        assert!(returns(web.changed()).await);
        assert!(returns(any.changed()).await);
        assert!(!returns(db.changed()).await);
        assert!(!returns(web.changed()).await, "one change wakes once");
        driver.published().wake(&Changed::Any);
        assert!(returns(db.changed()).await);
    }

    #[tokio::test]
    async fn a_dropped_watch_leaves_nothing_behind() {
        let (handle, _driver) = door();
        drop(handle.watch([key("web")]));
        assert!(handle.shared.published.is_unwatched());
    }

    #[tokio::test]
    async fn a_dropped_lease_reaches_the_driver_even_when_the_channel_is_full() {
        let (handle, mut driver) = door();
        let opening = tokio::spawn({
            let handle = handle.clone();
            async move { handle.open_lease(None).await }
        });
        let Request::Call(call) = driver.next().await else { panic!("a call") };
        call.reply.send(Ok(Reply::Lease(LeaseId(7)))).unwrap();
        drop(call.permit);
        let lease = opening.await.unwrap().ok().unwrap();
        for _ in 0..COMMANDS_MAX {
            assert!(handle.call(Command::ListKeys).now_or_never().is_none(), "it waits, and is not taken back");
        }
        assert!(matches!(handle.call(Command::ListKeys).await, Err(Refusal::Busy { .. })));
        drop(lease);
        assert!(matches!(driver.next().await, Request::LeasesEnded));
        assert_eq!(driver.take_ended_leases(), [LeaseId(7)]);
    }

    #[tokio::test]
    async fn without_a_driver_commands_are_refused_and_watches_end() {
        let (handle, driver) = door();
        let mut watch = handle.watch([key("web")]);
        driver.published().stop();
        drop(driver);
        assert!(returns(watch.changed()).await && handle.is_stopping());
        assert!(matches!(handle.call(Command::ListKeys).await, Err(Refusal::Unavailable { .. })));
    }
}
