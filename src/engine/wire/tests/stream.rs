//! Streams: what comes through, and what from elsewhere does not.

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::*;
use crate::engine::wire::{
    golden,
    keyring::{Key, Keyring},
};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

fn sealer(node: NodeId) -> Sealer {
    Sealer::new("test", Some(Keyring::new(Key::from_bytes([1; 32]))), node, 7)
}

fn clear(node: NodeId) -> Sealer {
    Sealer::new("test", None, node, 7)
}

/// Two agents with one stream from A to B, of which nothing was sent.
struct Pair {
    a: Sealer,
    b: Sealer,
    rng: ChaCha12Rng,
    opener: StreamSeal,
}

impl Pair {
    fn new(mut a: Sealer, b: Sealer) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let opener = StreamSeal::open(&mut a, &mut rng);
        Self { a, b, rng, opener }
    }

    fn open(&mut self) -> StreamSeal {
        StreamSeal::open(&mut self.a, &mut self.rng)
    }

    fn say(&mut self, body: &[u8], last: bool) -> Bytes {
        self.opener.seal(&self.a, &mut self.rng, body, last)
    }
}

#[test]
fn both_sides_speak_in_order_until_they_have_said_all() {
    for (a, b) in [(sealer(A), sealer(B)), (clear(A), clear(B))] {
        let mut pair = Pair::new(a, b);
        let first = pair.say(b"one", false);
        let (mut accepter, frame) = StreamSeal::accept(&mut pair.b, &first).unwrap();
        assert_eq!(frame, Frame { sender: A, boot: 7, last: false, body: Bytes::from_static(b"one") });
        assert_eq!(accepter.ended(), Err(Refused::Truncated));
        let second = pair.say(b"two", true);
        assert_eq!(accepter.take(&pair.b, &second).unwrap().body, &b"two"[..]);
        assert_eq!(accepter.ended(), Ok(()));
        let answer = accepter.seal(&pair.b, &mut pair.rng, b"three", true);
        assert_eq!(pair.opener.take(&pair.a, &answer).unwrap().body, &b"three"[..]);
        assert_eq!(pair.opener.ended(), Ok(()));
        assert_eq!((pair.opener.peer(), accepter.peer()), (Some((B, 7)), Some((A, 7))));
    }
}

#[test]
fn frames_out_of_order_twice_missing_or_after_the_last_are_refused() {
    let mut pair = Pair::new(sealer(A), sealer(B));
    let frames: Vec<_> = [false, false, false, true, false].map(|last| pair.say(b"", last)).into();
    assert_eq!(StreamSeal::accept(&mut pair.b, &frames[1]).err(), Some(Refused::Sequence), "the first is missing");
    let (mut accepter, _) = StreamSeal::accept(&mut pair.b, &frames[0]).unwrap();
    assert_eq!(accepter.take(&pair.b, &frames[0]), Err(Refused::Sequence), "twice");
    assert_eq!(accepter.take(&pair.b, &frames[2]), Err(Refused::Sequence), "out of order");
    for frame in &frames[1..4] {
        assert!(accepter.take(&pair.b, frame).is_ok());
    }
    assert_eq!(accepter.take(&pair.b, &frames[4]), Err(Refused::Sequence), "after the last");
}

#[test]
fn a_recorded_stream_is_refused_at_either_end() {
    let mut pair = Pair::new(sealer(A), sealer(B));
    let request = pair.say(b"what have you?", true);
    let (mut accepter, _) = StreamSeal::accept(&mut pair.b, &request).unwrap();
    let answer = accepter.seal(&pair.b, &mut pair.rng, b"this", true);
    assert_eq!(StreamSeal::accept(&mut pair.b, &request).err(), Some(Refused::Replayed));
    let mut again = pair.open();
    assert_eq!(again.take(&pair.a, &answer), Err(Refused::Stream), "an answer to another question");
}

#[test]
fn frames_of_another_stream_side_or_speaker_are_refused() {
    let mut pair = Pair::new(sealer(A), sealer(B));
    let first = pair.say(b"one", false);
    let (mut accepter, _) = StreamSeal::accept(&mut pair.b, &first).unwrap();
    let mut other = pair.open();
    let spliced = [b"one", b"two"].map(|body| other.seal(&pair.a, &mut pair.rng, body, false));
    assert_eq!(accepter.take(&pair.b, &spliced[1]), Err(Refused::Stream));
    let ours = accepter.seal(&pair.b, &mut pair.rng, b"answer", false);
    assert_eq!(accepter.take(&pair.b, &ours), Err(Refused::Own), "thrown back");
    assert_eq!(StreamSeal::accept(&mut sealer(NodeId(0xc)), &ours).err(), Some(Refused::Stream), "no stream begins with an answer");
    let c = sealer(NodeId(0xc));
    let second_of_c = pair.opener.seal(&c, &mut pair.rng, b"two", false);
    assert_eq!(accepter.take(&pair.b, &second_of_c), Err(Refused::Stream), "another agent goes on");
}

#[test]
fn datagrams_and_long_frames_are_no_frames() {
    let mut pair = Pair::new(sealer(A), sealer(B));
    let datagram = pair.a.seal(&mut pair.rng, b"hello");
    assert_eq!(StreamSeal::accept(&mut pair.b, &datagram).err(), Some(Refused::Form));
    assert_eq!(StreamSeal::accept(&mut pair.b, &vec![1; FRAME_BYTES_MAX + 1]).err(), Some(Refused::TooLong));
    let longest = pair.say(&vec![0; FRAME_BODY_BYTES_MAX], false);
    assert!(longest.len() <= FRAME_BYTES_MAX);
    assert!(StreamSeal::accept(&mut pair.b, &longest).is_ok());
}

#[test]
fn frames_are_these_bytes() {
    let frames = |a: Sealer, b: Sealer| {
        let mut pair = Pair::new(a, b);
        let first = pair.say(b"what have you?", true);
        let (mut accepter, _) = StreamSeal::accept(&mut pair.b, &first).unwrap();
        let answer = accepter.seal(&pair.b, &mut pair.rng, b"this", true);
        [first.to_vec(), answer.to_vec()]
    };
    let [clear_first, clear_answer] = frames(clear(A), clear(B));
    let [sealed_first, sealed_answer] = frames(sealer(A), sealer(B));
    let things =
        [("clear_first", clear_first), ("clear_answer", clear_answer), ("sealed_first", sealed_first), ("sealed_answer", sealed_answer)];
    golden::check("sealed_frames", &things);
    let kept = golden::read("sealed_frames");
    assert!(StreamSeal::accept(&mut clear(B), &kept["clear_first"]).is_ok());
    assert!(StreamSeal::accept(&mut sealer(B), &kept["sealed_first"]).is_ok());
}

proptest! {
    #[test]
    fn changed_and_truncated_frames_are_refused(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        for (a, b) in [(sealer(A), sealer(B)), (clear(A), clear(B))] {
            let mut pair = Pair::new(a, b);
            let mut frame = pair.say(b"hello", true).to_vec();
            let at = at.index(frame.len());
            prop_assert!(StreamSeal::accept(&mut pair.b, &frame[..at]).is_err());
            frame[at] ^= flip;
            prop_assert!(StreamSeal::accept(&mut pair.b, &frame).is_err());
        }
    }
}
