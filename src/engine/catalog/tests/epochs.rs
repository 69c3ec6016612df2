//! The lives of an origin: what a restart costs, and what it must not lose or bring back.

use super::*;
use crate::model::entry::EntryKey;

fn epoch(world: &World, at: usize) -> u64 {
    world.agents[at].catalog.head(node(at)).unwrap().epoch
}

#[test]
fn a_clean_return_costs_nothing() {
    let mut world = World::new(3);
    for id in 0..20 {
        world.register(0, "web", &id.to_string(), 80);
    }
    world.deregister(0, "web", "3");
    world.settle();
    for _ in 0..3 {
        let before = epoch(&world, 0);
        let disk = world.agents[0].disk.clone();
        world.restart(0, disk);
        assert!(epoch(&world, 0) > before);
        assert_eq!(world.see(0, "web").len(), 19, "known from the disk, before anybody is heard");
        world.tell(1, 0);
        assert_eq!((world.tell(0, 1), world.tell(0, 2)), (0, 0), "no snapshot");
        assert_eq!(world.agents[1].catalog.head(node(0)), world.agents[0].catalog.head(node(0)));
    }
    world.register(0, "web", "new", 80);
    world.settle();
    assert_eq!(world.see(2, "web").len(), 20);
}

#[test]
fn with_a_clock_that_went_back_an_epoch_still_rises() {
    let mut world = World::new(1);
    let before = epoch(&world, 0);
    let disk = world.agents[0].disk.clone();
    world.now.wall_ms -= 1_000_000;
    world.restart(0, disk);
    assert!(epoch(&world, 0) > before);
}

#[test]
fn an_older_copy_of_the_disk_loses_nothing_and_brings_nothing_back() {
    let mut world = World::new(3);
    for id in ["kept", "changed", "deleted", "again"] {
        world.register(0, "web", id, 80);
    }
    let copy = world.agents[0].disk.clone();
    world.register(0, "web", "changed", 81);
    world.deregister(0, "web", "deleted");
    world.deregister(0, "web", "again");
    world.register(0, "web", "again", 82);
    world.register(0, "web", "late", 83);
    world.settle();
    // Longer than tombstones are kept.
    world.wait(700_000);
    world.restart(0, copy);
    // In this life, before anybody is heard:
    world.register(0, "web", "changed", 90);
    world.register(0, "web", "fresh", 91);
    world.deregister(0, "web", "kept");
    world.settle();
    let mut expected = [("again", 82), ("changed", 90), ("fresh", 91), ("late", 83)].map(|(id, port)| (id.to_owned(), port)).to_vec();
    for at in 0..3 {
        let mut seen = world.see(at, "web");
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "at agent {at}");
    }
    assert_eq!(world.agents[0].catalog.counters.adoptions, 1);
    // The disk holds what was taken back.
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    assert_eq!(world.tell(0, 1), 0);
    assert_eq!(world.see(0, "web").len(), 4);
}

#[test]
fn what_was_sent_but_not_stored_is_taken_back_from_who_got_it() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    let stored = world.agents[0].disk.clone();
    world.register(0, "web", "2", 80);
    world.settle();
    world.restart(0, stored);
    world.register(0, "web", "3", 80);
    world.settle();
    for at in 0..2 {
        assert_eq!(world.see(at, "web").len(), 3);
    }
}

#[test]
fn what_a_full_disk_did_not_take_is_taken_back_from_others_or_written_again() {
    for is_restated in [false, true] {
        let mut world = World::new(2);
        world.register(0, "web", "1", 80);
        let full = world.agents[0].disk.clone();
        world.register(0, "web", "2", 80);
        world.deregister(0, "web", "1");
        world.agents[0].disk = full;
        // There is room again.
        if is_restated {
            world.agents[0].catalog.restate();
        }
        world.register(0, "web", "3", 80);
        world.settle();
        let disk = world.agents[0].disk.clone();
        world.restart(0, disk);
        assert_eq!(world.agents[0].catalog.counters.torn_disks, u64::from(!is_restated));
        world.settle();
        for at in 0..2 {
            let mut seen = world.see(at, "web");
            seen.sort();
            assert_eq!(seen, [("2".into(), 80), ("3".into(), 80)]);
        }
    }
}

