//! Checks that this agent runs for its own instances and its node (design §5): who is to be checked, when, and which results the engine hears.
//!
//! How one check is carried out is [`probe`]'s. How many results make a flip, and what flapping costs, is the engine's: it hears
//! every result that differs from the record, the first one after it, and the first of all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use self::probe::{Finding, Probes};
use super::handle::Handle;
use crate::model::command::{Command, Target};
use crate::model::instance::{Check, CheckKind, Health};
use crate::model::names::{InstanceId, Namespace, NodeId, ServiceKey};
use crate::model::record::Uid;
use crate::settings;
use crate::view::{Changes, Entry, View};

mod probe;
#[cfg(test)]
mod tests;

/// The first result comes within this time, spread so that a restarted agent does not check everything at once.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// Intervals vary by this share either way, in percent, so that checks do not march in step.
const JITTER_PERCENT: u64 = 10;
/// The longest interval that is slept in one piece; a longer one is a registration's mistake, not ours.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Checks what the view shows as this agent's own, until the agent stops.
pub(super) async fn run(handle: Handle, settings: settings::Checks) {
    let shared = Shared {
        handle: handle.clone(),
        probes: Arc::new(Probes::new(settings.scripts)),
        places: Arc::new(Semaphore::new(settings.concurrent_max)),
    };
    let mut watch = handle.watch_all();
    let mut checked =
        Checked { shared, running: BTreeMap::new(), on_node: Vec::new(), nodes_seen: None, me: NodeId::default(), seen: None };
    while !handle.is_stopping() {
        checked.follow(&handle.view());
        watch.changed().await;
    }
}

/// What all running checks have in common.
#[derive(Clone)]
struct Shared {
    handle: Handle,
    probes: Arc<Probes>,
    places: Arc<Semaphore>,
}

/// The checks that run, by instance.
struct Checked {
    shared: Shared,
    running: BTreeMap<Uid, Vec<Running>>,
    /// Those of the node as such, and the revision of nodes that was followed last.
    on_node: Vec<Running>,
    nodes_seen: Option<u64>,
    me: NodeId,
    /// The revision that was followed last.
    seen: Option<u64>,
}

/// What a check is about.
#[derive(Debug, Clone)]
enum Subject {
    Instance(Target),
    /// This agent's own node.
    Node,
}

impl Subject {
    /// Where the services stand that an alias names.
    fn namespace(&self) -> Namespace {
        match self {
            Subject::Instance(target) => target.namespace.clone(),
            Subject::Node => Namespace::default(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Instance(target) => write!(f, "{} of {}", target.id, target.service),
            Subject::Node => f.write_str("the node"),
        }
    }
}

struct Running {
    check: Check<'static>,
    _task: AbortOnDropHandle<()>,
}

impl Checked {
    fn follow(&mut self, view: &View) {
        let changes = self.seen.filter(|_| self.me == view.agent.id).map(|seen| view.changes_since(seen));
        self.me = view.agent.id;
        self.seen = Some(view.revision);
        match changes {
            Some(Changes::Batches(batches)) => {
                for change in batches.iter().flat_map(|batch| &batch.changes) {
                    let mine = change.after.as_ref().filter(|entry| entry.node.id == self.me);
                    if mine.is_some() || self.running.contains_key(&change.uid()) {
                        self.set(change.uid(), &change.service, mine);
                    }
                }
            }
            Some(Changes::Resync) | None => self.look_at_all(view),
        }
        if self.nodes_seen.replace(view.nodes_revision) != Some(view.nodes_revision) {
            let node = view.nodes.iter().find(|node| node.id == self.me);
            let before = std::mem::take(&mut self.on_node);
            let checks = node.map(|node| node.checks.clone()).unwrap_or_default();
            self.on_node = self.go_on(before, &Subject::Node, checks);
        }
    }

    fn look_at_all(&mut self, view: &View) {
        let (mut gone, me) = (std::mem::take(&mut self.running), self.me);
        for service in view.services(None) {
            for entry in service.entries.iter().filter(|entry| entry.node.id == me) {
                if let Some(running) = gone.remove(&entry.uid) {
                    self.running.insert(entry.uid, running);
                }
                self.set(entry.uid, &service.key, Some(entry));
            }
        }
    }

    /// Brings what runs for an instance in line with what is registered; a check that did not change goes on undisturbed.
    fn set(&mut self, uid: Uid, service: &ServiceKey, entry: Option<&Entry>) {
        let before = self.running.remove(&uid).unwrap_or_default();
        let Some((key, instance)) = entry.and_then(|entry| entry.instance().ok()) else { return };
        let Ok(id) = InstanceId::new(&key.id) else { return };
        let target = Target { namespace: service.namespace.clone(), service: service.service.clone(), id, uid: Some(uid) };
        let now = self.go_on(before, &Subject::Instance(target), instance.checks);
        if !now.is_empty() {
            self.running.insert(uid, now);
        }
    }

