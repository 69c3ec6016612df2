//! Consul's `?filter`: a boolean expression over one element of an answer (Consul's "filtering" reference; go-bexpr is its grammar).
//!
//! ```text
//! lexer      text to tokens
//! parser     tokens to an expression: not binds before and, and before or
//! shape      what an element holds, so that an expression is refused before any element is looked at
//! evaluate   an expression on an element's JSON
//! ```
//!
//! A filter is bounded in length, depth and regular expressions; those are matched in linear time. What Consul's grammar allows is
//! allowed; beyond it, quoted texts know Go's escapes and no space is needed beside a parenthesis.

mod evaluate;
mod lexer;
mod parser;
pub mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

use evaluate::Test;
use serde_json::Value;
use shape::Shape;

/// A filter's text.
pub const FILTER_BYTES_MAX: usize = 8 * 1024;
/// Parentheses and negations inside each other.
const DEPTH_MAX: usize = 64;
/// Regular expressions of one filter, and what one may take once it is compiled.
const PATTERNS_MAX: usize = 16;
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A filter that fits the elements it was made for.
#[derive(Debug)]
pub struct Filter(Expression<Test>);

/// Whether an element matches, by terms of one kind: as they were read, then as they are tested.
#[derive(Debug, PartialEq)]
enum Expression<T> {
    Any(Vec<Expression<T>>),
    All(Vec<Expression<T>>),
    Not(Box<Expression<T>>),
    Term(T),
}

impl Filter {
    /// Reads a filter over elements of that shape.
    ///
    /// # Errors
    /// Says what of it cannot be understood, or does not fit the elements.
    pub fn read(text: &str, shape: &Shape) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let terms = parser::parse(text)?;
        let mut patterns = 0;
        terms.fit(&mut |term| Test::of(term, shape, &mut patterns)).map(Self)
    }

    /// Whether the filter takes an element of its shape.
    pub fn matches(&self, element: &Value) -> bool {
        self.0.holds(&|test: &Test| test.holds(element))
    }
}

impl<T> Expression<T> {
    fn fit<U>(self, fit: &mut impl FnMut(T) -> Result<U, FilterError>) -> Result<Expression<U>, FilterError> {
        let mut each = |parts: Vec<Self>| parts.into_iter().map(|part| part.fit(&mut *fit)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Expression::Any(parts) => Expression::Any(each(parts)?),
            Expression::All(parts) => Expression::All(each(parts)?),
            Expression::Not(part) => Expression::Not(Box::new(part.fit(fit)?)),
            Expression::Term(term) => Expression::Term(fit(term)?),
        })
    }

    fn holds(&self, test: &impl Fn(&T) -> bool) -> bool {
        match self {
            Expression::Any(parts) => parts.iter().any(|part| part.holds(test)),
            Expression::All(parts) => parts.iter().all(|part| part.holds(test)),
            Expression::Not(part) => !part.holds(test),
            Expression::Term(term) => test(term),
        }
    }
}

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    TooLong,
    TooDeep,
    TooManyPatterns,
    /// `at` is a byte of the text.
    Syntax {
        at: usize,
        expected: &'static str,
    },
    /// The elements have nothing of that name.
    Selector(String),
    Operator {
        operator: &'static str,
        selector: String,
    },
    /// A value that the selected field cannot have.
    Value {
        value: String,
        selector: String,
    },
    Pattern {
        pattern: String,
        why: String,
    },
}

impl fmt::Display for FilterError {
    /// In Consul's words, where it has some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failed to create boolean expression evaluator: ")?;
        match self {
            FilterError::TooLong => write!(f, "a filter has at most {FILTER_BYTES_MAX} bytes"),
            FilterError::TooDeep => write!(f, "parentheses and negations are nested at most {DEPTH_MAX} deep"),
            FilterError::TooManyPatterns => write!(f, "a filter has at most {PATTERNS_MAX} regular expressions"),
            FilterError::Syntax { at, expected } => write!(f, "1:{} ({at}): no match found, expected: {expected}", at + 1),
            FilterError::Selector(selector) => write!(f, "Selector {selector:?} is not valid"),
            FilterError::Operator { operator, selector } => write!(f, "Invalid match operator {operator:?} for selector {selector:?}"),
            FilterError::Value { value, selector } => write!(f, "Failed to coerce value {value:?} for selector {selector:?}"),
            FilterError::Pattern { pattern, why } => write!(f, "Failed to compile regular expression {pattern:?}: {why}"),
        }
    }
}

impl std::error::Error for FilterError {}
