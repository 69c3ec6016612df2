use serde_json::json;

use super::*;

#[tokio::test]
async fn services_are_names_with_all_their_tags() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/v1/catalog/services").await.json(), json!({"consul": []}));
    peer.native("web", "1", json!({"port": 1, "tags": ["b", "a"]})).await;
    peer.native("web", "2", json!({"port": 1, "tags": ["c", "a"]})).await;
    peer.native("db", "1", json!({"port": 1})).await;
    let all = json!({"consul": [], "db": [], "web": ["a", "b", "c"]});
    assert_eq!(peer.get("/v1/catalog/services").await.json(), all);
    assert_eq!(peer.get("/v1/catalog/services?filter=c%20in%20ServiceTags").await.json(), json!({"web": ["a", "c"]}));
    assert_eq!(peer.get("/v1/catalog/services?node-meta=a:b").await.json(), json!({}));
    assert_eq!(peer.ask("DELETE", "/api/v1/services/web/instances/2", "").await.status, 200);
    assert_eq!(peer.get("/v1/catalog/services?pretty").await.json(), json!({"consul": [], "db": [], "web": ["a", "b"]}));
    assert_eq!(peer.ask("DELETE", "/api/v1/services/db/instances/1", "").await.status, 200);
    assert_eq!(peer.get("/v1/catalog/services").await.json(), json!({"consul": [], "web": ["a", "b"]}));
}

#[tokio::test]
async fn the_index_of_services_moves_for_names_and_tags_only() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1, "tags": ["a"]})).await;
    let before = peer.get("/v1/catalog/services").await.index();
    peer.native("web", "1", json!({"port": 1, "tags": ["a"], "status": "critical"})).await;
    peer.native("web", "2", json!({"port": 2, "tags": ["a"]})).await;
    assert_eq!(peer.get("/v1/catalog/services").await.index(), before);
    let path = format!("/v1/catalog/services?index={before}&wait=10s");
    let (answer, ()) = tokio::join!(peer.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.native("web", "2", json!({"port": 2, "tags": ["b"]})).await;
    });
    assert!(answer.index() > before);
    assert_eq!(answer.json(), json!({"consul": [], "web": ["a", "b"]}));
    let path = format!("/v1/catalog/services?index={}&wait=60s", answer.index());
    let (stopped, _) = tokio::join!(peer.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.agent.handle().call(crate::model::command::Command::Leave).await
    });
    assert_eq!(stopped.index(), answer.index(), "an agent that stops lets nobody wait");
}

#[tokio::test]
async fn a_service_is_listed_instance_by_instance() {
    let peer = Peer::start().await;
    peer.native("web", "2", json!({"port": 2, "tags": ["x"]})).await;
    peer.native("web", "1", json!({"port": 1, "address": "10.0.0.1", "status": "critical"})).await;
    let ids = |answer: &Answer| -> Vec<u64> {
        answer.json().as_array().unwrap().iter().map(|one| one["ServicePort"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&peer.get("/v1/catalog/service/web").await), [1, 2]);
    assert_eq!(ids(&peer.get("/v1/catalog/service/web?tag=X").await), [2]);
    assert_eq!(ids(&peer.get("/v1/catalog/service/web?filter=ServiceAddress==`10.0.0.1`").await), [1]);
    assert_eq!(peer.get("/v1/catalog/service/none").await.json(), json!([]));
    assert_eq!(peer.get("/v1/catalog/connect/web").await.json(), json!([]));
    assert_eq!(peer.get("/v1/catalog/service/").await.said(), (400, "Missing service name"));
    let seen = peer.get("/v1/catalog/service/web").await.index();
    let path = format!("/v1/catalog/service/web?index={seen}&wait=10s");
    let (answer, _) = tokio::join!(peer.get(&path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.ask("DELETE", "/api/v1/services/web/instances/2", "").await
    });
    assert_eq!(ids(&answer), [1]);
}

#[tokio::test]
async fn datacenters_are_listed() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/v1/catalog/datacenters").await.json(), json!(["dc1"]));
    assert_eq!(peer.get("/v1/coordinate/datacenters").await.json(), json!([]));
}
