//! The bytes on the wire, as committed under `tests/golden/wire`: a change that other agents would not understand shows up here.
//!
//! A file holds one line a thing: its name and its bytes in hexadecimal. `TIDINGS_GOLDEN=1` writes the files anew.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

/// Compares the bytes of each thing with the committed ones.
pub fn check(file: &str, things: &[(&str, Vec<u8>)]) {
    if env::var_os("TIDINGS_GOLDEN").is_some_and(|value| value == "1") {
        let mut text = String::new();
        for (name, bytes) in things {
            write!(text, "{name} ").unwrap();
            bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        fs::create_dir_all(path(file).parent().unwrap()).unwrap();
        fs::write(path(file), text).unwrap();
    }
    let kept = read(file);
    for (name, bytes) in things {
        assert_eq!(kept.get(*name), Some(bytes), "{name} in {file} has other bytes; TIDINGS_GOLDEN=1 renews them, where that is meant");
    }
    assert_eq!(kept.len(), things.len(), "{file} holds things that are no more");
}

/// The committed bytes of each thing, by its name.
pub fn read(file: &str) -> BTreeMap<String, Vec<u8>> {
    let text = fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}; TIDINGS_GOLDEN=1 writes it"));
    text.lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a line is a name and bytes");
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            (name.to_owned(), digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
        })
        .collect()
}

fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/wire", file].iter().collect()
}
