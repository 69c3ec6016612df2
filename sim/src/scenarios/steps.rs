//! The steps that scenarios are made of.

use crate::faults::FaultKind;
use crate::history::{OpId, Outcome};
use crate::plan::{Intent, Kept, PlannedClient};
use crate::run::{Run, SECOND};
use crate::swarm;
use crate::violation::Violation;
use crate::workload::written_by;
use crate::world::HostId;
use crate::world::clock::Clock;
use tidings::view::{Entry, MemberState};

pub const MINUTE: u64 = 60 * SECOND;

/// Waits until everybody is ready and knows the same.
pub fn until_whole(run: &mut Run, within_ns: u64) -> Result<(), Violation> {
    swarm::until_whole(run, within_ns).map(|_| ())
}

/// Waits until all is whole and still, and has all checkers look at everything.
pub fn settle(run: &mut Run) -> Result<(), Violation> {
    swarm::until_whole(run, swarm::WHOLE_WITHIN_NS)?;
    swarm::until_still(run)?;
    run.check_at_rest()
}

/// A client of one agent with an instance in datacenter scope that lives until it is deregistered.
pub fn client(run: &mut Run, at: HostId) -> u32 {
    run.add_client(PlannedClient { keeps: Kept::Instance, service: 0, is_agent_scoped: false, ttl_ms: None, home: at.0, dies_at: None })
}

/// A client asks for something and must be told that it was done.
pub fn act(run: &mut Run, client: u32, intent: Intent) -> Result<OpId, Violation> {
    let Some(id) = run.operate(client, intent) else {
        return Err(run.violation("scenario", vec![], "a client that can ask", "it waits, is silent, or nobody listens"));
    };
    run.run_while(10 * SECOND, &mut |run| run.history.operation(id).is_some_and(|operation| operation.outcome == Outcome::Pending))?;
    let outcome = run.history.operation(id).map(|operation| operation.outcome.clone());
    match outcome {
        Some(Outcome::Acknowledged { .. }) => Ok(id),
        other => Err(run.violation("scenario", vec![run.clients[client as usize].at], "an acknowledgement", &format!("{other:?}"))),
    }
}

/// The same at another agent.
pub fn act_at(run: &mut Run, client: u32, at: HostId, intent: Intent) -> Result<OpId, Violation> {
    run.clients[client as usize].at = at;
    act(run, client, intent)
}

/// What an agent shows of a client's instance: one entry in datacenter scope.
pub fn entry(run: &Run, at: HostId, client: u32) -> Option<Entry> {
    let client = &run.clients[client as usize];
    let view = run.views[at.index()].as_ref()?;
    let service = view.service("default", client.service().as_str())?;
    service.with_id(client.id().as_str()).next().cloned()
}

/// Which operation's registration an agent hands out for a client.
pub fn served(run: &Run, at: HostId, client: u32) -> Option<OpId> {
    let entry = entry(run, at, client).filter(Entry::is_available)?;
    written_by(&entry.content)
}

/// Waits until `host` serves exactly that of a client.
pub fn expect_served(run: &mut Run, at: HostId, client: u32, wanted: Option<OpId>, within_ns: u64) -> Result<u64, Violation> {
    let took = run.run_while(within_ns, &mut |run| served(run, at, client) != wanted)?;
    took.ok_or_else(|| {
        let found = format!("{:?}: {:?}", served(run, at, client), entry(run, at, client));
        run.violation(
            "scenario",
            vec![at],
            &format!("client {client} served as operation {wanted:?} within {} s", within_ns / SECOND),
            &found,
        )
    })
}

/// Something must be so now.
pub fn expect(run: &Run, is_so: bool, hosts: &[HostId], expected: &str, found: impl FnOnce() -> String) -> Result<(), Violation> {
    if is_so { Ok(()) } else { Err(run.violation("scenario", hosts.to_vec(), expected, &found())) }
}

/// Cuts two groups apart, both ways.
pub fn split(run: &mut Run, left: &[HostId], right: &[HostId]) {
    run.world.network.cut(left, right);
    run.world.network.cut(right, left);
    run.disturbed_at = run.world.now();
}

/// Takes all cuts back.
pub fn heal(run: &mut Run) {
    run.world.network.heal();
    run.disturbed_at = run.world.now();
}

/// The generation of each running host's member.
pub fn generations(run: &Run) -> Vec<(HostId, u32)> {
    let hosts = run.world.host_ids();
    hosts.filter_map(|host| Some((host, run.world.machine(host)?.membership().me().generation))).collect()
}

/// How one agent holds another.
pub fn state_of(run: &Run, viewer: HostId, other: tidings::model::names::NodeId) -> Option<MemberState> {
    run.views[viewer.index()].as_ref()?.member(other).map(|member| member.state)
}

pub fn set_clock(run: &mut Run, host: HostId, offset_ms: i64) {
    run.world.host_mut(host).clock = Clock { drift_ppm: 0, offset_ms };
    *run.coverage.entry(format!("fault {}", FaultKind::ClockOff)).or_default() += 1;
}
