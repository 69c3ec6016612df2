//! Registering, merging, conditions, batches.

use super::*;

#[tokio::test]
async fn what_is_registered_is_read_at_once_as_api_md_shows_it() {
    let (app, _) = Registry::start();
    let body =
        json!({"port": 8080, "tags": ["grpc"], "metadata": {"env": "prod"}, "addresses": {"wan": {"address": "203.0.113.9", "port": 1}}});
    let created = put(&app, "web", "web-1", body.clone()).await;
    assert_eq!(created.status, 201);
    let tag = created.header("etag").to_owned();
    let revision = created.revision();
    let created = created.json().await;
    assert_eq!((created["result"].as_str(), created["revision"].as_u64()), (Some("created"), Some(revision)));
    let list = get(&app, "/api/v1/services/web").await;
    assert_eq!(list.revision(), revision);
    let list = list.json().await;
    let mut one = list["instances"][0].clone();
    for (field, is_instant) in [("registered_at", true), ("changed_at", true), ("uid", false), ("node_id", false)] {
        let text = one.as_object_mut().unwrap().shift_remove(field).unwrap();
        let text = text.as_str().unwrap();
        assert!(if is_instant { text.len() == 24 && text.ends_with('Z') } else { text.len() == 32 }, "{field}: {text}");
    }
    assert_eq!(
        one,
        json!({
            "id": "web-1", "service": "web", "namespace": "default", "scope": "datacenter", "datacenter": "dc1", "age": "0s", "node": "n1",
            "zone": null, "address": "10.0.0.1", "port": 8080, "secure_port": null,
            "addresses": {"wan": {"address": "203.0.113.9", "port": 1}}, "tags": ["grpc"], "metadata": {"env": "prod"}, "weight": 1,
            "health": "passing", "enabled": true, "verified": true, "available": true, "revision": revision, "source": "native"
        })
    );
    let head: Vec<&str> = list.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(head, ["service", "namespace", "datacenter", "revision", "complete", "next", "instances"]);
    let again = put(&app, "web", "web-1", body).await;
    assert_eq!((again.status, again.header("etag")), (200, tag.as_str()));
    assert_eq!(again.json().await["result"], "unchanged");
    let detail = get(&app, "/api/v1/services/web/instances/web-1").await;
    assert_eq!(detail.header("etag"), tag);
    let detail = detail.json().await;
    assert_eq!(detail["why"][0], json!({"by": "agent", "id": "n1", "state": "alive", "output": ""}));
    assert_eq!((&detail["checks"], &detail["override"]), (&json!([]), &Value::Null));
    let gone = ask(&app, "DELETE", "/api/v1/services/web/instances/web-1", &[], Body::empty()).await.json().await;
    assert_eq!(gone["result"], "removed");
    let absent = ask(&app, "DELETE", "/api/v1/services/web/instances/web-1", &[], Body::empty()).await;
    assert_eq!((absent.status, absent.json().await["result"].as_str()), (200, Some("absent")));
    let empty = get(&app, "/api/v1/services/web").await;
    assert_eq!((empty.status, empty.revision()), (200, gone["revision"].as_u64().unwrap()));
    assert_eq!(get(&app, "/api/v1/services/web/instances/web-1").await.status, 404);
}

#[tokio::test]
async fn names_may_hold_what_a_path_may_not() {
    let (app, _) = Registry::start();
    assert_eq!(put(&app, "group@@a%2Fb%23c%3Ad%25", "1%2F2", json!({"port": 1})).await.status, 201);
    let list = get(&app, "/api/v1/services/group@@a%2Fb%23c%3Ad%25").await.json().await;
    assert_eq!((list["service"].as_str(), list["instances"][0]["id"].as_str()), (Some("group@@a/b#c:d%"), Some("1/2")));
    let long = "x".repeat(769);
    for name in ["%2E", "%2e%2e", "a%0Ab", "%ff", &long] {
        let refused = put(&app, name, "1", json!({"port": 1})).await;
        assert_eq!((refused.status, refused.json().await["type"].as_str()), (400, Some("tidings:bad-name")), "{name}");
    }
    for path in ["/api/v1/services//instances/1", "/api/v1/services/a/instances/"] {
        assert_eq!(get(&app, path).await.json().await["type"], "tidings:bad-name", "{path}");
    }
}

