//! Other datacenters: names of theirs are answered from here.

use super::*;
use crate::model::summary::Summary;
use crate::view::testing::{self, datacenter};
use crate::view::{DatacenterView, LinkState, Summarized};

fn key(service: &str) -> ServiceKey {
    ServiceKey { namespace: Namespace::default(), service: ServiceName::new(service).unwrap() }
}

/// The scene below; east tells summaries of the services, each with how many are available, and these of them were fetched.
fn scene_of_summaries(services: &[(&str, u32)], fetched: &[&str]) -> Scene {
    let mut scene = scene();
    let summarized = |(service, available): &(&str, u32)| {
        let summary = Summary { instances: 2, available: *available, ..Summary::default() };
        Summarized { key: key(service), summary, revision: 7 }
    };
    let mut others: Vec<DatacenterView> = scene.view.datacenters.iter().map(|known| (**known).clone()).collect();
    for other in &mut others {
        other.summaries = services.iter().map(summarized).collect();
        other.fetched = fetched.iter().map(|service| (key(service), START_MS)).collect();
    }
    scene.editor.set_datacenters(others.into_iter().map(Arc::new).collect());
    scene.publish();
    scene
}

/// dc1 has `web`; east is heard and has `web`, `API` and the node `e1`; the lost one, which nobody hears, has `db`.
fn scene() -> Scene {
    let mut scene = town(Config { service_ttl: ServiceTtl::new([("*", 10)]), node_ttl_s: 20, ..Config::default() });
    let of = |name: &str, services: &[(&str, &'static str)]| {
        let mut editor = testing::editor(ORIGIN, name);
        let host = testing::node(NodeId(9), "e1", name);
        editor.set_node("e1", Some(Arc::clone(&host)));
        for (service, address) in services {
            let instance = Instance { address: (*address).into(), port: Some(80), weight: 1_000, enabled: true, ..Instance::default() };
            testing::put(&mut editor, &host, service, "1", &instance);
        }
        editor
    };
    let mut east = of("East.Coast", &[("web", "10.9.0.1"), ("API", "10.9.0.2"), ("away", "web.service.consul"), ("inside", "")]);
    let mut lost = of("lost", &[("db", "10.9.1.1")]);
    scene.editor.set_datacenters(vec![
        datacenter(&mut east, "East.Coast", 5, LinkState::Fresh, 20_000, None),
        datacenter(&mut lost, "lost", 5, LinkState::Stale, 20_000, Some(1)),
    ]);
    scene.publish();
    scene
}

#[test]
fn names_of_other_datacenters_are_found_in_both_forms() {
    let mut scene = scene();
    let table: &[(&str, RecordType, &[&str])] = &[
        ("web.service.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("web.service.east.coast.consul.", RecordType::A, &["10.9.0.1"]),
        ("Web.Service.EAST.coast.dc.consul.", RecordType::A, &["10.9.0.1"]),
        ("web.service.default.ns.east.coast.dc.consul.", RecordType::A, &["10.9.0.1"]),
        ("_web._tcp.service.east.coast.consul.", RecordType::A, &["10.9.0.1"]),
        ("_web._tcp.east.coast.consul.", RecordType::A, &["10.9.0.1"]),
        ("api.service.east.coast.consul.", RecordType::A, &["10.9.0.2"]),
        ("inside.service.east.coast.consul.", RecordType::A, &["10.0.0.1"]),
        ("e1.node.east.coast.consul.", RecordType::A, &["10.0.0.1"]),
        ("e1.node.east.coast.dc.consul.", RecordType::A, &["10.0.0.1"]),
        ("db.service.lost.consul.", RecordType::A, &["10.9.1.1"]),
    ];
    for (name, kind, ips) in table {
        assert_eq!(scene.ips(name, *kind), *ips, "{name} {kind}");
    }
    let answer = scene.ask("inside.service.east.coast.consul.", RecordType::SRV);
    assert_eq!(answer.answers[0].data.to_string(), "1 1 80 e1.node.East.Coast.consul.", "the name that is told leads there again");
    assert_eq!(answer.additionals.iter().filter_map(ip).count(), 1);
    let answer = scene.ask("away.service.east.coast.consul.", RecordType::A);
    assert!(answer.answers.iter().all(|record| record.record_type() == RecordType::CNAME), "{answer}");
}

#[test]
fn an_unknown_datacenter_is_no_name_and_a_silent_one_is_not_to_be_remembered() {
    let mut scene = scene();
    for name in ["web.service.mars.consul.", "web.service.mars.dc.consul.", "e1.node.mars.consul.", "e1.node.consul."] {
        assert_eq!(scene.rcode(name, RecordType::A), ResponseCode::NXDomain, "{name}");
    }
    for (name, rcode) in [("nope.service.lost.consul.", ResponseCode::NXDomain), ("lost.consul.", ResponseCode::NoError)] {
        assert_eq!(scene.rcode(name, RecordType::A), rcode, "{name}");
    }
    let mut ttl = |name: &str| scene.ask(name, RecordType::A).answers[0].ttl;
    assert_eq!((ttl("web.service.east.coast.consul."), ttl("e1.node.east.coast.consul.")), (10, 20));
    assert_eq!((ttl("db.service.lost.consul."), ttl("e1.node.lost.consul.")), (0, 0));
}

#[test]
fn answers_about_a_datacenter_follow_what_is_heard_of_it() {
    let mut scene = scene();
    assert_eq!(scene.ips("api.service.east.coast.consul.", RecordType::A), ["10.9.0.2"]);
    scene.editor.set_datacenters(Vec::new());
    scene.publish();
    assert_eq!(scene.rcode("api.service.east.coast.consul.", RecordType::A), ResponseCode::NXDomain);
    let answer = scene.ask("api.service.east.coast.consul.", RecordType::NS);
    assert_eq!(answer.answers.len(), 2, "who answers for the domain is told whatever the name");
}

#[test]
fn a_service_known_by_its_summary_alone_fails_rather_than_not_to_exist() {
    let mut scene = scene_of_summaries(&[("Loud", 1), ("far", 2), ("idle", 0), ("web", 1)], &["web"]);
    let mut ask = |name: &str, kind: RecordType| {
        let mut out = Vec::new();
        scene.responder.answer(&question(name, kind).to_vec().unwrap(), &scene.view, Transport::Udp, &mut out);
        let answer = Message::from_vec(&out).unwrap();
        (answer.metadata.response_code, scene.responder.take_looked_up(), answer)
    };
    let named = |datacenter: &str, service: &str| Named { datacenter: datacenter.to_owned(), services: vec![key(service)] };
    for (name, kind, datacenter, service) in [
        ("far.service.east.coast.consul.", RecordType::A, "East.Coast", "far"),
        ("far.service.east.coast.dc.consul.", RecordType::AAAA, "East.Coast", "far"),
        ("_far._tcp.service.east.coast.consul.", RecordType::SRV, "East.Coast", "far"),
        ("blue.far.service.east.coast.consul.", RecordType::A, "East.Coast", "far"),
        ("loud.service.east.coast.consul.", RecordType::A, "East.Coast", "Loud"),
        ("far.service.lost.consul.", RecordType::A, "lost", "far"),
    ] {
        let (rcode, looked_up, answer) = ask(name, kind);
        assert_eq!(looked_up, Some(named(datacenter, service)), "{name}");
        assert_eq!((rcode, answer.authorities.len()), (ResponseCode::ServFail, 0), "{name}: nobody may remember it");
    }
    // Nothing of it is available, as far as is known.
    let (rcode, looked_up, _) = ask("idle.service.east.coast.consul.", RecordType::A);
    assert_eq!((rcode, looked_up), (ResponseCode::NXDomain, Some(named("East.Coast", "idle"))));
    // What was fetched is an answer, and in use.
    let (rcode, looked_up, answer) = ask("web.service.east.coast.consul.", RecordType::A);
    assert_eq!((rcode, looked_up, answer.answers.len()), (ResponseCode::NoError, Some(named("East.Coast", "web")), 1));
    for name in
        ["far.service.consul.", "nothing.service.east.coast.consul.", "e1.node.east.coast.consul.", "api.service.east.coast.consul."]
    {
        let (rcode, looked_up, _) = ask(name, RecordType::A);
        assert!(rcode != ResponseCode::ServFail && looked_up.is_none(), "{name}: {rcode}");
    }
}
