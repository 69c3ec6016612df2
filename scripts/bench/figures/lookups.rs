//! Lookups of one service with ten instances, under writes, against a bare axum handler that returns the same bytes: by the native API, and
//! as Consul's clients ask.
//!
//! Alternating runs of a few seconds each: the agent while 200 registrations a second over 100 services arrive (the one that is read is
//! among them), axum with one current-thread runtime a core, axum as it comes by default. The servers are processes of their own; load
//! comes from this one, by connections that send one request after the other. The bare handlers get no writes, which is to our
//! disadvantage.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::agent::{Agent, Site};

const SERVICES: usize = 100;
const INSTANCES: usize = 10;
const WRITES_PER_S: u64 = 200;
/// Connections that write, each at its share of the rate.
const WRITERS: u64 = 8;
const CONNECTIONS: usize = 64;
const RUN: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);
/// What is asked, and the route that takes it in the bare handler.
const QUESTIONS: [Question; 2] = [
    Question { path: "/api/v1/services/service-0", route: "/api/v1/services/{service}" },
    Question { path: "/v1/health/service/service-0?passing", route: "/v1/health/service/{service}" },
];

#[derive(Clone, Copy)]
struct Question {
    path: &'static str,
    route: &'static str,
}

pub fn measure(pairs: usize) {
    let site = Site::new();
    let agent = site.agent("bench").start();
    fill(&agent);
    for question in QUESTIONS {
        compare(&agent, question, pairs);
    }
}

fn compare(agent: &Agent, question: Question, pairs: usize) {
    let load = |address| load(address, question.path);
    let body = agent.http.get(question.path).expect("the agent answers").body;
    println!(
        "# GET {}: {} bytes a body, {CONNECTIONS} connections, {} s a run, {WRITES_PER_S} writes a second at the agent",
        question.path,
        body.len(),
        RUN.as_secs()
    );
    let per_core = Bare::start("per-core", &body);
    let shared = Bare::start("shared", &body);
    let mut runs: [Vec<Run>; 3] = Default::default();
    for pair in 1..=pairs {
        let ours = {
            let writing = Writing::start(agent.http.address);
            let run = load(agent.http.address);
            writing.stop();
            run
        };
        let all = [ours, load(per_core.address), load(shared.address)];
        println!("pair {pair}: agent {}   axum a core {}   axum shared {}", all[0], all[1], all[2]);
        runs.iter_mut().zip(all).for_each(|(runs, run)| runs.push(run));
    }
    let [ours, bare, shared] = runs.map(median);
    println!("median: agent {ours}   axum a core {bare}   axum shared {shared}");
    println!("agent / axum a core: {:.1} %", 100.0 * ours.per_s / bare.per_s);
}

fn fill(agent: &Agent) {
    for service in 0..SERVICES {
        for id in 0..INSTANCES {
            agent.register(&format!("service-{service}"), &format!("i-{id}"), registration(id, 0));
        }
    }
}

fn registration(id: usize, round: u64) -> serde_json::Value {
    json!({"address": format!("10.0.0.{id}"), "port": 8080, "tags": ["http", "v2"], "metadata": {"version": "1.4.2", "round": round.to_string()}})
}

/// One run's figures.
#[derive(Clone, Copy)]
struct Run {
    per_s: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>7.0}/s p50 {:>5} p99 {:>5} µs", self.per_s, self.p50.as_micros(), self.p99.as_micros())
    }
}

/// Each figure's median by itself.
fn median(runs: Vec<Run>) -> Run {
    let of = |figure: fn(&Run) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let duration = |seconds: f64| Duration::from_secs_f64(seconds);
    Run { per_s: of(|run| run.per_s), p50: duration(of(|run| run.p50.as_secs_f64())), p99: duration(of(|run| run.p99.as_secs_f64())) }
}

/// As many requests as come back, over connections that are kept open.
fn load(address: SocketAddr, path: &'static str) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let start = Instant::now() + WARM_UP;
        let asking: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(ask(address, path, start))).collect();
        let mut taken = Vec::new();
        for task in asking {
            taken.extend(task.await.expect("a connection does not panic"));
        }
        taken.sort_unstable();
        let at = |share: f64| taken[((taken.len() as f64 * share) as usize).min(taken.len() - 1)];
        Run { per_s: taken.len() as f64 / RUN.as_secs_f64(), p50: at(0.5), p99: at(0.99) }
    })
}

