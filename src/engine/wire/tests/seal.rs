//! Datagrams: what comes through, and each reason why one does not.

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::*;
use crate::engine::wire::{BODY_BYTES_MAX, golden, keyring::Key};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(1)
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

fn sealed(node: NodeId) -> Sealer {
    Sealer::new("test", Some(Keyring::new(key(1))), node, 7)
}

fn clear(node: NodeId) -> Sealer {
    Sealer::new("test", None, node, 7)
}

/// Opens `datagram` with each byte changed, one at a time; says for which bytes what was the reason.
fn refusals(from: &mut Sealer, to: &mut Sealer) -> Vec<Refused> {
    let datagram = from.seal(&mut rng(), b"hello");
    let mut changed = datagram.to_vec();
    (0..datagram.len())
        .map(|at| {
            changed[at] ^= 0x10;
            let refused = to.open(&changed).expect_err("a changed datagram is refused");
            changed[at] ^= 0x10;
            refused
        })
        .collect()
}

#[test]
fn a_body_comes_through_sealed_and_in_clear() {
    for (mut from, mut to, proven) in [(sealed(A), sealed(B), true), (clear(A), clear(B), false)] {
        for counter in 1..=3 {
            let datagram = from.seal(&mut rng(), b"hello");
            let opened = to.open(&datagram).unwrap();
            assert_eq!(opened, Opened { sender: A, boot: 7, counter, proven, body: Bytes::from_static(b"hello") });
        }
    }
}

#[test]
fn nobody_without_the_key_reads_or_makes_a_datagram() {
    let body = b"who reads this has the key";
    let datagram = sealed(A).seal(&mut rng(), body);
    assert!(!datagram.windows(8).any(|bytes| body.windows(8).any(|words| words == bytes)));
    let mut stranger = Sealer::new("test", Some(Keyring::new(key(2))), A, 7);
    assert_eq!(stranger.open(&datagram), Err(Refused::UnknownKey));
    assert_eq!(sealed(B).open(&stranger.seal(&mut rng(), b"let me in")), Err(Refused::UnknownKey));
    let mut forged = stranger.seal(&mut rng(), b"let me in").to_vec();
    forged[PREFIX_BYTES..ASSOCIATED_BYTES].copy_from_slice(&key(1).id().0.to_be_bytes());
    assert_eq!(sealed(B).open(&forged), Err(Refused::Seal));
}

#[test]
fn each_changed_byte_of_a_sealed_datagram_has_its_reason() {
    let refused = refusals(&mut sealed(A), &mut sealed(B));
    assert_eq!(refused[..2], [Refused::Version, Refused::Form]);
    assert!(refused[2..6].iter().all(|refused| *refused == Refused::Label));
    assert!(refused[6..10].iter().all(|refused| *refused == Refused::UnknownKey));
    assert!(refused[10..].iter().all(|refused| *refused == Refused::Seal));
}

#[test]
fn each_changed_byte_of_a_clear_datagram_has_its_reason() {
    let refused = refusals(&mut clear(A), &mut clear(B));
    assert_eq!(refused[..2], [Refused::Version, Refused::Form]);
    assert!(refused[2..6].iter().all(|refused| *refused == Refused::Label));
    assert!(refused[6..].iter().all(|refused| *refused == Refused::Checksum));
}

#[test]
fn each_truncation_is_refused() {
    for (mut from, mut to) in [(sealed(A), sealed(B)), (clear(A), clear(B))] {
        let datagram = from.seal(&mut rng(), b"hello");
        for end in 0..datagram.len() {
            let refused = to.open(&datagram[..end]).unwrap_err();
            assert!(matches!(refused, Refused::TooShort | Refused::Seal | Refused::Checksum), "{refused} at {end}");
        }
        assert_eq!(to.open(&[]), Err(Refused::TooShort));
        assert_eq!(to.open(&[1; DATAGRAM_BYTES_MAX + 1]), Err(Refused::TooLong));
    }
}

#[test]
fn what_is_authentic_and_too_short_inside_is_refused() {
    for (from, mut to) in [(sealed(A), sealed(B)), (clear(A), clear(B))] {
        for inside in [&[][..], &[0; 23], &[0; 24], &[0xff; 40]] {
            let datagram = from.close(Form::Datagram, &mut rng(), 0, |out| out.extend_from_slice(inside));
            assert_eq!(to.open(&datagram), Err(Refused::TooShort), "{} bytes", inside.len());
        }
    }
}

#[test]
fn other_versions_clusters_and_forms_are_refused() {
    let mut datagram = sealed(A).seal(&mut rng(), b"hello").to_vec();
    datagram[0] = PROTOCOL_VERSION + 1;
    assert_eq!(sealed(B).open(&datagram), Err(Refused::Version));
    let mut foreign = Sealer::new("another", Some(Keyring::new(key(1))), A, 7);
    assert_eq!(sealed(B).open(&foreign.seal(&mut rng(), b"hello")), Err(Refused::Label));
    let frame = sealed(A).close(Form::Frame, &mut rng(), 0, |out| put_sender(out, A, 7));
    assert_eq!(sealed(B).open(&frame), Err(Refused::Form));
    assert_eq!(sealed(B).open(&clear(A).seal(&mut rng(), b"hello")), Err(Refused::Clear));
    assert_eq!(clear(B).open(&sealed(A).seal(&mut rng(), b"hello")), Err(Refused::Sealed));
}

