//! Network coordinates as Serf's agents would show them: those that agents here find together, in seconds.
//!
//! Members without one (they are down, of a program that knows none, or came just now) are not listed, and `?near=` puts them last. An agent
//! that met nobody stands in the middle.

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
use crate::model::coordinate::{self, DIMENSIONS};
use crate::view::{MemberView, View};

/// Of who met nobody: everything may be wrong.
const ERROR_NONE: f64 = 1.5;
/// The least height Serf gives a node, in seconds.
const HEIGHT_S_MIN: f64 = 10.0e-6;

pub fn routes() -> Router<Consul> {
    Router::new()
        .route("/v1/coordinate/datacenters", only("GET", get(datacenters)))
        .route("/v1/coordinate/nodes", only("GET", get(nodes)))
        .route("/v1/coordinate/node/", only("GET", get(node)))
        .route("/v1/coordinate/node/{*node}", only("GET", get(node)))
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

impl From<&coordinate::Coordinate> for Coordinate {
    fn from(known: &coordinate::Coordinate) -> Self {
        Self {
            vec: known.vector.map(|us| f64::from(us) / 1e6),
            error: f64::from(known.error_permille) / 1e3,
            adjustment: f64::from(known.adjustment_us) / 1e6,
            height: f64::from(known.height_us) / 1e6,
        }
    }
}

/// This agent's own.
pub fn own(view: &View) -> Coordinate {
    let known = view.member(view.agent.id).and_then(|member| member.coordinate.as_ref());
    let nowhere = || Coordinate { vec: [0.0; DIMENSIONS], error: ERROR_NONE, adjustment: 0.0, height: HEIGHT_S_MIN };
    known.map_or_else(nowhere, Coordinate::from)
}

fn place<'v>(view: &View, member: &'v MemberView) -> Option<Place<'v>> {
    let coord = if member.id == view.agent.id { own(view) } else { Coordinate::from(member.coordinate.as_ref()?) };
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
    let own = Place { node: &view.agent.name, segment: "", coord: own(&view) };
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
    use crate::model::names::NodeId;
    use crate::view::AgentView;
    use crate::view::testing::member;

    #[test]
    fn coordinates_are_shown_in_seconds_and_only_those_that_are_known() {
        let mut view = View::empty(AgentView { id: NodeId(1), name: "here".to_owned(), ..AgentView::default() }, 1);
        let known =
            coordinate::Coordinate { vector: [2_500, -300, 0, 0, 0, 0, 0, 0], height_us: 150, adjustment_us: -20, error_permille: 250 };
        let far = MemberView { coordinate: Some(known), ..member(2, "far") };
        view.members = [member(1, "here"), far, member(3, "mute")].map(std::sync::Arc::new).into();
        let places: Vec<Place<'_>> = view.members.iter().filter_map(|member| place(&view, member)).collect();
        let shown = serde_json::to_value(&places).unwrap();
        assert_eq!(places.len(), 2);
        assert_eq!(shown[0]["Node"], "here");
        assert_eq!(shown[0]["Coord"]["Error"], 1.5);
        assert_eq!(shown[1]["Coord"]["Vec"][0], 0.0025);
        assert_eq!(shown[1]["Coord"]["Vec"].as_array().unwrap().len(), 8);
        assert_eq!(shown[1]["Coord"]["Height"], 0.00015);
        assert_eq!(shown[1]["Coord"]["Adjustment"], -0.00002);
        assert_eq!(shown[1]["Coord"]["Error"], 0.25);
    }
}
