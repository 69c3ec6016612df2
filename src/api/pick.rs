//! `GET /api/v1/services/{service}/pick`: the agent chooses.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};

use super::answer::answer;
use super::encode::{self, Decoded};
use super::fetch::Lookup;
use super::near::Distances;
use super::places::{Asked, age_ms};
use super::query::{FILTERS, Query};
use super::refuse::No;
use super::request::{Names, Parameters, service_key, wrong};
use super::state::Api;
use crate::schema::{self, Kind};
use crate::select::{self, Candidate, Distance, Strategy};
use crate::view::{Entry, Namespaces, Service, View};

const PICKS_MAX: u64 = 1_000;

/// `GET /api/v1/services/{service}/pick`
pub async fn pick(State(api): State<Api>, Names(name): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["strategy", "key", "n", "near", "wait"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    let Namespaces::One(namespace) = query.namespaces.clone() else {
        return Err(No::new(Kind::BadName, "a pick is made in one namespace").at("?namespace"));
    };
    let strategy = match parameters.one("strategy")? {
        None => Strategy::Random,
        Some(word) => Strategy::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == word)
            .ok_or_else(|| wrong("strategy", format!("{word:?} is no strategy")).allowed(Strategy::ALL.map(Strategy::as_str).join(", ")))?,
    };
    let text = parameters.one("key")?;
    if strategy == Strategy::Hash && text.is_none() {
        return Err(wrong("key", "hash needs a key to choose by"));
    }
    let n = usize::try_from(parameters.number("n", PICKS_MAX)?.unwrap_or(1)).unwrap_or(1);
    let key = service_key(namespace, &name)?;
    let limit = parameters.wait_limit()?;
    let view = match Lookup::of(&query, [name.as_str()]) {
        Some(lookup) => api.handle.fetched(&lookup, limit).await,
        None => api.handle.view(),
    };
    let select = |view: &'_ View| view.service(key.namespace.as_str(), key.service.as_str()).cloned();
    let has_any = |view: &View| select(view).is_some_and(|service| query.filter.select(&service).next().is_some());
    let places = query.asked.places(&view, has_any);
    let services: Vec<Arc<Service>> = places.iter().filter_map(|place| select(place.view)).collect();
    let entries: Vec<&Entry> = services.iter().flat_map(|service| query.filter.select(service)).collect();
    let distances = match strategy {
        Strategy::Nearest => Some(Distances::asked(&view, query.near.as_deref())?.unwrap_or_else(|| Distances::here(&view))),
        _ if query.near.is_some() => return Err(wrong("near", "it goes with strategy=nearest")),
        _ => None,
    };
    let candidate = |entry: &&Entry| Candidate {
        uid: entry.uid,
        weight: entry.weight,
        distance: distances.as_ref().map_or(Distance::Elsewhere, |from| from.between(entry)),
        rtt_us: distances.as_ref().and_then(|from| from.round_trip_us(entry)),
    };
    let candidates: Vec<Candidate> = entries.iter().map(candidate).collect();
    let random = api.dice.roll();
    let text = text.unwrap_or_default().as_bytes();
    let choose = |state: &mut select::State| select::choose(strategy, &candidates, state, random, text, n);
    let chosen = match strategy {
        // Turns are remembered by service and filter: two readers who want different things do not take each other's.
        Strategy::RoundRobin | Strategy::Weighted => {
            api.turns.with(format!("{strategy:?} {key} {:?} {:?}", query.asked, query.filter), choose)
        }
        Strategy::Random | Strategy::Hash | Strategy::Nearest => choose(&mut select::State::default()),
    };
    let aged = |entry: &'_ Entry| age_ms(&places, entry);
    let chosen = chosen.into_iter().map(|at| entries[at]);
    let decoded: Vec<Decoded<'_>> = chosen.filter_map(|entry| Some(Decoded::of(entry)?.aged(aged(entry)))).collect();
    let revision = match query.asked {
        Asked::Own => view.revision_of(key.namespace.as_str(), key.service.as_str()),
        _ => view.revision,
    };
    let body = encode::to_bytes(&schema::Pick {
        service: key.service.as_str().into(),
        namespace: key.namespace.as_str().into(),
        datacenter: query.asked.shown(&api).into(),
        revision,
        strategy: strategy.as_str().into(),
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    });
    Ok(answer(revision, body))
}
