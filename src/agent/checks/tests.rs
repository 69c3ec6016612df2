//! Checks against real servers on loopback.
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use super::probe::Probes;
use super::*;

const SOON: Duration = Duration::from_secs(5);

async fn server(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn http(url: String) -> CheckKind<'static> {
    CheckKind::Http {
        url: url.into(),
        method: "GET".into(),
        headers: vec![("x-check".into(), "yes".into())],
        body: "".into(),
        skip_tls_verify: false,
    }
}

fn script(code: &str) -> CheckKind<'static> {
    CheckKind::Script { args: ["sh", "-c", code].iter().map(|arg| (*arg).to_owned().into()).collect() }
}

#[tokio::test]
async fn an_http_check_passes_warns_or_fails_by_status() {
    let greet = |headers: axum::http::HeaderMap| async move {
        if headers.contains_key("x-check") { (StatusCode::OK, "fine") } else { (StatusCode::BAD_REQUEST, "who?") }
    };
    let router = Router::new()
        .route("/ok", get(greet))
        .route("/busy", get(|| async { (StatusCode::TOO_MANY_REQUESTS, "later") }))
        .route("/broken", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(100_000)) }));
    let at = server(router).await;
    let probes = Probes::new(false);
    let found = probes.run(&http(format!("http://{at}/ok")), SOON).await;
    assert_eq!(found.state, Health::Passing);
    assert!(found.output.contains("200 OK") && found.output.ends_with("fine"), "{found:?}");
    assert_eq!(probes.run(&http(format!("http://{at}/busy")), SOON).await.state, Health::Warning);
    let found = probes.run(&http(format!("http://{at}/broken")), SOON).await;
    assert_eq!(found.state, Health::Critical);
    assert!(found.output.len() <= crate::model::limits::CHECK_OUTPUT_BYTES_MAX);
    let found = probes.run(&http(format!("http://{}/", nobody().await)), SOON).await;
    assert!(found.state == Health::Critical && found.output.contains("refused"), "{found:?}");
    let found = probes.run(&http("https://127.0.0.1:1/".to_owned()), SOON).await;
    assert_eq!(found.state, Health::Critical, "TLS is at hand: {found:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_critical() {
    let slow = Router::new().route("/", get(|| async { tokio::time::sleep(Duration::from_secs(60)).await }));
    let at = server(slow).await;
    let started = Instant::now();
    let found = Probes::new(false).run(&http(format!("http://{at}/")), Duration::from_millis(100)).await;
    assert!(found.state == Health::Critical && found.output.contains("100 ms"), "{found:?}");
    assert!(started.elapsed() < SOON);
}

#[tokio::test]
async fn a_tcp_check_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = |at: SocketAddr| CheckKind::Tcp { address: at.to_string().into() };
    assert_eq!(Probes::new(false).run(&tcp(listener.local_addr().unwrap()), SOON).await.state, Health::Passing);
    assert_eq!(Probes::new(false).run(&tcp(nobody().await), SOON).await.state, Health::Critical);
}

#[tokio::test]
async fn a_script_tells_by_its_exit_code_and_only_where_scripts_are_allowed() {
    let probes = Probes::new(true);
    for (code, state) in [("echo good", Health::Passing), ("echo hm; exit 1", Health::Warning), ("echo bad >&2; exit 2", Health::Critical)]
    {
        let found = probes.run(&script(code), SOON).await;
        assert_eq!(found.state, state);
        assert!(["good", "hm", "bad"].contains(&found.output.as_str()), "{found:?}");
    }
    let found = probes.run(&script("yes | head -c 1000000"), SOON).await;
    assert!(found.state == Health::Passing && found.output.len() <= crate::model::limits::CHECK_OUTPUT_BYTES_MAX);
    let forbidden = Probes::new(false).run(&script("true"), SOON).await;
    assert!(forbidden.state == Health::Critical && forbidden.output.contains("checks.scripts"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_script_that_is_given_up_leaves_no_process_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let code = format!("sleep 300 & echo $! > {}; wait", file.display());
    let found = Probes::new(true).run(&script(&code), Duration::from_millis(300)).await;
    assert_eq!(found.state, Health::Critical);
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let is_gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    for _ in 0..500 {
        if is_gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grandchild {pid} lives on");
}

/// The smallest gRPC health server: whatever is asked, the answer is one message of two bytes.
async fn grpc_server(status: u8) -> SocketAddr {
    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request: hyper::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        // Not compressed, four bytes of length, then field 1 as a varint.
        let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
        let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
        let frames = [Ok::<_, std::convert::Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        hyper::Response::builder().header("content-type", "application/grpc").body(body)
    };
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { serving.serve_connection(TokioIo::new(connection), service).await });
        }
    });
    address
}

#[tokio::test]
async fn a_grpc_check_asks_the_standard_health_service() {
    let grpc = |at: SocketAddr| CheckKind::Grpc { address: at.to_string().into(), service: "web".into(), tls: false };
    let probes = Probes::new(false);
    let found = probes.run(&grpc(grpc_server(1).await), SOON).await;
    assert_eq!(found.state, Health::Passing, "{found:?}");
    let found = probes.run(&grpc(grpc_server(2).await), SOON).await;
    assert!(found.state == Health::Critical && found.output.contains("NOT_SERVING"), "{found:?}");
    assert_eq!(probes.run(&grpc(nobody().await), SOON).await.state, Health::Critical);
}

#[test]
fn intervals_vary_by_a_tenth() {
    let interval = Duration::from_secs(10);
    let all: Vec<Duration> = (0..200).map(|_| jittered(interval)).collect();
    assert!(all.iter().all(|one| (Duration::from_secs(9)..=Duration::from_secs(11)).contains(one)));
    assert!(all.iter().max() > all.iter().min());
}
