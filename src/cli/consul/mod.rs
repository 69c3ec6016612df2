//! The command line of Consul's binary, for harnesses and tools that start one (reference/consul.md §6): the binary under the name
//! `consul`, or `tidings consul …`.
//!
//! ```text
//! words     flags in Go's manner
//! file      configuration files and what of them is ours
//! agent     `consul agent`: flags and files as our own settings, then the same agent as `tidings agent`
//! ask       verbs that ask a running agent over HTTP
//! kv        key-value entries, the same way
//! ```
//!
//! What Consul knows and we do not is ignored with a warning; nothing of this leaks into the other verbs.

mod agent;
mod ask;
mod file;
mod kv;
mod words;

use std::ffi::OsStr;
use std::path::Path;

use self::words::Words;
use super::{Exit, Failure, print};
use crate::serve::CONSUL_VERSION;

const USAGE: &str =
    "Usage: consul <command> [args]\n\nCommands:\n    agent version members join leave force-leave info catalog kv reload\n";

/// Whether the binary was started as Consul's.
pub fn is_called(program: Option<&OsStr>) -> bool {
    program.map(Path::new).and_then(Path::file_name).is_some_and(|name| name == "consul")
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// A command of Consul's with its flags, as `consul` takes them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut words = arguments.words.iter().map(String::as_str);
    let verb = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    match verb {
        "agent" => agent::run(&words),
        "version" | "-v" | "-version" | "--version" => version(&words),
        "members" => ask::members(&words),
        "join" => ask::join(&words),
        "leave" => ask::leave(&words),
        "force-leave" => ask::force_leave(&words),
        "reload" => ask::reload(&words),
        "info" => ask::info(&words),
        "catalog" => ask::catalog(&words),
        "kv" => kv::run(&words),
        "" | "help" | "-h" | "-help" | "--help" => print(USAGE),
        other => Err(Failure::new(Exit::Usage, format!("{other:?} is no command of Consul's that is known here\n{USAGE}"))),
    }
}

/// The version of Consul that is spoken, in the words that tools read it from.
fn version(words: &[&str]) -> Result<(), Failure> {
    let words = Words::read(words, &[])?;
    if words.one("format") == Some("json") {
        let version = serde_json::json!({
            "Version": CONSUL_VERSION, "Revision": "", "Prerelease": "", "Tidings": env!("CARGO_PKG_VERSION"),
            "RPC": {"Default": 2, "Min": 2, "Max": 3},
        });
        return print(&format!("{version}\n"));
    }
    print(&format!("Consul v{CONSUL_VERSION}\nThis is tidings {}, which speaks Consul's protocols\n", env!("CARGO_PKG_VERSION")))
}
