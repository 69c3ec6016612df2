//! The names of services, each once: a record refers to its own by four bytes.

use crate::model::names::{Namespace, ServiceKey, ServiceName};
use std::collections::BTreeMap;

/// A service's place among the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceIx(u32);

impl ServiceIx {
    /// Of what is no instance, or has no valid name.
    pub const NONE: ServiceIx = ServiceIx(u32::MAX);
}

/// Names are kept for as long as something refers to them.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: BTreeMap<Namespace, BTreeMap<ServiceName, ServiceIx>>,
    names: Vec<Option<Named>>,
    vacant: Vec<ServiceIx>,
}

#[derive(Debug)]
struct Named {
    key: ServiceKey,
    references: u32,
}

impl Services {
    /// The place of a service, acquired once for the caller; [`ServiceIx::NONE`] for what is not a name.
    pub fn intern(&mut self, namespace: &str, service: &str) -> ServiceIx {
        if let Some(ix) = self.find(namespace, service) {
            self.acquire(ix);
            return ix;
        }
        let (Ok(namespace), Ok(service)) = (Namespace::new(namespace), ServiceName::new(service)) else { return ServiceIx::NONE };
        let key = ServiceKey { namespace: namespace.clone(), service: service.clone() };
        let named = Some(Named { key, references: 1 });
        let ix = match self.vacant.pop() {
            Some(ix) => {
                self.names[ix.0 as usize] = named;
                ix
            }
            None => {
                self.names.push(named);
                ServiceIx(self.names.len() as u32 - 1)
            }
        };
        self.by_name.entry(namespace).or_default().insert(service, ix);
        ix
    }

    pub fn find(&self, namespace: &str, service: &str) -> Option<ServiceIx> {
        self.by_name.get(namespace)?.get(service).copied()
    }

    pub fn key(&self, ix: ServiceIx) -> Option<&ServiceKey> {
        self.names.get(ix.0 as usize)?.as_ref().map(|named| &named.key)
    }

    pub fn acquire(&mut self, ix: ServiceIx) {
        if let Some(Some(named)) = self.names.get_mut(ix.0 as usize) {
            named.references += 1;
        }
    }

    /// Lets a reference go, and with the last one the name.
    pub fn release(&mut self, ix: ServiceIx) {
        let Some(entry) = self.names.get_mut(ix.0 as usize) else { return };
        let Some(named) = entry else { return };
        named.references -= 1;
        if named.references > 0 {
            return;
        }
        let key = entry.take().expect("it was there a line above").key;
        self.vacant.push(ix);
        if let Some(services) = self.by_name.get_mut(&key.namespace) {
            services.remove(&key.service);
            if services.is_empty() {
                self.by_name.remove(&key.namespace);
            }
        }
    }
}
