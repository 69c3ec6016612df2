//! Services that cross as summaries (protocol.md §6): what is known of them elsewhere, and when.

use super::datacenters::{all, deregister, register, remote, site};
use super::harness::{Net, Site};
use crate::engine::config::{Export, ExportPolicy, ExportRule};
use crate::model::command::Command;
use crate::model::names::{Datacenter, Namespace, ServiceName};
use crate::model::summary::Summary;

fn policy(edition: u16, otherwise: Export) -> ExportPolicy {
    let rule = |service: &str, export| ExportRule { namespace: None, service: service.into(), export };
    ExportPolicy { edition, rules: vec![rule("full*", Export::Full), rule("secret", Export::None)], otherwise }
}

/// Hosts 0 to 3 are east's, which tells summaries of what is not `full*` or `secret`; 4 to 7 are west's. The first two of each are gateways.
fn east_and_west() -> Net {
    let export = policy(0, Export::Summary);
    let mut net = Net::of_datacenters(&[Site { export, ..site("east", 2, 2) }, site("west", 2, 2)]);
    net.run_ms(15_000);
    net
}

fn summary<'a>(net: &'a Net, host: usize, service: &str) -> Option<&'a Summary> {
    net.view(host).datacenter("east")?.summary("default", service).map(|one| &one.summary)
}

/// Instances and available ones, as all of west's that live are told.
fn told(net: &Net, service: &str) -> Vec<Option<(u32, u32)>> {
    let hosts = (4..8).filter(|host| net.is_alive(*host));
    hosts.map(|host| summary(net, host, service).map(|summary| (summary.instances, summary.available))).collect()
}

#[test]
fn a_summary_crosses_without_instances_and_follows_what_happens() {
    let mut net = east_and_west();
    for (service, id) in [("web", "1"), ("web", "2"), ("full-1", "1"), ("secret", "1")] {
        net.call(3, register(service, id)).unwrap();
    }
    net.run_ms(2_500);
    assert_eq!(told(&net, "web"), [Some((2, 2)); 4]);
    for host in 4..8 {
        assert_eq!((remote(&net, host, "east", "web"), remote(&net, host, "east", "full-1")), (0, 1), "host {host}");
        assert_eq!((summary(&net, host, "full-1"), summary(&net, host, "secret")), (None, None), "host {host}");
    }
    net.call(3, deregister("web", "2")).unwrap();
    net.run_ms(2_500);
    assert_eq!(told(&net, "web"), [Some((1, 1)); 4]);
    net.kill(3);
    net.run_ms(8_000);
    assert_eq!(told(&net, "web"), [Some((1, 0)); 4], "a death is told as any change");
}

#[test]
fn a_summary_that_did_not_change_is_not_said_again() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(5_000);
    let revision = |net: &Net| net.view(7).datacenter("east").unwrap().revision_of("default", "web");
    let before = (revision(&net), net.engine(7).imports().root());
    net.call(3, register("other", "1")).unwrap();
    net.run_ms(5_000);
    assert_eq!(revision(&net), before.0, "whoever waits for one service is not woken by another");
    let bytes = net.wan_bytes;
    net.run_ms(60_000);
    let a_second = (net.wan_bytes - bytes) / 60;
    // Four gateways with a link each way between the two sides' firsts.
    assert!(a_second <= 1_600, "{a_second} B/s among four gateways");
}

#[test]
fn summaries_outlive_gateways_of_either_side_and_the_last_of_them() {
    let mut net = east_and_west();
    net.call(2, register("web", "1")).unwrap();
    net.run_ms(3_000);
    for (killed, count) in [(0, 2), (5, 3)] {
        net.kill(killed);
        net.run_ms(15_000);
        net.call(2, register("web", &count.to_string())).unwrap();
        net.run_ms(5_000);
        assert_eq!(told(&net, "web"), [Some((count, count)); 4][..told(&net, "web").len()], "without host {killed}");
    }
    net.kill(4);
    net.run_ms(30_000);
    assert_eq!(told(&net, "web"), [Some((3, 3)); 2], "what was said last is kept");
}

