//! Sockets to routers: listeners, limits, timeouts and a clean stop (design.md §3, §5).
//!
//! One thread a core, each with a runtime of its own and a socket of its own on the same port (SO_REUSEPORT): no connection crosses a
//! core, which for short answers out of memory is about twice what one shared runtime yields. What a request means is the router's.
//!
//! The native API and the dialects that speak HTTP share one port, one door and one count.
//!
//! A listener may speak TLS; which clients it then asks to show certificates of their own is its settings'.

pub mod dns;
mod linger;
mod listen;
#[cfg(test)]
mod tests;
pub mod tls;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::access::Door;
use crate::agent::handle::Handle;
use crate::api::{Api, App, Transport};
use crate::dialects::consul::{self, Consul};
/// The version of Consul that agents say they speak, and what a configuration of Consul's registers.
pub use crate::dialects::consul::{Definitions as ConsulDefinitions, VERSION as CONSUL_VERSION};
use crate::settings::{self, Consistent, Listen};
use linger::Lingering;
pub use listen::{BindError, Bound, bind};
use listen::{Socket, Unregistered, is_of_one_connection};
use tls::Tls;

/// Open connections of all listeners, where the limit of open files leaves room for them.
const CONNECTIONS_MAX: usize = 16_384;
/// Files that are not for connections: gossip, streams, the store, checks.
const FILES_RESERVED: usize = 512;
/// A request's line and headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// For a whole head to arrive, and for the next one on a connection that is kept open.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 256;
/// What is under way when the agent stops may take so long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// A TLS handshake may take so long.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the system refused to hand out a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listeners at work; they stop when the agent does.
pub struct Serving {
    workers: Vec<JoinHandle<()>>,
    /// As it came to be: the port that the kernel chose where none was given.
    pub listening: Vec<Listen>,
}

impl Serving {
    /// Waits until every listener has stopped, which they do when the agent stops.
    pub fn join(self) {
        for worker in self.workers {
            // A panic of a worker was printed by itself.
            let _ = worker.join();
        }
    }
}

/// As many workers as there are cores.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Starts to answer for the agent on what is bound. `hosts` are names by which it may be called, besides IPs and localhost;
/// `tls` is what listeners that speak TLS show, `consul` what is set for clients of Consul.
///
/// # Errors
/// The system has no threads or no entropy to give.
#[allow(clippy::disallowed_methods, reason = "the shell has threads")]
pub fn serve(bound: Bound, hosts: &[String], tls: Option<&Tls>, consul: settings::Consul, handle: &Handle) -> io::Result<Serving> {
    let seed = || getrandom::u64().map_err(io::Error::other);
    let api = Api::new(handle.clone(), seed()?);
    let refuses_consistent = consul.consistent == Consistent::Refused;
    let consul = Consul::new(handle.clone(), consul::Settings { refuses_consistent, ..consul::Settings::default() }, seed()?);
    let app = App::new(api.clone(), consul::router(consul.clone()), Door::new(hosts.iter().map(String::as_str)));
    let Bound { by_worker, listening, files } = bound;
    let places = Arc::new(Semaphore::new(connections_max()));
    let mut workers = Vec::new();
    for (i, sockets) in by_worker.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (app, handle, places, tls) = (app.clone(), handle.clone(), Arc::clone(&places), tls.cloned());
        // One of them also notes what happens, for people to read and for readers who wait.
        let followers = (i == 0).then(|| (api.clone().follow(), consul.clone().follow()));
        let files = if i == 0 { files.clone() } else { Vec::new() };
        let worker = std::thread::Builder::new().name(format!("tidings-http-{i}"));
        workers.push(worker.spawn(move || {
            runtime.block_on(async {
                followers.map(|(events, picture)| (tokio::spawn(events), tokio::spawn(picture)));
                if let (0, Some(tls)) = (i, &tls) {
                    tokio::spawn(tls.clone().watch_end(handle.clone()));
                }
                match sockets.into_iter().map(Unregistered::register).collect::<io::Result<Vec<Socket>>>() {
                    Ok(sockets) => work(sockets, app, tls, handle, places).await,
                    Err(error) => tracing::error!(%error, "a worker cannot wait for its listeners"),
                }
            });
            for file in files {
                // Left behind, it would only be found dead by the next start.
                let _ = std::fs::remove_file(file);
            }
        })?);
    }
    Ok(Serving { workers, listening })
}

