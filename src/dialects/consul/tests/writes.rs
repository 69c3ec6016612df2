//! Registrations, checks and maintenance at an agent, as the native API shows what became of them.

use serde_json::json;

use super::*;

impl Peer {
    /// The instances of a service as the native API shows them, with everything.
    async fn shown(&self, service: &str) -> Vec<Value> {
        let list = self.get(&format!("/api/v1/services/{service}?health=any&ext=true")).await.json();
        list["instances"].as_array().unwrap().clone()
    }

    async fn native_one(&self, service: &str, id: &str) -> Value {
        self.get(&format!("/api/v1/services/{service}/instances/{id}")).await.json()
    }

    /// Id and state of each check of an instance.
    async fn checks(&self, service: &str, id: &str) -> Vec<(String, String)> {
        let one = self.native_one(service, id).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        one["checks"].as_array().unwrap().iter().map(|check| (text(&check["id"]), text(&check["state"]))).collect()
    }
}

impl Peer {
    /// Id and state of each check of a service, as Consul's clients see them.
    async fn states(&self, service: &str) -> Vec<(String, String)> {
        let checks = self.get(&format!("/v1/health/checks/{service}")).await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        checks.as_array().unwrap().iter().map(|check| (text(&check["CheckID"]), text(&check["Status"]))).collect()
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn a_registration_is_read_natively_at_once() {
    let peer = Peer::start().await;
    let body = json!({"ID": "web-1", "Name": "web", "Tags": ["v-789c33d433d133020002dc00f4", "prod"], "Address": "10.0.0.9", "Port": 80,
        "Meta": {"env": "prod"}, "Weights": {"Passing": 3, "Warning": 1}, "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 8080}},
        "EnableTagOverride": true, "Connect": {"Native": true}});
    peer.write("/v1/agent/service/register", body).await;
    let one = &peer.shown("web").await[0];
    assert_eq!((&one["id"], &one["scope"], &one["source"], &one["port"]), (&json!("web-1"), &json!("agent"), &json!("consul"), &json!(80)));
    assert_eq!(one["metadata"], json!({"env": "prod", "version": "1.4.2"}), "what Go Micro's tags say is seen by others");
    assert_eq!(one["tags"], json!(["v-789c33d433d133020002dc00f4", "prod"]), "and the tags stay as they are");
    assert_eq!((&one["weight"], &one["addresses"]["wan"]["port"]), (&json!(3), &json!(8080)));
    assert_eq!(one["ext"]["consul"], json!({"EnableTagOverride": true, "Connect": {"Native": true}, "Decoded": ["version"]}));
}

#[tokio::test]
async fn an_id_is_unique_at_an_agent_whatever_the_service() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"ID": "one", "Name": "old"})).await;
    peer.write("/v1/agent/service/register", json!({"ID": "one", "Name": "new"})).await;
    assert!(peer.shown("old").await.is_empty());
    assert_eq!(peer.shown("new").await.len(), 1);
    peer.write("/v1/agent/service/deregister/one", "").await;
    assert!(peer.shown("new").await.is_empty());
    let unknown = peer.put("/v1/agent/service/deregister/one", "").await;
    assert_eq!(unknown.said(), (404, "Unknown service ID \"one\". Ensure that the service ID is passed, not the service name."));
}

#[tokio::test]
async fn what_another_dialect_registered_here_is_adopted() {
    let peer = Peer::start().await;
    assert_eq!(peer.put("/api/v1/services/web/instances/w1", json!({"port": 1})).await.status, 201);
    peer.write("/v1/agent/service/register", json!({"ID": "w1", "Name": "web", "Port": 2})).await;
    let all = peer.shown("web").await;
    assert_eq!((all.len(), &all[0]["port"], &all[0]["scope"]), (1, &json!(2), &json!("datacenter")));
    peer.write("/v1/agent/service/deregister/w1", "").await;
    assert!(peer.shown("web").await.is_empty());
}