#[test]
fn a_gateway_that_hears_nobody_takes_back_that_its_former_life_was_told_summaries() {
    // East's only gateway has one link to west: the other of west's gateways hears nobody.
    let mut net = Net::of_datacenters(&[Site { export: policy(0, Export::Summary), ..site("east", 1, 2) }, site("west", 2, 1)]);
    net.call(2, register("web", "1")).unwrap();
    net.run_ms(20_000);
    let deaf = (3..5).find(|host| !net.import(*host, "east").1.says_it_hears()).expect("one of the two hears nobody");
    // Peers give back what they hold of its former life: all but the word on its link, which it has said anew by then.
    let (now, import) = net.import(deaf, "east");
    import.say_source(now, true);
    assert!(import.says_it_hears());
    net.run_ms(5_000);
    assert!(!net.import(deaf, "east").1.says_it_hears());
    let told = (3..6).map(|host| summary(&net, host, "web").map(|summary| summary.instances));
    assert_eq!(told.collect::<Vec<_>>(), [Some(1); 3]);
}

#[test]
fn a_gateway_that_returns_takes_over_from_the_one_that_stood_in() {
    let mut net = east_and_west();
    for (count, absent) in [0, 1, 0].into_iter().enumerate() {
        net.kill(absent);
        net.run_ms(15_000);
        net.restart(absent, |_| {});
        net.run_ms(30_000);
        net.call(2, register("web", &count.to_string())).unwrap();
        net.run_ms(5_000);
        let count = count as u32 + 1;
        assert_eq!(told(&net, "web"), [Some((count, count)); 4], "after host {absent} was away");
    }
}

#[test]
fn a_cut_keeps_summaries_and_a_heal_brings_what_they_are_now() {
    let mut net = east_and_west();
    net.call(2, register("web", "1")).unwrap();
    net.call(2, register("gone", "1")).unwrap();
    net.run_ms(3_000);
    net.set_cut("east", true);
    net.call(2, deregister("gone", "1")).unwrap();
    net.call(2, register("web", "2")).unwrap();
    net.run_ms(60_000);
    assert_eq!((told(&net, "web"), told(&net, "gone")), (vec![Some((1, 1)); 4], vec![Some((1, 1)); 4]));
    net.set_cut("east", false);
    net.run_ms(90_000);
    assert_eq!((told(&net, "web"), told(&net, "gone")), (vec![Some((2, 2)); 4], vec![None; 4]));
}

#[test]
fn a_wider_policy_turns_summaries_into_instances_and_a_narrower_one_back() {
    let mut net = Net::of_datacenters(&[Site { export: policy(0, Export::Summary), ..site("east", 1, 2) }, site("west", 1, 2)]);
    net.run_ms(10_000);
    net.call(1, register("web", "1")).unwrap();
    net.run_ms(3_000);
    let seen = |net: &Net| {
        let of = |host: usize| (summary(net, host, "web").is_some(), remote(net, host, "east", "web"));
        (3..6).map(of).collect::<Vec<_>>()
    };
    assert_eq!(seen(&net), [(true, 0); 3]);
    for (edition, otherwise, wanted) in [(1, Export::Full, (false, 1)), (2, Export::Summary, (true, 0)), (3, Export::None, (false, 0))] {
        net.restart(0, |config| config.gateway.as_mut().unwrap().export = policy(edition, otherwise));
        net.run_ms(60_000);
        assert_eq!(seen(&net), [wanted; 3], "edition {edition}");
    }
}

#[test]
fn a_flood_of_services_is_told_whole_and_in_the_end_as_it_is() {
    let mut net = east_and_west();
    for id in 0..300 {
        net.call(id % 4, register(&format!("web-{id}"), "1")).unwrap();
    }
    net.run_ms(5_000);
    for host in 4..8 {
        assert_eq!(net.view(host).datacenter("east").unwrap().summaries.len(), 300, "host {host}");
    }
}

