//! The rules of protocol §2 and §3 as scenarios: several catalogs that exchange batches and snapshots by hand, in virtual time.

use super::*;
use crate::engine::wire::packet::Want;
use crate::model::command::{Condition, LeaseId, OverrideTarget, Registration, Report, Target, WriteResult};
use crate::model::instance::{Health, Instance, Lease};
use crate::model::names::{InstanceId, Namespace, ServiceName};
use crate::model::node::{Liveness, Override};
use crate::model::record::Scope;
use crate::view::{Entry, View};

mod copies;
mod entries;
mod epochs;
mod exchange;
mod external;
mod lives;
mod numbers;
mod watched;
mod writes;

/// The wall clock when the tests' engines start, in Unix milliseconds.
const START_MS: u64 = 1_800_000_000_000;

/// Some agents' catalogs, the clock they share, and what their stores kept.
struct World {
    now: Now,
    agents: Vec<Agent>,
    tokens: u64,
}

struct Agent {
    catalog: Catalog,
    disk: Restored,
    replies: Vec<(Token, Result<Reply, Refusal>)>,
    forwards: Vec<(Token, NodeId, Command)>,
    fresh: Vec<(NodeId, Seq)>,
}

const HOUR_MS: u64 = 3_600_000;

fn node(n: usize) -> NodeId {
    NodeId((n as u128 + 1) << 96)
}

fn host(name: &str) -> Host {
    let info = NodeInfo {
        address: "10.0.0.1".into(),
        gossip: None,
        http_port: None,
        dns_port: None,
        datacenter: "dc1".into(),
        zone: None,
        is_gateway: false,
        version: "0".into(),
        metadata: Vec::new(),
        checks: Vec::new(),
    };
    Host { name: NodeName::new(name).unwrap(), info }
}

fn target(service: &str, id: &str) -> Target {
    Target { namespace: Namespace::default(), service: ServiceName::new(service).unwrap(), id: InstanceId::new(id).unwrap(), uid: None }
}

fn registration(service: &str, id: &str, port: u16) -> Registration {
    Registration {
        namespace: Namespace::default(),
        service: ServiceName::new(service).unwrap(),
        id: InstanceId::new(id).unwrap(),
        scope: Scope::Datacenter,
        instance: Instance { address: "10.1.2.3".into(), port: Some(port), enabled: true, weight: 1_000, ..Instance::default() },
        condition: Condition::Always,
        lease: None,
    }
}

impl World {
    /// So many agents who hold each other alive.
    fn new(agents: usize) -> Self {
        let now = Now { ns: 0, wall_ms: START_MS };
        let agents = (0..agents).map(|n| Agent::start(n, Restored::default(), now)).collect();
        let mut world = Self { now, agents, tokens: 0 };
        world.introduce();
        world
    }

