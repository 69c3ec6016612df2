//! Batches and snapshots in any order, and what deletes may forget.

use super::*;
use crate::engine::wire::packet::Advert;
use crate::model::record::{AsOf, Batch, Content, RecordState, Uid};
use proptest::prelude::*;

/// An origin's live records by uid, as an agent holds them: what must be equal where heads are.
fn map(world: &World, at: usize, origin: NodeId) -> Vec<(Uid, Seq)> {
    let table = &world.agents[at].catalog.table;
    let ix = table.origin_ix(origin).unwrap();
    let mut live: Vec<(Uid, Seq)> =
        table.origin(ix).order.slots().map(|ix| table.slot(ix)).filter(|slot| slot.is_live()).map(|slot| (slot.uid(), slot.seq)).collect();
    live.sort();
    live
}

#[test]
fn move_delete_return() {
    let mut world = World::new(3);
    world.register(0, "web", "x", 80);
    world.settle();
    // Agent 0 is cut off; the client moves to agent 1, and is deleted there.
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    world.register(1, "web", "x", 81);
    world.tell(1, 2);
    world.deregister(1, "web", "x");
    world.tell(1, 2);
    world.wait(3_600_000);
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Alive);
    }
    for at in 0..3 {
        let seen = world.see(at, "web");
        assert!(at == 0 || seen.is_empty(), "at agent {at}: {seen:?}");
    }
    world.tell(0, 1);
    world.tell(0, 2);
    assert_eq!((world.see(1, "web"), world.see(2, "web")), (vec![], vec![]), "not even before agent 0 hears of it");
    world.settle();
    assert_eq!(world.see(0, "web"), []);
    world.wait(3_600_000);
    world.settle();
    assert!((0..3).all(|at| map(&world, at, node(1)).len() == 1), "the tombstones have gone, and nothing came back");
}

#[test]
fn a_delete_outlives_the_agent_it_was_written_at() {
    let mut world = World::new(4);
    world.register(0, "web", "x", 80);
    world.settle();
    for at in 1..4 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    // Agent 1 deletes what cut-off agent 0 holds, and its disk is wiped; agent 3 hears of neither.
    world.deregister(1, "web", "x");
    world.tell(1, 2);
    world.agents[2].catalog.taken_over(world.now, node(1));
    assert_eq!(world.see(2, "web"), [], "not a moment without the delete");
    world.wait(60_000);
    assert_eq!(world.see(2, "web"), []);
    let mark = world.agents[2].catalog.batch_after(node(1), 0, 0, 0, usize::MAX);
    let Supply::Batch(mark) = mark else { panic!("the mark is told") };
    world.agents.remove(1);
    world.agents[2].catalog.on_member(world.now, node(1), Word::Down);
    world.agents[0].catalog.on_member(world.now, node(1), Word::Down);
    for at in [0, 2] {
        world.agents[at].catalog.apply(world.now, mark.clone());
    }
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Alive);
    }
    world.settle();
    for at in 0..3 {
        assert_eq!(world.see(at, "web"), [], "at agent {at}");
    }
}

/// Agent 0 on one side of a cut and the rest on the other, or all together again.
fn cut_off_first(world: &mut World, is_cut: bool) {
    let word = if is_cut { Word::Down } else { Word::Alive };
    for at in 1..world.agents.len() {
        world.agents[at].catalog.on_member(world.now, node(0), word);
        world.agents[0].catalog.on_member(world.now, node(at), word);
    }
}

/// Tombstones of all origins that an agent holds.
fn tombstones(world: &World, at: usize) -> usize {
    let catalog = &world.agents[at].catalog;
    let origins = (0..world.agents.len()).map(node);
    origins.flat_map(|origin| catalog.records(origin)).filter(|(_, record)| matches!(record.state, RecordState::Deleted { .. })).count()
}

#[test]
fn a_word_that_nobody_saw_does_not_outlive_its_delete() {
    let mut world = World::new(3);
    cut_off_first(&mut world, true);
    world.register(0, "web", "x", 80);
    world.wait(1_000);
    world.register(1, "web", "x", 81);
    world.deregister(1, "web", "x");
    world.tell(1, 2);
    world.wait(20 * 3_600_000);
    cut_off_first(&mut world, false);
    for at in 1..3 {
        world.tell(0, at);
        assert_eq!(world.see(at, "web"), [], "at agent {at}");
    }
    world.settle();
    assert_eq!(world.see(0, "web"), []);
    assert!(tombstones(&world, 1) > 0, "agent 0 is not long enough back");
    world.wait(1_300_000);
    assert_eq!([0, 1, 2].map(|at| tombstones(&world, at)), [0, 0, 0], "all have heard all");
}

