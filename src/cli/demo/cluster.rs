//! The demo's agents: child processes on free loopback ports, with a directory each that is gone afterwards.

use super::Failure;
use crate::client::Client;
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Cluster {
    dir: PathBuf,
    agents: Vec<Agent>,
}

struct Agent {
    plan: Plan,
    client: Client,
    process: Child,
}

/// How one agent is started, and started again.
struct Plan {
    name: String,
    gossip: u16,
    http: u16,
    /// Whom it joins in its datacenter.
    seed: u16,
    /// What else it is told.
    further: Vec<String>,
    /// Its settings that no flag stands for.
    environment: Vec<(&'static str, &'static str)>,
    /// Its ports, so that nobody else gets them before it starts.
    reserved: Reserved,
}

impl Plan {
    /// The first of those that join each other has no seed but itself.
    fn new(name: String, seed: Option<u16>) -> Result<Self, Failure> {
        let mut reserved = Reserved::default();
        let (gossip, http) = (reserved.gossip_port()?, reserved.http_port()?);
        Ok(Self { name, gossip, http, seed: seed.unwrap_or(gossip), further: Vec::new(), environment: Vec::new(), reserved })
    }
}

impl Cluster {
    /// One datacenter.
    pub fn start(count: usize) -> Result<Self, Failure> {
        let mut plans: Vec<Plan> = Vec::new();
        for at in 0..count {
            let seed = plans.first().map(|first| first.gossip);
            plans.push(Plan::new(format!("n{}", at + 1), seed)?);
        }
        Self::of(plans)
    }

    /// Several, of `size` agents each; the first of each is its gateway.
    pub fn of_datacenters(names: &[&str], size: usize) -> Result<Self, Failure> {
        let mut plans: Vec<Plan> = Vec::new();
        let mut joined: Option<u16> = None;
        for name in names {
            let mut seed = None;
            for at in 0..size {
                let mut plan = Plan::new(format!("{name}-{}", at + 1), seed)?;
                plan.further = vec!["--datacenter".into(), (*name).into()];
                if at == 0 {
                    let wan = plan.reserved.gossip_port()?;
                    plan.further.extend(["--gateway".into(), "--wan".into(), format!("127.0.0.1:{wan}")]);
                    // What is shown is how soon things cross: all of them do, whether somebody looks or not.
                    plan.environment.push(("TIDINGS_AGENT__WAN__EXPORT", "*=full"));
                    joined.iter().for_each(|other| plan.further.extend(["--join-wan".into(), format!("127.0.0.1:{other}")]));
                    joined = joined.or(Some(wan));
                }
                seed = seed.or(Some(plan.gossip));
                plans.push(plan);
            }
        }
        Self::of(plans)
    }

    fn of(plans: Vec<Plan>) -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("tidings-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|why| Failure::failed(format!("{} cannot be made: {why}", dir.display())))?;
        let mut cluster = Self { dir, agents: Vec::new() };
        let key = Command::new(program()?).arg("keygen").output().map_err(|why| Failure::failed(format!("no key could be made: {why}")))?;
        std::fs::write(cluster.dir.join("key"), key.stdout).map_err(|why| Failure::failed(format!("the key cannot be written: {why}")))?;
        for mut plan in plans {
            plan.reserved = Reserved::default();
            let process = spawn(&cluster.dir, &plan)?;
            let client = Client::new(&format!("127.0.0.1:{}", plan.http), None)?;
            cluster.agents.push(Agent { plan, client, process });
        }
        Ok(cluster)
    }

    pub fn client(&self, at: usize) -> &Client {
        &self.agents[at].client
    }

    pub fn name(&self, at: usize) -> String {
        self.agents[at].plan.name.clone()
    }

    pub fn address(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.agents[at].plan.http)
    }

    /// How many members an agent holds alive; 0 where it does not answer yet.
    pub async fn alive(&self, at: usize) -> usize {
        let members = self.client(at).get("/api/v1/members").await.unwrap_or_default();
        members["members"].as_array().map_or(0, |all| all.iter().filter(|member| member["state"] == "alive").count())
    }

    /// The ids of a service's available instances in a datacenter, as an agent knows it, in order; none while it knows no such datacenter.
    pub async fn ids_in(&self, at: usize, service: &str, datacenter: &str) -> Option<Vec<String>> {
        let list = self.client(at).get(&format!("/api/v1/services/{service}?dc={datacenter}")).await.ok()?;
        let mut ids: Vec<String> = list["instances"].as_array()?.iter().filter_map(|one| Some(one["id"].as_str()?.to_owned())).collect();
        ids.sort();
        Some(ids)
    }

    /// How an agent's datacenter hears another: its state, and how old what is known may be.
    pub async fn hears(&self, at: usize, datacenter: &str) -> Option<(String, String)> {
        let all = self.client(at).get("/api/v1/datacenters").await.ok()?;
        let known = all["datacenters"].as_array()?.iter().find(|known| known["datacenter"] == datacenter)?;
        Some((known["state"].as_str()?.to_owned(), known["age"].as_str()?.to_owned()))
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
        let Agent { process, plan, .. } = &mut self.agents[at];
        process
            .kill()
            .and_then(|()| process.wait())
            .map(|_| ())
            .map_err(|why| Failure::failed(format!("{} cannot be killed: {why}", plan.name)))
    }

    pub fn restart(&mut self, at: usize) -> Result<(), Failure> {
        let agent = &mut self.agents[at];
        agent.process = spawn(&self.dir, &agent.plan)?;
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

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|why| Failure::failed(format!("this program's own file cannot be found: {why}")))
}

fn spawn(dir: &Path, plan: &Plan) -> Result<Child, Failure> {
    let Plan { name, gossip, http, seed, further, environment, reserved: _ } = plan;
    let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log")));
    let log = log.map_err(|why| Failure::failed(format!("no log can be written: {why}")))?;
    let mut command = Command::new(program()?);
    command.arg("agent").args(["--node", name, "--no-dns"]);
    command.args(["--gossip", &format!("127.0.0.1:{gossip}"), "--http", &format!("127.0.0.1:{http}")]);
    command.args(["--join", &format!("127.0.0.1:{seed}"), "--encrypt", &format!("@{}", dir.join("key").display())]);
    command.arg("--data-dir").arg(dir.join(name)).args(further).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|why| Failure::failed(format!("{name} cannot be started: {why}")))
}

/// Ports on loopback that are bound for as long as this is kept: agents that run already, and other demos, take free ones all the time.
#[derive(Default)]
struct Reserved {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Reserved {
    /// One for both UDP and TCP.
    fn gossip_port(&mut self) -> Result<u16, Failure> {
        let refuse = |why: std::io::Error| Failure::failed(format!("there is no free port on loopback: {why}"));
        for _ in 0..100 {
            let udp = UdpSocket::bind("127.0.0.1:0").map_err(refuse)?;
            let port = udp.local_addr().map_err(refuse)?.port();
            if let Ok(tcp) = TcpListener::bind(("127.0.0.1", port)) {
                self.udp.push(udp);
                self.tcp.push(tcp);
                return Ok(port);
            }
        }
        Err(Failure::failed("there is no port that is free for UDP and TCP on loopback"))
    }

    fn http_port(&mut self) -> Result<u16, Failure> {
        let bound = TcpListener::bind("127.0.0.1:0").and_then(|tcp| Ok((tcp.local_addr()?.port(), tcp)));
        let (port, tcp) = bound.map_err(|why| Failure::failed(format!("there is no free port on loopback: {why}")))?;
        self.tcp.push(tcp);
        Ok(port)
    }
}
