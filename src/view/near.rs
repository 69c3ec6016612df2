//! How far members are from one of them, by measured round trips and by coordinates.

use super::{MemberView, View};
use crate::model::names::NodeId;
use std::collections::BTreeMap;

/// In the place of a name: this agent.
const AGENT: &str = "_agent";

/// Round trips from one member to the others.
#[derive(Debug, Clone)]
pub struct Near {
    from: NodeId,
    /// In microseconds.
    round_trips: BTreeMap<NodeId, u32>,
}

impl Near {
    /// Seen from the member of that name, or from this agent for `_agent`; none also where there is no such member.
    pub fn named(view: &View, name: &str) -> Option<Self> {
        Self::of(view, view.member_called(name)?.id)
    }

    /// Seen from a member; none where nothing is known of how far others are from it.
    pub fn of(view: &View, from: NodeId) -> Option<Self> {
        let centre = view.member(from)?;
        let distance = |member: &MemberView| Some((member.id, round_trip_us(view, centre, member)?));
        let round_trips: BTreeMap<NodeId, u32> =
            view.members.iter().filter(|member| member.id != from).filter_map(|member| distance(member)).collect();
        // The agent itself knows that it is the nearest to itself.
        (!round_trips.is_empty() || from == view.agent.id).then_some(Self { from, round_trips })
    }

    /// The estimated round trip to a member in microseconds; zero to the one it is all seen from.
    pub fn round_trip_us(&self, node: NodeId) -> Option<u32> {
        if node == self.from { Some(0) } else { self.round_trips.get(&node).copied() }
    }

    /// Sorts the nearest first and the unknown last.
    pub fn rank(&self, node: NodeId) -> u32 {
        self.round_trip_us(node).unwrap_or(u32::MAX)
    }
}

impl View {
    /// The member of that id, up or not.
    pub fn member(&self, node: NodeId) -> Option<&MemberView> {
        self.members.iter().find(|member| member.id == node).map(|member| &**member)
    }

    /// The member of that name or id, or this agent for `_agent`.
    pub fn member_called(&self, name: &str) -> Option<&MemberView> {
        let id = if name == AGENT { Some(self.agent.id) } else { name.parse::<NodeId>().ok() };
        let by_name = || self.members.iter().find(|member| member.name == name).map(|member| &**member);
        id.and_then(|id| self.member(id)).or_else(by_name)
    }
}

/// What this agent's own probes measured is surer than what coordinates tell.
fn round_trip_us(view: &View, from: &MemberView, to: &MemberView) -> Option<u32> {
    let measured = if from.id == view.agent.id { to.rtt_us } else { from.rtt_us.filter(|_| to.id == view.agent.id) };
    measured.or_else(|| Some(from.coordinate?.round_trip_us(&to.coordinate?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coordinate::Coordinate;
    use crate::view::AgentView;
    use crate::view::testing::member;

    fn view() -> View {
        let mut view = View::empty(AgentView { id: NodeId(1), name: "here".to_owned(), ..AgentView::default() }, 1);
        let at = |x: i32| Some(Coordinate { vector: [x, 0, 0, 0, 0, 0, 0, 0], height_us: 10, adjustment_us: 0, error_permille: 100 });
        let members =
            [(1, "here", None, at(0)), (2, "far", Some(9_000), at(8_900)), (3, "near", Some(500), at(600)), (4, "mute", None, None)];
        view.members = members
            .into_iter()
            .map(|(id, name, rtt_us, coordinate)| std::sync::Arc::new(MemberView { rtt_us, coordinate, ..member(id, name) }))
            .collect();
        view
    }

    fn order(view: &View, from: u128) -> Option<Vec<u128>> {
        let near = Near::of(view, NodeId(from))?;
        let mut nodes = vec![4, 3, 2, 1];
        nodes.sort_by_key(|node| near.rank(NodeId(*node)));
        Some(nodes)
    }

    #[test]
    fn the_nearest_come_first_and_the_unknown_last_seen_from_any_member() {
        let view = view();
        assert_eq!(order(&view, 1), Some(vec![1, 3, 2, 4]));
        assert_eq!(order(&view, 2), Some(vec![2, 3, 1, 4]), "nobody here measured the way from far to near");
        assert_eq!(order(&view, 3), Some(vec![3, 1, 2, 4]));
        assert_eq!(order(&view, 4), None, "nobody knows how far others are from it");
        assert_eq!(order(&view, 9), None);
        for name in ["far", "00000000000000000000000000000002"] {
            assert_eq!(Near::named(&view, name).unwrap().round_trip_us(NodeId(3)), Some(8_320), "{name}");
        }
        assert_eq!(Near::named(&view, "_agent").unwrap().round_trip_us(NodeId(3)), Some(500));
        assert!(Near::named(&view, "nobody").is_none());
    }

    #[test]
    fn what_was_measured_counts_more_than_what_coordinates_tell() {
        let view = view();
        assert_eq!(Near::of(&view, NodeId(1)).unwrap().round_trip_us(NodeId(2)), Some(9_000));
        assert_eq!(Near::of(&view, NodeId(2)).unwrap().round_trip_us(NodeId(1)), Some(9_000));
        assert_eq!(Near::of(&view, NodeId(2)).unwrap().round_trip_us(NodeId(3)), Some(8_320));
    }
}
