//! Histories of agents that die.

use super::steps::*;
use super::{Scenario, as_it_is};
use crate::faults::{Revival, Revived, Stroke};
use crate::plan::Intent;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use tidings::view::MemberState;

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, about, agents, play| Scenario { name, about, agents, configure: as_it_is, play };
    vec![
        scenario("one-of-three-dies", "its instances are gone within 3 s, at the price of no record", 3, one_of_three_dies),
        scenario("rack-dies", "three of ten die at once: gone in time, and nobody guards them", 10, rack_dies),
        scenario("wiped-disk-same-address", "an agent with a new disk at an old address leaves no ghost of the old one", 3, wiped_disk),
        scenario(
            "joiner-meets-300-dead",
            "who joins a cluster that remembers 300 dead is ready at once and serves none of them",
            330,
            joiner_meets_dead,
        ),
        scenario("clone", "two processes with one node id: one takes a new id, and no instance is lost", 3, clone),
    ]
}

/// The figure 2: at most one death in sixty above 3 s, none above 5 s.
const GONE_WITHIN_NS: u64 = 5 * SECOND;

fn one_of_three_dies(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    let clients: Vec<u32> = (0..10).map(|_| client(run, a)).collect();
    for client in &clients {
        act(run, *client, Intent::Register)?;
    }
    run.run_for(2 * SECOND)?;
    let written = run.truth.writes();
    run.kill(a);
    for host in [b, c] {
        for client in &clients {
            expect_served(run, host, *client, None, GONE_WITHIN_NS)?;
        }
    }
    let found = run.truth.writes() - written;
    expect(run, found == 0, &[b, c], "a death costs no record", || format!("{found} records"))?;
    run.start(a);
    settle(run)?;
    for client in clients {
        let is_served = served(run, b, client).is_some();
        expect(run, is_served, &[a, b], "back with the disk, without any client", || format!("{:?}", entry(run, b, client)))?;
    }
    Ok(())
}

fn rack_dies(run: &mut Run) -> Result<(), Violation> {
    let hosts: Vec<HostId> = run.world.host_ids().collect();
    let (rack, rest) = hosts.split_at(3);
    until_whole(run, 10 * SECOND)?;
    let clients: Vec<u32> = rack.iter().map(|host| client(run, *host)).collect();
    for client in &clients {
        act(run, *client, Intent::Register)?;
    }
    run.run_for(70 * SECOND)?;
    for host in rack {
        run.kill(*host);
    }
    for host in rest {
        for client in &clients {
            expect_served(run, *host, *client, None, GONE_WITHIN_NS)?;
        }
    }
    settle(run)?;
    let guarded = rest.iter().find(|host| run.views[host.index()].as_ref().is_some_and(|view| view.agent.is_cut_off));
    expect(run, guarded.is_none(), rest, "nobody holds itself cut off", || format!("{guarded:?}"))
}

fn wiped_disk(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    let x = client(run, a);
    act(run, x, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    let old = run.node(a).expect("it runs");
    run.kill(a);
    run.run_for(SECOND)?;
    let revival = Revival { disk: Revived::Wiped, is_moved: false };
    run.strike(crate::faults::FaultKind::Wiped, Stroke::Start(a, revival));
    run.is_sharp = false;
    for host in [a, b, c] {
        expect_served(run, host, x, None, 10 * SECOND)?;
    }
    settle(run)?;
    for host in [a, b, c] {
        expect(run, entry(run, host, x).is_none(), &[host], "no ghost of what the old disk held", || format!("{:?}", entry(run, host, x)))?;
        let ghost = state_of(run, host, old).filter(|state| *state != MemberState::Down);
        expect(run, ghost.is_none(), &[host], "the old id down or forgotten", || format!("{ghost:?}"))?;
    }
    Ok(())
}

/// A third dies at a time, so that who is left never holds itself cut off.
fn joiner_meets_dead(run: &mut Run) -> Result<(), Violation> {
    const LEFT: usize = 29;
    let hosts: Vec<HostId> = run.world.host_ids().collect();
    let joiner = hosts[hosts.len() - 1];
    run.kill(joiner);
    run.strike(crate::faults::FaultKind::Wiped, Stroke::Kill(joiner));
    until_whole(run, 60 * SECOND)?;
    let mut alive = hosts.len() - 1;
    while alive > LEFT {
        let keep = (alive * 2 / 3).max(LEFT);
        for host in &hosts[keep..alive] {
            run.kill(*host);
        }
        alive = keep;
        run.run_for(70 * SECOND)?;
    }
    until_whole(run, 60 * SECOND)?;
    let x = client(run, hosts[0]);
    let wanted = act(run, x, Intent::Register)?;
    run.world.suffer(joiner, crate::world::disk::DiskFate::Wiped);
    run.start(joiner);
    let began = run.world.now();
    expect_served(run, joiner, x, Some(wanted), 5 * SECOND)?;
    let ready = run.run_while(5 * SECOND, &mut |run| !run.views[joiner.index()].as_ref().is_some_and(|view| view.agent.is_ready))?;
    expect(run, ready.is_some(), &[joiner], "ready within 5 s", || format!("not after {} s", (run.world.now() - began) / SECOND))?;
    settle(run)
}

fn clone(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    run.allow_errors("node id");
    until_whole(run, 10 * SECOND)?;
    let x = client(run, a);
    act(run, x, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    let twin = run.add_agents(1, &|_| {})[0];
    run.clone_disk(a, twin);
    run.start(twin);
    // The younger of two names is shown with a tail; ids must differ in the end.
    let apart = run.run_while(60 * SECOND, &mut |run| run.node(a) == run.node(twin))?;
    expect(run, apart.is_some(), &[a, twin], "two ids within a minute", || format!("{:?} twice", run.node(a)))?;
    settle(run)?;
    for host in [a, b, c, twin] {
        let is_served = served(run, host, x).is_some();
        expect(run, is_served, &[host, a, twin], "the instance that both processes hold", || format!("{:?}", entry(run, host, x)))?;
    }
    Ok(())
}
