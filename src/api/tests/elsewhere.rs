//! Other datacenters: read like the own one, marked with their age, and never in the way of local lookups.

use super::*;
use crate::agent::clock::wall_ms;
use crate::model::instance::{Health, Instance};
use crate::model::names::{Namespace, ServiceKey, ServiceName};
use crate::model::summary::Summary;
use crate::view::testing::{self, datacenter as known};
use crate::view::{DatacenterView, LinkState, Summarized};

const AGE_MS: u64 = 300_000;

fn editor(datacenter: &str) -> Editor {
    testing::editor(ORIGIN, datacenter)
}

fn put_into(editor: &mut Editor, datacenter: &str, service: &str, id: &str, status: Health) {
    let node = testing::node(NodeId(7), &format!("{datacenter}-n1"), datacenter);
    let instance = Instance { port: Some(80), weight: 1_000, enabled: true, status, ..Instance::default() };
    testing::put(editor, &node, service, id, &instance);
}

/// dc1, whose only `web` is critical; far and near are heard, lost has been silent for five minutes and is the only one with `db`.
struct World {
    own: Editor,
    near: Editor,
    others: Vec<Arc<DatacenterView>>,
}

impl World {
    fn new() -> Self {
        let (mut own, mut far, mut near, mut lost) = (editor("dc1"), editor("far"), editor("near"), editor("lost"));
        put_into(&mut own, "dc1", "web", "own-1", Health::Critical);
        put_into(&mut own, "dc1", "api", "own-2", Health::Passing);
        put_into(&mut far, "far", "web", "far-1", Health::Passing);
        put_into(&mut near, "near", "web", "near-1", Health::Passing);
        put_into(&mut near, "near", "api", "near-2", Health::Passing);
        put_into(&mut lost, "lost", "db", "lost-1", Health::Passing);
        let stale_since_ms = Some(wall_ms() - AGE_MS);
        let others = vec![
            known(&mut far, "far", 5, LinkState::Fresh, 90_000, None),
            known(&mut near, "near", 5, LinkState::Lagging, 20_000, None),
            known(&mut lost, "lost", 5, LinkState::Stale, 40_000, stale_since_ms),
        ];
        Self { own, near, others }
    }

    fn publish(&mut self, wall_ms: u64) -> Arc<View> {
        self.own.set_datacenters(self.others.clone());
        self.own.publish(Now { ns: 0, wall_ms }).unwrap()
    }

    fn start() -> (App, Handle, DriverSide, Self) {
        let mut world = Self::new();
        let (handle, driver) = door_to(world.publish(10));
        (App::new(Api::new(handle.clone(), 1), axum::Router::new(), Door::default()), handle, driver, world)
    }
}

async fn list(app: &App, path: &str) -> Value {
    let answer = get(app, path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json().await
}

#[tokio::test]
async fn each_datacenter_is_read_from_here_with_its_age() {
    let (app, ..) = World::start();
    for (path, expected) in [
        ("services/web", vec![]),
        ("services/web?dc=dc1&health=any", vec!["own-1"]),
        ("services/web?dc=far", vec!["far-1"]),
        ("services/web?dc=*", vec!["far-1", "near-1"]),
        ("services/web?dc=*&namespace=*", vec!["far-1", "near-1"]),
        ("services/db?dc=lost", vec!["lost-1"]),
        ("services/db?dc=far", vec![]),
        ("instances?dc=near", vec!["near-2", "near-1"]),
        ("instances?dc=*", vec!["own-2", "far-1", "lost-1", "near-2", "near-1"]),
        ("services/web/pick?dc=far", vec!["far-1"]),
        ("services/web?failover", vec!["near-1"]),
        ("services/web/pick?failover=true", vec!["near-1"]),
        ("services/api?failover", vec!["own-2"]),
        ("services/db?failover", vec!["lost-1"]),
        ("services/db?failover&max_age=4m", vec![]),
    ] {
        assert_eq!(ids(&app, &format!("/api/v1/{path}")).await, expected, "{path}");
    }
    let lost = list(&app, "/api/v1/services/db?dc=lost").await;
    assert_eq!((lost["datacenter"].as_str(), lost["complete"].as_bool()), (Some("lost"), Some(true)));
    assert_eq!((lost["instances"][0]["datacenter"].as_str(), lost["instances"][0]["age"].as_str()), (Some("lost"), Some("5m")));
    assert_eq!(list(&app, "/api/v1/services/web?dc=far").await["instances"][0]["age"], "0s");
    assert_eq!(list(&app, "/api/v1/services/web?dc=near").await["complete"], false, "a gateway is still taking in what it lacked");
    let one = list(&app, "/api/v1/services/db/instances/lost-1?dc=lost").await;
    assert_eq!((one["id"].as_str(), one["age"].as_str()), (Some("lost-1"), Some("5m")));
    assert_eq!(get(&app, "/api/v1/services/db/instances/lost-1").await.status, 404, "a plain look is local");
    let targets = list(&app, "/api/v1/http_sd?dc=far").await;
    assert_eq!(targets[0]["labels"]["__meta_tidings_datacenter"], "far");
}

#[tokio::test]
async fn pages_go_on_from_one_datacenter_to_the_next() {
    let (app, ..) = World::start();
    for path in ["services?dc=*&limit=1", "services?dc=*&limit=2", "instances?dc=*&limit=1", "instances?dc=*&limit=2&health=any"] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = list(&app, &format!("/api/v1/{path}{after}")).await;
            let rows = page["services"].as_array().or(page["instances"].as_array()).unwrap();
            seen.extend(rows.iter().map(|row| (row["datacenter"].clone().to_string(), row["service"].to_string(), row["id"].to_string())));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let count = if path.contains("health=any") || path.starts_with("services") { 6 } else { 5 };
        let mut distinct = seen.clone();
        distinct.dedup();
        assert_eq!((seen.len(), distinct.len()), (count, count), "{path}: {seen:?}");
    }
}

