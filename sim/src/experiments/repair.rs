//! What it takes to find and to mend a difference: of a few origins among many, and of two halves of a cluster that were apart for long.

use super::acquainted;
use crate::plan::{Intent, Kept, PlannedClient};
use crate::rng::Rng;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::world::HostId;
use crate::world::network::Conditions;
use tidings::engine::Engine;
use tidings::model::instance::Instance;
use tidings::model::record::{Kind, RecordState};

/// One agent is out of reach for so long: others write, and spread what they wrote. Not so long that it takes itself for cut off, and
/// exchanges everything at once.
const AWAY_NS: u64 = 500_000_000;
const MENDED_WITHIN_NS: u64 = 240 * SECOND;
const LOOK_NS: u64 = 10_000_000;

/// What an agent that was away for a moment lacks.
#[derive(Debug, Clone, Copy)]
pub struct Diverged {
    pub seed: u64,
    /// As many origins.
    pub nodes: u32,
    /// Origins of which it lacks a change.
    pub diverged: u32,
}

/// Two halves, apart for long.
#[derive(Debug, Clone, Copy)]
pub struct Partition {
    pub seed: u64,
    pub nodes: u32,
    pub apart_s: u64,
    /// On each side, to a fifth as many instances.
    pub changes: u32,
}

/// What was sent by all agents while the difference was mended, less what they send at rest.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Cost {
    /// Exchanges over heads that were begun, and those of them that found nothing.
    pub exchanges: u64,
    pub in_vain: u64,
    pub sketches_decoded: u64,
    pub sketches_undecoded: u64,
    /// To find what differs: sketches, pages of heads, and heads that are told.
    pub finding_bytes: u64,
    /// To ask for what is lacked, and to send it.
    pub asking_bytes: u64,
    pub delta_bytes: u64,
    pub streams: u64,
    pub stream_bytes: u64,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Mended {
    /// What this was.
    pub what: String,
    pub nodes: u32,
    /// Encoded records that one side, or one agent, had and others lacked, each counted once for each agent that lacked it.
    pub difference_records: u64,
    pub difference_bytes: u64,
    /// Seconds from the end of the cut until everybody holds everybody up, and until all hold the same records; none: not in time.
    pub members_s: Option<f64>,
    pub records_s: Option<f64>,
    pub cost: Cost,
}

/// Lets one agent miss changes of some origins, and mends that.
///
/// # Errors
/// An engine logged an error, or nothing differed.
pub fn diverged(settings: &Diverged, progress: &dyn Fn(&str)) -> Result<Mended, Violation> {
    let mut run = Run::new(settings.seed, Conditions::LAN);
    let hosts = acquainted::cluster(&mut run, settings.nodes, &acquainted::sealed(settings.seed), progress)?;
    let mut order = hosts.clone();
    Rng::new(settings.seed, "repair", 0).shuffle(&mut order);
    let (away, writing) = (order[0], &order[1..][..(settings.diverged as usize).min(hosts.len() - 1)]);
    run.world.network.isolate(away);
    for host in writing {
        let client = run.add_client(instance(0, *host));
        run.operate(client, Intent::Register);
    }
    run.run_for(AWAY_NS)?;
    let difference = (writing.len() as u64, record_bytes(&run, writing));
    run.world.network.rejoin(away);
    mend(&mut run, &hosts, format!("{} origins diverged at one agent", writing.len()), difference, progress)
}

