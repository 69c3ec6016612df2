//! What was registered natively, read as Consul's clients read it.

use serde_json::json;

use super::*;

impl Peer {
    /// Registers through the native API.
    pub async fn native(&self, service: &str, id: &str, body: Value) {
        let answer = self.put(&format!("/api/v1/services/{service}/instances/{id}"), body).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Follows a read by its index until its answer is as wanted.
    pub async fn until(&self, path: &str, is_met: impl Fn(&Answer) -> bool) -> Answer {
        let followed = async {
            let mut answer = self.get(path).await;
            while !is_met(&answer) {
                answer = self.get(&format!("{path}&index={}&wait=5s", answer.index())).await;
            }
            answer
        };
        tokio::time::timeout(Duration::from_secs(10), followed).await.expect("it comes soon")
    }
}

/// The service ids of health entries.
fn ids(answer: &Answer) -> Vec<String> {
    answer.json().as_array().unwrap().iter().map(|entry| entry["Service"]["ID"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_native_instance_is_read_in_consuls_shape() {
    let peer = Peer::start().await;
    let body = json!({"address": "10.0.0.1", "port": 80, "tags": ["a", "B"], "metadata": {"v": "1"}, "weight": 5, "zone": "z"});
    peer.native("web", "web-1", body).await;
    let answer = peer.get("/v1/health/service/web?passing=1").await;
    let mut entry = answer.json()[0].take();
    for place in ["/Node", "/Service", "/Checks/0"] {
        let part = entry.pointer_mut(place).unwrap().as_object_mut().unwrap();
        for index in ["CreateIndex", "ModifyIndex"] {
            let number = part.remove(index).unwrap().as_u64().unwrap();
            assert!(number >= 1 && number <= answer.index(), "{place}: {number} of {}", answer.index());
        }
    }
    let id = entry["Node"]["ID"].take();
    assert_eq!(id.as_str().unwrap().len(), 36);
    assert_eq!(
        entry["Service"],
        json!({
            "ID": "web-1", "Service": "web", "Tags": ["a", "B"], "Address": "10.0.0.1",
            "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 80}, "wan_ipv4": {"Address": "10.0.0.1", "Port": 80}},
            "Meta": {"v": "1"}, "Port": 80, "Weights": {"Passing": 5, "Warning": 5}, "EnableTagOverride": false,
            "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {}
        })
    );
    assert_eq!((&entry["Node"]["Node"], &entry["Node"]["Datacenter"]), (&json!("n1"), &json!("dc1")));
    assert_eq!(entry["Checks"][0]["CheckID"], "serfHealth");
    assert_eq!((answer.header("x-consul-knownleader"), answer.header("x-consul-lastcontact")), ("true", "0"));
    assert_eq!(answer.header("x-tidings-unverified"), "");
}

#[tokio::test]
async fn passing_and_tags_and_filters_choose() {
    let peer = Peer::start().await;
    peer.native("web", "b", json!({"port": 1, "tags": ["Blue", "v2"]})).await;
    peer.native("web", "a", json!({"port": 2, "tags": ["blue"], "status": "warning"})).await;
    peer.native("web", "c", json!({"port": 3, "status": "critical", "metadata": {"env": "test"}})).await;
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("?passing=false", vec!["a", "b", "c"]),
        ("?passing", vec!["b"]),
        ("?passing=true&tag=", vec!["b"]),
        ("?tag=BLUE", vec!["a", "b"]),
        ("?tag=blue&tag=V2", vec!["b"]),
        ("?tag=blue&tag=none", vec![]),
        ("?stale&cached&near=_agent", vec!["a", "b", "c"]),
        ("?near=nowhere&max_stale=1s", vec!["a", "b", "c"]),
        ("?filter=Service.Meta.env%20==%20test", vec!["c"]),
        ("?filter=Checks.Status%20==%20warning%20or%20v2%20in%20Service.Tags", vec!["a", "b"]),
        ("?filter=Service.Port%20==%202&passing", vec![]),
        ("?node-meta=os:none", vec![]),
        ("?node-meta=consul-network-segment:", vec!["a", "b", "c"]),
    ] {
        assert_eq!(ids(&peer.get(&format!("/v1/health/service/web{query}")).await), expected, "{query}");
        // The second answer comes out of what is kept encoded.
        assert_eq!(ids(&peer.get(&format!("/v1/health/service/web{query}")).await), expected, "{query}");
    }
}

#[tokio::test]
async fn what_means_nothing_is_refused_in_consuls_words() {
    let peer = Peer::start().await;
    let filter = "Failed to create boolean expression evaluator: Selector \"Nope\" is not valid";
    for (path, status, text) in [
        ("service/", 400, "Missing service name"),
        ("state/", 400, "Missing check state"),
        ("node/", 400, "Missing node name"),
        ("service/web?passing=maybe", 400, "Invalid value for ?passing"),
        ("service/web?index=x", 400, "Invalid index"),
        ("service/web?wait=x&index=1", 400, "Invalid wait time"),
        ("service/web?dc=dc2", 500, "No path to datacenter"),
        ("service/web?stale&consistent", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ("service/web?filter=Nope==1", 400, filter),
        ("state/any?filter=Nope==1", 400, filter),
    ] {
        assert_eq!(peer.get(&format!("/v1/health/{path}")).await.said(), (status, text), "{path}");
    }
    let nothing = peer.get("/v1/health/service/none").await;
    assert_eq!((nothing.json(), nothing.index() > 1), (json!([]), true));
    assert_eq!(peer.get("/v1/health/service/%01").await.json(), json!([]), "what can be no name is not found");
}

#[tokio::test]
async fn names_are_found_in_any_case() {
    let peer = Peer::start().await;
    peer.native("Web", "1", json!({"port": 1})).await;
    peer.native("db", "2", json!({"port": 1})).await;
    assert_eq!(ids(&peer.get("/v1/health/service/WEB").await), ["1"]);
    assert_eq!(ids(&peer.get("/v1/health/service/DB").await), ["2"]);
    peer.native("web", "3", json!({"port": 1})).await;
    assert_eq!(ids(&peer.get("/v1/health/service/web").await), ["3"], "the very name comes first");
    assert_eq!(ids(&peer.get("/v1/health/service/Web").await), ["1"]);
}

#[tokio::test]
async fn a_blocked_query_wakes_for_its_service_alone() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1})).await;
    let before = peer.get("/v1/health/service/web").await.index();
    let path = format!("/v1/health/service/web?index={before}&wait=10s");
    let mut blocked = std::pin::pin!(peer.get(&path));
    let pause = Duration::from_millis(100);
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "nothing changed");
    peer.native("db", "1", json!({"port": 1})).await;
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "another service's change answered it");
    peer.native("web", "2", json!({"port": 2})).await;
    let answer = blocked.await;
    assert!(answer.index() > before);
    assert_eq!(ids(&answer), ["1", "2"]);
    let again = peer.get(&format!("/v1/health/service/web?index={}&wait=100ms", answer.index())).await;
    assert_eq!(again.index(), answer.index(), "nothing happened in time");
    let foreign = peer.get(&format!("/v1/health/service/web?index={}&wait=10s", u64::MAX >> 11)).await;
    assert_eq!(foreign.index(), answer.index(), "an index of another agent is answered at once");
}

