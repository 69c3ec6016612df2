//! `tidings status | members | datacenters | services | service | pick | events | keys`: what an agent knows.

use super::connect::Connection;
use super::output::{Column, Output, cell};
use super::{Exit, Failure};
use crate::client::{query, segment};
use serde_json::Value;

/// How long to wait for instances of another datacenter that are known by their number alone.
const FETCHED_WITHIN: &str = "5s";

/// Which part of an agent's picture to print.
#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Services {
    /// Only services whose names begin so.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// The namespace; `*` is all of them.
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// The datacenter; `*` is all that are known.
    #[arg(long, value_name = "NAME")]
    dc: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Service {
    /// The service's name.
    name: String,
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// The datacenter; `*` is all that are known.
    #[arg(long, value_name = "NAME")]
    dc: Option<String>,
    /// Only instances with this tag; may be given again.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only those that take traffic.
    #[arg(long)]
    available: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Pick {
    /// The service's name.
    name: String,
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// The datacenter; `*` is all that are known.
    #[arg(long, value_name = "NAME")]
    dc: Option<String>,
    /// random, round_robin, weighted, hash or nearest.
    #[arg(long, default_value = "random", value_name = "NAME")]
    strategy: String,
    /// What to choose by with `--strategy hash`.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// So many, the first choice first.
    #[arg(short, long, default_value_t = 1, value_name = "NUMBER")]
    n: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

pub fn status(arguments: &Plain) -> Result<(), Failure> {
    let answer = get(&arguments.connection, "/api/v1/status".into())?;
    arguments.output.thing(&answer)
}

pub fn members(arguments: &Plain) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("NODE", |member| mark(member, "node", "me", "*")),
        ("STATE", |member| cell(&member["state"])),
        ("ADDRESS", |member| cell(&member["address"])),
        ("ZONE", |member| cell(&member["zone"])),
        ("INSTANCES", |member| cell(&member["instances"])),
        ("VERSION", |member| cell(&member["version"])),
        ("SINCE", |member| cell(&member["since"])),
        ("NOTE", |member| {
            let taken = member["name_taken"].as_bool().is_some_and(|taken| taken).then_some("an older member has this name");
            let word = member["override"]["reason"].as_str().map(|reason| format!("drained: {reason}"));
            taken.map(str::to_owned).or(word).unwrap_or_default()
        }),
    ];
    let answer = get(&arguments.connection, "/api/v1/members".into())?;
    arguments.output.list(&answer, "members", COLUMNS)
}

pub fn datacenters(arguments: &Plain) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("DATACENTER", |datacenter| mark(datacenter, "datacenter", "local", "*")),
        ("STATE", |datacenter| cell(&datacenter["state"])),
        ("AGE", |datacenter| cell(&datacenter["age"])),
        ("RTT", |datacenter| datacenter["rtt_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))),
        ("BACKLOG", |datacenter| cell(&datacenter["backlog"])),
        ("GATEWAYS", |datacenter| {
            let names: Vec<String> = datacenter["gateways"].as_array().into_iter().flatten().map(cell).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(",") }
        }),
        ("MEMBERS", |datacenter| cell(&datacenter["members"])),
        ("SERVICES", |datacenter| cell(&datacenter["services"])),
        ("INSTANCES", |datacenter| cell(&datacenter["instances"])),
        ("SUMMARIES", |datacenter| cell(&datacenter["summaries"])),
    ];
    let answer = get(&arguments.connection, "/api/v1/datacenters".into())?;
    arguments.output.list(&answer, "datacenters", COLUMNS)
}

pub fn events(arguments: &Plain) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("AT", |event| cell(&event["at"])),
        ("ABOUT", |event| cell(&event["about"])),
        ("NAME", |event| cell(&event["name"])),
        ("WHAT", |event| cell(&event["what"])),
        ("DETAIL", |event| event["detail"].as_str().unwrap_or_default().to_owned()),
    ];
    let answer = get(&arguments.connection, "/api/v1/events".into())?;
    arguments.output.list(&answer, "events", COLUMNS)
}

