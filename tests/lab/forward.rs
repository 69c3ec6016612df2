//! The loop that carries packets between the hosts' TUN devices, and the rules it follows.
//!
//! One thread holds the far ends of all devices. A packet is looked up by its destination; the path of its ordered pair of
//! hosts says whether it passes, is lost, or waits in a heap of due times. All queues are bounded and all drops counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Packets on their way between one ordered pair of hosts; more are dropped, as a full switch would.
const IN_FLIGHT_PACKETS_MAX: usize = 4_096;
/// Packets taken from one device before the next has its turn.
const BURST_PACKETS_MAX: usize = 64;
/// The devices' MTU is 1,500.
const PACKET_BYTES_MAX: usize = 2_048;
/// The last octet names the host: 10.77.0.1 is the first.
pub const HOSTS_MAX: usize = 254;

/// What the way from one host to another does to packets. The default is a perfect cable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    pub cut: bool,
    pub delay: Duration,
    /// Added to the delay, evenly spread from zero to this: packets overtake each other.
    pub jitter: Duration,
    /// The share of packets lost, 0 to 1.
    pub loss: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    pub lost: u64,
    pub cut: u64,
    pub overflowed: u64,
    /// No host has the destination, or it is no IPv4 packet.
    pub unroutable: u64,
    /// The receiver's link was down.
    pub refused: u64,
}

/// What the loop and the lab share.
#[derive(Default)]
pub struct Ether {
    devices: Vec<Arc<File>>,
    /// Ordered pairs that are not perfect, by host number.
    paths: BTreeMap<(usize, usize), Path>,
    /// Bytes put on each way, IP headers included, also of packets that are lost on it.
    sent: BTreeMap<(usize, usize), u64>,
    pub counts: Counts,
}

impl Ether {
    /// Adds a device and returns its host number.
    pub fn add(&mut self, device: File) -> usize {
        self.devices.push(Arc::new(device));
        self.devices.len() - 1
    }

    pub fn path(&mut self, from: usize, to: usize) -> &mut Path {
        self.paths.entry((from, to)).or_default()
    }

    /// Makes every path perfect again.
    pub fn heal(&mut self) {
        self.paths.clear();
    }

    /// Bytes that were put on the way from one host to another.
    pub fn sent(&self, from: usize, to: usize) -> u64 {
        self.sent.get(&(from, to)).copied().unwrap_or(0)
    }

    fn path_of(&self, from: usize, to: usize) -> Path {
        self.paths.get(&(from, to)).copied().unwrap_or_default()
    }
}

pub fn address_of(host: usize) -> Ipv4Addr {
    assert!(host < HOSTS_MAX, "a lab has at most {HOSTS_MAX} hosts");
    Ipv4Addr::new(10, 77, 0, host as u8 + 1)
}

/// The running loop; it ends when this is dropped.
pub struct Forwarder {
    ether: Arc<Mutex<Ether>>,
    /// A byte wakes the loop to look at the devices again; its end stops it.
    wake: Option<UnixStream>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forwarder {
    pub fn start(seed: u64) -> io::Result<Forwarder> {
        let ether = Arc::new(Mutex::new(Ether::default()));
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let mut carrier = Carrier {
            ether: Arc::clone(&ether),
            woken,
            random: ChaCha12Rng::seed_from_u64(seed),
            waiting: BinaryHeap::new(),
            in_flight: BTreeMap::new(),
            sent: 0,
        };
        let thread = std::thread::Builder::new().name(String::from("lab-forward")).spawn(move || carrier.run())?;
        Ok(Forwarder { ether, wake: Some(wake), thread: Some(thread) })
    }

    pub fn ether(&self) -> MutexGuard<'_, Ether> {
        self.ether.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, device: File) -> usize {
        let host = self.ether().add(device);
        if let Some(wake) = &self.wake {
            let _ = (&*wake).write_all(&[1]);
        }
        host
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet that waits. Ordered by due time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    pair: (usize, usize),
    packet: Vec<u8>,
}

struct Carrier {
    ether: Arc<Mutex<Ether>>,
    woken: UnixStream,
    random: ChaCha12Rng,
    waiting: BinaryHeap<Reverse<Waiting>>,
    in_flight: BTreeMap<(usize, usize), usize>,
    sent: u64,
}

impl Carrier {
    fn run(&mut self) {
        let shared = Arc::clone(&self.ether);
        loop {
            let devices = shared.lock().unwrap_or_else(PoisonError::into_inner).devices.clone();
            let readable = self.sleep(&devices);
            if self.stopped() {
                return;
            }
            let mut ether = shared.lock().unwrap_or_else(PoisonError::into_inner);
            for host in readable {
                self.take_from(host, &mut ether);
            }
            self.deliver_due(&mut ether);
        }
    }

