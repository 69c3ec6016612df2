//! `tidings register NAME -- COMMAND`: a child that is registered while it lives.
//!
//! ```text
//! spawned ──(--wait: the port answers)──> registered ⟲ renewed ──SIGTERM, Ctrl-C──> deregistered ──> signal passed on ──> exited
//!                                              └──the child ends──> deregistered ──────────────────────────────────────────┘
//! ```

use super::{Exit, Failure};
use crate::client::{Client, Error};
use crate::schema::Registration;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Well below a third of the TTL: two renewals may be lost.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// Between looks at the port of a child that starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs `command` and keeps `service`/`id` registered as long as it lives. `probe`: the port to wait for first.
pub async fn run(
    client: &Client,
    service: &str,
    id: &str,
    registration: &Registration,
    command: &[String],
    probe: Option<(String, u16)>,
) -> Result<(), Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::new(Exit::Usage, "there is no command to run"))?;
    let mut signals = Signals::new()?;
    let spawned = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|why| Failure::failed(format!("{program} cannot be started: {why}")))?;
    if let Some((host, port)) = probe {
        let answers = async {
            while TcpStream::connect((host.as_str(), port)).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = answers => {}
            ended = child.wait() => return exit_as(ended),
            number = signals.next() => return pass_on(&mut child, number).await,
        }
    }
    // An agent that cannot be reached yet, or restarts, does not end the child: renewing goes on.
    if let Err(why) = client.register(service, id, registration).await {
        if !matches!(why, Error::NotReached { .. }) {
            return Err(why.into());
        }
        eprintln!("tidings: {why}; trying on");
    }
    let mut renewals = tokio::time::interval(RENEW_EVERY);
    loop {
        tokio::select! {
            ended = child.wait() => {
                deregister(client, service, id).await;
                return exit_as(ended);
            }
            number = signals.next() => {
                deregister(client, service, id).await;
                return pass_on(&mut child, number).await;
            }
            _ = renewals.tick() => renew(client, service, id, registration).await,
        }
    }
}

/// A registration that is repeated is a renewal; one that was lost, a registration.
async fn renew(client: &Client, service: &str, id: &str, registration: &Registration) {
    if let Err(why) = client.register(service, id, registration).await {
        eprintln!("tidings: {service}/{id} is not renewed: {why}");
    }
}

async fn deregister(client: &Client, service: &str, id: &str) {
    if let Err(why) = client.deregister(service, id).await {
        eprintln!("tidings: {service}/{id} is not deregistered, its ttl will run out: {why}");
    }
}

async fn pass_on(child: &mut Child, number: i32) -> Result<(), Failure> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // SAFETY: kill takes two numbers and touches no memory; the child is not reaped yet, so the pid is its own.
        unsafe { libc::kill(pid, number) };
    }
    exit_as(child.wait().await)
}

/// The child's exit code is ours; ended by a signal, 128 and its number, as shells have it.
fn exit_as(ended: std::io::Result<ExitStatus>) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt as _;
    let ended = ended.map_err(|why| Failure::failed(format!("the command's end cannot be seen: {why}")))?;
    let code = ended.code().or_else(|| ended.signal().map(|number| 128 + number)).unwrap_or(1);
    std::process::exit(code)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let hear = |kind| signal(kind).map_err(|why| Failure::failed(format!("signals cannot be heard: {why}")));
        Ok(Self { terminate: hear(SignalKind::terminate())?, interrupt: hear(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
        }
    }
}
