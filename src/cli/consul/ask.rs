//! Verbs that ask a running agent: what they print is what tools and people know from Consul.

use reqwest::Method;
use serde_json::Value;

use super::words::Words;
use super::{Exit, Failure, print};
use crate::cli::block_on;
use crate::client::{Client, DEFAULT_ADDRESS, segment};

const SWITCHES: &[&str] = &["wan", "detailed", "tags", "stale", "consistent", "prune", "recurse", "keys", "base64", "cas"];

/// A command line and the agent that it is for.
pub struct Asked {
    pub words: Words,
    pub client: Client,
}

impl Asked {
    pub fn read(words: &[&str]) -> Result<Self, Failure> {
        let words = Words::read(words, SWITCHES)?;
        let set = |flag: &str, variable: &str| words.one(flag).map(str::to_owned).or_else(|| std::env::var(variable).ok());
        let address = set("http-addr", "CONSUL_HTTP_ADDR").filter(|address| !address.is_empty()).unwrap_or(DEFAULT_ADDRESS.to_owned());
        let address = address.strip_prefix("unix://").map_or(address.clone(), |path| format!("unix:{path}"));
        let token = set("token", "CONSUL_HTTP_TOKEN").filter(|token| !token.is_empty());
        Ok(Self { client: Client::new(&address, token)?, words })
    }

    fn call(&self, method: Method, path: &str) -> Result<Value, Failure> {
        block_on(async { Ok(self.client.call::<(), Value>(method, path, None).await?) })
    }

    fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path)
    }

    fn put(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::PUT, path).map(|_| ())
    }

    /// The one word besides flags that a verb needs.
    pub fn need(&self, what: &str) -> Result<&str, Failure> {
        self.words.others.first().map(String::as_str).ok_or_else(|| Failure::new(Exit::Usage, format!("{what} is missing")))
    }
}

/// Rows under a head, in columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn text<'v>(of: &'v Value, key: &str) -> &'v str {
    of[key].as_str().unwrap_or_default()
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn members(words: &[&str]) -> Result<(), Failure> {
    let asked = Asked::read(words)?;
    let wan = if asked.words.is_on("wan") { "?wan=1" } else { "" };
    let members = asked.get(&format!("/v1/agent/members{wan}"))?;
    let mut rows = vec![head(&["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"])];
    for member in members.as_array().into_iter().flatten() {
        let status = match member["Status"].as_u64() {
            Some(1) => "alive",
            Some(2) => "leaving",
            Some(3) => "left",
            Some(4) => "failed",
            _ => "none",
        };
        let tags = &member["Tags"];
        let kind = if text(tags, "role") == "consul" { "server" } else { "client" };
        let build = text(tags, "build").split(':').next().unwrap_or_default();
        let address = format!("{}:{}", text(member, "Addr"), member["Port"]);
        let protocol = member["ProtocolCur"].to_string();
        let row = [text(member, "Name"), &address, status, kind, build, &protocol, text(tags, "dc"), "<all>"];
        rows.push(row.map(str::to_owned).to_vec());
    }
    print(&table(&rows))
}

pub fn join(words: &[&str]) -> Result<(), Failure> {
    let asked = Asked::read(words)?;
    asked.need("an address to join")?;
    let wan = if asked.words.is_on("wan") { "?wan=1" } else { "" };
    for address in &asked.words.others {
        asked.put(&format!("/v1/agent/join/{}{wan}", segment(address)))?;
    }
    print(&format!("Successfully joined cluster by contacting {} nodes.\n", asked.words.others.len()))
}

pub fn leave(words: &[&str]) -> Result<(), Failure> {
    Asked::read(words)?.put("/v1/agent/leave")?;
    print("Graceful leave complete\n")
}

pub fn force_leave(words: &[&str]) -> Result<(), Failure> {
    let asked = Asked::read(words)?;
    asked.put(&format!("/v1/agent/force-leave/{}", segment(asked.need("a node's name")?)))
}

pub fn reload(words: &[&str]) -> Result<(), Failure> {
    Asked::read(words)?.put("/v1/agent/reload")?;
    print("Configuration reload triggered\n")
}

pub fn info(words: &[&str]) -> Result<(), Failure> {
    let itself = Asked::read(words)?.get("/v1/agent/self")?;
    let mut out = String::new();
    for (part, values) in itself["Stats"].as_object().into_iter().flatten() {
        out += &format!("{part}:\n");
        for (key, value) in values.as_object().into_iter().flatten() {
            out += &format!("\t{key} = {}\n", value.as_str().unwrap_or_default());
        }
    }
    print(&out)
}

pub fn catalog(words: &[&str]) -> Result<(), Failure> {
    let asked = Asked::read(words)?;
    match asked.need("datacenters, nodes or services")? {
        "datacenters" => {
            let known = asked.get("/v1/catalog/datacenters")?;
            let names = known.as_array().into_iter().flatten().filter_map(Value::as_str);
            print(&names.map(|name| format!("{name}\n")).collect::<String>())
        }
        "nodes" => {
            let path = match asked.words.one("service") {
                Some(service) => format!("/v1/catalog/service/{}", segment(service)),
                None => "/v1/catalog/nodes".to_owned(),
            };
            let nodes = asked.get(&path)?;
            let mut rows = vec![head(&["Node", "ID", "Address", "DC"])];
            for node in nodes.as_array().into_iter().flatten() {
                let id = text(node, "ID").split('-').next().unwrap_or_default();
                rows.push([text(node, "Node"), id, text(node, "Address"), text(node, "Datacenter")].map(str::to_owned).to_vec());
            }
            rows.dedup();
            print(&table(&rows))
        }
        "services" => {
            let services = asked.get("/v1/catalog/services")?;
            let rows = services.as_object().into_iter().flatten().map(|(name, tags)| {
                let tags: Vec<&str> = tags.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if asked.words.is_on("tags") { vec![name.clone(), tags.join(",")] } else { vec![name.clone()] }
            });
            print(&table(&rows.collect::<Vec<_>>()))
        }
        other => Err(Failure::new(Exit::Usage, format!("{other:?}: datacenters, nodes or services can be listed"))),
    }
}
