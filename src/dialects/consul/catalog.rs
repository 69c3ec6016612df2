//! `/v1/catalog`: datacenters, nodes, services, instances without their checks.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::get;
use serde::Serialize;

use super::blocking::Watched;
use super::elsewhere::{block_known, block_there};
use super::json::Indexes;
use super::json::node::NodeJson;
use super::json::service::{One, ServiceJson};
use super::json::shape;
use super::refuse::{Failure, only};
use super::request::{Params, Tail};
use super::subject::{CONSUL, Own, Subject};
use super::wanted::Wanted;
use super::{Consul, answer};
use crate::model::names::Namespace;
use crate::view::{DatacenterView, Namespaces, View};

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/catalog/datacenters", only("GET", get(datacenters)))
        .route("/v1/catalog/nodes", only("GET", get(nodes)))
        .route("/v1/catalog/services", only("GET", get(services)))
        .route("/v1/catalog/service/", only("GET", get(service)))
        .route("/v1/catalog/service/{*service}", only("GET", get(service)))
        .route("/v1/catalog/connect/", only("GET", get(connect)))
        .route("/v1/catalog/connect/{*service}", only("GET", get(connect)))
        .route("/v1/catalog/node/", only("GET", get(node)))
        .route("/v1/catalog/node/{*node}", only("GET", get(node)))
        .route("/v1/catalog/node-services/", only("GET", get(node_services)))
        .route("/v1/catalog/node-services/{*node}", only("GET", get(node_services)))
}

/// `GET /v1/catalog/datacenters`: the nearest first.
async fn datacenters(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let view = consul.handle.view();
    let mut others: Vec<&DatacenterView> = view.datacenters.iter().map(|known| &**known).collect();
    others.sort_by_key(|known| known.rtt_us.unwrap_or(u32::MAX));
    let own = consul.handle.facts().datacenter.as_str();
    let names: Vec<&str> = std::iter::once(own).chain(others.into_iter().map(|known| known.name.as_str())).collect();
    Ok(answer::json(&params, &names))
}

/// `GET /v1/catalog/nodes`
async fn nodes(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let wanted = Wanted::of(&consul, &params, &shape::NODE)?;
    let view = block_there(&consul, &params, Watched::Everything, |view| view.nodes_revision).await?;
    let indexes = Indexes::at(view.nodes_revision);
    let nodes = view.nodes.iter().map(|node| (&**node, NodeJson::of(node, indexes)));
    Ok(view.tell(answer::indexed(&params, view.nodes_revision, &wanted.pick(&view, nodes))))
}

/// `GET /v1/catalog/services`: names with the tags of all their instances.
async fn services(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let wanted = Wanted::of(&consul, &params, &shape::CATALOG_SERVICE)?;
    let namespaces = params.namespaces()?;
    // What is known by its summary has a name too: the index there is that of all that is known of the datacenter.
    let index_there = |known: &DatacenterView| known.revision.max(known.view.revision);
    let view = block_known(&consul, &params, Watched::Names, |view| consul.names_revision(view), index_there).await?;
    if consul.is_own(&view) && wanted.is_everything() && namespaces == Namespaces::One(Namespace::default()) {
        let (index, body) = consul.picture.names(&view, &params);
        return Ok(view.tell(answer::indexed_bytes(index, body)));
    }
    let index = view.other.as_ref().map_or_else(|| consul.names_revision(&view), |known| index_there(known));
    let mut names = picked_names(&consul, &view, &namespaces, &wanted);
    // Of their instances nothing is known that a condition could be about.
    for one in view.other.iter().filter(|_| wanted.is_everything()).flat_map(|known| known.summaries.iter()) {
        if one.summary.instances > 0 && namespaces.hold(&one.key.namespace) {
            names.entry(one.key.service.as_str().to_owned()).or_default();
        }
    }
    Ok(view.tell(answer::indexed(&params, index, &names)))
}

