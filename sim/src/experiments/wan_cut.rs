//! What a cut between two datacenters does to either, and what it takes to mend: everything that is told inside of them, and when, is
//! compared with a run of the same seed in which nothing is cut.

use crate::plan::{Intent, Kept, PlannedClient};
use crate::replay;
use crate::run::{Run, SECOND};
use crate::violation::Violation;
use crate::whole;
use crate::world::disk::SyncTimes;
use crate::world::network::Conditions;
use crate::world::trace::Instant;
use crate::world::{HostId, Note};
use std::collections::BTreeMap;
use std::fmt;
use tidings::model::record::{Content, Uid};
use tidings::view::{DatacenterView, LinkState, View};

/// One way between the datacenters.
const APART_NS: u64 = 25_000_000;
/// For both to form, and to know of each other.
const FORMED_NS: u64 = 60 * SECOND;
/// Each instance changes so often while the link is cut.
const CHANGES_AN_INSTANCE: u32 = 4;
/// Registrations before the cut, one each of these.
const REGISTERED_EACH_NS: u64 = 10_000_000;
/// Longer than any of these runs: leases are kept by renewals that this is not about, and checks report under them.
const TTL_MS: u64 = 30 * 86_400_000;
const MENDED_WITHIN_NS: u64 = 120 * SECOND;
const LOOK_NS: u64 = 10_000_000;
const INSTANCES_A_SERVICE: u32 = 20;

/// Delays without chance in them: what one packet draws would shift what the next one meets.
const EVEN: Conditions = Conditions { delay_ns_max: Conditions::LAN.delay_ns_min, tail_chance: 0.0, ..Conditions::LAN };

/// A disk is one for everything an agent keeps: what it writes of the other datacenter would be in the way of what it writes at home.
const INSTANT: SyncTimes = SyncTimes { ns_min: 0, ns_max: 0, stall_ns_max: 0, stall_chance: 0.0 };

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    /// Of each of the two datacenters.
    pub agents: u32,
    /// Of these, gateways.
    pub gateways: u32,
    pub apart_s: u64,
    /// On each side while they are apart.
    pub changes: u32,
}

/// What a side lacks of the other when the link is whole again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Instances that are new, other than they were, or gone.
    pub instances: u64,
    /// Their records, encoded; for those that are gone, their ids.
    pub bytes: u64,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    pub agents: u32,
    pub gateways: u32,
    pub apart_s: u64,
    pub changes: u32,
    /// What clients were answered, and what agents showed of their own datacenter, from the cut on until all was mended, in each of the two runs.
    pub local_events: usize,
    pub uncut_events: usize,
    /// The first of them that is other than without the cut, or at another time; none: all are the same.
    pub first_difference: Option<String>,
    /// Seconds from the cut until every agent tells that the other datacenter is not heard.
    pub stale_told_s: Option<f64>,
    /// How long ago it was heard last, as the agent says that says least, when the cut ends; none: it is forgotten, after its retention.
    pub age_told_s: Option<f64>,
    /// Seconds from the end of the cut until every agent shows all that the other datacenter does.
    pub complete_s: Option<f64>,
    pub difference: Difference,
    /// What gateways said to each other until then, seals and frames counted, headers of IP not.
    pub bytes: u64,
}

/// What was told inside of datacenters, in order.
#[derive(Default)]
struct Told(Vec<(u64, HostId, String)>);

impl Told {
    fn note(&mut self, run: &Run, note: &Note) {
        let at = run.world.now();
        match note {
            Note::Reply { host, token, outcome } => self.0.push((at, *host, format!("answers #{} {outcome:?}", token.0))),
            Note::View { host, view } => {
                self.0.extend(replay::viewed(run, *host, view, &|_| true).into_iter().map(|line| (at, *host, line)));
            }
            _ => {}
        }
    }

    /// The first that is not the same in both, as far as the shorter one goes.
    fn first_difference(&self, other: &Self) -> Option<String> {
        let tell = |(at, host, line): &(u64, HostId, String)| format!("{} {host} {line}", Instant(*at));
        let differing = self.0.iter().zip(&other.0).find(|(one, other)| one != other);
        differing.map(|(one, other)| format!("{}; without the cut {}", tell(one), tell(other)))
    }
}

