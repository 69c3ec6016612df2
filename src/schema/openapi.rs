//! The OpenAPI document: one table of operations, the schemas of the types beside it.
//!
//! A test asks a router for each operation of the table, so that the document promises nothing that is not there.

use std::sync::OnceLock;

use bytes::Bytes;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr, Required,
    ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::Kind;

/// One operation: method, path, what it does, query parameters, the schema of its body and of its answer.
pub struct Operation {
    pub method: HttpMethod,
    pub path: &'static str,
    pub summary: &'static str,
    parameters: &'static [&'static [&'static str]],
    body: &'static str,
    answer: &'static str,
}

const NAMESPACE: &[&str] = &["namespace"];
const FILTERS: &[&str] = &["namespace", "dc", "failover", "max_age", "tag", "metadata", "zone", "node", "health", "ext"];
const PAGES: &[&str] = &["limit", "after"];
const BLOCKING: &[&str] = &["wait", "revision"];
const INSTANCE: &str = "/api/v1/services/{service}/instances/{id}";

const fn operation(
    method: HttpMethod,
    path: &'static str,
    summary: &'static str,
    parameters: &'static [&'static [&'static str]],
    body: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { method, path, summary, parameters, body, answer }
}

#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    operation(HttpMethod::Put, INSTANCE, "Register or replace an instance; identical: a renewal", &[NAMESPACE], "Registration", "Write"),
    operation(HttpMethod::Patch, INSTANCE, "Merge into an instance (RFC 7396)", &[NAMESPACE, &["uid"]], "Registration", "Write"),
    operation(HttpMethod::Get, INSTANCE, "One instance, with every check and why", &[NAMESPACE, &["uid", "dc", "wait"]], "", "InstanceDetail"),
    operation(HttpMethod::Delete, INSTANCE, "Deregister", &[NAMESPACE, &["uid"]], "", "Write"),
    operation(HttpMethod::Put, "/api/v1/services/{service}/instances/{id}/heartbeat", "A sign of life, with or without a report", &[NAMESPACE, &["uid"]], "Heartbeat", "Write"),
    operation(HttpMethod::Put, "/api/v1/services/{service}/instances/{id}/override", "An operator's word on an instance", &[NAMESPACE, &["uid"]], "Override", "Write"),
    operation(HttpMethod::Delete, "/api/v1/services/{service}/instances/{id}/override", "Take it back", &[NAMESPACE, &["uid"]], "", "Write"),
    operation(HttpMethod::Put, "/api/v1/members/{node}/override", "An operator's word on a whole host: drain", &[], "Override", "Write"),
    operation(HttpMethod::Delete, "/api/v1/members/{node}/override", "Take it back", &[], "", "Write"),
    operation(HttpMethod::Post, "/api/v1/batch", "Up to 1,000 writes: all of them or none", &[NAMESPACE], "BatchRequest", "Batch"),
    operation(HttpMethod::Get, "/api/v1/services", "Services by name with their counts", &[&["namespace", "dc", "prefix"], PAGES, BLOCKING], "", "Services"),
    operation(HttpMethod::Get, "/api/v1/services/{service}", "Instances of a service; blocks with wait and revision", &[FILTERS, &["near"], PAGES, BLOCKING], "", "List"),
    operation(HttpMethod::Get, "/api/v1/services/{service}/pick", "Choose among them", &[FILTERS, &["strategy", "near", "key", "n", "wait"]], "", "Pick"),
    operation(HttpMethod::Get, "/api/v1/instances", "Instances of all services", &[FILTERS, &["service", "near"], PAGES, BLOCKING], "", "Instances"),
    operation(HttpMethod::Get, "/api/v1/watch", "Server-sent events: put, remove, synced, resync; of another datacenter, services by name or what crosses by itself", &[FILTERS, &["service"]], "", "text/event-stream"),
    operation(HttpMethod::Get, "/api/v1/http_sd", "Targets for Prometheus' http_sd_config", &[FILTERS, &["service", "wait"]], "", "application/json"),
    operation(HttpMethod::Get, "/api/v1/members", "Agents of the cluster", &[BLOCKING], "", "Members"),
    operation(HttpMethod::Delete, "/api/v1/members/{node}", "Give up a member that is not alive", &[], "", "application/json"),
    operation(HttpMethod::Get, "/api/v1/datacenters", "Datacenters that are known", &[], "", "Datacenters"),
    operation(HttpMethod::Delete, "/api/v1/datacenters/{name}", "Forget a datacenter that nobody here hears", &[], "", "application/json"),
    operation(HttpMethod::Get, "/api/v1/status", "This agent", &[], "", "Status"),
    operation(HttpMethod::Get, "/api/v1/events", "The last 1,000 changes of the picture", &[&["limit"]], "", "Events"),
    operation(HttpMethod::Post, "/api/v1/join", "Announce to further agents", &[], "Join", "application/json"),
    operation(HttpMethod::Post, "/api/v1/leave", "Leave the cluster", &[], "", "application/json"),
    operation(HttpMethod::Post, "/api/v1/reload", "Read the settings again, as SIGHUP does", &[], "", "Reloaded"),
    operation(HttpMethod::Get, "/api/v1/keys", "Gossip keys that are accepted", &[], "", "Keys"),
    operation(HttpMethod::Post, "/api/v1/keys", "Accept a further key", &[], "NewKey", "application/json"),
    operation(HttpMethod::Post, "/api/v1/keys/{id}", "Seal with it", &[], "", "application/json"),
    operation(HttpMethod::Delete, "/api/v1/keys/{id}", "Accept it no longer", &[], "", "application/json"),
    operation(HttpMethod::Get, "/api/v1/openapi.json", "This document", &[], "", "application/json"),
    operation(HttpMethod::Get, "/metrics", "Metrics for Prometheus", &[], "", "application/openmetrics-text"),
    operation(HttpMethod::Get, "/healthz", "Whether the engine turns", &[], "", "application/json"),
    operation(HttpMethod::Get, "/readyz", "Whether the catalog is there", &[], "", "application/json"),
];

/// The name of the scheme by which clients show a token.
const TOKEN: &str = "token";

/// What a query parameter means.
const PARAMETERS: &[(&str, &str)] = &[
    ("namespace", "`default` where it is not given; reads take `*` for all"),
    ("dc", "The datacenter, or `*` for all that are known; this agent's own where it is not given"),
    ("failover", "`true`: where the own datacenter has nothing that fits, the nearest that has, from this agent's memory"),
    ("max_age", "How old what failover takes may be, as `10m`; at most 3 d"),
    ("tag", "Has this tag; repeated: has them all"),
    ("metadata", "Has this pair, `key=value`; repeated: has them all"),
    ("zone", "In this zone"),
    ("node", "On this node, by name or id"),
    ("health", "`available` (the default), `any`, or some of passing,warning,critical,starting,unknown"),
    ("ext", "`true` adds what dialects keep"),
    ("near", "The nearest to this member first, by name or id, or `_agent`: by estimated round trips"),
    ("limit", "Entries of one page"),
    ("after", "Where the page begins: an earlier page's `next`"),
    ("wait", "How long to wait for a change, or for what another datacenter is asked for, as `30s`; at most 10 min"),
    ("revision", "The revision the reader has; answers at once when it is not the present one"),
    ("prefix", "Names that begin so"),
    ("service", "Of this service; repeated: of any of them"),
    ("strategy", "random (the default), round_robin, weighted, hash, nearest"),
    ("key", "What hash chooses by"),
    ("n", "How many different ones"),
    ("uid", "The very instance, where several have one id"),
];

/// The document, encoded once.
pub fn document() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| build().to_json().expect("the document is texts and maps").into()).clone()
}

