//! What the handlers of the API share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::events::Events;
use crate::agent::handle::Handle;
use crate::select::{self, random::Dice};

/// Services whose turns are remembered. Beyond that all begin anew, which costs an uneven turn and nothing else.
const TURNS_MAX: usize = 4_096;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

pub struct Shared {
    pub handle: Handle,
    pub turns: Turns,
    pub events: Events,
    pub counted: Counted,
    pub dice: Dice,
    /// Names this agent in the ids of events and in ETags of lists.
    pub agent: String,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    /// `seed` is fresh entropy.
    pub fn new(handle: Handle, seed: u64) -> Self {
        let agent = handle.view().agent.id.to_string();
        let counted = Counted::new(&handle);
        Self(Arc::new(Shared { handle, turns: Turns::default(), events: Events::default(), counted, dice: Dice::new(seed), agent }))
    }

    /// Follows the view for `/events` until the agent stops.
    pub async fn follow(self) {
        self.events.follow(&self.handle).await;
    }
}

/// Requests by what became of them, and open event streams.
#[derive(Debug)]
pub struct Counted {
    /// From 1xx to 5xx.
    by_class: [Counter; 5],
    pub watchers: Gauge,
}

impl Counted {
    fn new(handle: &Handle) -> Self {
        let requests = Family::<[(&str, &str); 1], Counter>::default();
        let class = |class| requests.get_or_create(&[("status", class)]).clone();
        let by_class = [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")];
        let watchers = Gauge::default();
        handle.register_metrics(|registry| {
            registry.register("tidings_api_requests", "HTTP requests by class of their status", requests.clone());
            registry.register("tidings_api_watchers", "Open event streams", watchers.clone());
        });
        Self { by_class, watchers }
    }

    pub fn count(&self, status: u16) {
        self.by_class[usize::from(status / 100).clamp(1, 5) - 1].inc();
    }
}

/// Whose turn it is, by service and filter.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, select::State>>);

impl Turns {
    pub fn with<T>(&self, of: String, choose: impl FnOnce(&mut select::State) -> T) -> T {
        // A panic between two turns leaves states that are still fit to go on from.
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= TURNS_MAX && !states.contains_key(&of) {
            states.clear();
        }
        choose(states.entry(of).or_default())
    }
}
