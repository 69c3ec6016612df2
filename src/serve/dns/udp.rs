//! Queries in datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::{FAILURE_PAUSE, Worker};
use crate::dialects::dns::message::UDP_BYTES_MAX;
use crate::dialects::dns::{Outcome, Transport};

/// Queries that are answered before others of the same thread have a turn.
const QUERIES_A_TURN: usize = 64;

/// Answers what comes, for ever.
pub(super) async fn serve(socket: Arc<UdpSocket>, worker: Worker) {
    let mut datagram = vec![0; UDP_BYTES_MAX];
    let mut out = Vec::with_capacity(UDP_BYTES_MAX);
    loop {
        // Only ends with the runtime.
        if socket.readable().await.is_err() {
            return;
        }
        for _ in 0..QUERIES_A_TURN {
            match socket.try_recv_from(&mut datagram) {
                Ok((length, from)) => answer(&socket, &worker, &datagram[..length], from, &mut out),
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

fn answer(socket: &Arc<UdpSocket>, worker: &Worker, message: &[u8], from: SocketAddr, out: &mut Vec<u8>) {
    let outcome = worker.responder().answer(message, &worker.shared.handle.view(), Transport::Udp, out);
    match outcome {
        Outcome::Answered(rcode) => {
            worker.shared.counters.answered(Transport::Udp, rcode);
            send(socket, worker, out, from);
        }
        Outcome::Ignored(why) => worker.shared.counters.ignored(why),
        Outcome::Forward | Outcome::Chase { .. } => {
            let (socket, worker, message, answer) = (Arc::clone(socket), worker.clone(), message.to_vec(), std::mem::take(out));
            let Some(place) = worker.shared.recursors.place() else {
                worker.shared.counters.recursions_refused.inc();
                let answer = worker.give_up(&message, outcome, answer, Transport::Udp);
                return send(&socket, &worker, &answer, from);
            };
            tokio::spawn(async move {
                let answer = worker.recurse(&message, outcome, answer, Transport::Udp).await;
                send(&socket, &worker, &answer, from);
                drop(place);
            });
        }
    }
}

fn send(socket: &UdpSocket, worker: &Worker, answer: &[u8], to: SocketAddr) {
    // Whoever lost an answer asks again; waiting would let one slow network hold up all.
    if socket.try_send_to(answer, to).is_err() {
        worker.shared.counters.unsent.inc();
    }
}
