//! `?near=`: the nearest first, from any member.

use super::*;
use crate::model::coordinate::Coordinate;
use crate::model::instance::Instance;
use crate::view::testing;
use crate::view::{LinkState, MemberView};

/// `web` on four nodes of dc1, the last of which nobody measured, and in a datacenter 20 ms away. a and b stand together, c 30 ms off.
fn app() -> App {
    let mut own = testing::editor(ORIGIN, "dc1");
    let mut east = testing::editor(ORIGIN, "east");
    let instance = Instance { port: Some(80), weight: 1_000, enabled: true, ..Instance::default() };
    let place = |x| Coordinate { vector: [x, 0, 0, 0, 0, 0, 0, 0], height_us: 100, adjustment_us: 0, error_permille: 100 };
    let nodes = [(ORIGIN.0, "n1", Some(0)), (11, "a", Some(50_000)), (12, "b", Some(50_400)), (13, "c", Some(20_000)), (14, "d", None)];
    let members = nodes.map(|(id, name, x)| MemberView { coordinate: x.map(place), ..testing::member(id, name) });
    own.set_members(|_| true, members.into());
    for (id, name, _) in &nodes[1..] {
        testing::put(&mut own, &testing::node(NodeId(*id), name, "dc1"), "web", name, &instance);
    }
    testing::put(&mut east, &testing::node(NodeId(21), "e", "east"), "web", "e", &instance);
    let east = testing::datacenter(&mut east, "east", 5, LinkState::Fresh, 21_000, None);
    own.set_datacenters(vec![east]);
    let (handle, _) = door_to(own.publish(Now { ns: 0, wall_ms: 10 }).unwrap());
    App::new(Api::new(handle, 1), axum::Router::new(), Door::default())
}

#[tokio::test]
async fn the_nearest_come_first_seen_from_any_member() {
    let app = app();
    for (path, expected) in [
        ("services/web?near=_agent", vec!["c", "a", "b", "d"]),
        ("services/web?near=n1&limit=2", vec!["c", "a"]),
        ("services/web?near=b", vec!["b", "a", "c", "d"]),
        ("services/web?near=0000000000000000000000000000000c", vec!["b", "a", "c", "d"]),
        ("services/web?dc=*&near=_agent", vec!["c", "e", "a", "b", "d"]),
        ("instances?near=c", vec!["c", "a", "b", "d"]),
        ("services/web/pick?strategy=nearest", vec!["c"]),
        ("services/web/pick?strategy=nearest&near=a", vec!["a"]),
        ("services/web/pick?strategy=nearest&near=b&n=2", vec!["b", "a"]),
    ] {
        assert_eq!(ids(&app, &format!("/api/v1/{path}")).await, expected, "{path}");
    }
}

#[tokio::test]
async fn near_is_refused_where_it_means_nothing() {
    let app = app();
    for (path, pointer) in [
        ("services/web?near=mars", "?near"),
        ("instances?near=mars", "?near"),
        ("services/web/pick?strategy=nearest&near=mars", "?near"),
        ("services/web/pick?near=a", "?near"),
        ("services/web?near=a&after=00", "?after"),
    ] {
        let refused = get(&app, &format!("/api/v1/{path}")).await;
        assert_eq!(refused.status, 400, "{path}");
        assert_eq!(refused.json().await["pointer"], pointer, "{path}");
    }
    assert_eq!(get(&app, "/api/v1/watch?near=a").await.status, 400, "a stream has no order");
}
