//! The read side: immutable snapshots, queries, revisions, change feeds.

/// What readers see at one moment.
#[derive(Debug, Default)]
pub struct View {}