#[tokio::test]
async fn checks_are_listed_by_service_and_state() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1, "tags": ["t"], "status": "warning"})).await;
    peer.native("db", "2", json!({"port": 1, "ttl": "30s"})).await;
    let checks = |answer: Answer| -> Vec<String> {
        let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
        answer.json().as_array().unwrap().iter().map(|check| text(check, "CheckID") + " " + &text(check, "Status")).collect()
    };
    assert_eq!(checks(peer.get("/v1/health/checks/web").await), ["service:1 warning"]);
    assert_eq!(peer.get("/v1/health/checks/web").await.json()[0]["ServiceTags"], json!(["t"]));
    let of_instances = |all: Vec<String>| -> Vec<String> { all.into_iter().filter(|check| check.starts_with("service:")).collect() };
    let any = peer.get("/v1/health/state/any").await;
    let index = any.index();
    assert_eq!(of_instances(checks(any)), ["service:1 warning", "service:2 passing"]);
    assert_eq!(of_instances(checks(peer.get("/v1/health/state/warning").await)), ["service:1 warning"]);
    assert_eq!(checks(peer.get("/v1/health/state/nonsense").await), [""; 0]);
    assert_eq!(checks(peer.get("/v1/health/state/any?filter=ServiceName==db").await), ["service:2 passing"]);
    // What has no check changes no check.
    peer.native("plain", "3", json!({"port": 1})).await;
    assert_eq!(peer.get("/v1/health/state/any").await.index(), index);
    peer.native("web", "1", json!({"port": 1, "tags": ["t"], "status": "critical"})).await;
    assert!(peer.get("/v1/health/state/any").await.index() > index);
}

