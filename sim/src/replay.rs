//! What happened, told line by line: faults, operations, answers, writes, what each agent heard of whom, and how views changed.

use crate::plan::Plan;
use crate::reader::Reader;
use crate::run::Run;
use crate::swarm::{self, Options};
use crate::violation::Violation;
use crate::world::trace::Instant;
use crate::world::{Freeze, HostId, Note};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidings::model::names::NodeId;
use tidings::model::record::{RecordState, Uid};
use tidings::view::{Changes, MemberState, View};

/// What is told.
#[derive(Debug, Clone, Default)]
pub struct Telling {
    /// Only from here on.
    pub from: u64,
    /// Only of these hosts, where there are any.
    pub hosts: BTreeSet<HostId>,
    /// Of catalogs, only what this host writes.
    pub origin: Option<HostId>,
    /// Datagrams, too, with the kinds of their parts.
    pub packets: bool,
}

/// Replays a plan up to an instant, and hands each line to `say`; at the end, how everybody stands.
///
/// # Errors
/// What a checker found.
pub fn replay(plan: &Plan, options: &Options, until: u64, telling: Option<&Telling>, say: &mut dyn FnMut(&str)) -> Result<(), Violation> {
    let mut run = swarm::prepare(plan, options);
    let mut teller = Teller::new(&run, plan, telling.cloned());
    let mut verdict = run.run_until_told(until.min(plan.calm_from), &mut |run, note| teller.hear(run, note, say));
    if verdict.is_ok() && until > plan.calm_from {
        say(&format!("{:>14}      calm: all faults end, the dead come back", Instant(plan.calm_from).to_string()));
        run.calm_down();
        verdict = run.run_until_told(until, &mut |run, note| teller.hear(run, note, say));
    }
    say(&format!("{:>14}      everybody stands as follows", Instant(run.world.now()).to_string()));
    for host in run.world.host_ids() {
        say(&standing(&run, host));
    }
    verdict
}

struct Teller {
    telling: Option<Telling>,
    reader: Reader,
    /// What each host's process held of each origin when it was looked at last.
    heads: BTreeMap<(HostId, NodeId), (u64, u64)>,
    roots: BTreeMap<HostId, u64>,
}

impl Teller {
    fn new(run: &Run, plan: &Plan, telling: Option<Telling>) -> Self {
        let label = &run.world.config(HostId(0)).label;
        Self { telling, reader: Reader::new(label, plan.key()), heads: BTreeMap::new(), roots: BTreeMap::new() }
    }

    fn hear(&mut self, run: &Run, note: &Note, say: &mut dyn FnMut(&str)) {
        let Some(telling) = self.telling.clone() else { return };
        let at = run.world.now();
        // Heads are kept up to date also while nothing is told.
        let lines = self.lines(run, note, &telling);
        let concerns = |host: &HostId| telling.hosts.is_empty() || telling.hosts.contains(host);
        for (host, line) in lines.into_iter().filter(|(host, _)| at >= telling.from && host.as_ref().is_none_or(concerns)) {
            let host = host.map_or(String::new(), |host| host.to_string());
            say(&format!("{:>14} {host:<4} {line}", Instant(at).to_string()));
        }
    }

    fn lines(&mut self, run: &Run, note: &Note, telling: &Telling) -> Vec<(Option<HostId>, String)> {
        let is_origin = |node: NodeId| telling.origin.is_none_or(|origin| run.truth.hosts_of(node).contains(&origin));
        match note {
            Note::Started { host } => {
                self.heads.retain(|(at, _), _| at != host);
                self.roots.remove(host);
                let node = run.world.machine(*host).map(|engine| engine.membership().me());
                vec![(Some(*host), format!("process starts as {}", node.map_or(String::new(), |me| format!("{:?}", me.node))))]
            }
            Note::Stopped { host } => vec![(Some(*host), "agent has left".into())],
            Note::Spinning { host } => vec![(Some(*host), "asks for a turn again and again".into())],
            Note::Due(entry) => run.meaning(*entry).into_iter().collect(),
            Note::Reply { host, token, outcome } => {
                let Some(operation) = run.history.operation(token.0) else { return vec![] };
                let answer = match outcome {
                    Ok(reply) => format!("{reply:?}"),
                    Err(refusal) => format!("refused: {refusal}"),
                };
                vec![(Some(*host), format!("answers client {}'s {} #{}: {answer}", operation.client, operation.intent.name(), token.0))]
            }
            Note::Persisted { host, ops } => {
                let is_told = telling.origin.is_none_or(|origin| origin == *host);
                let written = ops.iter().filter_map(|op| match op {
                    tidings::engine::io::StoreOp::Record { uid, record } if is_told => {
                        let what = if matches!(record.state, RecordState::Live(_)) { "live" } else { "deleted" };
                        Some((Some(*host), format!("writes {} as seq {} claim {}, {what}", short(*uid), record.seq, record.claim)))
                    }
                    _ => None,
                });
                written.collect()
            }
            Note::Handled { host } => self.heard(run, *host, &is_origin),
            Note::View { host, view } => viewed(run, *host, view, &is_origin).into_iter().map(|line| (Some(*host), line)).collect(),
            Note::Received { host, from, bytes } if telling.packets => {
                let sender = run.world.host_at(*from).map_or_else(|| from.to_string(), |host| host.to_string());
                let parts = self.reader.parts(bytes).map_or("not opened".to_owned(), |kinds| kinds.join(", "));
                vec![(Some(*host), format!("gets {} B from {sender}: {parts}", bytes.len()))]
            }
            Note::Sent { .. } | Note::Received { .. } => vec![],
        }
    }

