//! User events: what an operator says to all agents at once, and nobody has to answer.

use serde::{Deserialize, Serialize};

/// The body of a record of kind `event`. Filters are for those who listen; opaque here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserEvent {
    /// Chosen by who fires it: names the event everywhere.
    pub uuid: u128,
    pub name: String,
    /// At most [`EVENT_PAYLOAD_BYTES_MAX`](super::limits::EVENT_PAYLOAD_BYTES_MAX).
    #[serde(with = "super::bytes")]
    pub payload: Vec<u8>,
    pub node_filter: String,
    pub service_filter: String,
    pub tag_filter: String,
    /// Of the event's format, by who fires it.
    pub version: u64,
    /// Wall clock of the agent that took it, in Unix milliseconds; set by the engine.
    pub fired_at: u64,
}