/// Cuts a cluster in two halves that both go on, and mends that.
///
/// # Errors
/// An engine logged an error, or nothing differed.
pub fn partition(settings: &Partition, progress: &dyn Fn(&str)) -> Result<Mended, Violation> {
    /// Each instance is written so often.
    const WRITES: u32 = 5;
    let mut run = Run::new(settings.seed, Conditions::LAN);
    let hosts = acquainted::cluster(&mut run, settings.nodes, &acquainted::sealed(settings.seed), progress)?;
    let (left, right) = hosts.split_at(hosts.len() / 2);
    run.world.network.cut(left, right);
    run.world.network.cut(right, left);
    let began = run.world.now();
    let clients: Vec<u32> = (0..settings.changes / WRITES * 2)
        .map(|number| {
            let side = if number % 2 == 0 { left } else { right };
            run.add_client(instance(number / 20, side[number as usize / 2 % side.len()]))
        })
        .collect();
    let changes = clients.len() as u64 * u64::from(WRITES);
    for change in 0..changes {
        run.operate(clients[(change % clients.len() as u64) as usize], Intent::Register);
        run.run_until(began + settings.apart_s * SECOND * (change + 1) / changes)?;
        if change % 200 == 0 {
            progress(&format!("apart for {:.0} virtual s, {change} of {changes} changes", (run.world.now() - began) as f64 / 1e9));
        }
    }
    run.run_for(10 * SECOND)?;
    let sides = [(left, right.len() as u64), (right, left.len() as u64)];
    let lacked = |of: &dyn Fn(&[HostId]) -> u64| sides.iter().map(|(side, others)| of(side) * others).sum();
    let records = lacked(&|side| record_count(&run, side));
    let bytes = lacked(&|side| record_bytes(&run, side));
    run.world.network.mend(left, right);
    run.world.network.mend(right, left);
    mend(&mut run, &hosts, format!("{changes} changes, {} s apart", settings.apart_s), (records, bytes), progress)
}

/// In services of some dozen instances.
fn instance(service: u32, at: HostId) -> PlannedClient {
    PlannedClient { keeps: Kept::Instance, service, is_agent_scoped: false, ttl_ms: None, home: at.0, dies_at: None }
}

/// Waits until all is the same everywhere, and counts what that costs.
fn mend(run: &mut Run, hosts: &[HostId], what: String, difference: (u64, u64), progress: &dyn Fn(&str)) -> Result<Mended, Violation> {
    if same_records(run, hosts) {
        return Err(run.violation("experiment", vec![], "a difference to mend", "there is none"));
    }
    let (began, before) = (run.world.now(), Cost::so_far(run, hosts));
    let (mut members_s, mut records_s) = (None, None);
    while (members_s.is_none() || records_s.is_none()) && run.world.now() < began + MENDED_WITHIN_NS {
        run.run_for(LOOK_NS)?;
        let seconds = (run.world.now() - began) as f64 / 1e9;
        if members_s.is_none()
            && hosts.iter().filter_map(|host| run.world.machine(*host)).all(|engine| engine.membership().alive() == hosts.len())
        {
            members_s = Some(seconds);
        }
        if same_records(run, hosts) {
            records_s.get_or_insert(seconds);
        }
        progress(&format!("{what}: mending for {seconds:.1} virtual s"));
    }
    let cost = Cost::so_far(run, hosts).less(&before);
    let (difference_records, difference_bytes) = difference;
    Ok(Mended { what, nodes: hosts.len() as u32, difference_records, difference_bytes, members_s, records_s, cost })
}

fn same_records(run: &Run, hosts: &[HostId]) -> bool {
    let mut roots = hosts.iter().filter_map(|host| run.world.machine(*host)).map(|engine| engine.catalog().root());
    let first = roots.next();
    roots.all(|root| Some(root) == first)
}

/// What these wrote of instances, encoded.
fn record_bytes(run: &Run, hosts: &[HostId]) -> u64 {
    own_instances(run, hosts).map(|bytes| bytes as u64).sum()
}

fn record_count(run: &Run, hosts: &[HostId]) -> u64 {
    own_instances(run, hosts).count() as u64
}

/// Beside instances, each agent wrote a record of its node, which all have.
fn own_instances(run: &Run, hosts: &[HostId]) -> impl Iterator<Item = usize> {
    let histories = hosts.iter().filter_map(|host| run.world.machine(*host)).filter_map(|engine| engine.introduction().origin);
    histories.flat_map(|origin| origin.records).filter_map(|record| match record.state {
        RecordState::Live(content) if content.decode::<Instance<'_>>().is_ok_and(|(key, _)| key.kind == Kind::INSTANCE) => {
            Some(content.as_bytes().len())
        }
        _ => None,
    })
}

