//! Plain data that all rooms share.

pub mod names;
pub mod time;