fn build() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for it in OPERATIONS {
        paths = paths.path(it.path, PathItem::new(it.method.clone(), describe(it)));
    }
    let license = utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("tidings")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The native API of a tidings agent. Every answer carries Tidings-Revision; every refusal is a Problem."))
        .license(Some(license))
        .build();
    // Whether a token is needed is each agent's own setting (`[access]`), so none at all may do as well.
    let security = [SecurityRequirement::new(TOKEN, [""; 0]), SecurityRequirement::default()];
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components())).security(Some(security)).build()
}

fn describe(it: &Operation) -> utoipa::openapi::path::Operation {
    let text = || RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String)));
    let mut operation = OperationBuilder::new().summary(Some(it.summary));
    let in_path = it.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for name in in_path {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True).schema(Some(text()));
        operation = operation.parameter(parameter);
    }
    for name in it.parameters.iter().copied().flatten() {
        let meaning = PARAMETERS.iter().find(|(known, _)| known == name).map(|(_, meaning)| *meaning);
        let parameter = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Query).description(meaning).schema(Some(text()));
        operation = operation.parameter(parameter);
    }
    if !it.body.is_empty() {
        let media = if it.method == HttpMethod::Patch { "application/merge-patch+json" } else { "application/json" };
        operation = operation.request_body(Some(RequestBodyBuilder::new().content(media, content(it.body)).build()));
    }
    let (media, schema) = if it.answer.contains('/') { (it.answer, None) } else { ("application/json", Some(content(it.answer))) };
    let success = ResponseBuilder::new().description("Done").content(media, schema.unwrap_or_default()).build();
    let refusal = ResponseBuilder::new().description("Refused").content("application/problem+json", content("Problem")).build();
    operation.response("200", success).response("default", refusal).build()
}

