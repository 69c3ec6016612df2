//! Binding: what cannot be listened on is said before anything runs.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::settings::{HTTP_PORT, Listen};

/// Connections that wait to be accepted, a socket.
const BACKLOG: i32 = 1_024;
/// A peer that takes nothing of what it is sent for so long is gone, or might as well be.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// Owner and group may talk to a unix socket.
const UNIX_MODE: u32 = 0o660;

/// A socket of one worker.
pub(super) enum Socket {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener),
}

/// Sockets that nothing accepts on yet.
pub struct Bound {
    pub(super) by_worker: Vec<Vec<Unregistered>>,
    pub(super) listening: Vec<Listen>,
    /// Unix sockets to take away at the end.
    pub(super) files: Vec<PathBuf>,
}

impl Bound {
    /// Where: with the port that the kernel chose, if it was to choose one.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }
}

/// A socket that no runtime knows yet.
pub(super) enum Unregistered {
    Tcp(std::net::TcpListener),
    Tls(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Unregistered {
    /// Must be called inside the runtime that is to wait for it.
    pub(super) fn register(self) -> io::Result<Socket> {
        match self {
            Unregistered::Tcp(listener) => TcpListener::from_std(listener).map(Socket::Tcp),
            Unregistered::Tls(listener) => TcpListener::from_std(listener).map(Socket::Tls),
            Unregistered::Unix(listener) => UnixListener::from_std(listener).map(Socket::Unix),
        }
    }
}

/// Why something cannot be listened on, and what to type instead.
#[derive(Debug)]
pub struct BindError {
    pub at: Listen,
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, error } = self;
        match (at, error.kind()) {
            (Listen::Tcp(address) | Listen::Tls(address), io::ErrorKind::AddrInUse) => {
                let other = SocketAddr::new(address.ip(), address.port().wrapping_add(10).max(1_024));
                let who =
                    if address.port() == HTTP_PORT { "Consul or another agent seems to run here" } else { "something else listens there" };
                write!(f, "{at} is taken: {who}\n\nListen elsewhere:\n\n    tidings agent --http {other}")
            }
            (Listen::Tcp(address) | Listen::Tls(address), io::ErrorKind::PermissionDenied) if address.port() < 1_024 => {
                write!(
                    f,
                    "{at} is not ours to listen on: ports below 1024 are root's\n\nListen elsewhere:\n\n    tidings agent --http {}:{HTTP_PORT}",
                    address.ip()
                )
            }
            (Listen::Tcp(address) | Listen::Tls(address), io::ErrorKind::AddrNotAvailable) => {
                write!(
                    f,
                    "{} is no address of this host\n\nListen on one that is:\n\n    tidings agent --http 127.0.0.1:{}",
                    address.ip(),
                    address.port()
                )
            }
            (Listen::Unix(path), io::ErrorKind::AddrInUse) => write!(f, "another process listens on {}", path.display()),
            _ => write!(f, "cannot listen on {at}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds each of `listen` for so many workers.
///
/// # Errors
/// Says which of them cannot be listened on, and what to type.
pub fn bind(listen: &[Listen], workers: usize) -> Result<Bound, BindError> {
    let workers = workers.max(1);
    let mut bound = Bound { by_worker: (0..workers).map(|_| Vec::new()).collect(), listening: Vec::new(), files: Vec::new() };
    for at in listen {
        let failed = |error| BindError { at: at.clone(), error };
        match at {
            Listen::Tcp(address) => {
                let (address, sockets) = bind_tcp(*address, workers).map_err(failed)?;
                bound.listening.push(Listen::Tcp(address));
                bound.by_worker.iter_mut().zip(sockets).for_each(|(own, socket)| own.push(Unregistered::Tcp(socket)));
            }
            Listen::Tls(address) => {
                let (address, sockets) = bind_tcp(*address, workers).map_err(failed)?;
                bound.listening.push(Listen::Tls(address));
                bound.by_worker.iter_mut().zip(sockets).for_each(|(own, socket)| own.push(Unregistered::Tls(socket)));
            }
            Listen::Unix(path) => {
                let listener = bind_unix(path).map_err(failed)?;
                bound.listening.push(at.clone());
                bound.files.push(path.clone());
                for own in &mut bound.by_worker {
                    own.push(Unregistered::Unix(listener.try_clone().map_err(failed)?));
                }
            }
        }
    }
    Ok(bound)
}

pub(super) fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // A port that is shared on purpose is taken without a word by another process of the same user. This one shares with nobody: it
    // finds out whether the port is free, and which one the kernel gives.
    let probe = tcp_socket(address)?;
    probe.bind(&address.into())?;
    let address = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    drop(probe);
    let sockets = (0..workers).map(|_| {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    });
    Ok((address, sockets.collect::<io::Result<Vec<_>>>()?))
}

fn tcp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections that linger from the life before do not keep a restart from its port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if path.exists() {
        // Whether somebody listens is told by whether he answers.
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What each connection gets; where the system refuses, it is only slower or later to notice.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_keepalive(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(SEND_PATIENCE));
}

/// Whether accepting failed because of one client, not of us.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}
