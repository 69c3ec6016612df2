//! External nodes: names and addresses in the catalog that no agent answers for (protocol §2, scope `node`).
//!
//! A node and each instance in its scope are records of datacenter-wide keys: any agent registers or deregisters them, and the highest
//! claim counts. The rule of their lives:
//!
//! - They have no agent of their own, so nobody's death touches them: they stay as their records say when the agent that wrote them is
//!   down, has left or is given up; whoever gives it up issues them anew (see [`super::reaping`]). No lease and no timer runs on them,
//!   and no check is made: what their checks say is what a client last said.
//! - An instance is shown only while its node is: its name, address, zone and metadata are the node's, not the origin's.
//! - Who deregisters a node ends with it what it holds of its instances. An agent that hears of the end of a node deletes its own
//!   instances there, so that one registered meanwhile elsewhere does not turn up when the node is registered again.
//! - Where an agent claims the name of an external node, the agent has it; the external one is shown as `name~external`.

use super::commands::encode;
use super::node_checks::{check_count, date_checks};
use super::nodes::owned_pairs;
use super::{Catalog, Urgency, claims};
use crate::model::command::{Refusal, Reply, WriteResult, Written};
use crate::model::instance::Check;
use crate::model::names::{NodeId, NodeName};
use crate::model::node::{Liveness, NodeInfo};
use crate::model::record::{Claim, Content, Key, Kind, RecordState, Scope, Uid};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::Node;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Instances of nodes that ended which are deleted in one turn.
const TURN: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Externals {
    by_name: BTreeMap<Arc<str>, External>,
    /// Names of the nodes that are shown, by their uid.
    names: BTreeMap<Uid, Arc<str>>,
    /// Instances in the scope of a node, shown or not, by their uid.
    places: BTreeMap<Uid, Arc<str>>,
    /// Instances of nodes that ended, to be deleted unless they were claimed again since.
    doomed: VecDeque<(Uid, Claim)>,
}

#[derive(Debug, Default)]
struct External {
    /// As instances refer to it; none while only instances name it.
    node: Option<Arc<Node>>,
    instances: BTreeSet<Uid>,
}

impl Externals {
    /// Something of nodes that ended is still to be deleted.
    pub fn is_behind(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// The node that an instance of that scope is shown on; notes where the instance is.
    pub fn place(&mut self, uid: Uid, name: &str) -> Option<&Arc<Node>> {
        if !self.places.contains_key(&uid) {
            let name = self.by_name.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
            self.by_name.entry(Arc::clone(&name)).or_default().instances.insert(uid);
            self.places.insert(uid, name);
        }
        self.by_name.get(name)?.node.as_ref()
    }

    /// There is no instance of that uid any more.
    pub fn unplace(&mut self, uid: Uid) {
        let Some(name) = self.places.remove(&uid) else { return };
        if let Some(external) = self.by_name.get_mut(&name) {
            external.instances.remove(&uid);
            if external.instances.is_empty() && external.node.is_none() {
                self.by_name.remove(&name);
            }
        }
    }

    fn show(&mut self, name: &Arc<str>, node: Option<Arc<Node>>) {
        let external = self.by_name.entry(Arc::clone(name)).or_default();
        external.node = node;
        if external.instances.is_empty() && external.node.is_none() {
            self.by_name.remove(name);
        }
    }
}

impl Catalog {
    pub(super) fn register_node(&mut self, now: Now, name: &NodeName, info: &NodeInfo<'static>) -> Result<(Reply, bool), Refusal> {
        if self.agents_named(name.as_str()).next().is_some() {
            return Err(Refusal::Invalid { what: format!("node {name} is an agent's: register there") });
        }
        let uid = node_key(name.as_str()).uid(self.me);
        let before = claims::visible(&self.table, uid).and_then(|slot| slot.content()).cloned();
        let before = before.as_ref().and_then(|content| content.decode::<NodeInfo<'_>>().ok()).map(|(_, info)| info);
        let mut info = info.clone();
        let kept = before.iter().flat_map(|before| &before.checks);
        let kept: Vec<_> = kept.filter(|known| info.checks.iter().all(|check| check.id != known.id)).cloned().collect();
        info.checks.extend(kept.into_iter().map(Check::into_owned));
        self.write_external(now, name.as_str(), before.as_ref(), info)
    }

    /// Writes an external node as it is to be, under a new claim of this agent's.
    pub(super) fn write_external(
        &mut self,
        now: Now,
        name: &str,
        before: Option<&NodeInfo<'_>>,
        mut info: NodeInfo<'static>,
    ) -> Result<(Reply, bool), Refusal> {
        let key = node_key(name);
        let uid = key.uid(self.me);
        info.checks.sort_by(|a, b| a.id.cmp(&b.id));
        check_count(&info.checks)?;
        date_checks(now, before.map_or(&[], |before| &before.checks), &mut info.checks);
        let reply = |result| Reply::Written(Written { uid, result, revision: 0 });
        if before == Some(&info) {
            return Ok((reply(WriteResult::Unchanged), false));
        }
        let content = encode(&key, &info)?;
        let claim = claims::next(&self.table, uid, now.wall_ms);
        let is_worse = info.health() > before.map(NodeInfo::health).unwrap_or_default();
        let urgency = if is_worse { Urgency::Removal } else { Urgency::Registration };
        self.write(now, uid, claim, RecordState::Live(content), urgency);
        Ok((reply(if before.is_some() { WriteResult::Updated } else { WriteResult::Created }), true))
    }

    pub(super) fn deregister_node(&mut self, now: Now, name: &NodeName) -> (Reply, bool) {
        let uid = node_key(name.as_str()).uid(self.me);
        let reply = |result| Reply::Written(Written { uid, result, revision: 0 });
        if claims::visible(&self.table, uid).is_none() {
            return (reply(WriteResult::Absent), false);
        }
        let instances = self.externals.by_name.get(name.as_str()).map(|external| &external.instances);
        for uid in instances.into_iter().flatten() {
            let claim = claims::visible(&self.table, *uid).map(|slot| slot.claim);
            self.externals.doomed.extend(claim.map(|claim| (*uid, claim)));
        }
        // A new claim: what was registered earlier elsewhere, and is not heard of yet, ends as well.
        let claim = claims::next(&self.table, uid, now.wall_ms);
        self.write_tombstone(now, uid, Kind::NODE, claim);
        (reply(WriteResult::Removed), true)
    }

    /// The visible record of an external node.
    pub(super) fn external_record(&self, name: &str) -> Option<NodeInfo<'static>> {
        let slot = claims::visible(&self.table, node_key(name).uid(self.me))?;
        slot.content()?.decode::<NodeInfo<'_>>().ok().map(|(_, info)| info.into_owned())
    }

