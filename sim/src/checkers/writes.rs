//! Invariant 3: what was acknowledged is durable and in the view of the agent that answered; at rest it is in every view, unless it was
//! superseded or deleted.

use super::{Checker, Scene};
use crate::history::{History, OpId, Operation, Outcome};
use crate::plan::Intent;
use crate::violation::Violation;
use crate::workload::{Client, written_by};
use crate::world::{HostId, Note};
use tidings::model::command::{Refusal, WriteResult};
use tidings::model::names::NodeId;
use tidings::model::record::{Claim, RecordState, Uid};

/// Keeps nothing: the history does.
pub struct Writes;

impl Checker for Writes {
    fn note(&mut self, scene: &Scene<'_>, note: &Note) -> Result<(), Violation> {
        let Note::Reply { host, token, outcome: Ok(_) } = note else { return Ok(()) };
        let Some(operation) = scene.history.operation(token.0) else { return Ok(()) };
        let Outcome::Acknowledged { written, .. } = &operation.outcome else { return Ok(()) };
        // What is of an agent's own scope goes on under another uid where the agent gives its node id up to a twin.
        let client = &scene.clients[operation.client as usize];
        let uids = [operation.uid, scene.node(*host).map_or(operation.uid, |node| client.uid(node))];
        if !uids.contains(&written.uid) {
            return Err(scene.violation("writes-what-was-asked", &[*host], format!("{:?}", operation.uid), format!("{:?}", written.uid)));
        }
        // A client that asked again in the meantime may see its later word.
        if operation.intent == Intent::Register && !is_followed(scene.history, operation) {
            let view = scene.view(*host);
            let seen = view.and_then(|view| uids.iter().filter_map(|uid| client.seen(view, *uid)).max());
            if !uids.iter().any(|uid| is_durable(scene, *uid, operation.id)) {
                let expected = format!("operation {} on somebody's disk", operation.id);
                return Err(scene.violation("durable-before-answered", &[*host], expected, "on nobody's".into()));
            }
            // A later view may already show who superseded it.
            let is_later = view.is_some_and(|view| view.revision > written.revision);
            let is_there = is_later || is_superseded(scene, *host, written.uid) || seen.is_some_and(|found| found >= operation.id);
            let is_published = view.is_some_and(|view| view.revision >= written.revision);
            if !(is_there && is_published) {
                let expected = format!("operation {} in the view of revision {}", operation.id, written.revision);
                return Err(scene.violation("read-your-writes", &[*host], expected, format!("{seen:?} in {:?}", view.map(|v| v.revision))));
            }
        }
        Ok(())
    }

