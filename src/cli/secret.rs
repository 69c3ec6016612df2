//! `tidings keygen` and `tidings token`: secrets, and files for them that nobody else reads.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Exit, Failure};
use crate::access::Grant;
use crate::agent;

/// Only who owns the file may read it.
pub const SECRET_MODE: u32 = 0o600;

#[derive(Debug, clap::Args)]
pub struct Keygen {
    /// Write it to a new file that only you can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Token {
    /// What it is for; it stands in refusals and logs.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    name: String,
    /// read, write, write:PREFIX, write@NAMESPACE, write@NAMESPACE:PREFIX or operator; give it again for more [default: the first,
    /// the second and the last].
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<Grant>,
    /// Write the token to a new file that only you can read; only the lines for the settings are printed then.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn keygen(arguments: &Keygen) -> Result<(), Failure> {
    let key = agent::new_key().map_err(no_entropy)?;
    match &arguments.out {
        Some(path) => write_new(path, &format!("{key}\n"), SECRET_MODE),
        None => super::print(&format!("{key}\n")),
    }
}

pub fn token(arguments: &Token) -> Result<(), Failure> {
    let (token, hash) = agent::new_token().map_err(no_entropy)?;
    let grants = if arguments.grants.is_empty() {
        vec!["\"read\"".to_owned(), "\"write\"".to_owned(), "\"operator\"".to_owned()]
    } else {
        arguments.grants.iter().map(|grant| toml::Value::String(grant.to_string()).to_string()).collect()
    };
    let name = toml::Value::String(arguments.name.clone());
    let lines = format!("[[access.tokens]]\nname = {name}\nsecret = \"{hash}\"\ngrants = [{}]\n", grants.join(", "));
    match &arguments.out {
        Some(path) => {
            write_new(path, &format!("{token}\n"), SECRET_MODE)?;
            super::print(&lines)
        }
        None => {
            super::print(&format!("# The token, for whoever is to show it; it cannot be found out from what follows:\n# {token}\n{lines}"))
        }
    }
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(Exit::Usage, format!("{} is there already, and stays as it is", path.display())),
        _ => Failure::failed(format!("{} cannot be written: {why}", path.display())),
    })
}

fn no_entropy(why: io::Error) -> Failure {
    Failure::failed(format!("the system gives no random numbers: {why}"))
}
