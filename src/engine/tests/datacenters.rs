//! Several datacenters: what crosses, how fast, and what a cut leaves (protocol.md §6).

use super::harness::{Net, Site};
use super::web;
use crate::engine::config::{Export, ExportPolicy, ExportRule};
use crate::model::command::{Command, Condition, Target};
use crate::model::names::{Datacenter, InstanceId, Namespace, ServiceName};
use crate::view::{DatacenterView, LinkState};

fn register(service: &str, id: &str) -> Command {
    let mut registration = web(id, 80);
    registration.service = ServiceName::new(service).unwrap();
    Command::Register(Box::new(registration))
}

fn deregister(service: &str, id: &str) -> Command {
    let (service, id) = (ServiceName::new(service).unwrap(), InstanceId::new(id).unwrap());
    Command::Deregister { target: Target { namespace: Namespace::default(), service, id, uid: None }, condition: Condition::Always }
}

fn site(name: &'static str, gateways: usize, others: usize) -> Site {
    Site { name, gateways, others, export: ExportPolicy::full() }
}

/// Hosts 0 to 3 are east's, 4 to 7 west's; the first two of each are gateways.
fn east_and_west() -> Net {
    let mut net = Net::of_datacenters(&[site("east", 2, 2), site("west", 2, 2)]);
    net.run_ms(15_000);
    net
}

fn seen<'a>(net: &'a Net, host: usize, datacenter: &str) -> &'a DatacenterView {
    net.view(host).datacenter(datacenter).unwrap_or_else(|| panic!("host {host} knows nothing of {datacenter}"))
}

fn remote(net: &Net, host: usize, datacenter: &str, service: &str) -> usize {
    net.view(host)
        .datacenter(datacenter)
        .and_then(|seen| seen.view.service("default", service).map(|service| service.available().count()))
        .unwrap_or(0)
}

#[test]
fn a_registration_is_found_in_another_datacenter_and_never_in_its_local_lists() {
    let mut net = east_and_west();
    for host in 0..4 {
        assert_eq!(seen(&net, host, "west").state, LinkState::Fresh, "host {host}");
    }
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(1_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}");
        assert_eq!(net.available(host, "web"), 0, "host {host}: a plain lookup is local");
    }
    let before = net.engine(7).catalog().root();
    net.call(3, deregister("web", "1")).unwrap();
    net.run_ms(1_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 0, "host {host}");
    }
    assert_eq!(net.engine(7).catalog().root(), before, "an import never changes the local root");
}

#[test]
fn what_was_there_before_the_link_crosses_with_it() {
    let mut net = Net::of_datacenters(&[site("east", 1, 3), site("west", 1, 3)]);
    net.set_cut("east", true);
    for id in 0..200 {
        net.call(id % 4, register("web", &id.to_string())).unwrap();
    }
    net.set_cut("east", false);
    net.run_ms(40_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 200, "host {host}");
    }
}

#[test]
fn the_death_of_an_agent_crosses() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(1_000);
    net.kill(3);
    net.run_ms(6_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 0, "host {host}");
    }
}

#[test]
fn a_cut_keeps_what_is_known_with_its_age_and_a_heal_brings_the_rest() {
    let mut net = east_and_west();
    net.call(2, register("web", "1")).unwrap();
    net.run_ms(1_000);
    net.set_cut("east", true);
    net.run_ms(60_000);
    for host in 4..8 {
        let seen = seen(&net, host, "east");
        assert_eq!(seen.state, LinkState::Stale, "host {host}");
        let age_ms = seen.age_ms(net.wall_ms());
        assert!((50_000..=61_000).contains(&age_ms), "host {host}: {age_ms}");
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}: kept");
    }
    net.call(2, register("web", "2")).unwrap();
    net.set_cut("east", false);
    net.run_ms(90_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 2, "host {host}");
        assert_eq!(seen(&net, host, "east").age_ms(net.wall_ms()), 0, "host {host}");
    }
}

#[test]
fn one_gateway_a_side_is_enough() {
    let mut net = east_and_west();
    net.kill(0);
    net.kill(5);
    net.run_ms(12_000);
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(5_000);
    for host in [4, 6, 7] {
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}");
    }
}

#[test]
fn only_what_is_exported_crosses() {
    let rule = ExportRule { namespace: None, service: "web*".into(), export: Export::Full };
    let export = ExportPolicy { rules: vec![rule], otherwise: Export::None, ..ExportPolicy::default() };
    let mut net = Net::of_datacenters(&[Site { export, ..site("east", 1, 1) }, site("west", 1, 1)]);
    net.run_ms(10_000);
    net.call(1, register("web-shop", "1")).unwrap();
    net.call(1, register("secret", "1")).unwrap();
    net.run_ms(1_000);
    assert_eq!(remote(&net, 3, "east", "web-shop"), 1);
    assert_eq!(remote(&net, 3, "east", "secret"), 0);
}

#[test]
fn an_operator_forgets_a_datacenter_that_is_out_of_contact_only() {
    let mut net = east_and_west();
    let forget = || Command::ForgetDatacenter(Datacenter::new("east").unwrap());
    assert!(net.call(7, forget()).is_err(), "it is heard");
    net.set_cut("east", true);
    net.run_ms(30_000);
    net.call(7, forget()).unwrap();
    net.run_ms(20_000);
    for host in 4..8 {
        assert!(net.view(host).datacenter("east").is_none(), "host {host}");
    }
    net.set_cut("east", false);
    net.run_ms(90_000);
    for host in 4..8 {
        assert_eq!(seen(&net, host, "east").state, LinkState::Fresh, "host {host}: it is back");
    }
}

#[test]
fn an_idle_pair_of_gateways_says_little() {
    let mut net = Net::of_datacenters(&[site("east", 1, 1), site("west", 1, 1)]);
    net.run_ms(30_000);
    let before = net.wan_bytes;
    net.run_ms(60_000);
    let a_second = (net.wan_bytes - before) / 60;
    assert!(a_second <= 400, "{a_second} B/s both ways");
}
