//! Commands in plain words: options that stand for none are left out, and counts are
//! whole numbers, however a client wrote them, before a command runs.

use bson::{RawBson, RawBsonRef, RawDocument, rawdoc};

use super::{approximate, collated, collations, is_number, is_on, raw, updates, variables};
use crate::error::CommandError;
use crate::wire::Request;

/// Commands for which an empty collation is none.
const MAY_BE_EMPTY: [&str; 6] = [
    "find",
    "aggregate",
    "count",
    "distinct",
    "findAndModify",
    "findandmodify",
];
/// Options that may be null.
const MAY_BE_NULL: [&str; 7] = [
    "collation",
    "let",
    "arrayFilters",
    "bypassDocumentValidation",
    "skip",
    "limit",
    "batchSize",
];
/// What of a `collMod` may be null, and changes nothing then.
const MAY_STAY: [&str; 7] = [
    "validator",
    "validationLevel",
    "validationAction",
    "index",
    "changeStreamPreAndPostImages",
    "viewOn",
    "pipeline",
];

/// Returns a request without the options that mean nothing and with whole counts, if it has others.
pub(super) fn request(name: &str, request: &Request) -> Result<Option<Request>, CommandError> {
    let body: &RawDocument = &request.body;
    let mut changes: Vec<(&str, Option<RawBson>)> = Vec::new();
    let mut has_collation = false;
    for element in body {
        let (option, value) = element?;
        let option = option.as_str();
        has_collation |= option == "collation";
        if let Some(change) = change(name, option, value)? {
            changes.push((option, change));
        }
    }
    let changed = match changes.as_slice() {
        [] => None,
        changes => updates::with_changes(body, changes)?,
    };
    let collated = if has_collation {
        collated::body(name, changed.as_deref().unwrap_or(body))?
    } else {
        None
    };
    let body = collated.as_ref().map(raw).or(changed);
    Ok(body.map(|body| Request {
        framing: request.framing,
        is_unanswered: request.is_unanswered,
        compressor: request.compressor,
        body,
        sequences: request.sequences.clone(),
    }))
}

/// What an option is in plain words, if those are others: another value, or nothing.
fn change(
    command: &str,
    option: &str,
    value: RawBsonRef<'_>,
) -> Result<Option<Option<RawBson>>, CommandError> {
    let of_collation = |collation: &RawDocument| {
        collations::check_case_first(collation)?;
        let is_empty = collation.is_empty() && MAY_BE_EMPTY.contains(&command);
        if is_empty || collations::is_simple(collation) {
            return Ok(Some(None));
        }
        Ok(plain_collation(collation)?.map(Some))
    };
    match (command, option, value) {
        ("collMod", option, RawBsonRef::Null) if MAY_STAY.contains(&option) => Ok(Some(None)),
        (_, option, RawBsonRef::Null) if MAY_BE_NULL.contains(&option) => Ok(Some(None)),
        (_, "collation", RawBsonRef::Document(collation)) => of_collation(collation),
        (command, "let", RawBsonRef::Document(variables)) => {
            variables::check(command, variables)?;
            Ok(None)
        }
        ("find" | "aggregate" | "count" | "distinct", "hint", RawBsonRef::Document(hint)) => {
            plain_hint(hint)
        }
        (_, "bypassDocumentValidation", number) if is_number(number) => {
            Ok(Some(Some(RawBson::Boolean(is_on(number)))))
        }
        ("getMore", "batchSize", count)
            if whole(option, count).or_else(|| super::integer(count)) == Some(0) =>
        {
            Ok(Some(None))
        }
        ("find", "skip" | "limit" | "batchSize", count)
        | ("count", "skip" | "limit", count)
        | ("getMore", "batchSize", count) => {
            Ok(whole(option, count).map(|count| Some(count.into())))
        }
        (
            "aggregate" | "listCollections" | "listIndexes",
            "cursor",
            RawBsonRef::Document(cursor),
        ) => Ok(plain_cursor(cursor)?.map(Some)),
        _ => Ok(None),
    }
}

