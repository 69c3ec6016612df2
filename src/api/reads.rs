//! Services and instances as the view has them: lists with filters and pages, blocking, one instance, pick, http_sd.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::app::Api;
use super::encode::{self, Decoded, With};
use super::refuse::No;
use super::request::{Names, Parameters, Wait, etag, service_key, wrong};
use crate::model::command::Target;
use crate::model::instance::Health;
use crate::model::names::{InstanceId, Namespace, ServiceKey};
use crate::model::record::{Scope, Uid};
use crate::schema::{self, Kind};
use crate::select::{self, Candidate, Distance, Strategy};
use crate::view::{Body as Kept, Entry, Filter, HealthFilter, Namespaces, Service, View};

/// Entries of one page, where the reader does not say.
const PAGE_DEFAULT: u64 = 10_000;
const PAGE_MAX: u64 = 100_000;
const PICKS_MAX: u64 = 1_000;
/// Values of one filter parameter.
const FILTERS_MAX: usize = 64;

/// Parameters that every read of instances knows.
pub const FILTERS: [&str; 8] = ["namespace", "dc", "tag", "metadata", "zone", "node", "health", "ext"];

/// What a reader wants to see and how.
#[derive(Debug, Clone)]
pub struct Query {
    pub namespaces: Namespaces,
    pub filter: Filter,
    pub with: With,
}

impl Query {
    pub fn of(api: &Api, parameters: &Parameters) -> Result<Self, No> {
        if let Some(datacenter) = parameters.one("dc")? {
            check_datacenter(api, datacenter)?;
        }
        let texts = |name: &str| -> Result<Vec<String>, No> {
            let texts: Vec<String> = parameters.all(name).map(str::to_owned).collect();
            if texts.len() > FILTERS_MAX { Err(wrong(name, format!("at most {FILTERS_MAX} of them"))) } else { Ok(texts) }
        };
        let pair = |text: String| -> Result<(String, String), No> {
            let (key, value) =
                text.split_once('=').ok_or_else(|| wrong("metadata", format!("{text:?} is no key=value")).allowed("key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let health = read_health(parameters.one("health")?)?;
        let filter = Filter {
            tags: texts("tag")?,
            metadata: texts("metadata")?.into_iter().map(pair).collect::<Result<_, _>>()?,
            zone: parameters.one("zone")?.map(str::to_owned),
            node: parameters.one("node")?.map(str::to_owned),
            health,
        };
        let with = With { why: filter.health != HealthFilter::Available, ext: parameters.flag("ext")? };
        Ok(Self { namespaces: parameters.namespaces()?, filter, with })
    }

    /// Which of the answers kept beside a service this asks for.
    fn kept(&self) -> Option<Kept> {
        let is_plain = |filter: &Filter| *filter == Filter { health: filter.health.clone(), ..Filter::default() };
        match self.filter.health {
            _ if self.with.ext || !is_plain(&self.filter) => None,
            HealthFilter::Available => Some(Kept::List),
            HealthFilter::Any => Some(Kept::Any),
            HealthFilter::Is(_) => None,
        }
    }
}

fn read_health(text: Option<&str>) -> Result<HealthFilter, No> {
    match text {
        None | Some("available") => Ok(HealthFilter::Available),
        Some("any") => Ok(HealthFilter::Any),
        Some(words) => {
            let health = |word: &str| Health::ALL.into_iter().find(|health| health.as_str() == word);
            let wanted: Option<Vec<Health>> = words.split(',').map(health).collect();
            let allowed = "available, any, or some of passing,warning,critical,starting,unknown";
            wanted.map(HealthFilter::Is).ok_or_else(|| wrong("health", format!("{words:?} is no health")).allowed(allowed))
        }
    }
}

/// There is one datacenter until agents are linked to others.
fn check_datacenter(api: &Api, datacenter: &str) -> Result<(), No> {
    let own = api.handle.facts().datacenter.as_str();
    if datacenter == own {
        return Ok(());
    }
    Err(No::new(Kind::UnknownDatacenter, format!("{datacenter:?} is not known here")).at("?dc").allowed(own))
}

/// An answer in JSON with its revision.
pub fn answer(revision: u64, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(super::app::REVISION, revision.into());
    response
}

pub fn not_modified(revision: u64) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(super::app::REVISION, revision.into());
    response
}

/// Where a page ends: the next one begins behind this entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Cursor {
    namespace: String,
    service: String,
    is_suspect: bool,
    uid: Uid,
}

impl Cursor {
    fn of(service: &Service, entry: &Entry) -> Self {
        let (namespace, service) = (service.key.namespace.as_str().to_owned(), service.key.service.as_str().to_owned());
        Self { namespace, service, is_suspect: entry.is_suspect(), uid: entry.uid }
    }

    fn read(parameters: &Parameters) -> Result<Option<Self>, No> {
        parameters
            .one("after")?
            .map(|text| decode(text).and_then(|bytes| postcard::from_bytes(&bytes).ok()).ok_or_else(bad_cursor))
            .transpose()
    }