#[test]
fn a_clear_datagram_of_a_colliding_label_fails_its_checksum() {
    let mut foreign = Sealer::new("another", None, A, 7);
    foreign.label = clear(B).label;
    assert_eq!(clear(B).open(&foreign.seal(&mut rng(), b"hello")), Err(Refused::Checksum));
}

#[test]
fn a_sealed_datagram_is_accepted_once() {
    let (mut from, mut to) = (sealed(A), sealed(B));
    let [first, second] = [b"one", b"two"].map(|body| from.seal(&mut rng(), body));
    assert!(to.open(&second).is_ok());
    assert!(to.open(&first).is_ok(), "late, not repeated");
    assert_eq!(to.open(&first), Err(Refused::Replayed));
    assert_eq!(to.open(&second), Err(Refused::Replayed));
    let mut next_life = Sealer::new("test", Some(Keyring::new(key(1))), A, 8);
    assert!(to.open(&next_life.seal(&mut rng(), b"one")).is_ok());
}

#[test]
fn an_outsider_opens_no_window() {
    let mut to = sealed(B);
    let mut stranger = Sealer::new("test", Some(Keyring::new(key(2))), A, 7);
    for _ in 0..10 {
        assert!(to.open(&stranger.seal(&mut rng(), b"hello")).is_err());
    }
    assert!(to.datagrams_seen.is_empty());
}

#[test]
fn what_we_sent_is_not_heard_and_our_twin_is() {
    for mut me in [sealed(A), clear(A)] {
        let datagram = me.seal(&mut rng(), b"hello");
        assert_eq!(me.open(&datagram), Err(Refused::Own));
        me.become_agent(A, 8);
        assert!(me.open(&datagram).is_ok(), "another life of this id speaks");
    }
}

#[test]
fn keys_change_while_agents_talk() {
    let (mut from, mut to) = (sealed(A), sealed(B));
    to.keyring_mut().unwrap().install(key(2)).unwrap();
    from.keyring_mut().unwrap().install(key(2)).unwrap();
    from.keyring_mut().unwrap().use_key(key(2).id()).unwrap();
    assert!(to.open(&from.seal(&mut rng(), b"in the new key")).is_ok());
    assert!(from.open(&to.seal(&mut rng(), b"in the old key")).is_ok());
    from.keyring_mut().unwrap().remove(key(1).id()).unwrap();
    assert_eq!(from.open(&to.seal(&mut rng(), b"in the old key")), Err(Refused::UnknownKey));
}

#[test]
fn the_longest_body_fits_however_high_the_counter() {
    let (mut from, mut to) = (sealed(A), sealed(B));
    from.datagrams_sent = u64::MAX - 2;
    let datagram = from.seal(&mut rng(), &[0; BODY_BYTES_MAX]);
    assert_eq!(datagram.len(), DATAGRAM_BYTES_MAX);
    assert!(to.open(&datagram).is_ok());
    let short = sealed(A).seal(&mut rng(), b"hello").len() - 5;
    assert!(short <= 110, "sealing costs {short} bytes");
}

#[test]
fn names_of_reasons_are_distinct() {
    let names: std::collections::BTreeSet<_> = Refused::ALL.map(Refused::name).into();
    assert_eq!(names.len(), Refused::ALL.len());
}

#[test]
fn datagrams_are_these_bytes() {
    let seal = |mut sealer: Sealer| sealer.seal(&mut rng(), b"hello").to_vec();
    golden::check("datagrams", &[("clear", seal(clear(A))), ("sealed", seal(sealed(A)))]);
    let kept = golden::read("datagrams");
    assert_eq!(clear(B).open(&kept["clear"]).unwrap().body, &b"hello"[..]);
    assert_eq!(sealed(B).open(&kept["sealed"]).unwrap().body, &b"hello"[..]);
}

proptest! {
    #[test]
    fn any_body_comes_through(body in prop::collection::vec(any::<u8>(), 0..BODY_BYTES_MAX)) {
        prop_assert_eq!(&sealed(B).open(&sealed(A).seal(&mut rng(), &body)).unwrap().body[..], &body);
        prop_assert_eq!(&clear(B).open(&clear(A).seal(&mut rng(), &body)).unwrap().body[..], &body);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), prefix in 0..44_usize) {
        for (mut from, mut to) in [(sealed(A), sealed(B)), (clear(A), clear(B))] {
            prop_assert!(to.open(&bytes).is_err());
            let mut datagram = from.seal(&mut rng(), b"hello")[..prefix].to_vec();
            datagram.extend_from_slice(&bytes);
            prop_assert!(to.open(&datagram).is_err());
        }
    }
}
