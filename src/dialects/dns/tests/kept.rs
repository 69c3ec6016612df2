//! Prepared answers: right as long as they are kept, and few enough.

use super::*;

#[test]
fn kept_answers_follow_the_catalog() {
    let mut scene = Scene::new(Config::default());
    assert_eq!(scene.rcode("web.service.consul.", RecordType::A), ResponseCode::NXDomain);
    scene.put("web", "1", at("10.0.0.1"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1"]);
    scene.put("web", "2", at("10.0.0.2"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1", "10.0.0.2"]);
    // A service that is only written otherwise belongs to the same name, from the moment it is there.
    scene.put("WEB", "1", at("10.0.0.3"));
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    scene.remove("web");
    assert_eq!(scene.ips("web.service.consul.", RecordType::A), ["10.0.0.3"]);
    scene.remove("WEB");
    assert_eq!(scene.rcode("web.service.consul.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!((scene.responder.cache.len(), scene.responder.cache_bytes), (0, 0), "and nothing stays behind");
}

#[test]
fn kept_answers_stay_within_their_bounds() {
    let mut scene = Scene::new(Config::default());
    scene.put("web", "1", |web| (web.address, web.tags) = ("10.0.0.1".into(), (0..200).map(|i| format!("t{i}").into()).collect()));
    for i in 0..CACHE_ANSWERS_MAX * 2 {
        let name = format!("t{}.web.service.consul.", i % 200);
        // Each spelling of a name is one to DNS.
        let name = if i % 2 == 0 { name.to_uppercase() } else { name };
        scene.ask(&name, RecordType::A);
    }
    assert_eq!(scene.responder.cache.len(), 200);
    #[allow(clippy::disallowed_methods, reason = "a sum has no order")]
    let counted: usize = scene.responder.cache.iter().map(|(key, cached)| key.len() + cached.prepared.size()).sum();
    assert_eq!(scene.responder.cache_bytes, counted);
}