#[test]
fn tombstones_that_await_an_origin_are_bounded_and_end_with_it() {
    let mut world = World::new(3);
    world.settle();
    cut_off_first(&mut world, true);
    world.agents[1].catalog.config.awaiting_tombstones_max = 5;
    for n in 0..8 {
        world.register(1, "web", &n.to_string(), 80);
        world.deregister(1, "web", &n.to_string());
    }
    world.tell(1, 2);
    world.wait(3_600_000);
    assert_eq!([1, 2].map(|at| tombstones(&world, at)), [5, 8]);
    assert_eq!(world.agents[1].catalog.counters.tombstones_early, 3);
    assert_eq!(world.agents[1].catalog.awaiting_tombstones(), 5);
    world.wait(4 * 24 * 3_600_000);
    assert_eq!([1, 2].map(|at| tombstones(&world, at)), [0, 0], "agent 0 was given up");
    assert_eq!(world.agents[2].catalog.counters.tombstones_early, 0);
}

#[test]
fn who_left_with_a_goodbye_is_not_awaited() {
    let mut world = World::new(3);
    world.ask(0, Command::Leave).unwrap();
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Left);
    }
    world.register(1, "web", "x", 80);
    world.deregister(1, "web", "x");
    world.wait(1_300_000);
    assert_eq!(tombstones(&world, 1), 0);
}

#[test]
fn the_delete_of_an_origin_that_is_given_up_still_bounds_new_claims() {
    let mut world = World::new(3);
    // At one instant, so that claims run ahead of the clock.
    for port in 80..85 {
        world.register(1, "web", "x", port);
        world.deregister(1, "web", "x");
    }
    world.settle();
    let uid = registration("web", "x", 80).key().uid(node(1));
    let deleted = world.agents[2].catalog.claim(node(1), uid).unwrap();
    world.agents[2].catalog.taken_over(world.now, node(1));
    world.register(2, "web", "x", 90);
    let claim = world.agents[2].catalog.claim(node(2), uid).unwrap();
    assert!(claim > deleted, "{claim} would lose against the delete at {deleted} where agent 1 is not given up yet");
    world.wait(1_300_000);
    assert_eq!(world.agents[2].catalog.records(node(1)).count(), 0, "and then it goes like any other");
}

#[test]
fn what_an_instance_took_the_place_of_does_not_come_back_when_its_origin_is_given_up() {
    let mut world = World::new(4);
    world.register(0, "web", "x", 80);
    world.settle();
    cut_off_first(&mut world, true);
    // Moved, deleted and registered again, which is all that is known of it in the end; then the disk is wiped.
    world.register(1, "web", "x", 81);
    world.deregister(1, "web", "x");
    world.register(1, "web", "x", 82);
    world.tell(1, 2);
    assert_eq!(world.see(2, "web"), [("x".into(), 82)]);
    world.agents[2].catalog.taken_over(world.now, node(1));
    assert_eq!(world.see(2, "web"), [], "not what agent 0 wrote before");
    world.wait(60_000);
    assert_eq!(world.see(2, "web"), []);
    // Its client is back, whatever the clock says.
    world.register(2, "web", "x", 83);
    assert_eq!(world.see(2, "web"), [("x".into(), 83)]);
    world.agents[0].catalog.taken_over(world.now, node(1));
    world.agents[3].catalog.taken_over(world.now, node(1));
    world.agents.remove(1);
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Alive);
    }
    world.settle();
    for at in 0..3 {
        assert_eq!(world.see(at, "web"), [("x".into(), 83)], "at agent {at}");
    }
}

