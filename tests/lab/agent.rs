//! One agent: a process of the binary under test with a data directory, a log and an address, on loopback or on a host.
//!
//! When an agent is dropped its process is killed and its log read: an ERROR line or a panic fails the test, for an agent logs
//! ERROR only when it is broken. When the test is failing already, the end of the log is printed instead.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Failure, Http};
use super::resident::Resident;
use super::{wait_for, wait_until};

/// For an agent to be ready, which invariant 8 of the design bounds by 10 s of calm, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// For a process to end after it was asked to, or to refuse to start.
const END_WITHIN: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 60;
/// The ports that agents in hosts use: each host has its own.
const HOST_GOSSIP_PORT: u16 = 7976;
const HOST_HTTP_PORT: u16 = 8500;

/// Where the agents of one test live: a scratch directory with their data, logs and common key.
pub struct Site {
    dir: TempDir,
    here: Arc<Resident>,
    pub key: PathBuf,
}

impl Site {
    /// # Panics
    /// When there is no scratch directory to be had, or the binary does not make a key.
    pub fn new() -> Site {
        let mut dir = TempDir::with_prefix("tidings-test-").expect("a scratch directory can be made");
        if std::env::var_os("TIDINGS_TEST_KEEP").is_some() {
            dir.disable_cleanup(true);
            eprintln!("logs and data stay in {}", dir.path().display());
        }
        let here = Arc::new(Resident::here().expect("a thread can be started"));
        let key = dir.path().join("key");
        let site = Site { dir, here, key };
        site.make_key(&site.key);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a fresh gossip key to `path`, as a user would.
    pub fn make_key(&self, path: &Path) {
        let output = Command::new(binary()).arg("keygen").output().expect("the binary runs");
        assert!(output.status.success(), "keygen failed: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(path, &output.stdout).expect("the scratch directory can be written");
    }

    /// An agent on loopback, not started yet.
    pub fn agent(&self, node: &str) -> Agent {
        let gossip = free_address();
        let http = free_address();
        self.agent_at(node, Arc::clone(&self.here), gossip, http)
    }

    /// An agent on a host of a lab, with the host's name, not started yet. It listens on all of the host's addresses, so that it
    /// can start while the link is down.
    #[cfg(target_os = "linux")]
    pub fn agent_on(&self, host: &super::network::Host) -> Agent {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, HOST_HTTP_PORT));
        let agent = self.agent_at(&host.name, host.resident(), host.at(HOST_GOSSIP_PORT), http);
        let advertised = agent.gossip.to_string();
        agent.listening_on(SocketAddr::from((Ipv4Addr::UNSPECIFIED, HOST_GOSSIP_PORT))).with(&["--advertise", &advertised])
    }

    /// An agent on each of the hosts, each joining the first two others.
    #[cfg(target_os = "linux")]
    pub fn agents_on(&self, hosts: &[super::network::Host]) -> Vec<Agent> {
        let mut agents: Vec<Agent> = hosts.iter().map(|host| self.agent_on(host)).collect();
        let addresses: Vec<SocketAddr> = agents.iter().map(|agent| agent.gossip).collect();
        for agent in &mut agents {
            agent.join = addresses.iter().copied().filter(|address| *address != agent.gossip).take(2).collect();
        }
        agents
    }

    fn agent_at(&self, node: &str, place: Arc<Resident>, gossip: SocketAddr, http: SocketAddr) -> Agent {
        Agent {
            node: node.to_owned(),
            gossip,
            listen: gossip,
            http: Http::new(Arc::clone(&place), http),
            data_dir: self.path(&format!("{node}.data")),
            output: self.path(&format!("{node}.log")),
            key: Some(self.key.clone()),
            join: Vec::new(),
            dns: None,
            arguments: Vec::new(),
            place,
            process: None,
            may_log_errors: false,
        }
    }
}

/// The binary under test: the one that Cargo just built, or, to test a released or packaged one, `TIDINGS_TEST_BINARY`.
pub fn binary() -> PathBuf {
    std::env::var_os("TIDINGS_TEST_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tidings")), PathBuf::from)
}

/// An address of this process alone with a port that is free for TCP and UDP, handed out once.
///
/// On Linux all of 127.0.0.0/8 is loopback: an address made of the process id is nobody else's, so that a port found free stays
/// free until the agent binds it, and over its restarts.
pub fn free_address() -> SocketAddr {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 64 + high % 64, middle, low);
    let address = if cfg!(target_os = "linux") { own } else { Ipv4Addr::LOCALHOST };
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let tcp = TcpListener::bind((address, 0)).expect("the kernel has a free port");
        let found = tcp.local_addr().expect("it is bound");
        if UdpSocket::bind(found).is_ok() && taken.insert(found.port()) {
            return found;
        }
    }
}

