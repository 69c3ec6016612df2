//! Sketches and what comes out of them.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::{
    engine::wire::{BODY_BYTES_MAX, packet::Part},
    model::record::HeadFlags,
};

fn key() -> HeadKey {
    HeadKey::new("test")
}

fn head(origin: u128, epoch: u64, seq: u64) -> Advert {
    Advert { origin: NodeId(origin.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)), epoch, seq, flags: HeadFlags::default() }
}

fn heads(count: u128) -> Vec<Advert> {
    (0..count).map(|origin| head(origin, 7, 1_000)).collect()
}

/// Passes a sketch through its packets.
fn sent(sketch: &Sketch) -> Sketch {
    let mut gathering = Gathering::default();
    let mut whole = None;
    for part in sketch.parts(1) {
        assert!(whole.is_none());
        whole = gathering.push(part).unwrap();
    }
    whole.expect("all parts were pushed")
}

#[test]
fn each_field_of_a_head_counts() {
    let one = head(1, 7, 1_000);
    let flags =
        [HeadFlags { left: true, reaped: None }, HeadFlags { left: false, reaped: Some(0) }, HeadFlags { left: false, reaped: Some(1) }];
    let others = [head(2, 7, 1_000), head(1, 8, 1_000), head(1, 7, 1_001)].into_iter().chain(flags.map(|flags| Advert { flags, ..one }));
    for other in others {
        let sketch = Sketch::build(&key(), Size::Small, 5, [other]);
        assert_ne!(sketch.diff(&key(), [one]), Ok(Diff::default()), "{other:?}");
    }
}

#[test]
fn a_difference_says_who_is_ahead() {
    let mut theirs = heads(40);
    theirs[1].seq += 5;
    theirs[2].seq -= 5;
    theirs[3].epoch += 1;
    theirs[4].flags.left = true;
    theirs[5].seq = 2 << SEQ_BITS;
    let unknown_here = theirs.remove(6);
    let mut mine = heads(41);
    mine[5].seq = (2 << SEQ_BITS) - 9;
    mine.remove(6);
    let mine_alone = mine[39];
    theirs.push(unknown_here);

    let sketch = sent(&Sketch::build(&key(), Size::Small, 99, theirs.iter().copied()));
    let diff = sketch.diff(&key(), mine.iter().copied()).unwrap();
    let expected = [
        Diverged { mine: mine[1], theirs: Theirs::Seq(1_005) },
        Diverged { mine: mine[2], theirs: Theirs::Seq(995) },
        Diverged { mine: mine[3], theirs: Theirs::OtherLife },
        Diverged { mine: mine[4], theirs: Theirs::OtherLife },
        Diverged { mine: mine[5], theirs: Theirs::Seq(2 << SEQ_BITS) },
        Diverged { mine: mine_alone, theirs: Theirs::Nothing },
    ];
    assert_eq!(diff.diverged, expected);
    assert_eq!(by_short_name(&key(), 99, &diff.unknown, theirs), [unknown_here], "who sent the sketch finds what it lacks");
}

#[test]
fn equal_sets_give_nothing_and_another_cluster_no_sense() {
    let sketch = Sketch::build(&key(), Size::Large, 3, heads(2_000));
    assert_eq!(sent(&sketch).diff(&key(), heads(2_000)), Ok(Diff::default()));
    assert!(sketch.diff(&HeadKey::new("another"), heads(2_000)).is_err());
}

#[test]
fn a_sketch_of_55_cells_fits_one_datagram() {
    let sketch = Sketch::build(&key(), Size::Small, u64::MAX, heads(300));
    let mut parts = sketch.parts(u32::MAX);
    assert_eq!(parts.len(), 1);
    parts[0].root = u64::MAX;
    let body = postcard::to_stdvec(&vec![Part::Sketch(parts.remove(0))]).unwrap();
    assert!(body.len() <= 1_080, "{} bytes", body.len());
    assert!(body.len() <= BODY_BYTES_MAX);
}

/// How many of `trials` differences in `diverged` origins decode, half of them ahead here and half there.
fn decoded(size: Size, diverged: u128, trials: u64) -> u64 {
    let mut rng = ChaCha12Rng::seed_from_u64(diverged as u64);
    let mut decoded = 0;
    for _ in 0..trials {
        let theirs: Vec<_> = (0..diverged + 5).map(|_| head(rng.next_u64().into(), 7, 1_000)).collect();
        let mine = theirs.iter().enumerate().map(|(at, head)| match at as u128 {
            at if at >= diverged => *head,
            at => Advert { seq: if at % 2 == 0 { 1_001 } else { 999 }, ..*head },
        });
        if let Ok(diff) = Sketch::build(&key(), size, rng.next_u64(), theirs.iter().copied()).diff(&key(), mine) {
            assert_eq!(diff.diverged.len() as u128, diverged);
            decoded += 1;
        }
    }
    decoded
}

