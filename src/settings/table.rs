//! Every setting once: its key, kind, default, flag and words. The example file is printed from here, so it cannot be out of date.

use std::fmt::Write as _;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.key`, as in the file.
    pub key: &'static str,
    pub kind: Kind,
    /// As TOML; empty: none, or found out by the agent itself.
    pub default: &'static str,
    /// The flag of `tidings agent` that sets it.
    pub flag: Option<&'static str>,
    /// What it does, a sentence a line.
    pub words: &'static str,
    /// A value to show where there is no default.
    pub example: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Flag,
    Count,
    /// Like `15s`, `1m30s`, `250ms`.
    Duration,
    /// Texts; in the environment separated by commas.
    List,
    /// Texts by name; in the environment `a=1,b=2`.
    Map,
    /// Tokens, each with a name, a secret and grants; in the file only.
    Tokens,
}

impl Kind {
    /// What a value of this kind is called in an error.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "a text in quotes",
            Kind::Flag => "true or false",
            Kind::Count => "a whole number",
            Kind::Duration => "a duration like \"15s\", \"1m30s\" or \"250ms\"",
            Kind::List => "a list of texts",
            Kind::Map => "a table of texts",
            Kind::Tokens => "a list of tables, each with name, secret and grants",
        }
    }
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, flag: Option<&'static str>, words: &'static str) -> Setting {
    Setting { key, kind, default, flag, words, example: "" }
}

const fn shown(mut setting: Setting, example: &'static str) -> Setting {
    setting.example = example;
    setting
}

/// Sections in the order of the example, each with a line about it.
pub const SECTIONS: &[(&str, &str)] = &[
    ("node", "Who this agent is."),
    ("gossip", "How agents find each other and what they say, over UDP and TCP on one port."),
    ("wan", "Other datacenters, each complete in itself: gateways carry what is registered from one to the others."),
    ("http", "Where clients are answered."),
    ("consul", "What clients of Consul get, on the addresses of HTTP."),
    ("dns", "Where names are answered, over UDP and TCP."),
    ("tls", "What listeners at https:// show and ask for: files in PEM, read again at each reload. `tidings tls` makes them."),
    ("access", "Who may do what over HTTP. Without tokens everybody who reaches a listener may do everything."),
    ("checks", "Checks that this agent runs for its own instances."),
    ("membership", "How deaths are noticed. All agents of a datacenter should agree on these."),
    ("catalog", "What becomes of what the dead had registered. All agents of a datacenter should agree on these."),
    ("log", "What is written to standard error."),
];

pub const SETTINGS: &[Setting] = &[
    shown(
        setting(
            "node.name",
            Kind::Text,
            "",
            Some("--node"),
            "The name of this node, unique in its datacenter. By default the host's name.",
        ),
        "\"web-host-1\"",
    ),
    setting(
        "node.datacenter",
        Kind::Text,
        "\"dc1\"",
        Some("--datacenter"),
        "The datacenter this agent is in: letters, digits, '_', '.', '-'.",
    ),
    shown(
        setting("node.zone", Kind::Text, "", Some("--zone"), "The zone inside the datacenter; instances that name none are in it."),
        "\"a\"",
    ),
    setting("node.cluster", Kind::Text, "\"tidings\"", None, "Agents whose cluster differs ignore each other's packets."),
    shown(
        setting(
            "node.data_dir",
            Kind::Text,
            "",
            Some("--data-dir"),
            "Where the agent keeps what it must find again after a restart.\n\
             By default $STATE_DIRECTORY, else /var/lib/tidings for root, else $XDG_STATE_HOME/tidings or ~/.local/state/tidings.",
        ),
        "\"/var/lib/tidings\"",
    ),
    setting(
        "node.copy_interval",
        Kind::Duration,
        "\"5m\"",
        None,
        "How often what others registered is copied to the data directory: what the agent answers with, unverified, when it starts and reaches\n\
         nobody. Also copied when it stops. \"0s\" switches it off.",
    ),
    shown(setting("node.metadata", Kind::Map, "", None, "What else is worth knowing of this node."), "{ rack = \"r1\" }"),
    setting("gossip.listen", Kind::Text, "\"0.0.0.0:7976\"", Some("--gossip"), "The address of gossip, UDP and TCP."),
    shown(
        setting(
            "gossip.advertise",
            Kind::Text,
            "",
            Some("--advertise"),
            "The address other agents are told to use. By default where we listen, or the address this host's routes begin at.",
        ),
        "\"10.0.0.1:7976\"",
    ),
    shown(
        setting(
            "gossip.join",
            Kind::List,
            "[]",
            Some("--join"),
            "Agents to join, any of them is enough. Names are resolved again and again; joining is never given up.",
        ),
        "[\"10.0.0.2:7976\", \"tidings.example:7976\"]",
    ),
    shown(
        setting(
            "gossip.encrypt",
            Kind::Text,
            "",
            Some("--encrypt"),
            "The key that seals gossip, the same on every host: what `tidings keygen` prints, or @FILE with it in a file.",
        ),
        "\"@/etc/tidings/key\"",
    ),
    setting(
        "gossip.insecure",
        Kind::Flag,
        "false",
        Some("--insecure"),
        "Allow gossip without a key, and HTTP, on addresses that other hosts reach.",
    ),
    setting(
        "wan.gateway",
        Kind::Flag,
        "false",
        Some("--gateway"),
        "This agent is a gateway: it talks to those of other datacenters. Two or three a datacenter; the other agents need nothing.",
    ),
    setting(
        "wan.listen",
        Kind::Text,
        "\"0.0.0.0:7977\"",
        Some("--wan"),
        "Where a gateway listens for those of other datacenters, UDP and TCP.",
    ),
    shown(
        setting(
            "wan.advertise",
            Kind::Text,
            "",
            Some("--advertise-wan"),
            "The address gateways of other datacenters are told. By default found out as gossip.advertise is.",
        ),
        "\"203.0.113.9:7977\"",
    ),
    shown(
        setting(
            "wan.join",
            Kind::List,
            "[]",
            Some("--join-wan"),
            "Gateways of other datacenters, any of them is enough. Names are resolved again and again; joining is never given up.",
        ),
        "[\"gateway.west.example:7977\"]",
    ),
    shown(
        setting(
            "wan.encrypt",
            Kind::Text,
            "",
            None,
            "The key that seals what gateways say to each other, the same in all datacenters: text or @FILE. By default the one of gossip.",
        ),
        "\"@/etc/tidings/wan-key\"",
    ),
    shown(
        setting(
            "wan.tls",
            Kind::Map,
            "",
            None,
            "TLS between gateways, mutual: files in PEM, read again at each reload. The certificate names the datacenter as DATACENTER.gateway.tidings;\n\
             `tidings tls cert --gateway DATACENTER` makes one. All gateways of all datacenters have it, or none.",
        ),
        "{ ca = \"/etc/tidings/ca.pem\", cert = \"/etc/tidings/gateway.pem\", key = \"/etc/tidings/gateway-key.pem\" }",
    ),
    shown(
        setting(
            "wan.export",
            Kind::Map,
            "",
            None,
            "What crosses to other datacenters: full, summary (how many instances, how healthy, in which zones) or none, by the service's name,\n\
             else by the longest PREFIX*, else by *. NAMESPACE/NAME is for one namespace, and goes before NAME alone. The same at all gateways of\n\
             a datacenter. What no entry fits crosses as a summary; others fetch its instances when somebody there looks them up.",
        ),
        "{ \"web\" = \"full\", \"api-*\" = \"full\", \"internal/*\" = \"none\" }",
    ),
    setting(
        "wan.export_edition",
        Kind::Count,
        "0",
        None,
        "To be raised with each change of wan.export, at all gateways of the datacenter: the highest is what others go by. 0 to 2047.",
    ),
    setting(
        "http.listen",
        Kind::List,
        "[\"127.0.0.1:8500\"]",
        Some("--http"),
        "Addresses of the HTTP API and the page: ADDR:PORT, https://ADDR:PORT (see [tls]) or unix:PATH.",
    ),
    shown(
        setting(
            "http.hosts",
            Kind::List,
            "[]",
            None,
            "Names by which clients may call this agent, besides IPs and localhost. A request to any other Host is refused (421),\n\
             which keeps web pages from reaching the API under a name of their own.",
        ),
        "[\"tidings.example\"]",
    ),
    setting(
        "consul.consistent",
        Kind::Text,
        "\"local\"",
        None,
        "What ?consistent gets, which asks for a leader's word: local, an answer from this agent's memory as any other read, or refused (501).",
    ),
    setting(
        "dns.listen",
        Kind::List,
        "[\"127.0.0.1:8600\"]",
        Some("--dns"),
        "Addresses of DNS: ADDR:PORT. An empty list, or --no-dns, switches it off.",
    ),
    setting("dns.domain", Kind::Text, "\"consul.\"", None, "What names end in: web.service.consul."),
    setting("dns.alt_domain", Kind::Text, "\"tidings.\"", None, "What they may end in as well; empty: nothing else."),
    shown(
        setting(
            "dns.recursors",
            Kind::List,
            "[]",
            None,
            "Name servers that are asked for all other names, one after the other until one knows. Without any such names are refused.",
        ),
        "[\"10.0.0.53:53\"]",
    ),
    setting("dns.recursor_timeout", Kind::Duration, "\"2s\"", None, "How long one of them may take. 100ms to 30s."),
    setting("dns.node_ttl", Kind::Duration, "\"0s\"", None, "How long others may keep answers about nodes. Whole seconds count."),
    shown(
        setting(
            "dns.service_ttl",
            Kind::Map,
            "",
            None,
            "How long others may keep answers about services: by name, else by the longest prefix, else for all. By default not at all.",
        ),
        "{ web = \"10s\", \"db-*\" = \"5s\", \"*\" = \"1s\" }",
    ),
    setting("dns.only_passing", Kind::Flag, "false", None, "Leave out instances whose health is warning."),
    setting("dns.udp_answer_limit", Kind::Count, "0", None, "Records in an answer over UDP, at most; 0: as many as fit."),
    setting("dns.a_record_limit", Kind::Count, "0", None, "Addresses in an answer, at most, also over TCP; 0: as many as fit."),
    setting(
        "dns.enable_truncate",
        Kind::Flag,
        "true",
        None,
        "Tell clients when an answer over UDP holds not all there is (TC), so that they ask again over TCP.",
    ),
    shown(
        setting("tls.cert", Kind::Text, "", None, "The certificate, and those between it and its authority."),
        "\"/etc/tidings/cert.pem\"",
    ),
    shown(setting("tls.key", Kind::Text, "", None, "The certificate's private key."), "\"/etc/tidings/key.pem\""),
    shown(
        setting("tls.client_ca", Kind::Text, "", None, "Let in only clients that show a certificate of these authorities (mutual TLS)."),
        "\"/etc/tidings/ca.pem\"",
    ),
    shown(
        setting(
            "access.tokens",
            Kind::Tokens,
            "",
            None,
            "Tokens that clients show (TIDINGS_TOKEN); better written as [[access.tokens]] with a line each. `tidings token` makes one.\n\
             secret: the token, its hash as sha256:HEX, or @FILE with either.\n\
             grants: of read, write, write:PREFIX, write@NAMESPACE, write@NAMESPACE:PREFIX (services whose names begin so), operator.",
        ),
        "[{ name = \"prometheus\", secret = \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", grants = [\"read\"] }]",
    ),
    shown(
        setting(
            "access.anonymous",
            Kind::List,
            "",
            None,
            "What requests without a token may do, once there are tokens or this is set: nothing, by default.",
        ),
        "[\"read\"]",
    ),
    setting("checks.scripts", Kind::Flag, "false", None, "Run checks of kind script: whoever may register may then run programs here."),
    setting("checks.concurrent_max", Kind::Count, "64", None, "How many checks run at one moment."),
    setting(
        "membership.probe_period",
        Kind::Duration,
        "\"300ms\"",
        None,
        "Each agent asks one other whether it lives, so often: shorter notices deaths sooner and sends more. 50ms to 10s.",
    ),
    setting(
        "membership.suspicion_min",
        Kind::Duration,
        "\"900ms\"",
        None,
        "How long an agent that does not answer may object before it is down, once others confirm. 100ms to 60s.",
    ),
    setting(
        "catalog.reap_after",
        Kind::Duration,
        "\"72h\"",
        None,
        "When an agent that died and did not come back is given up, with all it had registered. 10m to 30d.",
    ),
    setting("log.filter", Kind::Text, "\"info\"", None, "trace, debug, info, warn or error; by room too: \"tidings::agent=debug,info\"."),
    setting("log.format", Kind::Text, "\"auto\"", None, "text, json, or auto: text on a terminal, JSON elsewhere."),
];

/// The setting of that key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// A file that holds every setting with its words; what is commented out shows the default, or an example where there is none.
pub fn example() -> String {
    let mut text = String::from(
        "# The settings of a tidings agent: `tidings agent --config FILE`.\n\
         # A flag beats the environment (TIDINGS_AGENT__SECTION__KEY), which beats this file, which beats the default.\n\
         # `tidings config check` reads it without starting anything, `tidings config show` tells which value won.\n",
    );
    for (section, words) in SECTIONS {
        let _ = write!(text, "\n# {words}\n[{section}]\n");
        for setting in SETTINGS.iter().filter(|setting| setting.key.split('.').next() == Some(section)) {
            let name = setting.key.split('.').next_back().unwrap_or_default();
            setting.words.lines().for_each(|line| {
                let _ = writeln!(text, "# {}", line.trim());
            });
            if let Some(flag) = setting.flag {
                let _ = writeln!(text, "# Flag: {flag}");
            }
            let value = if setting.example.is_empty() { setting.default } else { setting.example };
            let _ = writeln!(text, "#{name} = {value}\n");
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
