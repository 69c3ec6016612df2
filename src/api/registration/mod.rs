//! The JSON of a registration as an [`Instance`], and back. Every limit of api.md §2 is checked here, with the place it stands at.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::json::{At, Object};
use crate::model::duration;
use crate::model::instance::{Endpoint, Health, Instance, Lease};
use crate::model::limits;
use crate::model::record::Scope;
use crate::model::text::Text;
use crate::model::time::WallMs;
use crate::schema::{Kind, Problem};

mod check;
mod merge;

pub use check::kind_word;
pub use merge::merge;

use check::{read_checks, write_check};

/// The fields of a registration.
pub const FIELDS: &[&str] = &[
    "namespace",
    "address",
    "port",
    "secure_port",
    "addresses",
    "tags",
    "metadata",
    "weight",
    "weight_warning",
    "zone",
    "enabled",
    "status",
    "ttl",
    "remove_after",
    "checks",
    "scope",
    "ext",
];

const HEALTHS: &[(&str, Health)] = &[
    ("passing", Health::Passing),
    ("warning", Health::Warning),
    ("critical", Health::Critical),
    ("starting", Health::Starting),
    ("unknown", Health::Unknown),
];

const WEIGHT_MAX: f64 = 65_535.0;
/// A remove_after longer than that is a mistake.
const REMOVE_AFTER_MS_MAX: u64 = 30 * 86_400_000;

/// What a body says, apart from names that may stand elsewhere too.
#[derive(Debug)]
pub struct Said {
    pub namespace: Option<String>,
    pub scope: Scope<'static>,
    pub instance: Instance<'static>,
}

/// What the reader of a registration knows besides the body.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Wall clock in Unix milliseconds.
    pub now_ms: u64,
    pub allows_scripts: bool,
}

/// Reads a registration out of an object that may hold further members: `known` has those of a registration and them.
pub fn read(body: &At<'_>, known: &[&str], setting: Setting) -> Result<Said, Problem> {
    let object = body.object(known)?;
    let text = |name: &str, bytes_max: usize| object.get(name).map(|at| at.text_within(bytes_max).map(str::to_owned)).transpose();
    let weight = read_weight(&object, "weight")?.unwrap_or(1_000);
    let mut instance = Instance {
        address: read_address(&object)?,
        port: object.get("port").map(|at| at.port()).transpose()?,
        secure_port: object.get("secure_port").map(|at| at.port()).transpose()?,
        addresses: read_addresses(&object)?,
        tags: read_tags(&object)?,
        metadata: read_metadata(&object)?,
        weight,
        weight_warning: read_weight(&object, "weight_warning")?.unwrap_or(weight),
        zone: text("zone", limits::NODE_NAME_BYTES_MAX)?.filter(|zone| !zone.is_empty()).map(Text::from),
        enabled: object.get("enabled").map_or(Ok(true), |at| at.boolean())?,
        status: object.get("status").map_or(Ok(Health::Passing), |at| at.word(HEALTHS))?,
        lease: read_lease(&object)?,
        checks: read_checks(&object, setting)?,
        registered_at: WallMs(setting.now_ms),
        changed_at: WallMs(setting.now_ms),
        ..Instance::default()
    };
    instance.ext = read_ext(&object)?;
    if instance.address.is_empty() && instance.port.is_none() {
        return Err(Problem::new(Kind::MissingField, "a registration needs a port or an address").at(format!("{}/port", object.pointer)));
    }
    let namespace = text("namespace", limits::NAMESPACE_BYTES_MAX)?;
    let scope = object.get("scope").map_or(Ok(false), |at| at.word(&[("datacenter", false), ("agent", true)]))?;
    Ok(Said { namespace, scope: if scope { Scope::Agent } else { Scope::Datacenter }, instance })
}

/// One of the words for health.
pub fn read_health(at: &At<'_>) -> Result<Health, Problem> {
    at.word(HEALTHS)
}

