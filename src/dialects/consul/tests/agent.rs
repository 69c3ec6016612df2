//! What an agent tells of itself, of what is registered with it, and of how that is.

use serde_json::json;

use super::*;

fn keys(of: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = of.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn what_is_registered_is_read_back_as_it_was_sent() {
    let peer = Peer::start().await;
    let body = json!({"ID": "web-1", "Name": "web", "Tags": ["v-789c33d433d133020002dc00f4"], "Address": "10.0.0.9", "Port": 80,
        "Meta": {"env": "prod"}, "Weights": {"Passing": 3, "Warning": 2}, "EnableTagOverride": true, "Check": {"TTL": "1m", "Notes": "n"}});
    peer.write("/v1/agent/service/register", body).await;
    peer.write("/v1/agent/service/register", json!({"Name": "bare"})).await;
    let services = peer.get("/v1/agent/services").await.json();
    assert_eq!(
        services,
        json!({
            "bare": {"ID": "bare", "Service": "bare", "Tags": [], "Meta": {}, "Port": 0, "Address": "", "Weights": {"Passing": 1, "Warning": 1},
                "EnableTagOverride": false},
            "web-1": {"ID": "web-1", "Service": "web", "Tags": ["v-789c33d433d133020002dc00f4"], "Meta": {"env": "prod"}, "Port": 80,
                "Address": "10.0.0.9", "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.9", "Port": 80},
                "wan_ipv4": {"Address": "10.0.0.9", "Port": 80}}, "Weights": {"Passing": 3, "Warning": 2}, "EnableTagOverride": true},
        }),
        "and neither Consul's own service nor what tags say besides"
    );
    let checks = peer.get("/v1/agent/checks").await.json();
    assert_eq!(keys(&checks), ["service:web-1"], "that the agent lives is not for itself to check");
    let check = &checks["service:web-1"];
    assert_eq!(
        (&check["Name"], &check["Status"], &check["Notes"], &check["Type"], &check["ServiceID"]),
        (&json!("Service 'web' check"), &json!("critical"), &json!("n"), &json!("ttl"), &json!("web-1"))
    );
    let filtered = peer.get("/v1/agent/services?filter=Service%20%3D%3D%20%22bare%22").await.json();
    assert_eq!(keys(&filtered), ["bare"]);
    assert_eq!(keys(&peer.get("/v1/agent/checks?filter=Status==passing").await.json()), Vec::<&str>::new());
    assert_eq!(peer.get("/v1/agent/services?filter=nonsense").await.status, 400);
}

#[tokio::test]
async fn one_service_is_waited_on_by_its_hash() {
    let peer = Peer::start().await;
    let unknown = peer.get("/v1/agent/service/web").await;
    assert_eq!(unknown.said(), (404, "unknown service ID: web"));
    peer.write("/v1/agent/service/register", json!({"Name": "web", "Port": 1})).await;
    let first = peer.get("/v1/agent/service/web").await;
    let hash = first.header("x-consul-contenthash").to_owned();
    assert_eq!(first.json()["ContentHash"], json!(hash));
    assert_eq!(
        peer.get("/v1/agent/service/web?hash=other&wait=1m").await.header("x-consul-contenthash"),
        hash,
        "another is answered at once"
    );
    let path = format!("/v1/agent/service/web?hash={hash}&wait=10s");
    let (changed, ()) = tokio::join!(peer.get(&path), async {
        // A flip of health is no change of what is registered.
        peer.write("/v1/agent/service/maintenance/web?enable=true", "").await;
        peer.write("/v1/agent/service/register", json!({"Name": "web", "Port": 2})).await;
    });
    assert_eq!(changed.json()["Port"], json!(2));
    let path = format!("/v1/agent/service/web?hash={}&wait=10s", changed.header("x-consul-contenthash"));
    let (gone, ()) = tokio::join!(peer.get(&path), peer.write("/v1/agent/service/deregister/web", ""));
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn how_a_service_is_stands_in_the_status() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"ID": "w1", "Name": "web", "Check": {"TTL": "1m"}})).await;
    let ask = async |of: &str| {
        let text = peer.get(&format!("/v1/agent/health/service/{of}?format=text")).await;
        let json = peer.get(&format!("/v1/agent/health/service/{of}")).await;
        assert_eq!(text.status, json.status);
        (text.status, text.text, serde_json::from_str::<Value>(&json.text).unwrap())
    };
    for (word, status, text) in [("pass", 200, "passing"), ("warn", 429, "warning"), ("fail", 503, "critical")] {
        peer.write(&format!("/v1/agent/check/{word}/service:w1"), "").await;
        for of in ["id/w1", "name/web"] {
            let (found, said, body) = ask(of).await;
            assert_eq!((found, said.as_str()), (status, text));
            let one = if of == "id/w1" { &body } else { &body[0] };
            assert_eq!(
                (&one["AggregatedStatus"], &one["Service"]["ID"], one["Checks"].as_array().unwrap().len()),
                (&json!(text), &json!("w1"), 1)
            );
        }
    }
    peer.write("/v1/agent/service/maintenance/w1?enable=true", "").await;
    assert_eq!((ask("id/w1").await.0, ask("id/w1").await.1.as_str()), (503, "maintenance"));
    let (status, text, body) = ask("id/none").await;
    assert_eq!((status, text.as_str()), (404, "ServiceId none not found"));
    assert_eq!(body, json!({"AggregatedStatus": "critical", "Service": null, "Checks": null}));
    assert_eq!((ask("name/none").await.0, ask("name/none").await.2), (404, json!([])));
}

