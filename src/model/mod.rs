//! Plain data that all rooms share: names, instances, records and their order, commands and replies, limits, the clocks' shape.

pub mod answer;
pub mod bytes;
pub mod command;
pub mod coordinate;
pub mod duration;
pub mod entry;
pub mod event;
pub mod instance;
pub mod limits;
pub mod names;
pub mod node;
pub mod record;
pub mod summary;
pub mod text;
pub mod time;
