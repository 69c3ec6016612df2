//! Blocking queries: ten thousand clients that wait for changes of a thousand services at one agent.
//!
//! Measured from the request that makes the change to the last answer, read by one thread on the same cores; and what waiting costs
//! the agent: resident memory a waiter, and its processor time while nothing happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::lab::agent::{Agent, Site};
use crate::report;

const SERVICES: usize = 1_000;
const ROUNDS: usize = 20;
const IDLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a client waits, and from which index on.
fn path(service: usize, index: u64) -> String {
    format!("/v1/health/service/service-{service}?index={index}&wait=600s")
}

pub fn measure(waiters: usize) {
    let site = Site::new();
    let agent = site.agent("bench").start();
    for service in 0..SERVICES {
        agent.register(&format!("service-{service}"), "i", json!({"address": "10.0.0.1", "port": 8080}));
    }
    let before_kb = resident_kb(&agent);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let (answered, mut answers) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        for waiter in 0..waiters {
            tokio::spawn(wait_for_ever(agent.http.address, waiter % SERVICES, Arc::clone(&open), answered.clone()));
            if waiter % 100 == 99 {
                // The kernel's queue of connections that wait to be accepted is short.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        settle(&open, waiters).await;
        let idle = processor_time(&agent);
        tokio::time::sleep(IDLE).await;
        let idle = processor_time(&agent).saturating_sub(idle);
        let each = (resident_kb(&agent).saturating_sub(before_kb)) as f64 / waiters as f64;
        println!("{waiters} blocking queries over {SERVICES} services: {each:.1} KiB each; {idle:?} of processor time in {IDLE:?}");

        let mut one = Vec::new();
        let mut woken_in_vain = 0;
        for round in 0..ROUNDS {
            while answers.try_recv().is_ok() {}
            let service = round * 37 % SERVICES;
            let due = (0..waiters).filter(|waiter| waiter % SERVICES == service).count();
            let start = Instant::now();
            let body = json!({"address": "10.0.0.1", "port": 8080, "metadata": {"round": round.to_string()}}).to_string();
            tokio::spawn(change(agent.http.address, format!("/api/v1/services/service-{service}/instances/i"), body));
            one.push(last_answer(&mut answers, due, start).await);
            settle(&open, waiters).await;
            while answers.try_recv().is_ok() {
                woken_in_vain += 1;
            }
        }
        report("a change of one service to its last watcher", &mut one);
        println!("    answers beyond its watchers: {woken_in_vain}");

        let mut all = Vec::new();
        for round in 0..ROUNDS {
            while answers.try_recv().is_ok() {}
            let start = Instant::now();
            let body = json!({"enabled": round % 2 == 1, "reason": "bench"}).to_string();
            tokio::spawn(change(agent.http.address, "/api/v1/members/bench/override".to_owned(), body));
            all.push(last_answer(&mut answers, waiters, start).await);
            settle(&open, waiters).await;
        }
        report("a change of the node to the last of all", &mut all);
    });
}

/// Until that many answers have come.
async fn last_answer(answers: &mut mpsc::UnboundedReceiver<Instant>, due: usize, start: Instant) -> Duration {
    let mut last = start;
    for n in 0..due {
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
        last = answer.unwrap_or_else(|_| panic!("{n} of {due} watchers were answered in {PATIENCE:?}")).expect("senders live").max(last);
    }
    last - start
}

/// Until all wait again.
async fn settle(open: &AtomicUsize, waiters: usize) {
    let start = Instant::now();
    while open.load(Ordering::SeqCst) < waiters {
        assert!(start.elapsed() < 4 * PATIENCE, "{} of {waiters} wait", open.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The last requests are sent, and taken up.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn wait_for_ever(address: SocketAddr, service: usize, open: Arc<AtomicUsize>, answered: mpsc::UnboundedSender<Instant>) {
    let mut stream = TcpStream::connect(address).await.expect("the agent listens");
    stream.set_nodelay(true).expect("it is open");
    let mut buffer = Vec::with_capacity(4 * 1024);
    let mut index = 0;
    loop {
        let request = format!("GET {} HTTP/1.1\r\nhost: {address}\r\n\r\n", path(service, index));
        stream.write_all(request.as_bytes()).await.expect("the agent reads");
        if index > 0 {
            open.fetch_add(1, Ordering::SeqCst);
        }
        let next = read_index(&mut stream, &mut buffer).await;
        if index > 0 {
            let _ = answered.send(Instant::now());
            open.fetch_sub(1, Ordering::SeqCst);
        }
        index = next;
    }
}

/// Reads one answer; returns its index.
async fn read_index(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u64 {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.expect("the agent writes") > 0, "the agent hung up");
        let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let header = |name: &str| -> Option<u64> { head.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok() };
        let length = header("content-length:").expect("answers have a length") as usize;
        if buffer.len() >= end + 4 + length {
            return header("x-consul-index:").unwrap_or_else(|| panic!("no index in {head}"));
        }
    }
}

async fn change(address: SocketAddr, path: String, body: String) {
    let mut stream = TcpStream::connect(address).await.expect("the agent listens");
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the agent reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the agent answers");
    assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
}

fn resident_kb(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// Of all its threads, in user and kernel mode.
fn processor_time(agent: &Agent) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap_or_default();
    // After the name in parentheses: state, then numbers; utime and stime are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // SAFETY: sysconf reads a constant of the system.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    Duration::from_millis(ticks * 1_000 / per_second)
}
