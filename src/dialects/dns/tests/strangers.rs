//! Messages of those who know no manners.

use super::*;

#[test]
fn messages_that_ask_nothing_get_what_they_deserve() {
    let mut scene = town(Config::default());
    let mut outcome = |bytes: &[u8]| {
        let mut out = Vec::new();
        (scene.responder.answer(bytes, &scene.view, Transport::Udp, &mut out), out)
    };
    assert_eq!(outcome(b"").0, Outcome::Ignored(Ignored::Short));
    assert_eq!(outcome(&[0; 11]).0, Outcome::Ignored(Ignored::Short));
    let good = question("web.service.consul.", RecordType::A).to_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(outcome(&changed(2, 0x81)).0, Outcome::Ignored(Ignored::Response), "or two servers could talk for ever");
    for (bytes, rcode) in [
        (changed(2, 0x20), ResponseCode::NotImp),
        (changed(5, 0), ResponseCode::FormErr),
        (changed(5, 2), ResponseCode::FormErr),
        (changed(12, 0xc0), ResponseCode::FormErr),
        (changed(12, 64), ResponseCode::FormErr),
        (changed(12, 60), ResponseCode::FormErr),
        (changed(good.len() - 1, 3), ResponseCode::Refused),
        (good[..good.len() - 1].to_vec(), ResponseCode::FormErr),
        (
            with_edns(question("consul.", RecordType::A), 1_232)
                .to_vec()
                .map(|mut bytes| {
                    let version = bytes.len() - 5;
                    bytes[version] = 1;
                    bytes
                })
                .unwrap(),
            ResponseCode::BADVERS,
        ),
    ] {
        let (outcome, out) = outcome(&bytes);
        assert_eq!(outcome, Outcome::Answered(rcode), "{bytes:?}");
        assert_eq!(
            Message::from_vec(&out).unwrap().metadata.id,
            Message::from_vec(&good).map_or(0, |_| u16::from_be_bytes([bytes[0], bytes[1]]))
        );
    }
}

#[test]
fn what_edns_says_comes_back_and_who_asks_through_a_resolver_changes_nothing() {
    use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
    let mut scene = town(Config::default());
    let mut asked = with_edns(question("web.service.consul.", RecordType::A), 1_232);
    let edns = asked.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new("192.0.2.0".parse().unwrap(), 24, 7)));
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    let answer = scene.send(&asked, Transport::Udp).unwrap();
    let edns = answer.edns.expect("EDNS is answered with EDNS");
    let subnet = ClientSubnet::new("192.0.2.0".parse().unwrap(), 24, 0);
    assert_eq!(edns.option(EdnsCode::Subnet), Some(&EdnsOption::Subnet(subnet)));
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().len() == 1 && answer.answers.len() == 2);
}

#[test]
fn a_name_that_points_into_the_header_is_none() {
    let mut scene = town(Config::default());
    let mut bytes = question("web.service.consul.", RecordType::A).to_vec().unwrap();
    // An empty name at the first byte of the id, and the question's one leads there.
    (bytes[0], bytes[12], bytes[13]) = (0, 0xc0, 0);
    bytes.truncate(14);
    bytes.extend_from_slice(&[0, 1, 0, 1]);
    let mut out = Vec::new();
    let outcome = scene.responder.answer(&bytes, &scene.view, Transport::Udp, &mut out);
    assert_eq!((outcome, out[5]), (Outcome::Answered(ResponseCode::FormErr), 0));
}

#[test]
fn a_hundred_thousand_mutated_packets_leave_no_trace() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    let names = ["v1.web.service.dc1.consul.", "_web._tcp.consul.", "n1.node.consul.", "1.0.0.10.in-addr.arpa.", "0a000001.addr.consul."];
    let kinds = [RecordType::A, RecordType::SRV, RecordType::TXT, RecordType::PTR, RecordType::ANY];
    let packets: Vec<Vec<u8>> =
        names.iter().flat_map(|name| kinds.map(|kind| with_edns(question(name, kind), 1_400).to_vec().unwrap())).collect();
    let mut draws = Draws::new(1);
    let mut out = Vec::new();
    let mut answered = 0;
    for round in 0..100_000_usize {
        let mut bytes = packets[round % packets.len()].clone();
        for _ in 0..=draws.below(4) {
            let at = draws.below(bytes.len() as u64) as usize;
            bytes[at] = draws.below(256) as u8;
        }
        if draws.below(8) == 0 {
            bytes.truncate(draws.below(bytes.len() as u64) as usize);
        }
        if let Outcome::Answered(_) = scene.responder.answer(&bytes, &scene.view, Transport::Udp, &mut out) {
            answered += 1;
            assert!(out.len() <= 4_096 && out[2] & 0x80 != 0 && out[..2] == bytes[..2]);
            // Reading costs more than answering here.
            assert!(round % 16 != 0 || Message::from_vec(&out).is_ok(), "{bytes:?}");
        }
    }
    assert!(answered > 50_000, "{answered}");
    assert!(scene.responder.cache.len() <= CACHE_ANSWERS_MAX && scene.responder.cache_bytes <= CACHE_BYTES_MAX);
    assert!(out.capacity() <= 8 * 1024, "{}", out.capacity());
}

proptest! {
    /// Whatever comes in, what goes out is a message that somebody else can read, within the client's bounds.
    #[test]
    fn any_bytes_get_a_message_or_silence(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            (proptest::collection::vec((0_usize..80, any::<u8>()), 0..6), 0_usize..80).prop_map(|(changes, cut)| {
                let mut bytes = with_edns(question("v1.web.service.dc1.consul.", RecordType::SRV), 1_400).to_vec().unwrap();
                for (at, to) in changes {
                    let length = bytes.len();
                    bytes[at % length] = to;
                }
                bytes.truncate(bytes.len() - cut.saturating_sub(60));
                bytes
            }),
        ],
    ) {
        let mut scene = town(Config::default());
        let mut out = Vec::new();
        if let Outcome::Answered(_) = scene.responder.answer(&bytes, &scene.view, Transport::Udp, &mut out) {
            prop_assert!(out.len() <= 4_096 && out[2] & 0x80 != 0 && out[..2] == bytes[..2]);
            prop_assert!(Message::from_vec(&out).is_ok());
        }
    }
}