fn read_address(object: &Object<'_>) -> Result<Text<'static>, Problem> {
    let Some(at) = object.get("address") else { return Ok(Text::default()) };
    let text = at.text()?;
    check_address(&at, text)?;
    Ok(text.to_owned().into())
}

/// An IP, a host name, or nothing.
fn check_address(at: &At<'_>, text: &str) -> Result<(), Problem> {
    const ALLOWED: &str = "an IP address or a host name of at most 255 bytes";
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let is_name = || text.len() <= limits::ADDRESS_BYTES_MAX && text.trim_end_matches('.').split('.').all(is_label);
    // A link-local address may name its interface.
    let is_ip = || text.split('%').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()) && text.len() <= limits::ADDRESS_BYTES_MAX;
    if text.is_empty() || is_ip() || is_name() {
        return Ok(());
    }
    Err(at.refuse(Kind::BadAddress, "that is no address").allowed(ALLOWED))
}

fn read_addresses(object: &Object<'_>) -> Result<Vec<(Text<'static>, Endpoint<'static>)>, Problem> {
    let Some(at) = object.get("addresses") else { return Ok(Vec::new()) };
    let named = at.any_object()?;
    at.check_count(named.len(), limits::ADDRESSES_MAX)?;
    let mut addresses = Vec::with_capacity(named.len());
    for (name, at) in named.members() {
        check_key(&at, name)?;
        let object = at.object(&["address", "port"])?;
        let address = object.need("address")?;
        let text = address.text()?;
        check_address(&address, text)?;
        let port = object.need("port")?.port()?;
        addresses.push((Text::from(name.to_owned()), Endpoint { address: text.to_owned().into(), port }));
    }
    addresses.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(addresses)
}

