//! What a token may do, as people write it: `read`, `write`, `write:PREFIX`, `write@NAMESPACE`, `write@NAMESPACE:PREFIX`, `operator`.
//!
//! The list is closed and no grant holds another: who may write and look lists both. Reading is not divided: who may read sees all.

use std::fmt;
use std::str::FromStr;

use super::Need;
use crate::model::names::{Namespace, ServiceName};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    Read,
    /// Services of this namespace, or of any, whose names begin so.
    Write {
        namespace: Option<Namespace>,
        prefix: String,
    },
    Operator,
}

impl Grant {
    /// Whether this grant alone is enough.
    pub fn covers(&self, need: &Need<'_>) -> bool {
        let is_in = |own: &Option<Namespace>, asked: Option<&str>| own.as_ref().is_none_or(|own| asked == Some(own.as_str()));
        match (self, need) {
            (_, Need::Nothing)
            | (Grant::Read, Need::Read)
            | (Grant::Operator, Need::Operate)
            | (Grant::Write { .. } | Grant::Operator, Need::Change) => true,
            (Grant::Write { namespace: own, prefix }, Need::Write { namespace, service }) => {
                is_in(own, Some(namespace)) && service.starts_with(prefix.as_str())
            }
            (Grant::Write { namespace: own, prefix }, Need::WriteAll { namespace }) => prefix.is_empty() && is_in(own, *namespace),
            (Grant::Read | Grant::Write { .. } | Grant::Operator, _) => false,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Read => f.write_str("read"),
            Grant::Operator => f.write_str("operator"),
            Grant::Write { namespace, prefix } => {
                f.write_str("write")?;
                if let Some(namespace) = namespace {
                    write!(f, "@{namespace}")?;
                }
                if prefix.is_empty() { Ok(()) } else { write!(f, ":{prefix}") }
            }
        }
    }
}

/// A text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadGrant;

impl fmt::Display for BadGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected read, write, write:PREFIX, write@NAMESPACE, write@NAMESPACE:PREFIX or operator")
    }
}

impl std::error::Error for BadGrant {}

impl FromStr for Grant {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        match text {
            "read" => return Ok(Grant::Read),
            "operator" => return Ok(Grant::Operator),
            _ => {}
        }
        let rest = text.strip_prefix("write").ok_or(BadGrant)?;
        // No namespace holds a colon; a prefix may hold anything a service's name does.
        let (namespace, prefix) = match rest.split_once(':') {
            Some((namespace, prefix)) => (namespace, Some(prefix)),
            None => (rest, None),
        };
        let namespace = match namespace.strip_prefix('@') {
            Some(name) => Some(Namespace::new(name).map_err(|_| BadGrant)?),
            None if namespace.is_empty() => None,
            None => return Err(BadGrant),
        };
        // An empty prefix is a slip that would grant everything.
        let prefix = prefix.map(|prefix| ServiceName::new(prefix).map_err(|_| BadGrant)).transpose()?;
        Ok(Grant::Write { namespace, prefix: prefix.map_or(String::new(), |prefix| prefix.as_str().to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_they_are_written() {
        for text in ["read", "operator", "write", "write:web-", "write@prod", "write@prod:web:v2", "write:group@@name"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for text in
            ["", "Read", "admin", "write:", "write@", "write@:web", "write@a b:web", "writes", "write web", "read:web", "operator@prod"]
        {
            assert_eq!(text.parse::<Grant>(), Err(BadGrant), "{text}");
        }
    }

    #[test]
    fn each_grant_covers_its_own_and_nothing_else() {
        let needs = [
            Need::Nothing,
            Need::Read,
            Need::Change,
            Need::Write { namespace: "default", service: "web-1" },
            Need::Write { namespace: "prod", service: "web-1" },
            Need::Write { namespace: "prod", service: "db" },
            Need::WriteAll { namespace: None },
            Need::WriteAll { namespace: Some("prod") },
            Need::Operate,
        ];
        // A column a need, in that order.
        let table = [
            ("read", "xx......."),
            ("write", "x.xxxxxx."),
            ("write:web", "x.xxx...."),
            ("write:web-12", "x.x......"),
            ("write@prod", "x.x.xx.x."),
            ("write@prod:web", "x.x.x...."),
            ("write@pro", "x.x......"),
            ("operator", "x.x.....x"),
        ];
        for (grant, expected) in table {
            let grant: Grant = grant.parse().unwrap();
            let found: String = needs.iter().map(|need| if grant.covers(need) { 'x' } else { '.' }).collect();
            assert_eq!(found, expected, "{grant}");
        }
    }
}