fn look_up(net: &mut Net, host: usize, service: &str) {
    let (datacenter, service) = (Datacenter::new("east").unwrap(), ServiceName::new(service).unwrap());
    net.call(host, Command::Fetch { datacenter, namespace: Namespace::default(), service }).unwrap();
}

/// How old the answer is that a host shows; none where it has none.
fn age_ms(net: &Net, host: usize, service: &str) -> Option<u64> {
    net.view(host).datacenter("east")?.fetched_ms("default", service).map(|fetched_ms| net.wall_ms() - fetched_ms)
}

#[test]
fn a_service_that_is_looked_up_is_fetched_for_all_agents_and_fetched_anew_while_it_is() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.call(2, register("web", "2")).unwrap();
    net.run_ms(2_500);
    assert_eq!((remote(&net, 7, "east", "web"), age_ms(&net, 7, "web")), (0, None), "nobody asked yet");
    look_up(&mut net, 7, "web");
    net.run_ms(200);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 2, "host {host}");
        assert!(age_ms(&net, host, "web").is_some_and(|ms| ms < 200), "host {host}");
        assert_eq!(net.available(host, "web"), 0, "host {host}: a plain lookup is local");
    }
    let entry = &net.view(7).datacenter("east").unwrap().view.service("default", "web").unwrap().entries[0];
    assert_eq!((entry.node.datacenter.as_str(), entry.instance().unwrap().1.port), ("east", Some(80)));
    net.call(3, deregister("web", "1")).unwrap();
    net.run_ms(10_000);
    assert_eq!(remote(&net, 6, "east", "web"), 2, "an answer of ten seconds ago");
    look_up(&mut net, 6, "web");
    net.run_ms(200);
    for host in 4..8 {
        assert_eq!((remote(&net, host, "east", "web"), all(&net, host, "east", "web")), (1, 1), "host {host}");
    }
    let before = net.view(7).datacenter("east").unwrap().revision_of("default", "web");
    net.run_ms(11_000);
    look_up(&mut net, 7, "web");
    net.run_ms(200);
    assert!(age_ms(&net, 4, "web").is_some_and(|ms| ms < 200), "fetched anew");
    assert_eq!(net.view(7).datacenter("east").unwrap().revision_of("default", "web"), before, "and nobody is woken by the same");
}

#[test]
fn an_answer_that_nobody_looks_up_is_dropped_and_a_cut_keeps_it_with_its_age() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_500);
    look_up(&mut net, 7, "web");
    net.run_ms(280_000);
    assert_eq!(remote(&net, 5, "east", "web"), 1);
    net.run_ms(30_000);
    for host in 4..8 {
        assert_eq!((remote(&net, host, "east", "web"), age_ms(&net, host, "web")), (0, None), "host {host}");
    }
    look_up(&mut net, 7, "web");
    net.run_ms(1_000);
    net.set_cut("east", true);
    net.run_ms(400_000);
    for host in 4..8 {
        assert_eq!(remote(&net, host, "east", "web"), 1, "host {host}: kept");
        assert!(age_ms(&net, host, "web").is_some_and(|ms| ms > 400_000), "host {host}");
    }
}

/// Which of west's two gateways fetched what it looked up in east.
fn keeper(net: &Net) -> usize {
    let keeps = |host: usize| !net.engine(host).imports().by_lane.values().next().unwrap().answered().is_empty();
    let keeper = if keeps(4) { 4 } else { 5 };
    assert!(keeps(keeper) && !keeps(9 - keeper), "one of them fetched it");
    keeper
}

