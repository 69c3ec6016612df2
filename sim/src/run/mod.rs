//! One run: a cluster of engines in a world, what befalls it, what its clients do, and the checkers that look on.
//!
//! The swarm runs a [`Plan`](crate::plan::Plan); scenarios and experiments drive the same run by hand. Everything that happens is an event of the world;
//! after each, the checkers see what it touched.

mod build;
mod clients;
mod forgery;
mod strikes;

use crate::checkers::moves::Moves;
use crate::checkers::{Checker, Scene};
use crate::faults::Scheduled;
use crate::history::{History, OpId, Outcome};
use crate::log;
use crate::plan::PlannedOperation;
use crate::rng::Rng;
use crate::states;
use crate::sweep;
use crate::truth::Truth;
use crate::violation::Violation;
use crate::workload::Client;
use crate::world::network::Conditions;
use crate::world::trace::Happening;
use crate::world::{HostId, Note, World, wan_of};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use tidings::engine::Engine;
use tidings::engine::io::{StoreOp, Token};
use tidings::model::command::Command;
use tidings::model::names::NodeId;
use tidings::model::node::Liveness;
use tidings::view::{LinkState, View};

pub const SECOND: u64 = 1_000_000_000;
/// How often an agent's shell resolves its seeds' names again.
const RESOLVE_NS: u64 = 30 * SECOND;
/// A client that is told that its instance is not known registers it again this much later.
const REREGISTER_NS: u64 = 50_000_000;
/// Packets that are kept, to be sent again as noise.
const OVERHEARD_MAX: usize = 256;
/// Tokens above this are the run's own.
const OWN_TOKENS: u64 = 1 << 62;

/// What is due at some instant.
#[derive(Debug, Clone)]
enum Entry {
    Start(HostId),
    Resolve(HostId),
    Stroke(Scheduled),
    Operation(PlannedOperation),
    /// A client renews its lease.
    Beat(u32),
    /// A client falls silent.
    Silence(u32),
    GiveUp(OpId),
}

pub struct Run {
    pub world: World<Engine>,
    pub truth: Truth,
    pub history: History,
    pub clients: Vec<Client>,
    pub views: Vec<Option<Arc<View>>>,
    /// Whether what clients were told must come out in the order of true time.
    pub is_sharp: bool,
    pub coverage: BTreeMap<String, u64>,
    /// The instant of the last thing that disturbed the network, a process or a clock.
    pub disturbed_at: u64,
    /// The instant of the last word of a member on heads that are none; none: nobody lied.
    pub lied_at: Option<u64>,
    /// When each host's process came up, or went down, last.
    pub changed_at: Vec<u64>,
    /// Parts of ERROR lines that belong to what is played.
    errors_allowed: Vec<&'static str>,
    checkers: Vec<Box<dyn Checker>>,
    moves: Moves,
    agenda: Vec<Option<Entry>>,
    seeds: Vec<u32>,
    next_operation: OpId,
    overheard: VecDeque<(SocketAddr, Bytes)>,
    moved: u32,
    noise: Rng,
    calm: Conditions,
    resting_since: Option<u64>,
    /// Hosts that never come back.
    buried: BTreeSet<HostId>,
}

