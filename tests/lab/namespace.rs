//! The system calls behind a host: a network namespace (and a mount namespace, so that a host may have a disk of its own)
//! entered by the calling thread, and one TUN device in it.
//!
//! The device is opened inside the namespace, so nothing has to be moved or named; its file descriptor works from everywhere.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The name of a host's one device, the same in every namespace.
pub const DEVICE: &str = "lab0";
/// Packets the kernel keeps while the forwarding loop is busy; the default of 500 is less than one snapshot.
const DEVICE_QUEUE_PACKETS: i32 = 5_000;
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Moves the calling thread into namespaces of its own.
pub fn enter_new() -> io::Result<()> {
    // SAFETY: takes no pointers; changes the calling thread only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })?;
    // Without this, mounts made here would show up outside.
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// Opens the TUN device of the calling thread's namespace, gives it `address` and sets it and loopback up.
pub fn open_device(address: Ipv4Addr) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")?;
    let mut request = request(DEVICE);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    control(tun.as_raw_fd(), libc::TUNSETIFF as libc::c_ulong, &mut request)?;

    set_up("lo", true)?;
    let socket = control_socket()?;
    set_address(&socket, libc::SIOCSIFADDR as libc::c_ulong, address)?;
    set_address(&socket, libc::SIOCSIFNETMASK as libc::c_ulong, NETMASK)?;
    let mut request = self::request(DEVICE);
    request.ifr_ifru.ifru_ifindex = DEVICE_QUEUE_PACKETS;
    control(socket.as_raw_fd(), libc::SIOCSIFTXQLEN as libc::c_ulong, &mut request)?;
    set_up(DEVICE, true)?;
    Ok(tun)
}

/// Sets a device of the calling thread's namespace up or down.
pub fn set_up(device: &str, up: bool) -> io::Result<()> {
    let mut request = request(device);
    request.ifr_ifru.ifru_flags = if up { (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short } else { 0 };
    control(control_socket()?.as_raw_fd(), libc::SIOCSIFFLAGS as libc::c_ulong, &mut request)
}

/// Mounts a disk of `bytes` in memory on `path`, seen in the calling thread's mount namespace only.
pub fn mount_disk(path: &Path, bytes: u64) -> io::Result<()> {
    mount("tmpfs", path, "tmpfs", 0, &format!("size={bytes}"))
}

/// The inode number that names the calling thread's network namespace.
pub fn current() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Interface requests go through any socket of the namespace.
fn control_socket() -> io::Result<socket2::Socket> {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)
}

fn set_address(socket: &socket2::Socket, request_code: libc::c_ulong, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request(DEVICE);
    let mut bytes = [0 as libc::c_char; 14];
    for (slot, octet) in bytes[2..6].iter_mut().zip(address.octets()) {
        *slot = octet as libc::c_char;
    }
    request.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: bytes };
    control(socket.as_raw_fd(), request_code, &mut request)
}

fn request(device: &str) -> libc::ifreq {
    // SAFETY: a plain C structure for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(device.bytes()) {
        *slot = byte as libc::c_char;
    }
    request
}

fn control(fd: RawFd, request_code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all codes used here take a pointer to an ifreq, which lives across the call.
    check(unsafe { libc::ioctl(fd, request_code as libc::Ioctl, std::ptr::from_mut(request)) })
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let [source, target, kind, options] = [source.as_bytes(), target.as_os_str().as_bytes(), kind.as_bytes(), options.as_bytes()]
        .map(|bytes| CString::new(bytes).map_err(io::Error::other));
    let (source, target, kind, options) = (source?, target?, kind?, options?);
    // SAFETY: four C strings that live across the call.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Why this process cannot make hosts, if it cannot.
pub fn missing() -> Option<String> {
    // SAFETY: takes nothing, changes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Some(String::from("not root"));
    }
    let tried = std::thread::spawn(|| {
        enter_new().map_err(|e| format!("no new network namespace: {e}"))?;
        let _device = open_device(Ipv4Addr::new(10, 77, 0, 1)).map_err(|e| format!("no TUN device: {e}"))?;
        UdpSocket::bind("10.77.0.1:0").map_err(|e| format!("no address on the TUN device: {e}"))?;
        Ok::<(), String>(())
    });
    tried.join().unwrap_or_else(|_| Err(String::from("the attempt panicked"))).err()
}