    /// What runs from now on: of what ran before, what is still to be checked the same way, and the new.
    fn go_on(&self, mut before: Vec<Running>, subject: &Subject, checks: Vec<Check<'_>>) -> Vec<Running> {
        let to_run = checks.into_iter().filter(|check| !matches!(check.kind, CheckKind::Ttl { .. }));
        let running = to_run.map(|check| match before.iter().position(|running| is_same(&running.check, &check)) {
            Some(at) => before.swap_remove(at),
            None => self.start(subject.clone(), check.into_owned()),
        });
        running.collect()
    }

    fn start(&self, subject: Subject, check: Check<'static>) -> Running {
        let task = tokio::spawn(keep_checking(self.shared.clone(), subject, check.clone()));
        Running { check, _task: AbortOnDropHandle::new(task) }
    }
}

/// Whether the two do the same; what they found does not count.
fn is_same(a: &Check<'_>, b: &Check<'_>) -> bool {
    // A shorter lifetime than the checks' own suits a comparison.
    fn what<'c>(check: &'c Check<'_>) -> (&'c str, &'c CheckKind<'c>, u64, u64) {
        (&check.id, &check.kind, check.interval_ms, check.timeout_ms)
    }
    what(a) == what(b)
}

async fn keep_checking(shared: Shared, subject: Subject, check: Check<'static>) {
    let interval = Duration::from_millis(check.interval_ms.max(1)).min(INTERVAL_MAX);
    let mut alias = match &check.kind {
        CheckKind::Alias { service } => crate::model::names::ServiceName::new(service)
            .ok()
            .map(|service| shared.handle.watch([ServiceKey { namespace: subject.namespace(), service }])),
        _ => None,
    };
    tokio::time::sleep(random_below(interval.min(FIRST_WITHIN))).await;
    // The first result is always told.
    let mut is_told_on = true;
    loop {
        let finding = {
            let _place = shared.places.acquire().await.expect("nobody closes the semaphore");
            find(&shared, &subject, &check).await
        };
        let differs = recorded(&shared.handle.view(), &subject, &check.id) != Some(finding.state);
        if differs || is_told_on {
            tell(&shared.handle, &subject, &check, finding).await;
        }
        is_told_on = differs;
        tokio::select! {
            () = tokio::time::sleep(jittered(interval)) => {}
            _ = async { match &mut alias {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            } } => {}
        }
    }
}

async fn find(shared: &Shared, subject: &Subject, check: &Check<'static>) -> Finding {
    if let CheckKind::Alias { service } = &check.kind {
        return as_healthy_as(&shared.handle.view(), subject.namespace().as_str(), service);
    }
    shared.probes.run(&check.kind, Duration::from_millis(check.timeout_ms.max(1))).await
}

/// What the record says of this check.
fn recorded(view: &View, subject: &Subject, check: &str) -> Option<Health> {
    let state_in = |checks: &[Check<'_>]| checks.iter().find(|known| known.id.as_str() == check).map(|known| known.state);
    match subject {
        Subject::Instance(target) => {
            let service = view.service(target.namespace.as_str(), target.service.as_str())?;
            let (_, instance) = service.find(target.uid?)?.instance().ok()?;
            state_in(&instance.checks)
        }
        Subject::Node => state_in(&view.nodes.iter().find(|node| node.id == view.agent.id)?.checks),
    }
}

async fn tell(handle: &Handle, subject: &Subject, check: &Check<'static>, finding: Finding) {
    let Finding { state, output } = finding;
    tracing::debug!(of = %subject, check = %check.id, %state, "a check found");
    let id = check.id.to_string();
    let command = match subject {
        Subject::Instance(target) => Command::CheckResult { target: target.clone(), check: id, state, output },
        Subject::Node => Command::NodeCheckResult { check: id, state, output },
    };
    if let Err(why) = handle.call(command).await {
        // Told again with the next result; an instance that is gone takes its checks with it.
        tracing::debug!(of = %subject, check = %check.id, %why, "a result was not taken");
    }
}

/// The worst of this agent's own instances of a service.
fn as_healthy_as(view: &View, namespace: &str, service: &str) -> Finding {
    let entries = view.service(namespace, service).map(|found| &found.entries[..]).unwrap_or_default();
    let mine = entries.iter().filter(|entry| entry.node.id == view.agent.id);
    // Without the node's share: an alias on the node itself would never be well again.
    let own = mine.filter_map(|entry| entry.instance().ok()).map(|(_, instance)| instance.health());
    match own.max() {
        Some(state) => Finding { state, output: format!("{service} is {state} at this agent") },
        None => Finding { state: Health::Critical, output: format!("this agent has no instance of {service}") },
    }
}

fn jittered(interval: Duration) -> Duration {
    let share = |percent: u64| interval * u32::try_from(percent).unwrap_or(0) / 100;
    interval - share(JITTER_PERCENT) + random_below(share(2 * JITTER_PERCENT))
}

fn random_below(limit: Duration) -> Duration {
    let mut bytes = [0; 8];
    // Without entropy there is no jitter, which costs evenness only.
    let _ = getrandom::fill(&mut bytes);
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(u64::from_le_bytes(bytes) % millis.max(1))
}
