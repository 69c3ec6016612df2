//! `tidings config show | check | example`

use std::fmt::Write as _;

use clap::Subcommand;

use super::Failure;
use super::agent::AgentFlags;
use crate::settings::{security, table};
use crate::{agent, serve};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every setting with the value that counts, and where it came from.
    Show(AgentFlags),
    /// Say whether an agent would start with these settings, without starting one.
    Check(AgentFlags),
    /// Print a settings file with every setting and what it does.
    Example,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Show(flags) => show(flags),
        What::Check(flags) => {
            let (settings, _) = flags.load()?;
            security::check(&settings)?;
            serve::tls::load(&settings)?;
            agent::credentials(&settings)?;
            super::print("The settings are fine.\n")
        }
        What::Example => super::print(&table::example()),
    }
}

fn show(flags: &AgentFlags) -> Result<(), Failure> {
    let (settings, layers) = flags.load()?;
    let found = |key: &str| match key {
        "node.name" => Some(settings.node.name.to_string()),
        "node.data_dir" => settings.node.data_dir.as_ref().map(|dir| dir.display().to_string()),
        _ => None,
    };
    let rows: Vec<_> = layers
        .shown()
        .map(|(key, value, source)| {
            let value = value.or_else(|| found(key).map(|value| format!("{value:?}"))).unwrap_or_else(|| "(none)".to_owned());
            (key, value, source)
        })
        .collect();
    let width = |of: fn(&(&str, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (keys, values) = (width(|row| row.0.len()), width(|row| row.1.chars().count()));
    let mut text = String::new();
    for (key, value, source) in &rows {
        let _ = writeln!(text, "{key:keys$} = {value:values$}  # {source}");
    }
    super::print(&text)
}
