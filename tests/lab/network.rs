//! Lab and Host: a network of namespaces on one cable, and what is done to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use super::forward::{Counts, Forwarder, Path, address_of};
use super::http::Http;
use super::namespace;
use super::resident::Resident;

pub struct Lab {
    forwarder: Forwarder,
    hosts: Vec<Host>,
}

impl Lab {
    /// An empty network; `None`, with the reason printed, where this process cannot make one.
    ///
    /// # Panics
    /// Instead of `None` where `TIDINGS_LAB=require` is set: on a machine meant for these tests, a skipped one is a failure.
    pub fn new(seed: u64) -> Option<Lab> {
        if let Some(reason) = namespace::missing() {
            let reason = format!("a lab needs root, network namespaces and TUN devices: {reason}");
            assert!(std::env::var("TIDINGS_LAB").as_deref() != Ok("require"), "{reason}");
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        let forwarder = Forwarder::start(seed).expect("a thread and a pair of sockets can be had");
        Some(Lab { forwarder, hosts: Vec::new() })
    }

    /// A new host on the cable, connected to all others.
    pub fn host(&mut self, name: &str) -> Host {
        let address = address_of(self.hosts.len());
        let (resident, (device, namespace)) = Resident::settle(&format!("lab-{name}"), move || {
            namespace::enter_new()?;
            Ok((namespace::open_device(address)?, namespace::current()?))
        })
        .unwrap_or_else(|e| panic!("no host {name}: {e}"));
        let number = self.forwarder.add(device);
        let host = Host { name: name.to_owned(), number, address, namespace, resident: Arc::new(resident) };
        self.hosts.push(host.clone());
        host
    }

    /// Both ways between two hosts, to be changed in place.
    pub fn link(&self, a: &Host, b: &Host) -> Link<'_> {
        Link { lab: self, ways: vec![(a.number, b.number), (b.number, a.number)] }
    }

    /// All ways of all hosts.
    pub fn everywhere(&self) -> Link<'_> {
        let numbers = 0..self.hosts.len();
        let ways = numbers.clone().flat_map(|a| numbers.clone().map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        Link { lab: self, ways }
    }

    /// All ways to and from one host.
    pub fn around(&self, host: &Host) -> Link<'_> {
        let Link { lab, mut ways } = self.everywhere();
        ways.retain(|(a, b)| *a == host.number || *b == host.number);
        Link { lab, ways }
    }

    pub fn cut(&self, a: &Host, b: &Host) {
        self.link(a, b).change(|path| path.cut = true);
    }

    /// Packets from `from` no longer reach `to`; the other way works.
    pub fn cut_one_way(&self, from: &Host, to: &Host) {
        Link { lab: self, ways: vec![(from.number, to.number)] }.change(|path| path.cut = true);
    }

    /// Cuts every way between the two sides.
    pub fn split(&self, left: &[&Host], right: &[&Host]) {
        for a in left {
            for b in right {
                self.cut(a, b);
            }
        }
    }

    /// Makes every path perfect again. Links that are down stay down.
    pub fn heal(&self) {
        self.forwarder.ether().heal();
    }

    /// Bytes put on all ways between two groups of hosts, both ways, IP headers included.
    pub fn bytes_between(&self, left: &[&Host], right: &[&Host]) -> u64 {
        let ether = self.forwarder.ether();
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a.number, b.number)));
        pairs.map(|(a, b)| ether.sent(a, b) + ether.sent(b, a)).sum()
    }

    pub fn counts(&self) -> Counts {
        self.forwarder.ether().counts
    }
}

/// Some ways of a lab; each change takes effect at once.
pub struct Link<'a> {
    lab: &'a Lab,
    ways: Vec<(usize, usize)>,
}

impl Link<'_> {
    pub fn delay(self, delay: Duration) -> Self {
        self.change(|path| path.delay = delay)
    }

    pub fn jitter(self, jitter: Duration) -> Self {
        self.change(|path| path.jitter = jitter)
    }

    pub fn loss(self, share: f64) -> Self {
        self.change(|path| path.loss = share)
    }

    pub fn cut(self) -> Self {
        self.change(|path| path.cut = true)
    }

    pub fn heal(self) -> Self {
        self.change(|path| *path = Path::default())
    }

    fn change(self, change: impl Fn(&mut Path)) -> Self {
        let mut ether = self.lab.forwarder.ether();
        self.ways.iter().for_each(|(from, to)| change(ether.path(*from, *to)));
        drop(ether);
        self
    }
}

/// A machine of its own, as far as its network goes. Its processes end with its last handle.
#[derive(Clone)]
pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    /// The inode of its network namespace.
    pub namespace: u64,
    number: usize,
    resident: Arc<Resident>,
}

impl Host {
    pub fn resident(&self) -> Arc<Resident> {
        Arc::clone(&self.resident)
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// Runs `job` inside the host.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.resident.run(job)
    }

    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        self.resident.spawn(command)
    }

    /// Requests to the host's own loopback: they get through whatever happens on the cable.
    pub fn http(&self, port: u16) -> Http {
        Http::new(self.resident(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    pub fn link_down(&self) {
        self.set_link(false);
    }

    pub fn link_up(&self) {
        self.set_link(true);
    }

    /// Mounts a disk of `bytes` on `path`; only processes of this host see it.
    pub fn mount_disk(&self, path: &FilePath, bytes: u64) {
        let path = PathBuf::from(path);
        self.run(move || namespace::mount_disk(&path, bytes)).unwrap_or_else(|e| panic!("{}: no disk: {e}", self.name));
    }

    fn set_link(&self, up: bool) {
        self.run(move || namespace::set_up(namespace::DEVICE, up)).unwrap_or_else(|e| panic!("{}: link: {e}", self.name));
    }
}