    /// Opaque to readers: hexadecimal digits.
    fn write(&self) -> String {
        postcard::to_stdvec(self).expect("a cursor is names and numbers").iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn is_before(&self, service: &Service, entry: &Entry) -> bool {
        *self < Self::of(service, entry)
    }

    fn key(&self) -> Result<ServiceKey, No> {
        service_key(Namespace::new(&self.namespace).map_err(|_| bad_cursor())?, &self.service)
    }
}

fn bad_cursor() -> No {
    No::new(Kind::BadCursor, "after takes what an earlier page gave as next").at("?after")
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())).collect()
}

/// One page out of services in order, and where the next begins.
fn page<'v>(
    services: impl Iterator<Item = &'v Arc<Service>>,
    query: &Query,
    after: Option<&Cursor>,
    limit: usize,
) -> (Vec<&'v Entry>, Option<String>) {
    let mut entries: Vec<&Entry> = Vec::new();
    let mut last: Option<Cursor> = None;
    for service in services {
        for entry in service.listed().filter(|entry| query.filter.matches(entry)) {
            if after.is_some_and(|after| !after.is_before(service, entry)) {
                continue;
            }
            if entries.len() == limit {
                return (entries, last.map(|cursor| cursor.write()));
            }
            entries.push(entry);
            if entries.len() == limit {
                last = Some(Cursor::of(service, entry));
            }
        }
    }
    (entries, None)
}

fn limit(parameters: &Parameters) -> Result<usize, No> {
    match parameters.number("limit", PAGE_MAX)? {
        Some(0) => Err(wrong("limit", "a page holds at least one").allowed(format!("1-{PAGE_MAX}"))),
        limit => Ok(usize::try_from(limit.unwrap_or(PAGE_DEFAULT)).unwrap_or(usize::MAX)),
    }
}

/// Waits until the service is not at the revision that was seen. Returns the view to answer from; none: nothing changed in time.
async fn await_service(api: &Api, key: &ServiceKey, wait: Option<Wait>) -> Option<Arc<View>> {
    let view = api.handle.view();
    let revision_of = |view: &View| view.revision_of(key.namespace.as_str(), key.service.as_str());
    let Some(wait) = wait.filter(|wait| revision_of(&view) == wait.revision) else { return Some(view) };
    if wait.limit.is_zero() {
        return None;
    }
    // The watch stands before the second look, or a change between the two would be missed.
    let mut watch = api.handle.watch([key.clone()]);
    let mut view = api.handle.view();
    let changed = async {
        while revision_of(&view) == wait.revision && !api.handle.is_stopping() {
            view = watch.changed().await;
        }
        view
    };
    let view = tokio::time::timeout(wait.limit, changed).await.ok()?;
    (revision_of(&view) != wait.revision).then_some(view)
}

/// The same for the agent's revision, or any other that `revision_of` reads off a view.
pub async fn await_view(api: &Api, wait: Option<Wait>, revision_of: impl Fn(&View) -> u64) -> Option<Arc<View>> {
    let view = api.handle.view();
    let Some(wait) = wait.filter(|wait| revision_of(&view) == wait.revision) else { return Some(view) };
    if wait.limit.is_zero() {
        return None;
    }
    let mut watch = api.handle.watch_all();
    let mut view = api.handle.view();
    let changed = async {
        while revision_of(&view) == wait.revision && !api.handle.is_stopping() {
            view = watch.changed().await;
        }
        view
    };
    let view = tokio::time::timeout(wait.limit, changed).await.ok()?;
    (revision_of(&view) != wait.revision).then_some(view)
}

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

fn shown(namespaces: &Namespaces) -> &str {
    match namespaces {
        Namespaces::One(namespace) => namespace.as_str(),
        Namespaces::All => "*",
    }
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
    let next = end.map(|service| {
        let (namespace, service) = (service.key.namespace.as_str().to_owned(), service.key.service.as_str().to_owned());
        Cursor { namespace, service, is_suspect: true, uid: Uid(u128::MAX) }.write()
    });
    let list = schema::Services {
        namespace: shown(&namespaces).into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision: view.revision,
        next,
        services: services.into_iter().map(|service| encode::summary(service)).collect(),
    };
    Ok(answer(view.revision, encode::to_bytes(&list)))
}

/// The instance a client means: by uid; else the datacenter's; else this agent's own; else the only one.
pub fn find<'v>(view: &'v View, target: &Target) -> Result<Option<(&'v Arc<Service>, &'v Entry)>, No> {
    let Some(service) = view.service(target.namespace.as_str(), target.service.as_str()) else { return Ok(None) };
    if let Some(uid) = target.uid {
        let entry = service.find(uid);
        return Ok(entry.filter(|entry| entry.content.key().is_ok_and(|key| &*key.id == target.id.as_str())).map(|entry| (service, entry)));
    }
    let found: Vec<&Entry> = service.with_id(target.id.as_str()).collect();
    let in_datacenter = |entry: &&&Entry| entry.content.key().is_ok_and(|key| key.scope == Scope::Datacenter);
    let is_own = |entry: &&&Entry| entry.node.id == view.agent.id;
    let entry =
        found.iter().find(in_datacenter).or_else(|| found.iter().find(is_own)).or(if found.len() == 1 { found.first() } else { None });
    match entry {
        Some(entry) => Ok(Some((service, entry))),
        None if found.is_empty() => Ok(None),
        None => Err(No::new(Kind::Ambiguous, format!("{} agents have an instance of that name; name one by ?uid=", found.len()))),
    }
}