    /// Which heads have moved at a host: what was delivered there, in the end.
    fn heard(&mut self, run: &Run, host: HostId, is_origin: &dyn Fn(NodeId) -> bool) -> Vec<(Option<HostId>, String)> {
        let Some(engine) = run.world.machine(host) else { return vec![] };
        if self.roots.insert(host, engine.catalog().root()) == Some(engine.catalog().root()) {
            return vec![];
        }
        let mut lines = Vec::new();
        for head in engine.catalog().heads() {
            let now = (head.epoch, head.seq);
            let before = self.heads.insert((host, head.origin), now);
            let is_own = engine.membership().me().node == head.origin;
            if before == Some(now) || is_own || !is_origin(head.origin) {
                continue;
            }
            let from = before.filter(|before| before.0 == now.0).map_or(String::new(), |before| format!(" from seq {}", before.1));
            lines.push((Some(host), format!("has heard {}{from} up to epoch {} seq {}", named(run, head.origin), head.epoch, head.seq)));
        }
        lines
    }
}

/// How one view differs from the one before.
pub fn viewed(run: &Run, host: HostId, view: &Arc<View>, is_origin: &dyn Fn(NodeId) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    let before = run.views[host.index()].as_ref();
    if before.is_none_or(|before| before.members_revision != view.members_revision) {
        let states: BTreeMap<NodeId, MemberState> =
            before.iter().flat_map(|view| view.members.iter()).map(|member| (member.id, member.state)).collect();
        let changed = view.members.iter().filter(|member| states.get(&member.id) != Some(&member.state));
        lines.extend(changed.map(|member| {
            let was = states.get(&member.id).map_or("unknown", |state| state.as_str());
            format!("holds {} {}, was {was}", named(run, member.id), member.state.as_str())
        }));
    }
    let flags = |view: &View| (view.agent.is_ready, view.agent.is_cut_off);
    if before.map(|before| flags(before)) != Some(flags(view)) {
        let (ready, cut_off) = flags(view);
        lines.push(format!("is {}{}", if ready { "ready" } else { "not ready" }, if cut_off { ", and holds itself cut off" } else { "" }));
    }
    if let Changes::Batches(batches) = view.changes_since(before.map_or(0, |before| before.revision)) {
        for change in batches.iter().flat_map(|batch| batch.changes.iter()) {
            let told = |entry: &Option<tidings::view::Entry>| {
                entry.as_ref().map_or("nothing".to_owned(), |entry| {
                    format!("{:?} {:?} of {}", entry.standing, entry.health, named(run, entry.node.id))
                })
            };
            let concerned = [&change.before, &change.after].into_iter().flatten().any(|entry| is_origin(entry.node.id));
            if concerned {
                lines.push(format!(
                    "shows {} of {} as {}, was {}",
                    short(change.uid()),
                    change.service.service.as_str(),
                    told(&change.after),
                    told(&change.before)
                ));
            }
        }
    }
    lines
}

/// A node by the host that writes as it, where there is one.
fn named(run: &Run, node: NodeId) -> String {
    let hosts: Vec<String> = run.truth.hosts_of(node).iter().map(HostId::to_string).collect();
    if hosts.is_empty() { format!("{node:?}") } else { hosts.join("/") }
}

fn short(uid: Uid) -> String {
    format!("{:08x}", (uid.0 >> 96) as u32)
}

fn standing(run: &Run, host: HostId) -> String {
    let name = host.to_string();
    let frozen = match run.world.host(host).frozen {
        None => "",
        Some(Freeze::Whole) => ", frozen",
        Some(Freeze::Packets) => ", without packets",
    };
    let Some(engine) = run.world.machine(host) else { return format!("{:>14} {name:<4} down", "") };
    let members = engine.membership().members().count() + 1;
    let (ready, root) = (if engine.is_ready() { "ready" } else { "not ready" }, engine.catalog().root());
    let shown = run.views[host.index()].as_ref().map_or(0, |view| view.services(None).map(|service| service.available().count()).sum());
    let cut_off = if engine.membership().is_cut_off() { ", cut off" } else { "" };
    let alive = engine.membership().alive();
    format!(
        "{:>14} {name:<4} {ready}{cut_off}{frozen}: {alive} alive of {members} members, {shown} instances handed out, root {root:016x}",
        ""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(telling: Option<&Telling>, until: u64) -> Vec<String> {
        crate::log::listen(None);
        let plan = Plan::of_seed(3, &BTreeSet::new(), None);
        let mut lines = Vec::new();
        replay(&plan, &Options::default(), until, telling, &mut |line| lines.push(line.to_owned())).unwrap();
        lines
    }

    const UNTIL: u64 = 30_000_000_000;

    #[test]
    fn tells_faults_operations_deliveries_and_views_and_ends_with_how_all_stand() {
        let lines = told(Some(&Telling::default()), UNTIL);
        for part in ["process starts as", "fault ", "answers client", "writes ", "has heard h", "holds h", "shows "] {
            assert!(lines.iter().any(|line| line.contains(part)), "no line says {part:?}");
        }
        let hosts = Plan::of_seed(3, &BTreeSet::new(), None).hosts.len();
        assert_eq!(told(None, UNTIL).len(), hosts + 1);
    }

    #[test]
    fn filters_leave_what_they_name() {
        let one = Telling { hosts: BTreeSet::from([HostId(1)]), origin: Some(HostId(0)), from: UNTIL / 2, packets: false };
        let lines = told(Some(&one), UNTIL);
        let told: Vec<&String> = lines.iter().take_while(|line| !line.contains("everybody stands")).collect();
        assert!(!told.is_empty());
        for line in told {
            assert!(!line.contains("has heard h2") && !line.contains(" h3   "), "{line}");
        }
    }
}
