//! What the people who run an agent may set, and which of flag, environment, file and default decided.
//!
//! ```text
//! table      every setting once: its key, kind, default, flag and words; the example file is printed from it
//! layers     flags > environment > file > default, unknown keys refused with the nearest right one
//! values     layers as typed [`Settings`]
//! access     the tokens among them
//! security   what an agent refuses to do unless it is told `--insecure` (design §5)
//! ```
//!
//! Nothing here starts anything: the agent and its listeners take what they need from [`Settings`].

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::Rules;
use crate::engine::config::{EngineConfig, ExportPolicy};
use crate::engine::wire::keyring::Key;
use crate::model::names::{Datacenter, NodeName, Zone};

mod access;
pub mod layers;
pub mod security;
pub mod table;
mod values;

pub use crate::model::duration;
pub use layers::{Layers, Source};

/// The gossip port. 7946 is Docker Swarm's and Serf's, so it is not ours.
pub const GOSSIP_PORT: u16 = 7976;
/// The port of the HTTP API, where clients of Consul look for an agent.
pub const HTTP_PORT: u16 = 8500;
/// The port of DNS, where resolvers that know Consul forward its domain to.
pub const DNS_PORT: u16 = 8600;

/// All settings of an agent, checked one by one; what they mean together is checked by [`security::check`].
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: Node,
    pub gossip: Gossip,
    /// What a gateway does; none: this agent is none.
    pub wan: Option<Wan>,
    pub http: Http,
    pub consul: Consul,
    pub dns: Dns,
    pub tls: Tls,
    pub access: Access,
    pub checks: Checks,
    pub engine: Engine,
    pub log: Log,
    /// One node, in memory, on loopback.
    pub is_dev: bool,
    /// The file that was read, to read it again on SIGHUP.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: NodeName,
    pub datacenter: Datacenter,
    pub zone: Option<Zone>,
    /// Agents of different clusters ignore each other's packets.
    pub cluster: String,
    /// None: everything is in memory.
    pub data_dir: Option<PathBuf>,
    /// How often the catalog is copied to the data directory; none: never.
    pub copy_every: Option<Duration>,
    /// By key, in ascending order.
    pub metadata: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct Gossip {
    /// UDP and TCP.
    pub listen: SocketAddr,
    /// What other agents are told; none: found out from the routes of this host.
    pub advertise: Option<SocketAddr>,
    /// `host:port`; names are resolved again and again while the agent runs.
    pub join: Vec<String>,
    pub key: Option<Key>,
    /// Where the key was read from, if from a file.
    pub key_file: Option<PathBuf>,
    pub insecure: bool,
}

/// A gateway's place among those of all datacenters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wan {
    /// UDP and TCP.
    pub listen: SocketAddr,
    /// What gateways of other datacenters are told; none: found out from the routes of this host.
    pub advertise: Option<SocketAddr>,
    /// `host:port`; names are resolved again and again while the agent runs.
    pub join: Vec<String>,
    pub key: Option<Key>,
    /// What links with other gateways show and ask for; none: they are sealed by the key alone.
    pub tls: Option<WanTls>,
    pub export: ExportPolicy,
}

/// TLS between gateways, mutual: files in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WanTls {
    /// Authorities that the certificates of all gateways come from.
    pub ca: PathBuf,
    /// This gateway's certificate, which names its datacenter, and those between it and its authority.
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Http {
    pub listen: Vec<Listen>,
    /// Names by which this agent may be called, besides IPs and localhost.
    pub hosts: Vec<String>,
}

/// What clients of Consul get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consul {
    pub consistent: Consistent,
}

