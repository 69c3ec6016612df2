//! DNS over UDP and TCP: sockets around [`Responder`], which knows what the bytes mean.
//!
//! One thread a core, each with a socket of its own on the same port (SO_REUSEPORT), beside those of HTTP rather than on them: a flood
//! of queries then shares a core with HTTP as the system divides it, and does not stand in front of it.
//!
//! ```text
//! UDP   a worker takes what has come, a batch of queries a call; an answer that the system has no room for is dropped and counted
//! TCP   messages behind their lengths, answered in order; idle connections are closed, and those beyond a number not taken
//! ```

mod datagrams;
mod elsewhere;
mod recursors;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Serving;
use super::listen::bind_tcp;
use crate::agent::handle::Handle;
use crate::dialects::dns::config::{Config, ServiceTtl};
use crate::dialects::dns::{Ignored, Responder, ResponseCode, Transport, name};
use crate::settings::{DNS_PORT, Dns, Listen};
use elsewhere::Waiting;
use recursors::Recursors;

/// Connections over TCP that are open at one moment, of all workers.
const CONNECTIONS_MAX: usize = 1_024;
/// Queries that a socket of a worker holds until they are taken.
const UDP_BUFFER_BYTES: usize = 1024 * 1024;
/// How often a port that the kernel chose for UDP is tried for TCP.
const PORT_TRIES: usize = 16;
/// What answers are counted by; any other rcode of a recursor is a failure.
const RCODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "noerror"),
    (ResponseCode::FormErr, "formerr"),
    (ResponseCode::ServFail, "servfail"),
    (ResponseCode::NXDomain, "nxdomain"),
    (ResponseCode::NotImp, "notimp"),
    (ResponseCode::Refused, "refused"),
    (ResponseCode::BADVERS, "badvers"),
];
/// The pause after a socket failed in a way that is not of one client.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Sockets that nothing waits on yet.
pub struct Bound {
    by_worker: Vec<Vec<Pair>>,
    listening: Vec<SocketAddr>,
}