/// One worker: accepts on its sockets until the agent stops, then lets end what is under way.
async fn work(sockets: Vec<Socket>, app: App, tls: Option<Tls>, handle: Handle, places: Arc<Semaphore>) {
    let connections = Arc::new(GracefulShutdown::new());
    let mut acceptors = JoinSet::new();
    for socket in sockets {
        let server = Server { app: app.clone(), tls: tls.clone(), connections: Arc::clone(&connections), handle: handle.clone() };
        acceptors.spawn(accept(socket, server, Arc::clone(&places)));
    }
    handle.stopping().await;
    acceptors.shutdown().await;
    let Some(graceful) = Arc::into_inner(connections) else { return };
    if tokio::time::timeout(STOP_PATIENCE, graceful.shutdown()).await.is_err() {
        tracing::info!(patience = ?STOP_PATIENCE, "some connections were cut off: their requests did not end in time");
    }
}

async fn accept(socket: Socket, server: Server, places: Arc<Semaphore>) {
    loop {
        // Without a place nothing is accepted: clients wait in the kernel's queue, and no more of them than it holds.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = match &socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                listen::prepare(&stream);
                server.clone().spawn_tcp(stream, place);
            }),
            Socket::Tls(listener) => listener.accept().await.map(|(stream, _)| {
                listen::prepare(&stream);
                server.clone().spawn_tls(stream, place);
            }),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| server.clone().spawn_unix(stream, place)),
        };
        if let Err(error) = accepted
            && !is_of_one_connection(&error)
        {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Answers connections.
#[derive(Clone)]
struct Server {
    app: App,
    tls: Option<Tls>,
    connections: Arc<GracefulShutdown>,
    handle: Handle,
}

/// What a connection speaks, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Either,
}

impl Server {
    fn spawn_unix(self, stream: UnixStream, place: OwnedSemaphorePermit) {
        let watcher = self.connections.watcher();
        tokio::spawn(converse(self.app, watcher, stream, Transport::Unix, Version::Either, place));
    }

    fn spawn_tcp(self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (watcher, app, handle) = (self.connections.watcher(), self.app, self.handle);
        tokio::spawn(async move {
            let version = tokio::select! {
                version = tokio::time::timeout(HEAD_PATIENCE, version(&stream)) => version,
                () = handle.stopping() => return,
            };
            match version {
                Ok(Ok(version)) => converse(app, watcher, stream, Transport::Tcp, version, place).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                Err(_) => tracing::debug!(patience = ?HEAD_PATIENCE, "a connection said nothing"),
            }
        });
    }

    /// Shakes hands first: in a task of its own, for a client may take its time.
    fn spawn_tls(self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let Some(tls) = self.tls else { return };
        // Taken now: what holds the connections together is gone once the agent stops.
        let (watcher, app) = (self.connections.watcher(), self.app);
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_PATIENCE, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => converse(app, watcher, stream, Transport::Tls, Version::Either, place).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client and this agent did not agree on TLS"),
                Err(_) => tracing::debug!(patience = ?HANDSHAKE_PATIENCE, "a TLS handshake did not end in time"),
            }
        });
    }
}

/// Looks at a connection's first bytes and leaves them where they are.
///
/// What tells the versions apart by reading keeps a buffer twice as large, for as long as the connection is open: with ten thousand
/// clients that wait for a change, that is most of what they cost.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    const HTTP2: &[u8] = b"PRI";
    let mut first = [0; HTTP2.len()];
    let count = stream.peek(&mut first).await?;
    // Fewer bytes than that may still become either.
    Ok(if HTTP2.starts_with(&first[..count]) { Version::Either } else { Version::Http1 })
}

/// Answers one connection until it ends; `place` is its place among all.
async fn converse<S>(app: App, watcher: Watcher, stream: S, transport: Transport, version: Version, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut app = app.clone();
        async move {
            let (parts, body) = request.into_parts();
            let (body, rest) = Lingering::new(body);
            let response = app.answer(Request::from_parts(parts, body), transport).await;
            rest.discard().await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if version == Version::Http1 {
        builder = builder.http1_only();
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

/// What the limit of open files leaves for connections. The soft limit, often 1,024, is for programs that pass files to `select`; it is
/// raised to the hard one, which is what the host's operator allows.
fn connections_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours and outlives the calls, of which the first only writes to it and the second only reads it.
    let files = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            1_024
        } else {
            let soft = limit.rlim_cur;
            limit.rlim_cur = limit.rlim_max;
            let is_raised = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0;
            usize::try_from(if is_raised { limit.rlim_max } else { soft }).unwrap_or(usize::MAX)
        }
    };
    // Half at worst: with a very low limit both sides must live.
    CONNECTIONS_MAX.min(files.saturating_sub(FILES_RESERVED).max(files / 2)).max(1)
}