#[tokio::test]
async fn checks_have_ids_by_rule_and_stay_unless_they_are_replaced() {
    let peer = Peer::start().await;
    let single = json!({"Name": "web", "Check": {"TTL": "30s"}});
    peer.write("/v1/agent/service/register", &single).await;
    assert_eq!(peer.checks("web", "web").await, pairs(&[("service:web", "critical")]));
    let several = json!({"Name": "db", "Checks": [{"TTL": "30s"}, {"CheckID": "own", "TTL": "1m", "Status": "passing"}, {"TTL": "30s"}]});
    peer.write("/v1/agent/service/register", several).await;
    let expected = pairs(&[("service:db:1", "critical"), ("own", "passing"), ("service:db:3", "critical")]);
    assert_eq!(peer.checks("db", "db").await, expected);
    peer.write("/v1/agent/check/register", json!({"ID": "extra", "Name": "e", "ServiceID": "web", "TTL": "1m", "Status": "passing"})).await;
    peer.write("/v1/agent/check/pass/service:web?note=fine", "").await;
    peer.write("/v1/agent/service/register", &single).await;
    let both = pairs(&[("service:web", "passing"), ("extra", "passing")]);
    assert_eq!(peer.checks("web", "web").await, both, "checks keep what they found, and those not named stay");
    peer.write("/v1/agent/service/register?replace-existing-checks", &single).await;
    assert_eq!(peer.checks("web", "web").await, pairs(&[("service:web", "passing")]));
}

#[tokio::test]
async fn a_client_renews_and_judges_its_ttl_checks() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"ID": "a/b:1", "Name": "web", "Check": {"TTL": "30s"}})).await;
    let state = async |peer: &Peer| peer.shown("web").await[0]["health"].as_str().unwrap().to_owned();
    assert_eq!(state(&peer).await, "critical");
    for (path, seen) in [
        ("pass/service:a/b:1", "passing"),
        ("warn/service%3Aa%2Fb%3A1?note=slow", "warning"),
        ("fail/service:a/b:1", "critical"),
        ("pass/service:a/b:1?note=", "passing"),
    ] {
        peer.write(&format!("/v1/agent/check/{path}"), "").await;
        assert_eq!(state(&peer).await, seen, "{path}");
    }
    peer.write("/v1/agent/check/update/service:a/b:1", json!({"Status": "warning", "Output": "hot"})).await;
    assert_eq!(state(&peer).await, "warning");
    let wrong = peer.put("/v1/agent/check/update/service:a/b:1", json!({"Status": "well"})).await;
    assert_eq!(wrong.said(), (400, "Invalid check status: 'well'"));
    for path in ["pass/nothing", "warn/nothing", "fail/nothing", "deregister/nothing"] {
        let unknown = peer.put(&format!("/v1/agent/check/{path}"), "").await;
        let text = "Unknown check ID \"nothing\". Ensure that the check ID is passed, not the check name.";
        assert_eq!(unknown.said(), (404, text), "{path}: clients register again");
    }
}

#[tokio::test]
async fn a_silent_ttl_is_critical_in_time() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"Name": "web", "Check": {"TTL": "100ms", "Status": "passing"}})).await;
    let (is, key) = (|view: &crate::view::View| view.service("default", "web").unwrap().counts.available, "web");
    let mut watch = peer.agent.handle().watch_all();
    let expired = async {
        while is(&peer.agent.handle().view()) != 0 {
            watch.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), expired).await.unwrap_or_else(|_| panic!("{key} is still there"));
    peer.write("/v1/agent/check/pass/service:web", "").await;
    assert_eq!(is(&peer.agent.handle().view()), 1);
}

#[tokio::test]
async fn a_check_is_registered_and_taken_away_by_itself() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"Name": "web"})).await;
    peer.write("/v1/agent/service/register", json!({"Name": "db"})).await;
    let missing = peer.put("/v1/agent/check/register", json!({"Name": "c", "ServiceID": "none", "TTL": "1m"})).await;
    assert_eq!(missing.said(), (404, "ServiceID \"none\" does not exist"));
    peer.write("/v1/agent/check/register", json!({"name": "c", "serviceid": "web", "ttl": "1m"})).await;
    assert_eq!(peer.checks("web", "web").await, pairs(&[("c", "critical")]));
    // The id moves with its check.
    peer.write("/v1/agent/check/register", json!({"Name": "c", "ServiceID": "db", "TTL": "1m"})).await;
    assert_eq!((peer.checks("web", "web").await, peer.checks("db", "db").await), (vec![], pairs(&[("c", "critical")])));
    peer.write("/v1/agent/check/deregister/c", "").await;
    assert!(peer.checks("db", "db").await.is_empty());
    peer.write("/v1/agent/check/register", json!({"Name": "live", "ServiceID": "db", "TCP": "127.0.0.1:1", "Interval": "1h"})).await;
    let judged = peer.put("/v1/agent/check/pass/live", "").await;
    assert_eq!(judged.said(), (500, "CheckID \"live\" does not have associated TTL"));
}

