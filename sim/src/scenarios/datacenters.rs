//! Histories of several datacenters: what one knows of another through splits, cuts and gateways that are all replaced.

use super::steps::*;
use super::{Scenario, as_it_is};
use crate::agent;
use crate::faults::{FaultKind, Revival, Revived, Stroke};
use crate::plan::Intent;
use crate::run::{Run, SECOND};
use crate::swarm;
use crate::violation::Violation;
use crate::workload::written_by;
use crate::world::HostId;
use tidings::view::{DatacenterView, Entry};

/// From one datacenter to another, one way.
const APART_NS: u64 = 25_000_000;
/// A cut outlasts this in minutes, as eight days outlast the three that are kept otherwise.
const RETENTION_NS: u64 = 3 * MINUTE;

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, about, play| Scenario { name, about, agents: 0, configure: as_it_is, play };
    vec![
        scenario(
            "wan-split-gateways",
            "of a datacenter in two halves with a gateway each, nobody is down from outside who lives in either",
            split_gateways,
        ),
        scenario(
            "wan-gateways-replaced",
            "gateways that all come back as others, under other addresses, during a cut need no operator",
            gateways_replaced,
        ),
        scenario(
            "wan-cut-beyond-retention",
            "through a cut all is kept with its age up to the retention, then dropped, and comes back whole",
            cut_beyond_retention,
        ),
    ]
}

fn split_gateways(run: &mut Run) -> Result<(), Violation> {
    let sites = run.add_datacenters(&[(5, 2), (2, 1)], APART_NS, &|_| {});
    let (split_one, other) = (&sites[0], &sites[1]);
    until_whole(run, 20 * SECOND)?;
    let clients = register_at_each(run, split_one)?;
    settle_all(run)?;
    let (left, right) = ([split_one[0], split_one[2], split_one[3]], [split_one[1], split_one[4]]);
    split(run, &left, &right);
    for _ in 0..120 {
        run.run_for(SECOND / 2)?;
        for viewer in other {
            for client in &clients {
                let shown = remote(run, *viewer, *client).is_some_and(|entry| entry.is_available());
                expect(run, shown, &[*viewer], "all of both halves handed out", || format!("client {client} is not"))?;
            }
        }
    }
    heal(run);
    settle_all(run)
}

fn gateways_replaced(run: &mut Run) -> Result<(), Violation> {
    let sites = run.add_datacenters(&[(4, 2), (3, 2)], APART_NS, &|_| {});
    let (here, there) = (&sites[0], &sites[1]);
    until_whole(run, 20 * SECOND)?;
    let mut clients = register_at_each(run, &here[2..])?;
    settle_all(run)?;
    split(run, here, there);
    run.run_for(MINUTE)?;
    clients.extend(register_at_each(run, &here[2..])?);
    let kind = FaultKind::GatewaysReplaced;
    for gateway in &here[..2] {
        run.strike(kind, Stroke::Kill(*gateway));
    }
    run.run_for(10 * SECOND)?;
    for gateway in &here[..2] {
        run.strike(kind, Stroke::Start(*gateway, Revival { disk: Revived::Wiped, is_moved: true }));
    }
    run.run_for(MINUTE)?;
    heal(run);
    settle_all(run)?;
    for viewer in there {
        for client in &clients {
            let shown = remote(run, *viewer, *client).as_ref().and_then(|entry| written_by(&entry.content));
            expect(run, shown.is_some(), &[*viewer], "what was registered before and during the cut", || format!("client {client}: none"))?;
        }
    }
    Ok(())
}

fn cut_beyond_retention(run: &mut Run) -> Result<(), Violation> {
    // Two expectations about one cut: what is dropped after the retention is no longer looked at by the checkers.
    run.set_checkers(Vec::new());
    let short = |config: &mut tidings::engine::config::EngineConfig| config.wan.retention_ms = RETENTION_NS / 1_000_000;
    let sites = run.add_datacenters(&[(3, 1), (3, 2)], APART_NS, &short);
    let (here, there) = (&sites[0], &sites[1]);
    until_whole(run, 20 * SECOND)?;
    let clients = register_at_each(run, here)?;
    settle_all(run)?;
    split(run, here, there);
    run.run_for(RETENTION_NS)?;
    for viewer in there {
        let is_kept = clients.iter().all(|client| remote(run, *viewer, *client).is_some());
        expect(run, is_kept, &[*viewer], "all of it, up to the retention", || "something is missing".into())?;
        let age = seen(run, *viewer, here[0]).and_then(|seen| seen.stale_since_ms);
        expect(run, age.is_some(), &[*viewer], "an age", || "none is told".into())?;
    }
    run.run_for(5 * MINUTE)?;
    for viewer in there {
        let is_gone = seen(run, *viewer, here[0]).is_none();
        expect(run, is_gone, &[*viewer], "nothing of it after the retention", || "it is still there".into())?;
    }
    heal(run);
    settle_all(run)?;
    for viewer in there {
        let is_back = clients.iter().all(|client| remote(run, *viewer, *client).is_some_and(|entry| entry.is_available()));
        expect(run, is_back, &[*viewer], "all of it again", || "something is missing".into())?;
    }
    Ok(())
}

fn register_at_each(run: &mut Run, hosts: &[HostId]) -> Result<Vec<u32>, Violation> {
    let clients: Vec<u32> = hosts.iter().map(|host| client(run, *host)).collect();
    clients.iter().try_for_each(|client| act(run, *client, Intent::Register).map(|_| ()))?;
    Ok(clients)
}

/// Waits until every datacenter is whole, and knows of all others what they export.
fn settle_all(run: &mut Run) -> Result<(), Violation> {
    swarm::until_whole(run, swarm::LINKED_WITHIN_NS)?;
    swarm::until_still(run)?;
    run.check_at_rest()
}

/// What an agent knows of another host's datacenter.
fn seen(run: &Run, at: HostId, of: HostId) -> Option<&DatacenterView> {
    let name = agent::datacenter(run.world.network.datacenter(of));
    run.views[at.index()].as_ref()?.datacenter(name.as_str()).map(AsRef::as_ref)
}

/// What an agent shows of a client's instance in another datacenter.
fn remote(run: &Run, at: HostId, client: u32) -> Option<Entry> {
    let client = &run.clients[client as usize];
    let service = seen(run, at, client.at)?.view.service("default", client.service().as_str())?;
    service.with_id(client.id().as_str()).next().cloned()
}