    fn at_rest(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        if !scene.is_sharp {
            return Ok(());
        }
        let alive: Vec<NodeId> = scene.running().map(|(_, node)| node).collect();
        for client in scene.clients.iter().filter(|client| client.planned.ttl_ms.is_none()) {
            // Who died for good may have been the only one to know.
            let uids = scene.history.of_client(client.number).map(|operation| operation.uid);
            if uids.flat_map(|uid| scene.truth.authors(uid)).any(|author| !alive.contains(author)) {
                continue;
            }
            for (host, expectation) in expectations(scene, client) {
                let Some(view) = scene.view(host) else { continue };
                let found = expectation.uid.and_then(|uid| client.seen(view, uid));
                if !expectation.allowed.contains(&found) {
                    let expected = format!("of client {} one of the operations {:?}", client.number, expectation.allowed);
                    let told: Vec<String> = scene
                        .history
                        .of_client(client.number)
                        .filter(|op| !matches!(op.intent, Intent::Heartbeat | Intent::Report))
                        .map(|op| {
                            format!("{} {} at {} asked {:.3}: {:?}", op.id, op.intent.name(), op.host, op.asked_at as f64 / 1e9, op.outcome)
                        })
                        .collect();
                    let story = expectation.uid.map(|uid| scene.truth.story(uid));
                    return Err(scene.violation(
                        "acknowledged-stays",
                        &[host, client.at],
                        expected,
                        format!("{found:?}; {story:?}; {}", told.join("; ")),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What may be seen of one client's instance.
struct Expectation {
    uid: Option<Uid>,
    allowed: Vec<Option<u64>>,
}

fn expectations<'a>(scene: &'a Scene<'_>, client: &'a Client) -> impl Iterator<Item = (HostId, Expectation)> + 'a {
    let allowed = outcomes(scene.history, client.number);
    let uid = scene.history.of_client(client.number).next_back().map(|operation| operation.uid);
    let home = scene.datacenter(client.at);
    let beside = scene.running().filter(move |(host, _)| scene.datacenter(*host) == home);
    beside.map(move |(host, _)| (host, Expectation { uid, allowed: allowed.clone() }))
}

/// The operations whose registration may be the last word on a client's instance; none stands for no instance.
///
/// The last acknowledged write counts, and every other one that had not ended when that was asked: an agent that stood still carries out
/// late what its client has long given up.
fn outcomes(history: &History, client: u32) -> Vec<Option<u64>> {
    let mut allowed: Vec<(Option<u64>, u64, Option<Claim>)> = vec![(None, 0, None)];
    // What the client was told to be registered, and when: what it says again is the last of these that it had heard of.
    let mut told: Vec<(u64, OpId)> = Vec::new();
    for operation in history.of_client(client) {
        let known = told.iter().filter(|(at, _)| *at <= operation.asked_at).max_by_key(|(at, _)| *at);
        let registered = known.map(|(_, id)| *id);
        let word = match operation.intent {
            Intent::Register => Some(operation.id),
            Intent::Deregister => None,
            // Each says again what was registered last, as the client knows it: where its origin is out of sight, the agent that is asked
            // takes it over under a new claim.
            Intent::Renew | Intent::Heartbeat | Intent::Report => registered,
        };
        let is_sign_of_life = matches!(operation.intent, Intent::Heartbeat | Intent::Report);
        if is_sign_of_life && registered.is_none() {
            continue;
        }
        match &operation.outcome {
            Outcome::Acknowledged { at, written } => {
                if operation.intent == Intent::Register {
                    told.push((*at, operation.id));
                }
                // There was nothing to remove at an agent that had not heard of it: what others hold stays. A sign of life ends nothing.
                if written.result != WriteResult::Absent && !is_sign_of_life {
                    // Nor does a delete reach what its agent had not heard of yet: a later claim outlives it.
                    let is_unseen = |claim: Option<Claim>| operation.intent == Intent::Deregister && claim > operation.saw;
                    allowed.retain(|(_, ended_at, claim)| *ended_at > operation.asked_at || is_unseen(*claim));
                }
                allowed.push((word, *at, operation.claim));
            }
            // The agent could not make it durable in time; its store goes on trying.
            Outcome::Refused { refusal: Refusal::Unavailable { .. }, .. } => allowed.push((word, u64::MAX, None)),
            Outcome::Refused { .. } => {}
            Outcome::Pending | Outcome::Unknown { .. } => allowed.push((word, u64::MAX, None)),
        }
    }
    allowed.into_iter().map(|(word, ..)| word).collect()
}

/// Whether somebody's disk holds what was acknowledged, or what came of it since.
fn is_durable(scene: &Scene<'_>, uid: Uid, id: OpId) -> bool {
    scene.world.host_ids().any(|host| {
        let records = &scene.world.host(host).disk.durable().records;
        let Ok(at) = records.binary_search_by_key(&uid, |(uid, _)| *uid) else { return false };
        match &records[at].1.state {
            RecordState::Live(content) => written_by(content) >= Some(id),
            RecordState::Deleted { .. } => true,
        }
    })
}

/// Whether somebody else's word is above what a host wrote: it may come before the first view that would have shown the write, as to one
/// that was frozen and hears all it missed at once.
fn is_superseded(scene: &Scene<'_>, host: HostId, uid: Uid) -> bool {
    let (Some(engine), Some((origin, word))) = (scene.engine(host), scene.truth.visible(uid, |_| true)) else { return false };
    origin != engine.membership().me().node && engine.catalog().claim(origin, uid) == Some(word.claim)
}

fn is_followed(history: &History, operation: &Operation) -> bool {
    history.of_client(operation.client).next_back().is_some_and(|last| last.id != operation.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::model::command::{Reply, Written};

    fn history(steps: &[(Intent, Option<Result<WriteResult, ()>>)]) -> History {
        let mut history = History::default();
        for (n, (intent, outcome)) in steps.iter().enumerate() {
            let id = n as u64 + 1;
            let operation = Operation {
                id,
                client: 0,
                intent: *intent,
                uid: Uid(1),
                host: HostId(0),
                asked_at: id,
                saw: Some(id),
                claim: Some(id),
                outcome: Outcome::Pending,
            };
            history.ask(operation);
            match outcome {
                None => history.give_up(id, id),
                Some(Ok(result)) => {
                    let written = Written { uid: Uid(1), result: *result, revision: 1 };
                    let _ = history.answer(id, id, &Ok(Reply::Written(written)));
                }
                Some(Err(())) => {
                    let _ = history.answer(id, id, &Err(Refusal::Ambiguous));
                }
            }
        }
        history
    }

    const MADE: Option<Result<WriteResult, ()>> = Some(Ok(WriteResult::Created));
    const REMOVED: Option<Result<WriteResult, ()>> = Some(Ok(WriteResult::Removed));

    #[test]
    fn the_last_acknowledged_write_is_the_only_outcome() {
        assert_eq!(outcomes(&history(&[(Intent::Register, MADE), (Intent::Register, MADE)]), 0), [Some(2)]);
        assert_eq!(outcomes(&history(&[(Intent::Register, MADE), (Intent::Deregister, REMOVED)]), 0), [None]);
        assert_eq!(outcomes(&history(&[(Intent::Register, MADE), (Intent::Register, Some(Err(())))]), 0), [Some(1)]);
    }

    #[test]
    fn a_delete_removes_what_its_agent_had_heard_of_and_no_more() {
        let mut history = history(&[(Intent::Register, MADE), (Intent::Register, MADE)]);
        let deregister = |id, saw| Operation {
            id,
            client: 0,
            intent: Intent::Deregister,
            uid: Uid(1),
            host: HostId(1),
            asked_at: id,
            saw,
            claim: Some(id),
            outcome: Outcome::Acknowledged { at: id, written: Written { uid: Uid(1), result: WriteResult::Removed, revision: 1 } },
        };
        history.ask(deregister(3, Some(1)));
        assert_eq!(outcomes(&history, 0), [Some(2), None], "its agent had not heard of the second registration");
        history.ask(deregister(4, Some(3)));
        assert_eq!(outcomes(&history, 0), [None]);
    }

    #[test]
    fn a_sign_of_life_that_took_the_instance_over_outlives_a_delete_that_had_not_heard_of_it() {
        const TAKEN_OVER: Option<Result<WriteResult, ()>> = Some(Ok(WriteResult::Updated));
        let steps = [(Intent::Register, MADE), (Intent::Report, TAKEN_OVER)];
        let deregister = |saw| Operation {
            id: 3,
            client: 0,
            intent: Intent::Deregister,
            uid: Uid(1),
            host: HostId(1),
            asked_at: 3,
            saw,
            claim: Some(3),
            outcome: Outcome::Acknowledged { at: 3, written: Written { uid: Uid(1), result: WriteResult::Removed, revision: 1 } },
        };
        let mut unseen = history(&steps);
        unseen.ask(deregister(Some(1)));
        assert_eq!(outcomes(&unseen, 0), [Some(1), None], "the first registration, under the claim of the take-over");
        let mut seen = history(&steps);
        seen.ask(deregister(Some(2)));
        assert_eq!(outcomes(&seen, 0), [None]);
    }

    #[test]
    fn what_was_not_answered_may_or_may_not_have_happened() {
        assert_eq!(outcomes(&history(&[(Intent::Register, MADE), (Intent::Deregister, None)]), 0), [Some(1), None]);
        assert_eq!(outcomes(&history(&[(Intent::Register, None)]), 0), [None, Some(1)]);
        assert_eq!(outcomes(&history(&[(Intent::Register, None), (Intent::Register, MADE)]), 0), [Some(1), Some(2)]);
    }
}
