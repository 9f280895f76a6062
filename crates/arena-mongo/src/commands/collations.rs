//! Collations, and other options that stand for none: what says the same as nothing is
//! left out before a command runs. Where the built-in database knows no collation, a
//! wrong one is still told as MongoDB tells it.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, doc};

use super::{Call, approximate, is_number, raw, reading, updates, validation};
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
const MAY_BE_NULL: [&str; 4] = [
    "collation",
    "let",
    "arrayFilters",
    "bypassDocumentValidation",
];

/// Returns a request without the options that mean nothing, if it has such.
pub(super) fn plain(name: &str, request: &Request) -> Result<Option<Request>, CommandError> {
    let body: &RawDocument = &request.body;
    let mut changes: Vec<(&str, Option<RawBson>)> = Vec::new();
    for option in MAY_BE_NULL {
        match body.get(option)? {
            Some(RawBsonRef::Null) => changes.push((option, None)),
            Some(RawBsonRef::Document(collation)) if option == "collation" => {
                let is_empty = collation.is_empty() && MAY_BE_EMPTY.contains(&name);
                if is_empty || is_simple(collation) {
                    changes.push((option, None));
                }
            }
            Some(number) if option == "bypassDocumentValidation" && is_number(number) => {
                let is_true = approximate(number).is_some_and(|number| number != 0.0);
                changes.push((option, Some(RawBson::Boolean(is_true))));
            }
            _ => {}
        }
    }
    if changes.is_empty() {
        return Ok(None);
    }
    let body = updates::with_changes(body, &changes)?;
    Ok(body.map(|body| Request {
        framing: request.framing,
        is_unanswered: request.is_unanswered,
        compressor: request.compressor,
        body,
        sequences: request.sequences.clone(),
    }))
}

/// Whether a collation is the one that compares bytes, as everything does without one.
pub(super) fn is_simple(collation: &RawDocument) -> bool {
    collation.iter().count() == 1 && matches!(collation.get_str("locale"), Ok("simple"))
}

/// Fails with what is wrong with a collation, or because there can be none here.
pub(super) async fn refuse(
    call: &Call<'_>,
    collation: RawBsonRef<'_>,
    place: &str,
) -> Result<(), CommandError> {
    check_type(collation, &format!("{}.collation", call.name))?;
    if let RawBsonRef::Document(collation) = collation {
        if is_simple(collation) {
            return Ok(());
        }
        let collation = Document::try_from(collation)?;
        // The engine looks at one where it reads.
        let find = doc! { "find": "arena.nothing", "collation": collation, "limit": 1 };
        reading::ids_of(call, &raw(&find)).await?;
    }
    Err(CommandError::not_supported(format_args!(
        "a collation of {place}"
    )))
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

fn has_text(value: &Bson) -> bool {
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
