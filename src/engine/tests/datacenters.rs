//! Several datacenters: what crosses, how fast, and what a cut leaves (protocol.md §6).

use super::harness::{Net, Site};
use super::web;
use crate::engine::config::{Export, ExportPolicy, ExportRule};
use crate::model::command::{Command, Condition, Target};
use crate::model::names::{Datacenter, InstanceId, Namespace, ServiceName};
use crate::view::{DatacenterView, LinkState};

pub fn register(service: &str, id: &str) -> Command {
    let mut registration = web(id, 80);
    registration.service = ServiceName::new(service).unwrap();
    Command::Register(Box::new(registration))
}

pub fn deregister(service: &str, id: &str) -> Command {
    let (service, id) = (ServiceName::new(service).unwrap(), InstanceId::new(id).unwrap());
    Command::Deregister { target: Target { namespace: Namespace::default(), service, id, uid: None }, condition: Condition::Always }
}

pub fn site(name: &'static str, gateways: usize, others: usize) -> Site {
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

pub fn remote(net: &Net, host: usize, datacenter: &str, service: &str) -> usize {
    net.view(host)
        .datacenter(datacenter)
        .and_then(|seen| seen.view.service("default", service).map(|service| service.available().count()))
        .unwrap_or(0)
}

pub fn all(net: &Net, host: usize, datacenter: &str, service: &str) -> usize {
    let seen = net.view(host).datacenter(datacenter);
    seen.and_then(|seen| seen.view.service("default", service).map(|service| service.entries.len())).unwrap_or(0)
}

#[test]
fn a_registration_is_found_in_another_datacenter_and_never_in_its_local_lists() {
    let mut net = east_and_west();
    for host in 0..4 {
        let west = seen(&net, host, "west");
        assert_eq!(west.state, LinkState::Fresh, "host {host}");
        assert!(west.rtt_us.is_some_and(|us| (50_000..55_000).contains(&us)), "host {host}: {:?}", west.rtt_us);
        assert!(west.links.iter().all(|link| link.backlog == 0), "host {host}: nothing waits");
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
    let all_gone = |net: &Net| (4..8).all(|host| remote(net, host, "east", "web") == 0);
    assert!(all_gone(&net));
    net.set_cut("east", true);
    net.run_ms(30_000);
    net.set_cut("east", false);
    for _ in 0..600 {
        net.run_ms(100);
        assert!(all_gone(&net), "a new link does not raise the dead");
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
fn a_cut_that_breaks_no_stream_is_told_within_ten_seconds_and_over_soon_after_it() {
    let mut net = east_and_west();
    net.call(2, register("web", "1")).unwrap();
    net.run_ms(1_000);
    net.set_silent("east");
    net.run_ms(10_000);
    for host in 4..8 {
        assert_eq!(seen(&net, host, "east").state, LinkState::Stale, "host {host}");
    }
    net.run_ms(40_000);
    net.call(2, register("web", "2")).unwrap();
    net.set_cut("east", false);
    net.run_ms(10_000);
    for host in 4..8 {
        assert_eq!((seen(&net, host, "east").state, remote(&net, host, "east", "web")), (LinkState::Fresh, 2), "host {host}");
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
    let export = ExportPolicy { edition: 0, rules: vec![rule], otherwise: Export::None };
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

#[test]
fn a_wider_policy_brings_what_it_lets_through_and_a_narrower_one_takes_it_back() {
    let nothing = ExportPolicy { otherwise: Export::None, ..ExportPolicy::default() };
    let mut net = Net::of_datacenters(&[Site { export: nothing.clone(), ..site("east", 1, 2) }, site("west", 1, 2)]);
    net.run_ms(10_000);
    net.call(1, register("web", "1")).unwrap();
    net.run_ms(2_000);
    assert_eq!(remote(&net, 4, "east", "web"), 0);
    for (edition, export, seen) in [(1, ExportPolicy::full(), 1), (2, nothing, 0)] {
        net.restart(0, |config| config.gateway.as_mut().unwrap().export = ExportPolicy { edition, ..export });
        net.run_ms(60_000);
        for host in 3..6 {
            assert_eq!(remote(&net, host, "east", "web"), seen, "edition {edition}, host {host}");
        }
    }
}

#[test]
fn gateways_that_die_in_turn_lose_nothing_and_delay_little() {
    let mut net = Net::of_datacenters(&[site("east", 3, 2), site("west", 3, 2)]);
    net.wan_loss = 5;
    net.run_ms(20_000);
    let mut registered = 0;
    for killed in [0, 6, 1, 5] {
        net.kill(killed);
        for _ in 0..4 {
            registered += 1;
            net.call(4, register("web", &registered.to_string())).unwrap();
        }
        let killed_ms = net.wall_ms();
        while remote(&net, 9, "east", "web") < registered {
            net.run_ms(100);
            assert!(net.wall_ms() - killed_ms <= 5_000, "after host {killed}: {} of {registered}", remote(&net, 9, "east", "web"));
        }
    }
    net.run_ms(15_000);
    for host in 7..10 {
        assert_eq!(remote(&net, host, "east", "web"), registered, "host {host}");
    }
}

#[test]
fn who_goes_on_for_a_dead_gateway_does_not_say_again_what_that_one_said() {
    for killed in 0..2 {
        let mut net = east_and_west();
        let before = net.link_bytes;
        for id in 0..500 {
            for host in 2..4 {
                net.call(host, register("web", &format!("{host}-{id}"))).unwrap();
            }
        }
        let told = net.link_bytes - before;
        // What came since both sides compared last is known to the dead one alone.
        net.kill(killed);
        net.call(2, deregister("web", "2-0")).unwrap();
        net.run_ms(15_000);
        for host in 4..8 {
            assert_eq!(remote(&net, host, "east", "web"), 999, "host {host}");
        }
        let anew = net.link_bytes - before - told;
        assert!(anew < 8_000, "{anew} bytes of {told}, after gateway {killed} was killed");
    }
}

#[test]
fn of_a_datacenter_that_splits_nobody_is_down_who_lives_on_either_side() {
    let mut net = Net::of_datacenters(&[site("east", 2, 4), site("west", 2, 1)]);
    net.run_ms(15_000);
    for host in 0..6 {
        net.call(host, register("web", &host.to_string())).unwrap();
    }
    net.run_ms(2_000);
    net.split(&[0, 2]);
    for _ in 0..60 {
        net.run_ms(1_000);
        for host in 6..9 {
            assert_eq!(remote(&net, host, "east", "web"), 6, "host {host}");
        }
    }
    net.split(&[]);
    net.run_ms(150_000);
    for host in 6..9 {
        assert_eq!(remote(&net, host, "east", "web"), 6, "host {host}");
    }
}

#[test]
fn local_history_is_the_same_with_and_without_the_wan() {
    let history = |is_cut: bool| {
        let mut net = Net::of_datacenters(&[site("east", 2, 1), site("west", 2, 1), site("north", 1, 1)]);
        net.run_ms(15_000);
        net.set_cut("east", is_cut);
        let mut seen = Vec::new();
        for step in 0..60 {
            net.call(step % 3, register("web", &step.to_string())).unwrap();
            net.call(3 + step % 3, register("web", &step.to_string())).unwrap();
            net.run_ms(500);
            let of = |host: usize| (net.available(host, "web"), net.engine(host).catalog().record_count());
            seen.push((0..8).map(of).collect::<Vec<_>>());
        }
        net.set_cut("east", false);
        net.run_ms(60_000);
        for host in 3..8 {
            assert_eq!(remote(&net, host, "east", "web"), 60, "host {host}");
        }
        for host in (0..3).chain(6..8) {
            assert_eq!(remote(&net, host, "west", "web"), 60, "host {host}");
        }
        seen
    };
    assert_eq!(history(false), history(true));
}

#[test]
fn what_nobody_hears_for_too_long_is_dropped_and_comes_back_whole() {
    let mut net = Net::of_datacenters(&[site("east", 1, 1), site("west", 1, 2)]);
    for host in 2..5 {
        net.restart(host, |config| config.wan.retention_ms = 60_000);
    }
    net.run_ms(30_000);
    net.call(1, register("web", "1")).unwrap();
    net.run_ms(2_000);
    assert_eq!(remote(&net, 4, "east", "web"), 1);
    net.set_cut("east", true);
    net.run_ms(50_000);
    assert_eq!(remote(&net, 4, "east", "web"), 1, "kept so far");
    net.run_ms(60_000);
    for host in 2..5 {
        assert!(net.view(host).datacenter("east").is_none(), "host {host}");
    }
    net.set_cut("east", false);
    net.run_ms(120_000);
    for host in 2..5 {
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}");
    }
}

#[test]
fn a_wrong_certificate_a_foreign_cluster_and_a_taken_name_are_refused_and_counted() {
    let refused = |net: &Net, host: usize, why: &str| net.engine(host).counters().dropped.get(why).copied().unwrap_or(0);
    let mut net = Net::of_datacenters(&[site("east", 1, 0), site("west", 1, 0)]);
    net.certificate = Some("north");
    net.run_ms(20_000);
    assert!(net.view(0).datacenters.is_empty() && refused(&net, 0, "link_certificate") > 0);
    net.certificate = Some("west");
    net.run_ms(90_000);
    assert_eq!(seen(&net, 0, "west").state, LinkState::Fresh, "the right one is taken after all");

    let mut net = Net::of_datacenters(&[site("east", 1, 0), site("west", 1, 0)]);
    net.restart(1, |config| config.gateway.as_mut().unwrap().label = "other/*wan*".into());
    net.run_ms(20_000);
    assert!(net.view(0).datacenters.is_empty() && refused(&net, 0, "label") > 0);

    let mut net = Net::of_datacenters(&[site("east", 1, 0), site("east", 1, 0)]);
    net.split(&[0]);
    net.run_ms(20_000);
    for host in 0..2 {
        assert!(net.view(host).datacenters.is_empty() && refused(&net, host, "wan_name_taken") > 0, "host {host}");
    }
}

#[test]
fn a_gateway_that_tells_of_others_origins_is_refused_and_theirs_stay_as_they_are() {
    // Host 1 is of the datacenter that looks, host 3 of another one; an agent of the third goes by the id of either.
    for claimed in [1, 3] {
        let mut net = Net::of_datacenters(&[site("west", 1, 1), site("east", 1, 1), site("south", 1, 1)]);
        net.run_ms(20_000);
        net.call(claimed, register("web", "true")).unwrap();
        net.run_ms(1_000);
        net.restart_as(5, [claimed as u8 + 1; 32], |_| {});
        net.call(5, register("web", "forged")).unwrap();
        net.run_ms(30_000);
        let refused = net.engine(0).counters().dropped.get("link_others_origin").copied().unwrap_or(0);
        assert!(refused > 0, "as host {claimed}");
        assert_eq!((net.available(1, "web"), remote(&net, 1, "east", "web")), if claimed == 1 { (1, 0) } else { (0, 1) });
        assert_eq!(remote(&net, 1, "south", "web"), 0, "as host {claimed}");
        net.call(2, register("db", "1")).unwrap();
        net.run_ms(2_000);
        assert_eq!(remote(&net, 1, "east", "db"), 1, "the rest goes on");
    }
}

#[test]
fn gateways_without_keys_link_as_well() {
    let mut net = Net::of_datacenters(&[site("east", 2, 1), site("west", 1, 1)]);
    for host in [0, 1, 3] {
        net.restart(host, |config| config.gateway.as_mut().unwrap().keys.clear());
    }
    net.run_ms(30_000);
    net.call(2, register("web", "1")).unwrap();
    net.run_ms(1_000);
    for host in 3..5 {
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}");
    }
}

/// `cargo test --release -p tidings --lib --no-default-features figures_of_what_crosses -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: cargo test --release -p tidings --lib --no-default-features figures -- --ignored --nocapture"]
fn figures_of_what_crosses() {
    let mut net = Net::of_datacenters(&[site("east", 1, 1), site("west", 1, 1)]);
    net.run_ms(30_000);
    let mut bytes_of = |what: &str, each: u64, act: &mut dyn FnMut(&mut Net)| {
        let before = net.wan_bytes;
        act(&mut net);
        println!("{what}: {} B", (net.wan_bytes - before) / each);
    };
    bytes_of("idle, a second, both ways", 60, &mut |net| net.run_ms(60_000));
    for (what, port) in [("a new id, in batches of a hundred", 80), ("the same registered anew, in batches of a hundred", 81)] {
        bytes_of(what, 1_000, &mut |net| {
            for batch in 0..10 {
                let commands = (0..100).map(|at| super::register(&format!("{}", batch * 100 + at), port)).collect();
                net.call(1, Command::Batch(commands)).unwrap();
                net.run_ms(500);
            }
        });
    }
}

#[test]
fn what_its_own_datacenter_has_forgotten_is_dropped_when_that_has_lasted() {
    let mut net = Net::of_datacenters(&[site("east", 2, 2), site("west", 2, 1)]);
    net.run_ms(15_000);
    net.call(6, register("web", "1")).unwrap();
    net.call(4, register("web", "2")).unwrap();
    net.run_ms(1_000);
    // All of west begins anew, on empty disks: nobody there remembers who was there before.
    for host in 4..7 {
        net.kill(host);
    }
    for host in 4..7 {
        net.restart_as(host, [host as u8 + 100; 32], |_| {});
    }
    net.run_ms(500_000);
    assert_eq!(remote(&net, 3, "west", "web"), 0, "nobody vouches for them");
    assert_eq!(all(&net, 3, "west", "web"), 2, "kept, for west may not know all yet");
    net.run_ms(200_000);
    for host in 0..4 {
        assert_eq!(all(&net, host, "west", "web"), 0, "host {host}");
    }
}
