//! `GET /api/v1/watch`: server-sent events.
//!
//! ```text
//!            no id, or one that cannot be resumed (then `resync` goes first)
//!   connect ─────────────────────────────────────────▶ Snapshot ── put … put, synced ──▶ Live ⟲ put, remove, keep-alive
//!      │                                                  ▲                               │
//!      └── Last-Event-ID of this agent, in the journal ───┼──────────────────────────────▶│
//!                                                         └── resync: the journal no longer reaches ──┘
//! ```
//!
//! The stream is pulled by the connection, so a slow reader holds no queue: it falls behind in the journal that all share. One that is
//! further behind than [`BEHIND_BYTES_MAX`] is closed, and resumes by its last id. An event's bytes are made once for all readers.
//!
//! Services of another datacenter that are known by their summaries are fetched, and kept fetched, while somebody watches them by name;
//! `synced` says by `complete` whether all that is watched was here, and comes again once it is. Who watches all services of another
//! datacenter sees those that are.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Response, Uri};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use serde_json::json;

use super::answer::REVISION;
use super::encode::{self, Decoded, With};
use super::fetch::Lookup;
use super::places::Asked;
use super::query::{FILTERS, Query};
use super::refuse::No;
use super::request::{Parameters, service_key, wrong};
use super::state::Api;
use crate::agent::handle::{self, wall_ms};
use crate::model::names::ServiceKey;
use crate::view::{Batch, Change, Changes, DatacenterView, Entry, Event, LinkState, Namespaces, RemoveReason, View};

