//! A term as it is tested on an element's JSON.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::parser::{Operator, Term};
use super::shape::Shape;
use super::{FilterError, PATTERN_BYTES_MAX, PATTERNS_MAX};

/// A term that fits a shape.
#[derive(Debug)]
pub struct Test {
    steps: Vec<Step>,
    is_negated: bool,
    leaf: Leaf,
}

/// One step from an element towards what a selector names.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Where a map lacks the key there is nothing, which differs from something empty.
    Key(String),
    Each,
}

/// What is asked of the selected value.
#[derive(Debug)]
enum Leaf {
    Is(Scalar),
    /// A text that has this in it.
    HasPart(String),
    /// A list that has this item.
    HasItem(Scalar),
    HasKey(String),
    IsEmpty,
    Matches(Regex),
}

#[derive(Debug, PartialEq)]
enum Scalar {
    Text(String),
    Flag(bool),
    Number(i64),
}

impl Test {
    /// # Errors
    /// The term does not fit elements of that shape.
    pub fn of(term: Term, shape: &Shape, patterns: &mut usize) -> Result<Self, FilterError> {
        let Term { selector, is_negated, operator } = term;
        let name = || selector.join(".");
        let (mut steps, mut shape) = (Vec::new(), *shape);
        for part in &selector {
            while let Shape::List(item) = shape {
                steps.push(Step::Each);
                shape = *item;
            }
            shape = match shape {
                Shape::Map(value) => {
                    steps.push(Step::Key(part.clone()));
                    *value
                }
                _ => {
                    steps.push(Step::Field(part.clone()));
                    shape.field(part).ok_or_else(|| FilterError::Selector(name()))?
                }
            };
        }
        let refuse = |operator| Err(FilterError::Operator { operator, selector: name() });
        let leaf = match (operator, shape) {
            (Operator::Equal(value), Shape::Text | Shape::Flag | Shape::Number) => Leaf::Is(scalar(value, shape, name)?),
            (Operator::Equal(_), _) => return refuse(if is_negated { "Not Equal" } else { "Equal" }),
            (Operator::In(part), Shape::Text) => Leaf::HasPart(part),
            (Operator::In(key), Shape::Map(_)) => Leaf::HasKey(key),
            (Operator::In(value), Shape::List(item)) if matches!(item, Shape::Text | Shape::Flag | Shape::Number) => {
                Leaf::HasItem(scalar(value, *item, name)?)
            }
            (Operator::In(_), _) => return refuse(if is_negated { "Not In" } else { "In" }),
            (Operator::Empty, Shape::List(_) | Shape::Map(_)) => Leaf::IsEmpty,
            (Operator::Empty, _) => return refuse(if is_negated { "Is Not Empty" } else { "Is Empty" }),
            (Operator::Matches(pattern), Shape::Text) => {
                *patterns += 1;
                if *patterns > PATTERNS_MAX {
                    return Err(FilterError::TooManyPatterns);
                }
                Leaf::Matches(compile(pattern)?)
            }
            (Operator::Matches(_), _) => return refuse(if is_negated { "Not Matches" } else { "Matches" }),
        };
        Ok(Self { steps, is_negated, leaf })
    }

    pub fn holds(&self, element: &Value) -> bool {
        self.walk(&self.steps, Some(element))
    }

    fn walk(&self, steps: &[Step], value: Option<&Value>) -> bool {
        match steps.split_first() {
            None => self.leaf.holds(value) != self.is_negated,
            Some((Step::Field(name), rest)) => self.walk(rest, value.and_then(|value| value.get(name))),
            Some((Step::Key(key), rest)) => match value.and_then(|value| value.get(key)) {
                Some(value) => self.walk(rest, Some(value)),
                // Nothing equals, holds or matches anything, so that only denials hold of it. (Consul 1.8 lets `matches` hold, too.)
                None => self.is_negated,
            },
            Some((Step::Each, rest)) => {
                value.and_then(Value::as_array).is_some_and(|items| items.iter().any(|item| self.walk(rest, Some(item))))
            }
        }
    }
}

impl Leaf {
    /// Whether it holds of a value; none is the zero of its type.
    fn holds(&self, value: Option<&Value>) -> bool {
        let value = value.unwrap_or(&Value::Null);
        let text = value.as_str().unwrap_or_default();
        match self {
            Leaf::Is(scalar) => scalar.is(value),
            Leaf::HasPart(part) => text.contains(part.as_str()),
            Leaf::HasItem(item) => value.as_array().is_some_and(|items| items.iter().any(|value| item.is(value))),
            Leaf::HasKey(key) => value.get(key).is_some(),
            Leaf::IsEmpty => match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                _ => true,
            },
            Leaf::Matches(pattern) => pattern.is_match(text),
        }
    }
}

impl Scalar {
    fn is(&self, value: &Value) -> bool {
        match self {
            Scalar::Text(text) => value.as_str().unwrap_or_default() == text,
            Scalar::Flag(flag) => value.as_bool().unwrap_or_default() == *flag,
            Scalar::Number(number) => value.as_i64().unwrap_or_default() == *number,
        }
    }
}

/// A value as the type that the selected field has, read as Go reads it.
fn scalar(value: String, shape: Shape, name: impl Fn() -> String) -> Result<Scalar, FilterError> {
    let read = match shape {
        Shape::Flag => match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Scalar::Flag(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Scalar::Flag(false)),
            _ => None,
        },
        Shape::Number => value.parse().ok().map(Scalar::Number),
        _ => return Ok(Scalar::Text(value)),
    };
    read.ok_or_else(|| FilterError::Value { value, selector: name() })
}

fn compile(pattern: String) -> Result<Regex, FilterError> {
    let mut builder = RegexBuilder::new(&pattern);
    builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).nest_limit(super::DEPTH_MAX as u32);
    builder.build().map_err(|failed| FilterError::Pattern { pattern: pattern.clone(), why: failed.to_string() })
}
