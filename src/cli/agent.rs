//! `tidings agent`: runs an agent until it is told to leave.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::logging::Logging;
use super::{Exit, Failure};
use crate::agent::handle::{Facts, Handle};
use crate::agent::links::name_of;
use crate::agent::{Agent, Ports, StartError, credentials, lifecycle};
use crate::serve::{self, ConsulDefinitions};
use crate::settings::{Flags, Layers, Listen, Problem, Settings, security};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    flags: AgentFlags,
}

/// The settings that can be given on the command line. A flag beats the environment, which beats the file.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentFlags {
    /// One node on loopback, in memory, with HTTP and DNS on their usual ports: to try things.
    #[arg(long)]
    dev: bool,
    /// Read settings from this file; see `tidings config example`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to keep what a restart must find again [default: /var/lib/tidings for root, else below ~/.local/state].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The name of this node, unique in its datacenter [default: the host's name].
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The datacenter this agent is in [default: dc1].
    #[arg(long, value_name = "NAME")]
    datacenter: Option<String>,
    /// The zone inside the datacenter.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Where gossip listens, UDP and TCP [default: 0.0.0.0:7976].
    #[arg(long, value_name = "ADDR:PORT")]
    gossip: Option<String>,
    /// The gossip address other agents are told [default: where it listens].
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<String>,
    /// An agent to join; give it again for more, one of them is enough.
    #[arg(long, value_name = "ADDR:PORT")]
    join: Vec<String>,
    /// The key that seals gossip, the same on every host; see `tidings keygen`.
    #[arg(long, value_name = "KEY|@FILE")]
    encrypt: Option<String>,
    /// Allow gossip without a key, and HTTP, on addresses that other hosts reach.
    #[arg(long)]
    insecure: bool,
    /// Where HTTP listens, with TLS behind https://; may be given again [default: 127.0.0.1:8500].
    #[arg(long, value_name = "[https://]ADDR:PORT|unix:PATH")]
    http: Vec<String>,
    /// Where DNS listens, UDP and TCP; may be given again [default: 127.0.0.1:8600].
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "no_dns")]
    dns: Vec<String>,
    /// No DNS.
    #[arg(long)]
    no_dns: bool,
    /// Carry what is registered here to other datacenters, and theirs here.
    #[arg(long, hide_short_help = true)]
    gateway: bool,
    /// Where a gateway listens for those of other datacenters, UDP and TCP [default: 0.0.0.0:7977].
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    wan: Option<String>,
    /// The address gateways of other datacenters are told [default: where it listens].
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    advertise_wan: Option<String>,
    /// A gateway of another datacenter; may be given again. Tried for ever.
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    join_wan: Vec<String>,
    /// A listener for clients of Nacos (not in this version yet).
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    nacos: Option<String>,
    /// A listener for clients of Eureka (not in this version yet).
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    eureka: Option<String>,
    /// A listener for clients of etcd (not in this version yet).
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    etcd: Option<String>,
    /// A listener for clients of ZooKeeper (not in this version yet).
    #[arg(long, value_name = "ADDR:PORT", hide_short_help = true)]
    zookeeper: Option<String>,
}

impl AgentFlags {
    /// All layers of settings under these flags.
    pub fn load(&self) -> Result<(Settings, Layers), Problem> {
        Settings::load(self.flags()?, environment())
    }

    fn flags(&self) -> Result<Flags, Problem> {
        self.refuse_what_is_missing()?;
        let mut flags = Flags { file: self.config.clone(), is_dev: self.dev, ..Flags::default() };
        let single = [
            ("node.data_dir", &self.data_dir),
            ("node.name", &self.node),
            ("node.datacenter", &self.datacenter),
            ("node.zone", &self.zone),
            ("gossip.listen", &self.gossip),
            ("gossip.advertise", &self.advertise),
            ("gossip.encrypt", &self.encrypt),
            ("wan.listen", &self.wan),
            ("wan.advertise", &self.advertise_wan),
        ];
        for (key, value) in single {
            value.iter().for_each(|value| flags.set(key, value.clone()));
        }
        self.join.iter().for_each(|seed| flags.set("gossip.join", seed.clone()));
        self.join_wan.iter().for_each(|seed| flags.set("wan.join", seed.clone()));
        if self.gateway {
            flags.set("wan.gateway", "true");
        }
        self.http.iter().for_each(|at| flags.set("http.listen", at.clone()));
        self.dns.iter().for_each(|at| flags.set("dns.listen", at.clone()));
        if self.no_dns {
            flags.emptied.push(("dns.listen", "--no-dns"));
        }
        if self.insecure {
            flags.set("gossip.insecure", "true");
        }
        Ok(flags)
    }

