//! Collations. Where the built-in database knows none, a wrong one is still told as
//! MongoDB tells it.

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{Call, integer, is_true, raw, reading, validation};
use crate::error::CommandError;

/// Whether a collation is the one that compares bytes, as everything does without one.
pub(super) fn is_simple(collation: &RawDocument) -> bool {
    collation.iter().count() == 1 && matches!(collation.get_str("locale"), Ok("simple"))
}

/// Returns a collation that is one; fails with what is wrong with it.
pub(super) async fn checked(
    call: &Call<'_>,
    collation: RawBsonRef<'_>,
) -> Result<Option<Document>, CommandError> {
    check_type(collation, &format!("{}.collation", call.name))?;
    let RawBsonRef::Document(collation) = collation else {
        return Ok(None);
    };
    if is_simple(collation) {
        return Ok(None);
    }
    let collation = Document::try_from(collation)?;
    // The engine looks at one where it reads.
    let find = doc! { "find": "arena.nothing", "collation": collation.clone(), "limit": 1 };
    reading::ids_of(call, &raw(&find)).await?;
    Ok(Some(collation))
}

/// Fails with what is wrong with a collation, or because there can be none here.
pub(super) async fn refuse(
    call: &Call<'_>,
    collation: RawBsonRef<'_>,
    place: &str,
) -> Result<(), CommandError> {
    if checked(call, collation).await?.is_none() && collation != RawBsonRef::Null {
        return Ok(());
    }
    Err(CommandError::not_supported(format_args!(
        "a collation of {place}"
    )))
}

/// Which case comes first matters only where case does.
pub(super) fn check_case_first(collation: &RawDocument) -> Result<(), CommandError> {
    let is_asked = matches!(
        collation.get("caseFirst")?,
        Some(RawBsonRef::String("upper" | "lower"))
    );
    let strength = collation.get("strength")?.and_then(integer);
    let is_in_vain = is_asked
        && matches!(strength, Some(1 | 2))
        && !is_true(collation, "caseLevel")
        && !matches!(collation.get_str("locale"), Ok("simple"));
    if is_in_vain {
        return Err(CommandError::bad_value(
            "'caseFirst' is invalid unless 'caseLevel' is on or 'strength' is greater than 2",
        ));
    }
    Ok(())
}

/// A collation is an object.
pub(super) fn check_type(collation: RawBsonRef<'_>, field: &str) -> Result<(), CommandError> {
    match collation {
        RawBsonRef::Document(_) | RawBsonRef::Null => Ok(()),
        other => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::type_mismatch(format!(
                "BSON field '{field}' is the wrong type '{other}', expected type 'object'"
            )))
        }
    }
}

/// Fails where an update compares texts, which MongoDB does by the collation and the engine does not.
pub(super) fn check_update(update: &RawDocument) -> Result<(), CommandError> {
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        for field in fields {
            let operand = Bson::try_from(field?.1)?;
            let compares = match operator.as_str() {
                "$pull" | "$pullAll" | "$addToSet" | "$min" | "$max" => has_text(&operand),
                "$push" => operand
                    .as_document()
                    .is_some_and(|push| push.contains_key("$sort")),
                _ => false,
            };
            if compares {
                return Err(CommandError::not_supported(format_args!(
                    "a collation in a write with {operator} of texts"
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn has_text(value: &Bson) -> bool {
    match value {
        Bson::String(_) | Bson::Symbol(_) => true,
        Bson::Array(values) => values.iter().any(has_text),
        Bson::Document(fields) => fields.values().any(has_text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_compares_texts_needs_a_collation() {
        let checked = |update: Document| check_update(&raw(&update));
        for update in [
            doc! { "$set": { "a": "x" }, "$pull": { "b": { "$gt": 5 } } },
            doc! { "$push": { "a": { "$each": ["x"], "$slice": 2 } } },
            doc! { "a": "x" },
        ] {
            assert_eq!(checked(update), Ok(()));
        }
        for update in [
            doc! { "$pull": { "a": { "b": { "$in": ["x"] } } } },
            doc! { "$addToSet": { "a": { "$each": ["x"] } } },
            doc! { "$push": { "a": { "$each": [1], "$sort": 1 } } },
            doc! { "$max": { "a": "x" } },
        ] {
            assert_eq!(checked(update).map_err(|error| error.code), Err(115));
        }
    }
}
