//! `?dc=`: other datacenters out of memory, with their age; the own one is read as ever.

use std::sync::Arc;

use axum::body::Body;
use serde_json::json;
use tower::Service as _;

use super::super::{Consul, Settings, router};
use super::*;
use crate::agent::clock::wall_ms;
use crate::agent::handle::{Changed, Handle, Request};
use crate::agent::testing::door_to;
use crate::model::command::Command;
use crate::model::instance::{Health, Instance};
use crate::model::names::{Namespace, NodeId, ServiceKey, ServiceName};
use crate::model::summary::Summary;
use crate::model::time::Now;
use crate::view::{DatacenterView, Editor, LinkState, Summarized, testing};

const AGE_MS: u64 = 300_000;

fn editor(datacenter: &str) -> Editor {
    testing::editor(NodeId(1), datacenter)
}

fn put(editor: &mut Editor, datacenter: &str, service: &str, id: &str, status: Health) {
    let node = testing::node(NodeId(7), &format!("{datacenter}-n1"), datacenter);
    let instance = Instance { port: Some(80), weight: 1_000, enabled: true, status, tags: vec!["t".into()], ..Instance::default() };
    testing::put(editor, &node, service, id, &instance);
}

/// Heard, but for one that is stale since then.
fn known(editor: &mut Editor, name: &str, wall_ms: u64, rtt_us: u32, stale_since_ms: Option<u64>) -> Arc<DatacenterView> {
    let state = if stale_since_ms.is_some() { LinkState::Stale } else { LinkState::Fresh };
    testing::datacenter(editor, name, wall_ms, state, rtt_us, stale_since_ms)
}

async fn ask(handle: &Handle, path: &str) -> Answer {
    let mut routes = router(Consul::new(handle.clone(), Settings::default(), 1));
    let response = routes.call(axum::http::Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

fn at(wall_ms: u64) -> Now {
    Now { ns: 0, wall_ms }
}

#[tokio::test]
async fn another_datacenter_is_read_like_the_own_one_and_says_its_age() {
    let (mut own, mut far, mut near) = (editor("dc1"), editor("far"), editor("near"));
    put(&mut own, "dc1", "web", "own-1", Health::Passing);
    put(&mut far, "far", "db", "far-2", Health::Passing);
    put(&mut near, "near", "Web", "near-1", Health::Passing);
    put(&mut near, "near", "Web", "near-2", Health::Critical);
    let lost = known(&mut far, "far", 5, 90_000, Some(wall_ms() - AGE_MS));
    own.set_datacenters(vec![Arc::clone(&lost), known(&mut near, "near", 5, 20_000, None)]);
    let (handle, driver) = door_to(own.publish(at(10)).unwrap());

    assert_eq!(ask(&handle, "/v1/catalog/datacenters").await.json(), json!(["dc1", "near", "far"]), "the nearest first");
    assert_eq!(ask(&handle, "/v1/catalog/services").await.json(), json!({"consul": [], "web": ["t"]}), "a plain read stays at home");
    assert_eq!(ask(&handle, "/v1/catalog/services?dc=near").await.json(), json!({"Web": ["t"]}));
    assert_eq!(ask(&handle, "/v1/catalog/services").await.json(), json!({"consul": [], "web": ["t"]}), "and is not mixed up with others");
    let both = ask(&handle, "/v1/health/service/web?dc=near").await;
    let entries = both.json();
    let shown: Vec<_> = entries.as_array().unwrap().iter().map(|one| (&one["Service"]["ID"], &one["Node"]["Datacenter"])).collect();
    assert_eq!(shown, [(&json!("near-1"), &json!("near")), (&json!("near-2"), &json!("near"))], "names are found in any case there too");
    assert_eq!(both.header("x-consul-lastcontact"), "0", "it is heard");
    assert_eq!(ask(&handle, "/v1/health/service/web?dc=near&passing").await.json().as_array().unwrap().len(), 1);
    assert_eq!(ask(&handle, "/v1/health/service/web?dc=dc1").await.json()[0]["Service"]["ID"], "own-1");
    let old = ask(&handle, "/v1/catalog/service/db?dc=far").await;
    assert_eq!(old.json()[0]["ServiceID"], "far-2");
    let age_ms: u64 = old.header("x-consul-lastcontact").parse().unwrap();
    assert!((AGE_MS..AGE_MS + 60_000).contains(&age_ms), "{age_ms}");
    assert_eq!(ask(&handle, "/v1/health/state/critical?dc=near").await.status, 200);
    for path in ["/v1/health/service/web?dc=nowhere", "/v1/catalog/nodes?dc=nowhere", "/v1/kv/a?dc=near"] {
        assert_eq!(ask(&handle, path).await.said(), (500, "No path to datacenter"), "{path}");
    }

    // A blocked query there wakes for what happens there.
    let index = both.index();
    let path = format!("/v1/health/service/Web?dc=near&index={index}&wait=20s");
    let mut blocked = std::pin::pin!(ask(&handle, &path));
    let pause = Duration::from_millis(50);
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "nothing changed there");
    put(&mut own, "dc1", "Web", "own-2", Health::Passing);
    driver.published().show(own.publish(at(20)).unwrap());
    driver.published().wake(&Changed::Any);
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "what happened here answered it");
    put(&mut near, "near", "Web", "near-3", Health::Passing);
    own.set_datacenters(vec![lost, known(&mut near, "near", 30, 20_000, None)]);
    driver.published().show(own.publish(at(30)).unwrap());
    driver.published().wake(&Changed::Any);
    let answer = tokio::time::timeout(Duration::from_secs(10), blocked).await.expect("it changed there");
    assert_eq!(answer.json().as_array().unwrap().len(), 3);
    assert!(answer.index() > index);
}

