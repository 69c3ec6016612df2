//! Bodies as clients send them: keys in any case and in snake case, nulls for what is not said, durations in Go's manner or as numbers of
//! nanoseconds, unknown keys ignored (reference/consul.md §0.8, §1.7, §1.12).
//!
//! Here they become definitions: what was said, in Consul's terms. What that means in ours is `mapping`'s.

use serde_json::{Map, Value};

use super::go;
use super::refuse::Failure;

/// An object whose keys are looked up in any spelling.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a Map<String, Value>);

/// A service as `agent/service/register` and, in other words, `catalog/register` have it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Empty: the name.
    pub id: String,
    pub name: String,
    pub kind: String,
    pub tags: Vec<String>,
    /// By key, in ascending order.
    pub meta: Vec<(String, String)>,
    pub address: String,
    pub port: u16,
    /// By name, in ascending order.
    pub tagged_addresses: Vec<(String, String, u16)>,
    /// Passing and warning.
    pub weights: Option<(u32, u32)>,
    pub enable_tag_override: bool,
    /// By a configuration, not by a request.
    pub is_defined: bool,
    pub connect: Option<Map<String, Value>>,
    pub proxy: Option<Map<String, Value>>,
    pub checks: Vec<Check>,
}

/// A check as it is registered, alone or with its service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// Empty: made by rule.
    pub id: String,
    pub name: String,
    pub notes: String,
    /// Empty: critical.
    pub status: String,
    pub output: String,
    /// Of a check that is registered alone: the service it is on; empty: the node.
    pub service_id: String,
    pub args: Vec<String>,
    pub http: String,
    pub method: String,
    /// In ascending order of names; one of several values stands several times.
    pub header: Vec<(String, String)>,
    pub body: String,
    pub tls_skip_verify: bool,
    pub tcp: String,
    pub grpc: String,
    pub grpc_use_tls: bool,
    pub alias_node: String,
    pub alias_service: String,
    pub ttl_ns: u64,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub deregister_after_ns: u64,
    pub success_before_passing: u16,
    pub failures_before_critical: u16,
    /// A kind of check that this agent does not carry out.
    pub unsupported: Option<&'static str>,
}

/// What `agent/check/update` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub status: String,
    pub output: String,
}

/// A node and what is on it, as `catalog/register` has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registration {
    pub node: String,
    pub address: String,
    pub datacenter: String,
    pub node_meta: Vec<(String, String)>,
    /// The node stays as it is.
    pub skip_node_update: bool,
    pub service: Option<Service>,
    pub checks: Vec<Check>,
}

/// What `catalog/deregister` takes away: a check, a service, or the whole node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deregistration {
    pub node: String,
    pub datacenter: String,
    pub service_id: String,
    pub check_id: String,
}

/// The body as a JSON object.
///
/// # Errors
/// It is none.
pub fn object(bytes: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(other) => Err(undecodable(mismatch(&other, "the body", "object"))),
        // Deeply nested bodies are refused by the parser's own limit.
        Err(error) => Err(undecodable(error)),
    }
}

pub fn undecodable(why: impl std::fmt::Display) -> Failure {
    Failure::bad(format!("Request decode failed: {why}"))
}

fn mismatch(value: &Value, field: &str, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go struct field {field} of type {wanted}")
}

/// Whether two spellings of a key are one: case and underscores say nothing.
fn is_same_key(a: &str, b: &str) -> bool {
    fn plain(key: &str) -> impl Iterator<Item = char> + '_ {
        key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase())
    }
    plain(a).eq(plain(b))
}

impl<'a> Fields<'a> {
    pub fn of(value: &'a Value, field: &str) -> Result<Self, Failure> {
        value.as_object().map(Self).ok_or_else(|| undecodable(mismatch(value, field, "object")))
    }

