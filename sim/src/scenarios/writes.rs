//! Histories of clients that write at several agents.

use super::steps::*;
use super::{Scenario, as_it_is};
use crate::plan::{Intent, Kept, PlannedClient};
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, about, agents, play| Scenario { name, about, agents, configure: as_it_is, play };
    vec![
        scenario("move-delete-return", "deleted at B while A is cut off, X stays gone when A returns an hour later", 3, move_delete_return),
        scenario(
            "unseen-word-returns",
            "written at A while it was cut off, then moved to B and deleted there, X stays gone when A returns",
            3,
            unseen_word_returns,
        ),
        scenario("beats-round-robin", "a client that renews at three agents in turn causes no gossip", 3, beats_round_robin),
        scenario("same-id-two-agents", "one id in agent scope at two agents is two instances", 3, same_id_two_agents),
        scenario(
            "fast-clock-then-move",
            "what was written under a clock ten minutes ahead can be overwritten at once",
            3,
            fast_clock_then_move,
        ),
    ]
}

fn move_delete_return(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    let x = client(run, a);
    let first = act(run, x, Intent::Register)?;
    for host in [a, b, c] {
        expect_served(run, host, x, Some(first), SECOND)?;
    }
    run.world.network.isolate(a);
    run.disturbed_at = run.world.now();
    run.run_for(10 * SECOND)?;
    let moved = act_at(run, x, b, Intent::Register)?;
    expect_served(run, c, x, Some(moved), SECOND)?;
    act(run, x, Intent::Deregister)?;
    expect_served(run, c, x, None, SECOND)?;
    run.run_for(60 * MINUTE)?;
    heal(run);
    settle(run)?;
    for host in [a, b, c] {
        expect(run, entry(run, host, x).is_none(), &[host, a], "nothing of X", || format!("{:?}", entry(run, host, x)))?;
    }
    Ok(())
}

/// Nobody but A ever saw the word that returns: no tombstone can know that it hides one.
fn unseen_word_returns(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    run.world.network.isolate(a);
    run.disturbed_at = run.world.now();
    run.run_for(10 * SECOND)?;
    let x = client(run, a);
    act(run, x, Intent::Register)?;
    run.run_for(SECOND)?;
    let moved = act_at(run, x, b, Intent::Register)?;
    expect_served(run, c, x, Some(moved), SECOND)?;
    act(run, x, Intent::Deregister)?;
    run.run_for(20 * MINUTE)?;
    heal(run);
    settle(run)?;
    for host in [a, b, c] {
        expect(run, entry(run, host, x).is_none(), &[host, a], "nothing of X", || format!("{:?}", entry(run, host, x)))?;
    }
    Ok(())
}

fn beats_round_robin(run: &mut Run) -> Result<(), Violation> {
    let hosts = [HostId(0), HostId(1), HostId(2)];
    until_whole(run, 10 * SECOND)?;
    let x =
        run.add_client(PlannedClient { keeps: Kept::Instance, service: 0, is_agent_scoped: false, ttl_ms: None, home: 0, dies_at: None });
    // The lease is the client's; the beats are the scenario's own.
    run.clients[x as usize].planned.ttl_ms = Some(6_000);
    let first = act(run, x, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    let written = run.truth.writes();
    for n in 0..30 {
        act_at(run, x, hosts[n % 3], Intent::Heartbeat)?;
        run.run_for(2 * SECOND)?;
    }
    let found = run.truth.writes() - written;
    expect(run, found == 0, &hosts, "no record written by renewals", || format!("{found} records"))?;
    for host in hosts {
        expect_served(run, host, x, Some(first), SECOND)?;
    }
    // And without them it goes.
    run.run_for(8 * SECOND)?;
    for host in hosts {
        expect_served(run, host, x, None, SECOND)?;
    }
    settle(run)
}

fn same_id_two_agents(run: &mut Run) -> Result<(), Violation> {
    until_whole(run, 10 * SECOND)?;
    let planned = |home| PlannedClient { keeps: Kept::Instance, service: 0, is_agent_scoped: true, ttl_ms: None, home, dies_at: None };
    let (at_a, at_b) = (run.add_client(planned(0)), run.add_client(planned(1)));
    run.clients[at_b as usize].id_of = at_a;
    act(run, at_a, Intent::Register)?;
    act(run, at_b, Intent::Register)?;
    run.run_for(2 * SECOND)?;
    for host in run.world.host_ids() {
        let view = run.views[host.index()].as_ref();
        let client = &run.clients[at_a as usize];
        let found = view
            .and_then(|view| view.service("default", client.service().as_str()))
            .map_or(0, |service| service.with_id(client.id().as_str()).filter(|entry| entry.is_available()).count());
        expect(run, found == 2, &[host], "both instances", || format!("{found}"))?;
    }
    act(run, at_a, Intent::Deregister)?;
    run.run_for(2 * SECOND)?;
    let b = run.node(HostId(1));
    let left = entry(run, HostId(2), at_a).map(|entry| entry.node.id);
    expect(run, left == b, &[HostId(2)], "the other agent's stays", || format!("{left:?}"))?;
    settle(run)
}

fn fast_clock_then_move(run: &mut Run) -> Result<(), Violation> {
    let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
    run.kill(a);
    set_clock(run, a, 600_000);
    run.start(a);
    until_whole(run, 20 * SECOND)?;
    let x = client(run, a);
    let first = act(run, x, Intent::Register)?;
    expect_served(run, c, x, Some(first), SECOND)?;
    run.kill(a);
    run.run_for(10 * SECOND)?;
    let moved = act_at(run, x, b, Intent::Register)?;
    expect_served(run, c, x, Some(moved), SECOND)?;
    let again = act_at(run, x, c, Intent::Register)?;
    expect_served(run, b, x, Some(again), SECOND)?;
    run.start(a);
    settle(run)?;
    for host in [a, b, c] {
        expect_served(run, host, x, Some(again), SECOND)?;
    }
    Ok(())
}
