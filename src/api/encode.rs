//! A view's services and entries as the JSON of the native API.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::registration::kind_word;
use crate::model::duration;
use crate::model::instance::{Check, CheckKind, Health, Instance, Lease};
use crate::model::node::{Liveness, Override};
use crate::model::record::{Key, Scope};
use crate::model::summary::Summary;
use crate::model::text::Text;
use crate::schema;
use crate::schema::instance::Weight;
use crate::schema::{Pairs, Why};
use crate::view::{Counts, Entry, Service, Summarized};

/// What of an instance a reader asked for besides what everyone gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct With {
    pub why: bool,
    pub ext: bool,
}

/// RFC 3339 UTC in milliseconds.
pub fn instant(wall_ms: u64) -> String {
    // Beyond the year 9999 nothing is promised; the last instant that can be written stands for it.
    let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

pub fn to_bytes(value: &impl Serialize) -> Bytes {
    // Most answers are small; growing a few times costs less than guessing wrong.
    let mut buffer = Vec::with_capacity(512);
    serde_json::to_writer(&mut buffer, value).expect("an answer is texts, numbers and maps by text");
    buffer.into()
}

/// An entry whose bytes are decoded.
pub struct Decoded<'a> {
    pub entry: &'a Entry,
    pub key: Key<'a>,
    pub instance: Instance<'a>,
    /// How old this knowledge may be: another datacenter's that is not heard.
    pub age_ms: u64,
}

impl<'a> Decoded<'a> {
    /// Nothing, if the bytes do not decode; entries are made only of those that do.
    pub fn of(entry: &'a Entry) -> Option<Self> {
        let (key, instance) = entry.instance().ok()?;
        Some(Self { entry, key, instance, age_ms: 0 })
    }

    pub fn aged(self, age_ms: u64) -> Self {
        Self { age_ms, ..self }
    }

    /// The instance's own address, or its node's.
    pub fn address(&self) -> &str {
        if self.instance.address.is_empty() { &self.entry.node.address } else { &self.instance.address }
    }

    pub fn zone(&self) -> Option<&str> {
        self.instance.zone.as_ref().map(Text::as_str).or(self.entry.node.zone.as_deref())
    }