    /// The value of the key as it is spelled here, else of the last one that is the same in another spelling. Null is nothing.
    fn find(&self, name: &str) -> Option<&'a Value> {
        let exact = self.0.get(name);
        let found = exact.or_else(|| self.0.iter().rev().find(|(key, _)| is_same_key(key, name)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    /// The first of several names that is there.
    fn any(&self, names: &[&str]) -> Option<&'a Value> {
        names.iter().find_map(|name| self.find(name))
    }

    pub fn text(&self, name: &str) -> Result<String, Failure> {
        self.any_text(&[name])
    }

    fn any_text(&self, names: &[&str]) -> Result<String, Failure> {
        match self.any(names) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(undecodable(mismatch(other, names[0], "string"))),
        }
    }

    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.find(name) {
            None => Ok(false),
            Some(Value::Bool(is)) => Ok(*is),
            Some(other) => Err(undecodable(mismatch(other, name, "bool"))),
        }
    }

    fn number(&self, name: &str, max: u64) -> Result<Option<u64>, Failure> {
        match self.find(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| *number <= max) {
                Some(number) => Ok(Some(number)),
                None => Err(undecodable(mismatch(value, name, &format!("a whole number up to {max}")))),
            },
        }
    }

    fn port(&self, name: &str) -> Result<u16, Failure> {
        Ok(self.number(name, u64::from(u16::MAX))?.map_or(0, |port| port as u16))
    }

    /// Nanoseconds of `"15s"` or a bare number of them.
    fn duration_ns(&self, names: &[&str]) -> Result<u64, Failure> {
        match self.any(names) {
            None => Ok(0),
            Some(Value::String(text)) if text.is_empty() => Ok(0),
            Some(Value::String(text)) => go::parse_duration_ns(text).ok_or_else(|| undecodable(format!("time: invalid duration {text:?}"))),
            Some(value) => {
                let ns = value.as_u64().filter(|ns| i64::try_from(*ns).is_ok());
                ns.ok_or_else(|| undecodable(format!("time: invalid duration {value}")))
            }
        }
    }

    fn texts(&self, names: &[&str]) -> Result<Vec<String>, Failure> {
        let Some(value) = self.any(names) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| undecodable(mismatch(value, names[0], "[]string")))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| undecodable(mismatch(value, names[0], "string")));
        list.iter().map(text).collect()
    }

    /// A map of texts, in ascending order of its keys, which are kept as they are.
    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Failure> {
        let Some(value) = self.find(name) else { return Ok(Vec::new()) };
        let map = value.as_object().ok_or_else(|| undecodable(mismatch(value, name, "map[string]string")))?;
        let pair = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            Value::Null => Ok((key.clone(), String::new())),
            other => Err(undecodable(mismatch(other, name, "string"))),
        };
        let mut pairs = map.iter().map(pair).collect::<Result<Vec<_>, Failure>>()?;
        pairs.sort();
        Ok(pairs)
    }

    pub fn inner(&self, name: &str) -> Result<Option<Fields<'a>>, Failure> {
        self.find(name).map(|value| Fields::of(value, name)).transpose()
    }

    fn map(&self, name: &str) -> Result<Option<Map<String, Value>>, Failure> {
        Ok(self.inner(name)?.map(|inner| inner.0.clone()))
    }

    fn list(&self, name: &str) -> Result<Vec<Fields<'a>>, Failure> {
        let Some(value) = self.find(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| undecodable(mismatch(value, name, "array")))?;
        list.iter().filter(|value| !value.is_null()).map(|value| Fields::of(value, name)).collect()
    }
}

impl Service {
    /// The body of `agent/service/register`.
    pub fn read(fields: Fields<'_>) -> Result<Self, Failure> {
        Self::named(fields, "Name")
    }

    /// `name` is the key that the name stands under.
    fn named(fields: Fields<'_>, name: &str) -> Result<Self, Failure> {
        let mut checks: Vec<Check> =
            fields.inner("Check")?.map(Check::read).transpose()?.into_iter().filter(|check| !check.is_empty()).collect();
        for check in fields.list("Checks")? {
            checks.push(Check::read(check)?);
        }
        Ok(Self {
            id: fields.text("ID")?,
            name: fields.text(name)?,
            kind: fields.text("Kind")?,
            tags: fields.texts(&["Tags"])?,
            meta: fields.pairs("Meta")?,
            address: fields.text("Address")?,
            port: fields.port("Port")?,
            tagged_addresses: read_addresses(fields)?,
            weights: read_weights(fields)?,
            enable_tag_override: fields.flag("EnableTagOverride")?,
            is_defined: false,
            connect: fields.map("Connect")?,
            proxy: fields.map("Proxy")?,
            checks,
        })
    }
}