/// What becomes of a read that asks for a leader's word: there is no leader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistent {
    /// It is answered from the agent's own memory, as any other.
    #[default]
    Local,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// UDP and TCP on each; none: no DNS.
    pub listen: Vec<SocketAddr>,
    /// What names end in, and what else they may end in.
    pub domain: String,
    pub alt_domain: Option<String>,
    /// Who is asked for all other names, one after the other.
    pub recursors: Vec<SocketAddr>,
    /// For one of them to answer.
    pub recursor_timeout: Duration,
    /// For so many seconds answers about nodes may be kept.
    pub node_ttl_s: u32,
    /// The same of services, by name, `prefix*` or `*`.
    pub service_ttl_s: Vec<(String, u32)>,
    /// Leaves out instances whose health is warning.
    pub only_passing: bool,
    /// Records in an answer over UDP, at most; 0: as many as fit.
    pub udp_answer_limit: usize,
    /// Addresses in any answer, at most; 0: as many as fit.
    pub a_record_limit: usize,
    /// Answers over UDP that hold not all there is say so.
    pub enable_truncate: bool,
}

/// What HTTP listeners that speak TLS show and ask for: files in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those between it and its authority.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Mutual TLS: authorities that clients' certificates must come from.
    pub client_ca: Option<PathBuf>,
}

/// Who may do what over HTTP.
#[derive(Debug, Clone)]
pub struct Access {
    pub rules: Rules,
    /// Files that hold tokens rather than their hashes, to see who can read them.
    pub secret_files: Vec<PathBuf>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// The same with TLS.
    Tls(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Tls(address) => write!(f, "https://{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Checks {
    /// Whether checks of kind `script` are run.
    pub scripts: bool,
    /// How many checks run at one moment.
    pub concurrent_max: usize,
}

/// What is set of the engine's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub probe_period_ms: u64,
    pub suspicion_min_ms: u64,
    pub reap_after_ms: u64,
}

impl Engine {
    /// Puts what was set where the engine reads it.
    pub fn apply(&self, config: &mut EngineConfig) {
        let (membership, catalog) = (&mut config.membership, &mut config.catalog);
        // A direct ping has a third of the period, as by default.
        membership.probe_rtt_ms = self.probe_period_ms / 3;
        membership.probe_period_ms = self.probe_period_ms;
        membership.suspicion_min_ms = self.suspicion_min_ms;
        catalog.reap_after_ms = self.reap_after_ms;
        catalog.listed_ms = catalog.listed_ms.min(self.reap_after_ms);
    }
}

#[derive(Debug, Clone)]
pub struct Log {
    /// As `RUST_LOG` has them: `info`, or `tidings=debug,info`.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

impl Settings {
    /// Reads all layers: the flags as they were given, the environment, the file.
    ///
    /// # Errors
    /// Says which setting of which layer is wrong, and what it may be.
    pub fn load(flags: Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<(Settings, Layers), Problem> {
        let layers = Layers::read(flags, environment)?;
        Ok((values::settings(&layers)?, layers))
    }
}

/// What was given on the command line: keys of the [`table`] with their values as text.
#[derive(Clone, Default)]
pub struct Flags {
    pub file: Option<PathBuf>,
    pub is_dev: bool,
    /// By key; a list has one entry a value.
    pub values: Vec<(&'static str, String)>,
    /// Lists that are empty by the word of a flag.
    pub emptied: Vec<(&'static str, &'static str)>,
}

impl Flags {
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.values.push((key, value.into()));
    }
}

/// A setting that cannot be used: what is wrong, where it stands, what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    /// What to type; printed under the first line.
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Where an agent keeps what a restart must find again, if nobody says otherwise.
fn data_dir_default(variable: impl Fn(&str) -> Option<String>, is_root: bool) -> Option<PathBuf> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(list) = given("STATE_DIRECTORY") {
        // systemd separates several by colons; the first is ours.
        return list.split(':').next().map(PathBuf::from);
    }
    if is_root {
        return Some(PathBuf::from("/var/lib/tidings"));
    }
    if let Some(state) = given("XDG_STATE_HOME") {
        return Some(Path::new(&state).join("tidings"));
    }
    given("HOME").map(|home| Path::new(&home).join(".local/state/tidings"))
}

#[cfg(test)]
mod tests;
