//! Real agents on a bad network: who is healthy stays, who was cut off comes back, and what was written on either side of a cut
//! is there after it. Needs root on Linux, else it skips.
#![cfg(all(feature = "agent", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::time::{Duration, Instant};

use lab::agent::{Agent, Site};
use lab::network::{Host, Lab};
use lab::wait_until;
use serde_json::json;

const SOON: Duration = Duration::from_secs(15);
/// Invariant 9 of the design.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// Agents on hosts of their own, each with an instance of `web` named after itself, all known to all.
struct Cluster {
    lab: Lab,
    hosts: Vec<Host>,
    agents: Vec<Agent>,
    _site: Site,
}

impl Cluster {
    fn start(seed: u64, size: usize) -> Option<Cluster> {
        let mut lab = Lab::new(seed)?;
        let site = Site::new();
        let hosts: Vec<Host> = (0..size).map(|n| lab.host(&format!("n{n}"))).collect();
        let mut agents = site.agents_on(&hosts);
        agents.iter_mut().for_each(Agent::spawn);
        for agent in &mut agents {
            agent.wait_ready();
            agent.register("web", &agent.node, json!({"port": 80}));
        }
        let cluster = Cluster { lab, hosts, agents, _site: site };
        cluster.wait_whole(SOON);
        Some(cluster)
    }

    fn names(&self) -> Vec<&str> {
        self.agents.iter().map(|agent| agent.node.as_str()).collect()
    }

    fn wait_whole(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        for agent in &self.agents {
            agent.wait_ids("web", &self.names(), limit);
            agent.wait_alive(self.agents.len(), limit);
        }
        start.elapsed()
    }

    /// Everybody shows everybody for all this time.
    fn assert_whole_for(&self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            for agent in &self.agents {
                let ids = agent.ids("web").unwrap_or_else(|why| panic!("{}: {why}", agent.node));
                assert_eq!(ids, self.names(), "{} misses a healthy agent after {:?}", agent.node, start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn two_agents_that_were_cut_off_from_each_other_meet_again() {
    let Some(cluster) = Cluster::start(1, 2) else { return };
    let [a, b] = &cluster.agents[..] else { unreachable!("two were started") };
    cluster.lab.cut(&cluster.hosts[0], &cluster.hosts[1]);
    let cut = Instant::now();
    // Both go on alone: each answers and accepts, whatever it thinks of the other.
    a.register("job", "at-a", json!({"port": 1}));
    b.register("job", "at-b", json!({"port": 2}));
    assert_eq!(a.ids("job").expect("it answers"), ["at-a"]);
    assert_eq!(b.ids("job").expect("it answers"), ["at-b"]);
    // Long enough for every timer that dies with the last member.
    wait_until(SOON * 4, "thirty seconds pass", || cut.elapsed() > Duration::from_secs(30));
    cluster.lab.heal();
    let healed = cluster.wait_whole(WHOLE_WITHIN);
    println!("two agents, cut for 30 s: whole {healed:?} after healing");
    for agent in [a, b] {
        agent.wait_ids("job", &["at-a", "at-b"], SOON);
    }
}

#[test]
fn what_is_written_on_both_sides_of_a_split_is_there_after_it() {
    let Some(cluster) = Cluster::start(2, 5) else { return };
    let (agents, hosts) = (&cluster.agents, &cluster.hosts);
    agents[0].register("job", "moved", json!({"port": 1}));
    agents[0].register("job", "deleted", json!({"port": 1}));
    for agent in agents {
        agent.wait_ids("job", &["deleted", "moved"], SOON);
    }
    cluster.lab.split(&[&hosts[0], &hosts[1]], &[&hosts[2], &hosts[3], &hosts[4]]);
    agents[1].register("job", "left", json!({"port": 1}));
    agents[4].register("job", "right", json!({"port": 1}));
    // Their origin is on the other side.
    agents[3].register("job", "moved", json!({"port": 2}));
    assert_eq!(agents[3].deregister("job", "deleted")["result"], "removed");
    agents[2].wait_ids("job", &["moved", "right"], SOON);
    cluster.lab.heal();
    println!("two and three, split: whole {:?} after healing", cluster.wait_whole(WHOLE_WITHIN));
    for agent in agents {
        agent.wait_ids("job", &["left", "moved", "right"], SOON);
        let moved = agent.instances("job").expect("it answers").into_iter().find(|one| one["id"] == "moved").expect("it is listed");
        assert_eq!(moved["port"], 2, "at {}: the later write wins", agent.node);
    }
}

#[test]
fn a_path_that_is_dead_one_way_kills_nobody() {
    let Some(cluster) = Cluster::start(3, 5) else { return };
    cluster.lab.cut_one_way(&cluster.hosts[1], &cluster.hosts[2]);
    cluster.lab.cut(&cluster.hosts[3], &cluster.hosts[4]);
    cluster.assert_whole_for(Duration::from_secs(20));
}

#[test]
fn loss_and_delay_kill_nobody_and_stop_nothing() {
    let Some(cluster) = Cluster::start(4, 5) else { return };
    cluster.lab.everywhere().loss(0.05).delay(Duration::from_millis(5)).jitter(Duration::from_millis(10));
    for n in 0..20 {
        let agent = &cluster.agents[n % 5];
        agent.register("job", &format!("job-{n:02}"), json!({"port": 1}));
    }
    cluster.assert_whole_for(Duration::from_secs(20));
    let jobs: Vec<String> = (0..20).map(|n| format!("job-{n:02}")).collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    for agent in &cluster.agents {
        agent.wait_ids("job", &jobs, SOON);
    }
}

#[test]
fn an_unplugged_host_is_noticed_and_comes_back_by_itself() {
    let Some(cluster) = Cluster::start(5, 5) else { return };
    let start = Instant::now();
    cluster.hosts[2].link_down();
    for agent in cluster.agents.iter().filter(|agent| agent.node != "n2") {
        agent.wait_ids("web", &["n0", "n1", "n3", "n4"], SOON);
    }
    println!("link down to gone from all others: {:?}", start.elapsed());
    // It lost all four at once, so it takes itself for the one that is cut off and still answers.
    assert!(cluster.agents[2].ids("web").expect("it answers").contains(&String::from("n2")));
    cluster.hosts[2].link_up();
    println!("link up to whole: {:?}", cluster.wait_whole(WHOLE_WITHIN));
}

#[test]
fn agents_that_all_start_at_once_on_a_lossy_network_find_each_other() {
    let Some(mut lab) = Lab::new(6) else { return };
    let site = Site::new();
    let hosts: Vec<Host> = (0..6).map(|n| lab.host(&format!("n{n}"))).collect();
    lab.everywhere().loss(0.2).delay(Duration::from_millis(2));
    let mut agents = site.agents_on(&hosts);
    let start = Instant::now();
    agents.iter_mut().for_each(Agent::spawn);
    for agent in &mut agents {
        agent.wait_ready();
    }
    for agent in &agents {
        agent.wait_alive(6, Duration::from_secs(30));
    }
    println!("six agents through 20 % loss: ready and whole after {:?}", start.elapsed());
}
