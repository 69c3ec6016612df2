//! Asking others for names that are not ours.
//!
//! A query goes on as it came, under an id and from a port that nobody can guess, to one recursor after the other until one knows
//! whether the name exists.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Worker;
use crate::dialects::dns::{self, Outcome, ResponseCode, Transport, message};

/// Queries that wait for recursors at one moment, each with a socket of its own.
const OUTSTANDING_MAX: usize = 512;
/// For all recursors together: whoever asked has given up by then, or asks again.
const BUDGET: Duration = Duration::from_secs(5);
/// Addresses that are put behind a CNAME.
const CHASED_MAX: usize = 16;

pub(super) struct Recursors {
    servers: Vec<SocketAddr>,
    /// For one recursor to answer.
    patience: Duration,
    places: Arc<Semaphore>,
}

impl Recursors {
    pub fn new(servers: Vec<SocketAddr>, patience: Duration) -> Self {
        Self { servers, patience, places: Arc::new(Semaphore::new(OUTSTANDING_MAX)) }
    }

    /// The right to ask; none while too many do.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The first answer that says whether the name exists, under the query's own id.
    async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        timeout(BUDGET, self.ask_in_turn(query, transport)).await.unwrap_or_else(|_| {
            tracing::debug!("no recursor answers in time");
            None
        })
    }

    async fn ask_in_turn(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let id = getrandom::u32().ok()?.to_be_bytes();
        let mut asked = query.to_vec();
        asked.get_mut(..2)?.copy_from_slice(&id[..2]);
        for &server in &self.servers {
            let answer = async {
                match transport {
                    Transport::Udp => ask_udp(server, &asked).await,
                    Transport::Tcp => ask_tcp(server, &asked).await,
                }
            };
            match timeout(self.patience, answer).await {
                Ok(Ok(mut answer)) if matches!(message::rcode_of(&answer), ResponseCode::NoError | ResponseCode::NXDomain) => {
                    answer[..2].copy_from_slice(&query[..2]);
                    return Some(answer);
                }
                Ok(Ok(answer)) => tracing::debug!(%server, rcode = %message::rcode_of(&answer), "a recursor refuses"),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a recursor is not reached"),
                Err(_) => tracing::debug!(%server, "a recursor does not answer in time"),
            }
        }
        None
    }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; message::TCP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if message::answers(&answer[..length], query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    message.extend_from_slice(query);
    stream.write_all(&message).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if message::answers(&answer, query) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

impl Worker {
    /// The answer to a query that is, in part or whole, about names of others. `answer` holds what was written so far.
    pub(super) async fn recurse(&self, query: &[u8], outcome: Outcome, mut answer: Vec<u8>, transport: Transport) -> Vec<u8> {
        let recursors = &self.shared.recursors;
        let found = match &outcome {
            Outcome::Chase { name, kind, .. } => match message::ask(0, name, *kind) {
                Some(query) => recursors.ask(&query, Transport::Udp).await,
                None => None,
            },
            _ => recursors.ask(query, transport).await,
        };
        let Some(mut found) = found else {
            self.shared.counters.recursions_failed.inc();
            return self.give_up(query, outcome, answer, transport);
        };
        self.shared.counters.recursions.inc();
        if let Outcome::Chase { name, bytes_max, .. } = outcome {
            message::append_answers(&mut answer, &name, &message::addresses(&found, CHASED_MAX), bytes_max);
            self.shared.counters.answered(transport, ResponseCode::NoError);
            return answer;
        }
        dns::relay(query, transport, &mut found);
        self.shared.counters.answered(transport, message::rcode_of(&found));
        found
    }

    /// Where nobody could be asked: a CNAME is an answer without what it leads to, all else is a failure.
    pub(super) fn give_up(&self, query: &[u8], outcome: Outcome, mut answer: Vec<u8>, transport: Transport) -> Vec<u8> {
        let rcode = match outcome {
            Outcome::Chase { .. } => ResponseCode::NoError,
            _ => {
                dns::fail(query, ResponseCode::ServFail, &mut answer);
                ResponseCode::ServFail
            }
        };
        self.shared.counters.answered(transport, rcode);
        answer
    }
}
