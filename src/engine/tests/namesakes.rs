//! Two datacenters that were given one name: the one that is known keeps it, the other is refused, and both say so (protocol.md §6).

use super::datacenters::{deregister, register, remote, site};
use super::harness::Net;
use crate::view::LinkState;

fn refused(net: &Net, host: usize) -> u64 {
    net.engine(host).counters().dropped.get("wan_name_taken").copied().unwrap_or(0)
}

/// Hosts 0 to 2 are west's, 3 to 5 east's, 6 and 7 those of another east, which is cut off at first; the first of each is a gateway,
/// of east the first two.
fn west_east_and_another() -> Net {
    let mut net = Net::of_datacenters(&[site("west", 1, 2), site("east", 2, 1), site("east~other", 1, 1)]);
    net.set_cut("east~other", true);
    net.run_ms(20_000);
    net.call(5, register("web", "of east")).unwrap();
    net.call(7, register("web", "of the other")).unwrap();
    net.call(7, register("db", "of the other")).unwrap();
    net.run_ms(2_000);
    assert_eq!(remote(&net, 2, "east", "web"), 1);
    net
}

#[test]
fn the_one_that_is_known_keeps_the_name_and_both_say_so() {
    let mut net = west_east_and_another();
    net.set_cut("east~other", false);
    for _ in 0..120 {
        net.run_ms(1_000);
        for host in 0..3 {
            assert_eq!((remote(&net, host, "east", "web"), remote(&net, host, "east", "db")), (1, 0), "host {host}");
        }
    }
    assert!(refused(&net, 0) > 0, "west refuses the other's link");
    assert!([3, 4].iter().all(|host| refused(&net, *host) > 0) && refused(&net, 6) > 0, "each says so of the other");
    // What west has reaches the one that it knows, and not the other.
    net.call(1, register("mail", "1")).unwrap();
    net.run_ms(3_000);
    assert_eq!([5, 7].map(|host| remote(&net, host, "west", "mail")), [1, 0]);
    net.call(5, deregister("web", "of east")).unwrap();
    net.run_ms(2_000);
    assert_eq!(remote(&net, 2, "east", "web"), 0, "the known one is heard all along");
}

#[test]
fn a_name_that_nobody_bears_any_more_is_free() {
    let mut net = west_east_and_another();
    net.set_cut("east", true);
    net.run_ms(10_000);
    net.set_cut("east~other", false);
    net.run_ms(10_000);
    assert_eq!(remote(&net, 2, "east", "db"), 0, "it was heard a moment ago");
    net.run_ms(150_000);
    assert_eq!(remote(&net, 2, "east", "db"), 1);
}

#[test]
fn a_datacenter_on_empty_disks_gets_its_name_back() {
    let mut net = Net::of_datacenters(&[site("west", 1, 1), site("east", 1, 1)]);
    net.run_ms(20_000);
    net.kill(2);
    net.kill(3);
    for host in [2, 3] {
        net.restart_as(host, [100 + host as u8; 32], |_| {});
    }
    net.call(3, register("web", "anew")).unwrap();
    net.run_ms(120_000);
    assert_eq!(net.view(1).datacenter("east").map(|seen| seen.state), Some(LinkState::Fresh));
    assert_eq!(remote(&net, 1, "east", "web"), 1);
}

#[test]
fn halves_of_a_datacenter_and_gateways_in_the_place_of_others_are_kin() {
    let mut net = Net::of_datacenters(&[site("west", 1, 1), site("east", 2, 2)]);
    net.run_ms(20_000);
    net.split(&[2, 4]);
    net.run_ms(10_000);
    for host in [4, 5] {
        net.call(host, register("web", &host.to_string())).unwrap();
    }
    net.set_cut("west", true);
    net.run_ms(60_000);
    net.set_cut("west", false);
    net.run_ms(60_000);
    assert_eq!(remote(&net, 1, "east", "web"), 2, "both halves speak");
    net.split(&[]);
    net.run_ms(30_000);
    for host in [2, 3] {
        net.restart_as(host, [100 + host as u8; 32], |_| {});
    }
    net.run_ms(15_000);
    net.call(5, register("web", "later")).unwrap();
    net.run_ms(5_000);
    assert_eq!(remote(&net, 1, "east", "web"), 3);
    assert_eq!(refused(&net, 0), 0);
}
