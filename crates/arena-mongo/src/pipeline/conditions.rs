//! Conditions that MongoDB refuses and the engine takes for something else.

use bson::{Bson, Document};

use super::choices::has_operators;
use crate::error::CommandError;

/// Numbers of a long are less.
const LONG_END: f64 = 9_223_372_036_854_775_808.0;
/// Operators on bits.
pub(super) const BITS: [&str; 4] = [
    "$bitsAllSet",
    "$bitsAnySet",
    "$bitsAllClear",
    "$bitsAnyClear",
];

/// Fails where a filter has such a condition.
pub(crate) fn check(filter: &Document) -> Result<(), CommandError> {
    for (name, value) in filter {
        match (name.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                parts
                    .iter()
                    .filter_map(Bson::as_document)
                    .try_for_each(check)?;
            }
            (path, Bson::Document(operators))
                if !path.starts_with('$') && has_operators(operators) =>
            {
                check_operators(operators)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_operators(operators: &Document) -> Result<(), CommandError> {
    for (operator, value) in operators {
        match (operator.as_str(), value) {
            (operator, mask) if BITS.contains(&operator) => check_mask(operator, mask)?,
            ("$in" | "$nin", Bson::Array(values)) => {
                let mut documents = values.iter().filter_map(Bson::as_document);
                if documents.any(|document| {
                    let first = document.keys().next();
                    first.is_some_and(|first| first.starts_with('$')) && !is_dbref(document)
                }) {
                    return Err(CommandError::bad_value(format!(
                        "cannot nest $ under {operator}"
                    )));
                }
            }
            ("$size", Bson::Boolean(_)) => {
                return Err(CommandError::failed_to_parse(format!(
                    "Failed to parse $size. Expected a number in: $size: {value}"
                )));
            }
            ("$size", Bson::Double(_) | Bson::Decimal128(_)) if !is_whole(value) => {
                return Err(CommandError::failed_to_parse(format!(
                    "Failed to parse $size. Expected an integer: $size: {value}"
                )));
            }
            ("$not", Bson::Document(negated)) => check_operators(negated)?,
            ("$elemMatch", Bson::Document(element)) => check_element(element)?,
            ("$all", Bson::Array(all)) => {
                let elements = all.iter().filter_map(Bson::as_document);
                for element in elements.filter_map(|one| one.get_document("$elemMatch").ok()) {
                    check_element(element)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a document with operators' names is a reference to another one.
pub(super) fn is_dbref(document: &Document) -> bool {
    document.contains_key("$ref") && document.contains_key("$id")
}

/// An element is a value or a document, not both.
fn check_element(element: &Document) -> Result<(), CommandError> {
    if has_operators(element) {
        if let Some(name) = element.keys().find(|name| !name.starts_with('$')) {
            return Err(CommandError::bad_value(format!("unknown operator: {name}")));
        }
        return check_operators(element);
    }
    let is_of_value = |name: &&String| {
        name.starts_with('$')
            && !matches!(
                name.as_str(),
                "$and" | "$or" | "$nor" | "$expr" | "$comment" | "$jsonSchema" | "$where"
            )
    };
    if let Some(name) = element.keys().find(is_of_value) {
        return Err(CommandError::bad_value(format!(
            "unknown top level operator: {name}. If you have a field name that starts with a '$' symbol, consider using $getField or $setField."
        )));
    }
    check(element)
}

fn check_mask(operator: &str, mask: &Bson) -> Result<(), CommandError> {
    match mask {
        Bson::Int64(number) if *number < 0 => Err(CommandError::failed_to_parse(format!(
            "Expected a non-negative number in: {operator}: {number}"
        ))),
        Bson::Array(positions) => {
            let is_position = |position: &Bson| match position {
                Bson::Double(_) | Bson::Decimal128(_) => is_whole(position),
                _ => true,
            };
            match positions.iter().find(|position| !is_position(position)) {
                Some(position) => Err(CommandError::bad_value(format!(
                    "Failed to parse bit position. Expected an integer: {position}"
                ))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether a number is one of a long.
fn is_whole(number: &Bson) -> bool {
    let is_long = |number: f64| number.fract() == 0.0 && number.abs() < LONG_END;
    match number {
        Bson::Double(number) => is_long(*number),
        Bson::Decimal128(number) => number.to_string().parse().is_ok_and(is_long),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn only_what_mongodb_refuses_is_refused() {
        for refused in [
            doc! { "a": { "$bitsAllSet": -1_i64 } },
            doc! { "a": { "$bitsAnyClear": [1, 1.5] } },
            doc! { "$or": [{ "a": { "$in": [1, { "$regex": "x" }] } }] },
            doc! { "a": { "$in": [{ "$id": 1 }] } },
            doc! { "a": { "$not": { "$size": true } } },
            doc! { "a": { "$size": 1e20 } },
            doc! { "a": { "$elemMatch": { "$gt": 1, "x": 1 } } },
            doc! { "a": { "$elemMatch": { "x": 1, "$gt": 1 } } },
        ] {
            assert!(check(&refused).is_err(), "{refused}");
        }
        for taken in [
            doc! { "a": { "$bitsAllSet": [1, 2.0] }, "b": { "$bitsAllSet": -1 } },
            doc! { "a": { "$in": [{ "$ref": "c", "$id": 1 }] } },
            doc! { "a": { "$in": [{ "b": 1 }] }, "b": { "$size": 2.0 } },
            doc! { "a": { "$elemMatch": { "x": 1, "$or": [{ "y": 1 }] } } },
            doc! { "a": { "$elemMatch": { "$gt": 1, "$lt": 3 } } },
            doc! { "a": { "b": 1, "$gt": 1 } },
        ] {
            assert!(check(&taken).is_ok(), "{taken}");
        }
    }
}
