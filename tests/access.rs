//! Agents that are put on a network with trust: tokens, TLS and mutual TLS of real processes, asked by the real command line and client.
#![cfg(all(feature = "agent", unix))]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::agent::{Agent, Site, binary};
use lab::wait_for;
use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tidings::client::{Client, Error};

const PATIENCE: Duration = Duration::from_secs(10);
const DONE: i32 = 0;
const FAILED: i32 = 1;
const NOT_REACHED: i32 = 4;

/// Runs a verb; its exit code and all that it said.
fn tidings(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    for name in ["TIDINGS_HTTP_ADDR", "TIDINGS_TOKEN", "TIDINGS_CA", "TIDINGS_CLIENT_CERT", "TIDINGS_CLIENT_KEY"] {
        command.env_remove(name);
    }
    let output = command.args(arguments).output().expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn done(arguments: &[&str]) -> String {
    let (code, said) = tidings(arguments);
    assert_eq!(code, DONE, "{arguments:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are text")
}

/// A request with headers of its own: status, and all that was answered.
#[track_caller]
fn raw(agent: &Agent, line: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(agent.http.address).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    let length = body.len();
    let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the agent answers in text and closes");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    (status, answer)
}

struct Tokens {
    settings: PathBuf,
    ops: String,
    ci: String,
}

impl Tokens {
    /// Two tokens as a user would make them, and the settings that know them.
    fn make(site: &Site) -> Tokens {
        let (ops, ci) = (site.path("ops"), site.path("ci"));
        let ops_lines = done(&["token", "--name", "ops", "--out", text(&ops)]);
        let ci_lines = done(&["token", "--name", "ci", "--grant", "read", "--grant", "write:web-", "--out", text(&ci)]);
        let settings = site.path("tidings.toml");
        std::fs::write(&settings, format!("{ops_lines}{ci_lines}")).expect("the scratch directory can be written");
        let mode = ops.metadata().expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else reads a token");
        let secret = std::fs::read_to_string(&ops).expect("it was written");
        assert!(!ops_lines.contains(secret.trim()), "the settings do not hold the token itself");
        Tokens { settings, ops: format!("@{}", text(&ops)), ci: format!("@{}", text(&ci)) }
    }
}

fn secret_of(token: &str) -> String {
    std::fs::read_to_string(&token[1..]).expect("it was written").trim().to_owned()
}

#[test]
fn tokens_decide_who_may_do_what_in_every_dialect() {
    let site = Site::new();
    let tokens = Tokens::make(&site);
    let agent = site.agent("n1").with(&["--config", text(&tokens.settings)]).start();
    let at = agent.http.address.to_string();
    let verb = |token: &str, verb: &[&str]| tidings(&[verb, &["--http-addr", &at, "--token", token]].concat());

    let (code, said) = tidings(&["services", "--http-addr", &at]);
    assert!(code == FAILED && said.contains("TIDINGS_TOKEN"), "{code}: {said}");
    assert_eq!(verb(&tokens.ci, &["register", "web-a", "--port", "1"]).0, DONE);
    let (code, said) = verb(&tokens.ci, &["register", "db", "--port", "1"]);
    assert!(code == FAILED && said.contains("\"ci\" does not grant write:db"), "{code}: {said}");
    assert_eq!(verb(&tokens.ci, &["service", "web-a"]).0, DONE);
    for operator in [&["reload"] as &[&str], &["leave"], &["keys"], &["drain", "n1"]] {
        let (code, said) = verb(&tokens.ci, operator);
        assert!(code == FAILED && said.contains("operator"), "{operator:?}: {code}: {said}");
    }
    assert!(verb(&tokens.ops, &["keys"]).0 == DONE);

    // What needs none, and the challenge where one is needed.
    for path in ["/healthz", "/readyz", "/ui/", "/api/v1/openapi.json"] {
        assert_eq!(raw(&agent, &format!("GET {path}"), "authorization: Bearer wrong-wrong-wrong\r\n", "").0, 200, "{path}");
    }
    let (status, answer) = raw(&agent, "GET /metrics", "", "");
    assert!(status == 401 && answer.contains("www-authenticate: Bearer") && answer.contains("tidings:no-token"), "{answer}");
    let (status, answer) = raw(&agent, "GET /api/v1/services", "authorization: Bearer wrong-wrong-wrong\r\n", "");
    assert!(status == 401 && answer.contains("invalid_token") && answer.contains("tidings:unknown-token"), "{answer}");

    // A batch is looked at item by item, by the client that programs use.
    let batch = |service: &str| json!([{"op": "register", "service": "web-b", "id": "1", "port": 1}, {"op": "register", "service": service, "id": "1", "port": 1}]);
    let client = Client::new(&at, Some(secret_of(&tokens.ci))).expect("it is an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let send = |body: Value| runtime.block_on(client.call::<_, Value>("POST".parse().expect("a method"), "/api/v1/batch", Some(&body)));
    match send(batch("db")) {
        Err(Error::Refused(problem)) => assert_eq!((problem.status, problem.kind.as_str()), (403, "tidings:not-granted")),
        other => panic!("{other:?}"),
    }
    send(batch("web-c")).expect("all of it is granted");

    // Consul's clients show theirs in three ways and are told in Consul's words.
    let ci = secret_of(&tokens.ci);
    assert_eq!(raw(&agent, &format!("GET /v1/catalog/services?token={ci}"), "", "").0, 200);
    assert_eq!(raw(&agent, "GET /v1/catalog/services", &format!("x-consul-token: {ci}\r\n"), "").0, 200);
    assert_eq!(raw(&agent, "GET /v1/catalog/services", &format!("authorization: Bearer {ci}\r\n"), "").0, 200);
    let (status, answer) = raw(&agent, "GET /v1/catalog/services", "", "");
    assert!(status == 403 && answer.contains("Permission denied"), "{answer}");
    let (status, answer) = raw(&agent, "GET /v1/catalog/services?token=wrong-wrong-wrong", "", "");
    assert!(status == 403 && answer.contains("ACL not found"), "{answer}");
    let shown = format!("x-consul-token: {ci}\r\n");
    let (status, answer) = raw(&agent, "PUT /v1/agent/service/register", &shown, r#"{"Name":"db","Port":1}"#);
    assert!(status == 403 && answer.contains("Permission denied"), "{answer}");
    assert_eq!(raw(&agent, "PUT /v1/agent/service/register", &shown, r#"{"Name":"web-d","Port":1}"#).0, 200);

    let ops = format!("authorization: Bearer {}\r\n", secret_of(&tokens.ops));
    let (_, metrics) = raw(&agent, "GET /metrics", &ops, "");
    let counted = metrics.lines().find(|line| line.starts_with("tidings_access_denied_total{reason=\"unknown_token\"}"));
    assert_eq!(counted.and_then(|line| line.rsplit(' ').next()), Some("2"), "{metrics}");
    for secret in ["wrong-wrong-wrong", &ci] {
        assert!(!agent.log().contains(secret), "a token is in the log");
    }
}

#[test]
fn a_reload_takes_tokens_away_and_wrong_settings_change_nothing() {
    let site = Site::new();
    let tokens = Tokens::make(&site);
    let agent = site.agent("n1").with(&["--config", text(&tokens.settings)]).start();
    let at = agent.http.address.to_string();
    let verb = |token: &str, verb: &[&str]| tidings(&[verb, &["--http-addr", &at, "--token", token]].concat());
    assert_eq!(verb(&tokens.ci, &["members"]).0, DONE);
    let (code, said) = verb(&tokens.ops, &["reload"]);
    assert!(code == DONE && said.contains("changed: nothing"), "{said}");

    let mut watching = TcpStream::connect(agent.http.address).expect("the agent listens");
    watching.set_read_timeout(Some(PATIENCE)).expect("it is open");
    let request = format!("GET /api/v1/watch HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", secret_of(&tokens.ci));
    watching.write_all(request.as_bytes()).expect("the agent reads");
    watching.read_exact(&mut [0; 64]).expect("the stream begins");

    let both = std::fs::read_to_string(&tokens.settings).expect("it was written");
    let one = both.rsplit_once("[[access.tokens]]").expect("there are two").0;
    std::fs::write(&tokens.settings, format!("{one}\n[node]\nzone = 'z'\n")).expect("it can be written");
    let (code, said) = verb(&tokens.ops, &["reload"]);
    assert!(code == DONE && said.contains("changed: access") && said.contains("after a restart only: node"), "{said}");
    let (code, said) = verb(&tokens.ci, &["members"]);
    assert!(code == FAILED && said.contains("does not know the token"), "{said}");
    watching.read_to_end(&mut Vec::new()).expect("what was let in by that token ends at once");

    std::fs::write(&tokens.settings, both.replace("write:web-", "wride")).expect("it can be written");
    let (code, said) = verb(&tokens.ops, &["reload"]);
    assert!(code == FAILED && said.contains("\"wride\" is no grant"), "{said}");
    assert_eq!(verb(&tokens.ops, &["members"]).0, DONE, "the old ones count");

    std::fs::write(&tokens.settings, both).expect("it can be written");
    agent.signal(libc::SIGHUP);
    let look = || if verb(&tokens.ci, &["members"]).0 == DONE { Ok(()) } else { Err("denied".to_owned()) };
    wait_for(PATIENCE, "SIGHUP brings the token back", look);
}

/// An authority in a directory of its own, made as a user would.
fn authority(site: &Site, name: &str) -> PathBuf {
    let dir = site.path(name);
    std::fs::create_dir(&dir).expect("the scratch directory can be written");
    done(&["tls", "ca", "--out", text(&dir)]);
    dir
}

/// A certificate of that authority: `cert.pem` and `key.pem` in a new directory.
fn certificate(site: &Site, authority: &Path, name: &str, host: &str) -> PathBuf {
    let dir = site.path(name);
    std::fs::create_dir(&dir).expect("the scratch directory can be written");
    let (ca, key) = (authority.join("ca.pem"), authority.join("ca-key.pem"));
    done(&["tls", "cert", "--ca", text(&ca), "--ca-key", text(&key), "--host", host, "--out", text(&dir)]);
    let mode = dir.join("key.pem").metadata().expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads a private key");
    dir
}

/// Starts an agent that also speaks TLS with that certificate; with the URL of its listener.
fn speaking_tls(site: &Site, certificate: &Path, more: &str) -> (Agent, String) {
    let agent = site.agent("n1");
    let settings = site.path("tidings.toml");
    let (cert, key) = (certificate.join("cert.pem"), certificate.join("key.pem"));
    let lines = format!("[tls]\ncert = '{}'\nkey = '{}'\n{more}", text(&cert), text(&key));
    std::fs::write(&settings, lines).expect("the scratch directory can be written");
    let listen = format!("https://{}:0", agent.http.address.ip());
    let agent = agent.with(&["--config", text(&settings), "--http", &listen]).start();
    let find = || {
        let log = agent.log();
        let rest = log.split("https://").nth(1).ok_or("the log does not tell the listener")?;
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
        Ok(format!("https://{}", &rest[..end]))
    };
    let (url, _) = wait_for(PATIENCE, "the agent tells where it listens", find);
    (agent, url)
}

#[test]
fn tls_is_believed_by_its_authority_alone_and_certificates_are_exchanged_while_it_runs() {
    let site = Site::new();
    let (own, other) = (authority(&site, "own"), authority(&site, "other"));
    let probe = site.agent("probe");
    let host = probe.http.address.ip().to_string();
    let certified = certificate(&site, &own, "agent", &host);
    let (agent, url) = speaking_tls(&site, &certified, "");
    let status = |ca: &Path| tidings(&["status", "--http-addr", &url, "--ca", text(&ca.join("ca.pem"))]);
    let reload = || tidings(&["reload", "--http-addr", &agent.http.address.to_string()]);

    assert_eq!(status(&own).0, DONE);
    let (code, said) = status(&other);
    assert!(code == NOT_REACHED && said.contains("--ca"), "{code}: {said}");
    assert_eq!(tidings(&["status", "--http-addr", &url]).0, NOT_REACHED, "the system knows no such authority");
    let plain = url.replace("https", "http");
    assert_ne!(tidings(&["status", "--http-addr", &plain]).0, DONE, "it speaks nothing but TLS");

    // Files that do not belong together change nothing.
    let exchanged = certificate(&site, &other, "exchanged", &host);
    std::fs::copy(exchanged.join("cert.pem"), certified.join("cert.pem")).expect("it can be copied");
    let (code, said) = reload();
    assert!(code == FAILED && said.contains("is not the key of the certificate"), "{code}: {said}");
    assert_eq!(status(&own).0, DONE);
    std::fs::copy(exchanged.join("key.pem"), certified.join("key.pem")).expect("it can be copied");
    let (code, said) = reload();
    assert!(code == DONE && said.contains("changed: tls"), "{code}: {said}");
    assert_eq!(status(&other).0, DONE);
    assert_eq!(status(&own).0, NOT_REACHED);

    // One that has expired is shown, warned about, and believed by nobody.
    let issuer = {
        let key = std::fs::read_to_string(own.join("ca-key.pem")).expect("it was written");
        let pem = std::fs::read_to_string(own.join("ca.pem")).expect("it was written");
        Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&key).expect("a key")).expect("an authority")
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![host]).expect("an address");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let expired = params.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(certified.join("cert.pem"), expired.pem()).expect("it can be written");
    std::fs::write(certified.join("key.pem"), key.serialize_pem()).expect("it can be written");
    assert_eq!(reload().0, DONE);
    let (code, said) = status(&own);
    assert!(code == NOT_REACHED && said.contains("expired"), "{code}: {said}");
    assert!(agent.log().contains("certificate has expired"));
}

#[test]
fn mutual_tls_lets_in_whoever_shows_a_certificate_of_the_authority() {
    let site = Site::new();
    let (own, other) = (authority(&site, "own"), authority(&site, "other"));
    let host = site.agent("probe").http.address.ip().to_string();
    let certified = certificate(&site, &own, "agent", &host);
    let ca = own.join("ca.pem");
    let (_agent, url) = speaking_tls(&site, &certified, &format!("client_ca = '{}'\n", text(&ca)));
    let (known, foreign) = (certificate(&site, &own, "known", "client"), certificate(&site, &other, "foreign", "client"));
    let asked = ["status", "--http-addr", &url, "--ca", text(&ca)];
    let showing = |of: &Path| {
        let (cert, key) = (of.join("cert.pem"), of.join("key.pem"));
        tidings(&[&asked[..], &["--client-cert", text(&cert), "--client-key", text(&key)]].concat()).0
    };
    assert_eq!(tidings(&asked).0, NOT_REACHED);
    assert_eq!(showing(&foreign), NOT_REACHED);
    assert_eq!(showing(&known), DONE);
}

#[test]
fn an_agent_that_would_be_open_or_cannot_speak_tls_does_not_start() {
    let site = Site::new();
    let refusal = site.agent("open").with(&["--http", "0.0.0.0:0"]).refused();
    assert_eq!(refusal.status.code(), Some(2));
    assert!(refusal.said.contains("0.0.0.0:0") && refusal.said.contains("tidings token") && refusal.said.contains("--insecure"));
    let refusal = site.agent("bare").with(&["--http", "https://127.0.0.1:0"]).refused();
    assert_eq!(refusal.status.code(), Some(2));
    assert!(refusal.said.contains("tls.cert is not set") && refusal.said.contains("tidings tls"), "{}", refusal.said);
}
