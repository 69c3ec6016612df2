//! `consul agent`: Consul's flags and files as our own settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::agent as ours;
use super::file::{self, Said};
use super::words::Words;
use super::{Exit, Failure};
use crate::serve::ConsulDefinitions;
use crate::settings::{Flags, GOSSIP_PORT, HTTP_PORT, Problem};

/// Flags that are true or false.
const SWITCHES: &[&str] = &[
    "dev",
    "server",
    "bootstrap",
    "ui",
    "insecure",
    "enable-script-checks",
    "enable-local-script-checks",
    "disable-host-node-id",
    "disable-keyring-file",
    "rejoin",
    "syslog",
    "log-json",
    "non-voting-server",
    "read-replica",
    "allow-write-http-from",
];
/// Flags that say what a key of the configuration says.
const KEYS: &[(&str, &str)] = &[
    ("node", "node_name"),
    ("datacenter", "datacenter"),
    ("data-dir", "data_dir"),
    ("pid-file", "pid_file"),
    ("log-level", "log_level"),
    ("bind", "bind_addr"),
    ("client", "client_addr"),
    ("advertise", "advertise_addr"),
    ("encrypt", "encrypt"),
    ("domain", "domain"),
    ("alt-domain", "alt_domain"),
];
const LISTS: &[(&str, &str)] = &[("join", "start_join"), ("retry-join", "retry_join"), ("recursor", "recursors")];
const PORTS: &[(&str, &str)] = &[("http-port", "http"), ("dns-port", "dns"), ("serf-lan-port", "serf_lan"), ("server-port", "server")];
/// Flags that are taken and mean nothing here; of others a warning says that they are ignored.
const SILENT: &[&str] = &[
    "dev",
    "server",
    "bootstrap",
    "bootstrap-expect",
    "ui",
    "hcl",
    "node-id",
    "config-file",
    "config-dir",
    "config-format",
    "insecure",
    "disable-host-node-id",
    "disable-keyring-file",
    "rejoin",
    "retry-interval",
    "retry-max",
    "protocol",
    "raft-protocol",
    "https-port",
    "grpc-port",
    "grpc-tls-port",
    "serf-wan-port",
    "log-json",
    "primary-gateway",
    "non-voting-server",
    "syslog",
];
const DNS_PORT: u16 = 8600;

pub fn run(words: &[&str]) -> Result<(), Failure> {
    let words = Words::read(words, SWITCHES)?;
    let read = || said(&words, std::env::var("CONSUL_LOCAL_CONFIG").ok().as_deref());
    let first = read()?;
    for ignored in &first.ignored {
        eprintln!("consul: {ignored} is ignored: there is no such thing here");
    }
    let _pid = first.pid_file.as_deref().map(PidFile::write).transpose()?;
    // A reload reads the files again.
    let again = || flags(&read()?, words.is_on("dev"), words.is_on("insecure"));
    let defined = || {
        let said = read().map_err(|why| Problem::new(why.message))?;
        ConsulDefinitions::read(&said.services, &said.checks)
            .map(Some)
            .map_err(|why| Problem::new(format!("a definition cannot be read: {why}")))
    };
    ours::run_with(|| again().map_err(|why| Problem::new(why.message)), defined)
}

/// Files, the environment's JSON, flags: what comes later lies on top.
fn said(words: &Words, local: Option<&str>) -> Result<Said, Failure> {
    let mut said = Said::default();
    for (flag, path) in words.flags() {
        let files = match flag {
            "config-file" => vec![Path::new(path).to_owned()],
            "config-dir" => file::of_directory(Path::new(path))?,
            _ => continue,
        };
        for file in files {
            said.lay(&file::read(&file)?)?;
        }
    }
    if let Some(text) = local.filter(|text| !text.trim().is_empty()) {
        said.lay(&file::parse("CONSUL_LOCAL_CONFIG", text)?)?;
    }
    said.lay(&of_flags(words)?)?;
    for (flag, _) in words.flags().filter(|(flag, _)| !is_known(flag)) {
        said.ignored.push(format!("-{flag}"));
    }
    Ok(said)
}

fn is_known(flag: &str) -> bool {
    let named = |names: &[(&str, &str)]| names.iter().any(|(name, _)| *name == flag);
    named(KEYS)
        || named(LISTS)
        || named(PORTS)
        || SILENT.contains(&flag)
        || matches!(flag, "node-meta" | "enable-script-checks" | "enable-local-script-checks")
}