#[tokio::test]
async fn conditions_hold_or_nothing_is_written() {
    let (app, _) = Registry::start();
    let path = "/api/v1/services/web/instances/1";
    let body = || json!({"port": 1}).to_string();
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "*")], body()).await.status, 412);
    let created = ask(&app, "PUT", path, &[("if-none-match", "*")], body()).await;
    assert_eq!(created.status, 201);
    let tag = created.header("etag").to_owned();
    let refused = ask(&app, "PUT", path, &[("if-none-match", "*")], body()).await;
    assert_eq!((refused.status, refused.header("etag")), (412, tag.as_str()));
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "\"0000000000000000\"")], body()).await.status, 412);
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "\"other\"")], body()).await.status, 412);
    assert_eq!(ask(&app, "PUT", path, &[("if-match", "*")], json!({"port": 2}).to_string()).await.status, 200);
    let seen = get(&app, path).await.header("etag").to_owned();
    assert_ne!(seen, tag);
    assert_eq!(ask(&app, "GET", path, &[("if-none-match", &seen)], Body::empty()).await.status, 304);
    assert_eq!(ask(&app, "DELETE", path, &[("if-match", &tag)], Body::empty()).await.status, 412);
    assert_eq!(ask(&app, "DELETE", path, &[("if-match", &seen)], Body::empty()).await.status, 200);
    let list = get(&app, "/api/v1/services/web").await.header("etag").to_owned();
    assert_eq!(ask(&app, "GET", "/api/v1/services/web", &[("if-none-match", &list)], Body::empty()).await.status, 304);
}

#[tokio::test]
async fn a_patch_merges_and_keeps_the_rest() {
    let (app, _) = Registry::start();
    let path = "/api/v1/services/web/instances/1";
    let body = json!({"port": 1, "tags": ["a"], "metadata": {"x": "1", "y": "2"}, "ttl": "15s", "ext": {"eureka": {"a": 1}}});
    put(&app, "web", "1", body).await;
    let patch = json!({"metadata": {"x": null, "z": "3"}, "weight": 2.5, "enabled": false}).to_string();
    let patched = ask(&app, "PATCH", path, &[], patch).await;
    assert_eq!((patched.status, patched.json().await["result"].as_str()), (200, Some("updated")));
    let one = get(&app, path).await.json().await;
    assert_eq!((&one["metadata"], &one["weight"], &one["enabled"]), (&json!({"y": "2", "z": "3"}), &json!(2.5), &json!(false)));
    assert_eq!((&one["tags"], &one["ttl"], &one["ext"]), (&json!(["a"]), &json!("15s"), &json!({"eureka": {"a": 1}})));
    assert_eq!(one["why"].as_array().unwrap()[0]["state"], "disabled");
    assert_eq!(ids(&app, "/api/v1/services/web").await.len(), 0, "disabled instances take no traffic");
    assert_eq!(ids(&app, "/api/v1/services/web?health=any").await.len(), 1);
    for (patch, kind) in [
        (json!({"port": null}), "tidings:missing-field"),
        (json!({"prot": 1}), "tidings:unknown-field"),
        (json!({"scope": "agent"}), "tidings:invalid"),
        (json!([]), "tidings:bad-shape"),
    ] {
        assert_eq!(ask(&app, "PATCH", path, &[], patch.to_string()).await.json().await["type"], kind, "{patch}");
    }
    assert_eq!(ask(&app, "PATCH", path, &[("if-match", "\"0000000000000000\"")], "{}").await.status, 412);
    assert_eq!(ask(&app, "PATCH", "/api/v1/services/web/instances/no", &[], "{}").await.status, 404);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_names_the_place() {
    let (app, _) = Registry::start();
    let items = json!({"items": [
        {"op": "register", "service": "a", "id": "1", "port": 1},
        {"op": "register", "service": "b", "id": "1", "port": 2, "tags": ["x"]},
        {"op": "heartbeat", "service": "a", "id": "1", "status": "passing"},
        {"op": "deregister", "service": "b", "id": "1"},
    ]});
    let done = ask(&app, "POST", "/api/v1/batch", &[], items.to_string()).await.json().await;
    let results: Vec<&str> = done["results"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["created", "created", "unchanged", "removed"]);
    let wrong =
        json!([{"op": "register", "service": "c", "id": "1", "port": 1}, {"op": "register", "service": "c", "id": "2", "port": 70_000}]);
    let refused = ask(&app, "POST", "/api/v1/batch", &[], wrong.to_string()).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json().await["pointer"], "/1/port");
    assert_eq!(ids(&app, "/api/v1/services/c").await.len(), 0);
    let many = Value::Array(vec![json!({"op": "deregister", "service": "a", "id": "1"}); 1_001]);
    assert_eq!(ask(&app, "POST", "/api/v1/batch", &[], many.to_string()).await.json().await["type"], "tidings:too-many");
    for (item, pointer) in [
        (json!({"service": "a", "id": "1"}), "/0/op"),
        (json!({"op": "x", "service": "a", "id": "1"}), "/0/op"),
        (json!({"op": "heartbeat", "service": "a", "id": "1", "port": 1}), "/0/port"),
        (json!({"op": "register", "service": "", "id": "1", "port": 1}), "/0/service"),
    ] {
        let refused = ask(&app, "POST", "/api/v1/batch", &[], json!([item]).to_string()).await;
        assert_eq!(refused.json().await["pointer"], pointer, "{item}");
    }
}
