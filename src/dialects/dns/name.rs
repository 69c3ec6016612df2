//! Names made of texts; the names themselves are hickory-proto's.

pub use hickory_proto::rr::Name;

/// Of labels, from the front; none where one is empty or longer than DNS has them, or all together are.
pub fn of<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Name> {
    Name::from_labels(labels).ok()
}

/// Of a text with dots between labels, and perhaps at the end.
pub fn parse(text: &str) -> Option<Name> {
    of(text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes))
}

/// Of labels in front of another name.
pub fn under<'a>(labels: impl IntoIterator<Item = &'a [u8]>, parent: &'a Name) -> Option<Name> {
    of(labels.into_iter().chain(parent.iter()))
}

/// Labels in lower case. What is no text compares with nothing.
pub fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}
