//! `config.yaml`: the structs mirror the file and nothing else.

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {}

/// Returns the instant that a text means: ISO 8601 with `Z` or an offset.
pub fn instant(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}
