//! Nodes as the catalog shows them: this agent's own record, everybody's names, what a member says of itself.
//!
//! Of two agents with one node name the older claim keeps it, unless only the other lives; the other is shown as `name~1f3a`.

use super::commands::encode;
use super::table::{OriginIx, Slot, State};
use super::{Catalog, Host, Urgency};
use crate::model::names::NodeId;
use crate::model::node::{Liveness, NodeInfo, Override};
use crate::model::record::{Claim, Key, Kind, RecordState, Scope, Seq, Uid};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How origins are shown.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    shown: BTreeMap<OriginIx, Shown>,
    /// Who claims a name.
    names: BTreeMap<String, BTreeSet<OriginIx>>,
    /// Origins that are shown otherwise since somebody asked.
    reshown: BTreeSet<NodeId>,
    /// An operator's word on a node, by its name.
    pub words: BTreeMap<String, Override<'static>>,
}

#[derive(Debug)]
struct Shown {
    liveness: Liveness,
    /// Its instances are listed, if only as not available.
    is_listed: bool,
    /// The name it claims, and since when.
    name: Option<(String, Claim)>,
    /// As entries of the view refer to it.
    node: Arc<Node>,
}

impl Shown {
    /// Whether readers find the node in the list of all.
    fn is_in_list(&self) -> bool {
        self.is_listed && self.liveness != Liveness::Left && self.name.is_some()
    }
}

/// What an agent says of itself in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    /// As it is shown.
    pub name: String,
    /// Another agent has the name it claims.
    pub is_name_taken: bool,
    pub info: NodeInfo<'static>,
    /// Instances it is the origin of.
    pub instances: u64,
    pub word: Option<Override<'static>>,
}

impl Catalog {
    /// Another name or body for this agent's host.
    pub fn set_host(&mut self, now: Now, host: Host) {
        self.host = host;
        self.announce_node(now);
    }

    /// What an agent said of itself; none before its node record came.
    pub fn member_facts(&self, node: NodeId) -> Option<MemberFacts> {
        let ix = self.table.origin_ix(node)?;
        let (_, info) = self.node_record(ix)?;
        let shown = self.nodes.shown.get(&ix)?;
        let (name, _) = shown.name.as_ref()?;
        Some(MemberFacts {
            name: shown.node.name.clone(),
            is_name_taken: shown.node.name != *name,
            info,
            instances: u64::from(self.table.origin(ix).instances),
            word: shown.node.word.clone(),
        })
    }

    /// The origins of which members would be shown otherwise since this was asked last. No effect tells of them: another's record may take a
    /// name away, and instances count before their head moves.
    pub fn take_reshown(&mut self) -> BTreeSet<NodeId> {
        let mut reshown = std::mem::take(&mut self.nodes.reshown);
        reshown.append(&mut self.table.take_recounted());
        reshown
    }

