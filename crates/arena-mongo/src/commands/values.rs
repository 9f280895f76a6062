//! What commands read from documents and write into them: names, numbers as
//! clients happen to write them, documents without some fields. Pure functions;
//! what a command does with the values is its own business.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use memchr::memmem;

use super::Answer;
use crate::error::CommandError;

pub(super) fn collection_in<'b>(
    body: &'b RawDocument,
    command: &str,
) -> Result<&'b str, CommandError> {
    let name = body.get_str(command).map_err(|_| {
        CommandError::new(73, "InvalidNamespace", "Failed to parse namespace element")
    })?;
    if is_collection_name(name) {
        return Ok(name);
    }
    let database = body.get_str("$db").unwrap_or_default();
    Err(invalid_namespace(database, name))
}

pub(super) fn invalid_namespace(database: &str, name: &str) -> CommandError {
    let message = format!("Invalid namespace specified '{database}.{name}'");
    CommandError::new(73, "InvalidNamespace", message)
}

/// Fails where a command names what is no collection; the names of cursors without one are good, too.
pub(super) fn check_namespace(body: &RawDocument, command: &str) -> Result<(), CommandError> {
    match body.get_str(command) {
        Ok(name) if name.starts_with("$cmd") => Ok(()),
        _ => collection_in(body, command).map(drop),
    }
}

/// MongoDB's rule for database names.
pub(crate) fn is_database_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.contains([
            '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0',
        ])
}

/// MongoDB's rule for collection names, without the engine's own.
pub(crate) fn is_collection_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.contains(['$', '\0'])
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.starts_with("system.")
}

/// Returns a document without some of its fields.
pub(super) fn without(
    document: &RawDocument,
    fields: &[&str],
) -> Result<RawDocumentBuf, CommandError> {
    let mut kept = empty_of(document.as_bytes().len());
    for element in document {
        let (key, value) = element?;
        if !fields.contains(&key.as_str()) {
            kept.append(key, value);
        }
    }
    Ok(kept)
}

/// Larger documents are searched field by field.
const SEARCHED_BYTES_MAX: usize = 1024;

/// Returns a field of a document. Most that are asked for are not there, which in a small document is seen faster by
/// its bytes.
pub(super) fn field_of<'a>(
    document: &'a RawDocument,
    name: &str,
) -> Result<Option<RawBsonRef<'a>>, bson::error::Error> {
    let bytes = document.as_bytes();
    if bytes.len() <= SEARCHED_BYTES_MAX && memmem::find(bytes, name.as_bytes()).is_none() {
        return Ok(None);
    }
    document.get(name)
}

/// Returns an option that must be a boolean.
pub(super) fn boolean(field: &str, value: RawBsonRef<'_>) -> Result<bool, CommandError> {
    value.as_bool().ok_or_else(|| {
        CommandError::type_mismatch(format!(
            "BSON field '{field}' is the wrong type, expected type 'bool'"
        ))
    })
}

/// Returns a whole number, however the client wrote it.
pub(super) fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(value) => Some(value.into()),
        RawBsonRef::Int64(value) => Some(value),
        RawBsonRef::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e15 => {
            format!("{value:.0}").parse().ok()
        }
        _ => None,
    }
}

pub(super) fn is_number(value: RawBsonRef<'_>) -> bool {
    matches!(
        value,
        RawBsonRef::Int32(_)
            | RawBsonRef::Int64(_)
            | RawBsonRef::Double(_)
            | RawBsonRef::Decimal128(_)
    )
}

/// Returns a number of any type as the nearest double.
pub(super) fn approximate(value: RawBsonRef<'_>) -> Option<f64> {
    match value {
        RawBsonRef::Int32(value) => Some(value.into()),
        RawBsonRef::Int64(value) => value.to_string().parse().ok(),
        RawBsonRef::Double(value) => Some(value),
        RawBsonRef::Decimal128(value) => value.to_string().parse().ok(),
        _ => None,
    }
}