fn read_addresses(fields: Fields<'_>) -> Result<Vec<(String, String, u16)>, Failure> {
    let Some(addresses) = fields.inner("TaggedAddresses")? else { return Ok(Vec::new()) };
    let mut read = Vec::new();
    for (name, value) in addresses.0 {
        let at = Fields::of(value, "TaggedAddresses")?;
        read.push((name.clone(), at.text("Address")?, at.port("Port")?));
    }
    read.sort();
    Ok(read)
}

fn read_weights(fields: Fields<'_>) -> Result<Option<(u32, u32)>, Failure> {
    const WEIGHT_MAX: u64 = 65_535;
    let Some(weights) = fields.inner("Weights")? else { return Ok(None) };
    let weight = |name: &str| Ok::<u32, Failure>(weights.number(name, WEIGHT_MAX)?.map_or(0, |weight| weight as u32));
    let (passing, warning) = (weight("Passing")?, weight("Warning")?);
    if passing == 0 {
        return Err(Failure::bad("Invalid Weights: Passing must be greater than 0"));
    }
    Ok(Some((passing, warning)))
}

/// Kinds that are known and not carried out, by the key that asks for them.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("DockerContainerID", "docker"),
    ("UDP", "UDP"),
    ("H2PING", "H2PING"),
    ("OSService", "OS service"),
    ("Script", "script with one line (use Args)"),
];

impl Check {
    /// The body of `agent/check/register`, or a check of a service.
    pub fn read(fields: Fields<'_>) -> Result<Self, Failure> {
        let count = |name: &str| Ok::<u16, Failure>(fields.number(name, 100)?.map_or(0, |count| count as u16));
        let mut unsupported = None;
        for (key, kind) in UNSUPPORTED {
            if !fields.text(key)?.is_empty() {
                unsupported = Some(*kind);
            }
        }
        Ok(Self {
            id: fields.any_text(&["CheckID", "ID"])?,
            name: fields.text("Name")?,
            notes: fields.text("Notes")?,
            status: fields.text("Status")?,
            output: fields.text("Output")?,
            service_id: fields.text("ServiceID")?,
            args: fields.texts(&["Args", "ScriptArgs"])?,
            http: fields.text("HTTP")?,
            method: fields.text("Method")?,
            header: read_header(fields)?,
            body: fields.text("Body")?,
            tls_skip_verify: fields.flag("TLSSkipVerify")?,
            tcp: fields.text("TCP")?,
            grpc: fields.text("GRPC")?,
            grpc_use_tls: fields.flag("GRPCUseTLS")?,
            alias_node: fields.text("AliasNode")?,
            alias_service: fields.text("AliasService")?,
            ttl_ns: fields.duration_ns(&["TTL"])?,
            interval_ns: fields.duration_ns(&["Interval"])?,
            timeout_ns: fields.duration_ns(&["Timeout"])?,
            deregister_after_ns: fields.duration_ns(&["DeregisterCriticalServiceAfter"])?,
            success_before_passing: count("SuccessBeforePassing")?,
            failures_before_critical: count("FailuresBeforeCritical")?,
            unsupported,
        })
    }

    /// Clients send a `Check` of nulls beside the `Checks` they mean.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn read_header(fields: Fields<'_>) -> Result<Vec<(String, String)>, Failure> {
    let Some(header) = fields.inner("Header")? else { return Ok(Vec::new()) };
    let mut pairs = Vec::new();
    for name in header.0.keys() {
        match &header.0[name] {
            Value::String(value) => pairs.push((name.clone(), value.clone())),
            _ => pairs.extend(header.texts(&[name])?.into_iter().map(|value| (name.clone(), value))),
        }
    }
    // Stable: several values of one name keep their order.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pairs)
}

impl Update {
    pub fn read(fields: Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { status: fields.text("Status")?, output: fields.text("Output")? })
    }
}

impl Registration {
    pub fn read(fields: Fields<'_>) -> Result<Self, Failure> {
        let mut checks: Vec<Check> = fields.inner("Check")?.map(Check::read_in_catalog).transpose()?.into_iter().collect();
        for check in fields.list("Checks")? {
            checks.push(Check::read_in_catalog(check)?);
        }
        Ok(Self {
            node: fields.text("Node")?,
            address: fields.text("Address")?,
            datacenter: fields.text("Datacenter")?,
            node_meta: fields.pairs("NodeMeta")?,
            skip_node_update: fields.flag("SkipNodeUpdate")?,
            service: fields.inner("Service")?.map(|service| Service::named(service, "Service")).transpose()?,
            checks,
        })
    }
}

