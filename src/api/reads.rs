//! Services and instances as the view has them: lists, and one instance.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{Response, Uri};
use bytes::Bytes;

use super::answer::{answer, await_service, await_view, not_modified};
use super::encode::{self, Decoded};
use super::fetch::Lookup;
use super::known::{Known, known};
use super::meant::{find, target};
use super::near::Distances;
use super::pages::{Cursor, Page, limit, page, services as services_of};
use super::places::{Asked, Place, age_ms, is_complete, is_summarized};
use super::query::{FILTERS, Query, shown};
use super::refuse::No;
use super::request::{Names, Parameters, service_key, wrong};
use super::state::Api;
use super::tag;
use crate::agent::handle::Named;
use crate::model::names::{Namespace, ServiceKey};
use crate::schema::{self, Kind};
use crate::view::{Entry, Namespaces, Service, View};

/// `GET /api/v1/services/{service}`
///
/// The one everybody asks: it takes the request as it is, since taking it apart would copy all its headers.
pub async fn service(State(api): State<Api>, Names(name): Names<String>, request: Request) -> Result<Response<Body>, No> {
    const KNOWN: [&str; 15] = [
        "wait",
        "revision",
        "limit",
        "after",
        "namespace",
        "dc",
        "failover",
        "max_age",
        "tag",
        "metadata",
        "zone",
        "node",
        "health",
        "ext",
        "near",
    ];
    let parameters = Parameters::read(request.uri(), &KNOWN)?;
    let query = Query::of(&api, &parameters)?;
    let namespace = match (&query.asked, &query.namespaces) {
        (Asked::Own, Namespaces::One(namespace)) => namespace.clone(),
        _ => return everywhere(&api, &name, &parameters, &query).await,
    };
    let key = service_key(namespace, &name)?;
    let wait = parameters.wait()?;
    let Some(view) = await_service(&api, &key, wait).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let revision = view.revision_of(key.namespace.as_str(), key.service.as_str());
    let tag = tag::of_list(&api.agent, revision);
    if request.headers().get(IF_NONE_MATCH).is_some_and(|seen| *seen == tag) {
        let mut response = not_modified(revision);
        response.headers_mut().insert(ETAG, tag);
        return Ok(response);
    }
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let distances = Distances::asked(&view, query.near.as_deref())?;
    let service = view.service(key.namespace.as_str(), key.service.as_str());
    let whole = service.filter(|service| after.is_none() && service.entries.len() <= limit);
    let encode = || encode_list(&api, &key, revision, service, &query, &Page { after: after.as_ref(), limit, by: distances.as_ref() });
    let body = match (whole, query.kept()) {
        (Some(service), Some(kept)) => service.bodies.get_or_encode(kept, encode),
        _ => encode(),
    };
    let mut response = answer(revision, body);
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

fn encode_list(api: &Api, key: &ServiceKey, revision: u64, service: Option<&Arc<Service>>, query: &Query, wanted: &Page<'_>) -> Bytes {
    let own = api.handle.facts().datacenter.as_str();
    let (entries, next) = page(service.into_iter().map(|service| (own, service)), query, wanted);
    let decoded: Vec<Decoded<'_>> = entries.into_iter().filter_map(Decoded::of).collect();
    encode::to_bytes(&schema::List {
        service: key.service.as_str().into(),
        namespace: key.namespace.as_str().into(),
        datacenter: own.into(),
        revision,
        complete: true,
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    })
}

/// The services of that name in other datacenters, or in all namespaces: their common revision is the agent's.
async fn everywhere(api: &Api, name: &str, parameters: &Parameters, query: &Query) -> Result<Response<Body>, No> {
    service_key(Namespace::default(), name)?;
    let wait = parameters.wait()?;
    let lookup = Lookup::of(query, [name]);
    let changed = await_view(api, wait, |view| revision_elsewhere(view, query, name));
    let Some(view) = changed_or_whole(api, parameters, lookup.as_ref(), changed).await? else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let revision = revision_elsewhere(&view, query, name);
    let (limit, after) = (limit(parameters)?, Cursor::read(parameters)?);
    let distances = Distances::asked(&view, query.near.as_deref())?;
    let has_any = |view: &View| named(view, &query.namespaces, name).any(|service| query.filter.select(service).next().is_some());
    let places = query.asked.places(&view, has_any);
    let services = places.iter().flat_map(|place| {
        let name_there = place.name;
        named(place.view, &query.namespaces, name).map(move |service| (name_there, service))
    });
    let (entries, next) = page(services, query, &Page { after: after.as_ref(), limit, by: distances.as_ref() });
    let decoded = aged(entries, &places);
    let list = schema::List {
        service: name.into(),
        namespace: shown(&query.namespaces).into(),
        datacenter: query.asked.shown(api).into(),
        revision,
        complete: is_complete(&places)
            && !is_summarized(&places, &query.namespaces, name)
            && !lookup.is_some_and(|lookup| lookup.is_missing(&view)),
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    };
    Ok(answer(revision, encode::to_bytes(&list)))
}

/// The view to answer from: once it is `changed`, where the reader knows a revision; else once nothing is missing that he looks up in other
/// datacenters, as long as he waits for it.
async fn changed_or_whole(
    api: &Api,
    parameters: &Parameters,
    lookup: Option<&Lookup<'_>>,
    changed: impl Future<Output = Option<Arc<View>>>,
) -> Result<Option<Arc<View>>, No> {
    Ok(match (parameters.wait()?, lookup) {
        (None, Some(lookup)) => Some(api.handle.fetched(lookup, parameters.wait_limit()?).await),
        (Some(_), Some(lookup)) => api.handle.looking_up(lookup, changed).await,
        (_, None) => changed.await,
    })
}

/// One service of one other datacenter has a revision of its own; whatever is more than that changes with the agent's.
fn revision_elsewhere(view: &View, query: &Query, name: &str) -> u64 {
    match (&query.asked, &query.namespaces) {
        (Asked::Other(datacenter), Namespaces::One(namespace)) => {
            view.datacenter(datacenter).map_or(0, |known| known.revision_of(namespace.as_str(), name))
        }
        _ => view.revision,
    }
}

/// The services of that name, in order of their namespaces.
pub fn named<'v>(view: &'v View, namespaces: &'v Namespaces, name: &'v str) -> impl Iterator<Item = &'v Arc<Service>> {
    let is_wanted = move |namespace: &&str| match namespaces {
        Namespaces::One(only) => only.as_str() == *namespace,
        Namespaces::All => true,
    };
    view.namespaces().filter(is_wanted).filter_map(move |namespace| view.service(namespace, name))
}