#[test]
fn ten_diverged_origins_decode_from_one_datagram() {
    let of_a_thousand: Vec<_> = [1, 5, 10, 12, 15, 18, 20].map(|diverged| (diverged, decoded(Size::Small, diverged, 1_000))).into();
    println!("decoded of 1,000 from 55 cells, by diverged origins: {of_a_thousand:?}");
    for (diverged, decoded) in of_a_thousand {
        assert!(diverged > 10 || decoded >= 980, "{diverged} origins: {decoded} of 1,000");
    }
}

#[test]
fn seventy_diverged_origins_decode_from_four_datagrams() {
    let of_a_hundred: Vec<_> = [20, 40, 60, 70, 80, 90].map(|diverged| (diverged, decoded(Size::Large, diverged, 100))).into();
    println!("decoded of 100 from 220 cells, by diverged origins: {of_a_hundred:?}");
    for (diverged, decoded) in of_a_hundred {
        assert!(diverged > 60 || decoded >= 98, "{diverged} origins: {decoded} of 100");
    }
}

#[test]
fn too_much_is_stuck_and_a_false_root_is_noticed() {
    let sketch = Sketch::build(&key(), Size::Small, 3, heads(60));
    assert_eq!(sketch.clone().diff(&key(), []), Err(Undecodable::Stuck));
    let lie = Sketch { root: sketch.root ^ 1, ..sketch };
    assert_eq!(lie.diff(&key(), heads(59)), Err(Undecodable::Root));
}

#[test]
fn a_circle_comes_to_an_end() {
    // One element counted once in one of its cells and minus once in the others puts itself back each time it is taken out.
    let hash = Salted::new(&key(), 3);
    let element = hash.element(&head(1, 1, 1));
    let mark = hash.mark(element, Size::Small.cells());
    let mut cells = vec![Cell::default(); Size::Small.cells()];
    cells[mark.cells[0]].mix(1, element, mark.check);
    let sketch = Sketch { size: Size::Small, salt: 3, root: 0, cells };
    assert_eq!(sketch.diff(&key(), []), Err(Undecodable::Circle));
}

#[test]
fn parts_gather_in_any_order_and_of_one_sketch_only() {
    let sketch = Sketch::build(&key(), Size::Large, 3, heads(60));
    let mut parts = sketch.parts(1);
    let stranger = Sketch::build(&key(), Size::Large, 4, heads(60)).parts(2).remove(0);
    parts.rotate_left(2);
    let mut gathering = Gathering::default();
    assert_eq!(gathering.push(stranger), Ok(None));
    for part in &parts[..3] {
        assert_eq!(gathering.push(part.clone()), Ok(None));
        assert_eq!(gathering.push(part.clone()), Ok(None), "twice the same is once");
    }
    assert_eq!(gathering.push(parts[3].clone()), Ok(Some(sketch)));
    assert_eq!(gathering.push(SketchCells { parts: 2, ..parts[0].clone() }), Err(BadSketch::Parts));
    assert_eq!(gathering.push(SketchCells { part: 4, ..parts[0].clone() }), Err(BadSketch::Parts));
    assert_eq!(gathering.push(SketchCells { cells: parts[0].cells.slice(1..), ..parts[0].clone() }), Err(BadSketch::Cells));
}

proptest! {
    #[test]
    fn what_decodes_is_the_difference(
        common in 0..50_u128,
        mine_alone in prop::collection::btree_set(1_000..2_000_u128, 0..12),
        theirs_alone in prop::collection::btree_set(2_000..3_000_u128, 0..12),
        salt in any::<u64>(),
    ) {
        let set = |alone: &std::collections::BTreeSet<u128>| {
            let alone = alone.iter().map(|&origin| head(origin, 1, 1));
            heads(common).into_iter().chain(alone).collect::<Vec<_>>()
        };
        let sketch = sent(&Sketch::build(&key(), Size::Small, salt, set(&theirs_alone)));
        if let Ok(diff) = sketch.diff(&key(), set(&mine_alone)) {
            let mine: Vec<_> = diff.diverged.iter().map(|diverged| diverged.mine).collect();
            prop_assert_eq!(&mine[..], &set(&mine_alone)[common as usize..]);
            let theirs = by_short_name(&key(), salt, &diff.unknown, set(&theirs_alone));
            prop_assert_eq!(&theirs[..], &set(&theirs_alone)[common as usize..]);
        }
    }

    #[test]
    fn mutated_cells_never_panic_and_never_pass(at in any::<prop::sample::Index>(), flip in 1..=255_u8, salt in any::<u64>()) {
        let mut part = Sketch::build(&key(), Size::Small, salt, heads(20)).parts(1).remove(0);
        let mut bytes = part.cells.to_vec();
        bytes[at.index(CELLS_A_PART * CELL_BYTES)] ^= flip;
        part.cells = bytes.into();
        let sketch = Gathering::default().push(part).unwrap().unwrap();
        prop_assert!(sketch.diff(&key(), heads(18)).is_err());
    }
}