pub struct Agent {
    pub node: String,
    /// Where others reach it.
    pub gossip: SocketAddr,
    listen: SocketAddr,
    pub http: Http,
    pub data_dir: PathBuf,
    /// What the process printed, over all its lives.
    output: PathBuf,
    key: Option<PathBuf>,
    join: Vec<SocketAddr>,
    /// Where it answers DNS, if it does.
    dns: Option<SocketAddr>,
    arguments: Vec<String>,
    place: Arc<Resident>,
    process: Option<Child>,
    may_log_errors: bool,
}

/// How a process that would not start ended.
#[derive(Debug)]
pub struct Refusal {
    pub status: ExitStatus,
    pub said: String,
}

impl Agent {
    /// Joins `others` when it starts.
    pub fn join(mut self, others: &[&Agent]) -> Agent {
        self.join.extend(others.iter().map(|agent| agent.gossip));
        self
    }

    pub fn with(mut self, arguments: &[&str]) -> Agent {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Answers DNS on an address of its own, which is returned as well.
    pub fn with_dns(self) -> (Agent, SocketAddr) {
        let at = free_address();
        (self.with_dns_at(at), at)
    }

    pub fn with_dns_at(mut self, at: SocketAddr) -> Agent {
        self.dns = Some(at);
        self
    }

    pub fn with_key(mut self, key: Option<&Path>) -> Agent {
        self.key = key.map(Path::to_owned);
        self
    }

    pub fn with_data_dir(mut self, data_dir: &Path) -> Agent {
        self.data_dir = data_dir.to_owned();
        self
    }

    pub fn listening_on(mut self, address: SocketAddr) -> Agent {
        self.listen = address;
        self
    }

    /// Joins `others` as well when it starts again.
    pub fn join_also(&mut self, others: &[&Agent]) {
        self.join.extend(others.iter().map(|agent| agent.gossip));
    }

    /// Joins nobody when it starts again, but whom it remembers.
    pub fn forget_join(&mut self) {
        self.join.clear();
    }

    /// ERROR lines are expected in this test, as when the disk is full.
    pub fn may_log_errors(mut self) -> Agent {
        self.may_log_errors = true;
        self
    }

    /// Starts the process and waits until it is ready.
    #[track_caller]
    pub fn start(mut self) -> Agent {
        self.restart();
        self
    }

    /// Starts the process again, as it was started before, and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) -> Duration {
        self.spawn();
        self.wait_ready()
    }

