//! `/v1/health`: services with their checks, and checks by themselves.
//!
//! `health/service/{name}`, with and without `?passing`, is what everybody asks: its plain answers are kept encoded beside the service in
//! the view, and go when the service changes, or a node of one of its instances.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::get;
use bytes::Bytes;

use super::blocking::Watched;
use super::elsewhere::block_there;
use super::json::check::{self, CheckJson, Status};
use super::json::service::One;
use super::json::shape;
use super::refuse::{Failure, only};
use super::request::{Params, Tail};
use super::subject::{Own, Subject};
use super::wanted::Wanted;
use super::{Consul, answer};
use crate::model::names::Namespace;
use crate::view::{Body as Kept, Namespaces, Node, View};

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/health/node/", only("GET", get(node)))
        .route("/v1/health/node/{*node}", only("GET", get(node)))
        .route("/v1/health/checks/", only("GET", get(checks)))
        .route("/v1/health/checks/{*service}", only("GET", get(checks)))
        .route("/v1/health/service/", only("GET", get(service)))
        .route("/v1/health/service/{*service}", only("GET", get(service)))
        .route("/v1/health/connect/", only("GET", get(connect)))
        .route("/v1/health/connect/{*service}", only("GET", get(connect)))
        .route("/v1/health/state/", only("GET", get(state)))
        .route("/v1/health/state/{*state}", only("GET", get(state)))
}

/// `GET /v1/health/service/{service}`
async fn service(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let subject = Subject::named(&consul, &params, tail.need("Missing service name")?)?;
    let wanted = Wanted::of(&consul, &params, &shape::SERVICE_ENTRY)?;
    let is_passing = params.flag("passing")?;
    let view = subject.block(&consul, &params).await?;
    let index = subject.index(&view);
    if subject.is_consul(&view) {
        let own = Own::all(&consul, &view);
        return Ok(view.tell(answer::indexed(&params, index, &wanted.pick(&view, own.iter().map(|own| (own.node, own.entry()))))));
    }
    let service = subject.service(&view);
    let encode = || entries(&params, &view, &wanted, &wanted.instances(service), is_passing);
    let body = match service.filter(|_| wanted.is_everything() && !params.has("pretty")) {
        Some(service) => service.bodies.get_or_encode(if is_passing { Kept::ConsulPassing } else { Kept::ConsulHealth }, encode),
        None => encode(),
    };
    Ok(view.tell(answer::marked(answer::indexed_bytes(index, body), service)))
}

/// `GET /v1/health/connect/{service}`: those that take part in the mesh by themselves.
async fn connect(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let subject = Subject::named(&consul, &params, tail.need("Missing service name")?)?;
    let wanted = Wanted::of(&consul, &params, &shape::SERVICE_ENTRY)?;
    let is_passing = params.flag("passing")?;
    let view = subject.block(&consul, &params).await?;
    let service = subject.service(&view);
    let mut instances = wanted.instances(service);
    instances.retain(One::is_connect_native);
    let body = entries(&params, &view, &wanted, &instances, is_passing);
    Ok(view.tell(answer::marked(answer::indexed_bytes(subject.index(&view), body), service)))
}

fn entries(params: &Params, view: &View, wanted: &Wanted<'_>, instances: &[One<'_>], is_passing: bool) -> Bytes {
    let entries = instances.iter().map(|one| (&*one.entry.node, one.service_entry()));
    let passing = entries.filter(|(_, entry)| !is_passing || entry.is_passing());
    answer::encode(params, &wanted.pick(view, passing))
}

/// `GET /v1/health/checks/{service}`: the checks of its instances, without those of their nodes.
async fn checks(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let subject = Subject::named(&consul, &params, tail.need("Missing service name")?)?;
    let wanted = Wanted::of(&consul, &params, &shape::CHECK)?;
    let view = subject.block(&consul, &params).await?;
    let instances = subject.service(&view).map(One::all_of).unwrap_or_default();
    let checks = instances.iter().flat_map(|one| check::of_instance(one).into_iter().map(|check| (&*one.entry.node, check)));
    Ok(view.tell(answer::marked(listed(&params, &view, subject.index(&view), &wanted, checks.collect()), subject.service(&view))))
}

