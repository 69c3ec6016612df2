//! `tidings demo`: six real agents on loopback, a few tiny services, a death and a return; twenty seconds at most.
//!
//! What is printed is measured: times are from the request to the moment the last of the others shows it.

#![allow(clippy::disallowed_methods, reason = "it measures real agents in real time")]

mod cluster;
mod datacenters;
mod services;

use super::Failure;
use crate::client::Happened;
use crate::schema::Registration;
use cluster::Cluster;
use futures_util::future::join_all;
use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};

const AGENTS: usize = 6;
/// Longer than anything here takes on a busy machine; then the demo has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between looks at a list.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The agent that is killed, and brought back.
const VICTIM: usize = 2;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Leave the agents running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Wait for Enter before each step.
    #[arg(long)]
    pause: bool,
    /// Several datacenters of three agents each, and what becomes of lookups when one of them falls silent.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(2..=4))]
    datacenters: Option<u8>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    super::block_on(async {
        tokio::select! {
            outcome = async {
                match arguments.datacenters {
                    Some(count) => datacenters::play(arguments, usize::from(count)).await,
                    None => play(arguments).await,
                }
            } => outcome,
            _ = tokio::signal::ctrl_c() => {
                println!("\nstopped");
                Ok(())
            }
        }
    })
}

async fn play(arguments: &Arguments) -> Result<(), Failure> {
    let stage = Stage::new(arguments);
    let began = Instant::now();

    stage.step(&format!("Starting {AGENTS} agents on this machine: real processes, gossip sealed with a fresh key."))?;
    let mut cluster = Cluster::start(AGENTS)?;
    within("all agents see each other", || async {
        let views = join_all((0..AGENTS).map(|at| cluster.alive(at))).await;
        views.into_iter().all(|alive| alive == AGENTS)
    })
    .await?;
    stage.done(&format!("every agent sees all {AGENTS}, {} after the first was started", span(began.elapsed())));
    within("all agents are ready", || async { join_all((0..AGENTS).map(|at| cluster.is_ready(at))).await.into_iter().all(|ready| ready) })
        .await?;
    stage.done("all have compared their catalogs and are ready");

    stage.step("Registering services, each with the agent on its own host. No server is asked; there is none.")?;
    let mut running = Vec::new();
    for (service, at) in [("web", 0), ("web", 1), ("web", VICTIM), ("billing", VICTIM), ("billing", 4)] {
        let greeting = format!("hello from {service} on {}", cluster.name(at));
        let tiny = services::Tiny::start(greeting).await?;
        let registration = Registration { port: Some(tiny.port), address: Some("127.0.0.1".into()), ..Registration::default() };
        let id = format!("{service}-{}", cluster.name(at));
        let took = spread(&cluster, at, service, &id, &registration).await?;
        stage.done(&format!("{id} registered at {}, shown by all {} others after {}", cluster.name(at), AGENTS - 1, span(took)));
        running.push(tiny);
    }

    let asked = AGENTS - 1;
    stage.step(&format!("Calling web through {}, which has none: it answers from its own memory.", cluster.name(asked)))?;
    let picked = cluster.client(asked).pick("web", "random").await?;
    let chosen = picked.instances.first().and_then(|instance| instance.port).ok_or_else(|| Failure::failed("nothing was picked"))?;
    stage.done(&format!("127.0.0.1:{chosen} was picked and says: {}", services::call(chosen).await?));

    let victim = cluster.name(VICTIM);
    stage.step(&format!("Killing {victim} without warning (SIGKILL). It had one web and one billing."))?;
    let killed = Instant::now();
    cluster.kill(VICTIM)?;
    let others: Vec<usize> = (0..AGENTS).filter(|at| *at != VICTIM).collect();
    let gone = |at: usize| cluster.lists(at, &[("web", 2), ("billing", 1)]);
    within("the killed agent's instances are gone everywhere", || async {
        join_all(others.iter().map(|at| gone(*at))).await.into_iter().all(|gone| gone)
    })
    .await?;
    stage.done(&format!(
        "its instances left the lists of all {} others after {}; nobody else was touched",
        others.len(),
        span(killed.elapsed())
    ));

    stage.step(&format!("Starting {victim} again with its data directory. No client registers anything."))?;
    let restarted = Instant::now();
    cluster.restart(VICTIM)?;
    within("the registrations are back everywhere", || async {
        join_all((0..AGENTS).map(|at| cluster.lists(at, &[("web", 3), ("billing", 2)]))).await.into_iter().all(|back| back)
    })
    .await?;
    stage.done(&format!("its registrations are back in all {AGENTS} lists after {}", span(restarted.elapsed())));

    println!("\nThat took {}. To go on:", span(began.elapsed()));
    if arguments.keep {
        keep(&cluster, AGENTS, &["members", "service web", "watch"]).await;
    }
    for command in ["tidings demo --keep", "tidings agent --dev", "tidings register web --port 8080 -- python3 -m http.server 8080"] {
        println!("  {command}");
    }
    cluster.stop();
    Ok(())
}

