//! Values and messages as people see them: short, on one line, and harmless
//! whatever a participant's app or database put into them. HTML stays as it
//! is: a message is text, and pages escape text.

use bson::Bson;

use crate::compare::{equal, near};
use crate::values::{plain_text, to_json};

/// Characters of a value shown in a message.
const VALUE_LENGTH_MAX: usize = 120;
/// Characters of a line.
const LINE_LENGTH_MAX: usize = 400;
/// Fields of a row whose differences are shown.
const FIELDS_MAX: usize = 3;

/// Writes a value inside an author's sentence: texts without quotes.
pub(crate) fn inline(value: &Bson) -> String {
    cut(&harmless(&plain_text(value)), VALUE_LENGTH_MAX)
}

/// Writes a value as JSON.
pub(crate) fn value(value: &Bson) -> String {
    let text = match value {
        Bson::Decimal128(number) => number.to_string(),
        value => to_json(value).to_string(),
    };
    cut(&harmless(&text), VALUE_LENGTH_MAX)
}

/// Writes a value that may be missing.
pub(crate) fn maybe(value: Option<&Bson>) -> String {
    value.map_or_else(|| crate::values::NOTHING.to_owned(), self::value)
}

/// Makes a text of one line that changes nothing but what it shows: control characters, escape
/// sequences, and marks that turn the direction of writing are spelled out.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * LINE_LENGTH_MAX));
    for character in text.chars().take(4 * LINE_LENGTH_MAX) {
        match character {
            '\n' => shown.push('⏎'),
            '\t' => shown.push(' '),
            character if character.is_control() || is_invisible(character) => {
                shown.extend(character.escape_unicode())
            }
            character => shown.push(character),
        }
    }
    shown
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn cut(text: &str, length_max: usize) -> String {
    match text.char_indices().nth(length_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Puts lines together: at most so many, each of bounded length.
pub(crate) fn message(lines: &[String], lines_max: usize) -> String {
    let mut shown: Vec<String> = lines
        .iter()
        .take(lines_max)
        .map(|line| cut(&harmless(line), LINE_LENGTH_MAX))
        .collect();
    if lines.len() > lines_max && lines_max > 0 {
        let left_out = lines.len() - lines_max + 1;
        shown[lines_max - 1] = format!("… and {left_out} more");
    }
    shown.join("\n")
}

/// Says where two values differ, differing rows first.
pub(crate) fn differences(expected: &Bson, actual: &Bson, within: f64) -> Vec<String> {
    match (expected, actual) {
        (Bson::Array(expected), Bson::Array(actual)) => rows(expected, actual, within),
        (Bson::Document(_), Bson::Document(_)) => fields(expected, actual, within),
        _ => vec![format!(
            "expected {}, got {}",
            value(expected),
            value(actual)
        )],
    }
}

fn rows(expected: &[Bson], actual: &[Bson], within: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let (missing, extra) = crate::compare::unpaired(expected, actual);
    if missing.is_empty() && extra.is_empty() && !expected.is_empty() {
        lines.push("the rows are right, but not in this order".to_owned());
    }
    for index in 0..expected.len().max(actual.len()) {
        let line = match (expected.get(index), actual.get(index)) {
            (Some(expected), Some(actual)) if near(expected, actual, within) => continue,
            (Some(expected @ Bson::Document(_)), Some(actual @ Bson::Document(_))) => {
                fields(expected, actual, within).join("; ")
            }
            (Some(expected), Some(actual)) => {
                format!("expected {}, got {}", value(expected), value(actual))
            }
            (Some(expected), None) => format!("missing: {}", value(expected)),
            (None, actual) => format!("not expected: {}", maybe(actual)),
        };
        lines.push(format!("row {}: {line}", index + 1));
    }
    if expected.len() != actual.len() {
        lines.insert(
            0,
            format!("expected {} rows, got {}", expected.len(), actual.len()),
        );
    }
    lines
}

fn fields(expected: &Bson, actual: &Bson, within: f64) -> Vec<String> {
    let (Bson::Document(expected), Bson::Document(actual)) = (expected, actual) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (key, expected) in expected {
        match actual.get(key) {
            Some(actual) if near(expected, actual, within) => {}
            actual => lines.push(format!(
                "{}: expected {}, got {}",
                harmless(key),
                value(expected),
                maybe(actual)
            )),
        }
    }
    for (key, actual) in actual.iter().filter(|(key, _)| !expected.contains_key(key)) {
        lines.push(format!(
            "{}: not expected: {}",
            harmless(key),
            value(actual)
        ));
    }
    if lines.len() > FIELDS_MAX {
        let more = lines.len() - FIELDS_MAX;
        lines.truncate(FIELDS_MAX);
        lines.push(format!("and {more} more fields"));
    }
    lines
}

/// Says which rows are missing and which nobody asked for.
pub(crate) fn unpaired_rows(expected: &[Bson], actual: &[Bson]) -> Vec<String> {
    let (missing, extra) = crate::compare::unpaired(expected, actual);
    let mut lines = Vec::new();
    if expected.len() != actual.len() {
        lines.push(format!(
            "expected {} rows, got {}",
            expected.len(),
            actual.len()
        ));
    }
    lines.extend(
        missing
            .into_iter()
            .map(|row| format!("missing: {}", value(row))),
    );
    lines.extend(
        extra
            .into_iter()
            .map(|row| format!("not expected: {}", value(row))),
    );
    debug_assert!(
        lines.is_empty()
            || !equal(
                &Bson::Array(expected.to_vec()),
                &Bson::Array(actual.to_vec())
            )
    );
    lines
}
