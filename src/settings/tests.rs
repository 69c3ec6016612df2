use std::net::Ipv4Addr;

use super::*;
use crate::engine::config::Export;

const NOTHING: [(String, String); 0] = [];

fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (String, String)> + 'a {
    [("HOME", "/home/u")].iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

fn flags(values: &[(&'static str, &str)]) -> Flags {
    let mut flags = Flags::default();
    values.iter().for_each(|(key, value)| flags.set(key, *value));
    flags
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(file: Option<PathBuf>, env: &[(&str, &str)], values: &[(&'static str, &str)]) -> Result<(Settings, Layers), Problem> {
    Settings::load(Flags { file, ..flags(values) }, environment(env))
}

fn source_of(layers: &Layers, key: &str) -> String {
    layers.shown().find(|(name, _, _)| *name == key).unwrap().2
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let (_dir, path) = file("[node]\nname = 'from-file'\nzone = 'file'\ndatacenter = 'file'\n");
    let env = [("TIDINGS_AGENT__NODE__NAME", "from-env"), ("TIDINGS_AGENT__NODE__ZONE", "env")];
    let (settings, layers) = load(Some(path.clone()), &env, &[("node.name", "from-flag")]).unwrap();
    assert_eq!(settings.node.name.as_str(), "from-flag");
    assert_eq!(settings.node.zone.unwrap().as_str(), "env");
    assert_eq!(settings.node.datacenter.as_str(), "file");
    assert_eq!(settings.node.cluster, "tidings");
    assert_eq!(source_of(&layers, "node.name"), "--node");
    assert_eq!(source_of(&layers, "node.zone"), "TIDINGS_AGENT__NODE__ZONE");
    assert_eq!(source_of(&layers, "node.datacenter"), path.display().to_string());
    assert_eq!(source_of(&layers, "node.cluster"), "default");
}

#[test]
fn a_list_of_a_higher_layer_replaces_the_lower_ones() {
    let (_dir, path) = file("[gossip]\njoin = ['a:1', 'b']\n");
    let (settings, _) = load(Some(path.clone()), &[], &[]).unwrap();
    assert_eq!(settings.gossip.join, ["a:1", "b:7976"]);
    let env = [("TIDINGS_AGENT__GOSSIP__JOIN", "c:3, 10.0.0.4")];
    let (settings, _) = load(Some(path.clone()), &env, &[]).unwrap();
    assert_eq!(settings.gossip.join, ["c:3", "10.0.0.4:7976"]);
    let (settings, _) = load(Some(path), &env, &[("gossip.join", "e:5"), ("gossip.join", "[::1]:6")]).unwrap();
    assert_eq!(settings.gossip.join, ["e:5", "[::1]:6"]);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_right_one() {
    let refusal = |text: &str| {
        let (_dir, path) = file(text);
        load(Some(path), &[], &[]).unwrap_err().to_string()
    };
    assert!(refusal("[gossip]\nadvertize = 'x'").contains("Did you mean gossip.advertise?"));
    assert!(refusal("[gosip]\nlisten = 'x'").contains("Did you mean gossip?"));
    assert!(refusal("[node]\njoin = []").contains("Did you mean gossip.join?"));
    assert!(refusal("[node]\nqqqq = 1").contains("tidings config example"));
    let refusal = load(None, &[("TIDINGS_AGENT__NODE__DATACENTRE", "x")], &[]).unwrap_err().to_string();
    assert!(refusal.contains("Did you mean TIDINGS_AGENT__NODE__DATACENTER?"), "{refusal}");
    assert!(load(None, &[("TIDINGS_HTTP_ADDR", "x"), ("TIDINGS_TOKEN", "x")], &[]).is_ok(), "these are the client's");
}

#[test]
fn a_value_of_the_wrong_kind_or_sense_says_where_it_stands() {
    let (_dir, path) = file("[checks]\nscripts = 'yes'\n");
    let refusal = load(Some(path.clone()), &[], &[]).unwrap_err().to_string();
    assert!(refusal.contains("checks.scripts") && refusal.contains("true or false") && refusal.contains(&path.display().to_string()));
    let refusal = load(None, &[("TIDINGS_AGENT__CHECKS__CONCURRENT_MAX", "0")], &[]).unwrap_err().to_string();
    assert!(refusal.contains("TIDINGS_AGENT__CHECKS__CONCURRENT_MAX") && refusal.contains("1 to 4096"), "{refusal}");
    let refusal = load(None, &[], &[("gossip.listen", "somewhere")]).unwrap_err().to_string();
    assert!(refusal.contains("--gossip") && refusal.contains("10.0.0.1:7976"), "{refusal}");
}

#[test]
fn every_default_is_what_its_setting_takes() {
    let (settings, layers) = load(None, &[], &[]).unwrap();
    assert_eq!(settings.gossip.listen, SocketAddr::from((Ipv4Addr::UNSPECIFIED, GOSSIP_PORT)));
    assert_eq!(settings.http.listen, [Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)))]);
    assert!(settings.node.data_dir.is_some());
    assert_eq!(layers.shown().count(), table::SETTINGS.len());
}

#[test]
fn the_example_holds_every_setting_and_is_a_file_that_works() {
    let example = table::example();
    let (_dir, path) = file(&example);
    load(Some(path), &[], &[]).unwrap();
    let mut open: String = String::new();
    for line in example.lines() {
        let is_setting = line.starts_with('#') && !line.starts_with("# ");
        open.push_str(if is_setting { &line[1..] } else { line });
        open.push('\n');
    }
    // The keys' files of the example exist on no machine.
    let key = format!("\"{}\"", "ab".repeat(32));
    let open = open.replace("\"@/etc/tidings/key\"", &key).replace("\"@/etc/tidings/wan-key\"", &key);
    let (_dir, path) = file(&open);
    let (_, layers) = load(Some(path.clone()), &[], &[]).unwrap();
    for (key, value, source) in layers.shown() {
        assert_eq!(source, path.display().to_string(), "{key} = {value:?} is not in the example");
    }
}

#[test]
fn dev_is_loopback_and_in_memory_whatever_the_file_says() {
    let (_dir, path) = file("[gossip]\nlisten = '0.0.0.0:1'\njoin = ['a:1']\n[node]\ndata_dir = '/x'\nname = 'n'\n");
    let mut given = flags(&[("http.listen", "127.0.0.1:9")]);
    (given.is_dev, given.file) = (true, Some(path));
    let (settings, _) = Settings::load(given, NOTHING).unwrap();
    assert!(settings.gossip.listen.ip().is_loopback() && settings.gossip.join.is_empty() && settings.node.data_dir.is_none());
    assert_eq!(settings.http.listen, [Listen::Tcp("127.0.0.1:9".parse().unwrap())], "but flags count");
    assert_eq!(settings.node.name.as_str(), "n");
    assert!(security::check(&settings).is_ok());
}

#[test]
fn open_addresses_need_a_key_or_an_explicit_word() {
    let verdict = |values: &[(&'static str, &str)]| security::check(&load(None, &[], values).unwrap().0);
    let key = "ab".repeat(32);
    let refusal = verdict(&[]).unwrap_err().to_string();
    assert!(refusal.contains("tidings agent --dev") && refusal.contains("tidings keygen --out key") && refusal.contains("--encrypt @key"));
    assert!(verdict(&[("gossip.encrypt", &key)]).is_ok());
    assert!(verdict(&[("gossip.insecure", "true")]).is_ok());
    assert!(verdict(&[("gossip.listen", "127.0.0.1:1")]).is_ok());
    assert!(verdict(&[("gossip.listen", "127.0.0.1:1"), ("gossip.advertise", "10.0.0.1:1")]).is_err());
    let refusal = verdict(&[("gossip.encrypt", &key), ("http.listen", "127.0.0.1:1"), ("http.listen", "0.0.0.0:8500")]).unwrap_err();
    assert!(refusal.what.contains("0.0.0.0:8500"));
    assert!(verdict(&[("gossip.encrypt", &key), ("http.listen", "unix:/tmp/x")]).is_ok());
}

#[test]
fn a_key_is_never_shown() {
    let key = "ab".repeat(32);
    let (settings, layers) = load(None, &[], &[("gossip.encrypt", &key)]).unwrap();
    assert!(!format!("{settings:?}").contains("abab"));
    assert!(layers.shown().all(|(_, value, _)| !value.unwrap_or_default().contains("abab")));
    let wrong = format!("{}zz", "ab".repeat(31));
    let refusal = load(None, &[], &[("gossip.encrypt", &wrong)]).unwrap_err().to_string();
    assert!(!refusal.contains("abab") && refusal.contains("keygen"), "{refusal}");
    let refusal = load(None, &[], &[("gossip.encrypt", "@/nonexistent/key")]).unwrap_err().to_string();
    assert!(refusal.contains("/nonexistent/key"), "{refusal}");
}

#[test]
fn the_data_directory_is_found_as_systemd_root_and_users_expect() {
    let with = |pairs: &[(&str, &str)], is_root| {
        let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        data_dir_default(value, is_root).map(|path| path.display().to_string())
    };
    assert_eq!(with(&[("STATE_DIRECTORY", "/var/lib/a:/b"), ("HOME", "/h")], true).unwrap(), "/var/lib/a");
    assert_eq!(with(&[("HOME", "/h")], true).unwrap(), "/var/lib/tidings");
    assert_eq!(with(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")], false).unwrap(), "/s/tidings");
    assert_eq!(with(&[("HOME", "/h")], false).unwrap(), "/h/.local/state/tidings");
    assert_eq!(with(&[], false), None);
}

#[test]
fn the_engines_defaults_stand_in_the_table_as_the_engine_has_them() {
    let (settings, _) = load(None, &[], &[]).unwrap();
    let node = crate::engine::config::NodeConfig {
        name: settings.node.name.clone(),
        datacenter: settings.node.datacenter.clone(),
        zone: None,
        advertise: settings.gossip.listen,
        http_port: None,
        dns_port: None,
        version: String::new(),
        metadata: Vec::new(),
    };
    let engine = EngineConfig::lan(node);
    let mut changed = engine.clone();
    settings.engine.apply(&mut changed);
    assert_eq!(format!("{changed:?}"), format!("{engine:?}"));
    let refusal = load(None, &[("TIDINGS_AGENT__MEMBERSHIP__PROBE_PERIOD", "1ms")], &[]).unwrap_err().to_string();
    assert!(refusal.contains("50 ms to 10000 ms"), "{refusal}");
    assert!(load(None, &[("TIDINGS_AGENT__CATALOG__REAP_AFTER", "soon")], &[]).is_err());
}

const TOKENS: &str = "[[access.tokens]]\nname = 'ops'\nsecret = 'a-secret-of-the-operators'\ngrants = ['read', 'operator']\n\
                      [[access.tokens]]\nname = 'ci'\nsecret = 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'\n\
                      grants = ['write@prod:web']\n[access]\n";

#[test]
fn tokens_are_read_and_never_shown() {
    let text = TOKENS.trim_end_matches("[access]\n");
    let (_dir, path) = file(text);
    let (settings, layers) = load(Some(path), &[("TIDINGS_AGENT__ACCESS__ANONYMOUS", "read")], &[]).unwrap();
    let rules = &settings.access.rules;
    assert_eq!(rules.tokens(), 2);
    use crate::access::Need;
    assert!(rules.caller(Some("a-secret-of-the-operators")).may(Need::Operate).is_ok());
    assert!(rules.caller(Some("abc")).may(Need::Write { namespace: "prod", service: "web-1" }).is_ok());
    assert!(rules.caller(None).may(Need::Read).is_ok() && rules.caller(None).may(Need::Operate).is_err());
    let shown = layers.shown().find(|(key, _, _)| *key == "access.tokens").unwrap().1.unwrap();
    assert_eq!(shown, "(2: ops, ci)");
    assert!(!format!("{settings:?}{layers:?}").contains("a-secret") && !format!("{settings:?}{layers:?}").contains("ba7816"));
    let (settings, _) = load(None, &[], &[]).unwrap();
    assert!(settings.access.rules.is_open());
}

#[test]
fn a_token_that_cannot_be_is_refused_without_its_secret() {
    let refusal = |lines: &str| {
        let (_dir, path) = file(&format!("[[access.tokens]]\n{lines}\n"));
        let refusal = load(Some(path), &[], &[]).unwrap_err().to_string();
        assert!(!refusal.contains("hunter"), "{refusal}");
        refusal
    };
    assert!(refusal("name = 'a'\nsecret = 'hunter2'\ngrants = []").contains("\"a\": secret is none: expected 16 to 512"));
    assert!(refusal("name = 'a'\nsecret = 'hunter2-hunter2-hunter2'\ngrants = ['reed']").contains("\"reed\" is no grant: expected read"));
    assert!(refusal("name = 'a'\nsecret = 'hunter2-hunter2-hunter2'\ngrant = ['read']").contains("Did you mean grants?"));
    assert!(refusal("name = 'a'\ngrants = []").contains("tidings token"));
    assert!(refusal("secret = 'hunter2-hunter2-hunter2'\ngrants = []").contains("number 1: name"));
    assert!(refusal("name = 'a'\nsecret = '@/nonexistent/token'\ngrants = []").contains("/nonexistent/token"));
    let (_dir, path) = file("[access]\nanonymous = ['operator']\n");
    assert!(load(Some(path), &[], &[]).unwrap_err().to_string().contains("an operator has to show a token"));
    let (_dir, path) = file("[access]\ntokens = ['hunter2']\n");
    let refusal = load(Some(path), &[("X", "y")], &[]).unwrap_err().to_string();
    assert!(refusal.contains("each with name, secret and grants") && !refusal.contains("hunter"), "{refusal}");
    let refusal = load(None, &[("TIDINGS_AGENT__ACCESS__TOKENS", "hunter2")], &[]).unwrap_err().to_string();
    assert!(refusal.contains("in the settings file only") && !refusal.contains("hunter"), "{refusal}");
}

#[test]
fn listeners_that_others_reach_need_tokens_or_an_explicit_word() {
    let key = "ab".repeat(32);
    let (_dir, path) = file(TOKENS);
    let open = [("gossip.encrypt", key.as_str()), ("http.listen", "0.0.0.0:8500")];
    let (settings, _) = load(Some(path), &[], &open).unwrap();
    assert!(security::check(&settings).is_ok());
    let refusal = security::check(&load(None, &[], &open).unwrap().0).unwrap_err().to_string();
    assert!(refusal.contains("0.0.0.0:8500") && refusal.contains("tidings token --out token"), "{refusal}");
}

#[test]
fn tls_keeps_others_out_only_where_it_asks_them_for_certificates() {
    let key = "ab".repeat(32);
    let verdict = |lines: &str, at: &str| {
        let (_dir, path) = file(&format!("[tls]\n{lines}"));
        security::check(&load(Some(path), &[], &[("gossip.encrypt", &key), ("http.listen", at)]).unwrap().0)
    };
    let pair = "cert = 'cert.pem'\nkey = 'key.pem'\n";
    let mutual = format!("{pair}client_ca = 'ca.pem'\n");
    assert!(verdict(&mutual, "https://0.0.0.0:8500").is_ok());
    assert!(verdict(pair, "https://127.0.0.1:8500").is_ok());
    assert!(verdict(pair, "https://0.0.0.0:8500").unwrap_err().what.contains("https://0.0.0.0:8500"));
    assert!(verdict(&mutual, "0.0.0.0:8500").is_err());
    let refusal = verdict(pair, "127.0.0.1:8500").unwrap_err().to_string();
    assert!(refusal.contains("no listener speaks TLS") && refusal.contains("--http https://"), "{refusal}");
}

#[test]
fn a_gateway_is_one_by_its_flag_and_exports_by_the_narrowest_rule() {
    assert!(load(None, &[], &[]).unwrap().0.wan.is_none());
    let refusal = load(None, &[], &[("wan.join", "west.example:7977")]).unwrap_err().to_string();
    assert!(refusal.contains("--join-wan") && refusal.contains("--gateway"), "{refusal}");
    let (_dir, path) =
        file("[wan]\nexport = { \"*\" = \"none\", \"web-*\" = \"full\", \"web-internal\" = \"none\" }\nexport_edition = 3\n");
    assert!(load(Some(path.clone()), &[], &[]).unwrap().0.wan.is_none(), "a file for all hosts makes none of them a gateway");
    let (settings, _) = load(Some(path), &[], &[("wan.gateway", "true"), ("gossip.encrypt", &"ab".repeat(32))]).unwrap();
    let wan = settings.wan.unwrap();
    assert_eq!((wan.listen.port(), wan.export.edition), (7977, 3));
    assert_eq!(wan.key, settings.gossip.key, "one key serves both, unless told otherwise");
    let crosses = |service: &str| wan.export.of("default", service) == Export::Full;
    assert_eq!(["web-1", "web-internal", "db"].map(crosses), [true, false, false]);
    let (_dir, path) = file("[wan]\ngateway = true\nexport = { web = \"half\" }\n");
    assert!(load(Some(path), &[], &[]).unwrap_err().to_string().contains("full, summary or none"));
}

#[test]
fn export_rules_go_by_namespace_and_service() {
    let rules = "web = \"full\", \"team/*\" = \"none\", \"team/web\" = \"summary\", \"*/a/b\" = \"none\"";
    let (_dir, path) = file(&format!("[wan]\ngateway = true\nexport = {{ {rules} }}\n"));
    let export = load(Some(path), &[], &[("gossip.encrypt", &"ab".repeat(32))]).unwrap().0.wan.unwrap().export;
    for (namespace, service, expected) in [
        ("default", "db", Export::Summary),
        ("default", "web", Export::Full),
        ("team", "db", Export::None),
        ("team", "web", Export::Summary),
        ("default", "a/b", Export::None),
    ] {
        assert_eq!(export.of(namespace, service), expected, "{namespace}/{service}");
    }
    let (_dir, path) = file("[wan]\ngateway = true\nexport = { \"*\" = \"full\", \"team/*\" = \"none\" }\n");
    let export = load(Some(path), &[], &[("gossip.encrypt", &"ab".repeat(32))]).unwrap().0.wan.unwrap().export;
    assert_eq!([export.of("default", "db"), export.of("team", "db")], [Export::Full, Export::None]);
    let (_dir, path) = file("[wan]\ngateway = true\nexport = { \"a b/web\" = \"full\" }\n");
    assert!(load(Some(path), &[], &[]).unwrap_err().to_string().contains("wan.export"));
}

#[test]
fn a_gateway_without_a_key_stays_on_loopback() {
    let check = |wan: &str| {
        let flags = [("wan.gateway", "true"), ("wan.listen", wan), ("gossip.listen", "127.0.0.1:0")];
        security::check(&load(None, &[], &flags).unwrap().0)
    };
    assert!(check("127.0.0.1:7977").is_ok());
    let refusal = check("0.0.0.0:7977").unwrap_err().to_string();
    assert!(refusal.contains("0.0.0.0:7977") && refusal.contains("wan-key"), "{refusal}");
}
