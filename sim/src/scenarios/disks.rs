//! Histories of disks and of bulk transfers.

use super::steps::*;
use super::{Scenario, as_it_is};
use crate::faults::{FaultKind, Revival, Revived, Stroke};
use crate::plan::Intent;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use crate::world::disk::SyncTimes;

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, about, agents, play| Scenario { name, about, agents, configure: as_it_is, play };
    vec![
        scenario("kill-between-send-and-fsync", "what was sent and never synced is known to all alike, or to none", 3, kill_before_sync),
        scenario("old-disk-overtakes", "an old copy of a disk loses nothing others know and brings nothing back", 3, old_disk),
        scenario(
            "delta-during-snapshot",
            "changes that arrive while a joiner reads a snapshot are neither lost nor undone",
            2,
            delta_during_snapshot,
        ),
        scenario("slow-bulk-over-ten-minutes", "a transfer slower than tombstones are kept resurrects nothing", 2, slow_bulk),
    ]
}

fn kill_before_sync(run: &mut Run) -> Result<(), Violation> {
    let [a, b] = [HostId(0), HostId(1)];
    until_whole(run, 10 * SECOND)?;
    let (x, y) = (client(run, a), client(run, a));
    act(run, y, Intent::Register)?;
    run.world.host_mut(a).disk.times = SyncTimes { ns_min: 5 * SECOND, ns_max: 5 * SECOND, stall_ns_max: 0, stall_chance: 0.0 };
    let id = run.operate(x, Intent::Register);
    expect(run, id.is_some(), &[a], "a client that can ask", || "it cannot".into())?;
    // Either the write waits for the disk, or it is sent before: both are sound, as long as nobody is told that it is done.
    run.run_for(2 * SECOND)?;
    let was_sent = served(run, b, x).is_some();
    run.kill(a);
    run.world.host_mut(a).disk.times = SyncTimes::default();
    run.run_for(2 * SECOND)?;
    run.start(a);
    settle(run)?;
    let z = client(run, a);
    act(run, z, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    settle(run)?;
    let shown: Vec<_> = run.world.host_ids().map(|host| served(run, host, x)).collect();
    let is_agreed = shown.iter().all(|operation| *operation == shown[0]);
    expect(run, is_agreed, &[a, b], "the same at all", || format!("{shown:?}, sent before the kill: {was_sent}"))?;
    let is_there = run.world.host_ids().all(|host| served(run, host, y).is_some() && served(run, host, z).is_some());
    expect(run, is_there, &[a, b], "what was acknowledged before and after", || "something is missing".into())
}

fn old_disk(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    let early: Vec<u32> = (0..4).map(|_| client(run, a)).collect();
    for client in &early {
        act(run, *client, Intent::Register)?;
    }
    run.run_for(5 * SECOND)?;
    let copied_at = run.world.now();
    run.run_for(SECOND)?;
    let late: Vec<u32> = (0..4).map(|_| client(run, a)).collect();
    for client in &late {
        act(run, *client, Intent::Register)?;
    }
    act(run, early[0], Intent::Deregister)?;
    let changed = act(run, early[1], Intent::Register)?;
    run.run_for(2 * SECOND)?;
    run.kill(a);
    run.run_for(SECOND)?;
    let age_ns = run.world.now() - copied_at;
    run.strike(FaultKind::RolledBack, Stroke::Start(a, Revival { disk: Revived::RolledBack { age_ns }, is_moved: false }));
    settle(run)?;
    let fresh = client(run, a);
    act(run, fresh, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    settle(run)?;
    for host in [a, b, c] {
        expect(run, entry(run, host, early[0]).is_none(), &[host, a], "what was deleted stays gone", || {
            format!("{:?}", entry(run, host, early[0]))
        })?;
        expect(run, served(run, host, early[1]) == Some(changed), &[host, a], "the later word", || {
            format!("{:?}", entry(run, host, early[1]))
        })?;
        for client in late.iter().chain([&fresh]) {
            expect(run, served(run, host, *client).is_some(), &[host, a], "what others knew stays", || {
                format!("client {client} is missing")
            })?;
        }
    }
    Ok(())
}

/// What streams carry where nobody slows them.
const FULL_SPEED: u64 = 60_000_000;
/// How many instances make a snapshot of several chunks.
const MANY: u32 = 1_500;

/// Agent 0 with many instances; agent 1 comes when they are there.
fn fill(run: &mut Run) -> Result<Vec<u32>, Violation> {
    let [a, b] = [HostId(0), HostId(1)];
    run.kill(b);
    run.world.suffer(b, crate::world::disk::DiskFate::Wiped);
    run.run_for(8 * SECOND)?;
    let clients: Vec<u32> = (0..MANY).map(|_| client(run, a)).collect();
    for chunk in clients.chunks(50) {
        let asked: Vec<_> = chunk.iter().filter_map(|client| run.operate(*client, Intent::Register)).collect();
        let took = run.run_while(10 * SECOND, &mut |run| {
            asked.iter().any(|id| run.history.operation(*id).is_some_and(|operation| operation.outcome == crate::history::Outcome::Pending))
        })?;
        expect(run, took.is_some() && asked.len() == chunk.len(), &[a], "all registered", || "some are not".into())?;
    }
    run.run_for(2 * SECOND)?;
    Ok(clients)
}

fn change_while_it_streams(run: &mut Run, clients: &[u32], steps: usize, pause_ns: u64) -> Result<(), Violation> {
    for n in 0..steps {
        // From both ends of the key space, deleting, changing and making.
        act(run, clients[n], Intent::Deregister)?;
        act(run, clients[clients.len() - 1 - n], Intent::Register)?;
        if n % 3 == 0 {
            act(run, clients[n], Intent::Register)?;
            act(run, clients[n], Intent::Deregister)?;
        }
        run.run_for(pause_ns)?;
    }
    Ok(())
}

fn check_all(run: &Run, clients: &[u32], deleted: usize) -> Result<(), Violation> {
    let b = HostId(1);
    for (n, client) in clients.iter().enumerate() {
        let is_served = served(run, b, *client).is_some();
        expect(run, is_served == (n >= deleted), &[HostId(0), b], "the deleted gone and the rest there", || {
            format!("client {client} of {}, {deleted} deleted: {:?}", clients.len(), entry(run, b, *client))
        })?;
    }
    Ok(())
}

fn delta_during_snapshot(run: &mut Run) -> Result<(), Violation> {
    let clients = fill(run)?;
    run.world.set_stream_speed(40_000);
    run.start(HostId(1));
    change_while_it_streams(run, &clients, 60, SECOND / 10)?;
    run.world.set_stream_speed(FULL_SPEED);
    settle(run)?;
    check_all(run, &clients, 60)
}

fn slow_bulk(run: &mut Run) -> Result<(), Violation> {
    let clients = fill(run)?;
    // A few hundred bytes a second: far more than ten minutes for what there is.
    run.world.set_stream_speed(120);
    run.start(HostId(1));
    change_while_it_streams(run, &clients, 60, 15 * SECOND)?;
    run.world.set_stream_speed(FULL_SPEED);
    settle(run)?;
    check_all(run, &clients, 60)
}