impl Cost {
    fn so_far(run: &Run, hosts: &[HostId]) -> Self {
        let mut cost = Self::default();
        for host in hosts {
            let Some(engine): Option<&Engine> = run.world.machine(*host) else { continue };
            let counted = engine.spread().counters;
            cost.exchanges += counted.exchanges;
            cost.in_vain += counted.exchanges_in_vain;
            cost.sketches_decoded += counted.sketches_decoded;
            cost.sketches_undecoded += counted.sketches_undecoded;
            cost.finding_bytes += counted.repair_bytes_sent + counted.advert_bytes_sent;
            cost.asking_bytes += counted.want_bytes_sent;
            cost.delta_bytes += counted.answer_bytes_sent + counted.delta_bytes_sent;
            cost.streams += counted.streams_opened;
            cost.stream_bytes += run.world.host(*host).traffic.stream_bytes_out;
        }
        cost
    }

    fn less(&self, before: &Self) -> Self {
        Self {
            exchanges: self.exchanges - before.exchanges,
            in_vain: self.in_vain - before.in_vain,
            sketches_decoded: self.sketches_decoded - before.sketches_decoded,
            sketches_undecoded: self.sketches_undecoded - before.sketches_undecoded,
            finding_bytes: self.finding_bytes - before.finding_bytes,
            asking_bytes: self.asking_bytes - before.asking_bytes,
            delta_bytes: self.delta_bytes - before.delta_bytes,
            streams: self.streams - before.streams,
            stream_bytes: self.stream_bytes - before.stream_bytes,
        }
    }

    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.finding_bytes + self.asking_bytes + self.delta_bytes + self.stream_bytes
    }
}

/// The figures as a table.
pub fn table(figures: &[Mended]) -> String {
    let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("{s:.2}"));
    let mut text = format!(
        "{:<36}{:>7}{:>10}{:>12}{:>11}{:>11}{:>10}{:>10}{:>11}{:>11}{:>9}{:>12}\n",
        "what",
        "agents",
        "records",
        "bytes",
        "members,s",
        "records,s",
        "exchanges",
        "sketches",
        "finding,B",
        "deltas,B",
        "streams",
        "stream,B"
    );
    for row in figures {
        let sketches = format!("{}/{}", row.cost.sketches_decoded, row.cost.sketches_decoded + row.cost.sketches_undecoded);
        text += &format!(
            "{:<36}{:>7}{:>10}{:>12}{:>11}{:>11}{:>10}{sketches:>10}{:>11}{:>11}{:>9}{:>12}\n",
            row.what,
            row.nodes,
            row.difference_records,
            row.difference_bytes,
            seconds(row.members_s),
            seconds(row.records_s),
            row.cost.exchanges,
            row.cost.finding_bytes,
            row.cost.asking_bytes + row.cost.delta_bytes,
            row.cost.streams,
            row.cost.stream_bytes,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_agent_missed_comes_in_one_or_two_sketches() {
        let mended = diverged(&Diverged { seed: 1, nodes: 20, diverged: 4 }, &|_| {}).expect("nothing fails");
        assert_eq!(mended.difference_records, 4, "{mended:?}");
        assert!(mended.records_s.is_some_and(|s| s < 20.0), "{mended:?}");
        assert!(mended.cost.bytes() > mended.difference_bytes, "{mended:?}");
    }

    #[test]
    fn halves_that_were_apart_become_one() {
        let mended = partition(&Partition { seed: 1, nodes: 6, apart_s: 60, changes: 100 }, &|_| {}).expect("nothing fails");
        assert_eq!(mended.difference_records, 2 * 20 * 3, "{mended:?}");
        assert!(mended.members_s.is_some() && mended.records_s.is_some(), "{mended:?}");
    }
}
