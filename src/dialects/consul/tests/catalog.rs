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
    let areas = peer.get("/v1/coordinate/datacenters").await.json();
    assert_eq!(areas.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&areas[0]["Datacenter"], &areas[0]["AreaID"], &areas[0]["Coordinates"][0]["Coord"]["Vec"][7]),
        (&json!("dc1"), &json!("wan"), &json!(0.0))
    );
}

#[tokio::test]
async fn nodes_are_listed_with_what_is_on_them() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1, "status": "warning", "scope": "agent"})).await;
    peer.native("db", "1", json!({"port": 2})).await;
    let nodes = peer.get("/v1/catalog/nodes").await;
    let node = nodes.json()[0].clone();
    assert_eq!((nodes.json().as_array().unwrap().len(), &node["Node"], &node["Datacenter"]), (1, &json!("n1"), &json!("dc1")));
    assert_eq!(node["Meta"]["consul-network-segment"], "");
    assert_eq!(peer.get("/v1/catalog/nodes?filter=Node==n2").await.json(), json!([]));
    let on_it = peer.get("/v1/catalog/node/n1").await.json();
    assert_eq!(on_it["Node"]["ID"], node["ID"]);
    let services = on_it["Services"].as_object().unwrap();
    let shown: Vec<(&str, &Value)> = services.iter().map(|(id, service)| (id.as_str(), &service["Service"])).collect();
    assert_eq!(shown, [("1", &json!("db")), ("consul", &json!("consul")), ("web:1", &json!("web"))], "one id of two services");
    let listed = peer.get("/v1/catalog/node-services/n1?filter=Port==2").await.json();
    assert_eq!(listed["Services"].as_array().unwrap().len(), 1);
    let none = peer.get("/v1/catalog/node/none").await;
    assert_eq!((none.json(), none.index() > 0), (json!(null), true));
    assert_eq!(peer.get("/v1/catalog/node/").await.said(), (400, "Missing node name"));
    let checks = peer.get("/v1/health/node/n1").await.json();
    let ids: Vec<&Value> = checks.as_array().unwrap().iter().map(|check| &check["CheckID"]).collect();
    assert_eq!(ids, ["serfHealth", "service:1"]);
    assert_eq!(peer.get("/v1/health/node/none").await.json(), json!([]));
    let any = peer.get("/v1/health/state/passing").await.json();
    assert_eq!((&any[0]["CheckID"], any.as_array().unwrap().len()), (&json!("serfHealth"), 1));
}

#[tokio::test]
async fn every_agent_that_lives_is_an_instance_of_consuls_own_service() {
    let one = Peer::start().await;
    let _two = one.beside("n2").await;
    let answer = one.until("/v1/health/service/consul?passing", |answer| answer.json().as_array().unwrap().len() == 2).await;
    let entries = answer.json();
    assert_eq!((&entries[0]["Node"]["Node"], &entries[1]["Node"]["Node"]), (&json!("n1"), &json!("n2")));
    assert_eq!((&entries[0]["Service"]["Port"], &entries[0]["Checks"][0]["CheckID"]), (&json!(8300), &json!("serfHealth")));
    assert_eq!(one.get("/v1/catalog/service/consul").await.json()[1]["ServiceName"], "consul");
}

#[tokio::test]
async fn a_wait_for_one_node_lasts_while_others_change() {
    let peer = Peer::start().await;
    peer.write("/v1/agent/service/register", json!({"Name": "web"})).await;
    let external = json!({"Node": "ext", "Address": "10.0.0.9", "Service": {"Service": "far"}});
    assert_eq!(peer.put("/v1/catalog/register", external).await.text, "true");
    for path in ["/v1/catalog/node/ext", "/v1/catalog/node-services/ext", "/v1/health/node/ext"] {
        let known = peer.get(path).await.index();
        peer.write("/v1/agent/service/register", json!({"Name": "web", "Tags": [path]})).await;
        assert_eq!(peer.get(&format!("{path}?index={known}&wait=100ms")).await.index(), known, "{path}");
        let (own, waited) = (path.replace("ext", "n1"), json!({"Name": "web", "Tags": ["later", path]}));
        let known = peer.get(&own).await.index();
        let waiting = format!("{own}?index={known}&wait=10s");
        let (answer, ()) = tokio::join!(peer.get(&waiting), peer.write("/v1/agent/service/register", waited));
        assert!(answer.index() > known, "{own}");
    }
}
