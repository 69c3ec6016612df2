//! `consul kv get|put|delete`.

use std::fmt::Write as _;
use std::io::Read as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::ask::Asked;
use super::{Exit, Failure, print};
use crate::cli::block_on;
use crate::client::segment;

pub fn run(words: &[&str]) -> Result<(), Failure> {
    let (verb, words) = words.split_first().ok_or_else(|| usage("get, put or delete is missing"))?;
    let asked = Asked::read(words)?;
    match *verb {
        "get" => get(&asked),
        "put" => put(&asked),
        "delete" => delete(&asked),
        other => Err(usage(&format!("{other:?}: get, put and delete are known"))),
    }
}

fn usage(why: &str) -> Failure {
    Failure::new(Exit::Usage, why)
}

/// A leading slash is no part of a key.
fn key(asked: &Asked) -> &str {
    asked.words.others.first().map_or("", |key| key.strip_prefix('/').unwrap_or(key))
}

/// A key as a path; its own slashes stay.
fn path(key: &str) -> String {
    format!("/v1/kv/{}", key.split('/').map(segment).collect::<Vec<_>>().join("/"))
}

/// The body of a 200; nothing for a 404.
fn ask(asked: &Asked, method: Method, path: &str, body: Vec<u8>) -> Result<Option<Vec<u8>>, Failure> {
    let (status, bytes) = block_on(async { Ok(asked.client.exchange(method, path, body).await?) })?;
    match status {
        StatusCode::OK => Ok(Some(bytes)),
        StatusCode::NOT_FOUND => Ok(None),
        other => Err(Failure::failed(format!("the agent answered {other}: {}", String::from_utf8_lossy(&bytes)))),
    }
}

fn get(asked: &Asked) -> Result<(), Failure> {
    let key = key(asked);
    let (is_prefix, lists_keys) = (asked.words.is_on("recurse"), asked.words.is_on("keys"));
    if key.is_empty() && !is_prefix && !lists_keys {
        return Err(usage("a key is missing"));
    }
    if lists_keys {
        let separator = asked.words.one("separator").unwrap_or("/");
        let found = ask(asked, Method::GET, &format!("{}?keys=&separator={}", path(key), segment(separator)), Vec::new())?;
        let keys: Vec<String> = found.map(|body| decode(&body)).transpose()?.unwrap_or_default();
        return print(&keys.into_iter().map(|key| key + "\n").collect::<String>());
    }
    let found = ask(asked, Method::GET, &format!("{}{}", path(key), if is_prefix { "?recurse=" } else { "" }), Vec::new())?;
    let entries: Vec<Value> = found.map(|body| decode(&body)).transpose()?.unwrap_or_default();
    if entries.is_empty() && !is_prefix {
        return Err(Failure::failed(format!("Error! No key exists at: {key}")));
    }
    let mut out = String::new();
    for (at, entry) in entries.iter().enumerate() {
        let value = value(asked, entry);
        if asked.words.is_on("detailed") {
            let blank = if at > 0 { "\n" } else { "" };
            let _ = write!(out, "{blank}{}", detailed(entry, &value));
        } else if is_prefix {
            let _ = writeln!(out, "{}:{value}", entry["Key"].as_str().unwrap_or_default());
        } else {
            let _ = writeln!(out, "{value}");
        }
    }
    print(&out)
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|why| Failure::failed(format!("the agent's answer cannot be read: {why}")))
}

/// A value as it is shown: as text, or, where that is wanted, in the encoding it came in.
fn value(asked: &Asked, entry: &Value) -> String {
    let encoded = entry["Value"].as_str().unwrap_or_default();
    if asked.words.is_on("base64") {
        return encoded.to_owned();
    }
    BASE64_STANDARD.decode(encoded).map_or_else(|_| encoded.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn detailed(entry: &Value, value: &str) -> String {
    let number = |name: &str| entry[name].as_u64().unwrap_or_default();
    format!(
        "CreateIndex      {}\nFlags            {}\nKey              {}\nLockIndex        {}\nModifyIndex      {}\nSession          -\n\
         Value            {value}\n",
        number("CreateIndex"),
        number("Flags"),
        entry["Key"].as_str().unwrap_or_default(),
        number("LockIndex"),
        number("ModifyIndex"),
    )
}

fn put(asked: &Asked) -> Result<(), Failure> {
    let key = key(asked);
    if key.is_empty() {
        return Err(usage("a key is missing"));
    }
    let body = match asked.words.others.get(1).map(String::as_str) {
        None => Vec::new(),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|why| Failure::failed(format!("the value cannot be read: {why}")))?;
            bytes
        }
        Some(word) => match word.strip_prefix('@') {
            Some(file) => std::fs::read(file).map_err(|why| Failure::failed(format!("{file} cannot be read: {why}")))?,
            None if asked.words.is_on("base64") => {
                BASE64_STANDARD.decode(word).map_err(|why| usage(&format!("the value is no base64: {why}")))?
            }
            None => word.as_bytes().to_vec(),
        },
    };
    let mut query: Vec<String> = asked.words.one("flags").map(|flags| format!("flags={}", segment(flags))).into_iter().collect();
    if asked.words.is_on("cas") {
        // Refused by the agent, with the reason.
        query.push(format!("cas={}", segment(asked.words.one("modify-index").unwrap_or("0"))));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let done = ask(asked, Method::PUT, &format!("{}{query}", path(key)), body)?;
    if done.as_deref().is_some_and(|said| said.starts_with(b"true")) {
        return print(&format!("Success! Data written to: {key}\n"));
    }
    Err(Failure::failed(format!("Error! Did not write to {key}")))
}

fn delete(asked: &Asked) -> Result<(), Failure> {
    let key = key(asked);
    let is_prefix = asked.words.is_on("recurse");
    if key.is_empty() && !is_prefix {
        return Err(usage("a key is missing"));
    }
    ask(asked, Method::DELETE, &format!("{}{}", path(key), if is_prefix { "?recurse=" } else { "" }), Vec::new())?;
    print(&if is_prefix { format!("Success! Deleted keys with prefix: {key}\n") } else { format!("Success! Deleted key: {key}\n") })
}
