//! Who may import whom, read from the paths in the source; and what the pure rooms must not touch.
//!
//! The table is the design's. A build with default features off proves that the pure rooms compile without the shell; this test names
//! the line that broke the rule.

use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms it may name. A room may always name itself.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("access", &["model"]),
    ("view", &["model"]),
    ("select", &["view", "model"]),
    ("engine", &["view", "model"]),
    ("schema", &["model"]),
    // The defaults of the engine's rooms live there; settings override them.
    // Tokens and grants are read as access writes them.
    ("settings", &["engine::config", "engine::wire::keyring", "access", "model"]),
    ("client", &["schema", "select", "model"]),
    ("agent", &["engine", "view", "access", "settings", "model"]),
    ("api", &["agent::handle", "select", "access", "view", "model", "schema"]),
    ("dialects", &["agent::handle", "select", "access", "view", "model"]),
    ("serve", &["agent", "api", "dialects", "access", "settings"]),
    // `tidings agent` puts the agent and its listeners together.
    // `tidings token` prints no grant that an agent would not read.
    ("cli", &["access", "agent", "serve", "settings", "client", "schema"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

const PURE: &[&str] = &["model", "engine", "view", "select", "access"];

/// What the pure rooms must not name, with the reason.
const IMPURE: &[(&str, &str)] = &[
    ("std::time::Instant", "time is handed in"),
    ("SystemTime", "time is handed in"),
    ("std::thread", "pure rooms have no threads"),
    ("std::fs", "pure rooms have no files"),
    ("std::env", "pure rooms have no environment"),
    ("UdpSocket", "pure rooms have no sockets"),
    ("TcpStream", "pure rooms have no sockets"),
    ("tokio", "pure rooms are not async"),
    ("async fn", "pure rooms are not async"),
    ("rand::rng()", "random numbers come from a seeded generator that is handed in"),
    ("getrandom", "random numbers come from a seeded generator that is handed in"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.expect("the source tree is readable").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the source tree is readable")
}

fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Tests may reach into any room to set their scene.
fn is_a_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The first room of a path: `src/engine/io.rs` and `src/engine.rs` are `engine`.
fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("sources lie in src");
    let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The paths behind each `crate::` (or `tidings::`) of a line; a group `crate::{a::b, c}` is opened.
fn named(line: &str, prefix: &str) -> Vec<String> {
    let code = code_of(line);
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let is_inside_a_word = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if is_inside_a_word {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => paths.extend(group.split('}').next().unwrap_or_default().split(',').map(|path| path.trim().to_owned())),
            None => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
                paths.push(rest[..end].to_owned());
            }
        }
    }
    paths
}

fn offences(room: &str, allowed: &[&str], prefix: &str, text: &str) -> Vec<String> {
    let is_allowed = |path: &str| {
        let inside = |outer: &str, inner: &str| inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"));
        allowed.iter().any(|allowed| inside(allowed, path))
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for path in named(line, prefix) {
            let target = path.split("::").next().unwrap_or_default();
            if target != room && EDGES.iter().any(|(name, _)| *name == target) && !is_allowed(&path) {
                found.push(format!("{}: {room} names {path}", number + 1));
            }
        }
    }
    found
}

#[test]
fn rooms_import_only_what_the_design_allows() {
    let files = sources(&root().join("src"));
    assert!(files.len() > 10, "only {} sources were found", files.len());
    let mut found = Vec::new();
    for file in files.into_iter().filter(|file| !is_a_test(file)) {
        let room = room_of(&file);
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == room) else {
            found.push(format!("{}: a room the design does not know", file.display()));
            continue;
        };
        let prefix = if room == "main" { "tidings::" } else { "crate::" };
        found.extend(offences(&room, allowed, prefix, &read(&file)).iter().map(|offence| format!("{}:{offence}", file.display())));
    }
    assert!(found.is_empty(), "imports against the design:\n{}", found.join("\n"));
}

#[test]
fn the_simulator_imports_only_pure_rooms() {
    let mut found = Vec::new();
    for file in sources(&root().join("sim/src")) {
        let offences = offences("sim", &["engine", "view", "select", "model"], "tidings::", &read(&file));
        found.extend(offences.iter().map(|offence| format!("{}:{offence}", file.display())));
    }
    assert!(found.is_empty(), "imports against the design:\n{}", found.join("\n"));
}

#[test]
fn pure_rooms_name_no_clock_socket_file_or_thread() {
    let mut found = Vec::new();
    for file in PURE.iter().flat_map(|room| sources(&root().join("src").join(room))) {
        if is_a_test(&file) {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate().take_while(|(_, line)| line.trim() != "mod tests {") {
            for (word, reason) in IMPURE.iter().filter(|(word, _)| code_of(line).contains(word)) {
                found.push(format!("{}:{}: {word}: {reason}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "pure rooms that are not:\n{}", found.join("\n"));
}

/// A request acts for its caller inside its own task alone: what it spawned would act for the agent, whatever its token grants.
#[test]
fn listeners_rooms_spawn_nothing_that_forgets_its_caller() {
    let mut found = Vec::new();
    for file in ["api", "dialects"].iter().flat_map(|room| sources(&root().join("src").join(room))).filter(|file| !is_a_test(file)) {
        for (number, line) in read(&file).lines().enumerate().take_while(|(_, line)| line.trim() != "mod tests {") {
            if code_of(line).contains("spawn") && !code_of(line).contains("acting_for") {
                found.push(format!("{}:{}: spawn it inside acting_for(caller, …)", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "tasks whose commands nobody looks at:\n{}", found.join("\n"));
}

#[test]
fn the_rules_bite() {
    assert_eq!(offences("model", &[], "crate::", "use crate::engine::io::Input;").len(), 1);
    assert_eq!(offences("api", &["agent::handle"], "crate::", "use crate::agent::store::Store;").len(), 1);
    assert_eq!(offences("api", &["agent::handle"], "crate::", "use crate::agent::handle::Handle;").len(), 0);
    assert_eq!(offences("view", &["model"], "crate::", "use crate::{model::names, engine::io};").len(), 1);
    assert_eq!(offences("view", &["model"], "crate::", "let x = crate::engine::Engine::new();").len(), 1);
    assert_eq!(offences("view", &["model"], "crate::", "// see crate::engine").len(), 0);
}