    fn refuse_what_is_missing(&self) -> Result<(), Problem> {
        let given = [
            ("--nacos", self.nacos.is_some()),
            ("--eureka", self.eureka.is_some()),
            ("--etcd", self.etcd.is_some()),
            ("--zookeeper", self.zookeeper.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Problem::new(format!("{flag} is not in this version yet"))
                .hint("This version has the native HTTP API and one datacenter; leave the flag out.")),
            None => Ok(()),
        }
    }
}

/// Variables whose names or values are no text cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    run_with(|| arguments.flags.flags(), || Ok(None))
}

/// Runs an agent. `flags` and `definitions` are asked at the start and whenever the settings are read again.
pub fn run_with(
    flags: impl Fn() -> Result<Flags, Problem>,
    definitions: impl Fn() -> Result<Option<ConsulDefinitions>, Problem>,
) -> Result<(), Failure> {
    let load = || Settings::load(flags()?, environment());
    let (settings, _) = load()?;
    security::check(&settings)?;
    let defined = definitions()?;
    let tls = serve::tls::load(&settings)?;
    let logging = Logging::start(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::failed(format!("the system does not let the agent start: {why}")))?;
    // What is taken or not ours to use is said before anything runs.
    let bound = serve::bind(&settings.http.listen, serve::workers()).map_err(Failure::failed)?;
    let bound_dns = serve::dns::bind(&settings.dns.listen, serve::workers()).map_err(Failure::failed)?;
    runtime.block_on(async {
        let ports = Ports { http: bound.listening().iter().find_map(port), dns: bound_dns.listening().first().map(SocketAddr::port) };
        let agent = Agent::start(&settings, ports).await.map_err(not_started)?;
        let serving = serve::serve(bound, &settings.http.hosts, tls.as_ref(), settings.consul, agent.handle()).map_err(Failure::failed)?;
        let dns = serve::dns::serve(bound_dns, &settings.dns, agent.handle()).map_err(Failure::failed)?;
        warn_of_open_secrets(&settings);
        warn_of_tokens_in_clear(&settings);
        define(defined, agent.handle()).await;
        announce(&agent, &serving.listening, &dns.listening, &logging);
        let links = agent.links().cloned();
        let agent_handle = agent.handle().clone();
        let reload = || {
            let (settings, _) = load()?;
            security::check(&settings)?;
            // All is read before anything is exchanged.
            let credentials = credentials(&settings)?;
            let mut changed = Vec::new();
            if let Some(tls) = &tls
                && tls.reload(&settings.tls)?
            {
                changed.push("tls");
            }
            if let (Some(links), Some(credentials)) = (&links, credentials)
                && links.exchange(credentials)
            {
                changed.push("wan.tls");
            }
            if logging.set_filter(&settings.log).map_err(|why| Problem::new(why.message))? {
                changed.push("log.filter");
            }
            if let defined @ Some(_) = definitions()? {
                let handle = agent_handle.clone();
                tokio::spawn(async move { define(defined, &handle).await });
            }
            Ok((settings, changed))
        };
        let ended = lifecycle::run(agent, reload).await.map_err(|why| Failure::new(Exit::Failed, why));
        serving.join();
        dns.join();
        ended
    })
}

fn not_started(why: StartError) -> Failure {
    match why {
        StartError::Settings(problem) => problem.into(),
        other => Failure::failed(other),
    }
}

/// Registers what a configuration defines.
async fn define(definitions: Option<ConsulDefinitions>, handle: &Handle) {
    let Some(definitions) = definitions else { return };
    // Without entropy only the order of nothing that is done here would be known beforehand.
    let seed = getrandom::u64().unwrap_or_default();
    for refused in definitions.apply(handle, seed).await {
        tracing::warn!(%refused, "a definition was not carried out");
    }
}

fn port(at: &Listen) -> Option<u16> {
    match at {
        Listen::Tcp(address) | Listen::Tls(address) => Some(address.port()),
        Listen::Unix(_) => None,
    }
}