/// Plays a cut, and the same without it.
///
/// # Errors
/// An engine logged an error, or the datacenters did not become whole to begin with.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Figures, Violation> {
    let mut cut = Play::begin(settings)?;
    cut.apart(true, progress)?;
    let difference = cut.difference();
    let age_told_s = cut.age_told_s();
    let (complete_s, bytes) = cut.mend(progress)?;
    let mut uncut = Play::begin(settings)?;
    uncut.apart(false, progress)?;
    let (_, end) = (uncut.mend(progress)?, cut.run.world.now().min(uncut.run.world.now()));
    for told in [&mut cut.told.0, &mut uncut.told.0] {
        told.retain(|(at, _, _)| *at <= end);
        // What happens at one instant at several hosts has no order.
        told.sort_by_key(|(at, host, _)| (*at, *host));
    }
    let Settings { agents, gateways, apart_s, changes, .. } = *settings;
    Ok(Figures {
        agents,
        gateways,
        apart_s,
        changes,
        local_events: cut.told.0.len(),
        uncut_events: uncut.told.0.len(),
        first_difference: cut.told.first_difference(&uncut.told),
        stale_told_s: cut.stale_told_s,
        age_told_s,
        complete_s,
        difference,
        bytes,
    })
}

struct Play {
    settings: Settings,
    run: Run,
    sites: Vec<Vec<HostId>>,
    /// Clients of both sides in turn.
    clients: Vec<u32>,
    told: Told,
    stale_told_s: Option<f64>,
}

impl Play {
    /// Two datacenters that know each other, with all instances registered.
    fn begin(settings: &Settings) -> Result<Self, Violation> {
        let mut run = Run::new(settings.seed, EVEN);
        let sizes = [(settings.agents, settings.gateways); 2];
        let sites = run.add_datacenters(&sizes, APART_NS, &|_| {});
        for host in sites.iter().flatten() {
            run.world.host_mut(*host).disk.times = INSTANT;
        }
        run.run_until(FORMED_NS)?;
        let instances = settings.changes / CHANGES_AN_INSTANCE;
        let mut clients = Vec::new();
        for number in 0..instances {
            for site in &sites {
                let home = site[number as usize % site.len()].0;
                let service = number / INSTANCES_A_SERVICE;
                let kept =
                    PlannedClient { keeps: Kept::Instance, service, is_agent_scoped: false, ttl_ms: Some(TTL_MS), home, dies_at: None };
                clients.push(run.add_client(kept));
            }
        }
        for client in &clients {
            run.operate(*client, Intent::Register);
            run.run_for(REGISTERED_EACH_NS)?;
        }
        run.run_for(10 * SECOND)?;
        match whole::lack(&run.scene()) {
            None => Ok(Self { settings: *settings, run, sites, clients, told: Told::default(), stale_told_s: None }),
            Some((hosts, lack)) => Err(run.violation("experiment", hosts, "two datacenters that know each other", &lack)),
        }
    }

    /// The time of the cut, with or without it: every client changes what it has, again and again.
    fn apart(&mut self, is_cut: bool, progress: &dyn Fn(&str)) -> Result<(), Violation> {
        if is_cut {
            self.run.world.network.cut(&self.sites[0], &self.sites[1]);
            self.run.world.network.cut(&self.sites[1], &self.sites[0]);
        }
        let began = self.run.world.now();
        let changes = self.clients.len() as u64 * u64::from(CHANGES_AN_INSTANCE);
        for change in 0..changes {
            let (round, at) = (change / self.clients.len() as u64, (change % self.clients.len() as u64) as usize);
            self.run.operate(self.clients[at], intent(at / 2, round));
            let until = began + self.settings.apart_s * SECOND * (change + 1) / changes;
            while is_cut && self.stale_told_s.is_none() && self.run.world.now() < until {
                self.go_on(until.min(self.run.world.now() + LOOK_NS))?;
                let is_told = self.all_others().all(|other| other.state == LinkState::Stale);
                self.stale_told_s = is_told.then(|| (self.run.world.now() - began) as f64 / 1e9);
            }
            self.go_on(until)?;
            if change % 200 == 0 {
                let seconds = (self.run.world.now() - began) as f64 / 1e9;
                progress(&format!("{}: {seconds:.0} virtual s, {change} of {changes} changes", if is_cut { "cut" } else { "uncut" }));
            }
        }
        Ok(())
    }

    fn go_on(&mut self, until: u64) -> Result<(), Violation> {
        let told = &mut self.told;
        self.run.run_until_told(until, &mut |run, note| told.note(run, note))
    }

    /// Takes the cut back, if there is one; says after how many seconds both sides were complete, and how many bytes crossed until then.
    fn mend(&mut self, progress: &dyn Fn(&str)) -> Result<(Option<f64>, u64), Violation> {
        let (began, before) = (self.run.world.now(), self.far_bytes());
        self.run.world.network.heal();
        let mut complete = None;
        while complete.is_none() && self.run.world.now() < began + MENDED_WITHIN_NS {
            self.go_on(self.run.world.now() + LOOK_NS)?;
            let seconds = (self.run.world.now() - began) as f64 / 1e9;
            progress(&format!("mending for {seconds:.1} virtual s"));
            complete = whole::lack_between(&self.run.scene()).is_none().then_some(seconds);
        }
        let bytes = self.far_bytes() - before;
        // What is not whole at home by then would show here.
        self.go_on(began + MENDED_WITHIN_NS)?;
        Ok((complete, bytes))
    }

