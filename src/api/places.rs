//! Which datacenters a reader asks: `?dc=`, `?failover`, `?max_age`. Each is read from this agent's own memory, by the code that reads
//! its own; nothing here waits for a gateway.

use super::refuse::No;
use super::request::{Parameters, wrong};
use super::state::Api;
use crate::agent::handle::wall_ms;
use crate::model::duration;
use crate::schema::Kind;
use crate::view::{DatacenterView, Entry, LinkState, Namespaces, Summarized, View};

/// How old what failover takes may be, where the reader does not say.
const MAX_AGE_MS_DEFAULT: u64 = 600_000;
/// What is older has been dropped (protocol.md §6).
const MAX_AGE_MS_MAX: u64 = 72 * 3_600_000;

/// The datacenters a reader asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// This agent's own: what everybody reads who names none.
    Own,
    Other(String),
    /// All that are known, in order of their names.
    All,
    /// The own one; where it has nothing that fits, the nearest of those that are heard; then those that are not, the freshest first.
    Failover {
        max_age_ms: u64,
    },
}

impl Asked {
    /// # Errors
    /// A parameter is wrong, or names a datacenter that nobody knows.
    pub fn of(api: &Api, parameters: &Parameters) -> Result<Self, No> {
        let is_failover = parameters.flag("failover")?;
        let max_age = parameters.one("max_age")?;
        let Some(name) = parameters.one("dc")? else {
            return match max_age {
                Some(_) if !is_failover => Err(wrong("max_age", "it goes with failover")),
                Some(text) => read_age(text).map(|max_age_ms| Asked::Failover { max_age_ms }),
                None if is_failover => Ok(Asked::Failover { max_age_ms: MAX_AGE_MS_DEFAULT }),
                None => Ok(Asked::Own),
            };
        };
        if is_failover || max_age.is_some() {
            return Err(wrong("failover", "it begins at home: dc names another place to look"));
        }
        let own = api.handle.facts().datacenter.as_str();
        match name {
            "*" => Ok(Asked::All),
            name if name == own => Ok(Asked::Own),
            name => {
                let view = api.handle.view();
                if view.datacenter(name).is_some() {
                    return Ok(Asked::Other(name.to_owned()));
                }
                let mut known: Vec<&str> = view.datacenters.iter().map(|known| known.name.as_str()).chain([own]).collect();
                known.sort_unstable();
                Err(No::new(Kind::UnknownDatacenter, format!("{name:?} is not known here")).at("?dc").allowed(known.join(", ")))
            }
        }
    }

    /// The name that a list bears.
    pub fn shown<'a>(&'a self, api: &'a Api) -> &'a str {
        match self {
            Asked::Own => api.handle.facts().datacenter.as_str(),
            Asked::Other(name) => name,
            Asked::All | Asked::Failover { .. } => "*",
        }
    }

    /// Where to look, in the order of looking. `has_any` says whether a view has something that fits, for those who go on only where
    /// there is nothing.
    pub fn places<'v>(&self, view: &'v View, has_any: impl Fn(&View) -> bool) -> Vec<Place<'v>> {
        let own = Place { name: &view.agent.datacenter, view, other: None, state: LinkState::Fresh, age_ms: 0 };
        let now_ms = wall_ms();
        let others = || {
            view.datacenters.iter().map(|other| Place {
                name: &other.name,
                view: &other.view,
                other: Some(other),
                state: other.state,
                age_ms: other.age_ms(now_ms),
            })
        };
        match self {
            Asked::Own => vec![own],
            Asked::Other(name) => others().filter(|place| place.name == name).collect(),
            Asked::All => {
                let mut all: Vec<Place<'_>> = others().chain([own]).collect();
                all.sort_by_key(|place| place.name);
                all
            }
            Asked::Failover { max_age_ms } => {
                let rtt_of = |place: &Place<'_>| view.datacenter(place.name).and_then(|known| known.rtt_us).unwrap_or(u32::MAX);
                let mut rest: Vec<Place<'_>> = others().filter(|place| place.age_ms <= *max_age_ms).collect();
                rest.sort_by_key(|place| (place.state == LinkState::Stale, place.age_ms, rtt_of(place)));
                let chosen = [own].into_iter().chain(rest).find(|place| has_any(place.view));
                vec![chosen.unwrap_or(own)]
            }
        }
    }
}

fn read_age(text: &str) -> Result<u64, No> {
    let allowed = format!("0s to {}", duration::text(MAX_AGE_MS_MAX));
    let ms = duration::parse_ms(text).filter(|ms| *ms <= MAX_AGE_MS_MAX);
    ms.ok_or_else(|| wrong("max_age", format!("{text:?} is no such duration")).allowed(allowed))
}

/// One datacenter as this agent can answer for it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'v> {
    pub name: &'v str,
    pub view: &'v View,
    /// Where it is not the own one: what else is known of it.
    pub other: Option<&'v DatacenterView>,
    pub state: LinkState,
    pub age_ms: u64,
}

impl<'v> Place<'v> {
    /// Services that are known to be there, and their instances not to cross by themselves.
    pub fn summaries(&self) -> &'v [Summarized] {
        self.other.map_or(&[], |other| &other.summaries)
    }

    /// When the instances of such a service were fetched that are here.
    pub fn fetched_ms(&self, namespace: &str, service: &str) -> Option<u64> {
        self.other?.fetched_ms(namespace, service)
    }

    /// How old one of its entries may be: as the datacenter's word, or as the answer it came with.
    fn age_of(&self, entry: &Entry) -> u64 {
        let of_fetched = self.other.filter(|other| !other.fetched.is_empty());
        let key = of_fetched.and_then(|other| Some((other, entry.content.key().ok()?)));
        key.map_or(self.age_ms, |(other, key)| other.age_of(&key.namespace, &key.name, wall_ms()))
    }
}

/// Whether all that was asked for is here: while a gateway still takes in what it lacked, there may be more.
pub fn is_complete(places: &[Place<'_>]) -> bool {
    places.iter().all(|place| place.state != LinkState::Lagging)
}

/// Whether one of these places has a service of that name, of which only its summary is known here.
pub fn is_summarized(places: &[Place<'_>], namespaces: &Namespaces, name: &str) -> bool {
    let is_meant = |one: &Summarized| namespaces.hold(&one.key.namespace) && one.key.service.as_str() == name;
    let is_here = |place: &Place<'_>, one: &Summarized| {
        let namespace = one.key.namespace.as_str();
        place.view.service(namespace, name).is_some() || place.fetched_ms(namespace, name).is_some()
    };
    places.iter().any(|place| place.summaries().iter().any(|one| is_meant(one) && !is_here(place, one)))
}

/// How old an entry out of one of these places may be.
pub fn age_ms(places: &[Place<'_>], entry: &Entry) -> u64 {
    places.iter().find(|place| place.name == entry.node.datacenter).map_or(0, |place| place.age_of(entry))
}