/// The target that path and query name.
pub fn target(namespace: Namespace, service: &str, id: &str, parameters: &Parameters) -> Result<Target, No> {
    let key = service_key(namespace, service)?;
    let id = InstanceId::new(id).map_err(|e| No::new(Kind::BadName, e.to_string()))?;
    let uid = parameters.one("uid")?.map(|text| {
        let is_uid = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = if is_uid { u128::from_str_radix(text, 16).ok() } else { None };
        number.map(Uid).ok_or_else(|| wrong("uid", format!("{text:?} is no uid")).allowed("32 hexadecimal digits"))
    });
    Ok(Target { namespace: key.namespace, service: key.service, id, uid: uid.transpose()? })
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

/// `GET /api/v1/services/{service}/pick`
pub async fn pick(State(api): State<Api>, Names(name): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["strategy", "key", "n"];
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
    let view = api.handle.view();
    let service = view.service(key.namespace.as_str(), key.service.as_str());
    let entries: Vec<&Entry> = service.map(|service| query.filter.select(service).collect()).unwrap_or_default();
    let zone = view.agent.zone.as_deref();
    let candidates: Vec<Candidate> =
        entries.iter().map(|entry| Candidate { uid: entry.uid, weight: entry.weight, distance: distance(&view, zone, entry) }).collect();
    let random = api.dice.roll();
    let text = text.unwrap_or_default().as_bytes();
    let choose = |state: &mut select::State| select::choose(strategy, &candidates, state, random, text, n);
    let chosen = match strategy {
        // Turns are remembered by service and filter: two readers who want different things do not take each other's.
        Strategy::RoundRobin | Strategy::Weighted => api.turns.with(format!("{strategy:?} {key} {:?}", query.filter), choose),
        Strategy::Random | Strategy::Hash | Strategy::Nearest => choose(&mut select::State::default()),
    };
    let decoded: Vec<Decoded<'_>> = chosen.into_iter().filter_map(|at| Decoded::of(entries[at])).collect();
    let revision = view.revision_of(key.namespace.as_str(), key.service.as_str());
    let body = encode::to_bytes(&schema::Pick {
        service: key.service.as_str().into(),
        namespace: key.namespace.as_str().into(),
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision,
        strategy: strategy.as_str().into(),
        instances: decoded.iter().map(|one| one.show(query.with)).collect(),
    });
    Ok(answer(revision, body))
}

fn distance(view: &View, zone: Option<&str>, entry: &Entry) -> Distance {
    if entry.node.id == view.agent.id {
        return Distance::SameNode;
    }
    let is_near = zone.is_some() && Decoded::of(entry).is_some_and(|decoded| decoded.zone() == zone);
    match () {
        () if is_near => Distance::SameZone,
        () if entry.node.datacenter == view.agent.datacenter => Distance::SameDatacenter,
        () => Distance::Elsewhere,
    }
}

/// `GET /api/v1/http_sd`: what Prometheus' `http_sd_config` reads.
pub async fn http_sd(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["service"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    let view = api.handle.view();
    let only: Vec<&str> = parameters.all("service").collect();
    let services =
        view.services_in(&query.namespaces, None).filter(|service| only.is_empty() || only.contains(&service.key.service.as_str()));
    let groups: Vec<Value> =
        services.flat_map(|service| query.filter.select(service)).filter_map(Decoded::of).filter_map(|one| group(&one)).collect();
    Ok(answer(view.revision, encode::to_bytes(&groups)))
}

/// One target with what Prometheus may relabel by; nothing of an instance without a port.
fn group(one: &Decoded<'_>) -> Option<Value> {
    let address = one.address();
    // An IPv6 address stands in brackets before its port.
    let target =
        if address.contains(':') { format!("[{address}]:{}", one.instance.port?) } else { format!("{address}:{}", one.instance.port?) };
    let mut labels = Map::new();
    let mut label = |name: &str, value: &str| labels.insert(format!("__meta_tidings_{name}"), value.into());
    label("namespace", &one.key.namespace);
    label("service", &one.key.name);
    label("id", &one.key.id);
    label("node", &one.entry.node.name);
    label("datacenter", &one.entry.node.datacenter);
    label("zone", one.zone().unwrap_or_default());
    label("health", one.entry.health.as_str());
    // Commas at both ends let a rule match one whole tag.
    let tags: String = one.instance.tags.iter().map(|tag| format!("{},", tag.as_str())).collect();
    label("tags", &format!(",{tags}"));
    for (key, value) in &one.instance.metadata {
        let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        label(&format!("metadata_{name}"), value);
    }
    Some(json!({"targets": [target], "labels": labels}))
}
