//! Which records answer, and in what order.

use super::*;

#[test]
fn srv_names_the_node_or_the_address_and_tells_it() {
    let mut scene = town(Config::default());
    scene.put("web", "1", |web| (web.address, web.port, web.weight) = ("10.0.0.1".into(), Some(8_080), 2_500));
    scene.put("web", "2", |web| (web.port, web.weight) = (Some(8_081), 500));
    scene.put("web", "6", |web| (web.address, web.port, web.weight) = ("fd00::6".into(), None, 1_000));
    let answer = scene.ask("web.service.consul.", RecordType::SRV);
    let mut found: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    found.sort();
    // Weights are fractions here, so all are in thousandths.
    let expected = [
        "1 1000 0 fd000000000000000000000000000006.addr.dc1.consul.",
        "1 2500 8080 0a000001.addr.dc1.consul.",
        "1 500 8081 n1.node.dc1.consul.",
    ];
    assert_eq!(found, expected);
    let mut glue: Vec<_> = answer.additionals.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    glue.sort();
    let expected = [
        "0a000001.addr.dc1.consul. 10.0.0.1",
        "fd000000000000000000000000000006.addr.dc1.consul. fd00::6",
        // The texts of the node, of which all three are instances, once.
        "n1.node.dc1.consul. 192.168.0.1",
        "n1.node.dc1.consul. as it is",
        "n1.node.dc1.consul. rack=r1",
    ];
    assert_eq!(glue, expected);
    // What SRV names is found under that name.
    assert_eq!(scene.ips("n1.node.dc1.consul.", RecordType::A), ["192.168.0.1"]);
}

#[test]
fn nodes_have_texts_and_addresses_have_names() {
    let mut scene = town(Config::default());
    let texts = scene.ask("n1.node.consul.", RecordType::TXT);
    let mut texts: Vec<_> = texts.answers.iter().map(|record| record.data.to_string()).collect();
    texts.sort();
    assert_eq!(texts, ["as it is", "rack=r1"]);
    let address = scene.ask("n1.node.consul.", RecordType::A);
    let mut beside: Vec<_> = address.additionals.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    beside.sort();
    assert_eq!((address.answers.len(), beside), (1, vec!["n1.node.consul. as it is".to_owned(), "n1.node.consul. rack=r1".to_owned()]));
    let mut name = |asked: &str| scene.ask(asked, RecordType::PTR).answers.iter().map(|record| record.data.to_string()).collect::<String>();
    assert_eq!(name("1.0.168.192.in-addr.arpa."), "n1.node.dc1.consul.");
    assert_eq!(name("1.0.0.10.in-addr.arpa."), "web.service.dc1.consul.");
    assert_eq!(name(&format!("2{}.0.0.d.f.ip6.arpa.", ".0".repeat(27))), "Web.Host.node.dc1.consul.");
}

#[test]
fn host_names_lead_on_and_are_followed_while_they_are_ours() {
    let mut scene = town(Config::default());
    scene.put("alias", "1", at("web.service.consul"));
    scene.put("alias2", "1", at("alias.service.consul"));
    scene.put("outside", "1", at("host.example.com"));
    scene.put("circle", "1", at("circle.service.consul"));
    let answer = scene.ask("alias2.service.consul.", RecordType::A);
    let chain: Vec<_> = answer.answers.iter().map(|record| format!("{} {}", record.name, record.record_type())).collect();
    let expected = ["alias2.service.consul. CNAME", "alias.service.consul. CNAME", "web.service.consul. A", "web.service.consul. A"];
    assert_eq!(chain, expected);
    let answer = scene.ask("outside.service.consul.", RecordType::A);
    assert_eq!(answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>(), ["host.example.com."]);
    assert!(scene.ask("circle.service.consul.", RecordType::A).answers.len() <= 4);
    let srv = scene.ask("outside.service.consul.", RecordType::SRV);
    assert_eq!(srv.answers[0].data.to_string(), "1 1 80 host.example.com.");
}

#[test]
fn who_stands_first_is_drawn_by_weight() {
    let mut scene = Scene::new(Config::default());
    for (id, weight) in [("1", 1_000), ("2", 2_000), ("3", 5_000)] {
        scene.put("web", id, move |web| (web.address, web.weight) = (format!("10.0.0.{id}").into(), weight));
        scene.put("even", id, move |even| even.address = format!("10.0.0.{id}").into());
    }
    for (service, shares) in [("web", [1.0, 2.0, 5.0]), ("even", [1.0, 1.0, 1.0])] {
        let mut first: BTreeMap<String, f64> = BTreeMap::new();
        const ROUNDS: usize = 8_000;
        for _ in 0..ROUNDS {
            let answer = scene.ask(&format!("{service}.service.consul."), RecordType::A);
            assert_eq!(answer.answers.len(), 3);
            *first.entry(ip(&answer.answers[0]).unwrap().to_string()).or_default() += 1.0;
        }
        for (found, share) in first.values().zip(shares) {
            let expected = ROUNDS as f64 * share / shares.iter().sum::<f64>();
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "{service}: {first:?}");
        }
    }
}

#[test]
fn the_longest_prefix_decides_how_long_an_answer_may_be_kept() {
    let service_ttl = ServiceTtl::new([("*", 1), ("w*", 2), ("we*", 3), ("Web", 4)]);
    let mut scene = town(Config { service_ttl, node_ttl_s: 9, ..Config::default() });
    scene.put("west", "1", at("10.0.0.1"));
    scene.put("wild", "1", at("10.0.0.1"));
    for (name, ttl) in [("web.service", 4), ("west.service", 3), ("wild.service", 2), ("here.service", 1), ("n1.node", 9)] {
        assert_eq!(scene.ask(&format!("{name}.consul."), RecordType::A).answers[0].ttl, ttl, "{name}");
    }
}

#[test]
fn warning_instances_can_be_left_out() {
    let mut scene = town(Config { only_passing: true, ..Config::default() });
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1"]);
}

#[test]
fn both_families_of_an_instance_are_found() {
    let mut scene = Scene::new(Config::default());
    scene.put("both", "1", |both| {
        let endpoint = |address: &'static str| crate::model::instance::Endpoint { address: address.into(), port: 80 };
        both.address = "10.0.0.1".into();
        both.addresses = vec![("lan_ipv6".into(), endpoint("fd00::1"))];
    });
    assert_eq!(scene.ips("both.service.consul.", RecordType::A), ["10.0.0.1"]);
    assert_eq!(scene.ips("both.service.consul.", RecordType::AAAA), ["fd00::1"]);
}
