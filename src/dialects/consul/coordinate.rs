//! Network coordinates, as far as this agent can tell.
//!
//! Consul's agents find coordinates together, so that the distance of any two can be estimated. Here each agent knows the round trips to
//! others that its own probes measure, and nothing of the distance between two others. What it answers is the embedding of that star: the
//! agent at the centre, every node on a stick as high as its round trip. So distances from this agent are right, those between two others
//! are an upper bound (by way of this agent), and answers of two agents cannot be compared. `near=_agent` sorts by round trips; `near=X`
//! puts X first and what is near to this agent behind it. Nodes that no probe has reached have no coordinate and stand last.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use serde::Serialize;

use super::blocking::{Watched, block};
use super::refuse::{Failure, only};
use super::request::{Params, Tail};
use super::{Consul, answer};
use crate::model::names::NodeId;
use crate::view::{MemberView, View};

/// Serf's coordinates have so many dimensions; a star needs none of them.
const DIMENSIONS: usize = 8;
/// The estimate of the error of what is measured, as Serf counts it: from 0 to 1.5. One path, smoothed, is no better than this.
const ERROR: f64 = 0.1;
/// The least height Serf gives a node, in seconds.
const HEIGHT_S_MIN: f64 = 10.0e-6;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/coordinate/datacenters", only("GET", get(datacenters)))
        .route("/v1/coordinate/nodes", only("GET", get(nodes)))
        .route("/v1/coordinate/node/", only("GET", get(node)))
        .route("/v1/coordinate/node/{*node}", only("GET", get(node)))
}

/// How far nodes are from one of them.
pub struct Near(BTreeMap<NodeId, u32>);

impl Near {
    /// None where that node has no coordinate: then nothing is sorted, as in Consul.
    pub fn of(view: &View, near: &str) -> Option<Self> {
        let from = if near == "_agent" { &view.agent.name } else { near };
        let mut round_trips: BTreeMap<NodeId, u32> =
            view.members.iter().filter_map(|member| Some((member.id, round_trip_us(view, member)?.saturating_add(1)))).collect();
        let from = view.members.iter().find(|member| member.name == from)?;
        *round_trips.get_mut(&from.id)? = 0;
        Some(Self(round_trips))
    }

    /// Sorts the nearest first and the unknown last.
    pub fn rank(&self, node: NodeId) -> u32 {
        self.0.get(&node).copied().unwrap_or(u32::MAX)
    }
}

/// From this agent; none where no probe has come back.
fn round_trip_us(view: &View, member: &MemberView) -> Option<u32> {
    if member.id == view.agent.id { Some(0) } else { member.rtt_us }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Place<'v> {
    node: &'v str,
    segment: &'static str,
    coord: Coordinate,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    vec: [f64; DIMENSIONS],
    error: f64,
    adjustment: f64,
    /// In seconds.
    height: f64,
}

/// This agent's own: the centre.
pub fn own() -> Coordinate {
    Coordinate { vec: [0.0; DIMENSIONS], error: 0.0, adjustment: 0.0, height: HEIGHT_S_MIN }
}

fn place<'v>(view: &View, member: &'v MemberView) -> Option<Place<'v>> {
    let height = (f64::from(round_trip_us(view, member)?) / 1e6).max(HEIGHT_S_MIN);
    let coord = if member.id == view.agent.id { own() } else { Coordinate { error: ERROR, height, ..own() } };
    (!member.name.is_empty()).then_some(Place { node: &member.name, segment: "", coord })
}

#[derive(Serialize)]
struct Area<'v> {
    #[serde(rename = "Datacenter")]
    datacenter: &'v str,
    #[serde(rename = "AreaID")]
    area_id: &'static str,
    #[serde(rename = "Coordinates")]
    coordinates: Vec<Place<'v>>,
}

/// Coordinates of servers by datacenter, in the pool of all of them: of this datacenter, that of the agent that is asked.
async fn datacenters(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let view = consul.handle.view();
    let own = Place { node: &view.agent.name, segment: "", coord: own() };
    Ok(answer::json(&params, &[Area { datacenter: &view.agent.datacenter, area_id: "wan", coordinates: vec![own] }]))
}

async fn nodes(State(consul): State<Consul>, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let view = block(&consul, &params, Watched::Everything, |view| view.members_revision).await?;
    let places: Vec<Place<'_>> = view.members.iter().filter_map(|member| place(&view, member)).collect();
    Ok(answer::indexed(&params, view.members_revision, &places))
}

async fn node(State(consul): State<Consul>, tail: Tail, params: Params) -> Result<Response<Body>, Failure> {
    params.check_reading(&consul)?;
    let name = tail.need("Missing node name")?;
    let view = block(&consul, &params, Watched::Everything, |view| view.members_revision).await?;
    let found = view.members.iter().filter(|member| member.name == name).find_map(|member| place(&view, member));
    let Some(place) = found else {
        let mut response = answer::empty();
        *response.status_mut() = StatusCode::NOT_FOUND;
        answer::put_index(response.headers_mut(), view.members_revision);
        return Ok(response);
    };
    Ok(answer::indexed(&params, view.members_revision, &[place]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{AgentView, MemberState};

    fn member(id: u128, name: &str, rtt_us: Option<u32>) -> MemberView {
        MemberView {
            id: NodeId(id),
            name: name.to_owned(),
            gossip: ([127, 0, 0, 1], 1).into(),
            state: MemberState::Alive,
            incarnation: 0,
            datacenter: "dc1".to_owned(),
            zone: None,
            version: String::new(),
            http_port: None,
            dns_port: None,
            is_gateway: false,
            instances: 0,
            rtt_us,
            since: 0,
            is_name_taken: false,
            word: None,
        }
    }

    fn view() -> View {
        let mut view = View::empty(AgentView { id: NodeId(1), name: "here".to_owned(), ..AgentView::default() }, 1);
        let others = [member(2, "far", Some(9_000)), member(3, "near", Some(500)), member(4, "mute", None)];
        view.members = [member(1, "here", None)].into_iter().chain(others).collect();
        view
    }

    #[test]
    fn the_nearest_come_first_and_the_unknown_last() {
        let view = view();
        let order = |near: &str| -> Option<Vec<u128>> {
            let near = Near::of(&view, near)?;
            let mut nodes = vec![4, 2, 1, 3];
            nodes.sort_by_key(|node| near.rank(NodeId(*node)));
            Some(nodes)
        };
        assert_eq!(order("_agent"), Some(vec![1, 3, 2, 4]));
        assert_eq!(order("here"), order("_agent"));
        assert_eq!(order("far"), Some(vec![2, 1, 3, 4]));
        assert_eq!(order("mute"), None, "nobody knows how far others are from it");
        assert_eq!(order("nobody"), None);
    }

    #[test]
    fn a_coordinate_is_as_high_as_the_round_trip() {
        let view = view();
        let heights: Vec<Option<f64>> = view.members.iter().map(|member| Some(place(&view, member)?.coord.height)).collect();
        assert_eq!(heights, [Some(HEIGHT_S_MIN), Some(0.009), Some(0.0005), None]);
    }
}
