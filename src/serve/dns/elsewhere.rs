//! Queries about another datacenter's service that is known here by its summary: a gateway fetches its instances, and whoever asked waits a
//! moment for them.
//!
//! Waiting is the exception. A name of the own datacenter never waits for anything, nor does one of another whose instances cross by
//! themselves or are looked up every few seconds; and a wait is a task of its own beside all other queries. Without it the first query
//! after a while would always fail, or tell of what was minutes ago: DNS has no answer that says "soon" or how old it is, "there is none"
//! would be wrong and resolvers remember it (RFC 2308), and a failure they remember for a second at least (RFC 9520). So a failure is kept
//! for what does not come in time, and is asked again then, of another agent first; what is old is told where nothing newer comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Worker;
use crate::agent::handle::{Named, Remotes as _};
use crate::dialects::dns::{Outcome, Transport};

/// Queries that wait for instances at one moment; beyond, a query is answered from what is here.
const WAITING_MAX: usize = 512;
/// How long one waits: most round trips between datacenters several times, and less than resolvers bear, the shortest of which give up
/// after two seconds.
const FETCHED_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Waiting(Arc<Semaphore>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_MAX)))
    }
}

impl Waiting {
    /// The right to wait; none while too many do.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// What a query waits for, and its place among those that do.
pub(super) struct Wait {
    named: Named,
    _place: OwnedSemaphorePermit,
}

impl Worker {
    /// Answers a message from what is here, and has fetched what of other datacenters is not, or is old. Says for what the query is to wait
    /// instead of being answered so, if for anything.
    pub(super) fn answer(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) -> (Outcome, Option<Wait>) {
        let view = self.shared.handle.view();
        let mut responder = self.responder();
        let outcome = responder.answer(message, &view, transport, out);
        let Some(named) = responder.take_looked_up() else { return (outcome, None) };
        self.shared.handle.look_up(&named, &view);
        let place = named.is_wanting(&view).then(|| self.shared.waiting.place()).flatten();
        (outcome, place.map(|place| Wait { named, _place: place }))
    }

    /// The answer to a query that waits: once what it is about is here, or from what is when its time is over.
    pub(super) async fn await_fetched(&self, query: &[u8], wait: Wait, transport: Transport) -> Vec<u8> {
        self.shared.handle.fetched(&wait.named, FETCHED_WITHIN).await;
        let mut answer = Vec::new();
        match self.answer(query, transport, &mut answer).0 {
            Outcome::Answered(rcode) => self.shared.counters.answered(transport, rcode),
            Outcome::Ignored(why) => self.shared.counters.ignored(why),
            outcome => return self.ask_recursors(query, outcome, answer, transport).await,
        }
        answer
    }

    /// The answer to a query that recursors have to be asked about, where there is room to.
    pub(super) async fn ask_recursors(&self, query: &[u8], outcome: Outcome, begun: Vec<u8>, transport: Transport) -> Vec<u8> {
        match self.shared.recursors.place() {
            Some(_place) => self.recurse(query, outcome, begun, transport).await,
            None => {
                self.shared.counters.recursions_refused.inc();
                self.give_up(query, outcome, begun, transport)
            }
        }
    }
}
