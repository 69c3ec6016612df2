//! What a checker says when it bites.

use crate::world::HostId;
use crate::world::trace::Instant;
use std::fmt;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub checker: &'static str,
    /// True time in nanoseconds.
    pub at: u64,
    pub hosts: Vec<HostId>,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(HostId::to_string).collect();
        writeln!(f, "{} at {} s on {}", self.checker, Instant(self.at), hosts.join(", "))?;
        writeln!(f, "  expected: {}", self.expected)?;
        write!(f, "  found:    {}", self.found)
    }
}
