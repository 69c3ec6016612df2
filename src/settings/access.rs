//! `[access]`: tokens and what requests without one may do, as the rules that `access` decides by.

use std::path::PathBuf;

use toml::{Table, Value};

use super::layers::nearest;
use super::values::Reader;
use super::{Access, Problem};
use crate::access::{Grant, Rules, Secret, Token};

const TOKENS: &str = "access.tokens";
const ANONYMOUS: &str = "access.anonymous";
const FIELDS: &[&str] = &["name", "secret", "grants"];
/// A name is for people; it stands in refusals.
const NAME_CHARS_MAX: usize = 64;
/// What a secret is marked with in the file when it is only the hash of one.
const HASH_PREFIX: &str = "sha256:";

pub(super) fn read(read: &Reader<'_>) -> Result<Access, Problem> {
    let tables = read.value(TOKENS).and_then(Value::as_array);
    let anonymous = read.value(ANONYMOUS);
    if tables.is_none() && anonymous.is_none() {
        return Ok(Access { rules: Rules::default(), secret_files: Vec::new() });
    }
    let anonymous = read.list(ANONYMOUS).map(|text| read.checked(ANONYMOUS, text, str::parse::<Grant>)).collect::<Result<_, _>>()?;
    let mut secret_files = Vec::new();
    let mut tokens = Vec::new();
    for (i, table) in tables.into_iter().flatten().filter_map(Value::as_table).enumerate() {
        let place = Place { read, number: i + 1, name: table.get("name").and_then(Value::as_str).unwrap_or_default() };
        tokens.push(place.token(table, &mut secret_files)?);
    }
    let rules = Rules::new(tokens, anonymous).map_err(|why| read.wrong(TOKENS, format!("cannot be: {why}")))?;
    Ok(Access { rules, secret_files })
}

/// Where a token stands, for errors. They never repeat a secret.
struct Place<'r> {
    read: &'r Reader<'r>,
    number: usize,
    name: &'r str,
}

impl Place<'_> {
    fn token(&self, table: &Table, secret_files: &mut Vec<PathBuf>) -> Result<Token, Problem> {
        if let Some(unknown) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            let hint = nearest(unknown, FIELDS.iter().copied())
                .map_or("It has name, secret and grants.".to_owned(), |near| format!("Did you mean {near}?"));
            return Err(self.wrong(&format!("there is no field {unknown:?}")).hint(hint));
        }
        let is_name = !self.name.is_empty() && self.name.len() <= NAME_CHARS_MAX && self.name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name {
            return Err(self.wrong(&format!("name is a text of 1 to {NAME_CHARS_MAX} letters, digits and signs")));
        }
        let secret = table.get("secret").and_then(Value::as_str).ok_or_else(|| {
            self.wrong("secret is missing, or no text").hint("`tidings token` makes a token, and prints the lines for this file.")
        })?;
        let grants = table.get("grants").and_then(Value::as_array).ok_or_else(|| self.wrong("grants is missing, or no list"))?;
        Ok(Token { name: self.name.to_owned(), secret: self.secret(secret, secret_files)?, grants: self.grants(grants)? })
    }

    fn secret(&self, text: &str, secret_files: &mut Vec<PathBuf>) -> Result<Secret, Problem> {
        let Some(path) = text.strip_prefix('@') else {
            if let (false, Some(file)) = (text.starts_with(HASH_PREFIX), self.read.file()) {
                secret_files.push(file);
            }
            return text.parse().map_err(|why| self.wrong(&format!("secret is none: {why}")));
        };
        let content = std::fs::read_to_string(path)
            .map_err(|why| self.wrong(&format!("secret names the file {path}, which cannot be read: {why}")))?;
        if !content.starts_with(HASH_PREFIX) {
            secret_files.push(path.into());
        }
        content.parse().map_err(|why| self.wrong(&format!("secret names the file {path}, which holds none: {why}")))
    }

    fn grants(&self, list: &[Value]) -> Result<Vec<Grant>, Problem> {
        let grant = |value: &Value| {
            let text = value.as_str().ok_or_else(|| self.wrong("grants is a list of texts"))?;
            text.parse().map_err(|why| self.wrong(&format!("{text:?} is no grant: {why}")))
        };
        list.iter().map(grant).collect()
    }

    fn wrong(&self, what: &str) -> Problem {
        let which = if self.name.is_empty() { format!("number {}", self.number) } else { format!("{:?}", self.name) };
        self.read.wrong(TOKENS, format!("{which}: {what}"))
    }
}
