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

/// Flips an instance of host 3 so often, each way so long, and says how often that is seen at host 7.
fn flap(net: &mut Net, times: usize, each_ms: u64, mut meanwhile: impl FnMut(&mut Net, usize)) -> usize {
    let (mut seen, mut flips) = (remote(net, 7, "east", "web"), 0);
    for time in 0..2 * times {
        let state = if time % 2 == 0 { Health::Critical } else { Health::Passing };
        let from_ms = net.wall_ms();
        net.call(3, report("1", state)).unwrap();
        meanwhile(net, time);
        while net.wall_ms() - from_ms < each_ms {
            net.run_ms(10);
            let now = remote(net, 7, "east", "web");
            flips += usize::from(std::mem::replace(&mut seen, now) != now);
        }
    }
    flips
}

#[test]
fn what_flaps_is_down_over_there_until_it_keeps_still_and_costs_next_to_nothing() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(30_000);
    let idle = net.wan_bytes;
    net.run_ms(40_000);
    let idle = net.wan_bytes - idle;
    let before = net.wan_bytes;
    let flips = flap(&mut net, 20, 1_000, |_, _| {});
    let bytes = net.wan_bytes - before;
    assert_eq!(flips, 3, "down, up, and down until it keeps still");
    assert!(bytes <= idle + 2_000, "{bytes} B, where a quiet link takes {idle} B");
    assert!(all_see(&net, "web", 0));
    let still_ms = until(&mut net, |net| all_see(net, "web", 1));
    assert!((3_900..=4_000 + 2 * WAY_MS + HOME_MS).contains(&still_ms), "{still_ms} ms after it was seen well for a second");
    net.run_ms(60_000);
    let last = flap(&mut net, 1, 1_000, |_, _| {});
    assert_eq!(last, 2, "who fails once in a while is back as soon as it is well");
}

#[test]
fn what_flaps_for_ever_crosses_as_it_is_once_a_minute_and_down_where_it_ends_down() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_000);
    let flips = flap(&mut net, 100, 900, |_, _| {});
    assert!((5..=9).contains(&flips), "{flips} in three minutes");
    net.call(3, report("1", Health::Critical)).unwrap();
    net.run_ms(15_000);
    assert!(all_see(&net, "web", 0));
}

#[test]
fn nothing_waits_for_a_flapping_neighbour() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_000);
    flap(&mut net, 5, 1_000, |_, _| {});
    flap(&mut net, 5, 2_000, |net, time| {
        net.run_ms(500);
        net.call(3, register("db", &time.to_string())).unwrap();
        let new_ms = until(net, |net| all_see(net, "db", time + 1));
        assert!(new_ms <= 100 + WAY_MS + HOME_MS, "{new_ms} ms");
    });
    net.call(3, report("1", Health::Critical)).unwrap();
    let failed_ms = until(&mut net, |net| all_see(net, "web", 0));
    assert!(failed_ms <= 10 + WAY_MS + HOME_MS, "what was let go with it counts as said: failed after {failed_ms} ms");
    net.call(3, deregister("web", "1")).unwrap();
    let gone_ms = until(&mut net, |net| (4..8).all(|host| all(net, host, "east", "web") == 0));
    assert!(gone_ms <= 10 + WAY_MS + HOME_MS, "{gone_ms} ms");
}
