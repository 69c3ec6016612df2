//! Lists: blocking, pages, filters, picks.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_blocking_read_wakes_for_its_service_alone() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1})).await;
    let revision = get(&app, "/api/v1/services/web").await.revision();
    let start = tokio::time::Instant::now();
    let path = format!("/api/v1/services/web?revision={revision}&wait=30s");
    let waiting = tokio::spawn({
        let (app, path) = (app.clone(), path.clone());
        async move { get(&app, &path).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    put(&app, "db", "1", json!({"port": 1})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished(), "another service does not concern it");
    put(&app, "web", "2", json!({"port": 1})).await;
    let answer = waiting.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(11));
    assert!(answer.revision() > revision);
    // In either direction: a revision that is ahead of ours is another agent's, or of another life.
    assert_eq!(get(&app, "/api/v1/services/web?revision=9007199254740991&wait=30s").await.status, 200);
    let now = get(&app, "/api/v1/services/web").await.revision();
    let quiet = get(&app, &format!("/api/v1/services/web?revision={now}&wait=30s")).await;
    assert_eq!((quiet.status, quiet.revision()), (304, now));
    assert_eq!(get(&app, &format!("/api/v1/services/web?revision={now}")).await.status, 304);
    let never = get(&app, "/api/v1/services/never").await;
    assert_eq!(get(&app, &format!("/api/v1/services/never?revision={}&wait=1s", never.revision())).await.status, 304);
    for query in ["wait=soon", "wait=601s", "wait=1s&revision=-1", "revision=x", "wait=1s&wait=2s"] {
        assert_eq!(get(&app, &format!("/api/v1/services/web?{query}")).await.json().await["type"], "tidings:bad-parameter", "{query}");
    }
}

#[tokio::test]
async fn pages_hold_everything_once_and_in_order() {
    let (app, _) = Registry::start();
    for service in ["a", "b", "c"] {
        for id in 0..7 {
            put(&app, service, &id.to_string(), json!({"port": 1})).await;
        }
    }
    for (path, total) in [("/api/v1/instances", 21), ("/api/v1/services/b", 7), ("/api/v1/services/b?namespace=*", 7)] {
        let (mut seen, mut next) = (Vec::new(), None::<String>);
        loop {
            let more = if path.contains('?') { '&' } else { '?' };
            let after = next.as_ref().map(|next| format!("&after={next}")).unwrap_or_default();
            let page = get(&app, &format!("{path}{more}limit=4{after}")).await.json().await;
            let instances = page["instances"].as_array().unwrap();
            assert!(instances.len() <= 4 && page["revision"].is_u64());
            seen.extend(instances.iter().map(|one| one["uid"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(cursor) => next = Some(cursor.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen.len(), total, "{path}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), total, "{path}");
    }
    let first = get(&app, "/api/v1/services?limit=2").await.json().await;
    let second = get(&app, &format!("/api/v1/services?limit=2&after={}", first["next"].as_str().unwrap())).await.json().await;
    assert_eq!((first["services"][1]["service"].as_str(), second["services"][0]["service"].as_str()), (Some("b"), Some("c")));
    assert_eq!(second["next"], Value::Null);
    assert_eq!(second["services"][0]["passing"], 7);
    assert_eq!(get(&app, "/api/v1/services?prefix=b").await.json().await["services"].as_array().unwrap().len(), 1);
    for cursor in ["xyz", "00", "é"] {
        assert_eq!(
            get(&app, &format!("/api/v1/instances?after={}", cursor.replace('é', "%C3%A9"))).await.json().await["type"],
            "tidings:bad-cursor"
        );
    }
    assert_eq!(get(&app, "/api/v1/instances?limit=0").await.status, 400);
}

#[tokio::test]
async fn filters_narrow_and_namespaces_keep_apart() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1, "tags": ["a", "b"], "metadata": {"env": "prod"}, "zone": "z1"})).await;
    put(&app, "web", "2", json!({"port": 1, "tags": ["a"], "status": "critical"})).await;
    put(&app, "web", "3?namespace=other", json!({"port": 1})).await;
    for (query, expected) in [
        ("", vec!["1"]),
        ("?tag=a", vec!["1"]),
        ("?tag=a&tag=b&health=any", vec!["1"]),
        ("?health=critical", vec!["2"]),
        ("?health=passing,critical&zone=z1", vec!["1"]),
        ("?metadata=env%3Dprod", vec!["1"]),
        ("?metadata=env%3Dtest", vec![]),
        ("?node=n1", vec!["1"]),
        ("?node=n2", vec![]),
        ("?namespace=other", vec!["3"]),
        ("?namespace=*", vec!["1", "3"]),
        ("?dc=dc1", vec!["1"]),
    ] {
        assert_eq!(ids(&app, &format!("/api/v1/services/web{query}")).await, expected, "{query}");
    }
    let unhealthy = get(&app, "/api/v1/services/web?health=critical").await.json().await;
    assert_eq!(unhealthy["instances"][0]["why"][0]["by"], "client");
    let far = get(&app, "/api/v1/services/web?dc=mars").await;
    assert_eq!(far.status, 404);
    assert_eq!(far.json().await["allowed"], "dc1");
    let wrong = get(&app, "/api/v1/services/web?tags=a").await.json().await;
    assert!(wrong["detail"].as_str().unwrap().contains("did you mean \"tag\"?"), "{wrong}");
    let twice =
        ask(&app, "PUT", "/api/v1/services/web/instances/9?namespace=a", &[], json!({"port": 1, "namespace": "b"}).to_string()).await;
    assert_eq!(twice.json().await["type"], "tidings:disagreement");
}

#[tokio::test]
async fn a_pick_follows_its_strategy() {
    let (app, _) = Registry::start();
    for id in 0..4 {
        put(&app, "web", &id.to_string(), json!({"port": 1})).await;
    }
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.extend(ids(&app, "/api/v1/services/web/pick?strategy=round_robin").await);
    }
    assert_eq!(turns[..4], turns[4..]);
    turns.sort();
    assert_eq!(turns, ["0", "0", "1", "1", "2", "2", "3", "3"]);
    let hashed = ids(&app, "/api/v1/services/web/pick?strategy=hash&key=user-7&n=2").await;
    assert_eq!(hashed, ids(&app, "/api/v1/services/web/pick?strategy=hash&key=user-7&n=2").await);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?n=9").await.len(), 4);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?strategy=weighted").await.len(), 1);
    assert_eq!(ids(&app, "/api/v1/services/web/pick?strategy=nearest&tag=x").await.len(), 0);
    assert_eq!(get(&app, "/api/v1/services/web/pick?strategy=hash").await.status, 400);
    assert_eq!(
        get(&app, "/api/v1/services/web/pick?strategy=best").await.json().await["allowed"],
        "random, round_robin, weighted, hash, nearest"
    );
}
