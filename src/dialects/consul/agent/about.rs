//! What an agent tells of itself and of the others: `agent/self`, `host`, `version`, `members`, `metrics`.
//!
//! Clients look for a few of these fields; the others are there because some count them. Every agent is shown as a server: whatever is
//! asked of one, this agent answers.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::agent::handle::wall_ms;
use crate::dialects::consul::json::Uuid;
use crate::dialects::consul::refuse::{Failure, only};
use crate::dialects::consul::request::Params;
use crate::dialects::consul::{Consul, VERSION, answer, coordinate, own};
use crate::view::{MemberState, MemberView, View};

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/self", only("GET", get(itself)))
        .route("/v1/agent/host", only("GET", get(host)))
        .route("/v1/agent/version", only("GET", get(version)))
        .route("/v1/agent/members", only("GET", get(members)))
        .route("/v1/agent/metrics", only("GET", get(metrics)))
}

/// A member as Serf shows one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    addr: String,
    port: u16,
    tags: BTreeMap<&'static str, String>,
    status: u8,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl Member {
    fn of(consul: &Consul, member: &MemberView) -> Self {
        let tags = [
            ("role", "consul".to_owned()),
            ("dc", member.datacenter.clone()),
            ("id", Uuid(member.id.0).to_string()),
            ("port", consul.settings.server_port.to_string()),
            ("segment", String::new()),
            ("build", format!("{VERSION}:tidings-{}", member.version)),
            ("vsn", "2".to_owned()),
            ("vsn_min", "2".to_owned()),
            ("vsn_max", "3".to_owned()),
            ("raft_vsn", "3".to_owned()),
            ("acls", "0".to_owned()),
        ];
        Self {
            name: member.name.clone(),
            addr: member.gossip.ip().to_string(),
            port: member.gossip.port(),
            tags: BTreeMap::from(tags),
            status: status(member.state),
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
        }
    }
}

/// Serf's numbers. Whom we suspect still counts as alive, as there.
fn status(state: MemberState) -> u8 {
    match state {
        MemberState::Alive | MemberState::Suspect => 1,
        MemberState::Left => 3,
        MemberState::Down => 4,
    }
}

/// `GET /v1/agent/self`: exactly Consul's seven parts.
async fn itself(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    let view = consul.handle.view();
    let facts = consul.handle.facts();
    let member = view.member(view.agent.id);
    let meta: Map<String, Value> =
        own::node(&view).map(|node| node.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect()).unwrap_or_default();
    let config = json!({
        "Datacenter": facts.datacenter.as_str(),
        "PrimaryDatacenter": facts.datacenter.as_str(),
        "NodeName": view.agent.name,
        "NodeID": Uuid(view.agent.id.0),
        "Revision": "",
        "Server": true,
        "Version": VERSION,
    });
    let debug = json!({
        "AdvertiseAddrLAN": facts.advertise.ip(),
        "Datacenter": facts.datacenter.as_str(),
        "NodeName": view.agent.name,
        "NodeID": Uuid(view.agent.id.0),
        "ServerPort": consul.settings.server_port,
        "SerfPortLAN": facts.advertise.port(),
        "EnableLocalScriptChecks": facts.allows_scripts,
        "EnableRemoteScriptChecks": facts.allows_scripts,
        "ACLsEnabled": false,
    });
    Ok(answer::json(
        &params,
        &json!({
            "Config": config,
            "DebugConfig": debug,
            "Coord": coordinate::own(&view),
            "Member": member.map(|member| Member::of(&consul, member)),
            "Stats": stats(&consul, &view),
            "Meta": meta,
            "xDS": {"SupportedProxies": {}},
        }),
    ))
}