/// Says what to look at, and lets the agents run until Ctrl-C.
async fn keep(cluster: &Cluster, agents: usize, commands: &[&str]) {
    let address = cluster.address(0);
    for command in commands {
        println!("  TIDINGS_HTTP_ADDR={address} tidings {command}");
    }
    let pages: Vec<String> = (0..agents).map(|at| cluster.address(at) + "/ui/").collect();
    println!("The agents run until Ctrl-C; pages are at {}", pages.join(" "));
    std::future::pending::<()>().await;
}

/// Registers an instance at one agent; the time until the last of the others told its watcher.
async fn spread(cluster: &Cluster, at: usize, service: &str, id: &str, registration: &Registration) -> Result<Duration, Failure> {
    let mut watchers = Vec::new();
    for other in (0..AGENTS).filter(|other| *other != at) {
        let mut events = cluster.client(other).events(&crate::client::query(&[("service", service)]));
        while events.next().await?.event != "synced" {}
        watchers.push(events);
    }
    let began = Instant::now();
    cluster.client(at).register(service, id, registration).await?;
    let told = watchers.iter_mut().map(|events| async move {
        loop {
            let Happened { event, data } = events.next().await?;
            if event == "put" && data["id"] == id {
                return Ok::<Duration, Failure>(began.elapsed());
            }
        }
    });
    let all = tokio::time::timeout(PATIENCE, join_all(told)).await;
    let all = all.map_err(|_| Failure::failed(format!("{id} was not seen by all others within {} s", PATIENCE.as_secs())))?;
    all.into_iter().try_fold(Duration::ZERO, |longest, told| told.map(|took| longest.max(took)))
}

/// Asks until it is so.
async fn within<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_so().await {
        if began.elapsed() > PATIENCE {
            return Err(Failure::failed(format!("after {} s it is still not so that {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) { format!("{} ms", time.as_millis().max(1)) } else { format!("{:.1} s", time.as_secs_f64()) }
}

struct Stage {
    pause: bool,
    colours: bool,
}

impl Stage {
    fn new(arguments: &Arguments) -> Self {
        Self { pause: arguments.pause, colours: std::io::stdout().is_terminal() }
    }

    fn step(&self, text: &str) -> Result<(), Failure> {
        let (bold, plain) = if self.colours { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        println!("\n{bold}{text}{plain}");
        if self.pause {
            print!("  [Enter] ");
            std::io::Write::flush(&mut std::io::stdout()).map_err(|why| Failure::failed(format!("the output cannot be written: {why}")))?;
            std::io::stdin().lock().read_line(&mut String::new()).map_err(|why| Failure::failed(format!("no Enter can be read: {why}")))?;
        }
        Ok(())
    }

    fn done(&self, text: &str) {
        let (green, plain) = if self.colours { ("\u{1b}[32m", "\u{1b}[0m") } else { ("", "") };
        println!("  {green}ok{plain} {text}");
    }
}