    fn introduce(&mut self) {
        for at in 0..self.agents.len() {
            for other in (0..self.agents.len()).filter(|other| *other != at) {
                self.agents[at].catalog.on_member(self.now, node(other), Word::Alive);
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        let wall = self.now.wall_ms + ms;
        let start = self.now;
        while let Some(due) = self.agents.iter().filter_map(|agent| agent.catalog.deadline()).min().filter(|due| *due <= until) {
            self.now.ns = due.max(self.now.ns);
            self.now.wall_ms = start.wall_ms + (self.now.ns - start.ns) / 1_000_000;
            let now = self.now;
            for agent in &mut self.agents {
                if agent.catalog.deadline().is_some_and(|due| due <= now.ns) {
                    agent.catalog.handle_timeout(now);
                }
                agent.drain();
            }
        }
        self.now = Now { ns: until, wall_ms: wall };
    }

    /// A command and what came of it; what was forwarded is asked at once.
    fn ask(&mut self, at: usize, command: Command) -> Result<Reply, Refusal> {
        self.tokens += 1;
        let token = Token(self.tokens);
        let now = self.now;
        self.agents[at].catalog.command(now, token, command);
        self.agents[at].drain();
        if let Some((_, to, command)) = self.agents[at].forwards.pop() {
            let to = (0..self.agents.len()).find(|n| self.agents[*n].catalog.me() == to).unwrap();
            let from = self.agents[at].catalog.me();
            let (outcome, _) = self.agents[to].catalog.forwarded(now, from, command);
            self.agents[to].drain();
            return outcome;
        }
        self.agents[at].replies.pop().expect("each command is answered").1
    }

    fn write(&mut self, at: usize, command: Command) -> WriteResult {
        match self.ask(at, command).unwrap() {
            Reply::Written(written) => written.result,
            other => panic!("{other:?} is no answer to a write"),
        }
    }

    fn register(&mut self, at: usize, service: &str, id: &str, port: u16) -> WriteResult {
        self.write(at, Command::Register(Box::new(registration(service, id, port))))
    }

    fn deregister(&mut self, at: usize, service: &str, id: &str) -> WriteResult {
        self.write(at, Command::Deregister { target: target(service, id), condition: Condition::Always })
    }

    /// One agent tells another all it has, as an exchange does; says how many snapshots that took.
    fn tell(&mut self, from: usize, to: usize) -> usize {
        let now = self.now;
        let heads: Vec<_> = self.agents[from].catalog.heads().collect();
        let mut snapshots = 0;
        for head in heads {
            let advert = crate::engine::wire::packet::Advert { origin: head.origin, epoch: head.epoch, seq: head.seq, flags: head.flags };
            match self.agents[to].catalog.hear(now, &advert) {
                Heard::Behind(want) => snapshots += self.serve(from, to, want),
                // The origin hears it, if it is the teller.
                Heard::TellOrigin(advert) if advert.origin == self.agents[from].catalog.me() => {
                    self.agents[from].catalog.hear(now, &advert);
                }
                // Who tells of a reaped origin is told of its mark.
                Heard::Ahead if self.agents[to].catalog.head(head.origin).is_some_and(|held| held.flags.reaped.is_some()) => {
                    let want = self.agents[from].catalog.want(head.origin);
                    self.serve(to, from, want);
                }
                _ => {}
            }
        }
        for agent in [from, to] {
            self.agents[agent].drain();
        }
        snapshots
    }

    fn serve(&mut self, from: usize, to: usize, want: Want) -> usize {
        let now = self.now;
        let supply = self.agents[from].catalog.batch_after(want.origin, want.epoch, want.from, want.sum, usize::MAX);
        let applied = match supply {
            Supply::Nothing | Supply::Unknown => return 0,
            Supply::Batch(batch) => self.agents[to].catalog.apply(now, batch),
            Supply::Snapshot => {
                let applied = self.snapshot(from, to, want.origin);
                self.after(from, to, &applied);
                return 1;
            }
        };
        self.after(from, to, &applied);
        0
    }

    /// An origin that must hear something hears it, if it is the one who told.
    fn after(&mut self, from: usize, to: usize, applied: &Applied) {
        let Some(advert) = applied.tell_origin.filter(|advert| advert.origin == self.agents[from].catalog.me()) else { return };
        if let Heard::Behind(want) = self.agents[from].catalog.hear(self.now, &advert) {
            self.serve(to, from, want);
        }
    }

    fn snapshot(&mut self, from: usize, to: usize, origin: NodeId) -> Applied {
        let now = self.now;
        let Some(mut reader) = self.agents[from].catalog.snapshot(origin) else { return Applied::default() };
        let Some(mut staged) = self.agents[to].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()) else {
            return Applied::default();
        };
        loop {
            match reader.next(&self.agents[from].catalog, 200) {
                Chunk::Records(records) => assert!(staged.push(records)),
                Chunk::End => return self.agents[to].catalog.finish(now, staged),
                Chunk::Broken => return Applied::default(),
            }
        }
    }

    /// All tell all, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..12 {
            let before: Vec<u64> = self.agents.iter().map(|agent| agent.catalog.root()).collect();
            for from in 0..self.agents.len() {
                for to in (0..self.agents.len()).filter(|to| *to != from) {
                    self.tell(from, to);
                }
            }
            if before == self.agents.iter().map(|agent| agent.catalog.root()).collect::<Vec<_>>()
                && before.iter().all(|root| *root == before[0])
            {
                return;
            }
        }
        panic!("the agents do not agree: {:?}", self.agents.iter().map(|a| a.catalog.heads().collect::<Vec<_>>()).collect::<Vec<_>>());
    }

    fn restart(&mut self, at: usize, disk: Restored) {
        self.wait(1);
        self.agents[at] = Agent::start(at, disk, Now { ns: self.now.ns, wall_ms: self.now.wall_ms });
        for other in (0..self.agents.len()).filter(|other| *other != at) {
            self.agents[at].catalog.on_member(self.now, node(other), Word::Alive);
        }
    }

    /// What a reader at an agent sees of a service: ids and ports.
    fn see(&mut self, at: usize, service: &str) -> Vec<(String, u16)> {
        self.entries(at, service)
            .iter()
            .map(|entry| {
                let (key, instance) = entry.instance().unwrap();
                (key.id.to_string(), instance.port.unwrap_or(0))
            })
            .collect()
    }

    fn entries(&mut self, at: usize, service: &str) -> Vec<Entry> {
        let view = self.view(at);
        view.service("default", service).map_or_else(Vec::new, |service| service.entries.to_vec())
    }

    /// What a reader at an agent sees.
    fn view(&mut self, at: usize) -> View {
        let now = self.now;
        let catalog = &mut self.agents[at].catalog;
        while catalog.deadline().is_some_and(|due| due <= now.ns) {
            catalog.handle_timeout(now);
        }
        catalog.editor().block_reserved(1 << 60);
        catalog.publish(now);
        self.agents[at].drain();
        self.agents[at].catalog.view().clone()
    }
}

impl Agent {
    fn start(n: usize, disk: Restored, now: Now) -> Self {
        let catalog = Catalog::new(CatalogConfig::default(), host(&format!("n{n}")), node(n), 0, &disk, now);
        let mut agent = Self { catalog, disk, replies: Vec::new(), forwards: Vec::new(), fresh: Vec::new() };
        agent.drain();
        agent
    }

    fn drain(&mut self) {
        while let Some(effect) = self.catalog.poll() {
            match effect {
                Effect::Store(op) => self.disk.apply(op),
                Effect::Reply { token, outcome, .. } => self.replies.push((token, outcome)),
                Effect::Forward { token, to, command } => self.forwards.push((token, to, command)),
                Effect::Fresh { origin, seq, .. } => self.fresh.push((origin, seq)),
                Effect::HeadMoved(_) => {}
            }
        }
    }
}
