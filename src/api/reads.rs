//! Services and instances as the view has them: lists, and one instance.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{Response, Uri};
use bytes::Bytes;

use super::answer::{answer, await_service, await_view, not_modified};
use super::encode::{self, Decoded};
use super::meant::{find, target};
use super::pages::{Cursor, limit, page};
use super::query::{FILTERS, Query, check_datacenter, shown};
use super::refuse::No;
use super::request::{Names, Parameters, etag, service_key};
use super::state::Api;
use crate::model::names::{Namespace, ServiceKey};
use crate::schema::{self, Kind};
use crate::view::{Namespaces, Service};

/// `GET /api/v1/services/{service}`
///
/// The one everybody asks: it takes the request as it is, since taking it apart would copy all its headers.
pub async fn service(State(api): State<Api>, Names(name): Names<String>, request: Request) -> Result<Response<Body>, No> {
    const KNOWN: [&str; 12] = ["wait", "revision", "limit", "after", "namespace", "dc", "tag", "metadata", "zone", "node", "health", "ext"];
    let parameters = Parameters::read(request.uri(), &KNOWN)?;
    let query = Query::of(&api, &parameters)?;
    let namespace = match &query.namespaces {
        Namespaces::One(namespace) => namespace.clone(),
        Namespaces::All => return everywhere(&api, &name, &parameters, &query).await,
    };
    let key = service_key(namespace, &name)?;
    let wait = parameters.wait()?;
    let Some(view) = await_service(&api, &key, wait).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let revision = view.revision_of(key.namespace.as_str(), key.service.as_str());
    let tag = api.list_tag(revision);
    if request.headers().get(IF_NONE_MATCH).is_some_and(|seen| *seen == tag) {
        let mut response = not_modified(revision);
        response.headers_mut().insert(ETAG, tag);
        return Ok(response);
    }
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let service = view.service(key.namespace.as_str(), key.service.as_str());
    let whole = service.filter(|service| after.is_none() && service.entries.len() <= limit);
    let encode = || encode_list(&api, &key, revision, service, &query, after.as_ref(), limit);
    let body = match (whole, query.kept()) {
        (Some(service), Some(kept)) => service.bodies.get_or_encode(kept, encode),
        _ => encode(),
    };
    let mut response = answer(revision, body);
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

fn encode_list(
    api: &Api,
    key: &ServiceKey,
    revision: u64,
    service: Option<&Arc<Service>>,
    query: &Query,
    after: Option<&Cursor>,
    limit: usize,
) -> Bytes {
    let (entries, next) = page(service.into_iter(), query, after, limit);
    let decoded: Vec<Decoded<'_>> = entries.into_iter().filter_map(Decoded::of).collect();
    encode::to_bytes(&schema::List {
        service: key.service.as_str().into(),
        namespace: key.namespace.as_str().into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision,
        complete: true,
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    })
}

/// The services of that name in all namespaces: their common revision is the agent's.
async fn everywhere(api: &Api, name: &str, parameters: &Parameters, query: &Query) -> Result<Response<Body>, No> {
    service_key(Namespace::default(), name)?;
    let wait = parameters.wait()?;
    let Some(view) = await_view(api, wait, |view| view.revision).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let (limit, after) = (limit(parameters)?, Cursor::read(parameters)?);
    let services = view.namespaces().filter_map(|namespace| view.service(namespace, name));
    let (entries, next) = page(services, query, after.as_ref(), limit);
    let decoded: Vec<Decoded<'_>> = entries.into_iter().filter_map(Decoded::of).collect();
    let list = schema::List {
        service: name.into(),
        namespace: "*".into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision: view.revision,
        complete: true,
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    };
    Ok(answer(view.revision, encode::to_bytes(&list)))
}

/// `GET /api/v1/instances`
pub async fn instances(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["wait", "revision", "limit", "after", "service"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    let wait = parameters.wait()?;
    let Some(view) = await_view(&api, wait, |view| view.revision).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let only: Vec<&str> = parameters.all("service").collect();
    // The service a page ended in comes again: some of it may be left.
    let from = after.as_ref().map(Cursor::key).transpose()?;
    let first = from.as_ref().and_then(|key| view.service(key.namespace.as_str(), key.service.as_str()));
    let services = first.into_iter().chain(view.services_in(&query.namespaces, from.as_ref()));
    let wanted = services.filter(|service| only.is_empty() || only.contains(&service.key.service.as_str()));
    let (entries, next) = page(wanted, &query, after.as_ref(), limit);
    let decoded: Vec<Decoded<'_>> = entries.into_iter().filter_map(Decoded::of).collect();
    let list = schema::Instances {
        namespace: shown(&query.namespaces).into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision: view.revision,
        complete: true,
        next,
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    };
    Ok(answer(view.revision, encode::to_bytes(&list)))
}

/// `GET /api/v1/services`
pub async fn services(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["namespace", "dc", "prefix", "limit", "after", "wait", "revision"])?;
    if let Some(datacenter) = parameters.one("dc")? {
        check_datacenter(&api, datacenter)?;
    }
    let namespaces = parameters.namespaces()?;
    let prefix = parameters.one("prefix")?.unwrap_or_default();
    let wait = parameters.wait()?;
    let Some(view) = await_view(&api, wait, |view| view.revision).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let (limit, after) = (limit(&parameters)?, Cursor::read(&parameters)?);
    let from = after.as_ref().map(Cursor::key).transpose()?;
    let mut left =
        view.services_in(&namespaces, from.as_ref()).filter(|service| service.key.service.as_str().starts_with(prefix)).peekable();
    let mut services: Vec<&Arc<Service>> = Vec::new();
    while services.len() < limit
        && let Some(service) = left.next()
    {
        services.push(service);
    }
    let end = services.last().filter(|_| left.peek().is_some());
    let next = end.map(|service| Cursor::behind(service).write());
    let list = schema::Services {
        namespace: shown(&namespaces).into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision: view.revision,
        next,
        services: services.into_iter().map(|service| encode::summary(service)).collect(),
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
    let parameters = Parameters::read(&uri, &["namespace", "uid", "dc"])?;
    if let Some(datacenter) = parameters.one("dc")? {
        check_datacenter(&api, datacenter)?;
    }
    let target = target(parameters.namespace()?, &service, &id, &parameters)?;
    let view = api.handle.view();
    let found = find(&view, &target)?;
    let decoded = found.and_then(|(_, entry)| Decoded::of(entry));
    let Some(decoded) = decoded else { return Err(No::new(Kind::NotFound, format!("there is no instance {id:?} of {service:?}"))) };
    let tag = etag(decoded.entry.version);
    let is_seen = headers.get(IF_NONE_MATCH).is_some_and(|seen| *seen == tag);
    let revision = decoded.entry.revision;
    let mut response = if is_seen { not_modified(revision) } else { answer(revision, encode::to_bytes(&decoded.detail())) };
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}
