//! `?near=`: how far instances are from a member, as this agent estimates it: by round trips inside its own datacenter, by those between
//! gateways beyond.

use super::encode::Decoded;
use super::refuse::No;
use super::request::wrong;
use crate::select::Distance;
use crate::view::{Entry, MemberView, Near, View};

/// Distances from one member.
pub struct Distances<'v> {
    view: &'v View,
    /// None of who is not listed yet: an agent that starts.
    from: Option<&'v MemberView>,
    near: Option<Near>,
}

impl<'v> Distances<'v> {
    /// From this agent.
    pub fn here(view: &'v View) -> Self {
        let from = view.member(view.agent.id);
        Self { view, from, near: Near::of(view, view.agent.id) }
    }

    /// From the member that `?near=` names, where it is given.
    ///
    /// # Errors
    /// There is no such member.
    pub fn asked(view: &'v View, near: Option<&str>) -> Result<Option<Self>, No> {
        let Some(name) = near else { return Ok(None) };
        let from = view.member_called(name).ok_or_else(|| {
            wrong("near", format!("there is no member {name:?} here"))
                .allowed("the name or id of a member, or _agent for the one that is asked")
        })?;
        Ok(Some(Self { view, from: Some(from), near: Near::of(view, from.id) }))
    }

    /// The estimated round trip to an instance in microseconds; none where nobody knows.
    pub fn round_trip_us(&self, entry: &Entry) -> Option<u32> {
        if entry.node.datacenter == self.view.agent.datacenter {
            return self.near.as_ref()?.round_trip_us(entry.node.id);
        }
        self.view.datacenter(&entry.node.datacenter)?.rtt_us
    }

    /// As far as names tell.
    pub fn between(&self, entry: &Entry) -> Distance {
        if self.from.map_or(self.view.agent.id, |from| from.id) == entry.node.id {
            return Distance::SameNode;
        }
        let zone = self.from.map_or(self.view.agent.zone.as_deref(), |from| from.zone.as_deref());
        let is_near = zone.is_some() && Decoded::of(entry).is_some_and(|decoded| decoded.zone() == zone);
        match () {
            () if is_near => Distance::SameZone,
            () if entry.node.datacenter == self.view.agent.datacenter => Distance::SameDatacenter,
            () => Distance::Elsewhere,
        }
    }

    /// The nearest first, those of unknown distance behind them, suspects last; of equals the order stays.
    pub fn sort(&self, entries: &mut [&Entry]) {
        entries.sort_by_key(|entry| (entry.is_suspect(), self.round_trip_us(entry).unwrap_or(u32::MAX)));
    }
}
