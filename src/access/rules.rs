//! An agent's tokens, who is calling, and whether he may.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::{Denied, Grant, Need, Secret, Token};

/// Tokens of one agent: each request is compared with all of them.
pub const TOKENS_MAX: usize = 256;

/// Who may do what at this agent. By default there are no rules: everybody who reaches it may do everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    closed: Option<Arc<Closed>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Closed {
    tokens: Vec<Arc<Token>>,
    anonymous: Arc<[Grant]>,
}

/// Rules that make no sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadRules {
    TooMany,
    /// Two tokens have this name.
    SameName(String),
    /// Two tokens have one secret; these are their names.
    SameSecret(String, String),
    /// Everybody would be an operator.
    AnonymousOperator,
}

impl fmt::Display for BadRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRules::TooMany => write!(f, "there are more than {TOKENS_MAX} tokens"),
            BadRules::SameName(name) => write!(f, "two tokens are called {name:?}"),
            BadRules::SameSecret(one, other) => write!(f, "the tokens {one:?} and {other:?} have one secret"),
            BadRules::AnonymousOperator => f.write_str("an operator has to show a token: access.anonymous cannot hold operator"),
        }
    }
}

impl std::error::Error for BadRules {}

impl Rules {
    /// Rules with these tokens; who shows none may do what `anonymous` grants, and so may everybody else.
    ///
    /// # Errors
    /// They make no sense together.
    pub fn new(tokens: Vec<Token>, anonymous: Vec<Grant>) -> Result<Self, BadRules> {
        if tokens.len() > TOKENS_MAX {
            return Err(BadRules::TooMany);
        }
        if anonymous.contains(&Grant::Operator) {
            return Err(BadRules::AnonymousOperator);
        }
        let mut names = BTreeSet::new();
        for (i, token) in tokens.iter().enumerate() {
            if !names.insert(token.name.as_str()) {
                return Err(BadRules::SameName(token.name.clone()));
            }
            if let Some(other) = tokens[..i].iter().find(|other| other.secret.is(&token.secret)) {
                return Err(BadRules::SameSecret(other.name.clone(), token.name.clone()));
            }
        }
        let tokens = tokens.into_iter().map(Arc::new).collect();
        Ok(Self { closed: Some(Arc::new(Closed { tokens, anonymous: anonymous.into() })) })
    }

    /// Whether there are none.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.closed.as_ref().map_or(0, |closed| closed.tokens.len())
    }

    /// Who shows this token, or none.
    pub fn caller(&self, shown: Option<&str>) -> Caller {
        let Some(closed) = &self.closed else { return Caller { who: Who::Anybody, anonymous: None } };
        let who = shown.map_or(Who::Anonymous, |shown| {
            let shown = Secret::of(shown);
            // All are compared, so that the time tells nothing of which one it was.
            let known = closed.tokens.iter().fold(None, |found, token| if token.secret.is(&shown) { Some(token) } else { found });
            known.map_or(Who::Unknown, |token| Who::Known(Arc::clone(token)))
        });
        Caller { who, anonymous: Some(Arc::clone(&closed.anonymous)) }
    }
}

/// Who a request comes from.
#[derive(Debug, Clone)]
pub struct Caller {
    who: Who,
    anonymous: Option<Arc<[Grant]>>,
}

#[derive(Debug, Clone)]
enum Who {
    /// There are no rules.
    Anybody,
    Anonymous,
    Known(Arc<Token>),
    Unknown,
}

impl Caller {
    /// Whether nothing is denied him, for want of rules.
    pub fn is_anybody(&self) -> bool {
        matches!(self.who, Who::Anybody)
    }

    /// The decision.
    ///
    /// # Errors
    /// Says what is missing: a token, a known one, or the grant.
    pub fn may(&self, need: Need<'_>) -> Result<(), Denied> {
        let own: &[Grant] = match &self.who {
            Who::Anybody => return Ok(()),
            Who::Anonymous => &[],
            Who::Known(token) => &token.grants,
            Who::Unknown if need == Need::Nothing => return Ok(()),
            // Also where nobody has to show one: whoever shows a wrong one wants to know.
            Who::Unknown => return Err(Denied::UnknownToken),
        };
        let everybodys = self.anonymous.as_deref().unwrap_or_default();
        if need == Need::Nothing || own.iter().chain(everybodys).any(|grant| grant.covers(&need)) {
            return Ok(());
        }
        Err(match &self.who {
            Who::Known(token) => Denied::NotGranted { token: token.name.clone(), need: need.to_string() },
            _ => Denied::NoToken { need: need.to_string() },
        })
    }
}