#[test]
fn a_snapshot_without_a_tombstone_does_not_uncover_what_it_hides() {
    let mut world = World::new(3);
    world.register(0, "web", "x", 80);
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
    }
    world.deregister(1, "web", "x");
    world.tell(1, 2);
    // Agents 0 and 1 meet: 0 gives the key up, and 1 forgets its tombstone. Agent 2 has heard nothing of that.
    world.tell(1, 0);
    world.tell(0, 1);
    world.wait(1_500_000);
    world.register(1, "web", "y", 81);
    let disk = world.agents[1].disk.clone();
    world.restart(1, disk);
    world.register(1, "web", "z", 82);
    world.agents[2].catalog.on_member(world.now, node(0), Word::Alive);
    assert!(world.snapshot(1, 2, node(1)).advanced);
    assert_eq!(world.see(2, "web").len(), 2, "y and z");
    world.settle();
    assert!(world.see(2, "web").iter().all(|(id, _)| id != "x"));
}

#[test]
fn deleted_while_another_was_away_longer_than_tombstones_are_kept() {
    let mut world = World::new(2);
    for id in ["1", "2"] {
        world.register(0, "web", id, 80);
    }
    world.settle();
    world.deregister(0, "web", "1");
    world.wait(700_000);
    assert_eq!(world.tell(0, 1), 1, "below the floor only the whole is served");
    assert_eq!(world.see(1, "web"), [("2".into(), 80)]);
}

#[test]
fn a_delete_by_a_fast_clock_is_remembered_until_the_own_clock_is_past_it() {
    let mut world = World::new(2);
    world.now.wall_ms += 3_600_000;
    world.register(0, "web", "x", 80);
    world.deregister(0, "web", "x");
    world.now.wall_ms -= 3_600_000;
    world.settle();
    world.wait(1_300_000);
    world.register(1, "web", "x", 81);
    world.settle();
    assert_eq!(world.see(0, "web"), [("x".into(), 81)]);
    assert_eq!(world.see(1, "web"), [("x".into(), 81)]);
}

#[test]
fn a_delta_during_a_snapshot_is_not_undone_by_it() {
    let mut world = World::new(2);
    for id in 0..10 {
        world.register(0, "web", &id.to_string(), 80);
    }
    let now = world.now;
    let me = node(0);
    let mut reader = world.agents[0].catalog.snapshot(me).unwrap();
    world.agents[0].catalog.hold_tombstones(me, reader.head.seq);
    let mut staged = world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()).unwrap();
    let Chunk::Records(first) = reader.next(&world.agents[0].catalog, 300) else { panic!("there are ten") };
    assert!(staged.push(first));
    // While it is read: one already read goes, one comes.
    world.deregister(0, "web", "0");
    world.register(0, "web", "new", 80);
    let head = world.agents[0].catalog.head(me).unwrap();
    let delta = world.agents[0].catalog.batch_of(me, head.seq - 2, head.seq, usize::MAX).unwrap();
    assert!(world.agents[1].catalog.apply(now, delta).gap.is_some());
    world.wait(700_000);
    while let Chunk::Records(records) = reader.next(&world.agents[0].catalog, 300) {
        assert!(staged.push(records));
    }
    assert!(world.agents[1].catalog.finish(world.now, staged).advanced);
    world.agents[0].catalog.release_tombstones(me, reader.head.seq);
    assert_eq!(world.agents[1].catalog.head(me).unwrap().seq, head.seq, "the interval that was held connects");
    assert_eq!(map(&world, 1, me), map(&world, 0, me));
    assert_eq!(world.see(1, "web").len(), 10);
}

#[test]
fn a_batch_hurries_as_much_as_the_most_urgent_change_in_it() {
    let mut world = World::new(2);
    world.register(0, "web", "a", 80);
    world.settle();
    world.deregister(0, "web", "a");
    world.register(0, "web", "b", 81);
    let head = world.agents[1].catalog.head(node(0)).unwrap();
    let both = world.agents[0].catalog.batch_of(node(0), head.seq, head.seq + 2, usize::MAX).unwrap();
    assert_eq!(both.records.len(), 2, "the delete first, the registration last");
    let applied = world.agents[1].catalog.apply(world.now, both.clone());
    assert_eq!(applied.news, Some(Urgency::Removal));
    assert_eq!(world.agents[1].catalog.apply(world.now, both).news, None, "known by now");
}

#[test]
fn a_snapshot_that_came_too_late_is_dropped() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    let now = world.now;
    let mut reader = world.agents[0].catalog.snapshot(node(0)).unwrap();
    let mut staged = world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()).unwrap();
    while let Chunk::Records(records) = reader.next(&world.agents[0].catalog, 10_000) {
        staged.push(records);
    }
    world.deregister(0, "web", "1");
    world.tell(0, 1);
    assert_eq!(world.agents[1].catalog.finish(now, staged), Applied::default());
    assert_eq!(world.see(1, "web"), []);
    assert!(world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone()).is_none());
}

