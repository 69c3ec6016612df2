use super::*;

#[test]
fn what_is_registered_is_seen_here_at_once_and_elsewhere_when_told() {
    let mut world = World::new(2);
    assert_eq!(world.register(0, "web", "1", 80), WriteResult::Created);
    assert_eq!(world.see(0, "web"), [("1".into(), 80)]);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), [("1".into(), 80)]);
    assert_eq!(world.deregister(0, "web", "1"), WriteResult::Removed);
    assert_eq!(world.deregister(0, "web", "1"), WriteResult::Absent);
    world.tell(0, 1);
    assert_eq!(world.see(1, "web"), []);
}
