use serde_json::json;

use super::*;

#[tokio::test]
async fn entries_are_put_read_and_deleted() {
    let peer = Peer::start().await;
    assert_eq!(peer.put("/v1/kv/a%2Fb?flags=42", "hello").await.json(), json!(true));
    assert_eq!(peer.put("/v1/kv/a/c/d?flags=18446744073709551615", "x").await.json(), json!(true));
    assert_eq!(peer.put("/v1/kv/z", "").await.json(), json!(true));
    let answer = peer.get("/v1/kv/a/b").await;
    let index = answer.index();
    let b = json!({"LockIndex": 0, "Key": "a/b", "Flags": 42, "Value": "aGVsbG8=", "CreateIndex": index, "ModifyIndex": index});
    assert_eq!(answer.json(), json!([b]));
    assert_eq!(peer.get("/v1/kv/z").await.json()[0]["Value"], json!(null));
    let raw = peer.get("/v1/kv/a/b?raw").await;
    assert_eq!((raw.said(), raw.header("content-type")), ((200, "hello"), "text/plain"));
    let keys = |answer: Answer| -> Vec<String> { serde_json::from_value(answer.json()).unwrap() };
    assert_eq!(keys(peer.get("/v1/kv/?keys").await), ["a/b", "a/c/d", "z"]);
    assert_eq!(keys(peer.get("/v1/kv/a/?keys=True&separator=/").await), ["a/b", "a/c/"]);
    assert_eq!(keys(peer.get("/v1/kv/?keys&separator=/").await), ["a/", "z"]);
    let all = peer.get("/v1/kv/a?recurse=None").await.json();
    assert_eq!((&all[0]["Key"], &all[1]["Key"], &all[1]["Flags"]), (&json!("a/b"), &json!("a/c/d"), &json!(u64::MAX)));
    assert_eq!(peer.ask("DELETE", "/v1/kv/a/b", "").await.json(), json!(true));
    assert_eq!(peer.ask("DELETE", "/v1/kv/a/b", "").await.json(), json!(true), "there or not");
    assert_eq!(keys(peer.get("/v1/kv/?keys").await), ["a/c/d", "z"]);
    assert_eq!(peer.ask("DELETE", "/v1/kv/?recurse=1", "").await.json(), json!(true));
    assert_eq!(keys(peer.get("/v1/kv/?keys").await), [""; 0]);
}

#[tokio::test]
async fn nothing_has_an_index_to_wait_on() {
    let peer = Peer::start().await;
    for path in ["none", "none?recurse", "none?keys", "none?raw", "?recurse"] {
        let nothing = peer.get(&format!("/v1/kv/{path}")).await;
        assert_eq!((nothing.said(), nothing.index() > 0), ((404, ""), true), "{path}");
    }
    let before = peer.get("/v1/kv/fabio?recurse").await.index();
    let path = format!("/v1/kv/fabio?recurse=&consistent=&index={before}");
    let mut blocked = std::pin::pin!(peer.get(&path));
    let pause = Duration::from_millis(100);
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "nothing changed");
    peer.put("/v1/kv/other", "x").await;
    assert!(tokio::time::timeout(pause, &mut blocked).await.is_err(), "another prefix's change answered it");
    peer.put("/v1/kv/fabio/config", "x").await;
    let answer = blocked.await;
    assert_eq!(answer.json()[0]["Key"], "fabio/config");
    let path = format!("/v1/kv/fabio/config?index={}", answer.index());
    let (gone, _) = tokio::join!(peer.get(&path), peer.ask("DELETE", "/v1/kv/fabio/config", ""));
    assert_eq!((gone.status, gone.index() > answer.index()), (404, true));
}

#[tokio::test]
async fn what_needs_a_leader_or_means_nothing_is_refused() {
    let peer = Peer::start().await;
    for parameter in ["cas=0", "acquire=x", "release=x"] {
        let refused = peer.put(&format!("/v1/kv/a?{parameter}"), "x").await;
        assert!(refused.status == 501 && refused.text.contains("needs a leader"), "{refused:?}");
    }
    assert_eq!(peer.ask("DELETE", "/v1/kv/a?cas=1", "").await.status, 501);
    for (method, path) in [("GET", "/v1/kv/"), ("PUT", "/v1/kv/"), ("DELETE", "/v1/kv/"), ("GET", "/v1/kv/?raw")] {
        assert_eq!(peer.ask(method, path, "").await.said(), (400, "Missing key name"), "{method} {path}");
    }
    assert_eq!(peer.put("/v1/kv/a?flags=x", "").await.status, 400);
    assert_eq!(peer.put("/v1/kv/a?flags=18446744073709551616", "").await.status, 400);
    assert_eq!(peer.put(&format!("/v1/kv/{}", "k".repeat(2_000)), "").await.status, 400);
    assert_eq!(peer.put("/v1/kv/full", "x".repeat(64 * 1024)).await.status, 200);
    assert_eq!(peer.put("/v1/kv/over", "x".repeat(64 * 1024 + 1)).await.status, 413);
    assert_eq!(peer.get("/v1/kv/over").await.status, 404);
    let wrong = peer.ask("POST", "/v1/kv/a", "").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET, PUT, DELETE"));
}

#[tokio::test]
async fn entries_reach_other_agents() {
    let one = Peer::start().await;
    let two = one.beside("n2").await;
    one.put("/v1/kv/shared", "from one").await;
    assert_eq!(two.until("/v1/kv/shared?raw", |answer| answer.status == 200).await.text, "from one");
}
