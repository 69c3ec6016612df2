//! api.md §2: what a client of this dialect sent, a client of it reads back, and every other reader reads it without failing; and what
//! was registered natively is read by Consul's clients without failing.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::*;

const CASES: u32 = 48;

/// What may stand in a name, a tag or a value.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-zA-Z0-9_-]{1,24}", 2 => "[^\\p{C}]{1,24}", 1 => "[a-z] [%/?#&+:@,;=\"'<>{}\\\\^`|~.é日-]{1,8}"]
}

/// No path has a part that is a dot or two.
fn names() -> impl Strategy<Value = String> {
    words().prop_filter("a name that is no step in a path", |name| !name.split('/').any(|part| matches!(part, "" | "." | "..")))
}

fn tags() -> impl Strategy<Value = Vec<String>> {
    let of_go_micro = Just("v-789c33d433d133020002dc00f4".to_owned());
    vec(prop_oneof![6 => words(), 1 => of_go_micro, 1 => "e-[0-9a-f]{4000}"], 0..5)
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Za-z0-9_-]{1,40}", "[^\\p{C}]{0,60}", 0..5)
}

fn addresses() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("10.1.2.3".to_owned()), Just("fd00::9".to_owned()), Just("web.example.com".to_owned())]
}

fn statuses() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("passing"), Just("warning"), Just("critical")]
}

/// The body of `agent/service/register`.
fn registration() -> impl Strategy<Value = Value> {
    let check = (proptest::option::of("[a-z]{3,8}"), words(), "[^\\p{C}]{0,40}", statuses())
        .prop_map(|(id, name, notes, status)| json!({"CheckID": id, "Name": name, "Notes": notes, "Status": status, "TTL": "1h"}));
    let tagged = btree_map("[a-z]{3,6}", (Just("10.9.9.9"), any::<u16>()), 0..3).prop_map(|all| {
        all.into_iter().map(|(name, (address, port))| (name, json!({"Address": address, "Port": port}))).collect::<BTreeMap<_, _>>()
    });
    let what = (names(), names(), tags(), pairs(), addresses(), any::<u16>());
    let more = (tagged, 1..1_000_u32, 0..1_000_u32, any::<bool>(), any::<bool>(), vec(check, 0..3));
    (what, more).prop_map(|((name, id, tags, meta, address, port), (tagged, passing, warning, overrides, is_native, checks))| {
        json!({
            "ID": id, "Name": name, "Tags": tags, "Meta": meta, "Address": address, "Port": port, "TaggedAddresses": tagged,
            "Weights": {"Passing": passing, "Warning": warning}, "EnableTagOverride": overrides,
            "Connect": if is_native { json!({"Native": true}) } else { Value::Null }, "Checks": checks,
        })
    })
}

/// The body of a native registration, with the name and id that it is for.
fn native() -> impl Strategy<Value = (String, String, Value)> {
    let check = ("[a-z]{3,8}", statuses()).prop_map(|(id, status)| json!({"id": id, "kind": "ttl", "ttl": "1h", "status": status}));
    let checks = btree_map("[a-z]{3,8}", check, 0..3)
        .prop_map(|all| all.into_iter().map(|(id, mut check)| (check["id"] = json!(id), check).1).collect::<Vec<_>>());
    let health = prop_oneof![statuses(), Just("starting"), Just("unknown")];
    let scope = prop_oneof![Just("datacenter"), Just("agent")];
    let what = (names(), names(), tags(), pairs(), addresses(), any::<u16>());
    let more = (checks, health, scope, any::<bool>(), proptest::option::of(Just("30s")), 0..60_000_u32);
    (what, more).prop_map(|((name, id, tags, metadata, address, port), (checks, status, scope, enabled, ttl, weight))| {
        let body = json!({
            "address": address, "port": port, "tags": tags, "metadata": metadata, "checks": checks, "status": status, "scope": scope,
            "enabled": enabled, "ttl": ttl, "weight": f64::from(weight) / 1_000.0, "ext": {"consul": {"Connect": weight, "Other": [tags]}},
        });
        (name, id, body)
    })
}

