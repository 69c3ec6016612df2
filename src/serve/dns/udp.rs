//! Queries in datagrams.

use std::io;
use std::sync::Arc;

use super::datagrams::{Answer, BATCH, Datagrams, Room, Way};
use super::elsewhere::Wait;
use super::{FAILURE_PAUSE, Worker};
use crate::dialects::dns::message::UDP_BYTES_MAX;
use crate::dialects::dns::{Outcome, Transport};

/// Batches of queries that are answered before others of the same thread have a turn.
const BATCHES_A_TURN: usize = 2;

/// Answers what comes, for ever.
pub(super) async fn serve(datagrams: Datagrams, worker: Worker) {
    let mut queries = Queries { datagrams: Arc::new(datagrams), worker, answers: Vec::with_capacity(BATCH), spare: Vec::new() };
    let mut room = Room::new();
    loop {
        // Only ends with the runtime.
        if queries.datagrams.readable().await.is_err() {
            return;
        }
        for _ in 0..BATCHES_A_TURN {
            match queries.answer_batch(&mut room) {
                Ok(BATCH..) => {}
                // No more has come.
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an answer before met on its way: its client is gone.
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "queries cannot be received");
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable)
}

/// Queries of one socket, and their answers until they are sent together.
struct Queries {
    datagrams: Arc<Datagrams>,
    worker: Worker,
    answers: Vec<Answer>,
    /// Room that answers had which are sent: at most a batch of it.
    spare: Vec<Vec<u8>>,
}

impl Queries {
    fn answer_batch(&mut self, room: &mut Room) -> io::Result<usize> {
        let datagrams = Arc::clone(&self.datagrams);
        let taken = datagrams.take(room, |message, way| match message {
            Some(message) => self.answer(message, way),
            None => {
                self.worker.shared.counters.long.inc();
            }
        });
        self.worker.count_unsent(datagrams.send(&self.answers));
        self.spare.extend(self.answers.drain(..).map(|answer| answer.bytes));
        taken
    }

    fn answer(&mut self, message: &[u8], way: Way) {
        let shared = &self.worker.shared;
        let mut bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(UDP_BYTES_MAX));
        let (outcome, wait) = self.worker.answer(message, Transport::Udp, &mut bytes);
        if let Some(wait) = wait {
            self.spare.push(bytes);
            return self.await_fetched(message.to_vec(), wait, way);
        }
        match outcome {
            Outcome::Answered(rcode) => {
                shared.counters.answered(Transport::Udp, rcode);
                self.answers.push(Answer { bytes, way });
            }
            Outcome::Ignored(why) => {
                shared.counters.ignored(why);
                self.spare.push(bytes);
            }
            outcome => self.recurse(message.to_vec(), outcome, bytes, way),
        }
    }

    /// Answers once another datacenter's instances are here, or do not come.
    fn await_fetched(&self, message: Vec<u8>, wait: Wait, way: Way) {
        let (datagrams, worker) = (Arc::clone(&self.datagrams), self.worker.clone());
        tokio::spawn(async move {
            let bytes = worker.await_fetched(&message, wait, Transport::Udp).await;
            worker.count_unsent(datagrams.send(&[Answer { bytes, way }]));
        });
    }

    /// Answers once recursors have.
    fn recurse(&mut self, message: Vec<u8>, outcome: Outcome, begun: Vec<u8>, way: Way) {
        let Some(place) = self.worker.shared.recursors.place() else {
            self.worker.shared.counters.recursions_refused.inc();
            let bytes = self.worker.give_up(&message, outcome, begun, Transport::Udp);
            return self.answers.push(Answer { bytes, way });
        };
        let (datagrams, worker) = (Arc::clone(&self.datagrams), self.worker.clone());
        tokio::spawn(async move {
            let bytes = worker.recurse(&message, outcome, begun, Transport::Udp).await;
            worker.count_unsent(datagrams.send(&[Answer { bytes, way }]));
            drop(place);
        });
    }
}

impl Worker {
    fn count_unsent(&self, answers: usize) {
        if answers > 0 {
            self.shared.counters.unsent.inc_by(answers as u64);
        }
    }
}
