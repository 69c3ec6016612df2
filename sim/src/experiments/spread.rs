//! How long one change takes to reach all agents, and what it costs (figure 6 of the registry's issue).
//!
//! A packet counts as one that would not have been sent otherwise if it holds no packet of the membership; it counts whole, sealed, with
//! the 28 bytes of its IP and UDP headers. What rides along with membership is counted apart.

use super::Summary;
use super::acquainted::{self, Beginning};
use crate::plan::{Intent, Kept, PlannedClient};
use crate::reader::{ROOTS, Reader, SWIM};
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::network::Conditions;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use tidings::engine::Engine;
use tidings::engine::config::EngineConfig;

/// Makes a record of about 150 B, as the figure has it.
const PADDING_BYTES: usize = 64;
/// IPv4 and UDP.
const HEADER_BYTES: u64 = 28;

#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u32,
    pub loss: f64,
    pub trials: u32,
    pub beginning: Beginning,
}

/// The figures.
#[derive(Debug, serde::Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub loss: f64,
    pub record_bytes: usize,
    /// Milliseconds from the command to the last agent's view.
    pub all_ms: Option<Summary>,
    /// Milliseconds to any agent's view, over all agents and trials.
    pub any_ms: Option<Summary>,
    /// Bytes a node received in packets of their own, a change.
    pub bytes_a_node: f64,
    /// Datagrams of that kind a node, a change.
    pub packets_a_node: f64,
    /// Packets that hold no membership, from everybody together, in the 60 s after quiescence.
    pub idle_packets: u64,
    /// Milliseconds until one that joins knows everything.
    pub join_ms: Option<f64>,
    /// Milliseconds until the cluster had formed, from nothing; none if it began whole.
    pub formed_ms: Option<f64>,
}

/// # Errors
/// The cluster did not come together, or a change did not reach everybody.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let configure = acquainted::sealed(settings.seed);
    let mut run = Run::new(settings.seed, Conditions { loss: settings.loss, ..Conditions::LAN });
    let (hosts, formed) = acquainted::begin(&mut run, settings.nodes, settings.beginning, &configure, progress)?;
    let mut rng = Rng::new(settings.seed, "experiment", 0);
    let mut meter = Meter::new(&run);
    run.world.notes_packets = true;
    let (mut all, mut any) = (Vec::new(), Vec::new());
    let mut record_bytes = 0;
    for trial in 0..settings.trials {
        progress(&format!("{} agents: change {trial} of {}", settings.nodes, settings.trials));
        let from = *rng.pick(&hosts);
        let times = one_change(&mut run, &mut meter, from, trial, &mut record_bytes)?;
        all.extend(times.iter().copied().reduce(f64::max));
        any.extend(times);
        meter.run_for(&mut run, 3 * SECOND)?;
    }
    let changes = f64::from(settings.trials) * f64::from(settings.nodes);
    let (bytes_a_node, packets_a_node) = (meter.bytes as f64 / changes, meter.packets as f64 / changes);
    meter.run_for(&mut run, 10 * SECOND)?;
    let before = meter.packets;
    meter.run_for(&mut run, 60 * SECOND)?;
    let idle_packets = meter.packets - before;
    run.world.notes_packets = false;
    Ok(Figures {
        nodes: settings.nodes,
        loss: settings.loss,
        record_bytes,
        all_ms: Summary::of(&all),
        any_ms: Summary::of(&any),
        bytes_a_node,
        packets_a_node,
        idle_packets,
        join_ms: join(&mut run, &configure)?,
        formed_ms: formed.map(|ns| ns as f64 / 1e6),
    })
}

