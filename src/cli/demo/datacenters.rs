//! `tidings demo --datacenters N`: datacenters of three agents each, a registration that crosses, one that falls silent and comes back.

use super::cluster::Cluster;
use super::{Arguments, Stage, keep, span, within};
use crate::cli::Failure;
use crate::schema::Registration;
use futures_util::future::join_all;
use std::time::{Duration, Instant};

const NAMES: [&str; 4] = ["east", "west", "north", "south"];
/// Agents of one datacenter: a gateway, and two that never talk to another datacenter.
const SIZE: usize = 3;
/// The one that is silenced.
const SILENT: &str = "west";

pub(super) async fn play(arguments: &Arguments, count: usize) -> Result<(), Failure> {
    let stage = Stage::new(arguments);
    let names = &NAMES[..count.min(NAMES.len())];
    let agents = names.len() * SIZE;
    let began = Instant::now();

    stage.step(&format!(
        "Starting {} datacenters of {SIZE} agents: one of each is its gateway, the others know nothing of the WAN.",
        names.len()
    ))?;
    let mut cluster = Cluster::of_datacenters(names, SIZE)?;
    within("each datacenter is whole", || async {
        join_all((0..agents).map(|at| cluster.alive(at))).await.into_iter().all(|alive| alive == SIZE)
    })
    .await?;
    stage.done(&format!("every agent sees the {SIZE} of its own datacenter, {} after the first was started", span(began.elapsed())));
    let all_hear = || async {
        let looks = (0..agents).flat_map(|at| names.iter().map(move |name| (at, *name))).filter(|(at, name)| names[at / SIZE] != *name);
        join_all(looks.map(|(at, name)| cluster.hears(at, name)))
            .await
            .into_iter()
            .all(|heard| heard.is_some_and(|(state, _)| state == "fresh"))
    };
    within("each datacenter hears all others", all_hear).await?;
    stage.done(&format!("every datacenter hears every other, {} after the first was started", span(began.elapsed())));

    stage.step("Registering web at a plain agent of each datacenter. Lookups stay at home unless they say otherwise.")?;
    for (dc, name) in names.iter().enumerate() {
        let (at, id) = (dc * SIZE + 1, format!("web-{name}"));
        let registered = Instant::now();
        register(&cluster, at, &id).await?;
        let others = || (0..names.len()).filter(|other| *other != dc).map(|other| other * SIZE + 2);
        let wanted = std::slice::from_ref(&id);
        within("it is known everywhere", || async {
            join_all(others().map(|at| cluster.ids_in(at, "web", name))).await.into_iter().all(|ids| ids.as_deref() == Some(wanted))
        })
        .await?;
        stage.done(&format!(
            "{id} registered at {}, found by ?dc={name} at a plain agent of every other datacenter after {}",
            cluster.name(at),
            span(registered.elapsed())
        ));
    }

    let silent = names.iter().position(|name| *name == SILENT).expect("there are at least two");
    stage.step(&format!("Killing the only gateway of {SILENT}: nothing crosses to it or from it any more."))?;
    let killed = Instant::now();
    cluster.kill(silent * SIZE)?;
    register(&cluster, silent * SIZE + 1, "web-meanwhile").await?;
    within("the silent datacenter goes on by itself", || cluster.lists(silent * SIZE + 2, &[("web", 2)])).await?;
    stage.done(&format!("inside {SILENT}, registering and looking up go on as if nothing were"));
    within("the others notice", || async { cluster.hears(1, SILENT).await.is_some_and(|(state, _)| state == "stale") }).await?;
    stage.done(&format!("{} says that {SILENT} is stale, {} after the kill", cluster.name(1), span(killed.elapsed())));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (_, age) = cluster.hears(1, SILENT).await.unwrap_or_default();
    let known = cluster.ids_in(1, "web", SILENT).await.unwrap_or_default();
    stage.done(&format!("?dc={SILENT} still answers there from memory: {}, with age {age}", known.join(", ")));

    stage.step("Starting the gateway again with its data directory.")?;
    let restarted = Instant::now();
    cluster.restart(silent * SIZE)?;
    let both = ["web-meanwhile".to_owned(), format!("web-{SILENT}")];
    within("what happened meanwhile is known everywhere", || async {
        let others = (0..names.len()).filter(|dc| *dc != silent).map(|dc| dc * SIZE + 2);
        join_all(others.map(|at| cluster.ids_in(at, "web", SILENT))).await.into_iter().all(|ids| ids.as_deref() == Some(&both))
    })
    .await?;
    stage.done(&format!("what {SILENT} registered meanwhile is known everywhere, {} after the start", span(restarted.elapsed())));

    println!("\nThat took {}. To go on:", span(began.elapsed()));
    if arguments.keep {
        keep(&cluster, agents, &["datacenters", "service web"]).await;
    }
    for command in ["tidings demo --datacenters 3 --keep", "tidings demo", "tidings agent --dev"] {
        println!("  {command}");
    }
    cluster.stop();
    Ok(())
}

async fn register(cluster: &Cluster, at: usize, id: &str) -> Result<(), Failure> {
    let registration = Registration { port: Some(80), address: Some("127.0.0.1".into()), ..Registration::default() };
    cluster.client(at).register("web", id, &registration).await?;
    Ok(())
}
