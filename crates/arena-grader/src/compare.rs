//! When two values are the same for a check: numbers by value whatever their
//! type, an ObjectId and its hex, dates by instant; fields in any order.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use bson::{Bson, Document};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

/// Returns whether two values are equal.
pub(crate) fn equal(expected: &Bson, actual: &Bson) -> bool {
    near(expected, actual, 0.0)
}

/// Returns whether two values are equal, numbers within a tolerance.
pub(crate) fn near(expected: &Bson, actual: &Bson, within: f64) -> bool {
    if let (Some(expected), Some(actual)) = (Number::of(expected), Number::of(actual)) {
        return expected.is_near(actual, within);
    }
    match (expected, actual) {
        (Bson::Array(expected), Bson::Array(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .zip(actual)
                    .all(|(expected, actual)| near(expected, actual, within))
        }
        (Bson::Document(expected), Bson::Document(actual)) => {
            expected.len() == actual.len()
                && has_fields(expected, actual, |expected, actual| {
                    near(expected, actual, within)
                })
        }
        (Bson::ObjectId(id), Bson::String(hex)) | (Bson::String(hex), Bson::ObjectId(id)) => {
            id.to_hex().eq_ignore_ascii_case(hex)
        }
        (Bson::Null | Bson::Undefined, Bson::Null | Bson::Undefined) => true,
        (Bson::String(expected), Bson::String(actual)) if expected == actual => true,
        _ => match (Instant::of(expected), Instant::of(actual)) {
            (Some(expected), Some(actual)) => {
                (expected.is_exact || actual.is_exact) && expected.millis == actual.millis
            }
            _ => expected == actual,
        },
    }
}

/// Returns whether a value has at least the expected fields, or rows.
pub(crate) fn is_subset(expected: &Bson, actual: &Bson) -> bool {
    match (expected, actual) {
        (Bson::Document(expected), Bson::Document(actual)) => {
            has_fields(expected, actual, is_subset)
        }
        (Bson::Array(expected), Bson::Array(actual)) => {
            expected.iter().all(|expected| contains(actual, expected))
        }
        _ => equal(expected, actual),
    }
}

/// Returns whether a list has a row like the expected one.
pub(crate) fn contains(list: &[Bson], expected: &Bson) -> bool {
    list.iter().any(|actual| is_subset(expected, actual))
}

/// Pairs rows whatever their order: returns the expected rows that are missing and the actual
/// ones that nobody asked for.
pub(crate) fn unpaired<'a>(
    expected: &'a [Bson],
    actual: &'a [Bson],
) -> (Vec<&'a Bson>, Vec<&'a Bson>) {
    let mut rest: Vec<&Bson> = actual.iter().collect();
    let mut missing = Vec::new();
    for expected in expected {
        match rest.iter().position(|actual| equal(expected, actual)) {
            Some(place) => {
                rest.remove(place);
            }
            None => missing.push(expected),
        }
    }
    (missing, rest)
}

/// Returns which of two numbers or instants comes first; `None` for anything else.
pub(crate) fn order(left: &Bson, right: &Bson) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (Number::of(left), Number::of(right)) {
        return left.order(right);
    }
    let (left, right) = (Instant::of(left)?, Instant::of(right)?);
    Some(left.millis.cmp(&right.millis))
}

fn has_fields(expected: &Document, actual: &Document, same: impl Fn(&Bson, &Bson) -> bool) -> bool {
    expected
        .iter()
        .all(|(key, expected)| actual.get(key).is_some_and(|actual| same(expected, actual)))
}

/// A number of any type.
#[derive(Clone, Copy)]
enum Number {
    Whole(i64),
    Real(f64),
}

impl Number {
    fn of(value: &Bson) -> Option<Self> {
        match value {
            Bson::Int32(number) => Some(Self::Whole(i64::from(*number))),
            Bson::Int64(number) => Some(Self::Whole(*number)),
            Bson::Double(number) => Some(Self::Real(*number)),
            Bson::Decimal128(number) => {
                let text = number.to_string();
                text.parse()
                    .map(Self::Whole)
                    .or_else(|_| text.parse().map(Self::Real))
                    .ok()
            }
            _ => None,
        }
    }

    fn real(self) -> f64 {
        match self {
            // Exact up to 2^53; two whole numbers are never compared this way.
            Self::Whole(number) => number.to_string().parse().unwrap_or(f64::NAN),
            Self::Real(number) => number,
        }
    }

    fn is_near(self, other: Self, within: f64) -> bool {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) if within == 0.0 => left == right,
            _ => {
                let (left, right) = (self.real(), other.real());
                // A hair more than asked for: 0.3 − 0.2 is a little more than 0.1.
                left == right
                    || (left.is_nan() && right.is_nan())
                    || (left - right).abs() <= within * (1.0 + 1e-9)
            }
        }
    }

    fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            _ => self.real().partial_cmp(&other.real()),
        }
    }
}

/// A moment, to the millisecond, as JavaScript has it.
#[derive(Clone, Copy)]
struct Instant {
    millis: i64,
    /// Whether a time of day was given, not only a date.
    is_exact: bool,
}

impl Instant {
    fn of(value: &Bson) -> Option<Self> {
        match value {
            Bson::DateTime(instant) => Some(Self {
                millis: instant.timestamp_millis(),
                is_exact: true,
            }),
            Bson::String(text) => Self::parse(text),
            _ => None,
        }
    }

    /// Reads `2026-01-31`, with or without a time, with or without an offset (then UTC).
    fn parse(text: &str) -> Option<Self> {
        let looks_like = (10..=40).contains(&text.len())
            && text.as_bytes()[4] == b'-'
            && text.as_bytes()[0].is_ascii_digit();
        if !looks_like {
            return None;
        }
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Some(Self {
                millis: instant.as_millisecond(),
                is_exact: true,
            });
        }
        let (civil, is_exact) = match text.len() {
            10 => (
                text.parse::<Date>()
                    .ok()?
                    .to_datetime(jiff::civil::Time::midnight()),
                false,
            ),
            _ => (text.parse::<DateTime>().ok()?, true),
        };
        let instant = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
        Some(Self {
            millis: instant.as_millisecond(),
            is_exact,
        })
    }
}