/// far tells summaries of `db`, which was fetched five seconds ago, and of `Web`, which was or was not.
fn view_with_summaries(own: &mut Editor, far: &mut Editor, has_web: bool, wall: u64) -> Arc<crate::view::View> {
    let key = |service: &str| ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).unwrap() };
    let summary = Summary { instances: 1, ..Summary::default() };
    let summarized = |service: &str| Summarized { key: key(service), summary: summary.clone(), revision: 7 };
    put(far, "far", if has_web { "Web" } else { "db" }, "far-1", Health::Passing);
    let web = has_web.then(|| (key("Web"), wall_ms()));
    let known = DatacenterView {
        summaries: Arc::new([summarized("Web"), summarized("db")]),
        fetched: web.into_iter().chain([(key("db"), wall_ms() - 5_000)]).collect(),
        revision: wall << 10,
        ..(*known(far, "far", wall, 90_000, None)).clone()
    };
    own.set_datacenters(vec![Arc::new(known)]);
    own.publish(at(wall)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_known_by_its_summary_is_fetched_for_whoever_asks_and_tells_the_age_of_that() {
    let (mut own, mut far) = (editor("dc1"), editor("far"));
    put(&mut own, "dc1", "web", "own-1", Health::Passing);
    let (handle, mut driver) = door_to(view_with_summaries(&mut own, &mut far, false, 10));
    let fetched = ask(&handle, "/v1/health/service/db?dc=far").await;
    assert_eq!(fetched.json()[0]["Service"]["ID"], "far-1");
    let age_ms: u64 = fetched.header("x-consul-lastcontact").parse().unwrap();
    assert!((5_000..60_000).contains(&age_ms), "{age_ms}");
    assert_eq!(ask(&handle, "/v1/health/service/web").await.json()[0]["Service"]["ID"], "own-1");
    let pause = Duration::from_millis(20);
    assert!(tokio::time::timeout(pause, driver.next()).await.is_err(), "nobody asked for what is at home or new enough");
    let names = ask(&handle, "/v1/catalog/services?dc=far").await;
    assert_eq!(names.json(), json!({"Web": [], "db": ["t"]}), "what is known by its summary has a name");

    // An empty list would be taken for the truth: who asks waits a moment, and keeps what he has where nothing comes.
    let began = tokio::time::Instant::now();
    for path in ["/v1/health/service/web?dc=far", "/v1/catalog/service/Web?dc=far", "/v1/health/checks/web?dc=far"] {
        assert_eq!(ask(&handle, path).await.said(), (500, "No answer from far about \"Web\" yet"), "{path}");
    }
    assert_eq!(began.elapsed(), 3 * Duration::from_secs(3));
    let Request::Call(call) = driver.next().await else { panic!("nobody asked") };
    assert!(matches!(call.command, Command::Fetch { service, .. } if service.as_str() == "Web"));

    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { ask(&handle, "/v1/health/service/web?dc=far&passing").await })
    };
    tokio::time::sleep(pause).await;
    assert!(!waiting.is_finished());
    driver.published().show(view_with_summaries(&mut own, &mut far, true, 20));
    driver.published().wake(&Changed::Any);
    let found = waiting.await.unwrap();
    assert_eq!(found.json()[0]["Service"]["ID"], "far-1");
}

#[tokio::test(start_paused = true)]
async fn a_blocked_read_goes_on_having_its_service_fetched() {
    let (mut own, mut far) = (editor("dc1"), editor("far"));
    put(&mut own, "dc1", "web", "own-1", Health::Passing);
    put(&mut far, "far", "db", "far-1", Health::Passing);
    let key = ServiceKey { namespace: Namespace::default(), service: ServiceName::new("db").unwrap() };
    let summary = Summary { instances: 1, ..Summary::default() };
    let known = DatacenterView {
        summaries: Arc::new([Summarized { key: key.clone(), summary, revision: 7 }]),
        fetched: Arc::new([(key, wall_ms() - 20_000)]),
        ..(*known(&mut far, "far", 5, 90_000, None)).clone()
    };
    own.set_datacenters(vec![Arc::new(known)]);
    let (handle, mut driver) = door_to(own.publish(at(10)).unwrap());
    let index = ask(&handle, "/v1/health/service/db?dc=far").await.index();
    let path = format!("/v1/health/service/db?dc=far&index={index}&wait=10s");
    let blocked = tokio::spawn(async move { ask(&handle, &path).await });
    for asked in 0..8 {
        let next = tokio::time::timeout(Duration::from_millis(1_500), driver.next()).await;
        assert!(matches!(next, Ok(Request::Call(call)) if matches!(call.command, Command::Fetch { .. })), "after {asked}");
    }
    assert!(!blocked.is_finished());
}
