//! What operators ask of an agent as such: whom to join, when to leave, which keys to seal with.

use super::Engine;
use super::answers::Asker;
use super::io::{Output, StoreOp, Token};
use super::membership::MemberState;
use super::wire::keyring::{Key, KeyringError};
use crate::model::command::{Command, KeyId, Refusal, Reply};
use crate::model::names::ServiceKey;
use crate::model::time::Now;

/// From the mark on the head to SWIM's goodbye, in milliseconds: the head's change is everywhere before its author is down.
const HEAD_MS: u64 = 60;
/// From SWIM's goodbye to the stop, in milliseconds.
const GOODBYE_MS: u64 = 60;

/// A clean leave on its way.
///
/// ```text
/// Head (left flag spreads) ──60 ms──> Goodbye (SWIM leave spreads) ──60 ms──> Stopped
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Leaving {
    Head { until_ns: u64 },
    Goodbye { until_ns: u64 },
    Stopped,
}

impl Leaving {
    pub fn deadline(&self) -> u64 {
        match self {
            Leaving::Head { until_ns } | Leaving::Goodbye { until_ns } => *until_ns,
            Leaving::Stopped => u64::MAX,
        }
    }
}

/// Whether a command is about the agent rather than about what is registered.
pub fn is_for_operator(command: &Command) -> bool {
    matches!(
        command,
        Command::Join(_)
            | Command::SetSeeds(_)
            | Command::Leave
            | Command::Forget(_)
            | Command::ListKeys
            | Command::InstallKey(_)
            | Command::UseKey(_)
            | Command::RemoveKey(_)
            | Command::JoinWan(_)
            | Command::SetWanSeeds(_)
            | Command::ForgetDatacenter(_)
            | Command::Fetch { .. }
    )
}

impl Engine {
    pub(super) fn operator(&mut self, now: Now, token: Token, command: Command) {
        let outcome = match command {
            Command::Join(addrs) => {
                for addr in addrs {
                    self.proofs.trust(addr);
                    self.membership.join(now, addr);
                }
                Ok(Reply::Done)
            }
            Command::SetSeeds(seeds) => {
                seeds.iter().for_each(|seed| self.proofs.trust(*seed));
                self.membership.set_seeds(seeds);
                if self.membership.is_on_its_own() {
                    self.spread.on_its_own();
                }
                Ok(Reply::Done)
            }
            Command::Leave => {
                self.leaving.get_or_insert(Leaving::Head { until_ns: now.after_ms(HEAD_MS) });
                return self.catalog.command(now, token, command);
            }
            Command::Forget(node) => {
                if self.membership.member(node).is_some_and(|member| member.state != MemberState::Down) {
                    Err(Refusal::Invalid { what: "the member is alive: stop it or make it leave first".into() })
                } else if self.membership.forget(node) && self.catalog.head(node).is_none() {
                    Ok(Reply::Done)
                } else {
                    return self.catalog.command(now, token, command);
                }
            }
            Command::ListKeys => Ok(self.keys()),
            Command::InstallKey(key) => self.change_ring(|ring| ring.install(Key::from_bytes(key.0)).map(|_| ())),
            Command::UseKey(id) => self.change_ring(|ring| ring.use_key(id).map(|_| ())),
            Command::RemoveKey(id) => self.change_ring(|ring| ring.remove(id)),
            Command::JoinWan(addrs) => self.in_pool(|gateway| {
                for addr in addrs {
                    gateway.proofs.trust(addr);
                    gateway.membership.join(now, addr);
                }
            }),
            Command::SetWanSeeds(seeds) => self.in_pool(|gateway| {
                seeds.iter().for_each(|seed| gateway.proofs.trust(*seed));
                gateway.membership.set_seeds(seeds);
            }),
            Command::Fetch { datacenter, namespace, service } => {
                self.look_up(now, &datacenter, ServiceKey { namespace, service });
                Ok(Reply::Done)
            }
            Command::ForgetDatacenter(name) => self.forget_everywhere(now, &name),
            _ => Err(Refusal::Invalid { what: "this is not an operator's command".into() }),
        };
        self.decide(Asker::Client(token), outcome, true);
    }

    /// Does what only a gateway can.
    fn in_pool(&mut self, act: impl FnOnce(&mut super::wan::gateway::Gateway)) -> Result<Reply, Refusal> {
        let gateway = self.gateway.as_mut();
        let gateway = gateway.ok_or_else(|| Refusal::Invalid { what: "this agent is no gateway: start it with --gateway".into() })?;
        act(gateway);
        Ok(Reply::Done)
    }

    fn keys(&self) -> Reply {
        let ids = |ring: &super::wire::keyring::Keyring| -> Vec<KeyId> { ring.keys().iter().map(Key::id).collect() };
        Reply::Keys(self.sealer.keyring().map(ids).unwrap_or_default())
    }

    fn change_ring(
        &mut self,
        change: impl FnOnce(&mut super::wire::keyring::Keyring) -> Result<(), KeyringError>,
    ) -> Result<Reply, Refusal> {
        let Some(ring) = self.sealer.keyring_mut() else {
            return Err(Refusal::Invalid { what: "gossip travels in clear: start every agent with --encrypt first".into() });
        };
        change(ring).map_err(|why| match why {
            KeyringError::Unknown(id) => Refusal::NotFound { what: format!("key {id}") },
            other => Refusal::Invalid { what: other.to_string() },
        })?;
        let stored = ring.keys().iter().map(|key| *key.as_bytes()).collect();
        self.journal.push(StoreOp::Keys(stored));
        Ok(self.keys())
    }

    /// Takes the next step of a leave whose time has come.
    pub(super) fn step_leaving(&mut self, now: Now) {
        match self.leaving {
            Some(Leaving::Head { until_ns }) if until_ns <= now.ns => {
                self.membership.leave(now);
                if let Some(gateway) = self.gateway.as_mut() {
                    gateway.membership.leave(now);
                }
                self.leaving = Some(Leaving::Goodbye { until_ns: now.after_ms(GOODBYE_MS) });
            }
            Some(Leaving::Goodbye { until_ns }) if until_ns <= now.ns => {
                self.leaving = Some(Leaving::Stopped);
                self.out.push_back(Output::Stopped);
            }
            _ => {}
        }
    }
}
