//! Nodes without an agent, by `catalog/register`.

use serde_json::json;

use super::*;

impl Peer {
    async fn catalog(&self, verb: &str, body: Value) {
        assert_eq!(self.put(&format!("/v1/catalog/{verb}"), body).await.json(), json!(true));
    }

    async fn health(&self, service: &str) -> Value {
        self.get(&format!("/v1/health/service/{service}")).await.json()
    }
}

#[tokio::test]
async fn an_external_node_has_services_and_checks_by_anybodys_word() {
    let peer = Peer::start().await;
    let other = peer.beside("n2").await;
    let body = json!({"Node": "mainframe", "Address": "192.0.2.1", "NodeMeta": {"rack": "7"}, "Service": {"Service": "db", "Port": 5432, "Tags": ["main"]},
        "Check": {"Name": "alive", "Status": "passing"}, "Checks": [{"CheckID": "dbc", "Name": "db", "ServiceID": "db", "Status": "warning", "Output": "slow"}]});
    peer.catalog("register", body).await;
    let found = &peer.health("db").await[0];
    assert_eq!(
        (&found["Node"]["Node"], &found["Node"]["Address"], &found["Node"]["Meta"]["rack"]),
        (&json!("mainframe"), &json!("192.0.2.1"), &json!("7"))
    );
    assert_eq!((&found["Service"]["ID"], &found["Service"]["Tags"]), (&json!("db"), &json!(["main"])));
    let checks: Vec<(&str, &str)> = found["Checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["CheckID"].as_str().unwrap(), check["Status"].as_str().unwrap()))
        .collect();
    assert_eq!(checks, [("alive", "passing"), ("dbc", "warning")]);
    // A later word, at another agent, and of the check alone.
    let mut found = other.get("/v1/health/service/db").await;
    while found.json() == json!([]) {
        found = other.get(&format!("/v1/health/service/db?index={}&wait=10s", found.index())).await;
    }
    let word = json!({"Node": "mainframe", "SkipNodeUpdate": true, "Check": {"CheckID": "dbc", "Name": "db", "ServiceID": "db", "Status": "critical"}});
    other.catalog("register", word).await;
    let critical = other.health("db").await;
    assert_eq!(critical[0]["Checks"][1]["Status"], json!("critical"));
    assert_eq!(critical[0]["Node"]["Address"], json!("192.0.2.1"));
}

#[tokio::test]
async fn ids_are_unique_on_a_node_and_go_with_it() {
    let peer = Peer::start().await;
    let on = |service: Value| json!({"Node": "m", "Address": "192.0.2.1", "Service": service});
    peer.catalog("register", on(json!({"ID": "one", "Service": "old"}))).await;
    peer.catalog("register", on(json!({"ID": "one", "Service": "new"}))).await;
    assert_eq!((peer.health("old").await, peer.health("new").await.as_array().unwrap().len()), (json!([]), 1));
    peer.catalog("deregister", json!({"Node": "m", "ServiceID": "one"})).await;
    assert_eq!(peer.health("new").await, json!([]));
    peer.catalog("register", json!({"Node": "m", "Address": "192.0.2.1", "Check": {"CheckID": "c", "Name": "c", "Status": "passing"}}))
        .await;
    assert_eq!(peer.get("/v1/health/node/m").await.json().as_array().unwrap().len(), 1);
    peer.catalog("deregister", json!({"Node": "m", "CheckID": "c"})).await;
    assert_eq!(peer.get("/v1/health/node/m").await.json(), json!([]));
    peer.catalog("deregister", json!({"Node": "m"})).await;
    assert_eq!(peer.get("/v1/catalog/node/m").await.json(), Value::Null);
    peer.catalog("deregister", json!({"Node": "m"})).await;
}

#[tokio::test]
async fn what_the_catalog_cannot_take_is_refused() {
    let peer = Peer::start().await;
    for (body, status, text) in [
        (json!({"Address": "1.1.1.1"}), 500, "Must provide node"),
        (json!({"Node": "m"}), 500, "Must provide address if SkipNodeUpdate is not set"),
        (json!({"Node": "m", "Address": "1.1.1.1", "Datacenter": "nowhere"}), 500, "No path to datacenter"),
        (json!({"Node": "m", "Address": "1.1.1.1", "Service": {"ID": "x"}}), 500, "Must provide service name with ID"),
        (json!({"Node": "n1", "Address": "1.1.1.1"}), 400, "node n1 is an agent's: register there"),
    ] {
        assert_eq!(peer.put("/v1/catalog/register", body).await.said(), (status, text));
    }
    assert_eq!(peer.put("/v1/catalog/deregister", json!({"Node": "n1"})).await.said(), (400, "node n1 is an agent's: deregister there"));
}