#[test]
fn whoever_knows_most_of_a_lost_tail_is_heard_in_the_end() {
    let mut world = World::new(4);
    world.register(0, "web", "1", 80);
    world.settle();
    let copy = world.agents[0].disk.clone();
    for at in 1..4 {
        world.register(0, "web", &format!("tail{at}"), 80);
        world.tell(0, at);
    }
    world.restart(0, copy);
    world.register(0, "web", "new", 80);
    // The one that knows least is heard first, and tells nobody else.
    for at in 1..4 {
        world.tell(at, 0);
        world.tell(0, at);
        world.register(0, "web", &format!("between{at}"), 80);
        world.tell(0, at);
    }
    world.settle();
    for at in 0..4 {
        assert_eq!(world.see(at, "web").len(), 8, "at agent {at}");
    }
}

#[test]
fn a_lost_tail_of_which_a_part_comes_is_not_taken_over_before_all_of_it() {
    let mut world = World::new(2);
    let copy = world.agents[0].disk.clone();
    for id in 0..40 {
        world.register(0, "web", &id.to_string(), 80);
    }
    world.register(0, "web", "0", 81);
    world.settle();
    world.restart(0, copy);
    let before = epoch(&world, 0);
    let Supply::Batch(part) = world.agents[1].catalog.batch_after(node(0), 0, 0, 0, 1_000) else { panic!("it has all of it") };
    assert!(part.to < world.agents[1].catalog.head(node(0)).unwrap().seq, "what changed again is in a later part");
    let applied = world.agents[0].catalog.apply(world.now, part);
    assert!(applied.needs_snapshot);
    assert_eq!((epoch(&world, 0), world.see(0, "web").len()), (before, 0), "nothing of it counts");
    world.settle();
    assert_eq!(world.see(0, "web").len(), 40);
    assert_eq!(world.see(1, "web").len(), 40);
}

#[test]
fn a_life_in_between_does_not_make_a_lost_tail_good() {
    let mut world = World::new(2);
    for id in ["1", "deleted"] {
        world.register(0, "web", id, 80);
    }
    let copy = world.agents[0].disk.clone();
    world.register(0, "web", "2", 80);
    world.deregister(0, "web", "deleted");
    world.settle();
    world.restart(0, copy);
    world.register(0, "web", "3", 80);
    // It restarts before anybody told it what it lost: its base is a life that nobody but itself has seen.
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    world.register(0, "web", "4", 80);
    world.settle();
    for at in 0..2 {
        let mut seen = world.see(at, "web");
        seen.sort();
        assert_eq!(seen, ["1", "2", "3", "4"].map(|id| (id.to_owned(), 80)), "at agent {at}");
    }
    assert_eq!(world.agents[1].catalog.counters.tails_lost, 0);
}

#[test]
fn what_a_disk_went_through_is_stored_with_it() {
    let mut world = World::new(3);
    world.register(0, "web", "1", 80);
    world.settle();
    let copy = world.agents[0].disk.clone();
    world.register(0, "web", "2", 80);
    world.tell(0, 1);
    world.restart(0, copy);
    // Taken back from agent 1; agent 2 has not heard of it, and the life is not heard of there before its end.
    world.tell(1, 0);
    for _ in 0..3 {
        let disk = world.agents[0].disk.clone();
        world.restart(0, disk);
    }
    assert_eq!(world.agents[0].catalog.counters.adoptions, 0);
    world.settle();
    assert_eq!(world.agents[0].catalog.counters.adoptions, 0, "it knows that it has all of it");
    for at in 0..3 {
        assert_eq!(world.see(at, "web").len(), 2, "at agent {at}");
    }
}

