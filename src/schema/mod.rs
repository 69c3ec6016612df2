//! The JSON of the native API (api.md §1) and its OpenAPI document; serde types only.
//!
//! ```text
//! registration  what a client says of an instance
//! instance      what an agent answers about instances and services
//! cluster       members, this agent, datacenters, events, keys
//! problem       every way to say no: RFC 9457, a closed list of types
//! pairs         maps that keep their order
//! openapi       the document
//! ```
//!
//! Answers borrow what they can: an agent writes them straight from its view. The client reads the same types. Requests are *read* by the
//! API from plain JSON, so that a refusal can name the very place; these types say what it accepts.

pub mod cluster;
pub mod instance;
#[cfg(feature = "agent")]
pub mod openapi;
pub mod pairs;
pub mod problem;
pub mod registration;

pub use cluster::{Datacenters, Event, Events, Join, Key, Keys, Member, Members, NewKey, Reloaded, Status};
pub use instance::{Batch, Instance, InstanceDetail, Instances, List, Pick, ServiceSummary, Services, Why, Write};
pub use pairs::Pairs;
pub use problem::{Kind, Problem};
pub use registration::{Address, BatchItem, BatchRequest, Check, Heartbeat, Override, Registration};
