//! A full disk under a real agent: lookups and gossip go on, new registrations are refused with a reason, nothing acknowledged
//! is lost, and room on the disk ends it without a restart. Needs root on Linux, else it skips.
#![cfg(all(feature = "agent", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use std::time::Duration;

use lab::agent::{Site, text};
use lab::network::Lab;
use lab::wait_until;
use serde_json::json;

const DISK_BYTES: u64 = 24 << 20;
/// What the store may still hold in room it has taken before: 5,000 registrations of 8 KiB are more than the disk.
const REGISTRATIONS_MAX: usize = 5_000;
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_stops_no_lookup() {
    let Some(mut lab) = Lab::new(1) else { return };
    let site = Site::new();
    let hosts = [lab.host("full"), lab.host("other")];
    let agents: [_; 2] = site.agents_on(&hosts).try_into().map_err(|_| "two agents").expect("two hosts");
    let [full, mut other] = agents;
    std::fs::create_dir_all(&full.data_dir).expect("the scratch directory can be written");
    hosts[0].mount_disk(&full.data_dir, DISK_BYTES);
    // An agent that cannot write is broken and may say so.
    let mut full = full.may_log_errors();
    full.spawn();
    other.spawn();
    full.wait_ready();
    other.wait_ready();
    full.wait_alive(2, SOON);
    full.register("web", "before", json!({"port": 80, "address": "10.0.0.1"}));
    other.wait_ids("web", &["before"], SOON);

    let filler = full.data_dir.join("filler");
    let path = filler.clone();
    let filled = hosts[0].run(move || fill(&path));
    assert_eq!(filled.expect_err("the disk is small").kind(), std::io::ErrorKind::StorageFull);

    let body = json!({"port": 80, "address": "10.0.0.1", "metadata": {"padding": "x".repeat(8_000)}});
    let mut acknowledged = Vec::new();
    let refusal = (0..REGISTRATIONS_MAX)
        .find_map(|n| {
            let id = format!("load-{n:05}");
            let answer = full.send("PUT", &format!("/api/v1/services/load/instances/{id}"), Some(&body));
            let answer = answer.unwrap_or_else(|failure| panic!("registration {n}: {failure}"));
            match answer.status {
                200 | 201 => {
                    acknowledged.push(id);
                    None
                }
                _ => Some(answer),
            }
        })
        .expect("a full disk refuses at last");
    println!("{} registrations of 8 KB were acknowledged with the disk full, then: {refusal}", acknowledged.len());
    assert_eq!(refusal.status, 503, "{refusal}");
    assert!(refusal.header("retry-after").is_some(), "{refusal}");
    let problem = refusal.json();
    let reason = format!("{} {}", text(&problem["title"]), text(&problem["detail"])).to_lowercase();
    assert!(reason.contains("disk") || reason.contains("space") || reason.contains("store"), "it says why: {problem}");
    // The first that is refused had been begun when the disk refused it; what comes after it is not begun.
    assert!(reason.contains("may still take effect"), "the outcome is not known yet: {problem}");
    let later = full.send("PUT", "/api/v1/services/web/instances/later", Some(&json!({"port": 80, "address": "10.0.0.3"})));
    let later = later.expect("it answers");
    assert_eq!(later.status, 503, "{later}");
    assert!(text(&later.json()["detail"]).contains("nothing changed"), "{later}");
    assert_eq!(full.ids("web").expect("lookups need no disk"), ["before"]);

    // Lookups and gossip go on.
    assert_eq!(full.ids("web").expect("lookups need no disk"), ["before"]);
    other.register("web", "elsewhere", json!({"port": 80, "address": "10.0.0.2"}));
    full.wait_ids("web", &["before", "elsewhere"], SOON);
    assert_eq!(other.alive().expect("it answers"), 2, "a full disk is no death");

    // Room ends it.
    hosts[0].run(move || std::fs::remove_file(filler)).expect("the filler is there");
    wait_until(SOON, "registrations are accepted again", || {
        full.put("/api/v1/services/web/instances/after", &json!({"port": 80, "address": "10.0.0.3"})).is_ok()
    });
    full.kill();
    full.restart();
    full.wait_ids("web", &["after", "before", "elsewhere"], SOON);
    let shown = full.ids("load").expect("it answers");
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !shown.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged registrations are lost: {:?}", lost.len(), acknowledged.len(), lost.first());
    other.wait_ids("web", &["after", "before", "elsewhere"], SOON);
}

/// Writes until the disk is full.
fn fill(path: &std::path::Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    for block in [64 << 10, 4 << 10, 1] {
        let bytes = vec![0; block];
        while file.write_all(&bytes).is_ok() {}
    }
    file.write_all(&[0])
}
