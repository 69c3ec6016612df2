//! One check carried out once: HTTP, TCP, gRPC health, a script.

use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::model::instance::{CheckKind, Health, check_output};
use crate::model::limits::CHECK_OUTPUT_BYTES_MAX;
use crate::model::text::Text;

const REDIRECTS_MAX: usize = 5;
/// What systems call "slow down": alive, and better left alone.
const TOO_MANY_REQUESTS: u16 = 429;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub state: Health,
    pub output: String,
}

impl Finding {
    fn new(state: Health, output: impl AsRef<str>) -> Finding {
        Finding { state, output: check_output(output.as_ref()).to_owned() }
    }

    fn critical(output: impl AsRef<str>) -> Finding {
        Finding::new(Health::Critical, output)
    }
}

/// What checks are carried out with.
pub struct Probes {
    scripts: bool,
    http: OnceLock<Result<reqwest::Client, String>>,
    /// For checks that say `skip_tls_verify`.
    http_unverified: OnceLock<Result<reqwest::Client, String>>,
}

impl Probes {
    pub fn new(scripts: bool) -> Probes {
        Probes { scripts, http: OnceLock::new(), http_unverified: OnceLock::new() }
    }

    /// Carries out a check; one that takes longer than `limit` is critical.
    pub async fn run(&self, kind: &CheckKind<'static>, limit: Duration) -> Finding {
        let probe = async {
            match kind {
                CheckKind::Http { url, method, headers, body, skip_tls_verify } => {
                    self.http(url, method, headers, body, *skip_tls_verify).await
                }
                CheckKind::Tcp { address } => tcp(address).await,
                CheckKind::Grpc { address, service, tls } => grpc(address, service, *tls).await,
                CheckKind::Script { args } if self.scripts => script(args).await,
                CheckKind::Script { .. } => Finding::critical("this agent runs no scripts: set checks.scripts = true where that is meant"),
                CheckKind::Ttl { .. } | CheckKind::Alias { .. } => unreachable!("nobody carries these out"),
            }
        };
        match tokio::time::timeout(limit, probe).await {
            Ok(finding) => finding,
            Err(_) => Finding::critical(format!("no answer within {} ms", limit.as_millis())),
        }
    }

    async fn http(
        &self,
        url: &str,
        method: &str,
        headers: &[(Text<'static>, Text<'static>)],
        body: &Text<'static>,
        skip_tls_verify: bool,
    ) -> Finding {
        let client = match self.client(skip_tls_verify) {
            Ok(client) => client,
            Err(why) => return Finding::critical(why),
        };
        let Ok(method) = reqwest::Method::from_bytes(if method.is_empty() { b"GET" } else { method.as_bytes() }) else {
            return Finding::critical(format!("{method:?} is no HTTP method"));
        };
        let mut request = client.request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(name.as_str(), value.as_str());
        }
        if !body.is_empty() {
            request = request.body(body.to_string());
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(why) => return Finding::critical(format!("{method} {url}: {}", causes(&why))),
        };
        let status = answer.status();
        let mut said = Vec::new();
        // What was said is for people; a body that breaks off does not change the verdict.
        while let Ok(Some(chunk)) = answer.chunk().await {
            said.extend_from_slice(&chunk);
            if said.len() >= CHECK_OUTPUT_BYTES_MAX {
                break;
            }
        }
        let state = match status.as_u16() {
            200..=299 => Health::Passing,
            TOO_MANY_REQUESTS => Health::Warning,
            _ => Health::Critical,
        };
        Finding::new(state, format!("{method} {url}: {status}\n{}", String::from_utf8_lossy(&said)).trim_end())
    }

    fn client(&self, skip_tls_verify: bool) -> Result<&reqwest::Client, &str> {
        let client = if skip_tls_verify { &self.http_unverified } else { &self.http };
        let made = client.get_or_init(|| {
            install_cipher_suites();
            reqwest::Client::builder()
                .user_agent(concat!("tidings-check/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::limited(REDIRECTS_MAX))
                // A check asks whether new connections are taken, at the address itself.
                .pool_max_idle_per_host(0)
                .no_proxy()
                .tls_danger_accept_invalid_certs(skip_tls_verify)
                .build()
                .map_err(|why| format!("HTTP checks cannot be carried out: {}", causes(&why)))
        });
        made.as_ref().map_err(String::as_str)
    }
}

/// TLS of this process uses ring's cipher suites; who chose others before keeps them.
fn install_cipher_suites() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn tcp(address: &str) -> Finding {
    match TcpStream::connect(address).await {
        Ok(_) => Finding::new(Health::Passing, format!("connected to {address}")),
        Err(why) => Finding::critical(format!("{address}: {why}")),
    }
}

async fn grpc(address: &str, service: &str, tls: bool) -> Finding {
    let unusable = |why: &dyn std::error::Error| Finding::critical(format!("{address}: {}", causes(why)));
    let scheme = if tls { "https" } else { "http" };
    let endpoint = match Endpoint::from_shared(format!("{scheme}://{address}")) {
        Ok(endpoint) => endpoint,
        Err(why) => return unusable(&why),
    };
    let endpoint = if tls {
        install_cipher_suites();
        endpoint.tls_config(ClientTlsConfig::new().with_native_roots())
    } else {
        Ok(endpoint)
    };
    let channel = match endpoint {
        Ok(endpoint) => endpoint.connect().await,
        Err(why) => Err(why),
    };
    let answer = match channel {
        Ok(channel) => HealthClient::new(channel).check(HealthCheckRequest { service: service.to_owned() }).await,
        Err(why) => return unusable(&why),
    };
    match answer {
        Ok(answer) => match answer.get_ref().status() {
            ServingStatus::Serving => Finding::new(Health::Passing, format!("{address} serves {service}").trim_end()),
            status => Finding::critical(format!("{address} answers {}", status.as_str_name())),
        },
        Err(status) => Finding::critical(format!("{address}: {}: {}", status.code(), status.message())),
    }
}

/// Runs a program: 0 passes, 1 warns, all else is critical. When it is given up, its whole process group is killed.
async fn script(args: &[Text<'static>]) -> Finding {
    let Some((program, rest)) = args.split_first() else { return Finding::critical("the script has no name") };
    let mut command = Command::new(program.as_str());
    command.args(rest.iter().map(Text::as_str)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => return Finding::critical(format!("{program}: {why}")),
    };
    let mut group = Group(child.id());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) = tokio::join!(first_of(out), first_of(err), child.wait());
    group.0 = None;
    let mut said = String::from_utf8_lossy(&out).into_owned();
    said.push_str(&String::from_utf8_lossy(&err));
    match status {
        Ok(status) => {
            let state = match status.code() {
                Some(0) => Health::Passing,
                Some(1) => Health::Warning,
                _ => Health::Critical,
            };
            let said = if said.trim().is_empty() { status.to_string() } else { said };
            Finding::new(state, said.trim_end())
        }
        Err(why) => Finding::critical(format!("{program}: {why}")),
    }
}

/// Kills a process group when it is dropped, unless it ended by itself.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: kill takes two numbers; the leader is not reaped yet, so the group is still its own.
            unsafe { libc::kill(-id, libc::SIGKILL) };
        }
    }
}

/// The first bytes of an output; the rest is read and thrown away, or the program would wait for a reader.
async fn first_of(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut output) = output else { return Vec::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let room = CHECK_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    kept
}

/// An error with what is behind it: the outermost alone says "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