    pub fn show(&self, with: With) -> schema::Instance<'_> {
        let Self { entry, key, instance, age_ms } = self;
        schema::Instance {
            uid: entry.uid.to_string(),
            id: key.id.as_str().into(),
            service: key.name.as_str().into(),
            namespace: key.namespace.as_str().into(),
            scope: scope_word(&key.scope).into(),
            datacenter: entry.node.datacenter.as_str().into(),
            // Whole seconds: a person reads it, and programs compare it with minutes.
            age: if *age_ms == 0 { "0s".into() } else { duration::text((age_ms / 1_000).max(1) * 1_000).into() },
            node: entry.node.name.as_str().into(),
            node_id: entry.node.id.to_string(),
            zone: self.zone().map(Cow::Borrowed),
            address: self.address().into(),
            port: instance.port,
            secure_port: instance.secure_port,
            addresses: instance
                .addresses
                .iter()
                .map(|(name, at)| (name.as_str().into(), schema::Address { address: at.address.as_str().into(), port: at.port }))
                .collect(),
            tags: instance.tags.iter().map(|tag| tag.as_str().into()).collect(),
            metadata: pairs(&instance.metadata),
            weight: Weight(instance.weight),
            health: entry.health.as_str().into(),
            enabled: entry.is_enabled(),
            verified: entry.node.is_verified(),
            available: entry.is_available(),
            registered_at: instant(instance.registered_at.0),
            changed_at: instant(instance.changed_at.0),
            revision: entry.revision,
            source: source_word(instance).into(),
            why: with.why.then(|| self.why()),
            ext: with.ext.then(|| ext(instance)),
        }
    }

    /// All there is to know of it.
    pub fn detail(&self) -> schema::InstanceDetail<'_> {
        let instance = &self.instance;
        let (ttl, remove_after) = match instance.lease {
            Lease::Agent => (None, None),
            Lease::Ttl { ttl_ms, remove_after_ms } => (Some(duration::text(ttl_ms)), Some(duration::text(remove_after_ms))),
            Lease::Held { remove_after_ms } => (None, Some(duration::text(remove_after_ms))),
        };
        schema::InstanceDetail {
            instance: self.show(With { why: true, ext: true }),
            weight_warning: Weight(instance.weight_warning),
            ttl,
            remove_after,
            checks: instance.checks.iter().map(check).collect(),
            word: self.entry.word.as_deref().map(word),
        }
    }

    /// Everything that has a say in whether traffic goes there, the decisive word first.
    fn why(&self) -> Vec<Why<'_>> {
        let mut words: Vec<(u8, Why<'_>)> = Vec::new();
        let node = &self.entry.node;
        let agent =
            Why { by: "agent".into(), id: node.name.as_str().into(), state: node.liveness.as_str().into(), output: "".into(), since: None };
        words.push((if matches!(node.liveness, Liveness::Down | Liveness::Left) { 0 } else { agent_rank(node.liveness) }, agent));
        let node_word = node.word.as_ref().map(|word| (node.name.as_str(), word));
        for (id, word) in self.entry.word.as_deref().map(|word| ("", word)).into_iter().chain(node_word) {
            let (rank, state) = if word.enabled { (8, "enabled") } else { (1, "disabled") };
            let since = Some(instant(word.set_at));
            words.push((
                rank,
                Why { by: "override".into(), id: id.into(), state: state.into(), output: word.reason.as_str().into(), since },
            ));
        }
        let client = |state: &'static str| Why { by: "client".into(), id: "".into(), state: state.into(), output: "".into(), since: None };
        if !self.instance.enabled && self.entry.word.is_none() {
            words.push((2, client("disabled")));
        }
        if self.instance.status != Health::Passing {
            words.push((health_rank(self.instance.status), client(self.instance.status.as_str())));
        }
        if let Lease::Ttl { ttl_ms, .. } = self.instance.lease {
            let (state, output) = match self.instance.is_expired {
                true => (Health::Critical, format!("not renewed within {}", duration::text(ttl_ms))),
                false => (Health::Passing, String::new()),
            };
            let since = self.instance.is_expired.then(|| instant(self.instance.changed_at.0));
            let why = Why { by: "lease".into(), id: "".into(), state: state.as_str().into(), output: output.into(), since };
            words.push((health_rank(state), why));
        }
        for check in self.instance.checks.iter().chain(&node.checks) {
            let (id, output) = (check.id.as_str().into(), check.output.as_str().into());
            let why = Why { by: "check".into(), id, state: check.state.as_str().into(), output, since: Some(instant(check.since.0)) };
            words.push((health_rank(check.state), why));
        }
        words.sort_by_key(|(rank, _)| *rank);
        words.into_iter().map(|(_, why)| why).collect()
    }
}

/// Ranks of words, from deciding to harmless: 0 agent gone, 1 and 2 disabled, 3 to 6 unhealthy, 7 and above fine.
fn health_rank(health: Health) -> u8 {
    match health {
        Health::Critical => 3,
        Health::Unknown => 4,
        Health::Starting => 5,
        Health::Warning => 6,
        Health::Passing => 9,
    }
}

fn agent_rank(liveness: Liveness) -> u8 {
    if liveness == Liveness::Alive { 8 } else { 7 }
}