    /// Starts the process and does not wait.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.node);
        let output = OpenOptions::new().create(true).append(true).open(&self.output).expect("the scratch directory can be written");
        self.process = Some(self.place.spawn(self.command(output)).expect("the binary runs"));
    }

    /// Starts the process and waits for it to end by itself.
    #[track_caller]
    pub fn refused(mut self) -> Refusal {
        self.spawn();
        let status = self.wait_ended("it refuses to start");
        self.may_log_errors = true;
        Refusal { status, said: self.log() }
    }

    /// Whether the agent says that it is ready.
    ///
    /// # Panics
    /// When its process has ended by itself.
    #[track_caller]
    pub fn is_ready(&mut self) -> bool {
        let answer = self.http.send("GET", "/readyz", None, Duration::from_secs(1));
        if answer.is_ok_and(|answer| answer.status == 200) {
            return true;
        }
        let process = self.process.as_mut().expect("it was started");
        if let Some(status) = process.try_wait().expect("it is our child") {
            self.process = None;
            panic!("{} ended with {status} before it was ready", self.node);
        }
        false
    }

    /// Waits until the agent says that it is ready; returns how long that took.
    #[track_caller]
    pub fn wait_ready(&mut self) -> Duration {
        wait_until(READY_WITHIN, &format!("{} is ready", self.node.clone()), || self.is_ready())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is our child");
        process.wait().expect("it is our child");
    }

    /// SIGTERM; returns how the process ended and how long it took.
    #[track_caller]
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        (self.wait_ended("it ends after SIGTERM"), start.elapsed())
    }

    /// Waits for a process that was told to end.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        self.wait_ended("it ends")
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    pub fn signal(&self, signal: libc::c_int) {
        let process = self.process.as_ref().expect("it runs");
        let pid = libc::pid_t::try_from(process.id()).expect("process ids are positive");
        // SAFETY: takes no pointers; the child is not yet waited for, so that the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{} can be sent signals", self.node);
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub fn log(&self) -> String {
        std::fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Deletes the data directory of an agent that does not run.
    pub fn wipe(&self) {
        assert!(!self.runs(), "{} runs", self.node);
        std::fs::remove_dir_all(&self.data_dir).expect("the data directory can be deleted");
    }

    // What it answers.

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.http.json("PUT", path, Some(body))
    }

    /// # Panics
    /// When the answer is not 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.http.json("GET", path, None).unwrap_or_else(|why| panic!("{}: {why}", self.node))
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.http.send(method, path, body, super::http::PATIENCE)
    }

    /// Registers an instance and returns the answer's body.
    #[track_caller]
    pub fn register(&self, service: &str, id: &str, body: Value) -> Value {
        self.put(&instance_path(service, id), &body).unwrap_or_else(|why| panic!("{}: {why}", self.node))
    }

    /// Deregisters an instance and returns the answer's body.
    #[track_caller]
    pub fn deregister(&self, service: &str, id: &str) -> Value {
        self.http.json("DELETE", &instance_path(service, id), None).unwrap_or_else(|why| panic!("{}: {why}", self.node))
    }

    /// The instances of a service in the default list: those that are available.
    pub fn instances(&self, service: &str) -> Result<Vec<Value>, String> {
        let list = self.http.json("GET", &format!("/api/v1/services/{service}"), None)?;
        list["instances"].as_array().cloned().ok_or_else(|| format!("no list of instances: {list}"))
    }

    /// The ids in the default list, sorted.
    pub fn ids(&self, service: &str) -> Result<Vec<String>, String> {
        let mut ids: Vec<String> = self.instances(service)?.iter().map(|one| text(&one["id"])).collect();
        ids.sort();
        Ok(ids)
    }

    /// Waits until the default list of a service holds exactly `ids`; returns how long that took.
    #[track_caller]
    pub fn wait_ids(&self, service: &str, ids: &[&str], limit: Duration) -> Duration {
        let what = format!("{} shows {ids:?} as {service}", self.node);
        let look = || {
            let shown = self.ids(service)?;
            if shown == ids { Ok(()) } else { Err(format!("it shows {shown:?}")) }
        };
        wait_for(limit, &what, look).1
    }

    /// How many members it holds alive, itself included.
    pub fn alive(&self) -> Result<usize, String> {
        let members = self.http.json("GET", "/api/v1/members", None)?;
        let members = members["members"].as_array().ok_or_else(|| format!("no list of members: {members}"))?;
        Ok(members.iter().filter(|member| member["state"] == "alive").count())
    }

    #[track_caller]
    pub fn wait_alive(&self, count: usize, limit: Duration) -> Duration {
        let look = || match self.alive()? {
            alive if alive == count => Ok(()),
            alive => Err(format!("it holds {alive} alive")),
        };
        wait_for(limit, &format!("{} holds {count} members alive", self.node), look).1
    }

    /// The sum over all samples of a metric whose line starts with `prefix`.
    pub fn metric(&self, prefix: &str) -> Result<f64, String> {
        let answer = self.http.get("/metrics").map_err(|failure| failure.to_string())?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let values = text.lines().filter(|line| line.starts_with(prefix)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    fn command(&self, output: File) -> Command {
        let mut command = Command::new(binary());
        command.args(["agent", "--node", &self.node]);
        match self.dns {
            Some(at) => command.args(["--dns", &at.to_string()]),
            None => command.arg("--no-dns"),
        };
        command.args(["--gossip", &self.listen.to_string(), "--http", &self.http.address.to_string()]);
        command.arg("--data-dir").arg(&self.data_dir);
        if let Some(key) = &self.key {
            command.arg("--encrypt").arg(format!("@{}", key.display()));
        }
        for address in &self.join {
            command.args(["--join", &address.to_string()]);
        }
        command.args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("TIDINGS_") || matches!(&*name_text, "STATE_DIRECTORY" | "NOTIFY_SOCKET" | "WATCHDOG_USEC") {
                command.env_remove(name);
            }
        }
        let errors = output.try_clone().expect("a file handle can be copied");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        command
    }

    #[track_caller]
    fn wait_ended(&mut self, what: &str) -> ExitStatus {
        let process = self.process.as_mut().expect("it was started");
        let mut status = None;
        wait_until(END_WITHIN, &format!("{}: {what}", self.node), || {
            status = process.try_wait().expect("it is our child");
            status.is_some()
        });
        self.process = None;
        status.expect("it was waited for")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        if std::thread::panicking() {
            eprintln!("--- the last lines of {}", self.node);
            lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].iter().for_each(|line| eprintln!("{line}"));
            return;
        }
        let is_alarm = |line: &&&str| {
            let is_error = line.contains("\"ERROR\"") || line.contains(" ERROR ") || line.starts_with("ERROR ");
            line.contains("panicked at") || (is_error && !self.may_log_errors)
        };
        if let Some(alarm) = lines.iter().find(is_alarm) {
            panic!("{} logged: {alarm}", self.node);
        }
    }
}

fn instance_path(service: &str, id: &str) -> String {
    format!("/api/v1/services/{service}/instances/{id}")
}

/// The text of a JSON string, or the JSON itself.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
