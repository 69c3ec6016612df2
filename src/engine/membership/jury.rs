//! Jurors: who is asked to look at a suspect, and what an agent owes when it is asked itself.
//!
//! Independent confirmations shorten a suspicion, so they are sought at once instead of waited for: an accuser asks the few members that
//! rank highest for this suspect by rendezvous hash. All accusers ask the same ones, and each juror knows its fellows, so a verdict costs
//! a handful of packets whatever the cluster's size.

use super::table::{Member, MemberState};
use crate::model::names::NodeId;
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

/// Suspects that one agent looks at at a time; further requests are left to the other jurors.
const DUTIES_MAX: usize = 64;

/// The `size` members of `alive` that judge this suspicion.
pub(super) fn jury<'a>(alive: impl Iterator<Item = &'a Member>, me: NodeId, suspect: NodeId, incarnation: u16, size: usize) -> Vec<NodeId> {
    let candidates = alive.filter(|member| member.state == MemberState::Alive && member.node != suspect).map(|member| member.node);
    let mut ranked: Vec<(u64, NodeId)> = candidates.chain([me]).map(|node| (rank(node, suspect, incarnation), node)).collect();
    if ranked.len() > size && size > 0 {
        ranked.select_nth_unstable(size - 1);
        ranked.truncate(size);
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, node)| node).filter(|node| *node != me).collect()
}

fn rank(node: NodeId, suspect: NodeId, incarnation: u16) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&node.0.to_be_bytes());
    hasher.write(&suspect.0.to_be_bytes());
    hasher.write(&incarnation.to_be_bytes());
    hasher.finish()
}

/// What is to be done for a suspect now.
///
/// ```text
/// asked:   Ping -> Ping -> Confirm -+
/// accuser: -------------------------+-> AskAgain x 4 -> (over)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ping,
    /// It did not answer: say so.
    Confirm,
    /// Jurors may be dead themselves, or the request lost: ask those that are on the jury now, unless enough have confirmed.
    AskAgain,
}

const PINGS: u8 = 2;
const ASKS: u8 = 4;
/// Reminders follow each other at so many times the distance of pings.
const ASK_WAITS: u64 = 4;

#[derive(Debug)]
struct Duty {
    incarnation: u16,
    at: u64,
    pings_left: u8,
    is_confirmed: bool,
    asks_left: u8,
}

/// The suspects this agent was asked to look at, or accused itself.
#[derive(Debug, Default)]
pub(super) struct Duties {
    duties: BTreeMap<NodeId, Duty>,
    by_time: BTreeSet<(u64, NodeId)>,
}

impl Duties {
    /// Takes on what was asked for, first step at once. Returns false if it is being done already, or too much is.
    pub fn look(&mut self, now_ns: u64, node: NodeId, incarnation: u16) -> bool {
        self.begin(node, Duty { incarnation, at: now_ns, pings_left: PINGS, is_confirmed: false, asks_left: ASKS })
    }

    /// Reminds the jury of an own accusation from time to time.
    pub fn remind(&mut self, now_ns: u64, node: NodeId, incarnation: u16, wait_ns: u64) {
        let at = now_ns + wait_ns * ASK_WAITS;
        self.begin(node, Duty { incarnation, at, pings_left: 0, is_confirmed: true, asks_left: ASKS });
    }

    fn begin(&mut self, node: NodeId, duty: Duty) -> bool {
        match self.duties.get(&node) {
            Some(known) if known.incarnation >= duty.incarnation => return false,
            Some(_) => self.end(node),
            None if self.duties.len() >= DUTIES_MAX => return false,
            None => {}
        }
        self.by_time.insert((duty.at, node));
        self.duties.insert(node, duty);
        true
    }

    pub fn end(&mut self, node: NodeId) {
        if let Some(duty) = self.duties.remove(&node) {
            self.by_time.remove(&(duty.at, node));
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next step that is due.
    pub fn step(&mut self, now_ns: u64, wait_ns: u64) -> Option<(NodeId, u16, Step)> {
        let (at, node) = *self.by_time.first().filter(|(at, _)| *at <= now_ns)?;
        let duty = self.duties.get_mut(&node).expect("by_time holds duties only");
        let incarnation = duty.incarnation;
        let (step, waits) = if duty.pings_left > 0 {
            duty.pings_left -= 1;
            (Step::Ping, 1)
        } else if !duty.is_confirmed {
            duty.is_confirmed = true;
            (Step::Confirm, ASK_WAITS)
        } else {
            duty.asks_left -= 1;
            (Step::AskAgain, ASK_WAITS)
        };
        self.by_time.remove(&(at, node));
        if duty.asks_left == 0 {
            self.duties.remove(&node);
        } else {
            duty.at = now_ns + wait_ns * waits;
            self.by_time.insert((duty.at, node));
        }
        Some((node, incarnation, step))
    }
}