#[test]
fn a_copy_that_differs_at_the_same_head_is_replaced() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.register(0, "web", "2", 80);
    let now = world.now;
    let Supply::Batch(mut batch) = world.agents[0].catalog.batch_after(node(0), 0, 0, 0, usize::MAX) else {
        panic!("nothing is forgotten")
    };
    batch.records.pop();
    let applied = world.agents[1].catalog.apply(now, batch);
    assert!(applied.needs_snapshot);
    assert_eq!(world.agents[1].catalog.counters.sum_mismatches, 1);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web").len(), 2);
    assert_eq!(map(&world, 1, node(0)), map(&world, 0, node(0)));
}

#[test]
fn what_nobody_understands_is_kept_and_passed_on() {
    let mut world = World::new(3);
    let now = world.now;
    let key = crate::model::record::Key {
        kind: Kind(77),
        scope: Scope::Datacenter,
        namespace: "default".into(),
        name: "x".into(),
        id: "".into(),
    };
    let garbled = registration("web", "1", 80).key().into_owned();
    let contents = [Content::encode(&key, &"from the future"), Content::encode(&garbled, &[7_u8; 3]), Content::from_bytes(&[0xff; 9])];
    let uids = [key.uid(node(0)), garbled.uid(node(0))];
    for (content, uid) in contents.iter().zip(uids) {
        world.agents[0].catalog.write(now, uid, START_MS, RecordState::Live(content.clone()), Urgency::Metadata);
    }
    world.agents[0].drain();
    // What has no readable key never comes from a sane origin.
    let head = world.agents[0].catalog.head(node(0)).unwrap();
    world.settle();
    let record = Record { seq: head.seq + 1, claim: 1, state: RecordState::Live(contents[2].clone()) };
    let wild = Batch {
        origin: node(0),
        epoch: head.epoch,
        base: head.base,
        from: head.seq,
        to: head.seq + 1,
        flags: head.flags,
        as_of: AsOf::Later(0),
        records: vec![record],
    };
    assert!(world.agents[1].catalog.apply(now, wild).advanced);
    world.tell(1, 2);
    let Supply::Batch(passed) = world.agents[2].catalog.batch_after(node(0), 0, 0, 0, usize::MAX) else { panic!("nothing is forgotten") };
    for content in &contents {
        assert!(passed.records.iter().any(|record| record.state == RecordState::Live(content.clone())), "byte for byte");
    }
    assert_eq!(world.see(2, "web"), []);
    assert!(world.agents[2].catalog.counters.undecodable > 0);
}

#[test]
fn an_origin_that_membership_never_named_is_held_aside() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    let mut stranger = Agent::start(5, Restored::default(), world.now);
    stranger.catalog.command(world.now, Token(1), Command::Register(Box::new(registration("web", "1", 99))));
    stranger.catalog.command(world.now, Token(2), Command::Register(Box::new(registration("web", "2", 99))));
    stranger.drain();
    let Supply::Batch(batch) = stranger.catalog.batch_after(node(5), 0, 0, 0, usize::MAX) else { panic!("nothing is forgotten") };
    let root = world.agents[0].catalog.root();
    world.agents[0].catalog.apply(world.now, batch.clone());
    assert_eq!(world.agents[0].catalog.root(), root, "not told to others");
    assert_eq!(world.see(0, "web"), [("1".into(), 80)], "and served to nobody");
    assert_eq!(world.agents[0].catalog.batch_after(node(5), 0, 0, 0, usize::MAX), Supply::Unknown);
    world.agents[0].catalog.on_member(world.now, node(5), Word::Alive);
    world.agents[0].drain();
    assert_ne!(world.agents[0].catalog.root(), root);
    assert_eq!(world.see(0, "web").len(), 2);
    // Whoever is never named is forgotten.
    world.agents[1].catalog.apply(world.now, batch);
    assert!(world.agents[1].catalog.head(node(5)).is_some());
    world.wait(61_000);
    assert!(world.agents[1].catalog.head(node(5)).is_none());
}

