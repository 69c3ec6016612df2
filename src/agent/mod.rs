//! The tokio shell around the engine: sockets, streams, the store, checks, signals (design §1, §3, §5).
//!
//! ```text
//! handle     Command in, View out: the only door for everybody else
//! guard      who may do what here
//! driver     the one thread that owns the engine
//! published  the view that readers see, and who waits for a newer one
//! wake       tells those who wait that something changed
//! clock      the two clocks and the entropy that the engine is handed
//! sockets    the gossip port, UDP and TCP
//! streams    connections between agents, as numbers and bytes
//! links      TLS around those between gateways
//! certificate  certificates in files, and how long they last
//! store      what a restart finds again
//! copy       what others wrote, for a restart that reaches nobody
//! checks     checks that this agent runs for its own instances
//! seeds      names of agents to join, resolved again and again
//! metrics    what is counted, as text
//! news       logs who came and who went
//! notify     what systemd is told
//! reload     settings read again
//! lifecycle  from ready to gone
//! ```
//!
//! No protocol decision is taken here: whatever agents say to each other is the engine's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use self::clock::Clock;
use self::copy::Copier;
use self::driver::{Driver, World};
use self::handle::{Facts, Handle};
use self::links::{Credentials, LinkTls};
use self::reload::Reloaded;
use self::sockets::{BindError, GOSSIP, NoAddress, Sockets, WAN};
use self::store::{Store, StoreError};
use self::streams::Streams;
use self::wake::WakeThread;
use crate::access::Secret;
use crate::engine::Engine;
use crate::engine::config::{EngineConfig, GatewayConfig, NodeConfig};
use crate::engine::io::Restored;
use crate::engine::wire::keyring::Key;
use crate::model::command::Command;
use crate::settings::{Problem, Settings, Wan, WanTls};
use crate::view::{AgentView, View};

pub mod certificate;
mod checks;
pub mod clock;
mod copy;
mod driver;
mod guard;
pub mod handle;
pub mod lifecycle;
pub mod links;
pub mod metrics;
mod news;
mod notify;
mod published;
pub mod reload;
pub mod seeds;
pub mod sockets;
pub mod store;
mod streams;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod wake;

/// How long the engine's thread may take to end after it was told to.
const HALT_TIMEOUT: Duration = Duration::from_secs(1);

/// A running agent.
pub struct Agent {
    handle: Handle,
    ended: oneshot::Receiver<()>,
    seeds: watch::Sender<Vec<String>>,
    /// A gateway's, in other datacenters.
    far_seeds: Option<watch::Sender<Vec<String>>>,
    links: Option<LinkTls>,
    reloads: mpsc::Receiver<reload::Asked>,
    settings: Settings,
}

/// How an agent's engine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Left,
    /// It did not leave in time.
    TooSlow,
    /// By itself.
    Broken,
}

/// Where clients of this agent are answered; none: nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    pub http: Option<u16>,
    pub dns: Option<u16>,
}

impl Agent {
    /// Starts an agent on the current runtime: locks its data directory, binds its gossip port, lets the engine run.
    ///
    /// `ports` is what other agents are told of this one's listeners.
    ///
    /// # Errors
    /// Each says what cannot be had, and what to type instead.
    pub async fn start(settings: &Settings, ports: Ports) -> Result<Agent, StartError> {
        let (store, restored) = match &settings.node.data_dir {
            Some(dir) => {
                let (store, mut restored) = Store::open(dir)?;
                restored.copies = copy::read(dir);
                (Some(store), restored)
            }
            None => (None, Restored::default()),
        };
        let sockets = Sockets::bind(settings.gossip.listen, GOSSIP)?;
        // Only a guess needs to know where the others are; a name service that is down must not hold up anybody else.
        let is_guess = settings.gossip.advertise.is_none() && sockets.address.ip().is_unspecified();
        let (towards, _) = seeds::resolve(settings.gossip.join.get(..usize::from(is_guess)).unwrap_or_default()).await;
        let advertise = sockets::advertised(settings.gossip.advertise, sockets.address, towards.first().copied(), GOSSIP)?;
        let credentials = credentials(settings)?;
        let gateway = settings.wan.as_ref().map(Gateway::bind).transpose()?;
        let clock = Clock::start();
        let facts =
            Facts { wan: gateway.as_ref().map(|gateway| gateway.advertise), ..facts(settings, &restored, sockets.address, advertise) };
        let (handle, door) = Handle::new(facts, Arc::new(first_view(settings, &restored)));
        handle.guard().exchange(settings.access.rules.clone());
        let reloads = handle.take_reloads();
        let links = credentials.map(|credentials| handle.register_metrics(|registry| LinkTls::new(credentials, registry)));
        let mut streams = Streams::new(sockets.tcp, tokio::runtime::Handle::current())?;
        let config = engine_config(settings, advertise, gateway.as_ref(), ports);
        let wan = match gateway {
            Some(gateway) => {
                streams.listen_to_gateways(gateway.sockets.tcp, links.clone())?;
                Some(gateway.sockets.udp)
            }
            None => None,
        };
        let world = World {
            clock,
            wake: WakeThread::start(Arc::clone(door.published()))?,
            door,
            udp: sockets.udp,
            wan,
            streams,
            store: store.map(Store::start).transpose()?,
            copier: match (&settings.node.data_dir, settings.node.copy_every) {
                (Some(dir), Some(every)) => Some(Copier::start(dir, every, clock.now().ns)?),
                _ => None,
            },
        };
        let engine = Engine::new(config, restored, clock::seed()?, clock.now());
        let ended = drive(engine, world)?;
        let (wanted, resolved) = watch::channel(settings.gossip.join.clone());
        tokio::spawn(seeds::keep_resolved(handle.clone(), resolved, Command::SetSeeds));
        let far_seeds = settings.wan.as_ref().map(|wan| {
            let (wanted, resolved) = watch::channel(wan.join.clone());
            tokio::spawn(seeds::keep_resolved(handle.clone(), resolved, Command::SetWanSeeds));
            wanted
        });
        tokio::spawn(news::log(handle.clone()));
        tokio::spawn(checks::run(handle.clone(), settings.checks.clone()));
        if let Some(links) = &links {
            tokio::spawn(links.clone().watch_end(handle.clone()));
        }
        Ok(Agent { handle, ended, seeds: wanted, far_seeds, links, reloads, settings: settings.clone() })
    }