/// One connection: how long each answer took that began and ended within the run.
async fn ask(address: SocketAddr, path: &str, start: Instant) -> Vec<Duration> {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("it is open");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut buffer = vec![0; 64 * 1024];
    let mut taken = Vec::with_capacity(64 * 1024);
    loop {
        let sent = Instant::now();
        if sent > start + RUN {
            return taken;
        }
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let (mut length, mut whole) = (0, None);
        while whole.is_none_or(|whole| length < whole) {
            let read = stream.read(&mut buffer[length..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            length += read;
            whole = whole.or_else(|| answer_length(&buffer[..length]));
        }
        if sent >= start {
            taken.push(sent.elapsed());
        }
    }
}

/// How long an answer is, once its head is there.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is text");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:")).expect("the answer has a length");
    Some(head + 4 + line["content-length:".len()..].trim().parse::<usize>().expect("a length is a number"))
}

/// Registrations that arrive at the agent while it is read.
struct Writing {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
    start: Instant,
}

impl Writing {
    fn start(address: SocketAddr) -> Self {
        let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..WRITERS).map(|writer| {
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            std::thread::spawn(move || write(address, writer, &is_over, &done))
        });
        Self { threads: threads.collect(), is_over, done, start: Instant::now() }
    }

    /// Says at which rate writes were acknowledged, if it was not the one that was meant.
    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let rate = self.done.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64();
        for thread in self.threads {
            thread.join().expect("a writer does not panic");
        }
        if rate < 0.95 * WRITES_PER_S as f64 {
            println!("only {rate:.0} writes a second were acknowledged");
        }
    }
}

fn write(address: SocketAddr, writer: u64, is_over: &AtomicBool, done: &AtomicU64) {
    let mut stream = TcpStream::connect(address).expect("the agent listens");
    stream.set_nodelay(true).expect("it is open");
    let pause = Duration::from_nanos(1_000_000_000 * WRITERS / WRITES_PER_S);
    let start = Instant::now();
    for turn in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let number = turn * WRITERS + writer;
        let (service, id) = (number % SERVICES as u64, (number / SERVICES as u64) as usize % INSTANCES);
        // What is registered differs each time: an equal one would only be a renewal.
        let body = registration(id, u64::from(std::process::id()) + start.elapsed().as_micros() as u64).to_string();
        let head = format!(
            "PUT /api/v1/services/service-{service}/instances/i-{id} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).expect("the agent reads");
        let mut buffer = vec![0; 16 * 1024];
        let mut length = 0;
        while answer_length(&buffer[..length]).is_none_or(|whole| length < whole) {
            length += stream.read(&mut buffer[length..]).expect("the agent answers");
        }
        done.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep((start + pause * (turn as u32 + 1)).saturating_duration_since(Instant::now()));
    }
}

/// A bare axum server: this program again, in a process of its own.
struct Bare {
    process: Child,
    address: SocketAddr,
}

impl Bare {
    fn start(flavour: &str, body: &[u8]) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a file"))
            .args(["bare", flavour])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        process.stdin.take().expect("it is piped").write_all(body).expect("it reads the body");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("it says where it listens");
        Self { process, address: line.trim().parse().expect("it says where it listens") }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves what comes on stdin, and says where.
pub fn serve_bare(flavour: &str) {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).expect("the body is piped");
    let body = bytes::Bytes::from(body);
    let answer = move |_: axum::extract::Path<String>| {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body) }
    };
    let app = QUESTIONS.iter().fold(axum::Router::new(), |app, question| app.route(question.route, axum::routing::get(answer.clone())));
    if flavour == "shared" {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("the kernel has a port");
            println!("{}", listener.local_addr().expect("it is bound"));
            axum::serve(listener, app).await.expect("it serves until it is killed");
        });
        return;
    }
    let first = listen("127.0.0.1:0".parse().expect("an address"));
    let address = first.local_addr().expect("it is bound");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let listeners = std::iter::once(first).chain((1..cores).map(|_| listen(address)));
    let workers: Vec<_> = listeners
        .map(|listener| {
            let app = app.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
                runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
                    axum::serve(listener, app).await.expect("it serves until it is killed");
                });
            })
        })
        .collect();
    println!("{address}");
    for worker in workers {
        worker.join().expect("a worker does not panic");
    }
}

fn listen(address: SocketAddr) -> std::net::TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("the kernel has a socket");
    socket.set_reuse_port(true).expect("it is new");
    socket.bind(&address.into()).expect("the port is ours");
    socket.listen(1_024).expect("it is bound");
    socket.set_nonblocking(true).expect("it is open");
    socket.into()
}