/// One registration; milliseconds until each of the others shows it.
fn one_change(run: &mut Run, meter: &mut Meter, from: HostId, trial: u32, record_bytes: &mut usize) -> Result<Vec<f64>, Violation> {
    let client = run.add_client(PlannedClient {
        keeps: Kept::Instance,
        service: trial,
        is_agent_scoped: false,
        ttl_ms: None,
        home: from.0,
        dies_at: None,
    });
    run.clients[client as usize].padding_bytes = PADDING_BYTES;
    let service = run.clients[client as usize].service();
    let began = run.world.now();
    run.operate(client, Intent::Register);
    let mut waiting: Vec<HostId> = run.world.host_ids().filter(|host| *host != from && run.world.host(*host).is_up()).collect();
    let mut times = Vec::with_capacity(waiting.len());
    let end = began + 30 * SECOND;
    while !waiting.is_empty() && run.world.now() < end {
        meter.run_for(run, 500_000)?;
        waiting.retain(|host| {
            let found = run.views[host.index()].as_ref().and_then(|view| view.service("default", service.as_str()).cloned());
            if let Some(service) = &found {
                *record_bytes = service.entries[0].content.as_bytes().len();
                times.push((run.world.now() - began) as f64 / 1e6);
            }
            found.is_none()
        });
    }
    if waiting.is_empty() {
        return Ok(times);
    }
    Err(run.violation("experiment", waiting, "the change everywhere within 30 s", "it is not"))
}

/// One more agent; milliseconds until it knows all that the others know.
fn join(run: &mut Run, configure: &dyn Fn(&mut EngineConfig)) -> Result<Option<f64>, Violation> {
    let known = run.world.host_ids().count();
    let joiner = run.add_agents(1, configure)[0];
    let began = run.world.now();
    run.start(joiner);
    while run.world.now() < began + 30 * SECOND {
        run.run_for(1_000_000)?;
        let Some(engine) = run.world.machine(joiner) else { break };
        let Some(sponsor) = run.world.machine(HostId(0)) else { break };
        // Its own node record may not have reached the sponsor yet: all but that is compared.
        let me = engine.membership().me().node;
        let heads = |engine: &Engine| -> Vec<_> {
            engine.catalog().heads().filter(|head| head.origin != me).map(|head| (head.origin, head.seq)).collect()
        };
        if engine.spread().is_ready() && engine.membership().alive() > known && heads(engine) == heads(sponsor) {
            return Ok(Some((run.world.now() - began) as f64 / 1e6));
        }
    }
    Ok(None)
}

/// Reads all that is received, as somebody with the key can.
pub(super) struct Meter {
    reader: Reader,
    pub bytes: u64,
    pub packets: u64,
    ridden: BTreeMap<u8, u64>,
}

impl Meter {
    pub fn new(run: &Run) -> Self {
        let config = run.world.config(HostId(0));
        Self { reader: Reader::new(&config.label, config.keys.first().copied()), bytes: 0, packets: 0, ridden: BTreeMap::new() }
    }

    pub fn run_for(&mut self, run: &mut Run, ns: u64) -> Result<(), Violation> {
        run.run_until_told(run.world.now() + ns, &mut |_, note| self.read(note))
    }

    fn read(&mut self, note: &Note) {
        let Note::Received { bytes, .. } = note else { return };
        let Some(kinds) = self.reader.variants(bytes) else { return };
        if kinds.contains(&SWIM) {
            for kind in kinds.into_iter().filter(|kind| *kind > ROOTS) {
                *self.ridden.entry(kind).or_default() += 1;
            }
        } else {
            self.bytes += bytes.len() as u64 + HEADER_BYTES;
            self.packets += 1;
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |summary: &Option<Summary>| summary.map_or("nothing".to_owned(), |summary| summary.to_string());
        writeln!(f, "{} agents, {:.0} % loss, LAN delays; a record of {} B", self.nodes, self.loss * 100.0, self.record_bytes)?;
        writeln!(f, "  formed from nothing     {}", self.formed_ms.map_or("no: it began whole".to_owned(), |ms| format!("{ms:.0} ms")))?;
        writeln!(f, "  one change to all, ms   {}", shown(&self.all_ms))?;
        writeln!(f, "  one change to each, ms  {}", shown(&self.any_ms))?;
        writeln!(f, "  bytes a node, a change  {:.0} in {:.2} packets", self.bytes_a_node, self.packets_a_node)?;
        writeln!(f, "  packets in 60 s of rest {}", self.idle_packets)?;
        write!(f, "  a joiner knows all, ms  {}", self.join_ms.map_or("not within 30 s".to_owned(), |ms| format!("{ms:.0}")))
    }
}