/// far tells of `db` and `zoo` by summaries only, and of its `web` as well, whose instances are here.
fn summarized() -> (App, Handle, DriverSide) {
    let mut world = World::new();
    let one = |service: &str, instances: u32| Summarized {
        key: ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).unwrap() },
        summary: Summary { instances, available: 1, by_health: [1, 0, 0, 0, instances - 1], ..Summary::default() },
        revision: 7_777,
    };
    let summaries = Arc::new([one("db", 2), one("web", 1), one("zoo", 3)]);
    world.others[0] = Arc::new(DatacenterView { summaries, ..(*world.others[0]).clone() });
    let (handle, driver) = door_to(world.publish(10));
    (App::new(Api::new(handle.clone(), 1), axum::Router::new(), Door::default()), handle, driver)
}

#[tokio::test]
async fn a_service_known_by_its_summary_is_listed_and_its_instances_are_said_to_be_missing() {
    let (app, ..) = summarized();
    let far = list(&app, "/api/v1/services?dc=far").await;
    let row = |at: usize| (far["services"][at]["service"].as_str(), far["services"][at]["instances_elsewhere"].as_bool());
    assert_eq!([row(0), row(1), row(2), row(3)], [(Some("db"), Some(true)), (Some("web"), None), (Some("zoo"), Some(true)), (None, None)]);
    let db = &far["services"][0];
    let numbers = ["instances", "available", "passing", "critical"].map(|name| db[name].as_u64());
    assert_eq!((numbers, db["datacenter"].as_str()), ([Some(2), Some(1), Some(1), Some(1)], Some("far")));
    let mut after = String::new();
    let mut paged = Vec::new();
    loop {
        let page = list(&app, &format!("/api/v1/services?dc=*&limit=1{after}")).await;
        let one = &page["services"][0];
        paged.push(format!("{}/{}", one["datacenter"].as_str().unwrap(), one["service"].as_str().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, ["dc1/api", "dc1/web", "far/db", "far/web", "far/zoo", "lost/db", "near/api", "near/web"]);
    for (path, complete) in [
        ("services/db?dc=far", false),
        ("services/web?dc=far", true),
        ("services/nothing?dc=far", true),
        ("services/zoo?failover", false),
        ("services/api?failover", true),
        ("services/zoo?dc=far&namespace=*", false),
        ("services/zoo?dc=far&namespace=other", true),
        ("instances?dc=far", false),
        ("instances?dc=far&service=web", true),
    ] {
        assert_eq!(list(&app, &format!("/api/v1/{path}")).await["complete"], complete, "{path}");
    }
    assert_eq!(get(&app, "/api/v1/services/db?dc=far").await.revision(), 7_777, "it has a revision to wait from");
    assert_eq!(list(&app, "/api/v1/datacenters").await["datacenters"][1]["summaries"], 3);
}

/// What was asked to be fetched by now.
async fn fetches(driver: &mut DriverSide) -> Vec<String> {
    let mut fetches = Vec::new();
    while let Ok(Asked::Call(call)) = tokio::time::timeout(Duration::from_millis(1), driver.next()).await {
        let Command::Fetch { datacenter, namespace, service } = call.command else { panic!("{:?}", call.command) };
        fetches.push(format!("{datacenter} {namespace} {service}"));
    }
    fetches
}

#[tokio::test(start_paused = true)]
async fn who_looks_up_what_is_not_here_has_it_fetched_and_waits_only_where_he_says_so() {
    let (app, _handle, mut driver) = summarized();
    for (path, expected) in [
        ("services/db?dc=far", vec!["far default db"]),
        ("services/zoo?dc=*", vec!["far default zoo"]),
        ("services/db?dc=far&revision=1", vec!["far default db"]),
        ("services/db/pick?dc=far", vec!["far default db"]),
        ("services/zoo?failover", vec!["far default zoo"]),
        ("services/zoo/pick?failover", vec!["far default zoo"]),
        ("services/zoo?dc=*&namespace=*", vec!["far default zoo"]),
        ("services/db/instances/1?dc=far", vec!["far default db"]),
        ("instances?dc=far&service=db&service=web&service=zoo", vec!["far default db", "far default zoo"]),
        ("instances?dc=far", vec![]),
        ("http_sd?dc=far&service=db", vec!["far default db"]),
        ("http_sd?dc=far", vec![]),
        ("services/api?failover", vec![]),
        ("services/db", vec![]),
        ("services/web?dc=far", vec![]),
        ("services/nothing?dc=far", vec![]),
        ("services/db?dc=near", vec![]),
        ("services/db?dc=far&namespace=other", vec![]),
    ] {
        let began = tokio::time::Instant::now();
        get(&app, &format!("/api/v1/{path}")).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "{path}: nobody waited");
        // So long, the engine is not told again.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(fetches(&mut driver).await, expected, "{path}");
    }
    let began = tokio::time::Instant::now();
    assert_eq!(list(&app, "/api/v1/services/db?dc=far&wait=5s").await["complete"], false, "nothing came");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert!((5..=6).contains(&fetches(&mut driver).await.len()), "asked once a second");
    for (path, status) in [("services/db/pick", 200), ("services/db/instances/1", 503), ("services/web/instances/1", 404)] {
        let began = tokio::time::Instant::now();
        assert_eq!(get(&app, &format!("/api/v1/{path}?dc=far&wait=2s")).await.status, status, "{path}");
        let waited = if path.contains("db") { Duration::from_secs(2) } else { Duration::ZERO };
        assert_eq!(began.elapsed(), waited, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_waits_gets_what_was_fetched_with_its_age() {
    let (app, _handle, mut driver) = summarized();
    let read = |path: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { list(&app, path).await })
    };
    let plain = read("/api/v1/services/db?dc=far&wait=30s");
    let changed = read("/api/v1/services/db?dc=far&wait=30s&revision=7777");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!plain.is_finished() && !changed.is_finished());
    assert_eq!(fetches(&mut driver).await.len(), 2, "two readers are one question, asked twice");
    let mut world = World::new();
    let mut far = editor("far");
    put_into(&mut far, "far", "db", "db-1", Health::Passing);
    let known = known(&mut far, "far", 20, LinkState::Fresh, 90_000, None);
    let key = ServiceKey { namespace: Namespace::default(), service: ServiceName::new("db").unwrap() };
    let summaries = Arc::new([Summarized { key: key.clone(), summary: Summary::default(), revision: 7_777 }]);
    world.others[0] = Arc::new(DatacenterView { summaries, fetched: Arc::new([(key, wall_ms() - 7_000)]), ..(*known).clone() });
    driver.published().show(world.publish(20));
    driver.published().wake(&Changed::Services(Vec::new()));
    for waiting in [plain, changed] {
        let list = waiting.await.unwrap();
        assert_eq!((list["complete"].as_bool(), list["instances"][0]["id"].as_str()), (Some(true), Some("db-1")));
        assert_eq!(list["instances"][0]["age"], "7s");
    }
}

/// far as its summary of `db` tells of it, fetched so many milliseconds ago.
fn fetched_db(world: &mut World, age_ms: u64, wall_ms: u64) -> Arc<View> {
    let mut far = editor("far");
    put_into(&mut far, "far", "db", "db-1", Health::Passing);
    let known = known(&mut far, "far", wall_ms, LinkState::Fresh, 90_000, None);
    let key = ServiceKey { namespace: Namespace::default(), service: ServiceName::new("db").unwrap() };
    let summary = Summary { instances: 1, available: 1, ..Summary::default() };
    let summaries = Arc::new([Summarized { key: key.clone(), summary, revision: 7_777 }]);
    let fetched = Arc::new([(key, crate::agent::clock::wall_ms() - age_ms)]);
    world.others[0] = Arc::new(DatacenterView { summaries, fetched, ..(*known).clone() });
    world.publish(wall_ms)
}

#[tokio::test(start_paused = true)]
async fn who_watches_a_service_by_name_has_it_fetched_as_long_as_he_watches() {
    let (app, _handle, mut driver) = summarized();
    let mut reader = watching::Reader::open(&app, "?dc=far&service=db", None).await;
    let (name, _, data) = reader.next().await.unwrap();
    assert_eq!((name.as_str(), &data["complete"]), ("synced", &json!(false)), "there is nothing yet, and that is not all");
    let waiting = tokio::spawn(async move {
        let told = reader.next().await.unwrap();
        (reader, told)
    });
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(fetches(&mut driver).await, ["far default db"; 3]);
    let mut world = World::new();
    driver.published().show(fetched_db(&mut world, 20_000, 20));
    driver.published().wake(&Changed::Any);
    let (mut reader, (name, _, data)) = waiting.await.unwrap();
    assert_eq!((name.as_str(), &data["id"]), ("put", &json!("db-1")));
    let (name, _, data) = reader.next().await.unwrap();
    assert_eq!((name.as_str(), &data["complete"]), ("synced", &json!(true)), "now that is all");
    drop(reader);
    let mut reader = watching::Reader::open(&app, "?dc=far&service=db", None).await;
    let (name, _, data) = reader.next().await.unwrap();
    assert_eq!((name.as_str(), &data["id"], &data["age"]), ("put", &json!("db-1"), &json!("20s")));
    let (name, _, data) = reader.next().await.unwrap();
    assert_eq!((name.as_str(), &data["complete"]), ("synced", &json!(true)));
    let waiting = tokio::spawn(async move { reader.next().await });
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert!((3..=4).contains(&fetches(&mut driver).await.len()), "what is old is fetched anew");
    waiting.abort();
    let _ = waiting.await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fetches(&mut driver).await.len(), 0, "nobody watches any more");
    let mut everything = watching::Reader::open(&app, "?dc=far", None).await;
    assert_eq!(everything.next().await.unwrap().2["id"], "db-1", "who names no service sees what is here");
}

