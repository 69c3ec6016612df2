//! The JSON of one check as a [`Check`], and back.

use serde_json::{Value, json};

use super::super::json::{At, Object};
use super::{HEALTHS, Setting, check_address};
use crate::model::duration;
use crate::model::instance::{Check, CheckKind, Health};
use crate::model::limits;
use crate::model::text::Text;
use crate::model::time::WallMs;
use crate::schema::{Kind, Problem};

const CHECK_FIELDS: &[&str] = &[
    "id",
    "name",
    "notes",
    "kind",
    "ttl",
    "url",
    "method",
    "headers",
    "body",
    "skip_tls_verify",
    "address",
    "service",
    "tls",
    "args",
    "interval",
    "timeout",
    "passing_after",
    "warning_after",
    "critical_after",
    "remove_after",
    "status",
];

const INTERVAL_MS_DEFAULT: u64 = 10_000;
const INTERVAL_MS_MAX: u64 = 86_400_000;
/// What is removed sooner would go with one lost probe.
const REMOVE_AFTER_MS_MIN: u64 = 1_000;
const TIMEOUT_MS_DEFAULT: u64 = 5_000;
const TIMEOUT_MS_MIN: u64 = 10;
const CHECK_TEXT_BYTES_MAX: usize = 1024;
const URL_BYTES_MAX: usize = 2_048;
const HEADERS_MAX: usize = 32;
const ARGS_MAX: usize = 64;
/// Results in a row before a check flips.
const AFTER_MAX: i64 = 100;