fn read_tags(object: &Object<'_>) -> Result<Vec<Text<'static>>, Problem> {
    let Some(at) = object.get("tags") else { return Ok(Vec::new()) };
    at.list(limits::TAGS_MAX)?.iter().map(|tag| tag.text_within(limits::TAG_BYTES_MAX).map(|tag| tag.to_owned().into())).collect()
}

fn read_metadata(object: &Object<'_>) -> Result<Vec<(Text<'static>, Text<'static>)>, Problem> {
    let Some(at) = object.get("metadata") else { return Ok(Vec::new()) };
    let pairs = at.any_object()?;
    at.check_count(pairs.len(), limits::METADATA_PAIRS_MAX)?;
    let mut metadata = Vec::with_capacity(pairs.len());
    for (key, value) in pairs.members() {
        check_key(&value, key)?;
        metadata.push((Text::from(key.to_owned()), value.text_within(limits::METADATA_VALUE_BYTES_MAX)?.to_owned().into()));
    }
    metadata.sort_by(|(a, _): &(Text<'_>, _), (b, _)| a.cmp(b));
    Ok(metadata)
}

fn check_key(at: &At<'_>, key: &str) -> Result<(), Problem> {
    if !key.is_empty() && key.len() <= limits::METADATA_KEY_BYTES_MAX && !key.chars().any(char::is_control) {
        return Ok(());
    }
    let allowed = format!("1 to {} bytes without control characters", limits::METADATA_KEY_BYTES_MAX);
    Err(at.refuse(Kind::BadName, "that key is not allowed").allowed(allowed))
}

/// In thousandths.
fn read_weight(object: &Object<'_>, name: &str) -> Result<Option<u32>, Problem> {
    let Some(at) = object.get(name) else { return Ok(None) };
    let weight = at.number()?;
    if !(0.0..=WEIGHT_MAX).contains(&weight) {
        return Err(at.refuse(Kind::BadWeight, format!("{weight} is out of range")).allowed("0-65535"));
    }
    // In range, so nothing is cut but what lies behind the thousandths.
    Ok(Some((weight * 1000.0).round() as u32))
}

fn read_lease(object: &Object<'_>) -> Result<Lease, Problem> {
    let remove_after = object.get("remove_after").map(|at| at.duration(0..=REMOVE_AFTER_MS_MAX)).transpose()?;
    match (object.get("ttl"), remove_after) {
        (Some(at), remove_after) => {
            let ttl_ms = at.duration(limits::TTL_MS_MIN..=limits::TTL_MS_MAX)?;
            let remove_after_ms = remove_after.unwrap_or_else(|| (ttl_ms * limits::REMOVE_AFTER_TTLS).max(limits::REMOVE_AFTER_MS_MIN));
            Ok(Lease::Ttl { ttl_ms, remove_after_ms })
        }
        (None, None) => Ok(Lease::Agent),
        (None, Some(_)) => Err(Problem::new(Kind::Invalid, "remove_after counts from the end of a ttl, and there is none")
            .at(format!("{}/remove_after", object.pointer))),
    }
}

fn read_ext(object: &Object<'_>) -> Result<Vec<(Text<'static>, Text<'static>)>, Problem> {
    const DIALECTS: &[&str] = &["consul", "nacos", "eureka", "etcd", "zookeeper"];
    let Some(at) = object.get("ext") else { return Ok(Vec::new()) };
    let mut ext = Vec::new();
    for (dialect, value) in at.object(DIALECTS)?.members() {
        let text = value.value.to_string();
        if text.len() > limits::EXT_BYTES_MAX {
            let detail = format!("it has {} bytes", text.len());
            return Err(value.refuse(Kind::TooLarge, detail).allowed(format!("at most {} bytes", limits::EXT_BYTES_MAX)));
        }
        ext.push((Text::from(dialect.to_owned()), Text::from(text)));
    }
    ext.sort();
    Ok(ext)
}

/// The registration that an instance came from: what a merge patch is applied to.
pub fn write(scope: &Scope<'_>, instance: &Instance<'_>) -> Value {
    let texts = |pairs: &[(Text<'_>, Text<'_>)]| -> Map<String, Value> {
        pairs.iter().map(|(key, value)| (key.to_string(), Value::from(value.as_str()))).collect()
    };
    let addresses: Map<String, Value> =
        instance.addresses.iter().map(|(name, at)| (name.to_string(), json!({"address": at.address.as_str(), "port": at.port}))).collect();
    // What a dialect keeps is JSON; what is not is kept as text rather than lost.
    let ext: Map<String, Value> = instance
        .ext
        .iter()
        .map(|(dialect, kept)| (dialect.to_string(), serde_json::from_str(kept).unwrap_or_else(|_| Value::from(kept.as_str()))))
        .collect();
    let mut body = json!({
        "address": instance.address.as_str(),
        "port": instance.port,
        "secure_port": instance.secure_port,
        "addresses": addresses,
        "tags": instance.tags.iter().map(Text::as_str).collect::<Vec<_>>(),
        "metadata": texts(&instance.metadata),
        "weight": f64::from(instance.weight) / 1000.0,
        "weight_warning": f64::from(instance.weight_warning) / 1000.0,
        "zone": instance.zone.as_ref().map(Text::as_str),
        "enabled": instance.enabled,
        "status": instance.status.as_str(),
        "checks": instance.checks.iter().map(write_check).collect::<Vec<_>>(),
        "scope": if *scope == Scope::Agent { "agent" } else { "datacenter" },
        "ext": ext,
    });
    if let Lease::Ttl { ttl_ms, remove_after_ms } = instance.lease {
        body["ttl"] = duration::text(ttl_ms).into();
        body["remove_after"] = duration::text(remove_after_ms).into();
    }
    body
}

/// What a merge did not touch of a check stays: its state, what it last said, since when.
pub fn keep_findings(instance: &mut Instance<'_>, before: &Instance<'_>) {
    for check in &mut instance.checks {
        if let Some(known) = before.checks.iter().find(|known| known.id == check.id && known.kind == check.kind) {
            check.state = known.state;
            check.output = known.output.clone().into_owned();
            check.since = known.since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting = Setting { now_ms: 1_000, allows_scripts: false };

    fn said(body: &Value) -> Result<Said, Problem> {
        read(&At::root(body), FIELDS, SETTING)
    }

    /// api.md's own example, with every field.
    fn full() -> Value {
        json!({
            "address": "10.1.2.3", "port": 8080, "secure_port": 8443, "addresses": {"wan": {"address": "203.0.113.9", "port": 18080}},
            "tags": ["grpc"], "metadata": {"version": "1.4.2", "env": "prod"}, "weight": 1.5, "weight_warning": 0.25, "zone": "a",
            "enabled": true, "status": "passing", "ttl": "15s", "remove_after": "2m30s",
            "checks": [
                {"id": "live", "name": "n", "notes": "o", "kind": "http", "url": "http://10.1.2.3:8080/health", "method": "GET",
                 "headers": {"x-a": "b"}, "body": "", "skip_tls_verify": false, "interval": "10s", "timeout": "2s",
                 "passing_after": 1, "warning_after": 1, "critical_after": 3, "status": "starting", "remove_after": "1m30s"},
                {"id": "t", "name": "", "notes": "", "kind": "ttl", "ttl": "30s", "interval": "10s", "timeout": "5s",
                 "passing_after": 1, "warning_after": 1, "critical_after": 3, "status": "passing"},
                {"id": "g", "name": "", "notes": "", "kind": "grpc", "address": "[::1]:50051", "service": "", "tls": true,
                 "interval": "10s", "timeout": "5s", "passing_after": 1, "warning_after": 1, "critical_after": 3, "status": "starting"}
            ],
            "scope": "agent", "ext": {"eureka": {"hostName": "web1.example"}}
        })
    }

    #[test]
    fn a_registration_is_written_back_as_it_was_read() {
        let read = said(&full()).unwrap();
        assert_eq!(write(&read.scope, &read.instance), full());
        assert_eq!(read.instance.weight, 1_500);
        assert_eq!(read.instance.lease, Lease::Ttl { ttl_ms: 15_000, remove_after_ms: 150_000 });
    }

    #[test]
    fn each_field_of_the_schema_is_read() {
        let fields = serde_json::to_value(<crate::schema::Registration as utoipa::PartialSchema>::schema()).unwrap();
        let mut known: Vec<&str> = fields["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut read = FIELDS.to_vec();
        known.sort_unstable();
        read.sort_unstable();
        assert_eq!(known, read);
    }

    #[test]
    fn a_refusal_names_place_kind_and_what_is_allowed() {
        let cases: &[(Value, &str, &str, &str)] = &[
            (json!({"port": 65_536}), "tidings:bad-port", "/port", "0-65535"),
            (json!({"port": "80"}), "tidings:bad-shape", "/port", "a whole number"),
            (json!({"port": 1.5}), "tidings:bad-shape", "/port", "a whole number"),
            (json!({"prot": 80}), "tidings:unknown-field", "/prot", &FIELDS.join(", ")),
            (json!({}), "tidings:missing-field", "/port", ""),
            (json!([]), "tidings:bad-shape", "", "an object"),
            (json!({"port": 1, "weight": -1}), "tidings:bad-weight", "/weight", "0-65535"),
            (json!({"port": 1, "ttl": "99ms"}), "tidings:bad-duration", "/ttl", "100ms to 1d"),
            (json!({"port": 1, "ttl": "soon"}), "tidings:bad-duration", "/ttl", "100ms to 1d"),
            (json!({"port": 1, "remove_after": "1s"}), "tidings:invalid", "/remove_after", ""),
            (json!({"port": 1, "tags": [1]}), "tidings:bad-shape", "/tags/0", "a text"),
            (json!({"port": 1, "tags": vec!["a"; 513]}), "tidings:too-many", "/tags", "at most 512"),
            (json!({"port": 1, "metadata": {"a/b": 1}}), "tidings:bad-shape", "/metadata/a~1b", "a text"),
            (json!({"port": 1, "address": "a b"}), "tidings:bad-address", "/address", "an IP address or a host name of at most 255 bytes"),
            (json!({"port": 1, "status": "fine"}), "tidings:bad-value", "/status", "passing, warning, critical, starting, unknown"),
            (json!({"port": 1, "checks": [{"kind": "tcp"}]}), "tidings:missing-field", "/checks/0/address", ""),
            (
                json!({"port": 1, "checks": [{"kind": "tcp", "address": "h:1", "url": "x"}]}),
                "tidings:bad-check",
                "/checks/0/url",
                "address",
            ),
            (json!({"port": 1, "checks": [{"kind": "script", "args": ["x"]}]}), "tidings:bad-check", "/checks/0/kind", ""),
            (json!({"port": 1, "ext": {"eureka": "x".repeat(17_000)}}), "tidings:too-large", "/ext/eureka", "at most 16384 bytes"),
        ];
        for (body, kind, pointer, allowed) in cases {
            let problem = said(body).unwrap_err();
            assert_eq!((problem.kind.as_str(), problem.pointer.as_deref()), (*kind, Some(*pointer)), "{body}");
            assert_eq!(problem.allowed.as_deref().unwrap_or_default(), *allowed, "{body}");
        }
        assert!(said(&json!({"prot": 80})).unwrap_err().detail.contains("did you mean \"port\"?"));
    }
}