    /// Some origin's word on a node changed; says whether it was about an external one.
    pub(super) fn external_changed(&mut self, uid: Uid) -> bool {
        let shown = claims::visible(&self.table, uid).and_then(|slot| slot.content()).and_then(external_name);
        let Some(name) = shown.clone().or_else(|| self.externals.names.get(&uid).cloned()) else { return false };
        if shown.is_some() {
            self.externals.names.insert(uid, Arc::clone(&name));
        } else {
            self.externals.names.remove(&uid);
            self.doom_own_instances(uid, &name);
        }
        self.reshow_external(&name);
        true
    }

    /// The node was deleted, not merely its origin forgotten: what this agent has there goes with it.
    fn doom_own_instances(&mut self, uid: Uid, name: &str) {
        let is_deleted = claims::winner(&self.table, uid).is_some_and(|ix| !self.table.slot(ix).is_live());
        let Some(external) = self.externals.by_name.get(name).filter(|_| is_deleted) else { return };
        for uid in &external.instances {
            let own = self.table.find(self.own_ix, *uid).map(|ix| self.table.slot(ix)).filter(|slot| slot.is_live());
            self.externals.doomed.extend(own.map(|slot| (*uid, slot.claim)));
        }
    }

    /// Shows an external node, and what is on it, as it is now.
    pub(super) fn reshow_external(&mut self, name: &str) {
        let node = self.describe_external(name).map(Arc::new);
        let known = self.externals.by_name.get_key_value(name);
        let (name, before) = known.map_or_else(|| (Arc::from(name), None), |(name, external)| (Arc::clone(name), external.node.clone()));
        if node == before {
            return;
        }
        self.list_node(before.as_ref(), node.as_ref());
        let instances = self.externals.by_name.get(&name).map(|external| external.instances.iter().copied().collect::<Vec<_>>());
        self.externals.show(&name, node);
        for uid in instances.into_iter().flatten() {
            self.mark_urgent(uid);
        }
    }

    fn describe_external(&self, name: &str) -> Option<Node> {
        let info = self.external_record(name)?;
        let is_agents = self.agents_named(name).next().is_some();
        Some(Node {
            id: NodeId(node_key(name).uid(NodeId::default()).0),
            name: if is_agents { format!("{name}~external") } else { name.to_owned() },
            address: info.address.as_str().to_owned(),
            zone: info.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            datacenter: if info.datacenter.is_empty() { &self.host.info.datacenter } else { &info.datacenter }.as_str().to_owned(),
            metadata: owned_pairs(&info.metadata),
            is_external: true,
            liveness: Liveness::Alive,
            word: self.nodes.words.get(name).cloned(),
            checks: info.checks,
        })
    }

    /// Deletes the next instances of nodes that ended.
    pub(super) fn end_doomed(&mut self, now: Now) {
        for _ in 0..TURN {
            let Some((uid, doomed)) = self.externals.doomed.pop_front() else { return };
            if self.config.is_import {
                continue;
            }
            let Some(claim) = claims::visible(&self.table, uid).map(|slot| slot.claim).filter(|claim| *claim <= doomed) else { continue };
            self.write_tombstone(now, uid, Kind::INSTANCE, claim);
        }
    }
}

/// The key of an external node's record.
fn node_key(name: &str) -> Key<'static> {
    let text = |text: &str| Text::from(text.to_owned());
    Key { kind: Kind::NODE, scope: Scope::Node(text(name)), namespace: Text::default(), name: text(name), id: Text::default() }
}

/// Whose record it is, if it is an external node's.
fn external_name(content: &Content) -> Option<Arc<str>> {
    let key = content.key().ok()?;
    match key.scope {
        Scope::Node(name) => Some(Arc::from(name.as_str())),
        Scope::Agent | Scope::Datacenter => None,
    }
}
