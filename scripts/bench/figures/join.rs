//! A cold join: an agent that knows nothing starts beside one that holds many instances; how long until it is ready and holds them all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::agent::{Agent, Site};
use crate::report;

/// As many in one batch as the API takes.
const BATCH: usize = 1_000;
const IN_A_SERVICE: usize = 100;
const JOINS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(instances: usize) {
    let site = Site::new();
    let holder = site.agent("holder").start();
    let start = Instant::now();
    for from in (0..instances).step_by(BATCH) {
        let items: Vec<Value> = (from..instances.min(from + BATCH)).map(registration).collect();
        let answer =
            holder.send("POST", "/api/v1/batch", Some(&json!({ "items": items }))).unwrap_or_else(|why| panic!("batch {from}: {why}"));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    println!("{instances} instances registered in {:.1} s", start.elapsed().as_secs_f64());
    let (mut ready, mut whole) = (Vec::new(), Vec::new());
    for n in 0..JOINS {
        let mut joiner = site.agent(&format!("joiner-{n}")).join(&[&holder]);
        let start = Instant::now();
        joiner.spawn();
        joiner.wait_ready();
        ready.push(start.elapsed());
        while held(&joiner) < instances {
            assert!(start.elapsed() < PATIENCE, "the joiner holds {} instances", held(&joiner));
            std::thread::sleep(Duration::from_millis(5));
        }
        whole.push(start.elapsed());
        joiner.terminate();
    }
    report("start of the process to ready", &mut ready);
    report("start of the process to all instances shown", &mut whole);
}

fn registration(n: usize) -> Value {
    json!({
        "op": "register", "service": format!("service-{:04}", n / IN_A_SERVICE), "id": format!("{n:08x}-7a55-4b5e-8f7e-0123456789ab"),
        "address": format!("10.{}.{}.{}", n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff), "port": 8080,
        "tags": ["blue", "grpc"], "metadata": {"version": "1.4.2", "env": "prod"},
    })
}

fn held(agent: &Agent) -> usize {
    agent.get("/api/v1/status")["instances"].as_u64().unwrap_or(0) as usize
}
