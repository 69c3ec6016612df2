//! The layers' values as typed settings, each checked by itself.

use std::cmp::Reverse;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use super::access;
use super::duration::parse_ms;
use super::layers::{Layers, Source};
use super::{
    Checks, Consistent, Consul, DNS_PORT, Dns, Engine, GOSSIP_PORT, Gossip, HTTP_PORT, Http, Listen, Log, LogFormat, Node, Problem,
    Settings, Tls, Wan, WanTls,
};
use crate::engine::config::{EDITION_MAX, Export, ExportPolicy, ExportRule};
use crate::engine::wire::keyring::Key;
use crate::model::names::{Datacenter, Namespace, NodeName, Zone};

/// The longest that answers about names may be kept.
const DNS_TTL_MS_MAX: u64 = 86_400_000;
const TTL_EXPECTED: &str = "expected a duration like 10s, at most 24h";
/// Above this a limit of records limits nothing: an answer has 64 KiB.
const DNS_ANSWERS_MAX: i64 = 65_535;
/// Checks at one moment that a process can carry.
const CONCURRENT_CHECKS_MAX: i64 = 4_096;

pub(super) fn settings(layers: &Layers) -> Result<Settings, Problem> {
    let read = Reader { layers };
    let name = read.text("node.name").unwrap_or(&layers.host_name);
    let data_dir = read.text("node.data_dir").map(PathBuf::from).or_else(|| layers.data_dir_default.clone());
    if data_dir.is_none() && !layers.is_dev {
        return Err(Problem::new("there is no place for the agent's data: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set")
            .hint("Give one with --data-dir DIR, or try `tidings agent --dev`, which keeps everything in memory."));
    }
    Ok(Settings {
        node: Node {
            name: read.checked("node.name", name, NodeName::new)?,
            datacenter: read.checked("node.datacenter", read.text("node.datacenter").unwrap_or_default(), Datacenter::new)?,
            zone: read.text("node.zone").map(|zone| read.checked("node.zone", zone, Zone::new)).transpose()?,
            cluster: read.checked("node.cluster", read.text("node.cluster").unwrap_or_default(), cluster)?,
            data_dir,
            copy_every: Some(read.duration("node.copy_interval", 0, 86_400_000)?).filter(|ms| *ms > 0).map(Duration::from_millis),
            metadata: read.map("node.metadata"),
        },
        gossip: Gossip {
            listen: read.address("gossip.listen")?.expect("it has a default"),
            advertise: read.address("gossip.advertise")?,
            join: read.list("gossip.join").map(|seed| read.checked("gossip.join", seed, seed_address)).collect::<Result<_, _>>()?,
            key: read.key("gossip.encrypt")?,
            key_file: read.text("gossip.encrypt").and_then(|text| text.strip_prefix('@')).map(PathBuf::from),
            insecure: read.flag("gossip.insecure"),
        },
        wan: read.wan()?,
        http: Http {
            listen: read.list("http.listen").map(|at| read.checked("http.listen", at, listen)).collect::<Result<_, _>>()?,
            hosts: read.list("http.hosts").map(str::to_ascii_lowercase).collect(),
        },
        consul: Consul { consistent: read.checked("consul.consistent", read.text("consul.consistent").unwrap_or_default(), consistent)? },
        dns: read.dns()?,
        tls: Tls {
            cert: read.text("tls.cert").map(PathBuf::from),
            key: read.text("tls.key").map(PathBuf::from),
            client_ca: read.text("tls.client_ca").map(PathBuf::from),
        },
        access: access::read(&read)?,
        checks: Checks {
            scripts: read.flag("checks.scripts"),
            concurrent_max: read.count("checks.concurrent_max", 1, CONCURRENT_CHECKS_MAX)?,
        },
        engine: Engine {
            probe_period_ms: read.duration("membership.probe_period", 50, 10_000)?,
            suspicion_min_ms: read.duration("membership.suspicion_min", 100, 60_000)?,
            reap_after_ms: read.duration("catalog.reap_after", 600_000, 30 * 86_400_000)?,
        },
        log: Log {
            filter: read.text("log.filter").unwrap_or_default().to_owned(),
            format: read.checked("log.format", read.text("log.format").unwrap_or_default(), log_format)?,
        },
        is_dev: layers.is_dev,
        file: layers.file.clone(),
    })
}

/// Takes values out of layers that were checked for their kinds when they were read.
pub(super) struct Reader<'l> {
    layers: &'l Layers,
}

impl<'l> Reader<'l> {
    fn wan(&self) -> Result<Option<Wan>, Problem> {
        if !self.flag("wan.gateway") {
            // One file may serve all hosts; who types such a flag means a gateway.
            let is_typed = |key: &&&str| self.layers.value(key).is_some_and(|(_, source)| matches!(source, Source::Flag(_)));
            return match ["wan.join", "wan.advertise", "wan.listen"].iter().find(is_typed) {
                Some(key) => Err(self.wrong(key, "is for gateways only".to_owned()).hint("Add --gateway.")),
                None => Ok(None),
            };
        }
        Ok(Some(Wan {
            listen: self.address("wan.listen")?.expect("it has a default"),
            advertise: self.address("wan.advertise")?,
            join: self.list("wan.join").map(|seed| self.checked("wan.join", seed, seed_address)).collect::<Result<_, _>>()?,
            key: self.key("wan.encrypt")?.map_or_else(|| self.key("gossip.encrypt"), |key| Ok(Some(key)))?,
            tls: self.wan_tls()?,
            export: self.export()?,
        }))
    }

