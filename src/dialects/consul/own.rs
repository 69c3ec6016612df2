//! What lives on this agent's own node, by the ids under which Consul's clients know it: a service's id and a check's id are unique on a
//! node there, whatever the service's name.
//!
//! An index drawn from the view and kept up by its journal; it is thrown away and drawn anew whenever the journal does not reach back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mapping::{self, CheckIds};
use crate::model::command::Target;
use crate::model::instance::{Health, Instance, Lease};
use crate::model::names::{InstanceId, Namespace, ServiceKey};
use crate::model::record::{Key, Scope, Uid};
use crate::view::{Entry, Follower, Node, Step, View};

/// Where one of this agent's instances stands in the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Registered in another scope than the agent's: it gives way to one of the same id that was registered here in Consul's manner.
    is_shared: bool,
    pub service: ServiceKey,
    pub uid: Uid,
}

/// Which check of an instance an id means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// The one of that id in the instance's list.
    Check(String),
    /// The instance's lease, or its client's word on its health.
    Lease,
}

/// How much lives here, by ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub services: usize,
    pub checks: usize,
}

#[derive(Default)]
pub struct Own(Mutex<Known>);

#[derive(Default)]
struct Known {
    follower: Follower,
    by_id: BTreeMap<String, BTreeSet<Place>>,
    by_check: BTreeMap<String, BTreeSet<Place>>,
}

impl Own {
    /// The instances of an id, those registered in Consul's manner first.
    pub fn with_id(&self, view: &View, namespace: &Namespace, id: &str) -> Vec<Place> {
        let known = self.at(view);
        known.by_id.get(id).into_iter().flatten().filter(|place| place.service.namespace == *namespace).cloned().collect()
    }

    /// The instance that a check of this id is on, and which of its checks that is.
    pub fn with_check(&self, view: &View, namespace: &Namespace, check: &str) -> Option<(Place, Meant)> {
        let known = self.at(view);
        let mut places = known.by_check.get(check).into_iter().flatten().filter(|place| place.service.namespace == *namespace);
        places.find_map(|place| {
            let (key, instance) = place.entry(view)?.instance().ok()?;
            let ids = CheckIds::of(&instance);
            let found = instance.checks.iter().find(|own| ids.id(&key.id, &own.id) == check).map(|own| Meant::Check(own.id.to_string()));
            Some((place.clone(), found.unwrap_or(Meant::Lease)))
        })
    }

    /// One instance an id, in order of the ids.
    pub fn all(&self, view: &View, namespace: &Namespace) -> Vec<Place> {
        let known = self.at(view);
        let one = |places: &BTreeSet<Place>| places.iter().find(|place| place.service.namespace == *namespace).cloned();
        known.by_id.values().filter_map(one).collect()
    }

    pub fn count(&self, view: &View) -> Count {
        let known = self.at(view);
        Count { services: known.by_id.len(), checks: known.by_check.len() }
    }

    fn at(&self, view: &View) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| {
            // A panic half way left it wrong.
            self.0.clear_poison();
            let mut known = PoisonError::into_inner(poisoned);
            *known = Known::default();
            known
        });
        known.follow(view);
        known
    }
}

impl Known {
    fn follow(&mut self, view: &View) {
        match self.follower.step(view) {
            Step::Nothing => {}
            Step::Changes(batches) => {
                for change in batches.iter().flat_map(|batch| &batch.changes) {
                    for (entry, is_there) in [(&change.before, false), (&change.after, true)] {
                        if let Some(entry) = entry.as_ref().filter(|entry| entry.node.id == view.agent.id) {
                            self.note(&change.service, entry, is_there);
                        }
                    }
                }
            }
            Step::Anew => self.draw(view),
        }
    }

    fn draw(&mut self, view: &View) {
        (self.by_id, self.by_check) = Default::default();
        for service in view.services(None) {
            for entry in service.entries.iter().filter(|entry| entry.node.id == view.agent.id) {
                self.note(&service.key, entry, true);
            }
        }
    }

    fn note(&mut self, service: &ServiceKey, entry: &Entry, is_there: bool) {
        let Ok((key, instance)) = entry.instance() else { return };
        let place = Place { is_shared: key.scope != Scope::Agent, service: service.clone(), uid: entry.uid };
        for check in check_ids(&key, &instance) {
            set(&mut self.by_check, check, &place, is_there);
        }
        set(&mut self.by_id, key.id.to_string(), &place, is_there);
    }
}

fn set(index: &mut BTreeMap<String, BTreeSet<Place>>, id: String, place: &Place, is_there: bool) {
    if is_there {
        index.entry(id).or_default().insert(place.clone());
    } else if let Some(places) = index.get_mut(&id) {
        places.remove(place);
        if places.is_empty() {
            index.remove(&id);
        }
    }
}

/// All check ids of an instance, that of its lease among them.
fn check_ids(key: &Key<'_>, instance: &Instance<'_>) -> Vec<String> {
    let names = CheckIds::of(instance);
    let mut ids: Vec<String> = instance.checks.iter().map(|check| names.id(&key.id, &check.id).into_owned()).collect();
    if instance.lease != Lease::Agent || instance.status != Health::Passing {
        ids.push(mapping::lease_check_id(&key.id));
    }
    ids
}

impl Place {
    pub fn entry<'v>(&self, view: &'v View) -> Option<&'v Entry> {
        view.service(self.service.namespace.as_str(), self.service.service.as_str())?.find(self.uid)
    }

    /// Whether it was registered in Consul's manner: unique by its id at this agent.
    pub fn is_agents_own(&self) -> bool {
        !self.is_shared
    }

    /// As commands name it.
    pub fn target(&self, id: InstanceId) -> Target {
        Target { namespace: self.service.namespace.clone(), service: self.service.service.clone(), id, uid: Some(self.uid) }
    }
}

/// This agent's own node; none before the agent has shown it.
pub fn node(view: &View) -> Option<&Node> {
    view.nodes.iter().find(|node| node.id == view.agent.id && !node.is_external).map(|node| &**node)
}
