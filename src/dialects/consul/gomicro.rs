//! What Go Micro hides in Consul's tags: version `v-…` and metadata `t-…`, each the hex of deflated text; in older releases `v=…` and
//! `t=…` in clear. Endpoints (`e-…`) stay in the tags alone, whose readers know them.
//!
//! The tags themselves are kept as they are; this only lets others see what they say.

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde_json::{Map, Value};

use crate::model::limits;

/// What all tags of one registration may inflate to; what is above is not looked at.
const INFLATED_BYTES_MAX: usize = 64 * 1024;

/// The metadata that tags say, in their order; `version` among it.
pub fn metadata<'a>(tags: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut left = INFLATED_BYTES_MAX;
    let mut found = Vec::new();
    for tag in tags {
        let Some((kind, text)) = plain(tag, &mut left) else { continue };
        match kind {
            'v' => found.push(("version".to_owned(), text)),
            _ => {
                let pairs: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
                found.extend(pairs.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))));
            }
        }
    }
    let fits = |(key, value): &(String, String)| {
        (1..=limits::METADATA_KEY_BYTES_MAX).contains(&key.len()) && value.len() <= limits::METADATA_VALUE_BYTES_MAX
    };
    found.retain(fits);
    found
}

/// A tag's kind and what it says.
fn plain(tag: &str, left: &mut usize) -> Option<(char, String)> {
    let kind = tag.chars().next().filter(|kind| matches!(kind, 'v' | 't'))?;
    let (mark, rest) = (tag.get(1..2)?, tag.get(2..)?);
    let bytes = match mark {
        "=" if rest.len() <= *left => rest.as_bytes().to_vec(),
        "-" => decompress_to_vec_zlib_with_limit(&unhex(rest)?, *left).ok()?,
        _ => return None,
    };
    *left -= bytes.len();
    Some((kind, String::from_utf8(bytes).ok()?))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `zlib.compress` of Python, in hex, as Go Micro's Go writes it.
    const VERSION: &str = "v-789c33d433d133020002dc00f4"; // 1.4.2
    const METADATA: &str = "t-789cab562a28ca2fc94fcecf51b2524a2f2a4856aa0500468306d9"; // {"protocol":"grpc"}

    #[test]
    fn version_and_metadata_are_found_in_tags_of_both_ages() {
        let found = metadata(["prod", VERSION, METADATA, "t={\"zone\":\"a\"}", "v-nothex", "t-00", "e-789c", "é", "v", ""].into_iter());
        let expected = [("version", "1.4.2"), ("protocol", "grpc"), ("zone", "a")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_tag_that_inflates_without_end_is_not_looked_at() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b' '; 10 << 20], 9);
        let bomb: String = bomb.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(metadata([format!("v-{bomb}").as_str()].into_iter()).is_empty());
        let half = "x".repeat(INFLATED_BYTES_MAX / 2 + 1);
        let (first, second) = (format!("v={half}"), format!("v={half}"));
        // Neither fits into a value; the second is not even read.
        assert!(metadata([first.as_str(), second.as_str(), "v=1"].into_iter()).iter().any(|(_, value)| value == "1"));
    }
}