    /// All three files or none.
    fn wan_tls(&self) -> Result<Option<WanTls>, Problem> {
        const FILES: [&str; 3] = ["ca", "cert", "key"];
        let given = self.map("wan.tls");
        if let Some((unknown, _)) = given.iter().find(|(name, _)| !FILES.contains(&name.as_str())) {
            return Err(self.wrong("wan.tls", format!("holds {unknown:?}: ca, cert and key are what it may hold")));
        }
        let file = |name: &str| given.iter().find(|(given, _)| given == name).map(|(_, path)| PathBuf::from(path));
        match FILES.map(file) {
            [None, None, None] => Ok(None),
            [Some(ca), Some(cert), Some(key)] => Ok(Some(WanTls { ca, cert, key })),
            _ => Err(self
                .wrong("wan.tls", "needs all three of ca, cert and key".to_owned())
                .hint("`tidings tls ca` and `tidings tls cert --gateway DATACENTER` make what is needed, for those who have none.")),
        }
    }

    /// Names first, then prefixes from the longest to `*`, of equals the one of a namespace: the engine takes the first that fits.
    fn export(&self) -> Result<ExportPolicy, Problem> {
        let rules = self.map("wan.export").into_iter().map(|(pattern, word)| {
            let (namespace, service) = match pattern.split_once('/') {
                Some(("*", service)) => (None, service.to_owned()),
                Some((namespace, service)) => (Some(self.checked("wan.export", namespace, Namespace::new)?), service.to_owned()),
                None => (None, pattern),
            };
            let export = match word.as_str() {
                "full" => Export::Full,
                "summary" => Export::Summary,
                "none" => Export::None,
                other => return Err(self.wrong("wan.export", format!("holds {other:?}: full, summary or none"))),
            };
            Ok(ExportRule { namespace, service, export })
        });
        let mut rules = rules.collect::<Result<Vec<_>, _>>()?;
        rules.sort_by_key(|rule| (rule.service.ends_with('*'), Reverse(rule.service.len()), rule.namespace.is_none()));
        let edition = self.count("wan.export_edition", 0, i64::from(EDITION_MAX))?;
        let edition = u16::try_from(edition).expect("it is within its bounds");
        Ok(ExportPolicy { edition, rules, ..ExportPolicy::default() })
    }

