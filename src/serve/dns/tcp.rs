//! Queries over connections: each message behind its length in two bytes (RFC 7766).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{FAILURE_PAUSE, Worker};
use crate::dialects::dns::{Outcome, Transport};
use crate::serve::listen::{is_of_one_connection, prepare};

/// Without a whole query for so long, or without taking an answer, a connection is closed.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest query that is read.
const QUERY_BYTES_MAX: usize = 4_096;
/// What is read at once; several queries may stand in it.
const READ_BYTES: usize = 8 * 1024;
/// Answers that wait to be sent together, at most, before one more is added.
const ANSWERS_BYTES_MAX: usize = 32 * 1024;

/// Accepts connections, for ever.
pub(super) async fn accept(listener: TcpListener, worker: Worker) {
    loop {
        // Without a place nothing is accepted: clients wait in the kernel's queue, and no more of them than it holds.
        let Ok(place) = std::sync::Arc::clone(&worker.shared.connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream);
                worker.shared.counters.connections.inc();
                let worker = worker.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &worker).await {
                        tracing::debug!(%error, "a DNS connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a DNS connection could not be accepted");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

/// Answers one connection's queries in their order until it is closed, idle or not DNS.
async fn converse(mut stream: TcpStream, worker: &Worker) -> io::Result<()> {
    let mut unread = Vec::with_capacity(READ_BYTES);
    let mut answers = Vec::new();
    let mut answer = Vec::new();
    loop {
        let mut taken = 0;
        while let Some(message) = first_message(&unread[taken..])? {
            taken += 2 + message.len();
            if respond(worker, message, &mut answer).await {
                answers.extend_from_slice(&u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes());
                answers.extend_from_slice(&answer);
            }
            if answers.len() >= ANSWERS_BYTES_MAX {
                flush(&mut stream, &mut answers).await?;
            }
        }
        unread.drain(..taken);
        flush(&mut stream, &mut answers).await?;
        // What clients send without pause must not keep others of this thread from their turn.
        tokio::task::yield_now().await;
        if timeout(PATIENCE, stream.read_buf(&mut unread)).await?? == 0 {
            return Ok(());
        }
    }
}

async fn flush(stream: &mut TcpStream, answers: &mut Vec<u8>) -> io::Result<()> {
    if !answers.is_empty() {
        timeout(PATIENCE, stream.write_all(answers)).await??;
        answers.clear();
    }
    Ok(())
}

/// The first whole message, if it is there.
fn first_message(unread: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = unread.split_first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > QUERY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length))
}

/// Whether there is an answer.
async fn respond(worker: &Worker, message: &[u8], out: &mut Vec<u8>) -> bool {
    let (outcome, wait) = worker.answer(message, Transport::Tcp, out);
    if let Some(wait) = wait {
        *out = worker.await_fetched(message, wait, Transport::Tcp).await;
        return true;
    }
    match outcome {
        Outcome::Answered(rcode) => worker.shared.counters.answered(Transport::Tcp, rcode),
        Outcome::Ignored(why) => {
            worker.shared.counters.ignored(why);
            return false;
        }
        Outcome::Forward | Outcome::Chase { .. } => {
            *out = worker.ask_recursors(message, outcome, std::mem::take(out), Transport::Tcp).await;
        }
    }
    true
}