#[tokio::test]
async fn an_override_is_maintenance() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1})).await;
    let path = "/api/v1/services/web/instances/1/override";
    assert_eq!(peer.put(path, json!({"enabled": false, "reason": "why"})).await.status, 201);
    let check = peer.get("/v1/health/checks/web").await.json()[0].take();
    let said = |key: &str| check[key].as_str().unwrap().to_owned();
    assert_eq!(
        [said("CheckID"), said("Name"), said("Status"), said("Notes"), said("Type")],
        ["_service_maintenance:1", "Service Maintenance Mode", "critical", "why", "maintenance"]
    );
    assert_eq!(ids(&peer.get("/v1/health/service/web?passing").await), [""; 0]);
    assert_eq!(peer.ask("DELETE", path, "").await.status, 200);
    assert_eq!(ids(&peer.get("/v1/health/service/web?passing").await), ["1"]);
}

#[tokio::test]
async fn other_agents_answer_alike() {
    let one = Peer::start().await;
    let two = one.beside("n2").await;
    one.native("web", "1", json!({"port": 1})).await;
    two.native("web", "0", json!({"port": 2})).await;
    for peer in [&one, &two] {
        let answer = peer.until("/v1/health/service/web?passing", |answer| ids(answer).len() == 2).await;
        // By node, then id.
        assert_eq!(ids(&answer), ["1", "0"]);
    }
}

#[tokio::test]
async fn all_checks_are_kept_encoded_for_as_long_as_none_changes() {
    let peer = Peer::start().await;
    let mut seen = 0;
    for (n, status) in ["passing", "warning", "critical", "passing"].into_iter().enumerate() {
        let web = json!({"Name": "web", "Tags": [n.to_string()], "Check": {"TTL": "1h"}});
        peer.write("/v1/agent/service/register", web).await;
        peer.write("/v1/agent/check/update/service:web", json!({"Status": status})).await;
        for _ in 0..2 {
            let (kept, anew) = (peer.get("/v1/health/state/any").await, peer.get("/v1/health/state/any?pretty").await);
            assert_eq!(kept.json(), anew.json(), "{n}");
            assert_eq!(kept.index(), anew.index());
            assert!(kept.text.contains(&format!(r#""Status":"{status}""#)), "{}", kept.text);
        }
        let index = peer.get("/v1/health/state/any").await.index();
        assert!(index > seen, "{index} after {seen}");
        seen = index;
        // An instance without checks changes no check.
        peer.write("/v1/agent/service/register", json!({"Name": "bare", "Tags": [n.to_string()]})).await;
        assert_eq!(peer.get("/v1/health/state/any").await.index(), seen);
    }
}