/// The names and tags of those instances that are wanted, one by one.
fn picked_names(consul: &Consul, view: &View, namespaces: &Namespaces, wanted: &Wanted<'_>) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let own = Own::all(consul, view);
    if own.iter().any(|own| wanted.takes_node(own.node) && wanted.takes(&own.catalog_service())) {
        names.insert(CONSUL.to_owned(), Vec::new());
    }
    for one in view.services_in(namespaces, None).flat_map(|service| wanted.instances(Some(service))) {
        if wanted.takes_node(&one.entry.node) && wanted.takes(&one.catalog_service()) {
            let tags = names.entry(one.service().to_owned()).or_default();
            tags.extend(one.instance.tags.iter().map(|tag| tag.as_str().to_owned()));
        }
    }
    for tags in names.values_mut() {
        tags.sort_unstable();
        tags.dedup();
    }
    names
}

/// `GET /v1/catalog/service/{service}`
async fn service(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let subject = Subject::named(&consul, &params, tail.need("Missing service name")?)?;
    let wanted = Wanted::of(&consul, &params, &shape::CATALOG_SERVICE)?;
    let view = subject.block(&consul, &params).await?;
    let index = subject.index(&view);
    if subject.is_consul(&view) {
        let own = Own::all(&consul, &view);
        return Ok(view.tell(answer::indexed(
            &params,
            index,
            &wanted.pick(&view, own.iter().map(|own| (own.node, own.catalog_service()))),
        )));
    }
    let service = subject.service(&view);
    Ok(view.tell(answer::marked(instances(&params, &view, index, &wanted, &wanted.instances(service)), service)))
}

/// `GET /v1/catalog/connect/{service}`: those that take part in the mesh by themselves.
async fn connect(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    let subject = Subject::named(&consul, &params, tail.need("Missing service name")?)?;
    let wanted = Wanted::of(&consul, &params, &shape::CATALOG_SERVICE)?;
    let view = subject.block(&consul, &params).await?;
    let service = subject.service(&view);
    let mut found = wanted.instances(service);
    found.retain(One::is_connect_native);
    Ok(view.tell(answer::marked(instances(&params, &view, subject.index(&view), &wanted, &found), service)))
}

fn instances(params: &Params, view: &View, index: u64, wanted: &Wanted<'_>, instances: &[One<'_>]) -> Response<Body> {
    let shown = instances.iter().map(|one| (&*one.entry.node, one.catalog_service()));
    answer::indexed(params, index, &wanted.pick(view, shown))
}

/// A node with what is on it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OnNode<'v, S> {
    node: NodeJson<'v>,
    services: S,
}

/// `GET /v1/catalog/node/{node}`: its services by id; null where there is no such node.
async fn node(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    on_node(&consul, &params, tail, true).await
}

/// `GET /v1/catalog/node-services/{node}`: its services as a list.
async fn node_services(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    on_node(&consul, &params, tail, false).await
}

async fn on_node(consul: &Consul, params: &Params, tail: Tail, is_by_id: bool) -> Result<Response<Body>, Failure> {
    let name = tail.need("Missing node name")?;
    let wanted = Wanted::of(consul, params, &shape::SERVICE)?;
    let index_of = |view: &View| consul.node_revision(view, &name);
    let view = block_there(consul, params, Watched::Everything, index_of).await?;
    let index = index_of(&view);
    let Some(node) = view.node(&name) else { return Ok(view.tell(answer::indexed(params, index, &None::<()>))) };
    let (own, instances) = (Own::on(consul, &view, node), consul.on_node(&view, node.id));
    let services = own.iter().map(Own::service).chain(instances.iter().map(One::node_service));
    let mut services: Vec<ServiceJson<'_>> = services.filter(|service| wanted.takes(service)).collect();
    services.sort_by(|a, b| (a.id, a.service).cmp(&(b.id, b.service)));
    let node = NodeJson::of(node, Indexes::at(view.nodes_revision));
    if !is_by_id {
        return Ok(view.tell(answer::indexed(params, index, &OnNode { node, services })));
    }
    let mut by_id = BTreeMap::new();
    for service in services {
        // Registered elsewhere, an id is unique within its service only; here one of two would vanish.
        let id = if by_id.contains_key(service.id) { format!("{}:{}", service.service, service.id) } else { service.id.to_owned() };
        by_id.insert(id, service);
    }
    Ok(view.tell(answer::indexed(params, index, &OnNode { node, services: by_id })))
}