/// Flags as the configuration that they amount to.
fn of_flags(words: &Words) -> Result<Map<String, Value>, Failure> {
    let mut object = Map::new();
    for (flag, key) in KEYS {
        if let Some(value) = words.one(flag) {
            object.insert((*key).to_owned(), json!(value));
        }
    }
    for (flag, key) in LISTS {
        object.insert((*key).to_owned(), words.all(flag).collect());
    }
    let mut ports = Map::new();
    for (flag, name) in PORTS {
        if let Some(value) = words.one(flag) {
            let number: i64 = value.parse().map_err(|_| Failure::new(Exit::Usage, format!("invalid value {value:?} for flag -{flag}")))?;
            ports.insert((*name).to_owned(), json!(number));
        }
    }
    let meta: Map<String, Value> = words
        .all("node-meta")
        .map(|pair| pair.split_once(':').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    object.insert("ports".to_owned(), Value::Object(ports));
    object.insert("node_meta".to_owned(), Value::Object(meta));
    if words.is_on("enable-script-checks") || words.is_on("enable-local-script-checks") {
        object.insert("enable_script_checks".to_owned(), json!(true));
    }
    Ok(object)
}

/// The settings of ours that say the same.
fn flags(said: &Said, is_dev: bool, is_insecure: bool) -> Result<Flags, Failure> {
    let mut flags = Flags { is_dev, ..Flags::default() };
    let mut set = |key: &'static str, value: String| flags.set(key, value);
    let port = |name: &str, default: u16| said.ports.get(name).copied().unwrap_or(Some(default));
    let gossip_port = port("serf_lan", GOSSIP_PORT).unwrap_or(GOSSIP_PORT);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bind = said.bind.as_deref().map(|text| address("bind", text)).transpose()?;
    // Consul's default is every address; ours asks for a key there, and says so.
    let bind = bind.unwrap_or(if is_dev { loopback } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) });
    set("gossip.listen", SocketAddr::new(bind, gossip_port).to_string());
    if let Some(text) = &said.advertise {
        set("gossip.advertise", SocketAddr::new(address("advertise", text)?, gossip_port).to_string());
    }
    for seed in &said.join {
        let has_port = seed.parse::<IpAddr>().is_err() && seed.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        set(
            "gossip.join",
            match seed.parse::<IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, gossip_port).to_string(),
                Err(_) if has_port => seed.clone(),
                Err(_) => format!("{seed}:{gossip_port}"),
            },
        );
    }
    let texts = [
        ("node.name", &said.node_name),
        ("node.datacenter", &said.datacenter),
        ("node.data_dir", &said.data_dir),
        ("gossip.encrypt", &said.encrypt),
        ("dns.domain", &said.domain),
        ("dns.alt_domain", &said.alt_domain),
    ];
    // What is kept in memory has no directory, as with Consul.
    for (key, value) in texts.into_iter().filter(|(key, _)| !(is_dev && *key == "node.data_dir")) {
        value.iter().for_each(|value| set(key, value.clone()));
    }
    let clients: Vec<&str> = said.client.as_deref().unwrap_or("127.0.0.1").split_whitespace().collect();
    for at in listeners(said, "http", port("http", HTTP_PORT), &clients)? {
        set("http.listen", at);
    }
    let dns = listeners(said, "dns", port("dns", DNS_PORT), &clients)?;
    if dns.is_empty() {
        set("dns.listen", String::new());
    }
    for at in dns {
        set("dns.listen", at);
    }
    said.recursors.iter().for_each(|recursor| set("dns.recursors", recursor.clone()));
    if said.scripts == Some(true) {
        set("checks.scripts", "true".to_owned());
    }
    if is_insecure {
        set("gossip.insecure", "true".to_owned());
    }
    if let Some(level) = &said.log_level {
        set("log.filter", if level.eq_ignore_ascii_case("err") { "error".to_owned() } else { level.to_lowercase() });
    }
    if !said.node_meta.is_empty() {
        let pairs: Vec<String> = said.node_meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
        set("node.metadata", pairs.join(","));
    }
    Ok(flags)
}

fn address(flag: &str, text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|_| Failure::new(Exit::Usage, format!("the address to {flag} must be an IP, not {text:?}")))
}

/// Where something listens: on its own addresses where it has some, else on those of all clients. None where its port is switched off.
fn listeners(said: &Said, name: &str, port: Option<u16>, clients: &[&str]) -> Result<Vec<String>, Failure> {
    let own: Option<Vec<&str>> = said.addresses.get(name).map(|text| text.split_whitespace().collect());
    let mut at = Vec::new();
    for text in own.as_deref().unwrap_or(clients) {
        match (text.strip_prefix("unix://"), port) {
            (Some(path), _) => at.push(format!("unix:{path}")),
            (None, Some(port)) => at.push(SocketAddr::new(address("listen on", text)?, port).to_string()),
            (None, None) => {}
        }
    }
    Ok(at)
}

