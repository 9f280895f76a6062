//! The fixed set of matchers. Each says what is wrong in lines, or nothing.

use arena_workshop::check::{Expectation, Matcher};
use bson::Bson;

use crate::compare::{contains, equal, is_subset, near, order, unpaired};
use crate::show;
use crate::values::{Values, count};
use std::cmp::Ordering;

/// Returns the message of an expectation that does not hold; the author's sentence first.
pub(crate) fn failure(
    expectation: &Expectation,
    values: &Values,
    rows_max: usize,
) -> Option<Vec<String>> {
    let actual = values.get(&expectation.at);
    let is_of_every_row = expectation.at.is_of_every_row();
    let details = match &actual {
        Some(Bson::Array(rows)) if rows.len() > rows_max => Some(vec![format!(
            "{} has more than {rows_max} rows",
            expectation.at
        )]),
        _ => expectation
            .matchers
            .iter()
            .find_map(|matcher| mismatch(matcher, actual.as_ref(), values, is_of_every_row)),
    }?;
    let first = match &expectation.otherwise {
        Some(text) => values.message(text),
        None => format!("{} is not as expected", expectation.at),
    };
    let is_told = expectation.otherwise.is_some() && details.len() < 2;
    Some(
        std::iter::once(first)
            .chain(details.into_iter().filter(|_| !is_told))
            .collect(),
    )
}

/// Returns what is wrong with a value.
fn mismatch(
    matcher: &Matcher,
    actual: Option<&Bson>,
    values: &Values,
    is_of_every_row: bool,
) -> Option<Vec<String>> {
    if let Matcher::Absent(absent) = matcher {
        let is_absent = actual.is_none()
            || (is_of_every_row && matches!(actual, Some(Bson::Array(rows)) if rows.is_empty()));
        let expected = if *absent { "nothing" } else { "a value" };
        return (is_absent != *absent)
            .then(|| vec![format!("expected {expected}, got {}", show::maybe(actual))]);
    }
    let Some(actual) = actual else {
        return Some(vec![format!(
            "expected a value, got {}",
            crate::values::NOTHING
        )]);
    };
    match matcher {
        Matcher::Matches(pattern) => matches(pattern, actual),
        Matcher::Length(matchers) => {
            let length = match actual {
                Bson::Array(rows) => count(rows.len()),
                Bson::String(text) => count(text.chars().count()),
                _ => {
                    return Some(vec![format!(
                        "expected a list or a text, got {}",
                        show::value(actual)
                    )]);
                }
            };
            let wrong = matchers
                .iter()
                .find_map(|matcher| mismatch(matcher, Some(&length), values, false));
            wrong.map(|lines| {
                lines
                    .into_iter()
                    .map(|line| format!("length: {line}"))
                    .collect()
            })
        }
        Matcher::Near { value, within } => with(value, values, |expected| {
            (!near(expected, actual, *within)).then(|| show::differences(expected, actual, *within))
        }),
        Matcher::Equals(value) => with(value, values, |expected| {
            (!equal(expected, actual)).then(|| show::differences(expected, actual, 0.0))
        }),
        Matcher::Unordered(value) => with(value, values, |expected| unordered(expected, actual)),
        Matcher::Subset(value) => with(value, values, |expected| subset(expected, actual)),
        Matcher::Contains(value) => with(value, values, |expected| contained(expected, actual)),
        Matcher::AtLeast(value) => with(value, values, |expected| {
            bound(expected, actual, Ordering::Less, "at least")
        }),
        Matcher::AtMost(value) => with(value, values, |expected| {
            bound(expected, actual, Ordering::Greater, "at most")
        }),
        Matcher::OneOf(value) => with(value, values, |expected| match expected {
            Bson::Array(choices) if choices.iter().any(|choice| equal(choice, actual)) => None,
            _ => Some(vec![format!(
                "expected one of {}, got {}",
                show::value(expected),
                show::value(actual)
            )]),
        }),
        Matcher::Absent(_) => None,
    }
}

/// Fills the expected value in; a check that has nothing to compare with does not pass.
fn with(
    template: &arena_workshop::check::Template,
    values: &Values,
    compare: impl FnOnce(&Bson) -> Option<Vec<String>>,
) -> Option<Vec<String>> {
    match values.fill(template) {
        Some(expected) => compare(&expected),
        None => Some(vec![format!(
            "there is nothing to compare with ({}): restore your data first",
            template.0
        )]),
    }
}

fn matches(pattern: &str, actual: &Bson) -> Option<Vec<String>> {
    let fits = match (regex_lite::Regex::new(pattern), actual) {
        (Ok(pattern), Bson::String(text)) => pattern.is_match(text),
        _ => false,
    };
    (!fits).then(|| {
        vec![format!(
            "expected a text that matches {pattern}, got {}",
            show::value(actual)
        )]
    })
}

fn unordered(expected: &Bson, actual: &Bson) -> Option<Vec<String>> {
    let (Bson::Array(wanted), Bson::Array(got)) = (expected, actual) else {
        return Some(show::differences(expected, actual, 0.0));
    };
    let (missing, extra) = unpaired(wanted, got);
    (!missing.is_empty() || !extra.is_empty()).then(|| show::unpaired_rows(wanted, got))
}

fn subset(expected: &Bson, actual: &Bson) -> Option<Vec<String>> {
    if is_subset(expected, actual) {
        return None;
    }
    let lines = match (expected, actual) {
        (Bson::Array(wanted), Bson::Array(got)) => wanted
            .iter()
            .filter(|row| !contains(got, row))
            .map(|row| format!("missing: {}", show::value(row)))
            .collect(),
        (Bson::Document(wanted), Bson::Document(got)) => {
            let wrong = wanted
                .iter()
                .filter(|(key, value)| !got.get(key).is_some_and(|got| is_subset(value, got)));
            wrong
                .map(|(key, value)| {
                    format!(
                        "{}: expected {}, got {}",
                        show::harmless(key),
                        show::value(value),
                        show::maybe(got.get(key))
                    )
                })
                .collect()
        }
        _ => show::differences(expected, actual, 0.0),
    };
    Some(lines)
}

fn contained(expected: &Bson, actual: &Bson) -> Option<Vec<String>> {
    let has = match actual {
        Bson::String(text) => {
            matches!(expected, Bson::String(part) if text.contains(part.as_str()))
        }
        Bson::Array(rows) => contains(rows, expected),
        _ => false,
    };
    (!has).then(|| {
        vec![format!(
            "expected {} in it, got {}",
            show::value(expected),
            show::value(actual)
        )]
    })
}

fn bound(expected: &Bson, actual: &Bson, wrong: Ordering, words: &str) -> Option<Vec<String>> {
    let fits = order(actual, expected).is_some_and(|order| order != wrong);
    (!fits).then(|| {
        vec![format!(
            "expected {words} {}, got {}",
            show::value(expected),
            show::value(actual)
        )]
    })
}