/// A name as one part of a path.
fn part(name: &str) -> String {
    name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The fields of a value, under the names that they have elsewhere.
fn fields(value: &Value, names: &[(&'static str, &'static str)]) -> BTreeMap<&'static str, Value> {
    names.iter().map(|(name, there)| (*name, value[*there].clone())).collect()
}

const SAME: &[(&str, &str)] =
    &[("ID", "ID"), ("Name", "Service"), ("Tags", "Tags"), ("Meta", "Meta"), ("Address", "Address"), ("Port", "Port")];
const LISTED: &[(&str, &str)] = &[
    ("ID", "ServiceID"),
    ("Name", "ServiceName"),
    ("Tags", "ServiceTags"),
    ("Meta", "ServiceMeta"),
    ("Address", "ServiceAddress"),
    ("Port", "ServicePort"),
];
const SETTINGS: &[(&str, &str)] = &[("Weights", "Weights"), ("EnableTagOverride", "EnableTagOverride")];
const LISTED_SETTINGS: &[(&str, &str)] = &[("Weights", "ServiceWeights"), ("EnableTagOverride", "ServiceEnableTagOverride")];

impl Peer {
    /// An element of a list by a text in it.
    async fn element(&self, path: &str, pointer: &str, wanted: &Value) -> Value {
        let list = self.get(path).await.json();
        let found = list.as_array().into_iter().flatten().find(|one| one.pointer(pointer) == Some(wanted)).cloned();
        found.unwrap_or_else(|| panic!("{path} has no {wanted}: {list}"))
    }

    async fn read_back(&self, sent: &Value) {
        let (name, id) = (part(sent["Name"].as_str().unwrap()), part(sent["ID"].as_str().unwrap()));
        let own = self.get(&format!("/v1/agent/service/{id}")).await.json();
        let entry = self.element(&format!("/v1/health/service/{name}"), "/Service/ID", &sent["ID"]).await;
        let listed = self.element(&format!("/v1/catalog/service/{name}"), "/ServiceID", &sent["ID"]).await;
        let there: Vec<_> = SAME.iter().chain(SETTINGS).copied().collect();
        let expected: BTreeMap<_, _> = there.iter().map(|(name, _)| (*name, sent[*name].clone())).collect();
        assert_eq!(fields(&own, &there), expected);
        assert_eq!(fields(&entry["Service"], &there), expected);
        assert_eq!(fields(&listed, &LISTED.iter().chain(LISTED_SETTINGS).copied().collect::<Vec<_>>()), expected);
        for (name, at) in sent["TaggedAddresses"].as_object().unwrap() {
            assert_eq!(&own["TaggedAddresses"][name], at);
            assert_eq!(&listed["ServiceTaggedAddresses"][name], at);
        }
        assert_eq!(entry["Service"]["Connect"]["Native"] == true, sent["Connect"]["Native"] == true);
        let checks = sent["Checks"].as_array().unwrap();
        for (at, check) in checks.iter().enumerate() {
            let id = match check["CheckID"].as_str() {
                Some(id) if checks[at + 1..].iter().all(|later| later["CheckID"] != id) => id.to_owned(),
                // The last word on an id counts.
                Some(_) => continue,
                None if checks.len() == 1 => format!("service:{}", sent["ID"].as_str().unwrap()),
                None => format!("service:{}:{}", sent["ID"].as_str().unwrap(), at + 1),
            };
            let shown = entry["Checks"].as_array().unwrap().iter().find(|shown| shown["CheckID"] == id);
            let shown = shown.unwrap_or_else(|| panic!("no check {id}: {entry}"));
            assert_eq!((&shown["Name"], &shown["Notes"], &shown["Status"]), (&check["Name"], &check["Notes"], &check["Status"]));
            assert_eq!((&shown["ServiceTags"], &shown["ServiceName"]), (&sent["Tags"], &sent["Name"]));
        }
        let native = self.get(&format!("/api/v1/services/{name}/instances/{id}")).await.json();
        assert_eq!((&native["id"], &native["tags"]), (&sent["ID"], &sent["Tags"]));
        for (key, value) in sent["Meta"].as_object().unwrap() {
            assert_eq!(&native["metadata"][key], value);
        }
    }

