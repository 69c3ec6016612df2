//! What a read asks for besides its subject: `?tag`, `?node-meta`, `?filter`, `?near`.

use serde::Serialize;

use super::Consul;
use super::filter::Filter;
use super::filter::shape::Shape;
use super::json::node::has_meta;
use super::json::service::One;
use super::refuse::Failure;
use super::request::Params;
use crate::view::{Near, Node, Service, View};

/// Conditions on the elements of a list. All that is named must hold.
pub struct Wanted<'p> {
    tags: Vec<&'p str>,
    /// `k:v`; without a colon nothing matches, as in Consul.
    node_meta: Vec<&'p str>,
    filter: Option<Filter>,
    near: Option<&'p str>,
}

impl<'p> Wanted<'p> {
    /// `shape` is that of the elements.
    ///
    /// # Errors
    /// The parameters mean nothing together, the datacenter is not known, or the filter does not fit the elements.
    pub fn of(consul: &Consul, params: &'p Params, shape: &Shape) -> Result<Self, Failure> {
        params.check_reading_there(consul)?;
        let filter = params.filled("filter").map(|text| Filter::read(text, shape)).transpose();
        Ok(Self {
            tags: params.all("tag").filter(|tag| !tag.is_empty()).collect(),
            node_meta: params.all("node-meta").collect(),
            filter: filter.map_err(|refused| Failure::bad(refused.to_string()))?,
            near: params.filled("near"),
        })
    }

    /// Whether everything is wanted, in its own order.
    pub fn is_everything(&self) -> bool {
        self.tags.is_empty() && self.node_meta.is_empty() && self.filter.is_none() && self.near.is_none()
    }

    /// The instances of a service that have the tags, in Consul's order.
    pub fn instances<'v>(&self, service: Option<&'v Service>) -> Vec<One<'v>> {
        let mut all = service.map(One::all_of).unwrap_or_default();
        all.retain(|one| one.has_tags(self.tags.iter().copied()));
        all
    }

    /// The elements that are wanted, in their order or, where that is asked, the nearest first. Each comes with its node.
    pub fn pick<'n, T: Serialize>(&self, view: &View, elements: impl Iterator<Item = (&'n Node, T)>) -> Vec<T> {
        let mut picked: Vec<(&Node, T)> = elements.filter(|(node, element)| self.takes_node(node) && self.takes(element)).collect();
        if let Some(near) = self.near.and_then(|near| Near::named(view, near)) {
            picked.sort_by_key(|(node, _)| near.rank(node.id));
        }
        picked.into_iter().map(|(_, element)| element).collect()
    }

    pub fn takes_node(&self, node: &Node) -> bool {
        self.node_meta.iter().all(|pair| pair.split_once(':').is_some_and(|(key, value)| has_meta(node, key, value)))
    }

    /// Whether the filter takes an element as it is to be shown.
    pub fn takes(&self, element: &impl Serialize) -> bool {
        let Some(filter) = &self.filter else { return true };
        serde_json::to_value(element).is_ok_and(|element| filter.matches(&element))
    }
}