/// The one block that says who this is and how others reach it.
fn announce(agent: &Agent, listening: &[Listen], dns: &[Listen], logging: &Logging) {
    let facts = agent.handle().facts();
    let Facts { node, datacenter, version, gossip, advertise, .. } = facts;
    let data_dir = facts.data_dir.as_ref().map_or("none: everything is in memory".to_owned(), |dir| dir.display().to_string());
    let wan = facts.wan.map_or("none: no gateway".to_owned(), |at| at.to_string());
    let links = match agent.links() {
        _ if facts.wan.is_none() => "none: no gateway".to_owned(),
        Some(_) => format!("TLS, as {}", name_of(datacenter)),
        None => "without certificates (wan.tls): who has the key is believed of any datacenter".to_owned(),
    };
    let key = facts.key.map_or("none: gossip travels in clear".to_owned(), |key| key.to_string());
    let http: Vec<String> = listening.iter().map(address).collect();
    let dns = match dns {
        [] => "none".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    if logging.is_json {
        tracing::info!(%node, %datacenter, version, join = %advertise, %gossip, wan, links, data_dir, key, http = http.join(", "), dns, "the agent runs");
        return;
    }
    let join_wan = facts.wan.map_or(String::new(), |at| format!(", joined with --join-wan {at}\n  links       {links}"));
    tracing::info!(
        "tidings {version} runs\n  node        {node}\n  datacenter  {datacenter}\n  join with   --join {advertise}\n  gossip      {gossip}, \
         UDP and TCP\n  wan         {wan}{join_wan}\n  http        {}\n  dns         {dns}\n  data        {data_dir}\n  key         {key}",
        http.join(", ")
    );
}

/// Secrets that others on this host can read are none.
fn warn_of_open_secrets(settings: &Settings) {
    use std::os::unix::fs::PermissionsExt as _;
    const OTHERS: u32 = 0o077;
    let key = settings.gossip.key_file.iter().map(|file| (file, "gossip key"));
    let tokens = settings.access.secret_files.iter().map(|file| (file, "token"));
    for (file, what) in key.chain(tokens) {
        if file.metadata().is_ok_and(|found| found.permissions().mode() & OTHERS != 0) {
            tracing::warn!(file = %file.display(), "others on this host can read the {what}: chmod 600 it");
        }
    }
}

/// Allowed, for a network may be trusted with what it carries; but nobody should learn of it too late.
fn warn_of_tokens_in_clear(settings: &Settings) {
    let is_open = |at: &&Listen| matches!(at, Listen::Tcp(address) if !address.ip().is_loopback());
    if let (true, Some(at)) = (settings.access.rules.tokens() > 0, settings.http.listen.iter().find(is_open)) {
        tracing::warn!(%at, "tokens travel in clear to this listener: https:// hides them, see `tidings tls`");
    }
}

/// As one would type it into a browser or after `--unix-socket`.
fn address(at: &Listen) -> String {
    let reachable = |address: &SocketAddr| {
        let mut address = *address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        address
    };
    match at {
        Listen::Tcp(address) => format!("http://{}", reachable(address)),
        Listen::Tls(address) => format!("https://{}", reachable(address)),
        Listen::Unix(_) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AgentFlags,
    }

    fn flags(line: &str) -> AgentFlags {
        Line::try_parse_from(std::iter::once("tidings").chain(line.split_whitespace())).unwrap().flags
    }

    #[test]
    fn every_flag_of_the_contract_is_taken() {
        let line = "--dev --config /f --data-dir /d --node n --datacenter d --zone z --gossip 127.0.0.1:1 --advertise 127.0.0.1:2 \
                    --join a:1 --join b:2 --encrypt k --insecure --http 127.0.0.1:3 --http unix:/s --dns 127.0.0.1:4 \
                    --gateway --wan 127.0.0.1:5 --advertise-wan 127.0.0.1:6 --join-wan c:1";
        let set = flags(line).flags().unwrap();
        let key = |(key, _): &(&'static str, String)| *key;
        let keys: std::collections::BTreeSet<&str> = set.values.iter().map(key).collect();
        let with_flags = crate::settings::table::SETTINGS.iter().filter(|setting| setting.flag.is_some()).map(|setting| setting.key);
        assert_eq!(keys, with_flags.collect(), "each setting with a flag is set by it");
        assert_eq!(set.values.iter().filter(|(key, _)| *key == "gossip.join").count(), 2);
        assert!(set.is_dev && set.file.is_some());
        let none = flags("--dev --no-dns");
        assert!(none.flags().is_ok() && none.load().unwrap().0.dns.listen.is_empty());
        assert_eq!(flags("--dev --dns 127.0.0.1:1 --dns 127.0.0.1:2").load().unwrap().0.dns.listen.len(), 2);
    }

    #[test]
    fn dns_can_be_switched_off() {
        let (settings, _) = flags("--dev --no-dns").load().unwrap();
        assert!(settings.dns.listen.is_empty());
        assert!(!flags("--dev").load().unwrap().0.dns.listen.is_empty());
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        for line in ["--nacos 1:1", "--eureka 1:1", "--etcd 1:1", "--zookeeper 1:1"] {
            let refusal = flags(line).load().unwrap_err().to_string();
            assert!(refusal.contains(line.split(' ').next().unwrap()) && refusal.contains("not in this version yet"), "{refusal}");
        }
    }
}