/// A reader that would have to be sent more than this at once is closed.
const BEHIND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A snapshot is handed to the connection in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Services one reader may name.
const SERVICES_MAX: usize = 1_024;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub async fn watch(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["service"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    if !matches!(query.asked, Asked::Own | Asked::Other(_)) {
        return Err(wrong("dc", "a stream follows one datacenter"));
    }
    let services: Vec<&str> = parameters.all("service").collect();
    if services.len() > SERVICES_MAX {
        return Err(wrong("service", format!("at most {SERVICES_MAX} of them")));
    }
    let interest = Interest::of(&query.namespaces, &services)?;
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default().to_owned());
    let names = services.into_iter().map(str::to_owned).collect();
    let watch = Watch::begin(api, query, names, interest, last_id.as_deref());
    let revision = watch.view.revision;
    let mut response = Response::new(Body::from_stream(stream::unfold(watch, Watch::step)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REVISION, revision.into());
    Ok(response)
}

/// Which services a reader follows.
enum Interest {
    These(Vec<ServiceKey>),
    /// By name in all namespaces.
    Named(Vec<String>),
    All(Namespaces),
}

impl Interest {
    fn of(namespaces: &Namespaces, services: &[&str]) -> Result<Self, No> {
        match namespaces {
            _ if services.is_empty() => Ok(Interest::All(namespaces.clone())),
            Namespaces::One(namespace) => {
                services.iter().map(|name| service_key(namespace.clone(), name)).collect::<Result<_, _>>().map(Interest::These)
            }
            Namespaces::All => Ok(Interest::Named(services.iter().map(|&name| name.to_owned()).collect())),
        }
    }

    fn holds(&self, key: &ServiceKey) -> bool {
        match self {
            Interest::These(keys) => keys.contains(key),
            Interest::Named(names) => names.iter().any(|name| name == key.service.as_str()),
            Interest::All(Namespaces::One(namespace)) => key.namespace == *namespace,
            Interest::All(Namespaces::All) => true,
        }
    }

    /// Whether nothing of it changed after `revision`, without a look at the journal.
    fn is_unchanged_since(&self, view: &View, revision: u64) -> bool {
        let Interest::These(keys) = self else { return false };
        revision <= view.revision && keys.iter().all(|key| view.revision_of(key.namespace.as_str(), key.service.as_str()) <= revision)
    }
}

enum Phase {
    Snapshot { after: Option<ServiceKey>, is_resync: bool },
    Live,
    Ended,
}

struct Watch {
    api: Api,
    query: Query,
    /// The services that the reader names.
    names: Vec<String>,
    interest: Interest,
    wake: handle::Watch,
    phase: Phase,
    /// What is being told: the snapshot's, or the last one that was looked at.
    view: Arc<View>,
    /// What else is known of the datacenter that it is of, where that is not the own one.
    other: Option<Arc<DatacenterView>>,
    /// Whether the instances of all that is watched were here at some time since the snapshot.
    was_complete: bool,
    /// All that happened up to here was told.
    seen: u64,
    /// It came back with an id, and has not been told what it missed yet.
    is_resuming: bool,
    /// By whose rules it was let in.
    rules: tokio::sync::watch::Receiver<u64>,
}

impl Watch {
    fn begin(api: Api, query: Query, names: Vec<String>, interest: Interest, last_id: Option<&str>) -> Self {
        api.counted.watchers.inc();
        // The watch stands before the first look, or a change between the two would be missed.
        let wake = match (&interest, &query.asked) {
            (Interest::These(keys), Asked::Own) => api.handle.watch(keys.iter().cloned()),
            _ => api.handle.watch_all(),
        };
        let (view, other) = picture(&api, &query.asked);
        let resumed = last_id.and_then(|id| own_revision(&api.agent, id)).filter(|&revision| {
            interest.is_unchanged_since(&view, revision) || matches!(view.changes_since(revision), Changes::Batches(_))
        });
        let (phase, seen) = match resumed {
            Some(revision) => (Phase::Live, revision),
            None => (Phase::Snapshot { after: None, is_resync: last_id.is_some() }, 0),
        };
        let rules = api.handle.guard().exchanges();
        let is_resuming = resumed.is_some();
        let mut watch = Self { api, query, names, interest, wake, phase, view, other, was_complete: false, seen, is_resuming, rules };
        watch.was_complete = watch.is_complete();
        watch
    }

    /// The next bytes for the reader; waits until there are some.
    async fn step(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        loop {
            // A token that is taken away hears nothing more; who still has one comes back with the last id.
            if self.rules.has_changed().unwrap_or(true) {
                return None;
            }
            let bytes = match self.phase {
                Phase::Snapshot { .. } => self.snapshot(),
                Phase::Live => self.live().await,
                Phase::Ended => return None,
            };
            if !bytes.is_empty() {
                return Some((Ok(bytes), self));
            }
        }
    }

    /// A piece of the snapshot; the last one ends with `synced`.
    fn snapshot(&mut self) -> Bytes {
        let with = self.with();
        let Phase::Snapshot { after, is_resync } = &mut self.phase else { return Bytes::new() };
        let mut text = BytesMut::new();
        if std::mem::take(is_resync) {
            text.put_slice(event("resync", None, &encode::to_bytes(&json!({"revision": self.view.revision}))).as_ref());
        }
        let from = after.clone();
        let services = self.view.services_in(&self.query.namespaces, from.as_ref());
        for service in services.filter(|service| self.interest.holds(&service.key)) {
            let age_ms = self
                .other
                .as_ref()
                .map_or(0, |other| other.age_of(service.key.namespace.as_str(), service.key.service.as_str(), wall_ms()));
            for one in self.query.filter.select(service).filter_map(Decoded::of) {
                // Without an id: who is cut off in the middle of a snapshot begins it again.
                text.put_slice(event("put", None, &encode::to_bytes(&one.aged(age_ms).show(with))).as_ref());
            }
            if text.len() >= PIECE_BYTES {
                *after = Some(service.key.clone());
                return text.freeze();
            }
        }
        self.seen = self.view.revision;
        self.phase = Phase::Live;
        self.was_complete = self.is_complete();
        text.put_slice(&self.synced());
        text.freeze()
    }

    /// All that was here up to now is told.
    fn synced(&self) -> Bytes {
        let data = json!({"revision": self.seen, "complete": self.was_complete});
        event("synced", Some(&self.id(self.seen)), &encode::to_bytes(&data))
    }

    /// Whether the instances of all that is watched are here.
    fn is_complete(&self) -> bool {
        let Some(other) = &self.other else { return true };
        let is_here = |key: &ServiceKey| other.lacks(key.namespace.as_str(), key.service.as_str()).is_none();
        let are_here = match &self.interest {
            Interest::These(keys) => keys.iter().all(is_here),
            interest => other.summaries.iter().all(|one| !interest.holds(&one.key) || is_here(&one.key)),
        };
        are_here && other.state != LinkState::Lagging
    }

    /// What happened since the last look; waits if nothing did. Empty only when the phase changed or nothing of it concerns the reader.
    async fn live(&mut self) -> Bytes {
        (self.view, self.other) = picture(&self.api, &self.query.asked);
        if self.interest.is_unchanged_since(&self.view, self.seen) {
            self.seen = self.view.revision;
        }
        let text = match self.view.changes_since(self.seen) {
            Changes::Resync => {
                self.phase = Phase::Snapshot { after: None, is_resync: true };
                return Bytes::new();
            }
            Changes::Batches(batches) => self.tell(&batches),
        };
        let Some(text) = text else {
            // Closed here, a reader that has just come back would only come back again.
            let anew = Phase::Snapshot { after: None, is_resync: true };
            self.phase = if self.is_resuming { anew } else { Phase::Ended };
            return Bytes::new();
        };
        self.is_resuming = false;
        self.seen = self.view.revision;
        if !self.was_complete && self.is_complete() {
            self.was_complete = true;
            return [text, self.synced()].concat().into();
        }
        if !text.is_empty() {
            return text;
        }
        if self.api.handle.is_stopping() {
            self.phase = Phase::Ended;
            return Bytes::new();
        }
        let woken = tokio::time::timeout(KEEP_ALIVE, self.wake.changed());
        let lookup = Lookup::of(&self.query, self.names.iter().map(String::as_str));
        let woken = async {
            match &lookup {
                // For a request that may read, as this one may.
                Some(lookup) => self.api.handle.looking_up(lookup, woken).await,
                None => woken.await,
            }
        };
        let woken = tokio::select! {
            woken = woken => woken.is_ok(),
            changed = self.rules.changed() => {
                self.phase = Phase::Ended;
                changed.is_ok()
            }
        };
        if woken { Bytes::new() } else { Bytes::from_static(b": keep-alive\n\n") }
    }

    /// The events of these batches; none, if that is more than a reader may be behind.
    fn tell(&self, batches: &[&Arc<Batch>]) -> Option<Bytes> {
        let mut text = BytesMut::new();
        for batch in batches {
            for (i, change) in batch.changes.iter().enumerate().filter(|(_, change)| self.interest.holds(&change.service)) {
                let Some(event) = change.event(&self.query.filter) else { continue };
                // Whoever is cut off inside a batch is told all of it again: before its last change, the revision is not reached.
                let revision = if i + 1 == batch.changes.len() { batch.revision } else { batch.revision - 1 };
                match event {
                    Event::Put(entry) => text.put_slice(&self.put(change, entry, revision)),
                    Event::Remove(entry, reason) => text.put_slice(&self.remove(entry, reason, batch.revision, revision)),
                }
                if text.len() > BEHIND_BYTES_MAX {
                    return None;
                }
            }
        }
        Some(text.freeze())
    }

    fn put(&self, change: &Change, entry: &Entry, revision: u64) -> Bytes {
        let encode = || {
            let data = Decoded::of(entry).map(|one| encode::to_bytes(&one.show(self.with())));
            event("put", Some(&self.id(revision)), &data.unwrap_or_default())
        };
        if self.query.with.ext { encode() } else { change.encoded.get_or_init(encode).clone() }
    }

    fn remove(&self, entry: &Entry, reason: RemoveReason, at: u64, revision: u64) -> Bytes {
        let Some(one) = Decoded::of(entry) else { return Bytes::new() };
        let data = json!({
            "uid": entry.uid.to_string(),
            "id": one.key.id.as_str(),
            "service": one.key.name.as_str(),
            "namespace": one.key.namespace.as_str(),
            "datacenter": entry.node.datacenter,
            "node": entry.node.name,
            "reason": reason.as_str(),
            "revision": at,
        });
        event("remove", Some(&self.id(revision)), &encode::to_bytes(&data))
    }

    /// Reasons are left out: events are the same for all readers.
    fn with(&self) -> With {
        With { why: false, ext: self.query.with.ext }
    }

    fn id(&self, revision: u64) -> String {
        format!("{}-{revision}", self.api.agent)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.api.counted.watchers.dec();
    }
}

/// What is followed: the own datacenter, or another as far as it is known. One that was forgotten is empty, which a `resync` tells.
fn picture(api: &Api, asked: &Asked) -> (Arc<View>, Option<Arc<DatacenterView>>) {
    let view = api.handle.view();
    let Asked::Other(name) = asked else { return (view, None) };
    let other = view.datacenters.iter().find(|known| known.name == *name).cloned();
    (other.as_ref().map_or_else(|| Arc::new(View::default()), |known| Arc::clone(&known.view)), other)
}

/// The revision in an event id, if it is this agent's.
fn own_revision(agent: &str, id: &str) -> Option<u64> {
    id.strip_prefix(agent)?.strip_prefix('-')?.parse().ok()
}

/// JSON has no line breaks of its own, so that one `data:` line holds it.
fn event(name: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(data.len() + 96);
    text.extend_from_slice(b"event: ");
    text.extend_from_slice(name.as_bytes());
    if let Some(id) = id {
        text.extend_from_slice(b"\nid: ");
        text.extend_from_slice(id.as_bytes());
    }
    text.extend_from_slice(b"\ndata: ");
    text.extend_from_slice(data);
    text.extend_from_slice(b"\n\n");
    text.into()
}