    /// The origins whose agents claim a node name.
    pub fn agents_named(&self, name: &str) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.names.get(name).into_iter().flatten().map(|ix| self.table.origin(*ix).id)
    }

    /// Says of this agent's host what there is to say, unless the record says it already.
    pub(super) fn announce_node(&mut self, now: Now) {
        let key = Key {
            kind: Kind::NODE,
            scope: Scope::Agent,
            namespace: Text::default(),
            name: Text::from(self.host.name.as_str().to_owned()),
            id: Text::default(),
        };
        let uid = key.uid(self.me);
        let mut info = self.host.info.clone();
        if let Some((_, held)) = self.node_record(self.own_ix) {
            // Checks are set by clients, whatever the settings say of the host.
            info.checks = held.checks;
        }
        let Ok(content) = encode(&key, &info) else { return };
        if let Some(before) = self.table.origin(self.own_ix).node_uid.filter(|before| *before != uid) {
            self.leases.drop_instance(before);
            let claim = self.table.find(self.own_ix, before).map_or(0, |ix| self.table.slot(ix).claim);
            self.write_tombstone(now, before, Kind::NODE, claim);
        }
        self.leases.keep_node(now, uid, &info.checks, &info.checks, None);
        if self.own_content(uid) == Some(&content) {
            return;
        }
        // The claim is the name's age: who has it longest keeps it.
        let claim = self.table.find(self.own_ix, uid).map(|ix| self.table.slot(ix)).filter(|slot| slot.is_live());
        let claim = claim.map_or(now.wall_ms, |slot| slot.claim);
        self.write(now, uid, claim, RecordState::Live(content), Urgency::Metadata);
    }

    /// A node record of an origin came or went.
    pub(super) fn node_changed(&mut self, ix: OriginIx, uid: Uid) {
        if self.external_changed(uid) {
            return;
        }
        let is_live = |uid: Uid| self.table.find(ix, uid).map(|slot| self.table.slot(slot)).filter(|slot| slot.is_live());
        let known = self.table.origin(ix).node_uid.and_then(|known| is_live(known).map(|slot| (slot.seq, known)));
        let come = is_live(uid).filter(|slot| is_agents_own(&slot.state)).map(|slot| (slot.seq, uid));
        // A twin under another host's name says its own; when that goes, the one from before counts again.
        let newest = known.max(come).or_else(|| self.newest_node_record(ix).filter(|_| self.table.origin(ix).node_uid.is_some()));
        self.table.origin_mut(ix).node_uid = newest.map(|(_, uid)| uid);
        let name = self.node_record(ix).zip(self.table.origin(ix).node_uid).and_then(|((name, _), uid)| {
            let claim = self.table.find(ix, uid).map(|slot| self.table.slot(slot).claim)?;
            Some((name, claim))
        });
        self.nodes.reshown.insert(self.table.origin(ix).id);
        let Some(shown) = self.nodes.shown.get_mut(&ix) else { return };
        let before = std::mem::replace(&mut shown.name, name.clone());
        if let Some((name, _)) = &before
            && let Some(claimants) = self.nodes.names.get_mut(name)
        {
            claimants.remove(&ix);
            if claimants.is_empty() {
                self.nodes.names.remove(name);
            }
        }
        if let Some((name, _)) = &name {
            self.nodes.names.entry(name.clone()).or_default().insert(ix);
        }
        self.reshow(ix);
        for (name, _) in [before, name].into_iter().flatten() {
            self.reshow_named(&name);
        }
    }

    /// What an origin said last of its own host, among all that it said of hosts.
    fn newest_node_record(&self, ix: OriginIx) -> Option<(Seq, Uid)> {
        let slots = self.slots_of(ix).into_iter().map(|slot| self.table.slot(slot));
        let is_node = |slot: &&Slot| slot.is_live() && slot.kind() == Some(Kind::NODE) && is_agents_own(&slot.state);
        slots.filter(is_node).map(|slot| (slot.seq, slot.uid())).max()
    }

    /// An origin's instances are served as it lives, from now on.
    pub(super) fn show_origin(&mut self, ix: OriginIx, liveness: Liveness, is_listed: bool) {
        let id = self.table.origin(ix).id;
        // Who has no say is nobody to list.
        let is_listed = is_listed && self.table.origin(ix).life.counts();
        let Some(shown) = self.nodes.shown.get_mut(&ix) else {
            let node = Arc::new(self.describe(ix, None, liveness));
            self.nodes.reshown.insert(id);
            self.nodes.shown.insert(ix, Shown { liveness, is_listed, name: None, node });
            return;
        };
        if (shown.liveness, shown.is_listed) == (liveness, is_listed) {
            return;
        }
        let is_hidden_otherwise = shown.is_listed != is_listed || (shown.liveness == Liveness::Left) != (liveness == Liveness::Left);
        (shown.liveness, shown.is_listed) = (liveness, is_listed);
        let name = shown.name.clone();
        tracing::debug!(origin = ?id, liveness = liveness.as_str(), is_listed, "an origin is shown otherwise");
        if is_hidden_otherwise {
            self.fold.refold(ix);
            let node = self.nodes.shown.get(&ix).filter(|shown| shown.is_in_list()).map(|shown| Arc::clone(&shown.node));
            let before = self.nodes.shown.get(&ix).map(|shown| Arc::clone(&shown.node));
            self.list_node(before.as_ref(), node.as_ref());
        }
        self.reshow(ix);
        if let Some((name, _)) = name {
            self.reshow_named(&name);
        }
    }

    pub(super) fn reshow_named(&mut self, name: &str) {
        let claimants: Vec<OriginIx> = self.nodes.names.get(name).into_iter().flatten().copied().collect();
        for ix in claimants {
            self.reshow(ix);
        }
        self.reshow_external(name);
    }

    fn reshow(&mut self, ix: OriginIx) {
        let Some(shown) = self.nodes.shown.get(&ix) else { return };
        let node = self.describe(ix, shown.name.as_ref(), shown.liveness);
        if *shown.node != node
            && let Some(shown) = self.nodes.shown.get_mut(&ix)
        {
            let before = std::mem::replace(&mut shown.node, Arc::new(node));
            self.nodes.reshown.insert(before.id);
            let after = shown.is_in_list().then(|| Arc::clone(&shown.node));
            self.fold.refold(ix);
            self.list_node(Some(&before), after.as_ref());
        }
    }

    /// Puts a node into the list that readers see, or takes it out. Two may have one name for a moment, until both are shown anew.
    pub(super) fn list_node(&mut self, before: Option<&Arc<Node>>, after: Option<&Arc<Node>>) {
        let editor = self.editor();
        if let Some(before) = before.filter(|before| after.is_none_or(|after| after.name != before.name))
            && editor.node(&before.name).is_some_and(|listed| listed.id == before.id)
        {
            editor.set_node(&before.name, None);
        }
        if let Some(after) = after {
            editor.set_node(&after.name, Some(Arc::clone(after)));
        }
    }

    /// An origin's node as entries refer to it, and whether they are listed.
    pub(super) fn shown(&self, ix: OriginIx) -> Option<(&Arc<Node>, bool)> {
        self.nodes.shown.get(&ix).map(|shown| (&shown.node, shown.is_listed))
    }

    pub(super) fn forget_node(&mut self, ix: OriginIx) {
        self.nodes.reshown.insert(self.table.origin(ix).id);
        if let Some(Shown { name: Some((name, _)), node, .. }) = self.nodes.shown.remove(&ix) {
            self.list_node(Some(&node), None);
            if let Some(claimants) = self.nodes.names.get_mut(&name) {
                claimants.remove(&ix);
                if claimants.is_empty() {
                    self.nodes.names.remove(&name);
                }
            }
            self.reshow_named(&name);
        }
    }

    fn describe(&self, ix: OriginIx, name: Option<&(String, Claim)>, liveness: Liveness) -> Node {
        let id = self.table.origin(ix).id;
        let info = self.node_record(ix).map(|(_, info)| info);
        let shown_name = match name {
            None => id.to_string(),
            Some((name, _)) if self.keeps_name(ix, name) => name.clone(),
            Some((name, _)) => format!("{name}~{:04x}", (id.0 >> 112) as u16),
        };
        let info = info.as_ref();
        Node {
            id,
            name: shown_name,
            address: info.map_or_else(String::new, |info| info.address.as_str().to_owned()),
            zone: info.and_then(|info| info.zone.as_ref()).map(|zone| zone.as_str().to_owned()),
            datacenter: info.map_or(&self.host.info.datacenter, |info| &info.datacenter).as_str().to_owned(),
            metadata: info.map_or_else(Vec::new, |info| owned_pairs(&info.metadata)),
            is_external: false,
            liveness,
            checks: info.map_or_else(Vec::new, |info| info.checks.clone()),
            word: name.and_then(|(name, _)| self.nodes.words.get(name)).cloned(),
        }
    }

    /// Whether a name is this origin's rather than that of another that claims it.
    fn keeps_name(&self, ix: OriginIx, name: &str) -> bool {
        let rank = |ix: &OriginIx| {
            let shown = self.nodes.shown.get(ix);
            let is_gone = shown.is_none_or(|shown| matches!(shown.liveness, Liveness::Down | Liveness::Left));
            let claim = shown.and_then(|shown| shown.name.as_ref()).map_or(u64::MAX, |(_, claim)| *claim);
            (is_gone, claim, self.table.origin(*ix).id)
        };
        let keeper = self.nodes.names.get(name).into_iter().flatten().min_by_key(|ix| rank(ix));
        keeper.is_none_or(|keeper| *keeper == ix)
    }

    /// The name and body of an agent's own node record.
    pub(super) fn node_record(&self, ix: OriginIx) -> Option<(String, NodeInfo<'static>)> {
        let uid = self.table.origin(ix).node_uid?;
        let slot = self.table.find(ix, uid).map(|slot| self.table.slot(slot))?;
        let (key, info) = slot.content()?.decode::<NodeInfo<'_>>().ok()?;
        Some((key.name.as_str().to_owned(), info.into_owned()))
    }
}

pub(super) fn owned_pairs(pairs: &[(Text<'_>, Text<'_>)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned())).collect()
}

/// Whether a node record is about the agent that wrote it, rather than about an external node.
fn is_agents_own(state: &State) -> bool {
    matches!(state, State::Live(content) if content.key().is_ok_and(|key| key.scope == Scope::Agent))
}