#[tokio::test]
async fn the_list_of_datacenters_tells_how_each_is_heard() {
    let (app, ..) = World::start();
    let all = list(&app, "/api/v1/datacenters").await;
    let told = |at: usize| (all["datacenters"][at]["datacenter"].as_str().unwrap(), all["datacenters"][at]["state"].as_str().unwrap());
    assert_eq!([told(0), told(1), told(2), told(3)], [("dc1", "fresh"), ("far", "fresh"), ("lost", "stale"), ("near", "lagging")]);
    let lost = &all["datacenters"][2];
    assert_eq!((lost["age"].as_str(), lost["rtt_ms"].as_f64(), lost["instances"].as_u64()), (Some("5m"), Some(40.0), Some(1)));
    assert_eq!(lost["links"][0]["peers"][0]["address"], "192.0.2.1:7977");
    assert_eq!((lost["backlog"].as_u64(), &lost["gateways"]), (Some(3), &json!([])), "no gateway here hears it");
    let far = &all["datacenters"][1];
    assert_eq!((&far["gateways"], far["links"][0]["backlog"].as_u64()), (&json!(["00000000000000000000000000000001"]), Some(3)));
    assert!(lost["stale_since"].is_string() && !lost["local"].as_bool().unwrap());
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_what_can() {
    let (app, ..) = World::start();
    let unknown = get(&app, "/api/v1/services/web?dc=mars").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json().await["allowed"], "dc1, far, lost, near");
    for (path, pointer) in [
        ("services/web?failover&dc=far", "?failover"),
        ("services/web?max_age=1m", "?max_age"),
        ("services/web?failover&max_age=9d", "?max_age"),
        ("watch?dc=*", "?dc"),
        ("services/web/instances/far-1?dc=*", "?dc"),
    ] {
        let refused = get(&app, &format!("/api/v1/{path}")).await;
        assert_eq!(refused.status, 400, "{path}");
        assert_eq!(refused.json().await["pointer"], pointer, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_read_of_another_datacenter_wakes_for_its_service() {
    let (app, _handle, driver, mut world) = World::start();
    let revision = get(&app, "/api/v1/services/web?dc=near").await.revision();
    let path = format!("/api/v1/services/web?dc=near&wait=30s&revision={revision}");
    let waiting = tokio::spawn({
        let (app, path) = (app.clone(), path.clone());
        async move { ids(&app, &path).await }
    });
    // Another service of the same datacenter is no news to the reader.
    for (wall_ms, service, id) in [(20, "api", "near-3"), (30, "web", "near-4")] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        put_into(&mut world.near, "near", service, id, Health::Passing);
        world.others[1] = known(&mut world.near, "near", wall_ms, LinkState::Fresh, 20_000, None);
        driver.published().show(world.publish(wall_ms));
        driver.published().wake(&Changed::Services(Vec::new()));
    }
    let mut seen = waiting.await.unwrap();
    seen.sort();
    assert_eq!(seen, ["near-1", "near-4"]);
}
