//! The last changes of what this agent sees, so that a person can read what happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::encode::{self, Decoded};
use crate::agent::handle::{Handle, wall_ms};
use crate::model::names::NodeId;
use crate::model::node::Liveness;
use crate::schema;
use crate::view::{Changes, Entry, Event, Filter, MemberView, View};

/// Events that are kept.
pub const EVENTS_MAX: usize = 1_000;

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<schema::Event>>);

impl Events {
    /// The newest of them, oldest first.
    pub fn last(&self, limit: usize) -> Vec<schema::Event> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(limit)).cloned().collect()
    }

    fn push(&self, events: Vec<schema::Event>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(events);
        let surplus = kept.len().saturating_sub(EVENTS_MAX);
        kept.drain(..surplus);
    }

    /// Notes what each view changed, until the agent stops.
    pub async fn follow(&self, handle: &Handle) {
        let mut watch = handle.watch_all();
        let mut before = handle.view();
        while !handle.is_stopping() {
            let after = watch.changed().await;
            if after.revision != before.revision {
                self.push(changes(&before, &after));
                before = after;
            }
        }
    }
}

/// What a person would say changed between two views.
fn changes(before: &View, after: &View) -> Vec<schema::Event> {
    let at = encode::instant(wall_ms());
    let note = |revision: u64, about: &str, name: String, what: &str, detail: &str| schema::Event {
        at: at.clone(),
        revision,
        about: about.to_owned(),
        name,
        what: what.to_owned(),
        detail: detail.to_owned(),
    };
    let mut events = Vec::new();
    if before.agent != after.agent {
        let facts = [
            (before.agent.is_ready, after.agent.is_ready, "ready", "not ready"),
            (before.agent.is_cut_off, after.agent.is_cut_off, "cut off", "reconnected"),
            (before.agent.is_leaving, after.agent.is_leaving, "leaving", "staying"),
        ];
        let turned = facts.iter().filter(|(was, is, ..)| was != is);
        events
            .extend(turned.map(|(_, is, yes, no)| note(after.revision, "agent", after.agent.name.clone(), if *is { yes } else { no }, "")));
    }
    if before.members_revision != after.members_revision {
        events.extend(member_changes(before, after).map(|(name, what, detail)| note(after.revision, "member", name, what, &detail)));
    }
    match after.changes_since(before.revision) {
        Changes::Resync => {
            events.push(note(after.revision, "agent", after.agent.name.clone(), "loaded", "more changes at once than are kept"))
        }
        Changes::Batches(batches) => {
            let all = Filter::any();
            let total: usize = batches.iter().map(|batch| batch.changes.len()).sum();
            let changes = batches.iter().flat_map(|batch| batch.changes.iter().map(|change| (batch.revision, change)));
            for (revision, change) in changes.skip(total.saturating_sub(EVENTS_MAX)) {
                let Some(event) = change.event(&all) else { continue };
                let (entry, what, reason) = match event {
                    Event::Put(entry) => (entry, if change.before.is_some() { "changed" } else { "put" }, state(entry)),
                    Event::Remove(entry, reason) => (entry, "removed", reason.as_str().to_owned()),
                };
                let Some(one) = Decoded::of(entry) else { continue };
                events.push(note(revision, "instance", format!("{}/{}", change.service, one.key.id.as_str()), what, &reason));
            }
        }
    }
    events
}

fn member_changes(before: &View, after: &View) -> impl Iterator<Item = (String, &'static str, String)> {
    let (old, new) = (by_id(before), by_id(after));
    let forgotten: Vec<_> =
        old.iter().filter(|(id, _)| !new.contains_key(id)).map(|(_, member)| (shown(member), "forgotten", String::new())).collect();
    let turned: Vec<_> = new
        .iter()
        .filter_map(|(id, member)| match old.get(id) {
            None => Some((shown(member), "joined", member.state.as_str().to_owned())),
            Some(known) if known.state != member.state => {
                Some((shown(member), member.state.as_str(), format!("was {}", known.state.as_str())))
            }
            Some(known) if known.word.is_some() != member.word.is_some() => {
                let reason = member.word.as_ref().map(|word| word.reason.as_str().to_owned()).unwrap_or_default();
                Some((shown(member), if member.word.is_some() { "override" } else { "override taken back" }, reason))
            }
            Some(_) => None,
        })
        .collect();
    forgotten.into_iter().chain(turned)
}

fn by_id(view: &View) -> BTreeMap<NodeId, &MemberView> {
    view.members.iter().map(|member| (member.id, &**member)).collect()
}

/// An instance's health, and what besides it decides on whether it is handed out.
fn state(entry: &Entry) -> String {
    let health = entry.health.as_str();
    match entry.node.liveness {
        _ if !entry.is_enabled() => format!("{health}, disabled"),
        Liveness::Alive => health.to_owned(),
        Liveness::Suspect => format!("{health}, its agent is suspected"),
        Liveness::Unverified => format!("{health}, nobody vouches for its agent"),
        Liveness::Down => format!("{health}, its agent is down"),
        Liveness::Left => format!("{health}, its agent left"),
    }
}

/// A member's name, or its address while its name has not come.
fn shown(member: &MemberView) -> String {
    if member.name.is_empty() { member.gossip.to_string() } else { member.name.clone() }
}
