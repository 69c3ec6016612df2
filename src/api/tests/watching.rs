//! Event streams.

use futures_util::StreamExt as _;

use super::*;

/// One event: name, id, data.
type Said = (String, String, Value);

pub struct Reader {
    stream: axum::body::BodyDataStream,
    text: String,
}

impl Reader {
    pub async fn open(app: &App, query: &str, last_id: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last_id.iter().map(|id| ("last-event-id", *id)).collect();
        let answer = ask(app, "GET", &format!("/api/v1/watch{query}"), &headers, Body::empty()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
        Self { stream: answer.response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event or comment; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Said> {
        while !self.text.contains("\n\n") {
            let bytes = self.stream.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let (block, rest) = self.text.split_once("\n\n").map(|(block, rest)| (block.to_owned(), rest.to_owned())).unwrap();
        self.text = rest;
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        let data = field("data:");
        let name = if block.starts_with(':') { block.clone() } else { field("event:") };
        Some((name, field("id:"), serde_json::from_str(&data).unwrap_or(Value::Null)))
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let (name, _, data) = self.next().await.unwrap();
            names.push(format!("{name} {}", data["id"].as_str().unwrap_or_default()).trim().to_owned());
        }
        names
    }
}

async fn delete(app: &App, service: &str, id: &str) {
    ask(app, "DELETE", &format!("/api/v1/services/{service}/instances/{id}"), &[], Body::empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_the_snapshot_then_what_changes() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1})).await;
    let mut all = Reader::open(&app, "", None).await;
    let mut web = Reader::open(&app, "?service=web", None).await;
    assert_eq!(all.names(2).await, ["put 1", "synced"]);
    assert_eq!(web.names(2).await, ["put 1", "synced"]);
    put(&app, "db", "2", json!({"port": 1})).await;
    put(&app, "web", "3", json!({"port": 1})).await;
    delete(&app, "web", "1").await;
    assert_eq!(all.names(3).await, ["put 2", "put 3", "remove 1"]);
    let (name, id, data) = web.next().await.unwrap();
    assert_eq!((name.as_str(), data["id"].as_str(), data["port"].as_u64()), ("put", Some("3"), Some(1)));
    assert_eq!(id, format!("{ORIGIN}-{}", data["revision"]));
    let (_, _, removed) = web.next().await.unwrap();
    assert_eq!((removed["reason"].as_str(), removed["service"].as_str()), (Some("deregistered"), Some("web")));
    assert_eq!(web.next().await.unwrap().0, ": keep-alive");
}

#[tokio::test]
async fn a_reader_resumes_where_it_was_cut_off() {
    let (app, _) = Registry::start();
    put(&app, "web", "1", json!({"port": 1})).await;
    let mut reader = Reader::open(&app, "", None).await;
    assert_eq!(reader.names(1).await, ["put 1"]);
    let (_, id, _) = reader.next().await.unwrap();
    drop(reader);
    put(&app, "web", "2", json!({"port": 1})).await;
    delete(&app, "web", "1").await;
    let mut resumed = Reader::open(&app, "", Some(&id)).await;
    assert_eq!(resumed.names(2).await, ["put 2", "remove 1"]);
    for foreign in ["00000000000000000000000000000000-5".to_owned(), format!("{ORIGIN}-99999999999999"), "x".to_owned()] {
        let mut again = Reader::open(&app, "", Some(&foreign)).await;
        assert_eq!(again.names(3).await, ["resync", "put 2", "synced"], "{foreign}");
    }
}

#[tokio::test]
async fn a_filtered_reader_hears_of_what_no_longer_matches() {
    let (app, _) = Registry::start();
    let mut reader = Reader::open(&app, "?tag=a&namespace=*", None).await;
    assert_eq!(reader.names(1).await, ["synced"]);
    put(&app, "web", "0", json!({"port": 1})).await;
    put(&app, "web", "1", json!({"port": 1, "tags": ["a"]})).await;
    put(&app, "web", "1", json!({"port": 2, "tags": ["b"]})).await;
    put(&app, "web", "2", json!({"port": 1, "tags": ["a"]})).await;
    ask(&app, "PATCH", "/api/v1/services/web/instances/2", &[], json!({"status": "critical"}).to_string()).await;
    assert_eq!(reader.names(1).await, ["put 1"]);
    let (name, _, data) = reader.next().await.unwrap();
    assert_eq!((name.as_str(), data["reason"].as_str()), ("remove", Some("filtered")));
    assert_eq!(reader.names(2).await, ["put 2", "remove 2"]);
}

#[tokio::test]
async fn a_reader_too_far_behind_is_closed() {
    let (app, _) = Registry::start();
    let mut reader = Reader::open(&app, "", None).await;
    let (_, id, _) = reader.next().await.unwrap();
    let value = "x".repeat(8_000);
    for round in 0..120 {
        let metadata: serde_json::Map<String, Value> = (0..5).map(|i| (format!("k{i}"), json!(format!("{round}{value}")))).collect();
        assert!(put(&app, "web", "1", json!({"port": 1, "metadata": metadata})).await.status < 300);
    }
    assert!(reader.next().await.is_none());
    // Its last id lies more than it can be told at once behind: it would be closed again and again, were it not told to start anew.
    let mut again = Reader::open(&app, "", Some(&id)).await;
    assert_eq!(again.names(3).await, ["resync", "put 1", "synced"]);
}

#[tokio::test]
async fn ten_thousand_readers_cost_one_encoding() {
    let (app, handle) = Registry::start();
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut reader = Reader::open(&app, "", None).await;
        reader.next().await.unwrap();
        readers.push(reader);
    }
    let before = handle.view().revision;
    put(&app, "web", "1", json!({"port": 1})).await;
    for reader in &mut readers {
        assert_eq!(reader.names(1).await, ["put 1"]);
    }
    let view: Arc<View> = handle.view();
    let Changes::Batches(batches) = view.changes_since(before) else { panic!("it is there") };
    assert!(batches[0].changes[0].encoded.get().is_some(), "the bytes are kept beside the change");
}