    fn dns(&self) -> Result<Dns, Problem> {
        let with_port = |key: &'static str, port| {
            self.list(key).map(move |at| self.checked(key, at, |text| socket_address(text, port))).collect::<Result<Vec<_>, _>>()
        };
        let alt_domain = self.text("dns.alt_domain").filter(|domain| !domain.is_empty());
        let service_ttl = self.map("dns.service_ttl").into_iter().map(|(pattern, ttl)| {
            let ms = parse_ms(&ttl).filter(|ms| *ms <= DNS_TTL_MS_MAX);
            ms.map(|ms| (pattern, (ms / 1_000) as u32))
                .ok_or_else(|| self.wrong("dns.service_ttl", format!("holds {ttl:?}: {TTL_EXPECTED}")))
        });
        Ok(Dns {
            listen: with_port("dns.listen", DNS_PORT)?,
            domain: self.checked("dns.domain", self.text("dns.domain").unwrap_or_default(), dns_domain)?,
            alt_domain: alt_domain.map(|domain| self.checked("dns.alt_domain", domain, dns_domain)).transpose()?,
            recursors: with_port("dns.recursors", 53)?,
            recursor_timeout: Duration::from_millis(self.duration("dns.recursor_timeout", 100, 30_000)?),
            node_ttl_s: (self.duration("dns.node_ttl", 0, DNS_TTL_MS_MAX)? / 1_000) as u32,
            service_ttl_s: service_ttl.collect::<Result<_, _>>()?,
            only_passing: self.flag("dns.only_passing"),
            udp_answer_limit: self.count("dns.udp_answer_limit", 0, DNS_ANSWERS_MAX)?,
            a_record_limit: self.count("dns.a_record_limit", 0, DNS_ANSWERS_MAX)?,
            enable_truncate: self.flag("dns.enable_truncate"),
        })
    }

    pub(super) fn value(&self, key: &str) -> Option<&'l Value> {
        self.layers.value(key).map(|(value, _)| value)
    }

    /// The settings file, if there is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.layers.file.clone()
    }

    fn text(&self, key: &str) -> Option<&'l str> {
        self.value(key).and_then(Value::as_str)
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = &'l str> {
        self.value(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    fn map(&self, key: &str) -> Vec<(String, String)> {
        let pairs = self.value(key).and_then(Value::as_table).into_iter().flatten();
        let mut pairs: Vec<_> = pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        pairs.sort();
        pairs
    }

    fn count(&self, key: &str, min: i64, max: i64) -> Result<usize, Problem> {
        let count = self.value(key).and_then(Value::as_integer).unwrap_or_default();
        usize::try_from(count)
            .ok()
            .filter(|_| (min..=max).contains(&count))
            .ok_or_else(|| self.wrong(key, format!("must be {min} to {max}, not {count}")))
    }

    fn duration(&self, key: &str, min_ms: u64, max_ms: u64) -> Result<u64, Problem> {
        let text = self.text(key).unwrap_or_default();
        let ms = parse_ms(text).ok_or_else(|| self.wrong(key, format!("is {text:?}: expected a duration like 15s, 1m30s or 250ms")))?;
        if (min_ms..=max_ms).contains(&ms) {
            return Ok(ms);
        }
        Err(self.wrong(key, format!("must be {min_ms} ms to {max_ms} ms, not {text:?}")))
    }

    pub(super) fn checked<T, E: Display>(&self, key: &str, text: &str, check: impl Fn(&str) -> Result<T, E>) -> Result<T, Problem> {
        check(text).map_err(|why| self.wrong(key, format!("is {text:?}: {why}")))
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>, Problem> {
        self.text(key).map(|text| self.checked(key, text, |text| socket_address(text, GOSSIP_PORT))).transpose()
    }

    /// The secret never stands in an error.
    fn key(&self, key: &str) -> Result<Option<Key>, Problem> {
        const HINT: &str = "`tidings keygen --out key` makes one; give it with --encrypt @key.";
        let Some(text) = self.text(key) else { return Ok(None) };
        let Some(path) = text.strip_prefix('@') else {
            return text.parse().map(Some).map_err(|why| self.wrong(key, format!("is not a key: {why}")).hint(HINT));
        };
        let content = std::fs::read_to_string(path).map_err(|why| {
            self.wrong(key, format!("names the file {}, which cannot be read: {why}", Path::new(path).display())).hint(HINT)
        })?;
        content.parse().map(Some).map_err(|why| self.wrong(key, format!("names the file {path}, which holds no key: {why}")).hint(HINT))
    }

    pub(super) fn wrong(&self, key: &str, what: String) -> Problem {
        match self.layers.value(key) {
            Some((_, Source::Default)) | None => Problem::new(format!("{key} {what}")),
            Some((_, source)) => Problem::new(format!("{key} (from {source}) {what}")),
        }
    }
}

/// `IP:PORT`, or an IP alone.
fn socket_address(text: &str, port: u16) -> Result<SocketAddr, &'static str> {
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    text.parse().or_else(|_| alone()).map_err(|_| "expected an IP and a port, like 10.0.0.1:7976 or [fd00::1]:7976")
}

fn consistent(text: &str) -> Result<Consistent, &'static str> {
    match text {
        "local" => Ok(Consistent::Local),
        "refused" => Ok(Consistent::Refused),
        _ => Err("it is local or refused"),
    }
}

/// One or more labels, with or without a dot at the end.
fn dns_domain(text: &str) -> Result<String, &'static str> {
    const DOMAIN_BYTES_MAX: usize = 128;
    let is_label = |label: &str| {
        let is_word = !label.is_empty() && label.len() <= 63;
        is_word && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_domain = text.len() <= DOMAIN_BYTES_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label);
    if is_domain { Ok(text.to_ascii_lowercase()) } else { Err("expected a domain like consul. or sd.example.com") }
}

/// `HOST:PORT`, or a host alone.
fn seed_address(text: &str) -> Result<String, &'static str> {
    if let Ok(address) = socket_address(text, GOSSIP_PORT) {
        return Ok(address.to_string());
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "7976"));
    let is_name = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match port.parse::<u16>() {
        Ok(port) if is_name(host) && port > 0 => Ok(format!("{host}:{port}")),
        _ => Err("expected a host and a port, like 10.0.0.2:7976 or tidings.example:7976"),
    }
}

fn listen(text: &str) -> Result<Listen, &'static str> {
    let address = |text| {
        socket_address(text, HTTP_PORT).map_err(|_| "expected an IP and a port, like 127.0.0.1:8500 or https://10.0.0.1:8500, or unix:PATH")
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err("expected a path behind unix:") } else { Ok(Listen::Unix(path.into())) };
    }
    match text.split_once("://") {
        Some(("https", rest)) => address(rest).map(Listen::Tls),
        Some(("http", rest)) => address(rest).map(Listen::Tcp),
        _ => address(text).map(Listen::Tcp),
    }
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected auto, text or json"),
    }
}

/// The label travels in every packet.
fn cluster(text: &str) -> Result<String, &'static str> {
    const CLUSTER_BYTES_MAX: usize = 64;
    let is_word = !text.is_empty() && text.len() <= CLUSTER_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err("expected 1 to 64 letters, digits and signs without spaces") }
}