impl Check {
    /// In the catalog a check is a word on a state; what would be done stands under `Definition` and is nobody's to do here.
    fn read_in_catalog(fields: Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            id: fields.any_text(&["CheckID", "ID"])?,
            name: fields.text("Name")?,
            notes: fields.text("Notes")?,
            status: fields.text("Status")?,
            output: fields.text("Output")?,
            service_id: fields.text("ServiceID")?,
            ..Self::default()
        })
    }
}

impl Deregistration {
    pub fn read(fields: Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            node: fields.text("Node")?,
            datacenter: fields.text("Datacenter")?,
            service_id: fields.text("ServiceID")?,
            check_id: fields.text("CheckID")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(body: &str) -> Result<Service, Failure> {
        let value = object(body.as_bytes())?;
        Service::read(Fields::of(&value, "").unwrap())
    }

    #[test]
    fn keys_are_known_in_every_spelling_that_clients_have() {
        let go = service(
            r#"{"ID":"w1","Name":"web","Tags":["a"],"Port":80,"EnableTagOverride":true,"TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":1}},
            "Check":{"CheckID":"c","HTTP":"http://x","Interval":"10s","Timeout":"1s","TLSSkipVerify":true,"Header":{"b":["1","2"],"a":["3"]},
            "DeregisterCriticalServiceAfter":"1m5s"},"Checks":null,"Connect":null,"Unknown":{"x":1}}"#,
        );
        let python = service(
            r#"{"id":"w1","name":"web","tags":["a"],"port":80,"enabletagoverride":true,"tagged_addresses":{"wan":{"address":"1.2.3.4","port":1}},
            "check":{"check_id":"c","http":"http://x","interval":10000000000,"timeout":"1000ms","tls_skip_verify":true,"header":{"b":["1","2"],"a":["3"]},
            "deregister_critical_service_after":"65s"}}"#,
        );
        let read = go.unwrap();
        assert_eq!(read, python.unwrap());
        assert_eq!(read.checks[0].deregister_after_ns, 65_000_000_000);
        assert_eq!(read.checks[0].header, [("a", "3"), ("b", "1"), ("b", "2")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(read.tagged_addresses, [("wan".to_owned(), "1.2.3.4".to_owned(), 1)]);
    }

    #[test]
    fn nulls_say_nothing_and_an_empty_check_is_none() {
        let read =
            service(r#"{"Name":"web","ID":null,"Tags":null,"Meta":{"secure":"false"},"Check":{"TTL":"30s","HTTP":null,"Header":null}}"#)
                .unwrap();
        assert_eq!((read.id.as_str(), read.checks.len(), read.checks[0].ttl_ns), ("", 1, 30_000_000_000));
        assert!(service(r#"{"Name":"web","Check":{"TTL":null,"Args":null},"Checks":[null]}"#).unwrap().checks.is_empty());
        assert_eq!(service("null").unwrap(), Service::default());
    }

    #[test]
    fn what_does_not_decode_is_a_400_that_says_where() {
        for (body, why) in [
            ("", "EOF"),
            ("[]", "cannot unmarshal array"),
            (r#"{"Port":"80"}"#, "cannot unmarshal string into Go struct field Port"),
            (r#"{"Port":65536}"#, "Port"),
            (r#"{"Tags":"a"}"#, "[]string"),
            (r#"{"Meta":{"a":1}}"#, "Meta"),
            (r#"{"Check":{"TTL":"soon"}}"#, "invalid duration"),
            (r#"{"Check":{"Interval":-1}}"#, "invalid duration"),
            (r#"{"Weights":{"Passing":0}}"#, "Passing must be greater than 0"),
        ] {
            let refused = service(body).unwrap_err();
            assert_eq!(refused.status, 400);
            assert!(refused.text.contains(why), "{body}: {}", refused.text);
        }
    }

    #[test]
    fn a_catalog_registration_names_its_service_differently() {
        let value = json!({"node": "n", "address": "1.1.1.1", "service": {"service": "db", "tags": ["m"]}, "check": {"name": "c", "serviceid": "db"}});
        let read = Registration::read(Fields::of(&value, "").unwrap()).unwrap();
        assert_eq!(read.service.unwrap().name, "db");
        assert_eq!((read.checks[0].name.as_str(), read.checks[0].service_id.as_str()), ("c", "db"));
    }
}
