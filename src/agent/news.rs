//! Logs what changes in a person's picture of the cluster: who came, who went, whether this agent is one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handle::Handle;
use crate::model::names::NodeId;
use crate::view::{AgentView, MemberState, MemberView, View};

/// Members whose news are told one by one; more at once, as after a start, are told as a number.
const LINES_MAX: usize = 10;

/// What happened to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Joined,
    Returned,
    Down,
    Left,
    /// It was given up and is listed no longer.
    Forgotten,
    /// Another one had its name before.
    NameTaken,
}

impl What {
    fn words(self) -> &'static str {
        match self {
            What::Joined => "a member joined",
            What::Returned => "a member is back",
            What::Down => "a member is down",
            What::Left => "a member left",
            What::Forgotten => "a member was given up",
            What::NameTaken => "a member's name was taken already: it is shown under another",
        }
    }
}

/// What was told of a member last.
struct Told {
    state: MemberState,
    name: String,
    address: String,
    is_name_taken: bool,
}

/// Logs until the agent stops.
pub(super) async fn log(handle: Handle) {
    let mut watch = handle.watch_all();
    let mut told = BTreeMap::new();
    // Not the view itself: an old one keeps old instances in memory.
    let (mut agent, mut members) = (Arc::new(AgentView::default()), None);
    while !handle.is_stopping() {
        let view = handle.view();
        if members != Some(view.members_revision) || view.agent != agent {
            say_of_members(&news(&mut told, &view));
            say_of_agent(&agent, &view);
            (agent, members) = (Arc::clone(&view.agent), Some(view.members_revision));
        }
        drop(view);
        watch.changed().await;
    }
}

fn say_of_members(news: &[(What, String, String)]) {
    for group in news.chunk_by(|a, b| a.0 == b.0) {
        let what = group[0].0;
        if group.len() > LINES_MAX {
            tracing::info!(members = group.len(), "{}, {} times", what.words(), group.len());
            continue;
        }
        for (what, member, address) in group {
            match what {
                What::NameTaken => tracing::warn!(member, address, "{}", what.words()),
                _ => tracing::info!(member, address, "{}", what.words()),
            }
        }
    }
}

fn say_of_agent(before: &AgentView, after: &View) {
    if after.agent.is_ready && !before.is_ready {
        tracing::info!(members = after.members.len(), services = after.service_count(), "ready: caught up with the datacenter");
    }
    if after.agent.is_cut_off != before.is_cut_off {
        if after.agent.is_cut_off {
            tracing::warn!("most members are gone at once: this agent seems to be the one that is cut off");
        } else {
            tracing::info!("no longer cut off");
        }
    }
}

/// What is new of the members, by kind; a member is spoken of once its name is known.
fn news(told: &mut BTreeMap<NodeId, Told>, view: &View) -> Vec<(What, String, String)> {
    let mut news = Vec::new();
    let shown: BTreeMap<NodeId, &MemberView> = view
        .members
        .iter()
        .filter(|member| !member.name.is_empty() && member.id != view.agent.id)
        .map(|member| (member.id, &**member))
        .collect();
    told.retain(|id, old| {
        let stays = shown.contains_key(id);
        if !stays {
            news.push((What::Forgotten, old.name.clone(), old.address.clone()));
        }
        stays
    });
    for (id, member) in shown {
        let here = |state| matches!(state, MemberState::Alive | MemberState::Suspect);
        let old = told.get(&id);
        let what = match (old.map(|old| old.state), member.state) {
            (None, state) if here(state) => Some(What::Joined),
            (Some(was), state) if !here(was) && here(state) => Some(What::Returned),
            (Some(was), MemberState::Down) if was != MemberState::Down => Some(What::Down),
            (Some(was), MemberState::Left) if was != MemberState::Left => Some(What::Left),
            _ => None,
        };
        let address = member.gossip.to_string();
        what.iter().for_each(|what| news.push((*what, member.name.clone(), address.clone())));
        if member.is_name_taken && !old.is_some_and(|old| old.is_name_taken) {
            news.push((What::NameTaken, member.name.clone(), address.clone()));
        }
        told.insert(id, Told { state: member.state, name: member.name.clone(), address, is_name_taken: member.is_name_taken });
    }
    news.sort_by_key(|(what, _, _)| *what);
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::testing;

    fn member(id: u128, name: &str, state: MemberState) -> MemberView {
        MemberView { state, ..testing::member(id, name) }
    }

    fn view(members: Vec<MemberView>) -> View {
        let mut view = View::default();
        view.members = members.into_iter().map(Arc::new).collect();
        view
    }

    #[test]
    fn each_turn_of_a_members_life_is_told_once() {
        let mut told = BTreeMap::new();
        let mut tell =
            |members: Vec<MemberView>| -> Vec<What> { news(&mut told, &view(members)).into_iter().map(|(what, ..)| what).collect() };
        assert_eq!(tell(vec![member(1, "", MemberState::Alive)]), [], "its name has not come");
        assert_eq!(tell(vec![member(1, "a", MemberState::Alive)]), [What::Joined]);
        assert_eq!(tell(vec![member(1, "a", MemberState::Suspect)]), []);
        assert_eq!(tell(vec![member(1, "a", MemberState::Down)]), [What::Down]);
        assert_eq!(tell(vec![member(1, "a", MemberState::Down)]), []);
        assert_eq!(tell(vec![member(1, "a", MemberState::Alive)]), [What::Returned]);
        assert_eq!(tell(vec![member(1, "a", MemberState::Left)]), [What::Left]);
        assert_eq!(tell(vec![]), [What::Forgotten]);
        assert_eq!(tell(vec![member(2, "b", MemberState::Down)]), [], "it was down before we came");
        let taken = MemberView { is_name_taken: true, ..member(3, "a~1f3a", MemberState::Alive) };
        assert_eq!(tell(vec![taken.clone(), member(2, "b", MemberState::Down)]), [What::Joined, What::NameTaken]);
        assert_eq!(tell(vec![taken, member(2, "b", MemberState::Down)]), []);
    }
}
