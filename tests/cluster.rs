//! Real agents on loopback, small enough for any machine: they find each other, agree on what is registered, notice deaths and
//! come back from them, and refuse what they have to refuse. No root needed.
#![cfg(all(feature = "agent", unix))]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::agent::{Agent, Refusal, Site, text};
use lab::{wait_for, wait_until};
use serde_json::json;

/// For a change to be seen at another agent. Figures are measured elsewhere: these tests run on busy machines.
const SPREAD_WITHIN: Duration = Duration::from_secs(5);
/// For a death to be noticed by all, or a return.
const DETECT_WITHIN: Duration = Duration::from_secs(15);
/// How long something that must not appear is watched for.
const NO_GHOST_FOR: Duration = Duration::from_secs(10);

/// Starts agents at the same time and waits until they know each other.
fn together(agents: &mut [Agent]) {
    agents.iter_mut().for_each(Agent::spawn);
    agents.iter_mut().for_each(|agent| {
        agent.wait_ready();
    });
    for agent in agents.iter() {
        agent.wait_alive(agents.len(), DETECT_WITHIN);
    }
}

fn two(site: &Site) -> [Agent; 2] {
    let a = site.agent("a");
    let b = site.agent("b").join(&[&a]);
    let mut agents = [a, b];
    together(&mut agents);
    agents
}

/// Three agents; each joins the one before it.
fn three(site: &Site) -> [Agent; 3] {
    let a = site.agent("a");
    let b = site.agent("b").join(&[&a]);
    let c = site.agent("c").join(&[&b]);
    let mut agents = [a, b, c];
    together(&mut agents);
    agents
}

#[test]
fn agents_find_each_other_and_what_is_registered_at_one_is_found_at_all() {
    let site = Site::new();
    let agents = three(&site);
    let [a, b, c] = &agents;
    let answer = a.register("web", "web-1", json!({"address": "10.1.2.3", "port": 8080, "tags": ["blue"], "metadata": {"version": "1.2"}}));
    assert_eq!(answer["result"], "created");
    for agent in [a, b, c] {
        agent.wait_ids("web", &["web-1"], SPREAD_WITHIN);
        let instance = &agent.instances("web").expect("it was there a moment ago")[0];
        assert_eq!(instance["uid"], answer["uid"], "one instance has one uid everywhere");
        assert_eq!(instance["address"], "10.1.2.3");
        assert_eq!(instance["port"], 8080);
        assert_eq!(instance["tags"], json!(["blue"]));
        assert_eq!(instance["metadata"], json!({"version": "1.2"}));
        assert_eq!(instance["node"], "a");
        assert_eq!(instance["health"], "passing");
    }
    assert_eq!(c.deregister("web", "web-1")["result"], "removed", "any agent takes any write");
    for agent in [a, b, c] {
        agent.wait_ids("web", &[], SPREAD_WITHIN);
    }
    assert_eq!(b.deregister("web", "web-1")["result"], "absent");
}

#[test]
fn a_write_is_read_at_once_where_it_was_written() {
    let site = Site::new();
    let [a, b] = two(&site);
    for round in 0..30 {
        // By turns at the origin and at the other, which has to ask the origin first.
        let agent = if round % 2 == 0 { &a } else { &b };
        agent.register("web", "web-1", json!({"port": 1 + round, "address": "10.0.0.1"}));
        let instances = agent.instances("web").expect("a ready agent answers");
        assert_eq!(instances.len(), 1, "round {round}: {instances:?}");
        assert_eq!(instances[0]["port"], 1 + round, "round {round}: a stale read after a write at {}", agent.node);
        if round % 5 == 4 {
            agent.deregister("web", "web-1");
            assert_eq!(agent.ids("web").expect("a ready agent answers"), [""; 0], "round {round}: a stale read after a delete");
        }
    }
}

