//! What the clients of a run ask, and what becomes of it.

use super::{Entry, OWN_TOKENS, REREGISTER_NS, Run};
use crate::history::{OpId, Operation, Outcome};
use crate::plan::{Intent, PlannedClient, PlannedOperation};
use crate::workload::{Client, PATIENCE_NS};
use crate::world::HostId;
use crate::{states, sweep};
use tidings::engine::io::Token;
use tidings::model::command::{Refusal, Reply};

impl Run {
    pub fn add_client(&mut self, planned: PlannedClient) -> u32 {
        let number = self.clients.len() as u32;
        self.clients.push(Client::new(number, planned));
        if let Some(ttl_ms) = planned.ttl_ms {
            self.schedule(self.world.now() + ttl_ms * 1_000_000 / 3, Entry::Beat(number));
        }
        if let Some(dies_at) = planned.dies_at {
            self.schedule(dies_at, Entry::Silence(number));
        }
        number
    }

    /// A client asks what it means to, unless it waits for something or nobody listens.
    pub fn operate(&mut self, number: u32, intent: Intent) -> Option<OpId> {
        let client = &self.clients[number as usize];
        if client.waits_for.is_some() || client.is_silent {
            return None;
        }
        let hosts = self.world.host_ids().count() as u32;
        let home = self.world.network.datacenter(client.at);
        let listens = |host: &HostId| self.world.host(*host).is_up() && self.world.network.datacenter(*host) == home;
        let listening = (0..hosts).map(|step| HostId((client.at.0 + step) % hosts)).find(listens)?;
        if client.planned.is_agent_scoped && listening != client.at {
            return None;
        }
        let origin = self.node(listening)?;
        let id = self.next_operation;
        let (command, _) = client.command(intent, id, origin)?;
        let uid = client.uid(origin);
        let saw = self.views[listening.index()].as_ref().and_then(|view| {
            let shown = view.service("default", client.service().as_str())?.find(uid)?.node.id;
            self.world.machine(listening)?.catalog().claim(shown, uid)
        });
        self.next_operation += 1;
        let at = self.world.now();
        self.history.ask(Operation {
            id,
            client: number,
            intent,
            uid,
            host: listening,
            asked_at: at,
            saw,
            claim: None,
            outcome: Outcome::Pending,
        });
        let client = &mut self.clients[number as usize];
        (client.at, client.waits_for) = (listening, Some(id));
        self.schedule(at + PATIENCE_NS, Entry::GiveUp(id));
        self.world.command(listening, Token(id), command);
        Some(id)
    }

    pub(super) fn replied(&mut self, host: HostId, id: OpId, outcome: &Result<Reply, Refusal>) {
        let at = self.world.now();
        let Some(operation) = self.history.answer(id, at, outcome).filter(|_| id < OWN_TOKENS) else { return };
        let end = match outcome {
            Ok(_) => "acknowledged",
            Err(Refusal::NotFound { .. }) => "not found",
            Err(_) => "refused",
        };
        *self.coverage.entry(format!("{} {end}", operation.intent.name())).or_default() += 1;
        let visible = self.truth.visible(operation.uid, |_| true);
        let (origin, claim) = (visible.map(|(origin, _)| origin), visible.map(|(_, record)| record.claim));
        let is_forwarded = outcome.is_ok() && origin.is_some_and(|origin| self.truth.writing(host).is_some_and(|(own, _)| own != origin));
        if is_forwarded {
            *self.coverage.entry(sweep::state(states::FORWARDED)).or_default() += 1;
        }
        if end == "refused" {
            *self.coverage.entry(sweep::state(states::REFUSED)).or_default() += 1;
        }
        let client = &mut self.clients[operation.client as usize];
        client.answered(operation);
        let is_forgotten = matches!(outcome, Err(Refusal::NotFound { .. })) && operation.intent != Intent::Deregister;
        if is_forgotten && client.is_registered {
            let client = client.number;
            let again = PlannedOperation { at: at + REREGISTER_NS, client, intent: Intent::Register, moves_to: None };
            self.schedule(again.at, Entry::Operation(again));
        }
        self.history.stands(id, claim);
    }

    pub(super) fn give_up(&mut self, id: OpId) {
        self.history.give_up(id, self.world.now());
        let Some(operation) = self.history.operation(id) else { return };
        let client = &mut self.clients[operation.client as usize];
        if client.waits_for == Some(id) {
            client.waits_for = None;
            *self.coverage.entry(format!("{} unanswered", operation.intent.name())).or_default() += 1;
        }
    }

    pub(super) fn beat(&mut self, number: u32) {
        let client = &self.clients[number as usize];
        let Some(ttl_ms) = client.planned.ttl_ms else { return };
        if client.is_registered {
            self.operate(number, Intent::Heartbeat);
        }
        if !self.clients[number as usize].is_silent {
            self.schedule(self.world.now() + ttl_ms * 1_000_000 / 3, Entry::Beat(number));
        }
    }
}
