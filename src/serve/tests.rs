//! Listeners with a door behind them that no engine answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::*;
use crate::agent::handle::DriverSide;
use crate::agent::testing::door;

fn start(listen: &[Listen], workers: usize) -> (Serving, Handle, DriverSide) {
    let (handle, driver) = door();
    driver.turned();
    (serve(bind(listen, workers).unwrap(), &[], None, settings::Consul::default(), &handle).unwrap(), handle, driver)
}

fn any_port() -> Listen {
    Listen::Tcp("127.0.0.1:0".parse().unwrap())
}

fn address(serving: &Serving) -> SocketAddr {
    let Listen::Tcp(address) = serving.listening[0] else { panic!("it is TCP") };
    assert_ne!(address.port(), 0);
    address
}

/// Sends bytes, and reads until the other side closes.
fn talk(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[test]
fn every_worker_answers_on_one_port_and_all_stop_with_the_agent() {
    let (serving, _handle, driver) = start(&[any_port()], 3);
    let address = address(&serving);
    for _ in 0..20 {
        let answer = talk(TcpStream::connect(address).unwrap(), HEALTHZ);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("tidings-revision: "), "{answer}");
    }
    // A connection that is kept open idle does not hold the stop up.
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 15]).unwrap();
    driver.published().stop();
    let clock = crate::agent::clock::Clock::start();
    serving.join();
    assert!(u128::from(clock.now().ns) < STOP_PATIENCE.as_nanos());
    assert!(TcpStream::connect(address).is_err());
}

/// Which version of HTTP a connection speaks is told by its first bytes, however they come, and by none of them for a while.
#[test]
fn both_versions_are_answered_and_a_silent_connection_holds_no_stop_up() {
    let (serving, _handle, driver) = start(&[any_port()], 1);
    let address = address(&serving);
    for first in [1, 2, 3, 10] {
        let mut stream = TcpStream::connect(address).unwrap();
        let put = "PUT /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(&put.as_bytes()[..first]).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let answer = talk(stream, &put[first..]);
        assert!(answer.starts_with("HTTP/1.1 405"), "{first}: {answer}");
    }
    let mut second = TcpStream::connect(address).unwrap();
    second.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    second.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the server's settings: {frame:?}");
    let _silent = TcpStream::connect(address).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    drop(second);
    driver.published().stop();
    let clock = crate::agent::clock::Clock::start();
    serving.join();
    assert!(u128::from(clock.now().ns) < STOP_PATIENCE.as_nanos());
}

#[test]
fn a_port_that_somebody_listens_on_is_refused_with_what_to_type() {
    let (serving, _handle, driver) = start(&[any_port()], 2);
    let taken = Listen::Tcp(address(&serving));
    let refused = bind(std::slice::from_ref(&taken), 2).err().expect("it is taken, though its owner shares it").to_string();
    assert!(refused.contains("is taken") && refused.contains("--http 127.0.0.1:"), "{refused}");
    driver.published().stop();
    serving.join();
    bind(&[taken], 2).unwrap();
}

#[test]
fn a_unix_socket_outlives_no_agent_and_replaces_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    // What a killed agent leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (serving, _handle, driver) = start(&[Listen::Unix(path.clone())], 2);
    let answer = talk(std::os::unix::net::UnixStream::connect(&path).unwrap(), &HEALTHZ.replace("localhost", "anything"));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let refused = bind(&[Listen::Unix(path.clone())], 1).err().unwrap().to_string();
    assert!(refused.contains("another process listens"), "{refused}");
    driver.published().stop();
    serving.join();
    assert!(!path.exists());
}

/// What a client sees that sends its whole request before it reads: were the connection reset on the way, it would see nothing.
#[test]
fn a_body_that_is_refused_is_read_to_its_end_and_the_connection_goes_on() {
    let (serving, _handle, driver) = start(&[any_port()], 1);
    let stream = TcpStream::connect(address(&serving)).unwrap();
    let body = "x".repeat(2 * 1024 * 1024);
    let refused = format!("PUT /v1/kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answers = talk(stream, &format!("{refused}{HEALTHZ}"));
    assert!(answers.starts_with("HTTP/1.1 413"), "{}", answers.chars().take(200).collect::<String>());
    assert!(answers.contains("HTTP/1.1 200 OK"), "the next request on the connection is answered: {answers}");
    driver.published().stop();
    serving.join();
}

#[test]
fn heads_without_end_and_requests_that_are_none_are_turned_away() {
    let (serving, _handle, driver) = start(&[any_port()], 1);
    let address = address(&serving);
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
    let answer = talk(TcpStream::connect(address).unwrap(), &long);
    assert!(answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
    let many: String = (0..=HEADERS_MAX).map(|i| format!("x-{i}: 1\r\n")).collect();
    let answer = talk(TcpStream::connect(address).unwrap(), &format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = talk(TcpStream::connect(address).unwrap(), "this is not HTTP\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
    let answer = talk(TcpStream::connect(address).unwrap(), "GET /healthz HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    driver.published().stop();
    serving.join();
}
