//! The demo's agents: child processes on free loopback ports, with a directory each that is gone afterwards.

use super::Failure;
use crate::client::Client;
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Cluster {
    dir: PathBuf,
    seed: u16,
    agents: Vec<Agent>,
}

struct Agent {
    gossip: u16,
    http: u16,
    client: Client,
    process: Child,
}

impl Cluster {
    pub fn start(count: usize) -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("tidings-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|why| Failure::failed(format!("{} cannot be made: {why}", dir.display())))?;
        let mut cluster = Self { dir, seed: free_gossip_port()?, agents: Vec::new() };
        let key = Command::new(program()?).arg("keygen").output().map_err(|why| Failure::failed(format!("no key could be made: {why}")))?;
        std::fs::write(cluster.dir.join("key"), key.stdout).map_err(|why| Failure::failed(format!("the key cannot be written: {why}")))?;
        for at in 0..count {
            let gossip = if at == 0 { cluster.seed } else { free_gossip_port()? };
            let http = free_http_port()?;
            let process = spawn(&cluster.dir, at, gossip, http, cluster.seed)?;
            let client = Client::new(&format!("127.0.0.1:{http}"), None)?;
            cluster.agents.push(Agent { gossip, http, client, process });
        }
        Ok(cluster)
    }

    pub fn client(&self, at: usize) -> &Client {
        &self.agents[at].client
    }

    pub fn name(&self, at: usize) -> String {
        name(at)
    }

    pub fn address(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.agents[at].http)
    }

    /// How many members an agent holds alive; 0 where it does not answer yet.
    pub async fn alive(&self, at: usize) -> usize {
        let members = self.client(at).get("/api/v1/members").await.unwrap_or_default();
        members["members"].as_array().map_or(0, |all| all.iter().filter(|member| member["state"] == "alive").count())
    }

    pub async fn is_ready(&self, at: usize) -> bool {
        self.client(at).get("/api/v1/status").await.is_ok_and(|status| status["ready"] == true)
    }

    /// Whether an agent lists just so many available instances of each service.
    pub async fn lists(&self, at: usize, wanted: &[(&str, usize)]) -> bool {
        for (service, count) in wanted {
            let list = self.client(at).lookup(service).await;
            if !list.is_ok_and(|list| list.instances.iter().filter(|instance| instance.verified).count() == *count) {
                return false;
            }
        }
        true
    }

    pub fn kill(&mut self, at: usize) -> Result<(), Failure> {
        let process = &mut self.agents[at].process;
        process
            .kill()
            .and_then(|()| process.wait())
            .map(|_| ())
            .map_err(|why| Failure::failed(format!("{} cannot be killed: {why}", name(at))))
    }

    pub fn restart(&mut self, at: usize) -> Result<(), Failure> {
        let agent = &mut self.agents[at];
        agent.process = spawn(&self.dir, at, agent.gossip, agent.http, self.seed)?;
        Ok(())
    }

    /// Ends what runs and removes what was written.
    pub fn stop(&mut self) {
        for agent in &mut self.agents {
            // One that has ended already needs neither.
            let _ = agent.process.kill();
            let _ = agent.process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn name(at: usize) -> String {
    format!("n{}", at + 1)
}

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|why| Failure::failed(format!("this program's own file cannot be found: {why}")))
}

fn spawn(dir: &Path, at: usize, gossip: u16, http: u16, seed: u16) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(dir.join(format!("{}.log", name(at))));
    let log = log.map_err(|why| Failure::failed(format!("no log can be written: {why}")))?;
    let mut command = Command::new(program()?);
    command.arg("agent").args(["--node", &name(at), "--no-dns"]);
    command.args(["--gossip", &format!("127.0.0.1:{gossip}"), "--http", &format!("127.0.0.1:{http}")]);
    command.args(["--join", &format!("127.0.0.1:{seed}"), "--encrypt", &format!("@{}", dir.join("key").display())]);
    command.arg("--data-dir").arg(dir.join(name(at)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|why| Failure::failed(format!("{} cannot be started: {why}", name(at))))
}

/// A port that is free for both UDP and TCP, by the kernel's word of this moment.
fn free_gossip_port() -> Result<u16, Failure> {
    let refuse = |why: std::io::Error| Failure::failed(format!("there is no free port on loopback: {why}"));
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").map_err(refuse)?;
        let port = udp.local_addr().map_err(refuse)?.port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::failed("there is no port that is free for UDP and TCP on loopback"))
}

fn free_http_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|addr| addr.port()).map_err(|why| Failure::failed(format!("there is no free port on loopback: {why}")))
}