#[test]
fn a_gateway_that_dies_leaves_its_answers_until_another_fetches_them() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_500);
    look_up(&mut net, 7, "web");
    net.run_ms(1_000);
    let keeper = keeper(&net);
    let revision = |net: &Net| net.view(7).datacenter("east").unwrap().view.revision_of("default", "web");
    let before = revision(&net);
    net.kill(keeper);
    for _ in 0..150 {
        net.run_ms(100);
        assert_eq!(remote(&net, 7, "east", "web"), 1, "whoever reads goes on reading");
    }
    look_up(&mut net, 7, "web");
    net.run_ms(200);
    assert!(age_ms(&net, 7, "web").is_some_and(|ms| ms < 200) && age_ms(&net, 6, "web").is_some_and(|ms| ms < 200));
    assert_eq!(revision(&net), before, "and is not woken by the same from another");
    // What the dead one left must not come again when the living one's is dropped.
    net.run_ms(310_000);
    assert_eq!((remote(&net, 7, "east", "web"), age_ms(&net, 6, "web")), (0, None));
}

#[test]
fn what_a_dead_gateway_fetched_is_dropped_in_the_end() {
    let mut net = east_and_west();
    net.call(3, register("web", "1")).unwrap();
    net.run_ms(2_500);
    look_up(&mut net, 7, "web");
    net.run_ms(1_000);
    net.kill(keeper(&net));
    net.run_ms(310_000);
    // Whatever happens next makes readers look at it again.
    net.call(3, register("other", "1")).unwrap();
    net.run_ms(2_500);
    assert_eq!((remote(&net, 7, "east", "web"), age_ms(&net, 7, "web")), (0, None));
}

#[test]
fn only_what_is_known_by_summary_is_asked_for_and_only_that_is_told() {
    let mut net = east_and_west();
    for service in ["web", "full-1", "secret"] {
        net.call(3, register(service, "1")).unwrap();
    }
    net.run_ms(2_500);
    for service in ["full-1", "secret", "unheard-of"] {
        look_up(&mut net, 7, service);
        net.run_ms(500);
        assert_eq!(age_ms(&net, 7, service), None, "{service}");
    }
    assert_eq!(remote(&net, 7, "east", "full-1"), 1);
}

#[test]
fn what_crosses_by_itself_again_takes_the_place_of_what_was_fetched() {
    let mut net = Net::of_datacenters(&[Site { export: policy(0, Export::Summary), ..site("east", 1, 2) }, site("west", 1, 2)]);
    net.run_ms(10_000);
    net.call(1, register("web", "1")).unwrap();
    net.run_ms(3_000);
    look_up(&mut net, 5, "web");
    net.run_ms(500);
    assert_eq!(remote(&net, 5, "east", "web"), 1);
    net.restart(0, |config| config.gateway.as_mut().unwrap().export = policy(1, Export::Full));
    net.run_ms(60_000);
    net.call(1, register("web", "2")).unwrap();
    net.run_ms(2_000);
    for host in 3..6 {
        assert_eq!((remote(&net, host, "east", "web"), age_ms(&net, host, "web")), (2, None), "host {host}");
    }
    net.call(1, deregister("web", "1")).unwrap();
    net.run_ms(2_000);
    assert_eq!(remote(&net, 5, "east", "web"), 1);
}

#[test]
fn a_large_service_comes_in_pieces_and_one_that_is_too_large_is_refused() {
    let mut net = east_and_west();
    for batch in 0..8 {
        let commands = (0..250).map(|id| register("web", &format!("{batch}-{id}-{}", "x".repeat(100)))).collect();
        net.call(3, Command::Batch(commands)).unwrap();
    }
    net.run_ms(3_000);
    look_up(&mut net, 7, "web");
    net.run_ms(3_000);
    assert_eq!(remote(&net, 7, "east", "web"), 2_000);
    for batch in 8..28 {
        let commands = (0..250).map(|id| register("web", &format!("{batch}-{id}-{}", "x".repeat(100)))).collect();
        net.call(3, Command::Batch(commands)).unwrap();
    }
    net.run_ms(12_000);
    look_up(&mut net, 7, "web");
    net.run_ms(3_000);
    assert_eq!(remote(&net, 7, "east", "web"), 2_000, "what was fetched before, with its age");
    let refused = |host: usize| net.engine(host).counters().dropped.get("answer_impossible").copied().unwrap_or(0);
    assert_eq!(refused(0) + refused(1), 1);
}
