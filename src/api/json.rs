//! Reading JSON so that a refusal names the very place (RFC 6901), what is wrong there and what may stand there.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::model::duration;
use crate::schema::{Kind, Problem};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct At<'a> {
    pub value: &'a Value,
    pub pointer: String,
}

/// An object all of whose members are known.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    members: &'a Map<String, Value>,
    pub pointer: String,
}

impl<'a> At<'a> {
    /// The whole body.
    pub fn root(value: &'a Value) -> Self {
        Self { value, pointer: String::new() }
    }

    /// # Errors
    /// It is no object, or has a member that is not in `known`.
    pub fn object(&self, known: &[&str]) -> Result<Object<'a>, Problem> {
        let object = self.any_object()?;
        match object.members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(unknown_member(&object.at_name(unknown), unknown, known)),
            None => Ok(object),
        }
    }

    /// An object with any members.
    ///
    /// # Errors
    /// It is no object.
    pub fn any_object(&self) -> Result<Object<'a>, Problem> {
        let members = self.value.as_object().ok_or_else(|| self.shape("an object"))?;
        Ok(Object { members, pointer: self.pointer.clone() })
    }

    /// # Errors
    /// It is no list, or longer than `items_max`.
    pub fn list(&self, items_max: usize) -> Result<Vec<At<'a>>, Problem> {
        let items = self.value.as_array().ok_or_else(|| self.shape("a list"))?;
        self.check_count(items.len(), items_max)?;
        Ok(items.iter().enumerate().map(|(i, value)| At { value, pointer: format!("{}/{i}", self.pointer) }).collect())
    }

    pub fn check_count(&self, count: usize, count_max: usize) -> Result<(), Problem> {
        if count <= count_max {
            return Ok(());
        }
        Err(self.refuse(Kind::TooMany, format!("there are {count}")).allowed(format!("at most {count_max}")))
    }

    /// # Errors
    /// It is no text.
    pub fn text(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.shape("a text"))
    }

    /// # Errors
    /// It is no text, or longer than that.
    pub fn text_within(&self, bytes_max: usize) -> Result<&'a str, Problem> {
        let text = self.text()?;
        if text.len() <= bytes_max {
            return Ok(text);
        }
        Err(self.refuse(Kind::BadValue, format!("it has {} bytes", text.len())).allowed(format!("at most {bytes_max} bytes")))
    }

    pub fn boolean(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| self.shape("true or false"))
    }

    /// A whole number in `range`, else a problem of that kind.
    pub fn integer(&self, kind: Kind, range: RangeInclusive<i64>) -> Result<i64, Problem> {
        let whole = self.value.as_i64().or_else(|| self.value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64));
        let Some(number) = whole else { return Err(self.shape("a whole number")) };
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.refuse(kind, format!("{} is out of range", self.value)).allowed(format!("{}-{}", range.start(), range.end())))
    }

    pub fn port(&self) -> Result<u16, Problem> {
        let port = self.integer(Kind::BadPort, 0..=i64::from(u16::MAX))?;
        Ok(u16::try_from(port).expect("the range is that of a port"))
    }

    pub fn number(&self) -> Result<f64, Problem> {
        self.value.as_f64().ok_or_else(|| self.shape("a number"))
    }

    /// A duration in milliseconds.
    pub fn duration(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let allowed = || format!("{} to {}", duration::text(*range.start()), duration::text(*range.end()));
        let text = self.value.as_str().ok_or_else(|| self.shape("a duration as text, as \"15s\""))?;
        let Some(ms) = duration::parse_ms(text) else {
            return Err(self.refuse(Kind::BadDuration, format!("{text:?} is no duration, as 250ms, 15s or 1m30s are")).allowed(allowed()));
        };
        if range.contains(&ms) {
            return Ok(ms);
        }
        Err(self.refuse(Kind::BadDuration, format!("{text} is out of range")).allowed(allowed()))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Problem> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(Kind::BadValue, format!("{text:?} is not known here")).allowed(allowed.join(", "))
        })
    }

    pub fn refuse(&self, kind: Kind, detail: impl Into<String>) -> Problem {
        Problem::new(kind, detail).at(self.pointer.clone())
    }

    fn shape(&self, expected: &str) -> Problem {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.refuse(Kind::BadShape, format!("{found} stands where {expected} belongs")).allowed(expected.to_owned())
    }
}

impl<'a> Object<'a> {
    /// A member; null counts as absent.
    pub fn get(&self, name: &str) -> Option<At<'a>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(At { value, pointer: self.at_name(name) })
    }

    /// # Errors
    /// It is absent.
    pub fn need(&self, name: &str) -> Result<At<'a>, Problem> {
        self.get(name).ok_or_else(|| Problem::new(Kind::MissingField, format!("{name} is missing")).at(self.at_name(name)))
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn members(&self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        self.members.iter().map(|(name, value)| (name.as_str(), At { value, pointer: self.at_name(name) }))
    }

    fn at_name(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }
}

fn unknown_member(pointer: &str, name: &str, known: &[&str]) -> Problem {
    let detail = match nearest(name, known) {
        Some(near) => format!("there is no field {name:?} here; did you mean {near:?}?"),
        None => format!("there is no field {name:?} here"),
    };
    Problem::new(Kind::UnknownField, detail).at(pointer).allowed(known.join(", "))
}

/// The name that is most like `wrong`, if any is like it at all.
pub fn nearest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    const LIKENESS_MIN: f64 = 0.5;
    let scored = names.iter().map(|name| (strsim::normalized_damerau_levenshtein(wrong, name), *name));
    scored.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
