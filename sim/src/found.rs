//! Scenario files: whole plans that once failed, cut down to what it takes, and kept. `shrink` writes them, `scenario FILE` plays them.
//!
//! A file says everything that happens, so it means the same however the drawing of plans changes; a seed does not.

use crate::plan::Plan;
use crate::report::Failure;
use crate::swarm::{self, Options, Passed};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What it shows, in a sentence.
    pub about: String,
    /// The checker that bit when it was found.
    pub checker: String,
    /// Why it may still fail: a finding that is not settled. None: it must pass.
    #[serde(default)]
    pub open: Option<String>,
    /// How long agents keep tombstones, where it is not as long as usual.
    #[serde(default)]
    pub tombstone_ms: Option<u64>,
    pub plan: Plan,
}

impl Found {
    /// # Errors
    /// The file cannot be read, or is no scenario.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The files kept beside the simulator's sources, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn kept() -> Result<Vec<PathBuf>, String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
        let entries = std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
        paths.sort();
        Ok(paths)
    }

    /// Plays it; with a rule of the engine broken, where one is named.
    ///
    /// # Errors
    /// What went wrong.
    pub fn play(&self, path: &Path, sabotage: Option<&str>) -> Result<Passed, Box<Failure>> {
        let options = Options { tombstone_ms: self.tombstone_ms, sabotage: sabotage.map(Into::into), ..Options::default() };
        let again = || again(path, sabotage);
        swarm::run_plan(&self.plan, &options, &again)
    }

    /// As a file: JSON with one line for each host, client, operation and stroke, so that a person can read it and a diff shows it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        write(&mut text, &serde_json::to_value(self).expect("a plan is made of numbers and names"), 0);
        text.push('\n');
        text
    }
}

/// The line that plays a file again.
pub fn again(path: &Path, sabotage: Option<&str>) -> String {
    let (feature, rule) = sabotage.map_or_else(Default::default, |rule| (" --features sabotage", format!(" --sabotage {rule}")));
    format!("cargo run -p tidings-sim --release{feature} -- scenario {}{rule}", path.display())
}

/// Down to the plan's lists, one line an item; below, all on one line.
fn write(text: &mut String, value: &Value, depth: usize) {
    const DEPTH_MAX: usize = 3;
    let items: Vec<(String, &Value)> = match value {
        Value::Object(fields) if depth < DEPTH_MAX - 1 => {
            fields.iter().map(|(name, value)| (format!("{}: ", Value::from(name.as_str())), value)).collect()
        }
        Value::Array(items) if depth < DEPTH_MAX && items.iter().any(|item| item.is_object()) => {
            items.iter().map(|item| (String::new(), item)).collect()
        }
        other => return text.push_str(&other.to_string()),
    };
    let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
    text.push(open);
    for (at, (name, item)) in items.iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        text.push_str(name);
        write(text, item, depth + 1);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_file_says_the_whole_plan() {
        for seed in 0..10 {
            let found = Found {
                about: "a test".into(),
                checker: "none".into(),
                open: None,
                tombstone_ms: Some(7),
                plan: Plan::of_seed(seed, &BTreeSet::new(), None),
            };
            let read: Found = serde_json::from_str(&found.to_text()).unwrap();
            assert_eq!(read, found);
        }
    }

    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::log::listen(None);
        for path in Found::kept().unwrap() {
            let found = Found::read(&path).unwrap();
            if found.open.is_some() {
                continue;
            }
            if let Err(failure) = found.play(&path, None) {
                panic!("{}: {failure}", found.about);
            }
        }
    }
}