#[test]
fn strangers_beyond_the_limit_are_ignored() {
    let mut world = World::new(1);
    let empty = |n: u128| Batch {
        origin: NodeId(n),
        epoch: 7,
        base: Default::default(),
        from: 0,
        to: 1,
        flags: Default::default(),
        as_of: AsOf::Later(0),
        records: Vec::new(),
    };
    for n in 1..=2_000 {
        world.agents[0].catalog.apply(world.now, empty(n));
    }
    assert_eq!(world.agents[0].catalog.counters.origins_unnamed, 2_000 - apply::UNNAMED_ORIGINS_MAX as u64);
}

#[test]
fn a_batch_is_cut_to_what_fits_and_says_so() {
    let mut world = World::new(2);
    for id in 0..50 {
        world.register(0, "web", &id.to_string(), 80);
    }
    let (mut rounds, now) = (0, world.now);
    loop {
        let want = world.agents[1].catalog.want(node(0));
        match world.agents[0].catalog.batch_after(node(0), want.epoch, want.from, want.sum, 1_000) {
            Supply::Batch(batch) => {
                assert!(postcard::to_stdvec(&batch).unwrap().len() <= 1_000);
                assert!(world.agents[1].catalog.apply(now, batch).advanced);
                rounds += 1;
            }
            Supply::Nothing => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(rounds > 5);
    assert_eq!(world.see(1, "web").len(), 50);
    assert_eq!(world.agents[0].catalog.batch_after(node(0), 0, 0, 0, 100), Supply::Snapshot, "not even one record fits");
}

#[test]
fn wrong_batches_are_refused_and_harmless() {
    let mut world = World::new(2);
    world.register(0, "web", "1", 80);
    world.settle();
    let head = world.agents[0].catalog.head(node(0)).unwrap();
    let record = |seq, id: u128| Record { seq, claim: 1 << 61, state: RecordState::Deleted { uid: Uid(id), kind: Kind::INSTANCE } };
    let batch = |from, to, records| Batch {
        origin: node(0),
        epoch: head.epoch,
        base: head.base,
        from,
        to,
        flags: head.flags,
        as_of: AsOf::Later(0),
        records,
    };
    let now = world.now;
    let catalog = &mut world.agents[1].catalog;
    assert_eq!(catalog.apply(now, batch(9, 3, vec![])), Applied::default());
    // Records outside the interval, two keys under one seq, the ends of numbers.
    catalog.apply(now, batch(head.seq, head.seq + 2, vec![record(head.seq + 1, 1), record(head.seq + 1, 2), record(head.seq + 9, 3)]));
    assert_eq!(catalog.counters.records_conflicting, 1);
    catalog.apply(now, batch(u64::MAX - 1, u64::MAX, vec![record(u64::MAX, 4)]));
    catalog.apply(now, batch(0, u64::MAX, vec![]));
    let advert = Advert { origin: node(0), epoch: u64::MAX, seq: u64::MAX, flags: head.flags };
    catalog.hear(now, &advert);
    world.agents[0].catalog.hear(now, &advert);
    world.agents[0].catalog.batch_after(node(0), u64::MAX, u64::MAX, 0, usize::MAX);
    world.register(1, "web", "2", 80);
}

/// What happens to one origin.
#[derive(Debug, Clone)]
enum Change {
    Put(u8, u16),
    Delete(u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change =
        prop_oneof![3 => (0..8_u8, 1..9_u16).prop_map(|(id, port)| Change::Put(id, port)), 1 => (0..8_u8).prop_map(Change::Delete)];
    prop::collection::vec(change, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any permutation and repetition of batches, cut anywhere, with a snapshot in between, ends at the origin's history.
    #[test]
    fn any_order_of_batches_and_snapshots_ends_at_the_history(
        changes in changes(),
        cuts in prop::collection::vec((0..60_u64, 1..9_u64), 0..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        snapshot_at in prop::option::of((0..40_usize, 0..120_usize)),
    ) {
        let mut world = World::new(2);
        let me = node(0);
        let mut batches = Vec::new();
        let mut staged = None;
        let now = world.now;
        for (step, change) in changes.iter().enumerate() {
            if snapshot_at.is_some_and(|(begin, _)| begin == step) {
                let mut reader = world.agents[0].catalog.snapshot(me).unwrap();
                staged = world.agents[1].catalog.stage(now, reader.head, reader.sum, reader.lineage.clone());
                if let Some(staged) = &mut staged {
                    while let Chunk::Records(records) = reader.next(&world.agents[0].catalog, 500) {
                        staged.push(records);
                    }
                }
            }
            match change {
                Change::Put(id, port) => { world.register(0, "web", &id.to_string(), *port); }
                Change::Delete(id) => { world.deregister(0, "web", &id.to_string()); }
            }
            // What is sent is what a key is at that time, cut as the sender likes.
            let head = world.agents[0].catalog.head(me).unwrap().seq;
            for (from, len) in cuts.iter().filter(|(from, _)| *from < head) {
                batches.extend(world.agents[0].catalog.batch_of(me, *from, (from + len).min(head), usize::MAX));
            }
            batches.extend(world.agents[0].catalog.batch_of(me, head - 1, head, usize::MAX));
        }
        let mut heads = vec![world.agents[1].catalog.head(me).map_or(0, |head| head.seq)];
        for (step, at) in order.iter().enumerate() {
            let batch = at.get(&batches).clone();
            world.agents[1].catalog.apply(now, batch);
            if snapshot_at.is_some_and(|(_, end)| end == step)
                && let Some(staged) = staged.take()
            {
                world.agents[1].catalog.finish(now, staged);
            }
            heads.push(world.agents[1].catalog.head(me).map_or(0, |head| head.seq));
        }
        prop_assert!(heads.is_sorted(), "a head went back: {heads:?}");
        // All of them once, last first: then nothing may be missing.
        for batch in batches.iter().rev() {
            world.agents[1].catalog.apply(now, batch.clone());
        }
        world.tell(0, 1);
        prop_assert_eq!(world.agents[1].catalog.head(me), world.agents[0].catalog.head(me));
        prop_assert_eq!(map(&world, 1, me), map(&world, 0, me));
        prop_assert_eq!(world.agents[1].catalog.sum(me), world.agents[0].catalog.sum(me));
        prop_assert_eq!(world.agents[1].catalog.counters.sum_mismatches, 0);
        let (here, there) = (world.see(0, "web"), world.see(1, "web"));
        prop_assert_eq!(here, there, "the view is the fold of the records");
    }
}

#[test]
fn what_a_forgotten_origin_had_hidden_is_shown_again() {
    let mut world = World::new(3);
    world.register(1, "web", "1", 81);
    world.wait(10);
    world.register(0, "web", "1", 80);
    world.deregister(0, "web", "1");
    world.tell(1, 2);
    world.tell(0, 2);
    assert_eq!(world.see(2, "web"), [], "the later word is a delete");
    world.agents[2].catalog.drop_origin(node(0));
    assert_eq!(world.see(2, "web"), [("1".into(), 81)]);
}

#[test]
fn of_another_datacenter_what_a_marked_origin_hid_is_for_the_others_there_to_say() {
    let mut world = World::new(3);
    world.agents[2].catalog.config.is_import = true;
    world.register(1, "web", "1", 81);
    world.wait(10);
    world.register(0, "web", "1", 80);
    world.tell(1, 2);
    world.tell(0, 2);
    let now = world.now;
    world.agents[2].catalog.on_member(now, node(0), Word::Down);
    world.agents[2].catalog.forget(now, node(0)).unwrap();
    assert_eq!(world.see(2, "web"), [], "its heirs have their time");
    world.wait(59_000);
    assert_eq!(world.see(2, "web"), []);
    world.wait(2_000);
    assert_eq!(world.see(2, "web"), [("1".into(), 81)], "agent 1 says so, and nobody there contradicts");
}

#[test]
fn what_a_host_wrote_before_it_was_taken_over_hides_the_same_everywhere() {
    let mut world = World::new(3);
    // Agent 0 takes agent 1's instance over while agent 1 hears nothing, and agent 0's host comes back under another name.
    world.register(1, "web", "1", 81);
    world.wait(10);
    world.register(0, "web", "1", 80);
    world.tell(0, 2);
    assert_eq!(world.see(2, "web"), [("1".into(), 80)]);
    let now = world.now;
    world.agents[2].catalog.taken_over(now, node(0));
    world.wait(25_000);
    world.view(2);
    world.tell(1, 2);
    world.tell(2, 1);
    assert_eq!(world.see(2, "web"), []);
    assert_eq!(world.see(1, "web"), [], "agent 2 says what agent 0 can't any more");
}