#[tokio::test]
async fn an_agent_names_itself_in_seven_parts() {
    let peer = Peer::start().await;
    let itself = peer.get("/v1/agent/self").await.json();
    assert_eq!(keys(&itself), ["Config", "Coord", "DebugConfig", "Member", "Meta", "Stats", "xDS"]);
    assert_eq!((&itself["Config"]["Datacenter"], &itself["Config"]["NodeName"]), (&json!("dc1"), &json!("n1")));
    assert_eq!(itself["Stats"]["consul"]["leader_addr"], peer.get("/v1/status/leader").await.json());
    let members = peer.get("/v1/agent/members").await.json();
    assert_eq!(members, json!([itself["Member"]]), "it is one of the members, as they show it");
    assert_eq!((&members[0]["Tags"]["role"], &members[0]["Status"]), (&json!("consul"), &json!(1)));
    assert_eq!(members[0]["Tags"]["id"], itself["Config"]["NodeID"]);
    assert_eq!(peer.get("/v1/agent/members?wan=1").await.json()[0]["Name"], json!("n1.dc1"));
    assert!(peer.get("/v1/agent/host").await.json()["CollectionTime"].as_u64().unwrap() > 0);
    assert!(peer.get("/v1/agent/version").await.json()["HumanVersion"].is_string());
    let metrics = peer.get("/v1/agent/metrics").await.json();
    assert_eq!(keys(&metrics), ["Counters", "Gauges", "Points", "Samples", "Timestamp"]);
    assert!(!metrics["Counters"].as_array().unwrap().is_empty() && !metrics["Gauges"].as_array().unwrap().is_empty());
    let text = peer.get("/v1/agent/metrics?format=prometheus").await;
    assert!(text.text.contains("tidings_api_requests_total"), "{}", text.text);
}

#[tokio::test]
async fn agents_join_and_leave_by_consuls_words() {
    let (peer, other) = (Peer::start().await, Peer::over(crate::agent::testing::agent("n2").await));
    peer.write(&format!("/v1/agent/join/{}", other.agent.handle().facts().advertise), "").await;
    assert_eq!(peer.get("/v1/agent/members").await.json().as_array().unwrap().len(), 2);
    assert_eq!(peer.put("/v1/agent/join/127.0.0.1:1?wan=1", "").await.status, 501);
    assert_eq!(peer.put("/v1/agent/force-leave/none", "").await.said(), (500, "agent: No node found with name 'none'"));
    other.write("/v1/agent/leave", "").await;
}

#[tokio::test]
async fn checks_of_the_node_are_everybodys() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"Name": "web"})).await;
    peer.write("/v1/agent/check/register", json!({"Name": "disk", "TTL": "1m", "Status": "passing"})).await;
    assert_eq!(peer.get("/v1/agent/health/service/id/web").await.status, 200);
    peer.write("/v1/agent/check/fail/disk?note=full", "").await;
    assert_eq!(peer.get("/v1/agent/checks").await.json()["disk"]["Output"], json!("full"));
    assert_eq!(peer.get("/v1/agent/health/service/id/web").await.status, 503);
    assert_eq!(peer.get("/v1/health/service/web?passing").await.json(), json!([]));
    // The id moves to a service, and the node is well again.
    peer.write("/v1/agent/check/register", json!({"Name": "disk", "TTL": "1m", "Status": "passing", "ServiceID": "web"})).await;
    assert_eq!(peer.get("/v1/health/service/web?passing").await.json().as_array().unwrap().len(), 1);
    peer.write("/v1/agent/check/deregister/disk", "").await;
    assert_eq!(peer.get("/v1/agent/checks").await.json(), json!({}));
}
