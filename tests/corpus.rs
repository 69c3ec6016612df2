//! Inputs that once led somewhere new, or to a panic, knock again on the doors they came by: `tests/fuzz` finds them, this replays them.

use std::{collections::BTreeMap, fs, path::Path};

#[allow(dead_code, unused_imports, reason = "tests/mutated.rs sends the requests themselves")]
#[path = "fuzz/src/targets/mod.rs"]
mod targets;

#[test]
fn no_kept_input_panics() {
    let doors: BTreeMap<_, _> = targets::ALL.iter().copied().collect();
    let mut replayed = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")).expect("the corpus is committed") {
        let directory = entry.expect("the corpus is readable").path();
        let name = directory.file_name().expect("a directory has a name").to_string_lossy().into_owned();
        if matches!(&*name, "dns" | "http") && !cfg!(feature = "agent") {
            continue;
        }
        let run = doors.get(&*name).unwrap_or_else(|| panic!("tests/corpus/{name} belongs to no target"));
        for input in fs::read_dir(directory).expect("the corpus is readable") {
            let path = input.expect("the corpus is readable").path();
            println!("{}", path.display());
            run(&fs::read(path).expect("the corpus is readable"), &mut targets::Trace::default());
            replayed += 1;
        }
    }
    assert!(replayed >= 100, "only {replayed} inputs were found");
}

#[test]
fn no_recorded_input_panics() {
    let golden = |file: &str| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire").join(file));
        targets::golden_things(&text.expect("golden files are committed"))
    };
    for (name, run) in targets::ALL {
        targets::recorded(name, golden).iter().for_each(|input| run(input, &mut targets::Trace::default()));
    }
}

#[test]
fn every_golden_file_is_an_input_somewhere() {
    let mut fed: Vec<_> = targets::ALL.iter().filter_map(|(name, _)| targets::golden_file(name)).collect();
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire")).expect("golden files are committed");
    let mut files: Vec<_> =
        files.map(|file| file.expect("golden files are readable").file_name().into_string().expect("plain names")).collect();
    fed.sort();
    files.sort();
    assert_eq!(fed, files);
}

#[test]
fn the_recorded_engine_meets_all_its_peers() {
    let (mut met, mut trace) = (targets::Trace::default(), targets::Trace::default());
    [false, true].into_iter().for_each(|is_ready| met.see(("ready", is_ready, 4_usize)));
    let meeting = targets::recorded("engine", |_| Vec::new()).remove(0);
    targets::engine(&meeting, &mut trace);
    assert!(!met.0.is_disjoint(&trace.0), "mutation would begin with an agent that knows nobody");
}

#[cfg(feature = "agent")]
#[test]
fn the_recorded_requests_are_carried_out() {
    for (method, status) in [("PUT", 201_u16), ("PATCH", 200), ("GET", 200), ("POST", 200), ("DELETE", 200)] {
        let (mut done, mut trace) = (targets::Trace::default(), targets::Trace::default());
        done.see((method, status, None::<String>));
        let all = targets::recorded("http", |_| Vec::new()).pop().expect("the last script has all requests");
        targets::http(&all, &mut trace);
        assert!(done.0.is_subset(&trace.0), "no {method} was answered with {status}");
    }
}