/// All values are texts, as Consul's are.
fn stats(consul: &Consul, view: &View) -> Value {
    let count = |is: fn(&MemberView) -> bool| view.members.iter().filter(|member| is(member)).count().to_string();
    let own = consul.own.count(view);
    json!({
        "agent": {"check_monitors": "0", "check_ttls": "0", "checks": own.checks.to_string(), "services": own.services.to_string()},
        "build": {"prerelease": "", "revision": "", "version": VERSION, "tidings": consul.handle.facts().version},
        "consul": {
            "acl": "disabled",
            "bootstrap": "false",
            "known_datacenters": (1 + view.datacenters.len()).to_string(),
            "leader": "true",
            "leader_addr": consul.server().to_string(),
            "server": "true",
        },
        "raft": {"state": "Leader", "num_peers": "0", "last_log_index": view.revision.to_string()},
        "runtime": {
            "arch": std::env::consts::ARCH,
            "os": std::env::consts::OS,
            "cpu_count": cores().to_string(),
            "version": concat!("tidings ", env!("CARGO_PKG_VERSION")),
        },
        "serf_lan": {
            "members": view.members.len().to_string(),
            "failed": count(|member| member.state == MemberState::Down),
            "left": count(|member| member.state == MemberState::Left),
            "encrypted": consul.handle.facts().key.is_some().to_string(),
        },
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// `GET /v1/agent/host`: Go Micro takes any answer as the sign that an agent is there.
async fn host(State(consul): State<Consul>, params: Params) -> Response<Body> {
    let facts = consul.handle.facts();
    let uptime_s = wall_ms().saturating_sub(facts.started_at_ms) / 1000;
    let host =
        json!({"hostname": facts.node.as_str(), "os": std::env::consts::OS, "kernelArch": std::env::consts::ARCH, "uptime": uptime_s});
    let cpus: Vec<Value> = (0..cores()).map(|cpu| json!({"cpu": cpu})).collect();
    let collected_ns = wall_ms().saturating_mul(1_000_000);
    answer::json(&params, &json!({"Memory": null, "CPU": cpus, "Host": host, "Disk": null, "CollectionTime": collected_ns, "Errors": null}))
}

/// `GET /v1/agent/version`
async fn version(State(consul): State<Consul>, params: Params) -> Response<Body> {
    let human = format!("{VERSION} (tidings {})", consul.handle.facts().version);
    answer::json(&params, &json!({"SHA": "", "BuildDate": "1970-01-01T00:00:00Z", "HumanVersion": human, "FIPS": ""}))
}

/// `GET /v1/agent/members?wan`: in the pool of all datacenters a member is called by its own as well.
async fn members(State(consul): State<Consul>, params: Params) -> Response<Body> {
    let is_wan = params.has("wan") && params.one("wan") != Some("0");
    let view = consul.handle.view();
    let shown = view.members.iter().filter(|member| !member.name.is_empty()).map(|member| {
        let mut shown = Member::of(&consul, member);
        if is_wan {
            shown.name = format!("{}.{}", shown.name, member.datacenter);
        }
        shown
    });
    answer::json(&params, &shown.collect::<Vec<_>>())
}

/// `GET /v1/agent/metrics?format=prometheus`
async fn metrics(State(consul): State<Consul>, params: Params) -> Response<Body> {
    let text = consul.handle.metrics().await;
    if params.one("format") != Some("prometheus") {
        return answer::json(&params, &Metrics::read(&text, wall_ms()));
    }
    let mut response = Response::new(Body::from(text));
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

/// Metrics in the parts that Consul gives them in.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metrics {
    timestamp: String,
    gauges: Vec<Gauge>,
    points: [(); 0],
    counters: Vec<Count>,
    samples: [(); 0],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Gauge {
    name: String,
    value: f64,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Count {
    name: String,
    count: u64,
    sum: f64,
    labels: BTreeMap<String, String>,
}

impl Metrics {
    /// Out of OpenMetrics text: counters end in `_total` there, and the lines of distributions are left out.
    fn read(text: &str, now_ms: u64) -> Self {
        let at = i64::try_from(now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let mut metrics =
            Self { timestamp: at.map(|at| at.strftime("%F %T +0000 UTC").to_string()).unwrap_or_default(), ..Self::default() };
        let mut kind = "";
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix('#') {
                kind = comment.trim().strip_prefix("TYPE ").and_then(|comment| comment.split_once(' ')).map_or(kind, |(_, kind)| kind);
                continue;
            }
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned())).collect();
            match kind {
                "gauge" => metrics.gauges.push(Gauge { name: name.to_owned(), value, labels }),
                "counter" => metrics.counters.push(Count { name: name.to_owned(), count: value as u64, sum: value, labels }),
                _ => {}
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_sorted_by_kind_with_their_labels() {
        let text = "# HELP a of a\n# TYPE a gauge\na 1.5\n# TYPE b counter\nb_total{status=\"2xx\",x=\"y z\"} 7\n\
                    # TYPE c histogram\nc_bucket{le=\"1\"} 3\n# EOF\n";
        let read = Metrics::read(text, 0);
        assert_eq!((read.gauges[0].name.as_str(), read.gauges[0].value), ("a", 1.5));
        assert_eq!((read.counters[0].name.as_str(), read.counters[0].count), ("b_total", 7));
        assert_eq!(read.counters[0].labels, BTreeMap::from([("status".into(), "2xx".into()), ("x".into(), "y z".into())]));
        assert_eq!((read.gauges.len(), read.counters.len()), (1, 1));
        assert_eq!(read.timestamp, "1970-01-01 00:00:00 +0000 UTC");
    }
}
