//! Services by name and in order, so that publishing a change copies a few hundred pointers whatever the number of services.
//!
//! Two structures: a trie of fixed depth over a hash of (namespace, name) finds one service in three steps; chunks of sorted keys,
//! changed only when a service appears or goes, give the order for listings. Both copy on write what a published View still shares.
//!
//! With a million instances nothing is in the processor's caches, and each step to another place in memory costs more than all
//! comparing: the 128 bits of the hash stand for the name, as a uid stands for a key, and the service is not looked at to be found.

use super::service::Service;
use crate::model::names::ServiceKey;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::sync::Arc;

/// Children of the root, and leaves of a branch. Their product keeps a leaf at some sixty services when there are a million.
const FANOUT: usize = 128;

#[derive(Debug, Clone)]
pub(super) struct Index {
    branches: Arc<Vec<Arc<Branch>>>,
}

#[derive(Debug, Clone)]
struct Branch {
    leaves: Vec<Arc<[Slot]>>,
}

/// In a leaf slots stand in the order of their hash.
#[derive(Debug, Clone)]
struct Slot {
    hash: u128,
    service: Arc<Service>,
}

impl Default for Index {
    fn default() -> Self {
        let branch = Arc::new(Branch { leaves: vec![Arc::from([]); FANOUT] });
        Self { branches: Arc::new(vec![branch; FANOUT]) }
    }
}

fn hash(namespace: &str, name: &str) -> u128 {
    // A fixed key: the hash is a name, and guards nothing.
    let mut hasher = SipHasher13::new_with_keys(0x7469_6469_6e67_7321, 0x7669_6577);
    hasher.write(namespace.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(name.as_bytes());
    hasher.finish128().as_u128()
}

/// Branch and leaf of a hash.
fn path(hash: u128) -> (usize, usize) {
    let at = |shift: u32| (hash >> shift) as usize % FANOUT;
    (at(121), at(114))
}

fn place(leaf: &[Slot], hash: u128) -> Result<usize, usize> {
    leaf.binary_search_by_key(&hash, |slot| slot.hash)
}

impl Index {
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        let hash = hash(namespace, name);
        let (branch, leaf) = path(hash);
        let leaf = &self.branches[branch].leaves[leaf];
        place(leaf, hash).ok().map(|at| &leaf[at].service)
    }

    /// Puts a service in the place of the one of its name.
    pub fn put(&mut self, service: Arc<Service>) {
        let hash = hash(service.key.namespace.as_str(), service.key.service.as_str());
        let leaf = self.leaf_mut(hash);
        match (place(leaf, hash), Arc::get_mut(leaf)) {
            (Ok(at), Some(own)) => own[at].service = service,
            (Ok(at), None) => {
                let mut slots = leaf.to_vec();
                slots[at].service = service;
                *leaf = slots.into();
            }
            (Err(at), _) => {
                let mut slots = leaf.to_vec();
                slots.insert(at, Slot { hash, service });
                *leaf = slots.into();
            }
        }
    }

    pub fn remove(&mut self, key: &ServiceKey) {
        let hash = hash(key.namespace.as_str(), key.service.as_str());
        let leaf = self.leaf_mut(hash);
        if place(leaf, hash).is_ok() {
            *leaf = leaf.iter().filter(|slot| slot.hash != hash).cloned().collect();
        }
    }

    fn leaf_mut(&mut self, hash: u128) -> &mut Arc<[Slot]> {
        let (branch, leaf) = path(hash);
        &mut Arc::make_mut(&mut Arc::make_mut(&mut self.branches)[branch]).leaves[leaf]
    }
}

/// Keys in a chunk before it is halved.
const CHUNK_KEYS_MAX: usize = 256;

/// The keys of services that have instances, in order. No chunk is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    chunks: Arc<Vec<Arc<Vec<ServiceKey>>>>,
    len: usize,
}

impl Names {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, key: ServiceKey) {
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(vec![key]));
            self.len = 1;
            return;
        }
        let at = chunks.partition_point(|chunk| chunk[0] <= key).saturating_sub(1);
        let chunk = Arc::make_mut(&mut chunks[at]);
        let Err(place) = chunk.binary_search(&key) else { return };
        chunk.insert(place, key);
        self.len += 1;
        if chunk.len() > CHUNK_KEYS_MAX {
            let upper = chunk.split_off(chunk.len() / 2);
            chunks.insert(at + 1, Arc::new(upper));
        }
    }

    pub fn remove(&mut self, key: &ServiceKey) {
        let chunks = Arc::make_mut(&mut self.chunks);
        let at = chunks.partition_point(|chunk| chunk[0] <= *key).saturating_sub(1);
        let Some(place) = chunks.get(at).and_then(|chunk| chunk.binary_search(key).ok()) else { return };
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            chunks.remove(at);
        }
    }

    /// From the first key at or behind (namespace, name) on.
    pub fn from(&self, namespace: &str, name: &str) -> Keys<'_> {
        self.starting(|key| (key.namespace.as_str(), key.service.as_str()) < (namespace, name))
    }

    /// From the first key behind `after` on; from the first one of all without it.
    pub fn behind(&self, after: Option<&ServiceKey>) -> Keys<'_> {
        self.starting(|key| after.is_some_and(|after| key <= after))
    }

    /// From the first key for which `is_before`, true for a front part of all keys, is false.
    fn starting(&self, is_before: impl Fn(&ServiceKey) -> bool) -> Keys<'_> {
        let at = self.chunks.partition_point(|chunk| is_before(&chunk[0])).saturating_sub(1);
        let place = self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(&is_before));
        Keys { chunks: &self.chunks, at, place }
    }
}

/// Keys in order.
#[derive(Debug, Clone)]
pub(super) struct Keys<'a> {
    chunks: &'a [Arc<Vec<ServiceKey>>],
    at: usize,
    place: usize,
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a ServiceKey;

    fn next(&mut self) -> Option<&'a ServiceKey> {
        loop {
            let chunk = self.chunks.get(self.at)?;
            if let Some(key) = chunk.get(self.place) {
                self.place += 1;
                return Some(key);
            }
            self.at += 1;
            self.place = 0;
        }
    }
}
