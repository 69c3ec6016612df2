//! Who may ask what of an agent: the one decision that every dialect maps its requests onto (design.md §5).
//!
//! ```text
//! door    which requests a browser may make: Host and Origin
//! need    what a request, and what a command needs to be allowed
//! grant   what a token may do, as people write it
//! token   secrets, known by their hashes alone
//! rules   an agent's tokens, who is calling, and whether he may
//! ```
//!
//! A request is looked at twice. When its head is there: who calls, and may he do such a thing at all ([`Rules::caller`],
//! [`Caller::may`])? When it has become a command: may he do this very thing ([`need::of`])? The second look is at the command, whatever
//! dialect and body it came from, so no dialect can forget it. Where requests and commands pass is the agent's and its dialects'.

mod door;
mod grant;
pub mod need;
mod rules;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

pub use door::{Asked, Door};
pub use grant::{BadGrant, Grant};
pub use need::Need;
pub use rules::{BadRules, Caller, Rules, TOKENS_MAX};
pub use token::{BadSecret, Secret, Token};

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It calls this agent by a name that is not known to be its own.
    Misdirected { host: String },
    /// A web page of another origin wants to change something.
    ForeignOrigin { origin: String },
    /// It shows no token, and what it asks needs one.
    NoToken { need: String },
    /// It shows a token that nobody here knows. The token itself is nowhere repeated.
    UnknownToken,
    /// The token is known and does not grant this.
    NotGranted { token: String, need: String },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Misdirected { host } => {
                write!(f, "this agent is called by an IP address, localhost or a configured name, not {host:?}")
            }
            Denied::ForeignOrigin { origin } => write!(f, "a page of {origin:?} may not change anything at this agent"),
            Denied::NoToken { need } => write!(f, "{need} needs a token here, and the request shows none"),
            Denied::UnknownToken => f.write_str("this agent does not know the token"),
            Denied::NotGranted { token, need } => write!(f, "the token {token:?} does not grant {need}"),
        }
    }
}

impl std::error::Error for Denied {}
