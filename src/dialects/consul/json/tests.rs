//! The texts are what Consul 1.8.7 answers for equal registrations, with indexes made equal.

use std::sync::Arc;

use serde::Serialize;

use super::service::{One, ServiceEntryJson};
use super::*;
use crate::dialects::consul::filter::Filter;
use crate::dialects::consul::filter::shape::Shape;
use crate::model::instance::{Check, CheckKind, Endpoint, Health, Instance, Lease, Source};
use crate::model::names::NodeId;
use crate::model::node::{Liveness, Override};
use crate::model::record::{Content, Key, Kind, Scope};
use crate::view::{Entry, Node};

const NODE: &str = r#"{"ID":"f45c8809-7e08-4e00-dcad-9cae51ed60ef","Node":"n1","Address":"127.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"127.0.0.1","lan_ipv4":"127.0.0.1","wan":"127.0.0.1","wan_ipv4":"127.0.0.1"},"Meta":{"consul-network-segment":"","os":"linux"},"CreateIndex":7,"ModifyIndex":7}"#;
const SERVICE: &str = r#"{"ID":"web-1","Service":"web","Tags":["a","B"],"Address":"10.0.0.1","TaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.1","Port":80},"wan":{"Address":"1.2.3.4","Port":81},"wan_ipv4":{"Address":"10.0.0.1","Port":80}},"Meta":{"v":"1"},"Port":80,"Weights":{"Passing":5,"Warning":2},"EnableTagOverride":false,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{},"CreateIndex":7,"ModifyIndex":7}"#;
const AGENT_SERVICE: &str = r#"{"ID":"web-1","Service":"web","Tags":["a","B"],"Meta":{"v":"1"},"Port":80,"Address":"10.0.0.1","TaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.1","Port":80},"wan":{"Address":"1.2.3.4","Port":81},"wan_ipv4":{"Address":"10.0.0.1","Port":80}},"Weights":{"Passing":5,"Warning":2},"EnableTagOverride":false}"#;
const CATALOG_SERVICE: &str = r#"{"ID":"f45c8809-7e08-4e00-dcad-9cae51ed60ef","Node":"n1","Address":"127.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"127.0.0.1","lan_ipv4":"127.0.0.1","wan":"127.0.0.1","wan_ipv4":"127.0.0.1"},"NodeMeta":{"consul-network-segment":"","os":"linux"},"ServiceKind":"","ServiceID":"web-1","ServiceName":"web","ServiceTags":["a","B"],"ServiceAddress":"10.0.0.1","ServiceTaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.1","Port":80},"wan":{"Address":"1.2.3.4","Port":81},"wan_ipv4":{"Address":"10.0.0.1","Port":80}},"ServiceWeights":{"Passing":5,"Warning":2},"ServiceMeta":{"v":"1"},"ServicePort":80,"ServiceEnableTagOverride":false,"ServiceProxy":{"MeshGateway":{},"Expose":{}},"ServiceConnect":{},"CreateIndex":7,"ModifyIndex":7}"#;
const CHECKS: &str = r#"[{"Node":"n1","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Definition":{},"CreateIndex":7,"ModifyIndex":7},{"Node":"n1","CheckID":"service:web-1:1","Name":"Service 'web' check","Status":"passing","Notes":"","Output":"","ServiceID":"web-1","ServiceName":"web","ServiceTags":["a","B"],"Type":"ttl","Definition":{},"CreateIndex":7,"ModifyIndex":7},{"Node":"n1","CheckID":"service:web-1:2","Name":"tcp","Status":"critical","Notes":"","Output":"","ServiceID":"web-1","ServiceName":"web","ServiceTags":["a","B"],"Type":"tcp","Definition":{},"CreateIndex":7,"ModifyIndex":7}]"#;

fn node() -> Node {
    Node {
        id: NodeId(0xf45c_8809_7e08_4e00_dcad_9cae_51ed_60ef),
        name: "n1".into(),
        address: "127.0.0.1".into(),
        zone: None,
        datacenter: "dc1".into(),
        metadata: vec![("os".into(), "linux".into())],
        is_external: false,
        liveness: Liveness::Alive,
        word: None,
        checks: Vec::new(),
    }
}

fn check(id: &'static str, name: &'static str, kind: CheckKind<'static>, state: Health) -> Check<'static> {
    Check {
        id: id.into(),
        name: name.into(),
        notes: "".into(),
        kind,
        interval_ms: 10_000,
        timeout_ms: 2_000,
        passing_after: 1,
        warning_after: 1,
        critical_after: 1,
        state,
        output: "".into(),
        since: WallMs(9_999),
        remove_after_ms: None,
    }
}

fn web() -> Instance<'static> {
    Instance {
        address: "10.0.0.1".into(),
        port: Some(80),
        addresses: vec![("wan".into(), Endpoint { address: "1.2.3.4".into(), port: 81 })],
        tags: vec!["a".into(), "B".into()],
        metadata: vec![("v".into(), "1".into())],
        weight: 5_000,
        weight_warning: 2_000,
        enabled: true,
        checks: vec![
            check("service:web-1:2", "tcp", CheckKind::Tcp { address: "x:1".into() }, Health::Critical),
            check("service:web-1:1", "", CheckKind::Ttl { ttl_ms: 30_000 }, Health::Passing),
        ],
        source: Source::Consul,
        registered_at: WallMs(9_999),
        ..Instance::default()
    }
}

