//! Another datacenter's records, kept apart: a catalog of their own, so that no key, claim, root or revision of two datacenters ever
//! meets (protocol §6).
//!
//! Its origins live by their own datacenter's word, not by membership here. What that word is, each gateway here says as an origin of its
//! own in this catalog: its records say how the link stands and whom it holds down, and so travel, are repaired and are superseded like
//! any other.

use super::config::CatalogConfig;
use super::liveness::Word;
use super::table::OriginIx;
use super::{Catalog, Effect, Host, Urgency};
use crate::model::names::NodeId;
use crate::model::node::Liveness;
use crate::model::record::{Content, Key, Kind, Lineage, RecordState, Uid};
use crate::model::time::Now;
use serde::Serialize;
use std::collections::BTreeSet;

/// Origins of one other datacenter.
pub const ORIGINS_MAX: usize = 16_384;
/// Revisions of other datacenters' services are not reserved in the store: they follow the clock, and a restart begins behind it.
const REVISION_MAX: u64 = 1 << 53;
/// A hundred years: not this side gives an origin up.
const NEVER_MS: u64 = 100 * 365 * 86_400_000;

impl Catalog {
    /// Of another datacenter. With a life of its own, `me` has something to say of it.
    pub fn import(config: &CatalogConfig, host: Host, me: NodeId, nonce: u16, has_life: bool, now: Now) -> Self {
        let config = CatalogConfig { is_import: true, reap_after_ms: NEVER_MS, ..config.clone() };
        let mut catalog = Self::empty(config, host, me, nonce, 0, now);
        catalog.editor().block_reserved(REVISION_MAX);
        if has_life {
            catalog.begin_life(now, None, &Lineage::default(), Vec::new());
        }
        catalog
    }

    pub(super) fn meet_remote(&mut self, now: Now, origin: NodeId) -> Option<OriginIx> {
        if self.table.origins().count() >= ORIGINS_MAX {
            self.counters.origins_unnamed += 1;
            return None;
        }
        self.on_member(now, origin, Word::Alive);
        self.table.origin_ix(origin)
    }

    /// Says something of its own, for all agents here. What was said already is not said again.
    pub fn say(&mut self, now: Now, key: &Key<'_>, body: &impl Serialize) {
        self.say_content(now, key, Content::encode(key, body));
    }

    /// The same of bytes that hold that key.
    pub fn say_content(&mut self, now: Now, key: &Key<'_>, content: Content) {
        let uid = key.uid(self.me);
        if self.own_content(uid) != Some(&content) {
            self.write(now, uid, now.wall_ms, RecordState::Live(content), Urgency::Removal);
        }
    }

    /// The view is to show of this key again what the records say.
    pub fn fold_again(&mut self, uid: Uid) {
        self.mark(self.own_ix, uid, Kind::INSTANCE);
    }

    /// Takes it back.
    pub fn unsay(&mut self, now: Now, key: &Key<'_>) {
        let uid = key.uid(self.me);
        if self.own_content(uid).is_some() {
            self.write_tombstone(now, uid, key.kind, now.wall_ms);
        }
    }

    /// All of a kind that one gateway says.
    pub fn said(&self, by: NodeId, kind: Kind) -> impl Iterator<Item = &Content> {
        let slots = self.table.origin_ix(by).into_iter().flat_map(|ix| self.table.origin(ix).order.slots());
        slots.map(|ix| self.table.slot(ix)).filter(move |slot| slot.kind() == Some(kind)).filter_map(|slot| slot.content())
    }

    /// Drops an origin of another datacenter, as if it had never been heard of.
    pub fn drop_origin(&mut self, origin: NodeId) {
        let Some(ix) = self.table.origin_ix(origin).filter(|ix| *ix != self.own_ix) else { return };
        self.forget_origin(ix);
        self.effects.push_back(Effect::HeadMoved(origin));
    }

    /// Origins that their own datacenter gave up, as this agent knows by their mark, while peers here still tell of them.
    pub fn contested(&mut self) -> BTreeSet<NodeId> {
        let mut contested = std::mem::take(&mut self.contested);
        contested.retain(|origin| self.head(*origin).is_some_and(|head| head.flags.reaped.is_some()));
        self.contested.clone_from(&contested);
        contested
    }

    /// Origins that were given up and are still remembered.
    pub fn marks(&self) -> Vec<NodeId> {
        self.table.origins().filter(|(_, origin)| origin.flags.reaped.is_some()).map(|(_, origin)| origin.id).collect()
    }

    /// Whether an agent says that it is a gateway.
    pub fn is_gateway(&self, node: NodeId) -> bool {
        self.table.origin_ix(node).and_then(|ix| self.node_record(ix)).is_some_and(|(_, info)| info.is_gateway)
    }

    /// How an origin's instances are served now; none where nothing is known of it.
    pub fn liveness_of(&self, origin: NodeId, now: Now) -> Option<Liveness> {
        self.table.origin_ix(origin).map(|ix| self.liveness(ix, now))
    }
}