#[tokio::test]
async fn maintenance_is_an_operators_word() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"Name": "web"})).await;
    for (path, text) in [
        ("service/maintenance/web", "Missing value for enable"),
        ("service/maintenance/web?enable=perhaps", "Invalid value for enable: \"perhaps\""),
        ("maintenance", "Missing value for enable"),
        ("service/maintenance/?enable=true", "Missing service ID"),
    ] {
        assert_eq!(peer.put(&format!("/v1/agent/{path}"), "").await.said(), (400, text));
    }
    assert_eq!(peer.put("/v1/agent/service/maintenance/none?enable=true", "").await.status, 404);
    for path in ["service/maintenance/web", "maintenance"] {
        peer.write(&format!("/v1/agent/{path}?enable=True&reason=broken"), "").await;
        let one = peer.native_one("web", "web").await;
        assert_eq!((&one["enabled"], &one["available"]), (&json!(false), &json!(false)), "{path}");
        peer.write(&format!("/v1/agent/{path}?enable=false"), "").await;
        assert_eq!(peer.native_one("web", "web").await["available"], json!(true), "{path}");
    }
}

#[tokio::test]
async fn bodies_that_mean_nothing_are_refused_in_consuls_words() {
    let peer = Peer::start().await;
    for (body, text) in [
        (json!({}), "Missing service name"),
        (json!({"Name": "w", "Address": "0.0.0.0"}), "Invalid service address"),
        (json!({"Name": "w", "Address": "::"}), "Invalid service address"),
        (json!({"Name": "w", "Check": {"Interval": "1s", "TTL": "1s"}}), "Invalid check: Interval and TTL cannot both be specified"),
        (json!({"Name": "w", "Check": {"Name": "c"}}), "Invalid check: TTL must be > 0 for TTL checks"),
        (
            json!({"Name": "w", "Check": {"Args": ["sh"], "Interval": "1s"}}),
            "Invalid check: Scripts are disabled on this agent; its setting checks.scripts allows them",
        ),
        (json!({"Name": "w", "Check": {"TTL": "1s", "Status": "fine"}}), "Status for checks must 'passing', 'warning', 'critical'"),
        (json!({"Name": "w", "Check": {"TTL": "x"}}), "Request decode failed: time: invalid duration \"x\""),
    ] {
        assert_eq!(peer.put("/v1/agent/service/register", body).await.said(), (400, text));
    }
    assert_eq!(peer.put("/v1/agent/check/register", json!({"TTL": "1s"})).await.said(), (400, "Missing check name"));
    assert_eq!(peer.put("/v1/agent/service/register", "{").await.status, 400);
    let large = peer.put("/v1/agent/service/register", " ".repeat(600 * 1024)).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn a_check_on_another_dialects_instance_goes_by_the_id_its_client_gave_it() {
    let peer = Peer::start().await;
    let live = json!({"port": 80, "checks": [{"id": "live", "kind": "ttl", "ttl": "1h", "status": "passing"}]});
    peer.native("web", "web-1", live).await;
    peer.write("/v1/agent/check/register", json!({"ID": "mine", "Name": "m", "ServiceID": "web-1", "TTL": "1h"})).await;
    assert_eq!(peer.states("web").await, pairs(&[("mine", "critical"), ("service:web-1:live", "passing")]));
    peer.write("/v1/agent/check/pass/mine", "").await;
    peer.write("/v1/agent/check/warn/service:web-1:live", "").await;
    assert_eq!(peer.states("web").await, pairs(&[("mine", "passing"), ("service:web-1:live", "warning")]));
    // Still, after the instance was changed by those whose it is.
    let patched = peer.ask("PATCH", "/api/v1/services/web/instances/web-1", r#"{"tags":["a"]}"#).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    peer.write("/v1/agent/check/pass/mine", "").await;
    peer.write("/v1/agent/check/deregister/mine", "").await;
    assert_eq!(peer.states("web").await, pairs(&[("service:web-1:live", "warning")]));
    assert_eq!(peer.put("/v1/agent/check/pass/mine", "").await.status, 404);
}

#[tokio::test]
async fn an_alias_names_a_service_by_its_id() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"ID": "db-1", "Name": "db", "Check": {"TTL": "1h", "Status": "passing"}})).await;
    peer.write("/v1/agent/service/register", json!({"Name": "web", "Check": {"CheckID": "as-db", "AliasService": "db-1"}})).await;
    for (word, status) in [("pass", "passing"), ("fail", "critical"), ("pass", "passing")] {
        peer.write(&format!("/v1/agent/check/{word}/service:db-1"), "").await;
        peer.until("/v1/health/checks/web?", |answer| answer.json()[0]["Status"] == status).await;
    }
}
