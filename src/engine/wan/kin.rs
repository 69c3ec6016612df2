//! Whether gateways that bear one datacenter's name are of one datacenter.
//!
//! People give names, and two clusters may have got the same one. Ids of agents are drawn at random and are known throughout their
//! datacenter for days after they are gone; so each gateway names some of the origins that its own knows, and whoever shares none of them
//! is of another. Halves of a datacenter that is split know each other from before, and gateways that replace others have the records of
//! the rest: both are kin. A datacenter that came up anew on empty disks is not, and gets its name back once the former is silent.
//!
//! The name belongs to whoever is heard. Where two of one name both come after a silence of the first, they are not told apart any more;
//! both still say so at home.

use super::imports::Import;
use crate::engine::catalog::Catalog;
use crate::model::names::NodeId;
use crate::model::time::Now;

/// Origins that a gateway names: those with the least ids, so that gateways of one datacenter name about the same.
pub const KIN_MAX: usize = 32;
/// A name is free when its datacenter was heard by nobody for so long, in milliseconds.
const NAME_FREE_MS: u64 = 30_000;

/// What a gateway names of its own datacenter.
pub fn of(catalog: &Catalog) -> Vec<NodeId> {
    catalog.heads().map(|head| head.origin).take(KIN_MAX).collect()
}

/// Whether a gateway that names these may speak for the datacenter that an import is of. `is_held`: some of its origins are; `linked`:
/// what other gateways named that speak for it now.
pub fn may_speak<'a>(now: Now, import: &Import, is_held: bool, kin: &[NodeId], linked: impl Iterator<Item = &'a [NodeId]>) -> bool {
    let linked: Vec<&[NodeId]> = linked.collect();
    let is_known = kin.iter().any(|origin| import.catalog.head(*origin).is_some());
    let is_kin = is_known || linked.iter().any(|others| others.iter().any(|origin| kin.contains(origin)));
    let is_free = !is_held || import.is_silent(now, NAME_FREE_MS);
    is_kin || is_free && linked.is_empty()
}
