use serde_json::json;

use super::*;

fn names(answer: &Answer) -> Vec<String> {
    answer.json().as_array().unwrap().iter().map(|event| event["Name"].as_str().unwrap().to_owned()).collect()
}

/// Both halves of an event's id, one laid over the other.
fn folded(id: &Value) -> u64 {
    let digits = id.as_str().unwrap().replace('-', "");
    u64::from_str_radix(&digits[..16], 16).unwrap() ^ u64::from_str_radix(&digits[16..], 16).unwrap()
}

#[tokio::test]
async fn events_are_fired_and_listed_under_the_newest_ones_id() {
    let peer = Peer::start().await;
    let empty = peer.get("/v1/event/list").await;
    assert_eq!((empty.json(), empty.index(), empty.header("x-consul-knownleader")), (json!([]), 1, ""));
    let mut fired = peer.put("/v1/event/fire/deploy", "payload").await.json();
    let id = fired["ID"].take();
    let told = |l_time: &Value| json!({"ID": null, "Name": "deploy", "Payload": "cGF5bG9hZA==", "NodeFilter": "", "ServiceFilter": "", "TagFilter": "", "Version": 1, "LTime": l_time});
    assert_eq!(fired, told(&json!(0)));
    let listed = peer.get("/v1/event/list?name=deploy").await;
    assert_eq!(listed.index(), folded(&id));
    let mut event = listed.json()[0].take();
    assert_eq!(event["ID"].take(), id);
    assert_eq!(event, told(&event["LTime"]));
    assert!(event["LTime"].as_u64().unwrap() > 0);
    assert_eq!(peer.get("/v1/event/list?name=other").await.index(), 1);
    let path = format!("/v1/event/list?index={}", listed.index());
    let mut blocked = std::pin::pin!(peer.get(&path));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut blocked).await.is_err(), "nothing changed");
    peer.put("/v1/event/fire/again", "").await;
    let next = blocked.await;
    assert_eq!(names(&next), ["deploy", "again"]);
    assert_eq!((next.json()[1]["Payload"].clone(), next.index()), (json!(null), folded(&next.json()[1]["ID"])));
}

#[tokio::test]
async fn agents_list_the_events_that_are_meant_for_them() {
    let peer = Peer::start().await;
    peer.native("web", "1", json!({"port": 1, "tags": ["blue"]})).await;
    for (query, is_heard) in [
        ("node=^n1$", true),
        ("node=n2", false),
        ("service=we", true),
        ("service=db", false),
        ("service=web&tag=^bl", true),
        ("service=web&tag=red", false),
        ("node=n2&service=web", false),
    ] {
        assert_eq!(peer.put(&format!("/v1/event/fire/x?{query}"), "").await.status, 200);
        let count = names(&peer.get("/v1/event/list").await).len();
        peer.put("/v1/event/fire/end", "").await;
        let listed = names(&peer.get("/v1/event/list").await);
        assert_eq!((listed.len(), listed[count - usize::from(is_heard)..].contains(&"x".to_owned())), (count + 1, is_heard), "{query}");
    }
}

#[tokio::test]
async fn events_that_mean_nothing_are_refused() {
    let peer = Peer::start().await;
    assert_eq!(peer.put("/v1/event/fire/", "").await.said(), (400, "Missing name"));
    assert_eq!(peer.put("/v1/event/fire/x?tag=t", "").await.said(), (400, "Cannot provide tag filter without service filter"));
    assert_eq!(peer.put("/v1/event/fire/x?node=[", "").await.status, 400);
    assert_eq!(peer.put("/v1/event/fire/x", "x".repeat(16 * 1024 + 1)).await.status, 413);
    assert_eq!(peer.get("/v1/event/fire/x").await.status, 405);
}
