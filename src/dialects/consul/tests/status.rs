use serde_json::json;

use super::*;

#[tokio::test]
async fn every_agent_names_itself_as_leader_and_peer() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/v1/status/leader").await.json(), json!("127.0.0.1:8300"));
    assert_eq!(peer.get("/v1/status/peers?pretty").await.json(), json!(["127.0.0.1:8300"]));
}

#[tokio::test]
async fn a_datacenter_that_is_not_known_has_no_path() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/v1/status/leader?dc=dc1").await.status, 200);
    assert_eq!(peer.get("/v1/status/leader?dc=nowhere").await.said(), (500, "No path to datacenter"));
}

#[tokio::test]
async fn wrong_methods_and_unknown_paths_are_told_apart() {
    let peer = Peer::start().await;
    let wrong = peer.put("/v1/status/leader", "").await;
    assert_eq!((wrong.said(), wrong.header("allow")), ((405, "method PUT not allowed"), "GET"));
    let options = peer.ask("OPTIONS", "/v1/status/leader", "").await;
    assert_eq!((options.said(), options.header("allow")), ((200, ""), "GET"));
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/status", "/v1/status/nothing"] {
        assert_eq!(peer.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so_and_why() {
    let peer = Peer::start().await;
    for path in ["session/create", "txn", "query", "snapshot", "connect/ca/roots", "operator/raft/configuration", "peering/token"] {
        let refused = peer.put(&format!("/v1/{path}"), "{}").await;
        assert!(refused.status == 501 && refused.text.starts_with("not offered here: "), "{path}: {refused:?}");
    }
    assert_eq!(peer.get("/v1/acl/tokens").await.said(), (401, "ACL support disabled"));
    assert_eq!(peer.put("/v1/agent/token/default", "{}").await.said(), (401, "ACL support disabled"));
}

#[tokio::test]
async fn the_native_api_and_its_door_stand_beside() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/api/v1/services").await.status, 200);
    assert_eq!(peer.get("/api/v1/nothing").await.header("content-type"), "application/problem+json");
    let foreign = peer.http.put(format!("{}/v1/agent/leave", peer.url)).header("origin", "http://evil.example").send().await.unwrap();
    assert_eq!(foreign.status().as_u16(), 403);
}
