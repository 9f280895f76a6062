//! MongoDB's words for what the engine says in its own. The table is
//! `wording.txt`; a text that is not in it stays as it is. The engine's words are
//! matched whole, so that a user's text inside them cannot be taken for others.

use std::sync::LazyLock;

const TABLE: &str = include_str!("wording.txt");

static PHRASES: LazyLock<Vec<Phrase>> = LazyLock::new(|| phrases(TABLE));

/// One of the engine's texts and MongoDB's for it.
struct Phrase {
    heard: Vec<&'static str>,
    code: Option<i32>,
    said: &'static str,
}

/// Whose error it is.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) command: &'a str,
    pub(crate) namespace: &'a str,
}

/// Returns MongoDB's text for one of the engine's, and its code where that is another one.
pub(crate) fn reworded(text: &str, asked: Asked<'_>) -> Option<(Option<i32>, String)> {
    PHRASES.iter().find_map(|phrase| {
        let held = matched(&phrase.heard, text)?;
        Some((phrase.code, filled(phrase.said, &held, asked)))
    })
}

fn phrases(table: &'static str) -> Vec<Phrase> {
    let mut lines = table
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut phrases = Vec::new();
    while let (Some(heard), Some(said)) = (lines.next(), lines.next()) {
        let said = said.trim_start();
        let (code, said) = match said.split_once(' ') {
            Some((code, rest)) if code.parse::<i32>().is_ok() => (code.parse().ok(), rest),
            _ => (None, said),
        };
        phrases.push(Phrase {
            heard: heard.split("{}").collect(),
            code,
            said,
        });
    }
    phrases
}

/// Returns what stands in the gaps of a pattern, if the whole text fits it.
fn matched<'t>(pattern: &[&str], text: &'t str) -> Option<Vec<&'t str>> {
    let (first, rest) = pattern.split_first()?;
    let mut text = text.strip_prefix(first)?;
    let mut held = Vec::new();
    for (position, part) in rest.iter().enumerate() {
        let is_last = position + 1 == rest.len();
        let end = if is_last {
            text.len()
                .checked_sub(part.len())
                .filter(|_| text.ends_with(part))?
        } else {
            text.find(part)?
        };
        held.push(&text[..end]);
        text = &text[end + part.len()..];
    }
    text.is_empty().then_some(held)
}

fn filled(said: &str, held: &[&str], asked: Asked<'_>) -> String {
    let mut text = String::with_capacity(said.len() + 32);
    let mut rest = said;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        rest = &rest[open..];
        let hole = rest.find('}').map(|close| &rest[1..close]);
        let number = |hole: &str| hole.parse::<usize>().ok()?.checked_sub(1);
        let put = match hole {
            Some("command") => Some(asked.command),
            Some("namespace") => Some(asked.namespace),
            Some(hole) => number(hole).and_then(|number| held.get(number).copied()),
            None => None,
        };
        match (put, hole) {
            (Some(put), Some(hole)) => {
                text.push_str(put);
                rest = &rest[hole.len() + 2..];
            }
            _ => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked {
        command: "find",
        namespace: "ada.c",
    };

    #[test]
    fn words_change_and_values_stay() {
        let (code, text) =
            reworded("Unrecognized expression format: $nope", ASKED).expect("it is in the table");
        assert_eq!(
            (code, text.as_str()),
            (Some(168), "Unrecognized expression '$nope'")
        );
        let (_, text) = reworded(
            "The BSON field 'filter' has an incorrect type 'int'; it should be of type 'object'.",
            ASKED,
        )
        .expect("it is in the table");
        assert_eq!(
            text,
            "BSON field 'find.filter' is the wrong type 'int', expected type 'object'"
        );
        assert_eq!(reworded("something new", ASKED), None);
    }

    #[test]
    fn braces_that_are_no_holes_stay() {
        let heard = "Operation $inc cannot be performed because the target value is not numeric. \
            Document { _id: 1 } contains the field 'a' which is of non-numeric type string.";
        let (_, text) = reworded(heard, ASKED).expect("it is in the table");
        assert_eq!(
            text,
            "Cannot apply $inc to a value of non-numeric type. {_id: 1} has the field 'a' of non-numeric type string"
        );
    }

    #[test]
    fn the_table_is_read_to_its_end() {
        assert!(PHRASES.len() > 80);
        let lines = TABLE
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let is_indented: Vec<bool> = lines.map(|line| line.starts_with("  ")).collect();
        assert!(is_indented.chunks(2).all(|pair| pair == [false, true]));
    }
}