fn entry_on(node: Node, scope: Scope<'_>, instance: &Instance<'_>) -> Entry {
    let key = Key { kind: Kind::INSTANCE, scope, namespace: "default".into(), name: "web".into(), id: "web-1".into() };
    let mut entry = Entry::new(key.uid(node.id), Content::encode(&key, instance), Arc::new(node), 1, None).unwrap();
    entry.revision = 7;
    entry
}

fn entry(instance: &Instance<'_>) -> Entry {
    entry_on(node(), Scope::Agent, instance)
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// CheckID and status of all checks of an entry.
fn states(entry: &Entry) -> Vec<(String, Status)> {
    let one = One::of(entry).unwrap();
    one.service_entry().checks.iter().map(|check| (check.check_id.to_string(), check.status)).collect()
}

fn named(states: &[(&str, Status)]) -> Vec<(String, Status)> {
    states.iter().map(|(id, status)| ((*id).to_owned(), *status)).collect()
}

use check::Status::{self, Critical, Passing, Warning};

#[test]
fn an_instance_is_written_as_consul_writes_it() {
    let entry = entry(&web());
    let one = One::of(&entry).unwrap();
    assert_eq!(text(&one.service_entry()), format!(r#"{{"Node":{NODE},"Service":{SERVICE},"Checks":{CHECKS}}}"#));
    assert_eq!(text(&one.agent_service()), AGENT_SERVICE);
    assert_eq!(text(&one.catalog_service()), CATALOG_SERVICE);
}

#[test]
fn what_only_consul_knows_of_is_merged_back() {
    let kept = r#"{"Kind":"typical","EnableTagOverride":true,"Connect":{"Native":true},"Other":[1]}"#;
    let entry = entry(&Instance { ext: vec![("consul".into(), kept.into())], ..web() });
    let one = One::of(&entry).unwrap();
    let shown = text(&one.node_service());
    assert!(shown.starts_with(r#"{"Kind":"typical","ID":"web-1""#) && one.is_connect_native(), "{shown}");
    assert!(shown.contains(r#""EnableTagOverride":true,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{"Native":true},"#), "{shown}");
    for broken in ["", "[]", "{\"Connect\":7}", "null"] {
        let entry = self::entry(&Instance { ext: vec![("consul".into(), broken.into())], ..web() });
        assert_eq!(text(&One::of(&entry).unwrap().node_service()), SERVICE, "{broken}");
    }
}

#[test]
fn metadata_that_only_tags_say_is_not_shown_as_registered() {
    let metadata = vec![("region".into(), "eu".into()), ("v".into(), "1".into())];
    let entry = entry(&Instance { metadata, ext: vec![("consul".into(), r#"{"Decoded":["region"]}"#.into())], ..web() });
    assert_eq!(text(&One::of(&entry).unwrap().node_service()), SERVICE);
}

#[test]
fn nothing_is_null_in_a_bare_instance_of_another_dialect() {
    let entry = entry(&Instance { enabled: true, weight: 1, ..Instance::default() });
    let shown = text(&One::of(&entry).unwrap().node_service());
    assert_eq!(
        shown,
        r#"{"ID":"web-1","Service":"web","Tags":[],"Address":"","Meta":{},"Port":0,"Weights":{"Passing":1,"Warning":0},"EnableTagOverride":false,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{},"CreateIndex":1,"ModifyIndex":7}"#
    );
}

#[test]
fn an_external_node_has_no_serf_and_no_other_addresses() {
    let node = Node { is_external: true, checks: vec![check("c1", "c1", CheckKind::Ttl { ttl_ms: 1 }, Health::Warning)], ..node() };
    let entry = entry_on(node, Scope::Node("n1".into()), &Instance { checks: Vec::new(), ..web() });
    let shown = text(&One::of(&entry).unwrap().service_entry());
    assert!(shown.contains(r#""TaggedAddresses":{},"Meta":{"os":"linux"}"#), "{shown}");
    assert!(shown.contains(r#""TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":81}}"#), "{shown}");
    assert_eq!(states(&entry), named(&[("c1", Warning)]));
}

#[test]
fn whatever_decides_on_health_stands_as_a_check() {
    let native = |change: fn(&mut Instance<'static>)| {
        let mut instance = Instance { enabled: true, ..Instance::default() };
        change(&mut instance);
        entry(&instance)
    };
    let serf = ("serfHealth", Passing);
    assert_eq!(states(&native(|_| {})), named(&[serf]));
    assert_eq!(states(&native(|it| it.status = Health::Starting)), named(&[serf, ("service:web-1", Critical)]));
    let lease = Lease::Ttl { ttl_ms: 1_000, remove_after_ms: 60_000 };
    let leased = Instance { enabled: true, lease, ..Instance::default() };
    assert_eq!(states(&entry(&leased)), named(&[serf, ("service:web-1", Passing)]));
    assert_eq!(states(&entry(&Instance { is_expired: true, ..leased })), named(&[serf, ("service:web-1", Critical)]));
    assert_eq!(states(&native(|it| it.enabled = false)), named(&[serf, ("_service_maintenance:web-1", Critical)]));
    let checked = native(|it| it.checks = vec![check("live", "", CheckKind::Tcp { address: "x:1".into() }, Health::Warning)]);
    assert_eq!(states(&checked), named(&[serf, ("service:web-1:live", Warning)]));
    let word = |enabled| Override { enabled, reason: "why".into(), expires_at: None, set_at: 3 };
    let mut overridden = native(|it| it.enabled = false);
    overridden.word = Some(Arc::new(word(true)));
    assert_eq!(states(&overridden), named(&[serf]), "an operator's word wins");
    overridden.word = Some(Arc::new(word(false)));
    assert_eq!(states(&overridden), named(&[serf, ("_service_maintenance:web-1", Critical)]));
    let drained = entry_on(Node { word: Some(word(false)), ..node() }, Scope::Agent, &Instance { enabled: true, ..Instance::default() });
    assert_eq!(states(&drained), named(&[("_node_maintenance", Critical), serf]));
}

#[test]
fn serf_health_is_the_nodes_liveness() {
    let instance = Instance { enabled: true, ..Instance::default() };
    let serf = |liveness, standing| {
        let mut entry = entry_on(Node { liveness, ..node() }, Scope::Agent, &instance);
        entry.standing = standing;
        states(&entry)[0].1
    };
    use crate::view::Standing::{Available, Hidden, Unverified};
    assert_eq!(serf(Liveness::Alive, Available), Passing);
    assert_eq!(serf(Liveness::Suspect, Available), Passing);
    assert_eq!(serf(Liveness::Unverified, Unverified), Passing, "nothing better is left");
    assert_eq!(serf(Liveness::Unverified, Hidden), Critical);
    assert_eq!(serf(Liveness::Down, Hidden), Critical);
}

#[test]
fn indexes_are_never_zero_and_the_first_never_the_later() {
    assert_eq!(text(&Indexes::of(WallMs(0), 0)), r#"{"CreateIndex":1,"ModifyIndex":1}"#);
    assert_eq!(text(&Indexes::of(WallMs(2), 9_000)), r#"{"CreateIndex":2048,"ModifyIndex":9000}"#);
    assert_eq!(text(&Indexes::of(WallMs(u64::MAX), 9_000)), r#"{"CreateIndex":9000,"ModifyIndex":9000}"#);
}

/// Every selector of a shape, as a filter that is valid for its type.
fn selectors(prefix: &str, shape: &Shape) -> Vec<(String, String)> {
    let inside =
        |name: &str, shape: &Shape| selectors(&if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }, shape);
    match shape {
        Shape::Struct(fields) => fields.iter().flat_map(|(name, shape)| inside(name, shape)).collect(),
        Shape::List(item @ Shape::Struct(_)) => selectors(prefix, item),
        Shape::Map(value) => [vec![(prefix.to_owned(), "is empty".to_owned())], inside("wan", value)].concat(),
        Shape::List(_) => vec![(prefix.to_owned(), "is empty".to_owned())],
        Shape::Number => vec![(prefix.to_owned(), "!= 0".to_owned())],
        Shape::Flag => vec![(prefix.to_owned(), "== true".to_owned())],
        Shape::Text => vec![(prefix.to_owned(), "== x".to_owned())],
    }
}

#[test]
fn filters_know_the_fields_that_are_shown() {
    // Not shown where they are empty: kinds, and most of proxies.
    let is_optional = |field: &str| field.contains("Kind") || field.contains("Proxy") || field.contains("Native") || field.contains(".wan");
    let entry = entry(&web());
    let one = One::of(&entry).unwrap();
    let shown: [(Shape, serde_json::Value); 2] = [
        (shape::SERVICE_ENTRY, serde_json::to_value(one.service_entry()).unwrap()),
        (shape::CATALOG_SERVICE, serde_json::to_value(one.catalog_service()).unwrap()),
    ];
    for (shape, value) in shown {
        let selectors = selectors("", &shape);
        assert!(selectors.len() > 20);
        for (selector, test) in selectors {
            Filter::read(&format!("{selector} {test}"), &shape).unwrap_or_else(|refused| panic!("{selector}: {refused}"));
            let path = format!("/{}", selector.replace("Checks", "Checks/0").replace('.', "/"));
            assert!(is_optional(&selector) || value.pointer(&path).is_some(), "{path} is not shown");
        }
    }
}

#[test]
fn an_entry_passes_when_all_its_checks_do() {
    let entry = entry(&web());
    let one = One::of(&entry).unwrap();
    let is_passing = |entry: ServiceEntryJson<'_>| entry.is_passing();
    assert!(!is_passing(one.service_entry()));
    let fine = self::entry(&Instance { checks: Vec::new(), ..web() });
    assert!(is_passing(One::of(&fine).unwrap().service_entry()));
}
