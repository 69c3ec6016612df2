//! Datagrams in batches: at most two system calls for all that has come, however much that is.
//!
//! On a listener for all of a host's addresses the system tells to which of them a datagram came, and the answer leaves from there:
//! resolvers take an answer from nobody but whom they asked. Where the system takes one datagram a call only, so does this.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::dialects::dns::message::UDP_BYTES_MAX;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;
pub use system::Way;

/// Datagrams taken or sent by one call; more of them cost as much each.
pub const BATCH: usize = 32;

pub struct Datagrams {
    socket: UdpSocket,
    /// Bound to all addresses of the host.
    is_wildcard: bool,
}

/// Room for one batch of datagrams.
pub struct Room(Vec<u8>);

impl Room {
    pub fn new() -> Self {
        Self(vec![0; BATCH * UDP_BYTES_MAX])
    }
}

/// What is to be sent, and where to.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub way: Way,
}

/// Lets the system tell to which address datagrams come; before the socket is bound, so that it holds for the first one.
///
/// # Errors
/// The system cannot.
pub fn tell_addresses(socket: &socket2::Socket, at: SocketAddr) -> io::Result<()> {
    if at.ip().is_unspecified() { system::tell_addresses(socket, at.is_ipv4()) } else { Ok(()) }
}

impl Datagrams {
    /// # Errors
    /// The system cannot wait for the socket.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let is_wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Self { socket: UdpSocket::from_std(socket)?, is_wildcard })
    }

    /// Waits until something has come.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Hands over each datagram that has come, a batch of them at most; none where one was longer than any query is. Returns how many.
    ///
    /// # Errors
    /// `WouldBlock` where none has come; else what went wrong, perhaps with an answer sent before.
    pub fn take(&self, room: &mut Room, each: impl FnMut(Option<&[u8]>, Way)) -> io::Result<usize> {
        let taken = self.socket.try_io(Interest::READABLE, || system::take(&self.socket, self.is_wildcard, &mut room.0, each))?;
        if taken < BATCH {
            // Nothing is left, and what comes from now on is told anew: one call less than to be told so.
            let _ = self.socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        Ok(taken)
    }

    /// Sends all that the system has room for; returns how many are lost. Whoever lost an answer asks again: waiting would let one
    /// slow network hold up all.
    pub fn send(&self, answers: &[Answer]) -> usize {
        let mut lost = 0;
        for mut rest in answers.chunk_by(|one, other| one.way.leaves_as(&other.way)) {
            while !rest.is_empty() {
                match system::send(&self.socket, rest) {
                    Ok(sent @ 1..) => rest = &rest[sent..],
                    // It is the first that could not be sent.
                    _ => {
                        lost += 1;
                        rest = &rest[1..];
                    }
                }
            }
        }
        lost
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Answer, BATCH, UDP_BYTES_MAX};
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
    };
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsRawFd as _;

    /// Whom a datagram came from, and to which address of this host where it could be any.
    #[derive(Clone, Copy)]
    pub struct Way {
        peer: SockaddrStorage,
        local: Option<Local>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Local {
        ip: IpAddr,
        /// An address of one link alone means nothing without it; for all others the system finds the way.
        interface: u32,
    }

    impl Way {
        /// Whether answers on both ways leave from the same address.
        pub fn leaves_as(&self, other: &Way) -> bool {
            self.local == other.local
        }
    }

    pub fn tell_addresses(socket: &socket2::Socket, is_v4: bool) -> io::Result<()> {
        let set =
            if is_v4 { setsockopt(socket, sockopt::Ipv4PacketInfo, &true) } else { setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true) };
        set.map_err(io::Error::from)
    }

    pub fn take(
        socket: &tokio::net::UdpSocket,
        is_wildcard: bool,
        room: &mut [u8],
        mut each: impl FnMut(Option<&[u8]>, Way),
    ) -> io::Result<usize> {
        // Made anew for each call: the system writes its own lengths over those of the room for addresses.
        let told = is_wildcard.then(|| nix::cmsg_space!(in6_pktinfo));
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, told);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = room.chunks_exact_mut(UDP_BYTES_MAX).map(|chunk| [IoSliceMut::new(chunk)]).collect();
        let received = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        let mut taken = 0;
        for message in received {
            taken += 1;
            let Some(peer) = message.address else { continue };
            let way = Way { peer, local: local_of(&message) };
            let is_whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            each(is_whole.then(|| message.iovs().next().unwrap_or_default()), way);
        }
        Ok(taken)
    }

    fn local_of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Local> {
        message.cmsgs().ok()?.find_map(|told| match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                Some(Local { ip: ip.into(), interface: 0 })
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                Some(Local { ip: ip.into(), interface: if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 } })
            }
            _ => None,
        })
    }

    /// Sends datagrams that all leave from one address; returns how many it was.
    pub fn send(socket: &tokio::net::UdpSocket, answers: &[Answer]) -> io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> = answers.iter().map(|answer| [IoSlice::new(&answer.bytes)]).collect();
        let peers: Vec<_> = answers.iter().map(|answer| Some(answer.way.peer)).collect();
        let local = answers.first().and_then(|answer| answer.way.local);
        let v4;
        let v6;
        let (told, space) = match local.map(|local| (local.ip, local.interface)) {
            Some((IpAddr::V4(ip), _)) => {
                let address = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: in_addr { s_addr: 0 } };
                (Some(ControlMessage::Ipv4PacketInfo(&v4)), Some(nix::cmsg_space!(in_pktinfo)))
            }
            Some((IpAddr::V6(ip), interface)) => {
                v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: interface };
                (Some(ControlMessage::Ipv6PacketInfo(&v6)), Some(nix::cmsg_space!(in6_pktinfo)))
            }
            None => (None, None),
        };
        let mut headers = MultiHeaders::preallocate(answers.len(), space);
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &peers, told.as_slice(), MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use super::{Answer, BATCH, UDP_BYTES_MAX};
    use std::io;
    use std::net::SocketAddr;

    /// Whom a datagram came from.
    #[derive(Clone, Copy)]
    pub struct Way(SocketAddr);

    impl Way {
        pub fn leaves_as(&self, _: &Way) -> bool {
            true
        }
    }

    /// The system chooses.
    pub fn tell_addresses(_: &socket2::Socket, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub fn take(socket: &tokio::net::UdpSocket, _: bool, room: &mut [u8], mut each: impl FnMut(Option<&[u8]>, Way)) -> io::Result<usize> {
        for taken in 0..BATCH {
            match socket.try_recv_from(&mut room[..UDP_BYTES_MAX]) {
                Ok((length, from)) => each(Some(&room[..length]), Way(from)),
                Err(error) if taken > 0 && error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
        Ok(BATCH)
    }

    pub fn send(socket: &tokio::net::UdpSocket, answers: &[Answer]) -> io::Result<usize> {
        let Some(Answer { bytes, way }) = answers.first() else { return Ok(0) };
        socket.try_send_to(bytes, way.0).map(|_| 1)
    }
}
