//! Targets for Prometheus.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use serde_json::{Map, Value, json};

use super::answer::answer;
use super::encode::{self, Decoded};
use super::fetch::Lookup;
use super::query::{FILTERS, Query};
use super::refuse::No;
use super::request::Parameters;
use super::state::Api;
use crate::view::Service;

/// `GET /api/v1/http_sd`: what Prometheus' `http_sd_config` reads.
pub async fn http_sd(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let mut known = vec!["service", "wait"];
    known.extend(FILTERS);
    let parameters = Parameters::read(&uri, &known)?;
    let query = Query::of(&api, &parameters)?;
    let only: Vec<&str> = parameters.all("service").collect();
    let limit = parameters.wait_limit()?;
    let view = match Lookup::of(&query, only.iter().copied()) {
        Some(lookup) => api.handle.fetched(&lookup, limit).await,
        None => api.handle.view(),
    };
    let is_wanted = |service: &Arc<Service>| only.is_empty() || only.contains(&service.key.service.as_str());
    let is_met = |service: &Arc<Service>| is_wanted(service) && query.filter.select(service).next().is_some();
    let places = query.asked.places(&view, |view| view.services_in(&query.namespaces, None).any(is_met));
    let services = places.iter().flat_map(|place| place.view.services_in(&query.namespaces, None)).filter(|service| is_wanted(service));
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
