//! Every way the API says no: problem details (RFC 9457) of a closed list of types.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `tidings:` and one of a closed list of words.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What is wrong here, for a person.
    pub detail: String,
    /// Where in the body it stands (RFC 6901), or `?name` of a query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What may stand there instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

/// Declares the closed list: a name, the word on the wire, the status, the title.
macro_rules! kinds {
    ($($name:ident $word:literal $status:literal $title:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $title] $name,)*
        }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            /// The type as it stands in a problem.
            pub fn uri(self) -> &'static str {
                match self { $(Kind::$name => concat!("tidings:", $word),)* }
            }

            pub fn status(self) -> u16 {
                match self { $(Kind::$name => $status,)* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Kind::$name => $title,)* }
            }
        }
    };
}

kinds! {
    BadJson "bad-json" 400 "The body is not JSON";
    BadShape "bad-shape" 400 "Something is of the wrong JSON type";
    MissingField "missing-field" 400 "A field is missing";
    UnknownField "unknown-field" 400 "There is no such field";
    UnknownParameter "unknown-parameter" 400 "There is no such query parameter";
    BadParameter "bad-parameter" 400 "A query parameter or header cannot be read";
    BadName "bad-name" 400 "A name is not allowed";
    BadCursor "bad-cursor" 400 "That is no page of this list";
    Disagreement "disagreement" 400 "Path, query and body disagree";
    NoToken "no-token" 401 "It needs a token";
    UnknownToken "unknown-token" 401 "The token is not known";
    NotGranted "not-granted" 403 "The token does not grant it";
    Forbidden "forbidden" 403 "A web page of another origin may not change anything here";
    NotFound "not-found" 404 "There is no such thing";
    NoSuchRoute "no-such-route" 404 "There is nothing at this path";
    UnknownDatacenter "unknown-datacenter" 404 "That datacenter is not known";
    NoSuchMethod "no-such-method" 405 "That method is not for this path";
    ConditionFailed "condition-failed" 412 "The condition does not hold";
    TooLarge "too-large" 413 "It is too large";
    Misdirected "misdirected" 421 "This agent is not called that";
    BadPort "bad-port" 422 "A port is out of range";
    BadAddress "bad-address" 422 "An address is not allowed";
    BadWeight "bad-weight" 422 "A weight is out of range";
    BadDuration "bad-duration" 422 "A duration is out of range";
    BadValue "bad-value" 422 "A value is not allowed";
    TooMany "too-many" 422 "There are too many of them";
    BadCheck "bad-check" 422 "A check cannot be made";
    Ambiguous "ambiguous" 422 "Several instances are called that";
    Invalid "invalid" 422 "It makes no sense as a whole";
    Busy "busy" 429 "Too much is under way";
    Internal "internal" 500 "The agent is at fault";
    Unavailable "unavailable" 503 "The agent cannot do it now";
    NotReady "not-ready" 503 "The agent has not caught up yet";
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.uri().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            pointer: None,
            allowed: None,
        }
    }

    /// Says where it stands.
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says what may stand there instead.
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_one_word_and_an_error() {
        let mut words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.uri()).collect();
        assert!(Kind::ALL.iter().all(|kind| (400..600).contains(&kind.status())));
        assert!(words.iter().all(|word| word.strip_prefix("tidings:").unwrap().bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
