//! What a name finds, and what it does not.

use super::*;

#[test]
fn agents_are_instances_of_a_service_until_somebody_registers_its_name() {
    let mut scene = Scene::new(Config::default());
    let found = |scene: &mut Scene, kind| {
        let reply = scene.ask("consul.service.consul.", kind);
        reply.answers.iter().map(|record| record.data.to_string()).collect::<BTreeSet<_>>()
    };
    let targets = ["1 1 8300 n1.node.dc1.consul.", "1 1 8300 Web.Host.node.dc1.consul."];
    assert_eq!(found(&mut scene, RecordType::SRV), targets.map(str::to_owned).into());
    assert_eq!(found(&mut scene, RecordType::A), ["192.168.0.1".to_owned()].into());
    scene.put("consul", "1", |consul| consul.address = "10.0.0.1".into());
    assert_eq!(found(&mut scene, RecordType::A), ["10.0.0.1".to_owned()].into());
}

#[test]
fn names_are_found_as_the_grammar_has_them() {
    let mut scene =
        town(Config { domains: ["consul", "tidings"].iter().filter_map(|name| name::parse(name)).collect(), ..Config::default() });
    let table: &[(&str, RecordType, &[&str])] = &[
        ("web.service.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("WEB.Service.DC1.Consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("web.service.dc1.tidings.", RecordType::ANY, &["10.0.0.1", "10.0.0.2"]),
        ("v1.web.service.consul.", RecordType::A, &["10.0.0.1"]),
        ("A.B.web.service.consul.", RecordType::A, &["10.0.0.1"]),
        ("_web._tcp.service.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("_web._v1.service.dc1.consul.", RecordType::A, &["10.0.0.1"]),
        ("_web._tcp.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("_web._v1.dc1.consul.", RecordType::A, &["10.0.0.1"]),
        ("web.query.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("six.service.consul.", RecordType::AAAA, &["fd00::6"]),
        ("here.service.consul.", RecordType::A, &["192.168.0.1"]),
        ("api.service.consul.", RecordType::A, &[]),
        ("com.example.api.service.consul.", RecordType::A, &["10.1.0.1"]),
        ("com/example/api.service.consul.", RecordType::A, &["10.1.0.1"]),
        ("my service.service.consul.", RecordType::A, &["10.1.0.2"]),
        ("group@@NAME.service.consul.", RecordType::A, &["10.1.0.3", "10.1.0.4"]),
        ("web.service.team.a.ns.consul.", RecordType::A, &["10.2.0.1"]),
        ("web.service.team.a.ns.dc1.dc.consul.", RecordType::A, &["10.2.0.1"]),
        ("web.service.default.ns.consul.", RecordType::A, &["10.0.0.1", "10.0.0.2"]),
        ("n1.node.consul.", RecordType::A, &["192.168.0.1"]),
        ("web.host.node.dc1.consul.", RecordType::AAAA, &["fd00::2"]),
        ("0a0B0c0d.addr.dc1.consul.", RecordType::A, &["10.11.12.13"]),
        ("fd000000000000000000000000000009.addr.consul.", RecordType::AAAA, &["fd00::9"]),
    ];
    for (name, kind, ips) in table {
        assert_eq!(scene.ips(name, *kind), *ips, "{name} {kind}");
    }
}

#[test]
fn what_is_not_there_is_told_apart_from_what_has_no_such_record() {
    let mut scene = town(Config::default());
    use ResponseCode::{NXDomain, NoError, NotImp, Refused};
    let table = [
        ("nope.service.consul.", RecordType::A, NXDomain),
        ("v2.web.service.consul.", RecordType::A, NXDomain),
        ("web.service.dc2.consul.", RecordType::A, NXDomain),
        ("web.service.dc2.dc.consul.", RecordType::A, NXDomain),
        ("web.service.x.ap.consul.", RecordType::A, NXDomain),
        ("web.connect.consul.", RecordType::A, NXDomain),
        ("n9.node.consul.", RecordType::A, NXDomain),
        ("xyz.addr.consul.", RecordType::A, NXDomain),
        ("anything.consul.", RecordType::A, NXDomain),
        ("9.0.0.10.in-addr.arpa.", RecordType::PTR, NXDomain),
        ("web.service.consul.", RecordType::AAAA, NoError),
        ("web.service.consul.", RecordType::MX, NoError),
        ("n1.node.consul.", RecordType::SRV, NoError),
        ("0a000001.addr.consul.", RecordType::AAAA, NoError),
        // What lies above names exists, or resolvers that ask label by label would stop there.
        ("consul.", RecordType::A, NoError),
        ("service.consul.", RecordType::A, NoError),
        ("dc1.consul.", RecordType::A, NoError),
        ("example.com.", RecordType::A, Refused),
        ("consul.", RecordType::AXFR, NotImp),
    ];
    for (name, kind, rcode) in table {
        if matches!(rcode, NotImp) {
            assert_eq!(scene.ask(name, kind).metadata.response_code, rcode, "{name} {kind}");
        } else {
            assert_eq!(scene.rcode(name, kind), rcode, "{name} {kind}");
        }
    }
}

#[test]
fn answers_keep_the_case_of_the_question_and_say_whose_they_are() {
    let mut scene = town(Config::default());
    let answer = scene.ask("wEb.SERVICE.consul.", RecordType::A);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == "wEb.SERVICE.consul."));
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available && answer.metadata.recursion_desired);
}

#[test]
fn a_domain_tells_its_authority_and_its_servers_whatever_the_name() {
    let mut scene = town(Config::default());
    for name in ["consul.", "web.service.consul.", "nothing.consul."] {
        let answer = scene.ask(name, RecordType::SOA);
        let RData::SOA(soa) = &answer.answers[0].data else { panic!("{answer}") };
        let serial = u64::from(soa.serial);
        assert!((START_MS / 1_000..=scene.now_ms / 1_000).contains(&serial), "{serial} is the time of the last change");
        assert_eq!((soa.mname.to_string(), soa.minimum), ("ns.consul.".to_owned(), 0));
        let answer = scene.ask(name, RecordType::NS);
        // The other node has an address of the other family: both are servers.
        let servers: BTreeSet<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(servers, ["n1.node.dc1.consul.", "Web.Host.node.dc1.consul."].map(str::to_owned).into());
        assert_eq!(answer.additionals.len(), 2);
    }
}