impl Run {
    /// A world without hosts and without checkers.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            world: World::new(seed, conditions),
            truth: Truth::default(),
            history: History::default(),
            clients: Vec::new(),
            views: Vec::new(),
            is_sharp: true,
            coverage: BTreeMap::new(),
            disturbed_at: 0,
            lied_at: None,
            changed_at: Vec::new(),
            errors_allowed: Vec::new(),
            checkers: Vec::new(),
            moves: Moves::default(),
            agenda: Vec::new(),
            seeds: Vec::new(),
            next_operation: 1,
            overheard: VecDeque::new(),
            moved: 0,
            noise: Rng::new(seed, "noise", 0),
            calm: conditions,
            resting_since: None,
            buried: BTreeSet::new(),
        }
    }

    fn schedule(&mut self, at: u64, entry: Entry) {
        self.agenda.push(Some(entry));
        self.world.call_at(at, self.agenda.len() as u64 - 1);
    }

    /// Lets the world go on to an instant.
    ///
    /// # Errors
    /// What a checker found.
    pub fn run_until(&mut self, at: u64) -> Result<(), Violation> {
        self.run_until_told(at, &mut |_, _| {})
    }

    /// The same, and tells of everything just before the run reacts to it.
    ///
    /// # Errors
    /// What a checker found.
    pub fn run_until_told(&mut self, at: u64, tell: &mut dyn FnMut(&Run, &Note)) -> Result<(), Violation> {
        self.settle_with(tell)?;
        while self.world.next_at().is_some_and(|next| next <= at) {
            self.world.step();
            self.settle_with(tell)?;
        }
        self.world.idle_until(at);
        Ok(())
    }

    /// # Errors
    /// What a checker found.
    pub fn run_for(&mut self, ns: u64) -> Result<(), Violation> {
        self.run_until(self.world.now() + ns)
    }

    /// Lets the world go on until something holds, and says how long that took; none if it did not within `ns`.
    ///
    /// # Errors
    /// What a checker found.
    pub fn run_while(&mut self, ns: u64, is_awaited: &mut dyn FnMut(&Run) -> bool) -> Result<Option<u64>, Violation> {
        let (from, end) = (self.world.now(), self.world.now() + ns);
        self.settle()?;
        while is_awaited(self) {
            match self.world.next_at() {
                Some(next) if next <= end => self.world.step(),
                _ => {
                    self.world.idle_until(end);
                    return Ok(None);
                }
            };
            self.settle()?;
        }
        Ok(Some(self.world.now() - from))
    }

    fn settle(&mut self) -> Result<(), Violation> {
        self.settle_with(&mut |_, _| {})
    }

    /// What the last event touched: somebody is told, the run reacts, the checkers look.
    ///
    /// # Errors
    /// What a checker found.
    fn settle_with(&mut self, tell: &mut dyn FnMut(&Run, &Note)) -> Result<(), Violation> {
        while let Some(note) = self.world.note() {
            tell(self, &note);
            self.react(&note)?;
            if self.checkers.is_empty() {
                continue;
            }
            match &note {
                Note::Started { host } => self.moves.started(*host),
                Note::Handled { host } => {
                    if let Some(engine) = self.world.machine(*host) {
                        self.moves.handled(*host, engine, self.views.len());
                    }
                }
                _ => {}
            }
            let mut checkers = std::mem::take(&mut self.checkers);
            let scene = self.scene();
            let verdict = checkers.iter_mut().try_for_each(|checker| checker.note(&scene, &note));
            self.checkers = checkers;
            verdict?;
        }
        match log::take_error() {
            None => Ok(()),
            Some(line) if self.errors_allowed.iter().any(|part| line.contains(part)) => Ok(()),
            Some(line) => Err(self.violation("no-error-log", vec![], "no ERROR in any log", &line)),
        }
    }

    /// Lets ERROR lines pass that contain this.
    pub fn allow_errors(&mut self, part: &'static str) {
        self.errors_allowed.push(part);
    }

    /// Looks on while nothing should happen any more.
    ///
    /// # Errors
    /// What a checker found.
    pub fn rest(&mut self, ns: u64) -> Result<(), Violation> {
        self.resting_since.get_or_insert(self.world.now());
        self.run_for(ns)
    }

    /// Has all checkers look at everything, as it is when nothing is on its way.
    ///
    /// # Errors
    /// What a checker found.
    pub fn check_at_rest(&mut self) -> Result<(), Violation> {
        let mut checkers = std::mem::take(&mut self.checkers);
        let scene = self.scene();
        let verdict = checkers.iter_mut().try_for_each(|checker| checker.at_rest(&scene));
        self.checkers = checkers;
        verdict
    }

    pub fn scene(&self) -> Scene<'_> {
        Scene {
            world: &self.world,
            truth: &self.truth,
            history: &self.history,
            clients: &self.clients,
            views: &self.views,
            is_sharp: self.is_sharp,
            disturbed_at: self.disturbed_at,
            lied_at: self.lied_at,
            resting_since: self.resting_since,
            changed_at: &self.changed_at,
            moved: &self.moves.last,
        }
    }

    pub fn violation(&self, checker: &'static str, hosts: Vec<HostId>, expected: &str, found: &str) -> Violation {
        Violation { checker, at: self.world.now(), hosts, expected: expected.into(), found: found.into() }
    }

    fn react(&mut self, note: &Note) -> Result<(), Violation> {
        match note {
            Note::Started { host } => {
                self.truth.started(*host);
                self.views[host.index()] = None;
            }
            Note::Persisted { host, ops } => {
                if self.truth.writing(*host).is_some() && ops.iter().any(|op| matches!(op, StoreOp::Node { .. })) {
                    self.saw(states::TWIN);
                }
                if let Err(wrong) = self.truth.persisted(*host, ops) {
                    let expected = "one meaning for each seq, and each with some";
                    return Err(self.violation("single-writer", vec![*host], expected, &format!("{wrong:?}")));
                }
            }
            Note::Reply { host, token, outcome } => self.replied(*host, token.0, outcome),
            Note::View { host, view } => {
                let was_cut_off = self.views[host.index()].as_ref().is_some_and(|before| before.agent.is_cut_off);
                if view.agent.is_cut_off && !was_cut_off {
                    self.saw(states::CUT_OFF);
                }
                let before = self.views[host.index()].replace(Arc::clone(view));
                self.saw_remote(before.as_deref(), view);
            }
            Note::Stopped { host } => self.down(*host),
            Note::Due(entry) => {
                if let Some(entry) = self.agenda[*entry as usize].take() {
                    self.due(entry);
                }
            }
            Note::Spinning { host } => {
                return Err(self.violation("progress", vec![*host], "time goes on", "the engine's deadline stands still"));
            }
            Note::Sent { host, bytes, .. } if self.overheard.len() < OVERHEARD_MAX || bytes.first().is_some_and(|byte| byte % 8 == 0) => {
                if self.overheard.len() == OVERHEARD_MAX {
                    self.overheard.pop_front();
                }
                self.overheard.push_back((self.world.host(*host).address, bytes.clone()));
            }
            Note::Handled { .. } | Note::Sent { .. } | Note::Received { .. } => {}
        }
        Ok(())
    }

    fn due(&mut self, entry: Entry) {
        match entry {
            Entry::Start(host) => self.start(host),
            Entry::Resolve(host) => self.resolve(host),
            Entry::Stroke(scheduled) => self.strike(scheduled.kind, scheduled.stroke),
            Entry::Operation(planned) => {
                if let Some(to) = planned.moves_to.filter(|_| !self.clients[planned.client as usize].planned.is_agent_scoped) {
                    self.clients[planned.client as usize].at = HostId(to);
                }
                self.operate(planned.client, planned.intent);
            }
            Entry::Beat(number) => self.beat(number),
            Entry::Silence(number) => self.clients[number as usize].is_silent = true,
            Entry::GiveUp(id) => self.give_up(id),
        }
    }

    /// What an entry of the agenda means, for people, and whom it concerns; none once it has happened, or where it is the run's own.
    pub fn meaning(&self, entry: u64) -> Option<(Option<HostId>, String)> {
        match self.agenda.get(entry as usize)?.as_ref()? {
            Entry::Stroke(scheduled) => {
                let hosts = scheduled.stroke.hosts();
                let only = if hosts.len() == 1 { Some(hosts[0]) } else { None };
                Some((only, format!("fault {}: {}", scheduled.kind, scheduled.stroke)))
            }
            Entry::Operation(planned) => Some((None, format!("client {} means to {}", planned.client, planned.intent.name()))),
            Entry::Silence(client) => Some((None, format!("client {client} falls silent"))),
            Entry::GiveUp(id) => {
                let operation = self.history.operation(*id).filter(|operation| operation.outcome == Outcome::Pending)?;
                Some((Some(operation.host), format!("client {} waits no longer for #{id}", operation.client)))
            }
            Entry::Start(_) | Entry::Resolve(_) | Entry::Beat(_) => None,
        }
    }

    /// Starts a host's process as its shell does: with the addresses that its seeds' names have now.
    pub fn start(&mut self, host: HostId) {
        if self.world.host(host).is_up() || self.buried.contains(&host) {
            return;
        }
        self.world.start(host);
        self.disturb(host);
        self.resolve(host);
    }

    fn resolve(&mut self, host: HostId) {
        if !self.world.host(host).is_up() {
            return;
        }
        let seeds = self.seeds_of(host).into_iter().map(|seed| self.world.host(seed).address).collect();
        self.order(host, Command::SetSeeds(seeds));
        if self.world.config(host).gateway.is_some() {
            let gateways = self.world.host_ids().filter(|host| self.world.config(*host).gateway.is_some());
            let pool = gateways.map(|gateway| wan_of(self.world.host(gateway).address)).collect();
            self.order(host, Command::SetWanSeeds(pool));
        }
        self.schedule(self.world.now() + RESOLVE_NS, Entry::Resolve(host));
    }

    /// The hosts of its own datacenter whose names a host is told.
    fn seeds_of(&self, host: HostId) -> Vec<HostId> {
        let home = self.world.network.datacenter(host);
        self.seeds.iter().map(|number| HostId(*number)).filter(|seed| self.world.network.datacenter(*seed) == home).collect()
    }

    /// Hands a process a command of the run's own, whose answer nobody waits for.
    fn order(&mut self, host: HostId, command: Command) {
        self.next_operation += 1;
        self.world.command(host, Token(OWN_TOKENS + self.next_operation), command);
    }

    pub fn kill(&mut self, host: HostId) {
        if self.world.host(host).is_up() {
            self.down(host);
        }
    }

    /// Enters what a process that ends, or a run that does, has been through.
    pub fn harvest(&mut self, host: HostId) {
        let Some(engine) = self.world.machine(host) else { return };
        for counted in states::COUNTED {
            *self.coverage.entry(sweep::state(counted.name)).or_default() += (counted.count)(engine);
        }
    }

    fn saw(&mut self, name: &'static str) {
        *self.coverage.entry(sweep::state(name)).or_default() += 1;
    }

    /// Enters what became of other datacenters between two views.
    fn saw_remote(&mut self, before: Option<&View>, now: &View) {
        for seen in now.datacenters.iter() {
            let Some(was) = before.and_then(|before| before.datacenter(&seen.name)).filter(|was| was.revision != seen.revision) else {
                continue;
            };
            match (was.state == LinkState::Stale, seen.state == LinkState::Stale) {
                (false, true) => self.saw(states::REMOTE_STALE),
                (true, false) => self.saw(states::REMOTE_BACK),
                _ => {}
            }
            if seen.view.services(None).flat_map(|service| &service.entries).any(|entry| entry.node.liveness == Liveness::Down) {
                self.saw(states::REMOTE_DOWN);
            }
        }
    }

    fn down(&mut self, host: HostId) {
        self.harvest(host);
        self.world.kill(host);
        self.disturb(host);
        self.views[host.index()] = None;
        let at = self.world.now();
        for client in self.clients.iter_mut() {
            let lost = client.waits_for.filter(|id| self.history.operation(*id).is_some_and(|operation| operation.host == host));
            if let Some(id) = lost {
                self.history.give_up(id, at);
                client.waits_for = None;
            }
        }
    }

    fn disturb(&mut self, host: HostId) {
        self.disturbed_at = self.world.now();
        self.changed_at[host.index()] = self.world.now();
    }

    /// The node id that a host's process has now.
    pub fn node(&self, host: HostId) -> Option<NodeId> {
        self.world.machine(host).map(|engine| engine.membership().me().node)
    }

    /// Notes what the run itself did, where a report shows it.
    pub fn remark(&mut self, host: HostId, what: &str) {
        let at = self.world.now();
        self.world.host_mut(host).trace.note(at, Happening::Fault(what.into()));
    }
}
