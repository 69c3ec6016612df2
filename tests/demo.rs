//! `tidings demo` as a newcomer runs it: it ends well, says what to try next, and leaves nothing behind. No root needed.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "real agents live in real time")]

mod lab;

use lab::agent::binary;
use std::process::Command;

/// What it prints; its agents' directories go to a place that is looked at afterwards.
fn demo(arguments: &[&str]) -> String {
    let scratch = tempfile::TempDir::with_prefix("tidings-test-").expect("a scratch directory can be made");
    let output = Command::new(binary()).arg("demo").args(arguments).env("TMPDIR", scratch.path()).output().expect("the binary runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let left = std::fs::read_dir(scratch.path()).expect("it is there").count();
    assert_eq!(left, 0, "it cleans up");
    said.into_owned()
}

#[test]
fn the_demo_ends_well_and_says_what_to_try_next() {
    let said = demo(&[]);
    assert!(said.contains("its registrations are back in all 6 lists"), "{said}");
    let next = said.lines().skip_while(|line| !line.contains("To go on")).filter(|line| line.starts_with("  tidings ")).count();
    assert_eq!(next, 3, "{said}");
}

#[test]
fn the_demo_of_datacenters_shows_one_fall_silent_and_come_back() {
    let said = demo(&["--datacenters", "3"]);
    for wanted in ["hears every other", "west is stale", "web-west, with age", "registered meanwhile is known everywhere"] {
        assert!(said.contains(wanted), "no {wanted:?} in {said}");
    }
}