/// `GET /v1/health/node/{node}`: the checks of a node and of all instances on it.
async fn node(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let name = tail.need("Missing node name")?;
    let wanted = Wanted::of(&consul, &params, &shape::CHECK)?;
    let index_of = |view: &View| consul.node_revision(view, &name);
    let view = block_there(&consul, &params, Watched::Everything, index_of).await?;
    let found = view.node(&name);
    let instances = found.map(|node| consul.on_node(&view, node.id)).unwrap_or_default();
    let mut checks: Vec<(&Node, CheckJson<'_>)> = Vec::new();
    if let Some(node) = found {
        checks.extend(check::of_node(node, view.nodes_revision).into_iter().map(|check| (&**node, check)));
        checks.extend(instances.iter().flat_map(check::of_instance).map(|check| (&**node, check)));
    }
    Ok(view.tell(listed(&params, &view, index_of(&view), &wanted, checks)))
}

/// `GET /v1/health/state/{state}`: all checks in a state, or in `any`.
async fn state(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let word = tail.need("Missing check state")?;
    let wanted = Wanted::of(&consul, &params, &shape::CHECK)?;
    let namespaces = params.namespaces()?;
    let view = block_there(&consul, &params, Watched::Everything, |view| consul.checks_revision(view)).await?;
    let unverified = || answer::unverified(view.services_in(&namespaces, None).map(|service| &**service));
    let encode = || in_state(&params, &view, &wanted, &namespaces, &word);
    let is_plain = consul.is_own(&view) && word == "any" && wanted.is_everything() && namespaces == Namespaces::One(Namespace::default());
    if !is_plain || params.has("pretty") {
        let index = consul.checks_revision(&view);
        return Ok(view.tell(answer::mark(answer::indexed_bytes(index, encode()), unverified())));
    }
    // What fabio and Traefik wait on, each time for all of it.
    let kept = consul.picture.checks(&view, || (encode(), unverified()));
    Ok(view.tell(answer::mark(answer::indexed_bytes(kept.revision, kept.body), kept.unverified)))
}

/// All checks of nodes, and of instances in these namespaces, that are in a state.
fn in_state(params: &Params, view: &View, wanted: &Wanted<'_>, namespaces: &Namespaces, word: &str) -> Bytes {
    let is_in_state = |check: &CheckJson<'_>| word == "any" || Status::named(word) == Some(check.status);
    let of_nodes = view.nodes.iter().flat_map(|node| check::of_node(node, view.nodes_revision).into_iter().map(|check| (&**node, check)));
    let instances: Vec<One<'_>> =
        view.services_in(namespaces, None).flat_map(|service| service.entries.iter()).filter_map(One::of).collect();
    let of_instances = instances.iter().flat_map(|one| check::of_instance(one).into_iter().map(|check| (&*one.entry.node, check)));
    let checks = of_nodes.chain(of_instances).filter(|(_, check)| is_in_state(check)).collect();
    sorted(params, view, wanted, checks)
}

fn listed(params: &Params, view: &View, index: u64, wanted: &Wanted<'_>, checks: Vec<(&Node, CheckJson<'_>)>) -> Response<Body> {
    answer::indexed_bytes(index, sorted(params, view, wanted, checks))
}

/// Checks in Consul's order: by node, then id.
fn sorted(params: &Params, view: &View, wanted: &Wanted<'_>, mut checks: Vec<(&Node, CheckJson<'_>)>) -> Bytes {
    checks.sort_by(|(_, a), (_, b)| (a.node, &a.check_id).cmp(&(b.node, &b.check_id)));
    answer::encode(params, &wanted.pick(view, checks.into_iter()))
}