/// A file with this process' number, for as long as the agent runs.
struct PidFile(std::path::PathBuf);

impl PidFile {
    fn write(path: &str) -> Result<Self, Failure> {
        std::fs::write(path, std::process::id().to_string()).map_err(|why| Failure::failed(format!("{path} cannot be written: {why}")))?;
        Ok(Self(path.into()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Left behind it would name a process that is another's by then; there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn read(line: &str, local: Option<&str>) -> (Settings, Vec<String>) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let words = Words::read(&words, SWITCHES).unwrap();
        let said = said(&words, local).unwrap();
        let flags = flags(&said, words.is_on("dev"), words.is_on("insecure")).unwrap();
        (Settings::load(flags, []).unwrap().0, said.ignored)
    }

    #[test]
    fn a_developers_agent_is_on_loopback_and_in_memory() {
        let (settings, ignored) = read("-dev -data-dir=/nowhere -node=c1 -log-level=err -ui", None);
        assert_eq!(settings.gossip.listen, "127.0.0.1:7976".parse().unwrap());
        assert_eq!((settings.node.name.as_str(), settings.node.data_dir, settings.log.filter.as_str()), ("c1", None, "error"));
        assert!(ignored.is_empty());
    }

    #[test]
    fn a_harness_configuration_is_ours_and_flags_lie_on_top() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        std::fs::write(
            &file,
            r#"{"node_name":"from-file","node_id":"x","node_meta":{"k":"v"},"performance":{"raft_multiplier":1},"bootstrap":true,"server":true,
            "data_dir":"/tmp/d","datacenter":"DC9","log_level":"debug","bind_addr":"127.0.0.1","retry_join":["127.0.0.9","host:1"],
            "addresses":{"http":"unix:///tmp/c.sock"},"ports":{"dns":-1,"http":18500,"serf_lan":18301,"server":18300},
            "enable_script_checks":true,"colour":"blue","connect":{"enabled":true}}"#,
        )
        .unwrap();
        let line = format!("-config-file={} -node on-top -colour-flag x", file.display());
        let (settings, ignored) = read(&line, Some(r#"{"datacenter":"dc8"}"#));
        assert_eq!((settings.node.name.as_str(), settings.node.datacenter.as_str()), ("on-top", "dc8"));
        assert_eq!(settings.gossip.listen, "127.0.0.1:18301".parse().unwrap());
        assert_eq!(settings.gossip.join, ["127.0.0.9:18301", "host:1"]);
        assert_eq!(settings.http.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["unix:/tmp/c.sock"]);
        assert_eq!(settings.node.metadata, [("k".to_owned(), "v".to_owned())]);
        assert!(settings.checks.scripts && settings.dns.listen.is_empty());
        assert_eq!(ignored, ["node_id", "colour", "-colour-flag"]);
        let words = Words::read(&["-config-dir", dir.path().to_str().unwrap()], SWITCHES).unwrap();
        assert_eq!(said(&words, None).unwrap().node_name.as_deref(), Some("from-file"));
    }

    #[test]
    fn hcl_says_what_json_says() {
        let hcl = "node_name = \"n\"\nports {\n  http = 18500\n  dns  = -1\n}\nretry_join = [\"a\", \"b:1\"]\nservice {\n  name = \"web\"\n}\n\
                   service {\n  name = \"db\"\n}\n# the end\n";
        let json =
            r#"{"node_name":"n","ports":{"http":18500,"dns":-1},"retry_join":["a","b:1"],"services":[{"name":"web"},{"name":"db"}]}"#;
        let lay = |text: &str| said(&Words::default(), Some(text)).unwrap();
        assert_eq!(lay(hcl), lay(json));
    }

    #[test]
    fn what_is_ours_and_wrong_is_refused() {
        for local in ["ports {", "service = 7", "{", "[]", r#"{"ports":{"http":"x"}}"#, r#"{"node_name":1}"#, r#"{"start_join":"a"}"#] {
            assert!(said(&Words::default(), Some(local)).is_err(), "{local}");
        }
        let words = Words::read(&["-bind", "everywhere"], SWITCHES).unwrap();
        assert!(flags(&said(&words, None).unwrap(), false, false).is_err());
        assert!(said(&Words::read(&["-http-port", "x"], SWITCHES).unwrap(), None).is_err());
    }
}