/// An empty hint is none, and the one for a scan has an int.
fn plain_hint(hint: &RawDocument) -> Result<Option<Option<RawBson>>, CommandError> {
    if hint.is_empty() {
        return Ok(Some(None));
    }
    let way = hint.get("$natural")?;
    let way = way.and_then(|way| whole("$natural", way));
    Ok(way.map(|way| Some(RawBson::Document(rawdoc! { "$natural": way }))))
}

/// A collation whose strength is an int, without fields that are null; some may not be.
fn plain_collation(collation: &RawDocument) -> Result<Option<RawBson>, CommandError> {
    let mut changes = Vec::new();
    // The accents of Canadian French are compared backwards whatever is said; but for that it is French.
    if matches!(collation.get_str("locale"), Ok("fr_CA"))
        && matches!(
            collation.get("backwards")?,
            Some(RawBsonRef::Boolean(false))
        )
    {
        changes.push(("locale", Some(RawBson::from("fr"))));
    }
    for element in collation {
        let (field, value) = element?;
        let field = field.as_str();
        match value {
            RawBsonRef::Null if !matches!(field, "locale" | "backwards") => {
                changes.push((field, None));
            }
            RawBsonRef::Int64(_) | RawBsonRef::Double(_) | RawBsonRef::Decimal128(_)
                if field == "strength" =>
            {
                let read = whole(field, value).or_else(|| super::integer(value));
                let strength = read.and_then(|strength| i32::try_from(strength).ok());
                changes.extend(strength.map(|strength| (field, Some(RawBson::Int32(strength)))));
            }
            _ => {}
        }
    }
    let changed = updates::with_changes(collation, &changes)?;
    Ok(changed.map(RawBson::Document))
}

fn plain_cursor(cursor: &RawDocument) -> Result<Option<RawBson>, CommandError> {
    let change = match cursor.get("batchSize")? {
        Some(RawBsonRef::Null) => None,
        Some(count) => match whole("batchSize", count) {
            Some(whole) => Some(RawBson::Int64(whole)),
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    let changed = updates::with_changes(cursor, &[("batchSize", change)])?;
    Ok(changed.map(RawBson::Document))
}

/// Returns a count that is not a whole number of a size that the engine takes as MongoDB reads it: a double
/// without its fraction, a decimal rounded to even, NaN as 0, and what is too large as the largest
/// (`BSONElement::safeNumberLong`).
fn whole(option: &str, count: RawBsonRef<'_>) -> Option<i64> {
    let most = if option == "batchSize" {
        i64::from(i32::MAX)
    } else {
        i64::MAX
    };
    let read = match count {
        RawBsonRef::Int64(count) if count > most => return Some(most),
        RawBsonRef::Double(count) => count.trunc(),
        RawBsonRef::Decimal128(_) => approximate(count)?.round_ties_even(),
        _ => return None,
    };
    if read.is_nan() {
        return Some(0);
    }
    // Doubles of 2^63 and more are no longer of this type.
    let whole = format!("{read:.0}").parse().ok();
    let furthest = if read > 0.0 { i64::MAX } else { i64::MIN };
    Some(whole.unwrap_or(furthest).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: &str, count: RawBson) -> Option<i64> {
        whole(option, count.as_raw_bson_ref())
    }

    fn decimal(text: &str) -> RawBson {
        RawBson::Decimal128(text.parse().expect("a decimal"))
    }

    #[test]
    fn counts_lose_their_fraction() {
        for (count, expected) in [
            (2.9.into(), 2),
            ((-0.5).into(), 0),
            (f64::NAN.into(), 0),
            (decimal("1.5"), 2),
            (decimal("2.5"), 2),
            (decimal("-0"), 0),
            (decimal("NaN"), 0),
            (f64::NEG_INFINITY.into(), i64::MIN),
            (f64::INFINITY.into(), i64::MAX),
            (decimal("1E+6144"), i64::MAX),
        ] {
            let shown = format!("{count:?}");
            assert_eq!(read("limit", count), Some(expected), "{shown}");
        }
        assert_eq!(read("batchSize", 1e300.into()), Some(i64::from(i32::MAX)));
        assert_eq!(read("limit", RawBson::Int32(3)), None);
        assert_eq!(read("limit", RawBson::String("3".into())), None);
    }
}
