//! The gossip port: one UDP socket and a TCP listener at the same address.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// What the kernel may hold for us while we are busy, in bytes; it gives what its own limit allows.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const SEND_BUFFER_BYTES: usize = 2 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;
/// Tries to find a port that is free for both, when the kernel chooses.
const PORT_TRIES: usize = 16;

/// Both sockets of the gossip port, non-blocking.
#[derive(Debug)]
pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
    pub address: SocketAddr,
}

/// Why the gossip port cannot be had.
#[derive(Debug)]
pub struct BindError {
    pub address: SocketAddr,
    pub protocol: &'static str,
    /// What was to listen there, and the flag that moves it.
    pub purpose: Purpose,
    pub why: io::Error,
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    pub what: &'static str,
    pub listen: &'static str,
    pub advertise: &'static str,
}

/// Gossip inside a datacenter.
pub const GOSSIP: Purpose = Purpose { what: "gossip", listen: "--gossip", advertise: "--advertise" };
/// A gateway towards other datacenters.
pub const WAN: Purpose = Purpose { what: "the gateway", listen: "--wan", advertise: "--advertise-wan" };

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, purpose: Purpose { what, listen, .. }, why } = self;
        match why.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "{what} cannot listen at {address} ({protocol}): the port is taken, perhaps by another agent\n\
                 Stop that one, or move this one: {listen} {}:PORT.",
                address.ip()
            ),
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "{what} cannot listen at {address} ({protocol}): this host has no such address\n\
                 Give one it has: {listen} ADDR:{}.",
                address.port()
            ),
            _ => write!(f, "{what} cannot listen at {address} ({protocol}): {why}\nGive another address with {listen} ADDR:PORT."),
        }
    }
}

impl std::error::Error for BindError {}

impl Sockets {
    /// Binds both; port 0 lets the kernel choose one that is free for both.
    ///
    /// # Errors
    /// The address is taken, or not this host's.
    pub fn bind(address: SocketAddr, purpose: Purpose) -> Result<Sockets, BindError> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Self::bind_once(address, purpose) {
                Err(failed) if tries > 0 && failed.why.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }

    fn bind_once(address: SocketAddr, purpose: Purpose) -> Result<Sockets, BindError> {
        let failed = |protocol| move |why| BindError { address, protocol, purpose, why };
        let tcp = listener(address).map_err(failed("TCP"))?;
        let address = tcp.local_addr().map_err(failed("TCP"))?;
        let udp = datagrams(address).map_err(failed("UDP"))?;
        Ok(Sockets { udp, tcp, address })
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted agent finds connections of its former life in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Smaller buffers lose packets under load, which gossip repairs: no reason not to start.
    if let Err(why) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).and_then(|()| socket.set_send_buffer_size(SEND_BUFFER_BYTES)) {
        tracing::debug!(%why, "the kernel's buffers stay as they are");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// What other agents are told: what was given, else where we listen, else where this host's way to others begins.
///
/// # Errors
/// We listen everywhere and there is no way to anywhere.
pub fn advertised(
    given: Option<SocketAddr>,
    listen: SocketAddr,
    towards: Option<SocketAddr>,
    purpose: Purpose,
) -> Result<SocketAddr, NoAddress> {
    let with_port = |mut address: SocketAddr| {
        if address.port() == 0 {
            address.set_port(listen.port());
        }
        address
    };
    if let Some(given) = given {
        return Ok(with_port(given));
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    // TEST-NET-1 and the documentation prefix: the default route leads there, and nothing is sent.
    let anywhere: SocketAddr =
        if listen.is_ipv4() { (Ipv4Addr::new(192, 0, 2, 1), 9).into() } else { (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into() };
    let begins = |to: SocketAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0))?;
        socket.connect(to)?;
        socket.local_addr()
    };
    let found = towards.filter(|to| to.is_ipv4() == listen.is_ipv4()).into_iter().chain([anywhere]).find_map(|to| begins(to).ok());
    found.map(|address| SocketAddr::new(address.ip(), listen.port())).ok_or(NoAddress { listen, purpose })
}

/// Which address to tell others is not to be found out.
#[derive(Debug)]
pub struct NoAddress {
    pub listen: SocketAddr,
    pub purpose: Purpose,
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} listens at {}, and this host has no route that tells which of its addresses others can reach\n\
             Give it: {} ADDR:{}.",
            self.purpose.what,
            self.listen,
            self.purpose.advertise,
            self.listen.port()
        )
    }
}

impl std::error::Error for NoAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_serves_datagrams_and_streams() {
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), GOSSIP).unwrap();
        assert_eq!(sockets.udp.local_addr().unwrap(), sockets.tcp.local_addr().unwrap());
        let taken = Sockets::bind(sockets.address, GOSSIP).unwrap_err();
        assert!(taken.to_string().contains("--gossip 127.0.0.1:PORT"), "{taken}");
        drop(sockets);
        assert!(Sockets::bind(taken.address, GOSSIP).is_ok());
    }

    #[test]
    fn others_are_told_an_address_they_can_use() {
        let listen: SocketAddr = "0.0.0.0:7976".parse().unwrap();
        let given: SocketAddr = "10.9.8.7:1".parse().unwrap();
        assert_eq!(advertised(Some(given), listen, None, GOSSIP).unwrap(), given);
        assert_eq!(advertised(None, given, None, GOSSIP).unwrap(), given);
        let towards_itself = advertised(None, listen, Some("127.0.0.1:5".parse().unwrap()), GOSSIP).unwrap();
        assert_eq!(towards_itself, "127.0.0.1:7976".parse().unwrap());
    }
}
