//! What is known of a node as texts (RFC 1464).

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;

/// Strings of a text record.
const STRING_BYTES_MAX: usize = 255;
/// The longest text that goes into one record; longer ones are not handed out.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A record a pair.
pub fn records(metadata: &[(String, String)]) -> impl Iterator<Item = RData> {
    metadata.iter().filter_map(|(key, value)| record(key, value))
}

/// A pair as text: `key=value` (RFC 1464), or the value alone where the key begins with `rfc1035-`.
fn record(key: &str, value: &str) -> Option<RData> {
    let text = match key.to_ascii_lowercase().starts_with("rfc1035-") {
        true => value.to_owned(),
        false => format!("{}={value}", escape(key)),
    };
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    // An empty text is one empty string, not none.
    let strings = if text.is_empty() { vec![&[][..]] } else { text.as_bytes().chunks(STRING_BYTES_MAX).collect() };
    Some(RData::TXT(TXT::from_bytes(strings)))
}

/// What would end a key too early stands behind a back-tick: `=`, the back-tick itself, blanks at either end.
fn escape(key: &str) -> String {
    let inner = key.trim_matches([' ', '\t']);
    let lead = key.find(inner).unwrap_or(0);
    let mut escaped = String::with_capacity(key.len());
    for (at, c) in key.char_indices() {
        let is_at_an_end = at < lead || at >= lead + inner.len();
        if c == '=' || c == '`' || is_at_an_end {
            escaped.push('`');
        }
        escaped.push(c);
    }
    escaped
}