#[test]
fn a_new_life_is_refused_while_more_is_known_than_it_stands_on() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    let copy = world.agents[0].disk.clone();
    world.register(0, "web", "2", 80);
    world.settle();
    world.restart(0, copy);
    let now = world.now;
    let Supply::Batch(batch) = world.agents[0].catalog.batch_after(node(0), 0, 0, 0, usize::MAX) else {
        let mut reader = world.agents[0].catalog.snapshot(node(0)).unwrap();
        let mut staged = world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()).unwrap();
        while let Chunk::Records(records) = reader.next(&world.agents[0].catalog, 1_000) {
            staged.push(records);
        }
        let applied = world.agents[1].catalog.finish(now, staged);
        assert_eq!(applied.tell_origin.map(|advert| advert.epoch), world.agents[1].catalog.head(node(0)).map(|head| head.epoch));
        assert_eq!(world.see(1, "web").len(), 2, "what is known is kept");
        // An origin that never answers does not hold everybody up for ever.
        world.wait(61_000);
        let now = world.now;
        let mut reader = world.agents[0].catalog.snapshot(node(0)).unwrap();
        let mut staged = world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()).unwrap();
        while let Chunk::Records(records) = reader.next(&world.agents[0].catalog, 1_000) {
            staged.push(records);
        }
        assert!(world.agents[1].catalog.finish(now, staged).advanced);
        assert_eq!(world.agents[1].catalog.counters.tails_lost, 1);
        return;
    };
    panic!("a restarted origin has a floor: {batch:?}");
}

#[test]
fn what_a_lost_life_said_last_still_counts() {
    let key = || EntryKey::new("k").unwrap();
    let put = |value: &str| Command::PutEntry {
        namespace: Namespace::default(),
        key: key(),
        value: value.as_bytes().to_vec(),
        flags: 0,
        condition: Condition::Always,
    };
    let mut world = World::new(3);
    let copy = world.agents[0].disk.clone();
    // Agent 0 writes later than agent 1, and neither hears of the other.
    world.register(1, "web", "1", 81);
    world.wait(10);
    world.register(0, "web", "1", 80);
    world.register(0, "web", "2", 80);
    world.write(0, put("later"));
    world.tell(1, 2);
    world.tell(0, 2);
    assert_eq!(world.see(2, "web"), [("1".into(), 80), ("2".into(), 80)]);
    // Agent 0 comes back on an older disk, and never takes up what agent 2 knows.
    world.restart(0, copy);
    let refused = world.snapshot(0, 2, node(0));
    assert!(refused.tell_origin.is_some(), "what is known is kept");
    world.wait(61_000);
    assert!(world.snapshot(0, 2, node(0)).advanced);
    assert_eq!(world.see(2, "web"), [], "agent 1's record was written over");
    let view = world.view(2);
    assert_eq!(view.entry("default", "k").expect("entries outlive their origin's lives").value(), b"later");
}

#[test]
fn an_agent_that_hears_of_a_later_life_of_its_own_takes_an_epoch_above() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let disk = world.agents[0].disk.clone();
    // A copy of the disk ran elsewhere for a while, with a fast clock.
    world.now.wall_ms += 10_000_000;
    world.restart(0, disk.clone());
    world.register(0, "web", "elsewhere", 80);
    world.settle();
    let heard = epoch(&world, 0);
    world.now.wall_ms -= 10_000_000;
    world.restart(0, disk);
    world.settle();
    assert!(epoch(&world, 0) > heard);
    for at in 0..2 {
        assert_eq!(world.see(at, "web").len(), 2);
    }
}

#[test]
fn an_agent_that_missed_a_life_takes_a_snapshot_of_the_next() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    for id in ["2", "3"] {
        let disk = world.agents[0].disk.clone();
        world.restart(0, disk);
        world.register(0, "web", id, 80);
    }
    assert_eq!(world.tell(0, 1), 1);
    assert_eq!(world.see(1, "web").len(), 3);
}
