//! How soon what one datacenter writes is seen in another: what is gone before what is new (protocol.md §6).

use super::datacenters::{all, deregister, register, remote, site};
use super::harness::Net;
use super::{target, web};
use crate::model::command::{Command, Report};
use crate::model::instance::Health;
use crate::model::names::ServiceName;

/// One way over the WAN, and a millisecond each for the two hops at home.
const WAY_MS: u64 = 25 + 2;
/// Waits of batches in either datacenter, the write's way to disk, and what the harness needs to answer.
const HOME_MS: u64 = 15;

/// Hosts 0 to 3 are east's, 4 to 7 west's; the first two of each are gateways.
fn east_and_west() -> Net {
    let mut net = Net::of_datacenters(&[site("east", 2, 2), site("west", 2, 2)]);
    net.run_ms(15_000);
    net
}

/// Milliseconds until it is so.
fn until(net: &mut Net, is_so: impl Fn(&Net) -> bool) -> u64 {
    let from_ms = net.wall_ms();
    while !is_so(net) {
        assert!(net.wall_ms() - from_ms < 10_000, "not within ten seconds");
        net.run_ms(1);
    }
    net.wall_ms() - from_ms
}

fn all_see(net: &Net, service: &str, count: usize) -> bool {
    (4..8).all(|host| remote(net, host, "east", service) == count)
}

fn report(id: &str, state: Health) -> Command {
    Command::Heartbeat { target: target(id), report: Some(Report { check: None, state, output: String::new() }) }
}

fn many(service: &str, ids: std::ops::Range<usize>) -> Command {
    let one = |id: usize| {
        let mut registration = web(&id.to_string(), 80);
        registration.service = ServiceName::new(service).unwrap();
        // Nothing that packs well.
        let noise = (0..12).map(|at| format!("{:016x}", (id as u64 * 12 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)));
        registration.instance.metadata = vec![("noise".into(), noise.collect::<String>().into())];
        Command::Register(Box::new(registration))
    };
    Command::Batch(ids.map(one).collect())
}

#[test]
fn what_is_gone_or_has_failed_crosses_within_ten_milliseconds_and_what_is_new_gathers() {
    for host in 0..4 {
        let mut net = east_and_west();
        net.call(host, register("web", "1")).unwrap();
        let new_ms = until(&mut net, |net| all_see(net, "web", 1));
        assert!((100..=100 + WAY_MS + HOME_MS).contains(&new_ms), "host {host}: new after {new_ms} ms");
        net.run_ms(1_000);
        net.call(host, report("1", Health::Critical)).unwrap();
        let failed_ms = until(&mut net, |net| all_see(net, "web", 0));
        assert!(failed_ms <= 10 + WAY_MS + HOME_MS, "host {host}: failed after {failed_ms} ms");
        net.run_ms(1_000);
        assert!((4..8).all(|host| all(&net, host, "east", "web") == 1), "host {host}: not available, and there");
        net.call(host, deregister("web", "1")).unwrap();
        let gone_ms = until(&mut net, |net| (4..8).all(|host| all(net, host, "east", "web") == 0));
        assert!(gone_ms <= 10 + WAY_MS + HOME_MS, "host {host}: gone after {gone_ms} ms");
    }
}

#[test]
fn what_is_gone_overtakes_what_was_registered_before_it() {
    // Whoever of the two comes first in the order of ids.
    for (busy, quiet) in [(2, 3), (3, 2)] {
        let mut net = east_and_west();
        net.call(quiet, register("web", "1")).unwrap();
        net.run_ms(2_000);
        net.call(busy, many("bulk", 0..100)).unwrap();
        net.call(quiet, deregister("web", "1")).unwrap();
        until(&mut net, |net| all_see(net, "web", 0));
        assert!((4..8).all(|host| all(&net, host, "east", "bulk") == 0), "host {busy} said its own first");
        until(&mut net, |net| all_see(net, "bulk", 100));
    }
}

#[test]
fn what_is_gone_overtakes_what_waits_for_a_slow_link() {
    let mut net = Net::of_datacenters(&[site("east", 1, 3), site("west", 1, 3)]);
    // Little more than what the other side takes in before it says so.
    net.restart(0, |config| config.wan.window_bytes = 150_000);
    net.run_ms(30_000);
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_000);
    for batch in 0..100 {
        net.call(2, many("bulk", batch * 100..batch * 100 + 100)).unwrap();
    }
    net.call(3, deregister("web", "1")).unwrap();
    let gone_ms = until(&mut net, |net| all_see(net, "web", 0));
    let crossed = all(&net, 7, "east", "bulk");
    assert!(gone_ms <= 200 && crossed < 10_000, "after {gone_ms} ms, {crossed} others were there before it");
    until(&mut net, |net| all_see(net, "bulk", 10_000));
}

#[test]
fn a_death_crosses_ten_milliseconds_after_the_last_gateway_knows_it() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_000);
    net.kill(3);
    until(&mut net, |net| (0..2).all(|gateway| net.available(gateway, "web") == 0));
    let dead_ms = until(&mut net, |net| all_see(net, "web", 0));
    assert!(dead_ms <= 10 + WAY_MS + HOME_MS, "{dead_ms} ms");
}