    /// TLS towards other gateways, where this agent is one that has certificates.
    pub fn links(&self) -> Option<&LinkTls> {
        self.links.as_ref()
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the engine ends by itself, which it does when somebody made it leave.
    pub async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(()) => Ended::Left,
            Err(_) => Ended::Broken,
        }
    }

    /// Leaves: the others are told, then the engine ends.
    pub async fn leave(mut self, limit: Duration) -> Ended {
        let handle = self.handle.clone();
        let leaving = async {
            // A full channel has room again in no time, and this is the last thing that will be asked.
            while handle.call(Command::Leave).await.is_err() && !handle.is_stopping() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.ended().await
        };
        match tokio::time::timeout(limit, leaving).await {
            Ok(ended) => ended,
            Err(_) => self.crash().await,
        }
    }

    /// Ends the engine without a word to the others. What is acknowledged is stored.
    pub async fn crash(mut self) -> Ended {
        self.handle.halt();
        // A thread that hangs in the disk ends with the process.
        let _ = tokio::time::timeout(HALT_TIMEOUT, self.ended()).await;
        Ended::TooSlow
    }

    /// Takes over what may change while an agent runs, and says what may not.
    pub fn apply(&mut self, settings: &Settings) -> Reloaded {
        let (old, new) = (&self.settings, settings);
        let needs_restart = [
            ("node", format!("{:?}", old.node) != format!("{:?}", new.node)),
            ("gossip.listen", old.gossip.listen != new.gossip.listen),
            ("gossip.advertise", old.gossip.advertise != new.gossip.advertise),
            ("gossip.encrypt", old.gossip.key != new.gossip.key),
            ("wan", old.wan.as_ref().map(lasting) != new.wan.as_ref().map(lasting)),
            ("http", format!("{:?}", old.http) != format!("{:?}", new.http)),
            ("dns", old.dns != new.dns),
            ("membership or catalog", old.engine != new.engine),
            ("checks", format!("{:?}", old.checks) != format!("{:?}", new.checks)),
        ];
        let mut changed = Vec::new();
        if old.access.rules != new.access.rules {
            self.handle.guard().exchange(new.access.rules.clone());
            changed.push("access");
        }
        if old.gossip.join != new.gossip.join {
            self.seeds.send_replace(new.gossip.join.clone());
            changed.push("gossip.join");
        }
        if let (Some(seeds), Some(old), Some(new)) = (&self.far_seeds, &mut self.settings.wan, &new.wan)
            && old.join != new.join
        {
            seeds.send_replace(new.join.clone());
            old.join.clone_from(&new.join);
            changed.push("wan.join");
        }
        let needs_restart = needs_restart.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
        self.settings.access.clone_from(&new.access);
        self.settings.gossip.join.clone_from(&new.gossip.join);
        Reloaded { changed, needs_restart }
    }
}

/// A new gossip key as text.
///
/// # Errors
/// The system has no random numbers to give.
pub fn new_key() -> std::io::Result<String> {
    clock::seed().map(|bytes| Key::from_bytes(bytes).to_text())
}

/// A new token as clients show it, and its hash as settings hold it.
///
/// # Errors
/// The system has no random numbers to give.
pub fn new_token() -> std::io::Result<(String, String)> {
    let text = Secret::text(&clock::seed()?);
    let hash = Secret::of(&text).to_hash();
    Ok((text, hash))
}

