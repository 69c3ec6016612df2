//! Services by their names in lower case: DNS compares names without their case, the catalog keeps it.
//!
//! Names that are in lower case already are found in the view itself, so only the others stand here. The index is made from a view and
//! kept up by its journal.

use crate::model::names::ServiceKey;
use crate::view::{Follower, Step, View};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Folded {
    /// Namespace and name in lower case → the services that are written otherwise.
    services: BTreeMap<(String, String), BTreeSet<ServiceKey>>,
    follower: Follower,
    /// Rises when a service comes or goes here.
    generation: u64,
}

impl Folded {
    /// Brings the index up to a view.
    pub fn follow(&mut self, view: &View) {
        match self.follower.step(view) {
            Step::Nothing => {}
            Step::Changes(batches) => {
                batches.iter().flat_map(|batch| &batch.changes).for_each(|change| self.settle(&change.service, view));
            }
            Step::Anew => {
                self.services.clear();
                self.generation += 1;
                view.services(None).for_each(|service| self.settle(&service.key, view));
            }
        }
    }

    /// Changes with every answer to [`Folded::find`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Services of that name in that namespace, both in lower case, that are written otherwise.
    pub fn find(&self, namespace: &str, name: &str) -> impl Iterator<Item = &ServiceKey> {
        self.services.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten()
    }

    fn settle(&mut self, key: &ServiceKey, view: &View) {
        let has_upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
        let (namespace, name) = (key.namespace.as_str(), key.service.as_str());
        if !has_upper(namespace) && !has_upper(name) {
            return;
        }
        let folded = (namespace.to_ascii_lowercase(), name.to_ascii_lowercase());
        let is_there = view.service(namespace, name).is_some();
        let has_changed = if is_there {
            self.services.entry(folded).or_default().insert(key.clone())
        } else {
            match self.services.get_mut(&folded) {
                Some(services) => {
                    let was_there = services.remove(key);
                    if services.is_empty() {
                        self.services.remove(&folded);
                    }
                    was_there
                }
                None => false,
            }
        };
        self.generation += u64::from(has_changed);
    }
}
