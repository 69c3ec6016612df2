//! The membership of one agent, to which a script of packets, joins and waits happens.

use std::{collections::VecDeque, mem::discriminant, net::SocketAddr};

use bytes::Bytes;
use tidings::{
    engine::membership::{Effect, Me, Membership, MembershipConfig},
    model::{names::NodeId, time::Now},
};

use super::{Trace, script};

const PACKET: u8 = 0;
const STATE: u8 = 1;
const WAIT: u8 = 2;
const JOIN: u8 = 3;
const OPERATIONS: u8 = 4;

/// Others that speak.
const PEERS: u8 = 4;

/// Turns of one moment before it counts as a loop.
const TURNS_MAX: usize = 1_000;

/// Effects of one step.
const EFFECTS_MAX: usize = 2_000;

/// A script of what happens to a membership.
pub fn swim(bytes: &[u8], trace: &mut Trace) {
    let mut now = Now { ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    let mut membership = member(0, now);
    for (operation, operand) in script::steps(bytes) {
        let peer = operation / OPERATIONS % PEERS;
        match operation % OPERATIONS {
            PACKET => trace.see(("packet", membership.handle_packet(now, addr(peer), operand).is_ok())),
            STATE => trace.see(("state", membership.apply_state(now, operand).is_ok())),
            WAIT => wait(&mut membership, &mut now, script::number(operand, 120_000)),
            JOIN => membership.join(now, addr(peer)),
            _ => unreachable!("a remainder of {OPERATIONS}"),
        }
        settle(&mut membership, now);
        let mut effects = 0;
        while let Some(effect) = membership.poll() {
            effects += 1;
            assert!(effects < EFFECTS_MAX, "one step has no end of effects");
            match effect {
                Effect::Send { body, .. } => assert!(body.len() <= 1_116, "a packet of {} bytes fits no datagram", body.len()),
                Effect::Event(event) => trace.see(("event", discriminant(&event))),
            }
        }
        trace.see(("picture", membership.alive().min(6), membership.members().count().min(6), membership.is_cut_off()));
    }
}

/// The first minute of a cluster, as one of its members hears it.
pub fn recorded() -> Vec<Vec<u8>> {
    (1..=u64::from(PEERS)).map(minute).collect()
}

/// Records what `others` agents say to agent 0 while all start, one of them stops, and time goes on.
fn minute(others: u64) -> Vec<u8> {
    const STEP_MS: u64 = 100;
    let mut now = Now { ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    let mut members: Vec<Membership> = (0..=others as u8).map(|index| member(index, now)).collect();
    let mut script = Vec::new();
    for step in 0..200_u64 {
        let mut mail = VecDeque::new();
        for (index, member) in members.iter_mut().enumerate() {
            let is_stopped = step > 60 && index == 1 && others > 1;
            if step == 0 && index > 0 {
                member.join(now, addr(0));
            }
            settle(member, now);
            collect(member, index as u8, &mut mail);
            if is_stopped {
                mail.clear();
            }
        }
        while let Some((from, to, body)) = mail.pop_front() {
            let Some(index) = (0..=others as u8).find(|index| addr(*index) == to) else { continue };
            if index == 0 {
                script::put(&mut script, PACKET + OPERATIONS * from, &body);
            }
            // What is no packet to the one is nothing to record for the other.
            let _ = members[usize::from(index)].handle_packet(now, addr(from), &body);
            collect(&mut members[usize::from(index)], index, &mut mail);
        }
        script::put(&mut script, WAIT, &(STEP_MS as u16).to_be_bytes());
        now = Now { ns: now.after_ms(STEP_MS), wall_ms: now.wall_ms + STEP_MS };
    }
    for page in members[0].state_pages(1_000) {
        script::put(&mut script, STATE, &page);
    }
    script
}

fn collect(member: &mut Membership, from: u8, mail: &mut VecDeque<(u8, SocketAddr, Bytes)>) {
    while let Some(effect) = member.poll() {
        if let Effect::Send { to, body, .. } = effect {
            mail.push_back((from, to, body));
        }
    }
}

/// Lets time pass, with a turn at each deadline on the way.
fn wait(membership: &mut Membership, now: &mut Now, ms: u64) {
    let end = now.after_ms(ms);
    for _ in 0..TURNS_MAX {
        let Some(due) = membership.deadline().filter(|due| *due <= end) else { break };
        let ns = due.max(now.ns);
        *now = Now { ns, wall_ms: now.wall_ms + (ns - now.ns) / 1_000_000 };
        membership.handle_timeout(*now);
        while membership.poll().is_some() {}
    }
    *now = Now { ns: end.max(now.ns), wall_ms: now.wall_ms + (end.max(now.ns) - now.ns) / 1_000_000 };
}

/// Takes the turns that are due; they come to an end.
fn settle(membership: &mut Membership, now: Now) {
    let mut turns = 0;
    while membership.deadline().is_some_and(|due| due <= now.ns) {
        membership.handle_timeout(now);
        turns += 1;
        assert!(turns < TURNS_MAX, "a deadline that does not pass");
    }
}

fn member(index: u8, now: Now) -> Membership {
    let me = Me { node: NodeId(u128::from(index) + 1), addr: addr(index), generation: 1_700_000_000, boot: 7 };
    Membership::new(MembershipConfig::lan(), me, [index; 32], now)
}

fn addr(index: u8) -> SocketAddr {
    ([10, 0, 0, index + 1], 7_946).into()
}
