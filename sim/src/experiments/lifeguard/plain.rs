//! Plain SWIM as a machine of the world: foca alone, with its own suspicion timer, as an opponent in the same experiment.

use crate::world::{Boot, Machine};
use foca::{AccumulatingRuntime, Foca, Identity, OwnedNotification, PostcardCodec, Timer};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use tidings::engine::io::{Input, Output};
use tidings::model::command::Command;
use tidings::model::time::Now;

/// A member is its address and how often it came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    address: SocketAddr,
    generation: u32,
}

impl Identity for Id {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation + 1, ..self.clone() })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// One member of plain SWIM.
pub struct Plain {
    foca: Foca<Id, PostcardCodec, ChaCha12Rng, foca::NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Id>,
    /// By deadline, then in the order foca asked.
    timers: BTreeMap<(u64, u64), Timer<Id>>,
    asked: u64,
    seeds: Vec<SocketAddr>,
    outputs: VecDeque<Output>,
    /// Members that it came to hold down since somebody looked.
    pub downs: Vec<SocketAddr>,
    /// Packets and bytes.
    pub sent: (u64, u64),
}

impl Plain {
    pub fn is_out(&self, member: SocketAddr) -> bool {
        !self.foca.iter_members().any(|known| known.id().address == member)
    }

    fn collect(&mut self, now: Now) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.sent = (self.sent.0 + 1, self.sent.1 + bytes.len() as u64);
            self.outputs.push_back(Output::Datagram { to: to.address, bytes });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.asked += 1;
            self.timers.insert((now.ns + after.as_nanos() as u64, self.asked), timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            if let OwnedNotification::MemberDown(id) = notification {
                self.downs.push(id.address);
            }
        }
    }

    fn ring_timers(&mut self, now: Now) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now.ns) {
            // A probe that a stall cut short is an error to foca, and mends itself with the next.
            let _ = self.foca.handle_timer(entry.remove(), &mut self.runtime);
            self.collect(now);
        }
    }

    fn join(&mut self, now: Now) {
        for seed in std::mem::take(&mut self.seeds) {
            let _ = self.foca.announce(Id { address: seed, generation: 0 }, &mut self.runtime);
            self.collect(now);
        }
    }
}

impl Machine for Plain {
    type Config = foca::Config;

    fn start(config: &foca::Config, boot: Boot) -> Self {
        let id = Id { address: boot.address, generation: 0 };
        Self {
            foca: Foca::new(id, config.clone(), ChaCha12Rng::from_seed(boot.seed), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            asked: 0,
            seeds: Vec::new(),
            outputs: VecDeque::new(),
            downs: Vec::new(),
            sent: (0, 0),
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        match input {
            // What does not decode or comes from the dead is refused; foca has said what it wanted to.
            Input::Datagram { bytes, .. } => drop(self.foca.handle_data(&bytes, &mut self.runtime)),
            Input::Command { command: Command::SetSeeds(seeds), .. } => {
                self.seeds = seeds;
                self.join(now);
            }
            _ => {}
        }
        self.collect(now);
        self.ring_timers(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }
}
