//! Names that lead out of our domains.

use super::*;

#[test]
fn with_recursors_names_of_others_are_asked_elsewhere() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    scene.put("outside", "1", at("host.example.com"));
    let mut outcome = |message: Message| {
        let mut out = Vec::new();
        scene.responder.answer(&message.to_vec().unwrap(), &scene.view, Transport::Udp, &mut out)
    };
    assert_eq!(outcome(question("example.com.", RecordType::A)), Outcome::Forward);
    assert_eq!(outcome(question("9.0.0.10.in-addr.arpa.", RecordType::PTR)), Outcome::Forward);
    assert_eq!(outcome(question("1.0.0.10.in-addr.arpa.", RecordType::PTR)), Outcome::Answered(ResponseCode::NoError));
    assert_eq!(outcome(question("nope.service.consul.", RecordType::A)), Outcome::Answered(ResponseCode::NXDomain));
    let name = name::parse("host.example.com").unwrap();
    let chase = Outcome::Chase { name, kind: RecordType::A, bytes_max: 512 };
    assert_eq!(outcome(question("outside.service.consul.", RecordType::A)), chase);
    let mut unwilling = question("example.com.", RecordType::A);
    unwilling.metadata.recursion_desired = false;
    assert_eq!(outcome(unwilling), Outcome::Answered(ResponseCode::Refused));
}

#[test]
fn what_recursors_found_stands_behind_the_alias() {
    let mut scene = town(Config { recurses: true, ..Config::default() });
    scene.put("outside", "1", at("host.example.com"));
    let mut out = Vec::new();
    let message = with_edns(question("outside.service.consul.", RecordType::A), 1_232);
    let outcome = scene.responder.answer(&message.to_vec().unwrap(), &scene.view, Transport::Udp, &mut out);
    let Outcome::Chase { name, bytes_max, .. } = outcome else { panic!("{outcome:?}") };
    let found = [("192.0.2.1".parse().unwrap(), 60), ("192.0.2.2".parse().unwrap(), 60)];
    message::append_answers(&mut out, &name, &found, bytes_max);
    let answer = Message::from_vec(&out).unwrap();
    assert_eq!(answer.answers.iter().filter_map(ip).collect::<Vec<_>>(), found.map(|(ip, _)| ip));
    assert!(answer.edns.is_some() && answer.answers[2].name.to_ascii() == "host.example.com.");
    assert_eq!(message::addresses(&out, 9), found);
}