pub fn scope_word(scope: &Scope<'_>) -> &'static str {
    match scope {
        Scope::Datacenter => "datacenter",
        Scope::Agent => "agent",
        Scope::Node(_) => "node",
    }
}

fn source_word(instance: &Instance<'_>) -> &'static str {
    use crate::model::instance::Source;
    match instance.source {
        Source::Native => "native",
        Source::Consul => "consul",
        Source::Nacos => "nacos",
        Source::Eureka => "eureka",
        Source::Etcd => "etcd",
        Source::Zookeeper => "zookeeper",
    }
}

fn pairs<'a>(pairs: &'a [(Text<'_>, Text<'_>)]) -> Pairs<'a, Cow<'a, str>> {
    pairs.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

fn ext(instance: &Instance<'_>) -> Map<String, Value> {
    let kept = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    instance.ext.iter().map(|(dialect, text)| (dialect.to_string(), kept(text))).collect()
}

fn check<'a>(check: &'a Check<'_>) -> schema::Check<'a> {
    let mut shown = schema::Check {
        id: check.id.as_str().into(),
        name: check.name.as_str().into(),
        notes: check.notes.as_str().into(),
        kind: kind_word(&check.kind).into(),
        interval: Some(duration::text(check.interval_ms)),
        timeout: Some(duration::text(check.timeout_ms)),
        passing_after: Some(check.passing_after),
        warning_after: Some(check.warning_after),
        critical_after: Some(check.critical_after),
        remove_after: check.remove_after_ms.map(duration::text),
        state: Some(check.state.as_str().into()),
        output: Some(check.output.as_str().into()),
        since: Some(instant(check.since.0)),
        ..schema::Check::default()
    };
    match &check.kind {
        CheckKind::Ttl { ttl_ms } => shown.ttl = Some(duration::text(*ttl_ms)),
        CheckKind::Http { url, method, headers, body, skip_tls_verify } => {
            shown.url = Some(url.as_str().into());
            shown.method = Some(method.as_str().into());
            // Values of headers are often secrets; names are enough to see what is sent.
            shown.headers = Some(headers.iter().map(|(name, _)| (name.as_str().into(), "…".into())).collect());
            shown.body = Some(body.as_str().into());
            shown.skip_tls_verify = Some(*skip_tls_verify);
        }
        CheckKind::Tcp { address } => shown.address = Some(address.as_str().into()),
        CheckKind::Grpc { address, service, tls } => {
            shown.address = Some(address.as_str().into());
            shown.service = Some(service.as_str().into());
            shown.tls = Some(*tls);
        }
        CheckKind::Script { args } => shown.args = Some(args.iter().map(|arg| arg.as_str().into()).collect()),
        CheckKind::Alias { service } => shown.service = Some(service.as_str().into()),
    }
    shown
}

pub fn word(word: &Override<'_>) -> schema::Override {
    schema::Override {
        enabled: word.enabled,
        reason: word.reason.as_str().to_owned(),
        expires: None,
        expires_at: word.expires_at.map(instant),
        set_at: Some(instant(word.set_at)),
    }
}

pub fn summary<'v>(datacenter: &'v str, service: &'v Service) -> schema::ServiceSummary<'v> {
    let Counts { by_health: [passing, warning, starting, unknown, critical], available, disabled, down, .. } = service.counts;
    schema::ServiceSummary {
        service: service.key.service.as_str().into(),
        namespace: service.key.namespace.as_str().into(),
        datacenter: datacenter.into(),
        revision: service.revision,
        instances: u32::try_from(service.entries.len()).unwrap_or(u32::MAX),
        available,
        passing,
        warning,
        critical,
        starting,
        unknown,
        disabled,
        agent_down: down,
        instances_elsewhere: false,
    }
}

/// A service of another datacenter whose instances are not here.
pub fn summarized<'v>(datacenter: &'v str, one: &'v Summarized) -> schema::ServiceSummary<'v> {
    let Summary { instances, available, by_health: [passing, warning, starting, unknown, critical], disabled, down, .. } = one.summary;
    schema::ServiceSummary {
        service: one.key.service.as_str().into(),
        namespace: one.key.namespace.as_str().into(),
        datacenter: datacenter.into(),
        revision: one.revision,
        instances,
        available,
        passing,
        warning,
        critical,
        starting,
        unknown,
        disabled,
        agent_down: down,
        instances_elsewhere: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339_in_milliseconds() {
        assert_eq!(instant(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(instant(1_795_341_600_007), "2026-11-22T10:00:00.007Z");
        assert!(instant(u64::MAX).starts_with("9999-"));
    }

    #[test]
    fn the_counts_stand_in_the_order_of_health() {
        assert_eq!(Health::ALL.map(Health::as_str), ["passing", "warning", "starting", "unknown", "critical"]);
    }
}