pub fn services(arguments: &Services) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("SERVICE", |service| cell(&service["service"])),
        ("NAMESPACE", |service| cell(&service["namespace"])),
        ("AVAILABLE", |service| cell(&service["available"])),
        ("INSTANCES", |service| cell(&service["instances"])),
        ("WARNING", |service| cell(&service["warning"])),
        ("CRITICAL", |service| cell(&service["critical"])),
        ("DISABLED", |service| cell(&service["disabled"])),
        ("AGENT DOWN", |service| cell(&service["agent_down"])),
    ];
    let mut all: Option<Value> = None;
    // One page after the other: the list may be longer than an answer.
    loop {
        let next = all.as_ref().and_then(|all| all["next"].as_str()).map(str::to_owned);
        let mut pairs = vec![("namespace", arguments.namespace.as_str())];
        pairs.extend(arguments.dc.as_deref().map(|dc| ("dc", dc)));
        pairs.extend(arguments.prefix.as_deref().map(|prefix| ("prefix", prefix)));
        pairs.extend(next.as_deref().map(|next| ("after", next)));
        let mut page = get(&arguments.connection, format!("/api/v1/services{}", query(&pairs)))?;
        if let Some(mut before) = all.take() {
            let later = page["services"].take();
            before["next"] = page["next"].take();
            if let (Some(services), Some(later)) = (before["services"].as_array_mut(), later.as_array()) {
                services.extend(later.iter().cloned());
            }
            page = before;
        }
        let is_whole = page["next"].is_null();
        all = Some(page);
        if is_whole {
            break;
        }
    }
    arguments.output.list(&all.unwrap_or_default(), "services", COLUMNS)
}

pub fn service(arguments: &Service) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("ID", |instance| cell(&instance["id"])),
        ("ADDRESS", |instance| match instance["port"].as_u64() {
            Some(port) => format!("{}:{port}", cell(&instance["address"])),
            None => cell(&instance["address"]),
        }),
        ("NODE", |instance| cell(&instance["node"])),
        ("ZONE", |instance| cell(&instance["zone"])),
        ("HEALTH", |instance| cell(&instance["health"])),
        ("TAGS", |instance| cell(&instance["tags"])),
        (
            "AVAILABLE",
            |instance| if instance["available"].as_bool() == Some(true) { "yes".into() } else { format!("no: {}", why(instance)) },
        ),
    ];
    let mut pairs = vec![("namespace", arguments.namespace.as_str())];
    if !arguments.available {
        pairs.push(("health", "any"));
    }
    pairs.extend(arguments.tag.iter().map(|tag| ("tag", tag.as_str())));
    if let Some(dc) = &arguments.dc {
        // A person would rather wait a moment than be told that the instances are on their way.
        pairs.extend([("dc", dc.as_str()), ("wait", FETCHED_WITHIN)]);
    }
    let answer = get(&arguments.connection, format!("/api/v1/services/{}{}", segment(&arguments.name), query(&pairs)))?;
    found(&answer, &arguments.name)?;
    arguments.output.list(&answer, "instances", COLUMNS)
}

pub fn pick(arguments: &Pick) -> Result<(), Failure> {
    let n = arguments.n.to_string();
    let mut pairs = vec![("namespace", arguments.namespace.as_str()), ("strategy", &arguments.strategy), ("n", &n)];
    pairs.extend(arguments.key.as_deref().map(|key| ("key", key)));
    if let Some(dc) = &arguments.dc {
        pairs.extend([("dc", dc.as_str()), ("wait", FETCHED_WITHIN)]);
    }
    let answer = get(&arguments.connection, format!("/api/v1/services/{}/pick{}", segment(&arguments.name), query(&pairs)))?;
    found(&answer, &arguments.name)?;
    if !arguments.output.is_for_people() {
        return arguments.output.list(&answer, "instances", &[("ADDRESS", endpoint)]);
    }
    let all = answer["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    super::print(&all.iter().map(|instance| endpoint(instance) + "\n").collect::<String>())
}

/// Where to connect to, IPv6 in brackets.
fn endpoint(instance: &Value) -> String {
    let address = instance["address"].as_str().unwrap_or_default();
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    match instance["port"].as_u64() {
        Some(port) => format!("{address}:{port}"),
        None => address,
    }
}

/// Why an instance takes no traffic: the decisive reason, and what it said.
fn why(instance: &Value) -> String {
    let reasons = instance["why"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(first) = reasons.first() else { return "its agent says so".into() };
    let id = first["id"].as_str().filter(|id| !id.is_empty()).map(|id| format!(" {id}")).unwrap_or_default();
    let output = first["output"].as_str().filter(|output| !output.is_empty()).map(|output| format!(": {output}")).unwrap_or_default();
    cell(&Value::String(format!("{}{id} is {}{output}", cell(&first["by"]), cell(&first["state"]))))
}

fn found(answer: &Value, name: &str) -> Result<(), Failure> {
    if answer["instances"].as_array().is_some_and(|instances| !instances.is_empty()) {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("no instance of {name} is known here, or none that was asked for")))
}

fn mark(item: &Value, name: &str, flag: &str, sign: &str) -> String {
    let sign = if item[flag].as_bool() == Some(true) { sign } else { "" };
    format!("{}{sign}", cell(&item[name]))
}

fn get(connection: &Connection, path: String) -> Result<Value, Failure> {
    connection.run(|client| async move { Ok(client.get(&path).await?) })
}