    /// Sleeps until a device has packets, the next packet is due or someone calls; returns the devices with packets.
    fn sleep(&self, devices: &[Arc<File>]) -> Vec<usize> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<libc::pollfd> = std::iter::once(poll(self.woken.as_raw_fd())).collect();
        fds.extend(devices.iter().map(|device| poll(device.as_raw_fd())));
        let timeout = self.waiting.peek().map(|Reverse(next)| {
            let left = next.due.saturating_duration_since(Instant::now());
            libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos() as libc::c_long }
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array and the timeout live across the call; a null timeout waits, a null mask changes none.
        unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, std::ptr::null()) };
        fds.iter().skip(1).enumerate().filter(|(_, fd)| fd.revents & libc::POLLIN != 0).map(|(host, _)| host).collect()
    }

    fn stopped(&mut self) -> bool {
        let mut calls = [0; 64];
        matches!(self.woken.read(&mut calls), Ok(0))
    }

    fn take_from(&mut self, from: usize, ether: &mut Ether) {
        let device = Arc::clone(&ether.devices[from]);
        let mut buffer = [0; PACKET_BYTES_MAX];
        for _ in 0..BURST_PACKETS_MAX {
            match (&*device).read(&mut buffer) {
                Ok(length) => self.route(from, &buffer[..length], ether),
                Err(_) => return,
            }
        }
    }

    fn route(&mut self, from: usize, packet: &[u8], ether: &mut Ether) {
        let Some(to) = destination(packet).filter(|to| *to < ether.devices.len()) else {
            ether.counts.unroutable += 1;
            return;
        };
        let path = ether.path_of(from, to);
        if !path.cut {
            *ether.sent.entry((from, to)).or_default() += packet.len() as u64;
        }
        if path.cut {
            ether.counts.cut += 1;
        } else if path.loss > 0.0 && self.random.random_bool(path.loss.min(1.0)) {
            ether.counts.lost += 1;
        } else if path.delay.is_zero() && path.jitter.is_zero() {
            deliver(packet, to, ether);
        } else {
            self.hold(from, to, path, packet, ether);
        }
    }

    fn hold(&mut self, from: usize, to: usize, path: Path, packet: &[u8], ether: &mut Ether) {
        let in_flight = self.in_flight.entry((from, to)).or_default();
        if *in_flight >= IN_FLIGHT_PACKETS_MAX {
            ether.counts.overflowed += 1;
            return;
        }
        *in_flight += 1;
        self.sent += 1;
        let due = Instant::now() + path.delay + path.jitter.mul_f64(self.random.random_range(0.0..=1.0));
        self.waiting.push(Reverse(Waiting { due, number: self.sent, pair: (from, to), packet: packet.to_vec() }));
    }

    fn deliver_due(&mut self, ether: &mut Ether) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Some(Reverse(Waiting { pair: (from, to), packet, .. })) = self.waiting.pop() else { return };
            if let Some(in_flight) = self.in_flight.get_mut(&(from, to)) {
                *in_flight -= 1;
            }
            // A cut takes what is on the way with it: after `cut` returns nothing more arrives.
            if ether.path_of(from, to).cut {
                ether.counts.cut += 1;
            } else {
                deliver(&packet, to, ether);
            }
        }
    }
}

fn destination(packet: &[u8]) -> Option<usize> {
    let is_ipv4 = packet.len() >= 20 && packet[0] >> 4 == 4;
    let in_lab = is_ipv4 && packet[16..19] == [10, 77, 0] && packet[19] >= 1;
    in_lab.then(|| usize::from(packet[19]) - 1)
}

fn deliver(packet: &[u8], to: usize, ether: &mut Ether) {
    match (&*ether.devices[to]).write(packet) {
        Ok(written) if written == packet.len() => ether.counts.delivered += 1,
        _ => ether.counts.refused += 1,
    }
}
