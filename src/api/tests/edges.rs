//! Refusals, foreign pages, the document, what supervisors ask.

use super::*;

#[tokio::test]
async fn each_refusal_becomes_one_problem() {
    let (app, _) = Registry::start();
    let key = json!({"key": "00".repeat(32)}).to_string();
    for (method, path, body, status, kind) in [
        ("POST", "/api/v1/keys/00000001", String::new(), 429, "tidings:busy"),
        ("DELETE", "/api/v1/keys/00000001", String::new(), 503, "tidings:unavailable"),
        ("DELETE", "/api/v1/keys/x", String::new(), 400, "tidings:bad-name"),
        ("POST", "/api/v1/keys", key, 422, "tidings:ambiguous"),
        ("POST", "/api/v1/keys", json!({"key": "short"}).to_string(), 422, "tidings:bad-value"),
        ("PUT", "/api/v1/services/a/instances/1/heartbeat", String::new(), 404, "tidings:not-found"),
        ("PUT", "/api/v1/services/a/instances/1/override", json!({"enabled": false}).to_string(), 422, "tidings:invalid"),
        ("PUT", "/api/v1/members/n1/override", json!({"reason": "x"}).to_string(), 400, "tidings:missing-field"),
        ("PUT", "/api/v1/members/n1/override", json!({"enabled": false, "expires": "0s"}).to_string(), 422, "tidings:bad-duration"),
        ("PUT", "/api/v1/services/a/instances/1", "{".to_owned(), 400, "tidings:bad-json"),
        ("PUT", "/api/v1/services/a/instances/1", String::new(), 400, "tidings:bad-json"),
        ("PUT", "/api/v1/services/a/instances/1", " ".repeat(600_000), 413, "tidings:too-large"),
        ("PUT", "/api/v1/services/a/instances/1", "[".repeat(100_000), 400, "tidings:bad-json"),
        ("DELETE", "/api/v1/members/nobody", String::new(), 404, "tidings:not-found"),
        ("POST", "/api/v1/services/a", String::new(), 405, "tidings:no-such-method"),
        ("GET", "/api/v2", String::new(), 404, "tidings:no-such-route"),
        ("POST", "/api/v1/join", json!({"addresses": ["not an address"]}).to_string(), 422, "tidings:bad-address"),
    ] {
        let answer = ask(&app, method, path, &[], body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(!answer.header("retry-after").is_empty(), matches!(status, 429 | 503), "{method} {path}");
        let problem = answer.json().await;
        assert_eq!((problem["type"].as_str(), problem["status"].as_u64()), (Some(kind), Some(u64::from(status))), "{problem}");
    }
    let busy = ask(&app, "POST", "/api/v1/keys/00000001", &[], Body::empty()).await;
    assert_eq!(busy.header("retry-after"), "3");
}

#[tokio::test]
async fn foreign_pages_and_names_are_turned_away() {
    let (app, _) = Registry::start();
    let send = async |host: &str, origin: Option<&str>, method: &str| {
        let mut request = Request::builder().method(method).uri("/api/v1/leave").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        app.clone().answer(request.body(Body::empty()).unwrap(), Transport::Tcp).await.status().as_u16()
    };
    assert_eq!(send("evil.example", None, "GET").await, 421);
    assert_eq!(send("localhost:8500", Some("http://evil.example"), "POST").await, 403);
    assert_eq!(send("localhost:8500", Some("http://localhost:8500"), "POST").await, 200);
    let request = Request::builder().uri("/healthz").header("host", "anything").body(Body::empty()).unwrap();
    assert_eq!(app.clone().answer(request, Transport::Unix).await.status().as_u16(), 200);
}

#[tokio::test]
async fn the_document_promises_what_the_router_keeps() {
    use crate::schema::openapi::OPERATIONS;
    use utoipa::openapi::path::HttpMethod;
    let (app, _) = Registry::start();
    for it in OPERATIONS {
        let method = match it.method {
            HttpMethod::Get => "GET",
            HttpMethod::Put => "PUT",
            HttpMethod::Post => "POST",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
            _ => panic!("no such operation is known"),
        };
        let path = it.path.replace("{service}", "s").replace("{id}", "00000001").replace("{node}", "n");
        let answer = ask(&app, method, &path, &[], Body::empty()).await;
        assert!(answer.status != 405, "{method} {path}");
        if answer.status == 404 {
            assert_ne!(answer.json().await["type"], "tidings:no-such-route", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn supervisors_and_scrapers_are_served() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 8080, "address": "::1", "tags": ["a"], "metadata": {"metrics.path": "/m"}})).await;
    assert_eq!(get(&app, "/healthz").await.status, 200);
    assert_eq!(get(&app, "/readyz").await.status, 200);
    let targets = get(&app, "/api/v1/http_sd?tag=a").await.json().await;
    assert_eq!(targets[0]["targets"], json!(["[::1]:8080"]));
    assert_eq!(targets[0]["labels"]["__meta_tidings_metadata_metrics_path"], "/m");
    assert_eq!(targets[0]["labels"]["__meta_tidings_tags"], ",a,");
    let metrics = axum::body::to_bytes(get(&app, "/metrics").await.response.into_body(), 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.ends_with("# EOF\n") && metrics.contains("tidings_api_requests_total{status=\"2xx\"} "), "{metrics}");
    let status = get(&app, "/api/v1/status").await.json().await;
    assert_eq!((status["node"].as_str(), status["instances"].as_u64(), status["ready"].as_bool()), (Some("n1"), Some(1), Some(true)));
    assert_eq!(get(&app, "/api/v1/keys").await.json().await["keys"], json!([{"id": "00000007", "in_use": true}]));
    assert_eq!(get(&app, "/").await.header("location"), "/ui/");
    assert!(get(&app, "/ui/").await.header("content-security-policy").contains("default-src 'none'"));
}
