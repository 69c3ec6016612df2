//! Names: validated once, where they enter, so that no room behind has to ask again.

use super::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The random 128 bits that name an agent for as long as its data directory lives; as an *origin*, the author of records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u128);

/// As its 16 bytes: a number of variable length would take 19 for most of them.
impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_le_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; 16]>::deserialize(deserializer).map(|bytes| Self(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    /// Eight digits are enough to tell agents apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}

impl std::str::FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NameError { what: "node id", problem: Problem::NotAnId });
        }
        u128::from_str_radix(text, 16).map(NodeId).map_err(|_| NameError { what: "node id", problem: Problem::NotAnId })
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameError {
    /// Which kind of name, as people call it: `service name`.
    pub what: &'static str,
    pub problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Empty,
    TooLong {
        bytes_max: usize,
    },
    ControlCharacter,
    /// Only letters, digits, `_`, `.` and `-` are allowed here.
    Character(char),
    /// `.` and `..` mean directories to too many programs.
    Dots,
    NotAnId,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        match self.problem {
            Problem::Empty => write!(f, "a {what} must not be empty"),
            Problem::TooLong { bytes_max } => write!(f, "a {what} has at most {bytes_max} bytes"),
            Problem::ControlCharacter => write!(f, "a {what} must not hold control characters"),
            Problem::Character(c) => write!(f, "a {what} may hold letters, digits, '_', '.' and '-', not {c:?}"),
            Problem::Dots => write!(f, "a {what} must not be '.' or '..'"),
            Problem::NotAnId => write!(f, "a {what} is 32 hexadecimal digits"),
        }
    }
}

impl std::error::Error for NameError {}

/// Which characters a kind of name may hold.
#[derive(Clone, Copy)]
enum Alphabet {
    /// Anything but control characters.
    Text,
    /// `[A-Za-z0-9_.-]`.
    Word,
}

fn checked(what: &'static str, text: &str, bytes_max: usize, alphabet: Alphabet) -> Result<Arc<str>, NameError> {
    let refuse = |problem| Err(NameError { what, problem });
    if text.is_empty() {
        return refuse(Problem::Empty);
    }
    if text.len() > bytes_max {
        return refuse(Problem::TooLong { bytes_max });
    }
    if text == "." || text == ".." {
        return refuse(Problem::Dots);
    }
    for c in text.chars() {
        match alphabet {
            _ if c.is_control() => return refuse(Problem::ControlCharacter),
            Alphabet::Word if !(c.is_ascii_alphanumeric() || "_.-".contains(c)) => return refuse(Problem::Character(c)),
            Alphabet::Text | Alphabet::Word => {}
        }
    }
    Ok(text.into())
}

/// Declares a validated name: a cheaply cloned string that exists only if `new` accepted it.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr, $alphabet:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// Says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked($what, text, $bytes_max, $alphabet).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Keeps equal service names apart; `default` where nobody says otherwise.
    Namespace, "namespace", limits::NAMESPACE_BYTES_MAX, Alphabet::Word
);
name!(
    /// What is looked up. Case is kept and counts.
    ServiceName, "service name", limits::SERVICE_BYTES_MAX, Alphabet::Text
);
name!(
    /// One instance of a service within its scope.
    InstanceId, "instance id", limits::INSTANCE_ID_BYTES_MAX, Alphabet::Text
);
name!(
    /// The name of an agent's host, or of an external node.
    NodeName, "node name", limits::NODE_NAME_BYTES_MAX, Alphabet::Text
);
name!(Datacenter, "datacenter name", limits::NODE_NAME_BYTES_MAX, Alphabet::Word);
name!(Zone, "zone name", limits::NODE_NAME_BYTES_MAX, Alphabet::Text);

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A service in its namespace: what a lookup names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub namespace: Namespace,
    pub service: ServiceName,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace == Namespace::default() {
            write!(f, "{}", self.service)
        } else {
            write!(f, "{}/{}", self.namespace, self.service)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_may_hold_slashes_and_group_marks_but_no_control_characters() {
        assert!(ServiceName::new("group@@a/b:c#d %").is_ok());
        assert_eq!(ServiceName::new("a\nb").unwrap_err().problem, Problem::ControlCharacter);
        assert_eq!(ServiceName::new("").unwrap_err().problem, Problem::Empty);
        assert_eq!(ServiceName::new("..").unwrap_err().problem, Problem::Dots);
        assert!(ServiceName::new(&"x".repeat(768)).is_ok());
        assert_eq!(ServiceName::new(&"x".repeat(769)).unwrap_err().problem, Problem::TooLong { bytes_max: 768 });
    }

    #[test]
    fn a_namespace_is_a_word() {
        assert!(Namespace::new("team-1.prod_x").is_ok());
        assert_eq!(Namespace::new("a/b").unwrap_err().problem, Problem::Character('/'));
    }
}