/// Returns `maxTimeMS` in milliseconds; 0 where none is asked for.
pub(super) fn max_time(body: &RawDocument) -> Result<u64, CommandError> {
    let value = match body.get("maxTimeMS")? {
        None | Some(RawBsonRef::Null) => return Ok(0),
        Some(value) if is_number(value) => approximate(value).unwrap_or(f64::NAN),
        Some(other) => {
            let other = super::validation::type_name(&bson::Bson::try_from(other)?);
            return Err(CommandError::type_mismatch(format!(
                "BSON field 'maxTimeMS' is the wrong type '{other}', expected types '[long, int, decimal, double]'"
            )));
        }
    };
    if !value.is_finite() || value.fract() != 0.0 {
        return Err(CommandError::failed_to_parse(format!(
            "maxTimeMS has non-integral value: {value}"
        )));
    }
    if !(0.0..=f64::from(i32::MAX)).contains(&value) {
        return Err(CommandError::bad_value(format!(
            "{value} value for maxTimeMS is out of range [0, {}]",
            i32::MAX
        )));
    }
    Ok(format!("{:.0}", value.abs()).parse().unwrap_or(0))
}

/// Returns a whole number of an answer.
pub(crate) fn whole(value: &bson::Bson) -> Option<i64> {
    match value {
        bson::Bson::Int32(value) => Some((*value).into()),
        bson::Bson::Int64(value) => Some(*value),
        bson::Bson::Double(value) => integer(RawBsonRef::Double(*value)),
        _ => None,
    }
}

/// A count as MongoDB writes it where its size does not decide the type: an int where one is enough.
pub(super) fn fitting(count: i64) -> bson::Bson {
    i32::try_from(count).map_or(bson::Bson::Int64(count), bson::Bson::Int32)
}

/// MongoDB's idea of true for options: true, or a number other than 0, which not being one is, too.
pub(super) fn is_true(document: &RawDocument, name: &str) -> bool {
    field_of(document, name).ok().flatten().is_some_and(is_on)
}

/// Whether a value is MongoDB's idea of true.
pub(super) fn is_on(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Boolean(value) => value,
        // Smaller ones than any double are not 0 either.
        RawBsonRef::Decimal128(value) => {
            let text = value.to_string();
            let digits = text.split('E').next().unwrap_or_default();
            digits.contains(|letter: char| !matches!(letter, '0' | '.' | '-'))
        }
        value => approximate(value).is_some_and(|number| number != 0.0),
    }
}

/// `ok` as every client expects it: the number 1.
pub(super) fn with_ok(result: RawDocumentBuf) -> Answer {
    let mut answer = bson::Document::try_from(result)?;
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

pub(super) fn raw(document: &bson::Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).expect("field names of an answer contain no zero byte")
}

/// An empty document with room for so many bytes.
pub(super) fn empty_of(bytes: usize) -> RawDocumentBuf {
    let mut empty = Vec::with_capacity(bytes);
    empty.extend_from_slice(RawDocumentBuf::new().as_bytes());
    RawDocumentBuf::from_bytes(empty).expect("it is a document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_small_and_large_documents() {
        for length in [0, SEARCHED_BYTES_MAX] {
            let document = bson::rawdoc! {
                "sortBy": "hint", "filter": { "limit": 1 }, "text": "x".repeat(length), "sort": 2,
            };
            let found = |name| field_of(&document, name).expect("a document");
            assert_eq!(found("sort"), Some(RawBsonRef::Int32(2)));
            // In values, in names that are longer, further inside, and nowhere.
            for name in ["hint", "By", "limit", "skip"] {
                assert_eq!(found(name), None, "{name}");
            }
        }
    }

    #[test]
    fn every_number_but_zero_is_on() {
        let decimal = |text: &str| bson::RawBson::Decimal128(text.parse().expect("a decimal"));
        for on in [
            true.into(),
            0.5.into(),
            f64::NAN.into(),
            decimal("1E-6176"),
            decimal("NaN"),
        ] {
            assert!(is_on(bson::RawBson::as_raw_bson_ref(&on)), "{on:?}");
        }
        for off in [
            false.into(),
            (-0.0).into(),
            decimal("-0E-10"),
            "1".to_owned().into(),
        ] {
            assert!(!is_on(bson::RawBson::as_raw_bson_ref(&off)), "{off:?}");
        }
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in ["", "a.b", "a b", "a$", "a/b", "a\\b", &"x".repeat(64)] {
            assert!(!is_database_name(name), "{name}");
        }
        for name in ["", "$cmd", "system.users", ".a", "a.", "a\0b"] {
            assert!(!is_collection_name(name), "{name}");
        }
        assert!(is_database_name("ada-1_x") && is_collection_name("listings.and.reviews"));
    }
}