    /// Everything that lists it, natively and for Consul's clients.
    async fn read_everywhere(&self, name: &str, node: &str) {
        let name = part(name);
        for path in [
            format!("/api/v1/services/{name}?health=any&ext=true"),
            "/api/v1/services".to_owned(),
            "/api/v1/instances?health=any&ext=true".to_owned(),
            "/api/v1/http_sd".to_owned(),
            format!("/v1/health/service/{name}?passing"),
            format!("/v1/health/connect/{name}"),
            format!("/v1/health/checks/{name}"),
            "/v1/health/state/any".to_owned(),
            "/v1/catalog/services".to_owned(),
            format!("/v1/catalog/node/{node}"),
            format!("/v1/health/node/{node}"),
            "/v1/agent/services".to_owned(),
            "/v1/agent/checks".to_owned(),
        ] {
            self.get(&path).await.json();
        }
    }
}

/// Runs `check` on so many values, each at the same agent.
fn holds_for<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, check: impl AsyncFn(&Peer, &T)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let peer = runtime.block_on(Peer::start());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |value| {
        runtime.block_on(check(&peer, &value));
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn what_consuls_clients_send_they_read_back_and_all_others_read_it() {
    holds_for(registration(), async |peer, sent| {
        peer.write("/v1/agent/service/register?replace-existing-checks=true", sent).await;
        peer.read_back(sent).await;
        peer.read_everywhere(sent["Name"].as_str().unwrap(), "n1").await;
        peer.write(&format!("/v1/agent/service/deregister/{}", part(sent["ID"].as_str().unwrap())), "").await;
    });
}

#[test]
fn what_the_catalog_is_told_of_external_nodes_is_read_back() {
    holds_for(registration(), async |peer, sent| {
        let mut service = sent.clone();
        service["Service"] = service["Name"].take();
        service.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "Checks" | "Name"));
        let node = json!({"Node": "ext", "Address": "10.0.0.9", "NodeMeta": sent["Meta"], "Service": service});
        assert_eq!(peer.put("/v1/catalog/register", node).await.text, "true");
        let name = part(sent["Name"].as_str().unwrap());
        let listed = peer.element(&format!("/v1/catalog/service/{name}"), "/ServiceID", &sent["ID"]).await;
        let expected: BTreeMap<_, _> = LISTED.iter().map(|(name, _)| (*name, sent[*name].clone())).collect();
        assert_eq!(fields(&listed, LISTED), expected);
        assert_eq!(listed["NodeMeta"], sent["Meta"]);
        peer.read_everywhere(sent["Name"].as_str().unwrap(), "ext").await;
        assert_eq!(peer.put("/v1/catalog/deregister", json!({"Node": "ext"})).await.text, "true");
    });
}

#[test]
fn what_is_registered_natively_is_read_by_consuls_clients() {
    holds_for(native(), async |peer, (name, id, body)| {
        peer.native(&part(name), &part(id), body.clone()).await;
        let listed = peer.element(&format!("/v1/catalog/service/{}", part(name)), "/ServiceID", &json!(id)).await;
        assert_eq!((&listed["ServiceTags"], &listed["ServiceMeta"]), (&body["tags"], &body["metadata"]));
        assert_eq!((&listed["ServiceAddress"], &listed["ServicePort"]), (&body["address"], &body["port"]));
        peer.read_everywhere(name, "n1").await;
        let gone = peer.ask("DELETE", &format!("/api/v1/services/{}/instances/{}", part(name), part(id)), "").await;
        assert_eq!(gone.status, 200, "{gone:?}");
    });
}