/// Those of a registration.
pub(super) fn read_checks(object: &Object<'_>, setting: Setting) -> Result<Vec<Check<'static>>, Problem> {
    let Some(at) = object.get("checks") else { return Ok(Vec::new()) };
    let mut checks: Vec<Check<'static>> = Vec::new();
    for at in at.list(limits::CHECKS_MAX)? {
        let mut check = read_check(&at, setting)?;
        if check.id.is_empty() {
            check.id = free_id(kind_word(&check.kind), &checks).into();
        } else if checks.iter().any(|other| other.id == check.id) {
            return Err(at.refuse(Kind::BadCheck, format!("another check has the id {:?}", &*check.id)));
        }
        checks.push(check);
    }
    Ok(checks)
}

fn free_id(kind: &str, checks: &[Check<'_>]) -> String {
    let numbered = (2..).map(|number| format!("{kind}-{number}"));
    let is_free = |id: &String| checks.iter().all(|check| *check.id != **id);
    std::iter::once(kind.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

fn read_check(at: &At<'_>, setting: Setting) -> Result<Check<'static>, Problem> {
    let object = at.object(CHECK_FIELDS)?;
    let text =
        |name: &str| object.get(name).map_or(Ok(""), |at| at.text_within(CHECK_TEXT_BYTES_MAX)).map(|text| Text::from(text.to_owned()));
    let after = |name: &str, default: u16| {
        let Some(at) = object.get(name) else { return Ok(default) };
        at.integer(Kind::BadCheck, 1..=AFTER_MAX).map(|count| u16::try_from(count).expect("the range is small"))
    };
    let kind = read_check_kind(&object, setting)?;
    let interval_ms =
        object.get("interval").map_or(Ok(INTERVAL_MS_DEFAULT), |at| at.duration(limits::CHECK_INTERVAL_MS_MIN..=INTERVAL_MS_MAX))?;
    let remove_after_ms = object.get("remove_after").map(|at| at.duration(REMOVE_AFTER_MS_MIN..=INTERVAL_MS_MAX)).transpose()?;
    let timeout_ms = object.get("timeout").map(|at| at.duration(TIMEOUT_MS_MIN..=INTERVAL_MS_MAX)).transpose()?;
    // A report is a sign of life, and so is the registration; what the agent checks itself is not known yet.
    let first = if matches!(kind, CheckKind::Ttl { .. }) { Health::Passing } else { Health::Starting };
    Ok(Check {
        id: text("id")?,
        name: text("name")?,
        notes: text("notes")?,
        kind,
        interval_ms,
        timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT.min(interval_ms)),
        passing_after: after("passing_after", 1)?,
        warning_after: after("warning_after", 1)?,
        critical_after: after("critical_after", 3)?,
        state: object.get("status").map_or(Ok(first), |at| at.word(HEALTHS))?,
        output: Text::default(),
        since: WallMs(setting.now_ms),
        remove_after_ms,
    })
}

/// The fields of one kind of check; those of another beside it are a mistake.
fn read_check_kind(object: &Object<'_>, setting: Setting) -> Result<CheckKind<'static>, Problem> {
    const KINDS: &[(&str, &[&str])] = &[
        ("ttl", &["ttl"]),
        ("http", &["url", "method", "headers", "body", "skip_tls_verify"]),
        ("tcp", &["address"]),
        ("grpc", &["address", "service", "tls"]),
        ("script", &["args"]),
        ("alias", &["service"]),
    ];
    let words: Vec<(&str, &[&str])> = KINDS.to_vec();
    let at = object.need("kind")?;
    let (kind, own) = (at.text()?, at.word(&words)?);
    for (_, others) in KINDS {
        for field in others.iter().filter(|field| !own.contains(field)) {
            if let Some(at) = object.get(field) {
                return Err(at.refuse(Kind::BadCheck, format!("a check of kind {kind} has no {field}")).allowed(own.join(", ")));
            }
        }
    }
    let text = |name: &str, bytes_max: usize| object.need(name)?.text_within(bytes_max).map(|text| Text::from(text.to_owned()));
    let optional = |name: &str, bytes_max: usize| object.get(name).map_or(Ok(Text::default()), |_| text(name, bytes_max));
    let flag = |name: &str| object.get(name).map_or(Ok(false), |at| at.boolean());
    Ok(match kind {
        "ttl" => CheckKind::Ttl { ttl_ms: object.need("ttl")?.duration(limits::TTL_MS_MIN..=limits::TTL_MS_MAX)? },
        "http" => CheckKind::Http {
            url: read_url(object)?,
            method: read_method(object)?,
            headers: read_headers(object)?,
            body: optional("body", limits::CHECK_OUTPUT_BYTES_MAX)?,
            skip_tls_verify: flag("skip_tls_verify")?,
        },
        "tcp" => CheckKind::Tcp { address: read_target(object)? },
        "grpc" => CheckKind::Grpc { address: read_target(object)?, service: optional("service", CHECK_TEXT_BYTES_MAX)?, tls: flag("tls")? },
        "script" if !setting.allows_scripts => {
            return Err(at.refuse(Kind::BadCheck, "this agent runs no scripts; its setting checks.scripts allows them"));
        }
        "script" => CheckKind::Script { args: read_args(object)? },
        _ => CheckKind::Alias { service: text("service", limits::SERVICE_BYTES_MAX)? },
    })
}

fn read_url(object: &Object<'_>) -> Result<Text<'static>, Problem> {
    let at = object.need("url")?;
    let url = at.text_within(URL_BYTES_MAX)?;
    let is_http = ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if is_http && url.parse::<axum::http::Uri>().is_ok() {
        return Ok(url.to_owned().into());
    }
    Err(at.refuse(Kind::BadCheck, "that is no URL a check can ask").allowed("http://… or https://…"))
}

fn read_method(object: &Object<'_>) -> Result<Text<'static>, Problem> {
    let Some(at) = object.get("method") else { return Ok("GET".into()) };
    let method = at.text_within(16)?;
    if !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(method.to_owned().into());
    }
    Err(at.refuse(Kind::BadCheck, "that is no HTTP method").allowed("GET, HEAD, POST, …"))
}

fn read_headers(object: &Object<'_>) -> Result<Vec<(Text<'static>, Text<'static>)>, Problem> {
    let Some(at) = object.get("headers") else { return Ok(Vec::new()) };
    let headers = at.any_object()?;
    at.check_count(headers.len(), HEADERS_MAX)?;
    let mut read = Vec::with_capacity(headers.len());
    for (name, at) in headers.members() {
        let value = at.text_within(CHECK_TEXT_BYTES_MAX)?;
        if axum::http::HeaderName::try_from(name).is_err() || axum::http::HeaderValue::try_from(value).is_err() {
            return Err(at.refuse(Kind::BadCheck, "that is no header"));
        }
        read.push((Text::from(name.to_owned()), Text::from(value.to_owned())));
    }
    Ok(read)
}

/// `host:port`.
fn read_target(object: &Object<'_>) -> Result<Text<'static>, Problem> {
    let at = object.need("address")?;
    let text = at.text_within(limits::ADDRESS_BYTES_MAX + 6)?;
    let is_target = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        port.parse::<u16>().is_ok_and(|port| port > 0) && !host.is_empty() && check_address(&at, host).is_ok()
    });
    if is_target { Ok(text.to_owned().into()) } else { Err(at.refuse(Kind::BadCheck, "that is no host:port").allowed("host:port")) }
}

fn read_args(object: &Object<'_>) -> Result<Vec<Text<'static>>, Problem> {
    let at = object.need("args")?;
    let args = at.list(ARGS_MAX)?;
    if args.is_empty() {
        return Err(at.refuse(Kind::BadCheck, "the program's name is missing"));
    }
    args.iter().map(|arg| arg.text_within(CHECK_TEXT_BYTES_MAX).map(|arg| Text::from(arg.to_owned()))).collect()
}

pub fn kind_word(kind: &CheckKind<'_>) -> &'static str {
    match kind {
        CheckKind::Ttl { .. } => "ttl",
        CheckKind::Http { .. } => "http",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Grpc { .. } => "grpc",
        CheckKind::Script { .. } => "script",
        CheckKind::Alias { .. } => "alias",
    }
}

pub(super) fn write_check(check: &Check<'_>) -> Value {
    let mut body = json!({
        "id": check.id.as_str(),
        "name": check.name.as_str(),
        "notes": check.notes.as_str(),
        "kind": kind_word(&check.kind),
        "interval": duration::text(check.interval_ms),
        "timeout": duration::text(check.timeout_ms),
        "passing_after": check.passing_after,
        "warning_after": check.warning_after,
        "critical_after": check.critical_after,
        "status": check.state.as_str(),
    });
    if let Some(remove_after_ms) = check.remove_after_ms {
        body["remove_after"] = duration::text(remove_after_ms).into();
    }
    match &check.kind {
        CheckKind::Ttl { ttl_ms } => body["ttl"] = duration::text(*ttl_ms).into(),
        CheckKind::Http { url, method, headers, body: sent, skip_tls_verify } => {
            body["url"] = url.as_str().into();
            body["method"] = method.as_str().into();
            body["headers"] = headers.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect();
            body["body"] = sent.as_str().into();
            body["skip_tls_verify"] = (*skip_tls_verify).into();
        }
        CheckKind::Tcp { address } => body["address"] = address.as_str().into(),
        CheckKind::Grpc { address, service, tls } => {
            body["address"] = address.as_str().into();
            body["service"] = service.as_str().into();
            body["tls"] = (*tls).into();
        }
        CheckKind::Script { args } => body["args"] = args.iter().map(Text::as_str).collect(),
        CheckKind::Alias { service } => body["service"] = service.as_str().into(),
    }
    body
}