#[test]
fn an_instance_that_is_no_longer_renewed_leaves_the_list_and_then_goes() {
    let site = Site::new();
    let [a, b] = two(&site);
    a.register("job", "kept", json!({"port": 1, "address": "10.0.0.1", "ttl": "2s"}));
    a.register("job", "critical", json!({"port": 2, "address": "10.0.0.1", "ttl": "2s"}));
    a.register("job", "removed", json!({"port": 3, "address": "10.0.0.1", "ttl": "2s", "remove_after": "0s"}));
    b.wait_ids("job", &["critical", "kept", "removed"], SPREAD_WITHIN);

    // Renewed at the other agent, which passes it on: an instance's heartbeats may go through any balancer.
    let renew = |agent: &Agent| agent.put("/api/v1/services/job/instances/kept/heartbeat", &json!({}));
    let start = Instant::now();
    let mut agents = [&b, &a].into_iter().cycle();
    while start.elapsed() < Duration::from_secs(4) {
        renew(agents.next().expect("two agents by turns")).expect("a renewal of what is there is accepted");
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut renewed = Instant::now();
    let look = || {
        if renewed.elapsed() > Duration::from_millis(500) {
            renew(&a)?;
            renewed = Instant::now();
        }
        let shown = b.ids("job")?;
        if shown == ["kept"] { Ok(()) } else { Err(format!("it shows {shown:?}")) }
    };
    wait_for(SPREAD_WITHIN, "only the renewed instance is left in the list", look);

    let all = b.get("/api/v1/services/job?health=any");
    let all = all["instances"].as_array().expect("a list");
    let critical = all.iter().find(|one| one["id"] == "critical").expect("critical, but still there");
    assert_eq!(critical["health"], "critical");
    assert_eq!(critical["why"][0]["by"], "lease", "it says why: {critical}");
    assert!(!all.iter().any(|one| one["id"] == "removed"), "remove_after 0s removes at once: {all:?}");
}

#[test]
fn a_heartbeat_for_what_is_unknown_is_404() {
    let site = Site::new();
    let a = site.agent("a").start();
    let answer = a.send("PUT", "/api/v1/services/web/instances/nobody/heartbeat", None).expect("a ready agent answers");
    assert_eq!(answer.status, 404, "{answer}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[test]
fn a_killed_agent_is_noticed_and_its_registrations_return_with_it() {
    let site = Site::new();
    let [a, b, mut c] = three(&site);
    c.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    c.register("web", "web-2", json!({"port": 80, "address": "10.0.0.2"}));
    a.wait_ids("web", &["web-1", "web-2"], SPREAD_WITHIN);
    b.wait_ids("web", &["web-1", "web-2"], SPREAD_WITHIN);
    c.kill();
    let noticed = a.wait_ids("web", &[], DETECT_WITHIN).max(b.wait_ids("web", &[], DETECT_WITHIN));
    println!("kill -9 to gone from both others: {noticed:?}");
    c.restart();
    for agent in [&a, &b, &c] {
        agent.wait_ids("web", &["web-1", "web-2"], DETECT_WITHIN);
        agent.wait_alive(3, DETECT_WITHIN);
    }
}

#[test]
fn an_instance_is_updated_elsewhere_while_its_agent_is_dead_and_stays_so() {
    let site = Site::new();
    let [a, b, mut c] = three(&site);
    let address = |port: u16| json!({"port": port, "address": "10.0.0.1"});
    c.register("web", "moved", address(1));
    c.register("web", "deleted", address(1));
    a.wait_ids("web", &["deleted", "moved"], SPREAD_WITHIN);
    c.kill();
    // Before the death is noticed: the origin is asked first and does not answer.
    a.register("web", "moved", address(2));
    assert_eq!(a.deregister("web", "deleted")["result"], "removed");
    b.wait_ids("web", &["moved"], DETECT_WITHIN);
    c.restart();
    c.wait_alive(3, DETECT_WITHIN);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        for agent in [&a, &b] {
            assert_eq!(agent.ids("web").expect("a ready agent answers"), ["moved"], "at {}", agent.node);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for agent in [&a, &b, &c] {
        agent.wait_ids("web", &["moved"], SPREAD_WITHIN);
        assert_eq!(agent.instances("web").expect("it answers")[0]["port"], 2, "at {}: the later write wins", agent.node);
    }
}

#[test]
fn a_wiped_data_directory_leaves_no_ghost() {
    let site = Site::new();
    let [a, b, mut c] = three(&site);
    c.register("web", "ghost", json!({"port": 80, "address": "10.0.0.1"}));
    a.wait_ids("web", &["ghost"], SPREAD_WITHIN);
    b.wait_ids("web", &["ghost"], SPREAD_WITHIN);
    c.kill();
    c.wipe();
    c.restart();
    let look = || {
        for agent in [&a, &b, &c] {
            let list = agent.get("/api/v1/services/web?health=any");
            if list["instances"].as_array().is_none_or(|instances| !instances.is_empty()) {
                return Err(format!("{} shows {list}", agent.node));
            }
        }
        Ok(())
    };
    wait_for(NO_GHOST_FOR, "no agent shows the ghost", look);
    c.register("web", "alive", json!({"port": 81, "address": "10.0.0.1"}));
    for agent in [&a, &b, &c] {
        agent.wait_ids("web", &["alive"], DETECT_WITHIN);
        agent.wait_alive(3, DETECT_WITHIN);
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        for agent in [&a, &b, &c] {
            let ids = agent.ids("web").expect("a ready agent answers");
            assert!(!ids.contains(&String::from("ghost")), "the ghost is back at {}", agent.node);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_older_copy_of_the_data_directory_loses_nothing_and_resurrects_nothing() {
    let site = Site::new();
    let [a, b, mut c] = three(&site);
    let address = |port: u16| json!({"port": port, "address": "10.0.0.1"});
    for id in ["deleted-since", "changed-since", "kept"] {
        c.register("web", id, address(1));
    }
    c.kill();
    let copy = site.path("copy");
    copy_dir(&c.data_dir, &copy);
    c.restart();
    c.wait_alive(3, DETECT_WITHIN);
    c.deregister("web", "deleted-since");
    c.register("web", "changed-since", address(2));
    c.register("web", "new-since", address(1));
    let expected = ["changed-since", "kept", "new-since"];
    a.wait_ids("web", &expected, DETECT_WITHIN);
    b.wait_ids("web", &expected, DETECT_WITHIN);

    c.kill();
    c.wipe();
    copy_dir(&copy, &c.data_dir);
    c.restart();
    for agent in [&a, &b, &c] {
        agent.wait_alive(3, DETECT_WITHIN);
        agent.wait_ids("web", &expected, DETECT_WITHIN);
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        for agent in [&a, &b, &c] {
            let instances = agent.instances("web").expect("a ready agent answers");
            let changed = instances.iter().find(|one| one["id"] == "changed-since").expect("it is kept");
            assert_eq!(changed["port"], 2, "at {}: an acknowledged update was undone", agent.node);
            assert_eq!(agent.ids("web").expect("a ready agent answers"), expected, "at {}", agent.node);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the scratch directory can be written");
    for entry in std::fs::read_dir(from).expect("the data directory can be read").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it is there").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("the scratch directory can be written");
        }
    }
}

#[test]
fn an_agent_told_to_stop_leaves_at_once_and_returns_with_what_it_had() {
    let site = Site::new();
    let [a, b, mut c] = three(&site);
    c.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    a.wait_ids("web", &["web-1"], SPREAD_WITHIN);
    b.wait_ids("web", &["web-1"], SPREAD_WITHIN);
    let start = Instant::now();
    c.signal(libc::SIGTERM);
    a.wait_ids("web", &[], Duration::from_secs(2));
    b.wait_ids("web", &[], Duration::from_secs(2));
    println!("SIGTERM to gone from both others: {:?}", start.elapsed());
    let status = c.wait_end();
    assert!(status.success(), "a clean leave is a success: {status}");
    c.restart();
    a.wait_ids("web", &["web-1"], DETECT_WITHIN);
    b.wait_ids("web", &["web-1"], DETECT_WITHIN);
}

#[test]
fn a_paused_agent_is_noticed_and_comes_back_by_itself() {
    let site = Site::new();
    let [a, b, c] = three(&site);
    c.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    a.wait_ids("web", &["web-1"], SPREAD_WITHIN);
    b.wait_ids("web", &["web-1"], SPREAD_WITHIN);
    c.pause();
    a.wait_ids("web", &[], DETECT_WITHIN);
    b.wait_ids("web", &[], DETECT_WITHIN);
    c.resume();
    for agent in [&a, &b, &c] {
        agent.wait_ids("web", &["web-1"], DETECT_WITHIN);
        agent.wait_alive(3, DETECT_WITHIN);
    }
}

#[test]
fn agents_that_were_all_killed_find_each_other_without_join() {
    let site = Site::new();
    let [mut a, mut b] = two(&site);
    a.register("web", "web-a", json!({"port": 80, "address": "10.0.0.1"}));
    b.register("web", "web-b", json!({"port": 80, "address": "10.0.0.2"}));
    a.wait_ids("web", &["web-a", "web-b"], SPREAD_WITHIN);
    a.kill();
    b.kill();
    b.forget_join();
    a.spawn();
    b.spawn();
    a.wait_ready();
    b.wait_ready();
    for agent in [&a, &b] {
        agent.wait_ids("web", &["web-a", "web-b"], DETECT_WITHIN);
        agent.wait_alive(2, DETECT_WITHIN);
    }
}

#[test]
fn an_agent_that_restarts_alone_answers_from_its_copy_and_says_so() {
    let site = Site::new();
    let config = site.path("copying.toml");
    std::fs::write(&config, "[node]\ncopy_interval = \"100ms\"\n").unwrap();
    let mut a = site.agent("a");
    let mut b = site.agent("b").join(&[&a]).with(&["--config", config.to_str().unwrap()]);
    a.spawn();
    b.spawn();
    a.wait_alive(2, SPREAD_WITHIN);
    a.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    b.wait_ids("web", &["web-1"], SPREAD_WITHIN);
    let copy = b.data_dir.join("catalog.copy");
    let is_copied = || std::fs::read(&copy).is_ok_and(|bytes| bytes.windows(5).any(|part| part == b"web-1"));
    wait_until(SPREAD_WITHIN, "the registration is in the copy", is_copied);
    a.kill();
    b.kill();
    b.spawn();
    // Not ready, as far as it knows it lacks much; lookups do not wait for that.
    b.wait_ids("web", &["web-1"], DETECT_WITHIN);
    let instance = b.instances("web").unwrap().remove(0);
    assert_eq!((&instance["verified"], &instance["available"]), (&json!(false), &json!(true)), "{instance}");
    a.restart();
    wait_until(DETECT_WITHIN, "its agent vouches for it again", || b.instances("web").is_ok_and(|all| all[0]["verified"] == json!(true)));
}

#[test]
fn changes_are_seen_as_events_at_another_agent() {
    let site = Site::new();
    let [a, b] = two(&site);
    let mut events = b.http.events("/api/v1/watch?service=web").expect("a ready agent answers");
    assert_eq!(events.next(SPREAD_WITHIN).expect("an empty snapshot is complete at once").name, "synced");
    a.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    let put = events.next(SPREAD_WITHIN).expect("the registration arrives");
    assert_eq!(put.name, "put", "{put:?}");
    assert!(put.data.contains("web-1"), "{put:?}");
    a.deregister("web", "web-1");
    let remove = events.next(SPREAD_WITHIN).expect("the deregistration arrives");
    assert_eq!(remove.name, "remove", "{remove:?}");
    assert!(remove.data.contains("web-1") && remove.data.contains("deregistered"), "{remove:?}");
}

// What is refused: one clear line that says what to do, and an exit code that is not zero.

fn assert_refused(refusal: &Refusal, words: &[&str]) {
    assert!(matches!(refusal.status.code(), Some(1 | 2)), "{refusal:?}");
    assert!(!refusal.said.contains("panicked"), "{refusal:?}");
    for word in words {
        assert!(refusal.said.contains(word), "the refusal does not say {word:?}: {refusal:?}");
    }
}

#[test]
fn a_second_agent_on_one_data_directory_is_refused() {
    let site = Site::new();
    let a = site.agent("a").start();
    let refusal = site.agent("b").with_data_dir(&a.data_dir).refused();
    assert_refused(&refusal, &[&a.data_dir.display().to_string()]);
    assert!(refusal.said.trim().lines().count() <= 3, "{refusal:?}");
    a.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
}

#[test]
fn a_port_in_use_is_refused_and_named() {
    let site = Site::new();
    let agent = site.agent("http");
    let taken = TcpListener::bind(agent.http.address).expect("the port is ours");
    assert_refused(&agent.refused(), &[&taken.local_addr().expect("it is bound").to_string()]);

    let agent = site.agent("gossip");
    let taken = UdpSocket::bind(agent.gossip).expect("the port is ours");
    assert_refused(&agent.refused(), &[&taken.local_addr().expect("it is bound").to_string()]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let site = Site::new();
    let file = site.path("file");
    std::fs::write(&file, "not a directory").expect("the scratch directory can be written");
    let data_dir = file.join("data");
    assert_refused(&site.agent("a").with_data_dir(&data_dir).refused(), &[&data_dir.display().to_string()]);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let site = Site::new();
    let key = site.path("bad-key");
    std::fs::write(&key, "this is no key\n").expect("the scratch directory can be written");
    assert_refused(&site.agent("a").with_key(Some(&key)).refused(), &["key"]);
    assert_refused(&site.agent("b").with_key(Some(&site.path("no-such-file"))).refused(), &["no-such-file"]);
}

#[test]
fn gossip_in_clear_on_an_address_of_the_network_is_refused_with_a_way_out() {
    let site = Site::new();
    let agent = site.agent("a").with_key(None).listening_on("0.0.0.0:0".parse().expect("an address"));
    assert_refused(&agent.refused(), &["--dev", "keygen", "--encrypt"]);
}

#[test]
fn an_agent_with_another_key_stays_outside_and_is_counted() {
    let site = Site::new();
    let [a, b] = two(&site);
    let key = site.path("other-key");
    site.make_key(&key);
    let stranger = site.agent("stranger").with_key(Some(&key)).join(&[&a]).start();
    stranger.register("web", "foreign", json!({"port": 80, "address": "10.0.0.1"}));
    a.register("web", "own", json!({"port": 80, "address": "10.0.0.1"}));
    let dropped = || a.metric("tidings_gossip_dropped_total").unwrap_or_default();
    wait_until(DETECT_WITHIN, "the stranger's packets are counted", || dropped() > 0.0);
    b.wait_ids("web", &["own"], SPREAD_WITHIN);
    assert_eq!(a.alive().expect("a ready agent answers"), 2);
    assert_eq!(a.ids("web").expect("a ready agent answers"), ["own"]);
    assert_eq!(stranger.ids("web").expect("a ready agent answers"), ["foreign"]);
    assert_eq!(stranger.alive().expect("a ready agent answers"), 1);
}

#[test]
fn what_is_not_understood_changes_nothing_and_is_explained() {
    let site = Site::new();
    let a = site.agent("a").start();
    a.register("web", "web-1", json!({"port": 80, "address": "10.0.0.1"}));
    let path = "/api/v1/services/web/instances/web-1";
    let cases = [
        (json!({"port": 99_999}), "/port"),
        (json!({"port": 80, "adress": "10.0.0.2"}), "/adress"),
        (json!({"port": 80, "ttl": "soon"}), "/ttl"),
        (json!({"port": 80, "tags": "blue"}), "/tags"),
        (json!({"port": 80, "weight": -1}), "/weight"),
    ];
    for (body, pointer) in cases {
        let answer = a.send("PUT", path, Some(&body)).expect("a ready agent answers");
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{body}");
        let problem = answer.json();
        assert_eq!(problem["pointer"], pointer, "{body}: {problem}");
        assert!(text(&problem["type"]).starts_with("tidings:"), "{body}: {problem}");
    }
    let instance = &a.instances("web").expect("a ready agent answers")[0];
    assert_eq!((&instance["port"], &instance["address"]), (&json!(80), &json!("10.0.0.1")));
}