fn aged<'v>(entries: Vec<&'v Entry>, places: &[Place<'_>]) -> Vec<Decoded<'v>> {
    entries.into_iter().filter_map(|entry| Decoded::of(entry).map(|one| one.aged(age_ms(places, entry)))).collect()
}

/// `GET /api/v1/instances`
pub async fn instances(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["wait", "revision", "limit", "after", "service", "near"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    let wait = parameters.wait()?;
    let only: Vec<&str> = parameters.all("service").collect();
    let lookup = Lookup::of(&query, only.iter().copied());
    let changed = await_view(&api, wait, |view| view.revision);
    let Some(view) = changed_or_whole(&api, &parameters, lookup.as_ref(), changed).await? else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let from = after.as_ref().map(Cursor::place).transpose()?;
    let distances = Distances::asked(&view, query.near.as_deref())?;
    let is_wanted = |service: &Service| only.is_empty() || only.contains(&service.key.service.as_str());
    let is_met = |service: &Arc<Service>| is_wanted(service) && query.filter.select(service).next().is_some();
    let places = query.asked.places(&view, |view| view.services_in(&query.namespaces, None).any(is_met));
    let wanted = services_of(&places, &query.namespaces, from.as_ref()).filter(|(_, service)| is_wanted(service));
    let (entries, next) = page(wanted, &query, &Page { after: after.as_ref(), limit, by: distances.as_ref() });
    let decoded = aged(entries, &places);
    let list = schema::Instances {
        namespace: shown(&query.namespaces).into(),
        datacenter: query.asked.shown(&api).into(),
        revision: view.revision,
        complete: is_complete(&places) && !has_summaries(&places, &query.namespaces, &only),
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    };
    Ok(answer(view.revision, encode::to_bytes(&list)))
}

/// Whether there is a service among these of which only its summary is known here; without names, among all.
fn has_summaries(places: &[Place<'_>], namespaces: &Namespaces, only: &[&str]) -> bool {
    let is_wanted = |service: &Known<'_>| only.is_empty() || only.contains(&service.key().service.as_str());
    known(places, namespaces, None).any(|(_, service)| matches!(service, Known::Summarized(_)) && is_wanted(&service))
}

/// `GET /api/v1/services`
pub async fn services(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["namespace", "dc", "prefix", "limit", "after", "wait", "revision"])?;
    let asked = Asked::of(&api, &parameters)?;
    let namespaces = parameters.namespaces()?;
    let prefix = parameters.one("prefix")?.unwrap_or_default();
    let wait = parameters.wait()?;
    let Some(view) = await_view(&api, wait, |view| view.revision).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let places = asked.places(&view, |_| true);
    let from = after.as_ref().map(Cursor::place).transpose()?;
    let all = known(&places, &namespaces, from.as_ref());
    let mut left = all.filter(|(_, service)| service.key().service.as_str().starts_with(prefix)).peekable();
    let services: Vec<(&str, Known<'_>)> = left.by_ref().take(limit).collect();
    let end = services.last().filter(|_| left.peek().is_some());
    let next = end.map(|(datacenter, service)| Cursor::behind(datacenter, service.key()).write());
    let list = schema::Services {
        namespace: shown(&namespaces).into(),
        datacenter: asked.shown(&api).into(),
        revision: view.revision,
        next,
        services: services.into_iter().map(|(datacenter, service)| service.show(datacenter)).collect(),
    };
    Ok(answer(view.revision, encode::to_bytes(&list)))
}

/// `GET /api/v1/services/{service}/instances/{id}`
pub async fn instance(
    State(api): State<Api>,
    Names((service, id)): Names<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["namespace", "uid", "dc", "wait"])?;
    let asked = Asked::of(&api, &parameters)?;
    if asked == Asked::All {
        return Err(wrong("dc", "one instance is looked for in one datacenter"));
    }
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let key = ServiceKey { namespace: target.namespace.clone(), service: target.service.clone() };
    let limit = parameters.wait_limit()?;
    let view = match &asked {
        Asked::Other(datacenter) => api.handle.fetched(&Named { datacenter: datacenter.clone(), services: vec![key.clone()] }, limit).await,
        _ => api.handle.view(),
    };
    let places = asked.places(&view, |_| true);
    let found = places.first().map(|place| find(place.view, &target)).transpose()?.flatten();
    let decoded = found.and_then(|(_, entry)| Some(Decoded::of(entry)?.aged(age_ms(&places, entry))));
    let Some(decoded) = decoded else {
        let other = places.first().and_then(|place| place.other);
        // Nobody here knows whether there is one.
        let is_lacking = other.is_some_and(|other| other.lacks(key.namespace.as_str(), key.service.as_str()).is_some());
        return Err(match is_lacking {
            true => No::new(Kind::Unavailable, format!("the instances of {service:?} there are being fetched: ?wait= waits for them")),
            false => No::new(Kind::NotFound, format!("there is no instance {id:?} of {service:?}")),
        });
    };
    let tag = tag::of_version(decoded.entry.version);
    let is_seen = headers.get(IF_NONE_MATCH).is_some_and(|seen| *seen == tag);
    let revision = decoded.entry.revision;
    let mut response = if is_seen { not_modified(revision) } else { answer(revision, encode::to_bytes(&decoded.detail())) };
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}