fn content(schema: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

fn components() -> utoipa::openapi::Components {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    /// A type and all it refers to.
    fn add<T: ToSchema + PartialSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    add::<super::Registration>(&mut schemas);
    add::<super::Heartbeat>(&mut schemas);
    add::<super::Override>(&mut schemas);
    add::<super::BatchRequest>(&mut schemas);
    add::<super::Write>(&mut schemas);
    add::<super::Batch>(&mut schemas);
    add::<super::InstanceDetail<'static>>(&mut schemas);
    add::<super::List<'static>>(&mut schemas);
    add::<super::Instances<'static>>(&mut schemas);
    add::<super::Pick<'static>>(&mut schemas);
    add::<super::Services<'static>>(&mut schemas);
    add::<super::Members<'static>>(&mut schemas);
    add::<super::Status<'static>>(&mut schemas);
    add::<super::Datacenters<'static>>(&mut schemas);
    add::<super::Events>(&mut schemas);
    add::<super::Join>(&mut schemas);
    add::<super::Reloaded>(&mut schemas);
    add::<super::Keys>(&mut schemas);
    add::<super::NewKey>(&mut schemas);
    schemas.push(("Problem".to_owned(), problem()));
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("As `tidings token` prints it")).build();
    ComponentsBuilder::new().schemas_from_iter(schemas).security_scheme(TOKEN, SecurityScheme::Http(token)).build()
}

/// The schema of a problem with the closed list of its types.
fn problem() -> RefOr<Schema> {
    let mut schema = super::Problem::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        let kinds = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What kind of problem it is; clients may act on it"))
            .enum_values(Some(Kind::ALL.iter().map(|kind| kind.uri())))
            .build();
        object.properties.insert("type".to_owned(), kinds.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_slice(&document()).unwrap();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let references: Vec<&str> = text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 30);
        for name in references {
            assert!(schemas.contains_key(name), "{name} is referred to and missing");
        }
        let operations: usize = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, OPERATIONS.len());
        assert_eq!(document["security"], serde_json::json!([{TOKEN: []}, {}]));
        assert_eq!(document["components"]["securitySchemes"][TOKEN]["scheme"], "bearer");
        assert!(document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array().unwrap().len() == Kind::ALL.len());
    }

    #[test]
    fn every_parameter_is_explained() {
        for name in OPERATIONS.iter().flat_map(|it| it.parameters).copied().flatten() {
            assert!(PARAMETERS.iter().any(|(known, _)| known == name), "{name}");
        }
    }
}
