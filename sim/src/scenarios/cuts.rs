//! Histories of cut networks and cold starts.

use super::steps::*;
use super::{Scenario, as_it_is};
use crate::plan::Intent;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use tidings::engine::config::EngineConfig;

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, about, agents, play| Scenario { name, about, agents, configure: as_it_is, play };
    vec![
        Scenario {
            name: "long-split-heal",
            about: "halves cut for longer than records are kept heal, and nobody alive is reaped",
            agents: 6,
            configure: short_retention,
            play: long_split_heal,
        },
        scenario("two-nodes-cut-60s", "two agents cut for a minute find each other again, and neither renews", 2, two_nodes_cut),
        scenario("one-of-ten-cut-60s", "one of ten cut for a minute comes back, and none of the nine renews", 10, one_of_ten_cut),
        scenario("all-cold-mutual-seeds", "five that start at once, each with all as seeds, are ready in ten seconds", 5, all_cold),
    ]
}

/// Kept for minutes instead of days, so that a split can outlast it.
fn short_retention(config: &mut EngineConfig) {
    config.catalog.tombstone_ms = 60_000;
    config.catalog.reap_after_ms = 5 * 60_000;
    config.catalog.listed_ms = 60_000;
}

fn long_split_heal(run: &mut Run) -> Result<(), Violation> {
    let hosts: Vec<HostId> = run.world.host_ids().collect();
    until_whole(run, 10 * SECOND)?;
    let clients: Vec<u32> = hosts.iter().map(|host| client(run, *host)).collect();
    for client in &clients {
        act(run, *client, Intent::Register)?;
    }
    let gone = client(run, hosts[0]);
    act(run, gone, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    split(run, &hosts[..3], &hosts[3..]);
    run.run_for(10 * SECOND)?;
    act(run, gone, Intent::Deregister)?;
    run.run_for(20 * MINUTE)?;
    heal(run);
    settle(run)?;
    for host in &hosts {
        for client in &clients {
            let is_served = served(run, *host, *client).is_some();
            expect(run, is_served, &[*host, hosts[*client as usize]], "an instance of each agent", || {
                format!("client {client}: {:?}", entry(run, *host, *client))
            })?;
        }
        expect(run, entry(run, *host, gone).is_none(), &[*host], "what was deleted stays gone", || {
            format!("{:?}", entry(run, *host, gone))
        })?;
    }
    Ok(())
}

fn two_nodes_cut(run: &mut Run) -> Result<(), Violation> {
    cut_and_heal(run, 1)
}

fn one_of_ten_cut(run: &mut Run) -> Result<(), Violation> {
    cut_and_heal(run, 1)
}

/// Cuts the first `lost` hosts off for a minute.
fn cut_and_heal(run: &mut Run, lost: usize) -> Result<(), Violation> {
    let hosts: Vec<HostId> = run.world.host_ids().collect();
    until_whole(run, 10 * SECOND)?;
    let x = client(run, hosts[0]);
    act(run, x, Intent::Register)?;
    run.run_for(70 * SECOND)?;
    let before = generations(run);
    split(run, &hosts[..lost], &hosts[lost..]);
    run.run_for(MINUTE)?;
    heal(run);
    settle(run)?;
    let after = generations(run);
    // Of two, neither is more cut off than the other; of ten, the one may renew.
    let healthy = if hosts.len() > 2 { &before[lost..] } else { &before[..] };
    let renewed: Vec<_> = healthy.iter().filter(|member| !after.contains(member)).collect();
    expect(run, renewed.is_empty(), &hosts, "no healthy member renewed", || format!("{renewed:?}"))?;
    for host in hosts {
        let is_served = served(run, host, x).is_some();
        expect(run, is_served, &[host], "the instance of the one that was cut off", || format!("{:?}", entry(run, host, x)))?;
    }
    Ok(())
}

fn all_cold(run: &mut Run) -> Result<(), Violation> {
    let hosts: Vec<HostId> = run.world.host_ids().collect();
    let is_ready = |run: &Run, host: &HostId| run.views[host.index()].as_ref().is_some_and(|view| view.agent.is_ready);
    let ready = run.run_while(10 * SECOND, &mut |run| !hosts.iter().all(|host| is_ready(run, host)))?;
    expect(run, ready.is_some(), &hosts, "all ready within 10 s", || "some are not".into())?;
    settle(run)
}