struct Pair {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Bound {
    /// Where: with the port that the kernel chose, if it was to choose one.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }
}

/// Why DNS cannot listen, and what to type instead.
#[derive(Debug)]
pub struct BindError {
    pub at: SocketAddr,
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, error } = self;
        let elsewhere = |f: &mut fmt::Formatter<'_>, other: SocketAddr| {
            write!(f, "\n\nListen elsewhere, or not at all:\n\n    tidings agent --dns {other}\n    tidings agent --no-dns")
        };
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let who = if at.port() == DNS_PORT { "Consul or another agent seems to run here" } else { "something else listens there" };
                write!(f, "{at} is taken for DNS: {who}")?;
                elsewhere(f, SocketAddr::new(at.ip(), at.port().wrapping_add(10).max(1_024)))
            }
            io::ErrorKind::PermissionDenied if at.port() < 1_024 => {
                write!(f, "{at} is not ours to listen on for DNS: ports below 1024 are root's")?;
                elsewhere(f, SocketAddr::new(at.ip(), DNS_PORT))
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "{} is no address of this host, so DNS cannot listen there", at.ip())?;
                elsewhere(f, SocketAddr::from(([127, 0, 0, 1], at.port())))
            }
            _ => write!(f, "DNS cannot listen on {at}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds UDP and TCP on each of `listen` for so many workers.
///
/// # Errors
/// Says which of them cannot be listened on, and what to type.
pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Bound, BindError> {
    let workers = workers.max(1);
    let mut bound = Bound { by_worker: (0..workers).map(|_| Vec::new()).collect(), listening: Vec::new() };
    for &at in listen {
        let (address, pairs) = bind_pairs(at, workers).map_err(|error| BindError { at, error })?;
        bound.listening.push(address);
        bound.by_worker.iter_mut().zip(pairs).for_each(|(own, pair)| own.push(pair));
    }
    Ok(bound)
}

fn bind_pairs(at: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<Pair>)> {
    let mut tries = if at.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (address, udp) = bind_udp(at, workers)?;
        match bind_tcp(address, workers) {
            Ok((_, tcp)) => return Ok((address, udp.into_iter().zip(tcp).map(|(udp, tcp)| Pair { udp, tcp }).collect())),
            // The kernel's choice was free for UDP alone.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind_udp(at: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::UdpSocket>)> {
    let open = || socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, Some(socket2::Protocol::UDP));
    // As for TCP: one that shares with nobody finds out whether the port is free.
    let probe = open()?;
    probe.bind(&at.into())?;
    let address = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    drop(probe);
    let sockets = (0..workers).map(|_| {
        let socket = open()?;
        socket.set_reuse_port(true)?;
        // The system gives what it allows; with less, bursts are lost sooner.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        datagrams::tell_addresses(&socket, address)?;
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    });
    Ok((address, sockets.collect::<io::Result<Vec<_>>>()?))
}

/// Starts to answer queries on what is bound, until the agent stops.
///
/// # Errors
/// The system has no threads or no entropy to give.
#[allow(clippy::disallowed_methods, reason = "the shell has threads")]
pub fn serve(bound: Bound, settings: &Dns, handle: &Handle) -> io::Result<Serving> {
    let recursors: Vec<SocketAddr> = settings.recursors.iter().copied().filter(|at| !is_ourselves(*at, &bound.listening)).collect();
    let config = Arc::new(config(settings, !recursors.is_empty()));
    let shared = Arc::new(Shared {
        handle: handle.clone(),
        recursors: Recursors::new(recursors, settings.recursor_timeout),
        waiting: Waiting::default(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        counters: Counters::register(handle),
    });
    let listening = bound.listening.iter().copied().map(Listen::Tcp).collect();
    let mut threads = Vec::new();
    for (i, pairs) in bound.by_worker.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seed = getrandom::u64().map_err(io::Error::other)?;
        let worker = Worker { shared: Arc::clone(&shared), responder: Arc::new(Mutex::new(Responder::new(Arc::clone(&config), seed))) };
        let thread = std::thread::Builder::new().name(format!("tidings-dns-{i}"));
        threads.push(thread.spawn(move || {
            runtime.block_on(async {
                if let Err(error) = worker.work(pairs).await {
                    tracing::error!(%error, "a worker cannot wait for its DNS sockets");
                }
            });
        })?);
    }
    Ok(Serving { workers: threads, listening })
}

/// Whoever asks himself waits for himself.
fn is_ourselves(recursor: SocketAddr, listening: &[SocketAddr]) -> bool {
    let (ip, port) = (recursor.ip(), recursor.port());
    listening.iter().any(|at| at.port() == port && (at.ip() == ip || (at.ip().is_unspecified() && ip.is_loopback())))
}

fn config(settings: &Dns, recurses: bool) -> Config {
    let domains = [Some(&settings.domain), settings.alt_domain.as_ref()];
    Config {
        domains: domains.into_iter().flatten().filter_map(|domain| name::parse(domain)).collect(),
        node_ttl_s: settings.node_ttl_s,
        service_ttl: ServiceTtl::new(settings.service_ttl_s.iter().map(|(pattern, seconds)| (pattern.as_str(), *seconds))),
        only_passing: settings.only_passing,
        udp_answers_max: settings.udp_answer_limit,
        addresses_max: settings.a_record_limit,
        tells_truncation: settings.enable_truncate,
        recurses,
    }
}

/// What all workers have in common.
struct Shared {
    handle: Handle,
    recursors: Recursors,
    waiting: Waiting,
    connections: Arc<Semaphore>,
    counters: Counters,
}

/// One thread's share.
#[derive(Clone)]
struct Worker {
    shared: Arc<Shared>,
    /// Of this thread alone, so the lock never waits.
    responder: Arc<Mutex<Responder>>,
}

impl Worker {
    async fn work(self, pairs: Vec<Pair>) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        for pair in pairs {
            let udp = datagrams::Datagrams::new(pair.udp)?;
            let tcp = tokio::net::TcpListener::from_std(pair.tcp)?;
            tasks.spawn(udp::serve(udp, self.clone()));
            tasks.spawn(tcp::accept(tcp, self.clone()));
        }
        self.shared.handle.stopping().await;
        // A query is asked again, of whoever is left; nothing is worth waiting for.
        tasks.shutdown().await;
        Ok(())
    }

    fn responder(&self) -> MutexGuard<'_, Responder> {
        self.responder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted, each count found once and then only added to.
struct Counters {
    answers: [[Counter; RCODES.len()]; 2],
    short: Counter,
    long: Counter,
    response: Counter,
    unsent: Counter,
    recursions: Counter,
    recursions_failed: Counter,
    recursions_refused: Counter,
    connections: Counter,
}

impl Counters {
    fn register(handle: &Handle) -> Self {
        let answers: Family<[(&'static str, &'static str); 2], Counter> = Family::default();
        let ignored: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let recursions: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let connections = Counter::default();
        let counter =
            |family: &Family<[(&'static str, &'static str); 1], Counter>, label, value| family.get_or_create(&[(label, value)]).clone();
        let counters = Self {
            answers: ["udp", "tcp"]
                .map(|transport| RCODES.map(|(_, rcode)| answers.get_or_create(&[("transport", transport), ("rcode", rcode)]).clone())),
            short: counter(&ignored, "reason", "short"),
            long: counter(&ignored, "reason", "long"),
            response: counter(&ignored, "reason", "response"),
            unsent: counter(&ignored, "reason", "unsent"),
            recursions: counter(&recursions, "outcome", "answered"),
            recursions_failed: counter(&recursions, "outcome", "failed"),
            recursions_refused: counter(&recursions, "outcome", "refused"),
            connections: connections.clone(),
        };
        handle.register_metrics(|registry| {
            registry.register("tidings_dns_answers", "Answers to DNS queries", answers);
            registry.register("tidings_dns_ignored", "DNS messages that got no answer", ignored);
            registry.register("tidings_dns_recursions", "Queries that recursors were asked", recursions);
            registry.register("tidings_dns_connections", "DNS connections over TCP", connections);
        });
        counters
    }

    fn answered(&self, transport: Transport, rcode: ResponseCode) {
        let place = |wanted| RCODES.iter().position(|(rcode, _)| *rcode == wanted);
        let place = place(rcode).or_else(|| place(ResponseCode::ServFail)).unwrap_or_default();
        self.answers[transport as usize][place].inc();
    }

    fn ignored(&self, why: Ignored) {
        match why {
            Ignored::Short => self.short.inc(),
            Ignored::Response => self.response.inc(),
        };
    }
}