    fn far_bytes(&self) -> u64 {
        self.run.world.host_ids().map(|host| self.run.world.host(host).traffic.far_bytes_out).sum()
    }

    fn view(&self, host: HostId) -> Option<&View> {
        self.run.views[host.index()].as_deref()
    }

    /// What each agent shows of the datacenter that it is not in.
    fn all_others(&self) -> impl Iterator<Item = &DatacenterView> {
        let views = self.run.world.host_ids().filter_map(|host| self.view(host));
        views.flat_map(|view| view.datacenters.iter().map(AsRef::as_ref))
    }

    fn age_told_s(&self) -> Option<f64> {
        let wall_ms = |host: HostId| self.run.world.host(host).clock.now(0, self.run.world.now()).wall_ms;
        let ages = self.run.world.host_ids().flat_map(|host| {
            let seen = self.view(host).into_iter().flat_map(|view| view.datacenters.iter());
            seen.map(move |seen| seen.age_ms(wall_ms(host)))
        });
        Some(ages.min()? as f64 / 1e3)
    }

    /// Between what each side has and what the other shows of it, as an agent of each that is no gateway sees it.
    fn difference(&self) -> Difference {
        let mut sum = Difference::default();
        for (side, other) in [(0, 1), (1, 0)] {
            let (at_home, away) = (self.sites[side].last(), self.sites[other].last());
            let seen = away.and_then(|host| self.view(*host)?.datacenters.first()).map(|seen| &*seen.view);
            let (here, there) = (self.view(*at_home.expect("a site has agents")).map(contents), seen.map(contents));
            let (here, there) = (here.unwrap_or_default(), there.unwrap_or_default());
            let changed =
                here.iter().filter(|(uid, content)| there.get(*uid) != Some(*content)).map(|(_, content)| content.as_bytes().len());
            let gone = there.keys().filter(|uid| !here.contains_key(*uid)).map(|_| size_of::<Uid>());
            for bytes in changed.chain(gone) {
                sum.instances += 1;
                sum.bytes += bytes as u64;
            }
        }
        sum
    }
}

/// What the client of that number does in that round: all change what they have, half of them come back at the end.
fn intent(number: usize, round: u64) -> Intent {
    match (round, number.is_multiple_of(2)) {
        (0, _) | (3, true) => Intent::Register,
        (1, _) => Intent::Report,
        (2, true) | (3, false) => Intent::Deregister,
        _ => Intent::Register,
    }
}

fn contents(view: &View) -> BTreeMap<Uid, Content> {
    view.services(None).flat_map(|service| &service.entries).map(|entry| (entry.uid, entry.content.clone())).collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("{s:.2} s"));
        writeln!(
            f,
            "two datacenters of {} agents, {} of them gateways, apart for {} s with {} changes on each side",
            self.agents, self.gateways, self.apart_s, self.changes
        )?;
        let told = match &self.first_difference {
            None if self.local_events == self.uncut_events => "the same, at the same instants, without the cut".to_owned(),
            None => format!("without the cut {}", self.uncut_events),
            Some(difference) => format!("first difference: {difference}"),
        };
        writeln!(f, "{:<34}{} ({told})", "told inside of the datacenters", self.local_events)?;
        writeln!(f, "{:<34}{}", "all say the other is not heard", seconds(self.stale_told_s))?;
        let age = self.age_told_s.map_or("none: forgotten, as its retention is over".to_owned(), |s| format!("{s:.1} s"));
        writeln!(f, "{:<34}{age}", "age told at the end, at least")?;
        writeln!(f, "{:<34}{}", "complete after the cut", seconds(self.complete_s))?;
        writeln!(f, "{:<34}{} instances, {} B", "difference of both sides", self.difference.instances, self.difference.bytes)?;
        let ratio = self.bytes as f64 / self.difference.bytes.max(1) as f64;
        write!(f, "{:<34}{} B, {ratio:.2} of the difference", "crossed until complete", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_not_noticed_inside_and_mended_within_seconds() {
        let settings = Settings { seed: 1, agents: 4, gateways: 2, apart_s: 300, changes: 400 };
        let figures = measure(&settings, &|_| {}).expect("nothing fails");
        assert_eq!((figures.first_difference, figures.local_events), (None, figures.uncut_events));
        assert!(figures.local_events > 400 * 2 * 4, "each change is shown by each agent: {}", figures.local_events);
        assert!(figures.age_told_s.is_some_and(|s| (285.0..=300.0).contains(&s)), "{:?}", figures.age_told_s);
        assert!(figures.complete_s.is_some_and(|s| s < 10.0), "{:?}", figures.complete_s);
        assert_eq!(figures.difference.instances, 200, "all changed, half of them are gone");
    }
}