/// Runs the engine on a thread of its own; the receiver hears when it ended, or that it broke.
fn drive(engine: Engine, world: World) -> std::io::Result<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let driver = {
        let _here = runtime.enter();
        Driver::new(engine, world)?
    };
    std::thread::Builder::new().name("tidings-engine".to_owned()).spawn(move || {
        runtime.block_on(driver.run());
        // Nobody may be listening any more.
        let _ = done.send(());
    })?;
    Ok(ended)
}

fn facts(settings: &Settings, restored: &Restored, gossip: SocketAddr, advertise: SocketAddr) -> Facts {
    let node = &settings.node;
    let key = settings.gossip.key.clone().or_else(|| restored.keys.first().map(|key| Key::from_bytes(*key)));
    Facts {
        node: node.name.clone(),
        datacenter: node.datacenter.clone(),
        zone: node.zone.clone(),
        version: env!("CARGO_PKG_VERSION"),
        gossip,
        advertise,
        wan: None,
        data_dir: node.data_dir.clone(),
        key: key.map(|key| key.id()),
        allows_scripts: settings.checks.scripts,
        started_at_ms: clock::wall_ms(),
    }
}

/// What readers see before the engine has published anything.
fn first_view(settings: &Settings, restored: &Restored) -> View {
    let agent = AgentView {
        id: restored.node.unwrap_or_default(),
        name: settings.node.name.to_string(),
        datacenter: settings.node.datacenter.to_string(),
        zone: settings.node.zone.as_ref().map(ToString::to_string),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        is_ready: false,
        is_cut_off: false,
        is_leaving: false,
    };
    View::empty(agent, restored.revision)
}

/// A gateway's sockets, and what the other datacenters' gateways are told of them.
struct Gateway {
    sockets: Sockets,
    advertise: SocketAddr,
}

impl Gateway {
    fn bind(wan: &Wan) -> Result<Gateway, StartError> {
        let sockets = Sockets::bind(wan.listen, WAN)?;
        let advertise = sockets::advertised(wan.advertise, sockets.address, None, WAN)?;
        Ok(Gateway { sockets, advertise })
    }
}

/// What of a gateway's settings counts after a restart only. Certificates may be exchanged, but not begun with.
fn lasting(wan: &Wan) -> Wan {
    Wan { join: Vec::new(), tls: wan.tls.as_ref().map(|_| WanTls::default()), ..wan.clone() }
}

/// What a gateway's links show and ask for, read from its files; none: it is no gateway, or has no certificates.
///
/// # Errors
/// Says which file cannot be used, and why.
pub fn credentials(settings: &Settings) -> Result<Option<Credentials>, Problem> {
    let tls = settings.wan.as_ref().and_then(|wan| wan.tls.as_ref());
    tls.map(|tls| Credentials::read(tls, &settings.node.datacenter)).transpose()
}

fn engine_config(settings: &Settings, advertise: SocketAddr, gateway: Option<&Gateway>, ports: Ports) -> EngineConfig {
    let node = &settings.node;
    let mut config = EngineConfig::lan(NodeConfig {
        name: node.name.clone(),
        datacenter: node.datacenter.clone(),
        zone: node.zone.clone(),
        advertise,
        http_port: ports.http,
        dns_port: ports.dns,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        metadata: node.metadata.clone(),
    });
    config.label = format!("{}/{}", node.cluster, node.datacenter);
    settings.engine.apply(&mut config);
    config.gateway = settings.wan.as_ref().zip(gateway).map(|(wan, gateway)| GatewayConfig {
        keys: wan.key.iter().map(|key| *key.as_bytes()).collect(),
        export: wan.export.clone(),
        ..GatewayConfig::wan(&node.cluster, gateway.advertise)
    });
    config.keys = settings.gossip.key.iter().map(|key| *key.as_bytes()).collect();
    config
}

/// Why an agent does not start.
#[derive(Debug)]
pub enum StartError {
    Store(StoreError),
    Bind(BindError),
    Address(NoAddress),
    Settings(Problem),
    System(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(why) => why.fmt(f),
            StartError::Bind(why) => why.fmt(f),
            StartError::Address(why) => why.fmt(f),
            StartError::Settings(why) => why.fmt(f),
            StartError::System(why) => write!(f, "the system does not let the agent start: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<BindError> for StartError {
    fn from(why: BindError) -> Self {
        Self::Bind(why)
    }
}

impl From<NoAddress> for StartError {
    fn from(why: NoAddress) -> Self {
        Self::Address(why)
    }
}

impl From<Problem> for StartError {
    fn from(why: Problem) -> Self {
        Self::Settings(why)
    }
}

impl From<std::io::Error> for StartError {
    fn from(why: std::io::Error) -> Self {
        Self::System(why)
    }
}
