//! Answers cut to what a client can take.

use super::*;

#[test]
fn long_answers_are_cut_to_size_and_say_so() {
    let fill = |config: Config| {
        let mut scene = Scene::new(config);
        for i in 0..200 {
            scene.put("many", &i.to_string(), move |many| many.address = format!("10.0.{}.{}", i / 250, i % 250).into());
        }
        scene
    };
    let mut scene = fill(Config::default());
    let a = || question("many.service.consul.", RecordType::A);
    let plain = scene.send(&a(), Transport::Udp).unwrap();
    assert!(plain.metadata.truncation && (25..=30).contains(&plain.answers.len()), "{}", plain.answers.len());
    let more = scene.send(&with_edns(a(), 1_232), Transport::Udp).unwrap();
    assert!(more.metadata.truncation && (70..=75).contains(&more.answers.len()), "{}", more.answers.len());
    // However much a client says that it takes.
    let all = scene.send(&with_edns(a(), u16::MAX), Transport::Udp).unwrap();
    assert!(!all.metadata.truncation && all.answers.len() == 200);
    let srv = scene.send(&with_edns(question("many.service.consul.", RecordType::SRV), u16::MAX), Transport::Udp).unwrap();
    assert!(srv.metadata.truncation && srv.answers.len() > 80);
    let tcp = scene.send(&question("many.service.consul.", RecordType::SRV), Transport::Tcp).unwrap();
    assert!(!tcp.metadata.truncation && tcp.answers.len() == 200 && tcp.additionals.len() == 200 + 2);

    let mut quiet = fill(Config { tells_truncation: false, udp_answers_max: 3, ..Config::default() });
    let three = quiet.send(&a(), Transport::Udp).unwrap();
    assert!(!three.metadata.truncation && three.answers.len() == 3);
    let mut few = fill(Config { addresses_max: 5, ..Config::default() });
    assert_eq!(few.send(&a(), Transport::Tcp).unwrap().answers.len(), 5);
    let five = few.send(&a(), Transport::Udp).unwrap();
    assert!(!five.metadata.truncation && five.answers.len() == 5);
}

#[test]
fn a_very_large_answer_over_tcp_is_read_to_its_end() {
    let mut scene = Scene::new(Config::default());
    for i in 0..1_500_u32 {
        scene.put("huge", &i.to_string(), move |huge| huge.address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).to_string().into());
    }
    let srv = scene.ask("huge.service.consul.", RecordType::SRV);
    // Beyond the reach of pointers names are written out.
    assert!(
        srv.answers.len() > 1_000
            && srv.additionals.iter().all(|record| [".addr.", ".node."].iter().any(|keyword| record.name.to_ascii().contains(keyword)))
    );
}
