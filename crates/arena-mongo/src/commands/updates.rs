//! One update, delete or findAndModify before it runs: no code in it, only a few
//! stages in an update by pipeline, and written so that the engine does what
//! MongoDB does. What the engine would silently leave out is refused.

use std::cmp::Ordering;

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf};

use super::{Call, raw, reading};
use crate::error::CommandError;
use crate::pipeline::{Found, check_raw_expressions, check_raw_value, rewritten_fields};

/// Operators whose new fields MongoDB adds in the order of their names.
const ADDING: [&str; 10] = [
    "$set",
    "$setOnInsert",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$push",
    "$addToSet",
    "$bit",
    "$currentDate",
];

/// Returns all operations one after the other if one of them has to run otherwise than it came.
pub(super) async fn prepared(
    call: &Call<'_>,
    collection: &str,
    operations: &[&RawDocument],
) -> Result<Vec<u8>, CommandError> {
    let mut changed = Vec::with_capacity(operations.len());
    for operation in operations {
        changed.push(prepared_one(call, collection, operation).await?);
    }
    if changed.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    for (operation, changed) in operations.iter().zip(&changed) {
        let whole = changed
            .as_ref()
            .map_or(operation.as_bytes(), |changed| changed.as_bytes());
        bytes.extend_from_slice(whole);
    }
    Ok(bytes)
}

/// Returns one operation as it has to run, if that is not as it came.
pub(super) async fn prepared_one(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    check_options(operation)?;
    if let Some(hint) = operation.get("hint")? {
        check_hint(call, collection, hint).await?;
    }
    let mut whole = None;
    for field in [
        "q",
        "query",
        "arrayFilters",
        "c",
        "let",
        "fields",
        "u",
        "update",
    ] {
        let Some(value) = operation.get(field)? else {
            continue;
        };
        if let Some(changed) = prepared_part(call, field, value)? {
            whole
                .get_or_insert(Document::try_from(operation)?)
                .insert(field, changed);
        }
    }
    Ok(whole.map(|whole| raw(&whole)))
}

fn prepared_part(
    call: &Call<'_>,
    field: &str,
    value: RawBsonRef<'_>,
) -> Result<Option<Bson>, CommandError> {
    let is_update = matches!(field, "u" | "update");
    match value {
        RawBsonRef::Document(update) if is_update => {
            // What `$pull` looks for is a query; everything else in an update is data.
            if let Some(pulled) = update.get("$pull")? {
                check_raw_value(pulled)?;
            }
            ordered(update)
        }
        RawBsonRef::Array(_) if is_update => {
            let Bson::Array(stages) = Bson::try_from(value)? else {
                return Err(CommandError::internal());
            };
            let checked = call.reader().check_update_pipeline(&stages)?;
            Ok((checked != stages).then_some(Bson::Array(checked)))
        }
        RawBsonRef::Document(part) => match check_raw_expressions(part)? {
            Found::Nothing => Ok(None),
            Found::Rewritable => rewritten_fields(part).map(|part| Some(Bson::Document(part))),
        },
        RawBsonRef::Array(parts) => {
            for part in parts {
                check_raw_value(part?)?;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// MongoDB adds new fields in the order of their names; the engine in the order they are written.
fn ordered(update: &RawDocument) -> Result<Option<Bson>, CommandError> {
    let mut needs_order = false;
    for element in update {
        let (operator, value) = element?;
        if let (true, RawBsonRef::Document(fields)) = (ADDING.contains(&operator.as_str()), value) {
            let mut before: Option<String> = None;
            for field in fields {
                let (name, _) = field?;
                let is_behind = before
                    .as_deref()
                    .is_some_and(|before| by_parts(before, name.as_str()) == Ordering::Greater);
                needs_order |= is_behind;
                before = Some(name.as_str().to_owned());
            }
        }
    }
    check_renames(update)?;
    if !needs_order {
        return Ok(None);
    }
    let mut update = Document::try_from(update)?;
    for (operator, value) in update.iter_mut() {
        if let (true, Bson::Document(fields)) = (ADDING.contains(&operator.as_str()), value) {
            let mut listed: Vec<(String, Bson)> =
                std::mem::take(&mut *fields).into_iter().collect();
            listed.sort_by(|(a, _), (b, _)| by_parts(a, b));
            fields.extend(listed);
        }
    }
    Ok(Some(Bson::Document(update)))
}

fn check_renames(update: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(renames)) = update.get("$rename")? else {
        return Ok(());
    };
    for rename in renames {
        let (from, to) = rename?;
        if to.as_str() == Some(from.as_str()) {
            return Err(CommandError::bad_value(format!(
                "The source and target field for $rename must differ: {from}: \"{from}\""
            )));
        }
    }
    Ok(())
}

/// Compares paths part by part, numbers as numbers.
fn by_parts(a: &str, b: &str) -> Ordering {
    let by_part = |(a, b): (&str, &str)| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    };
    let parts = a.split('.').zip(b.split('.')).map(by_part);
    let first = parts.into_iter().find(|order| order.is_ne());
    first.unwrap_or_else(|| a.split('.').count().cmp(&b.split('.').count()))
}

/// Options that the engine does not know, or knows and leaves out.
fn check_options(operation: &RawDocument) -> Result<(), CommandError> {
    for (option, name) in [("collation", "a collation"), ("c", "constants ('c')")] {
        if matches!(operation.get(option)?, Some(RawBsonRef::Document(set)) if !set.is_empty()) {
            return Err(CommandError::not_supported(format_args!(
                "{name} in an update or delete"
            )));
        }
    }
    Ok(())
}

/// A hint must name an index; the engine would take any.
async fn check_hint(
    call: &Call<'_>,
    collection: &str,
    hint: RawBsonRef<'_>,
) -> Result<(), CommandError> {
    let hint = Bson::try_from(hint)?;
    if matches!(&hint, Bson::Document(hint) if hint.is_empty() || hint.contains_key("$natural")) {
        return Ok(());
    }
    let indexes = match reading::indexes_of(call, collection).await {
        Ok(indexes) => indexes,
        // A collection that is not there has no index, and nothing to change.
        Err(error) if error.code == 26 => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_hinted = |index: &RawDocumentBuf| match &hint {
        Bson::String(name) => index.get_str("name").is_ok_and(|listed| listed == name),
        Bson::Document(key) => index
            .get_document("key")
            .is_ok_and(|listed| Document::try_from(listed).is_ok_and(|listed| listed == *key)),
        _ => false,
    };
    if indexes.iter().any(is_hinted) {
        return Ok(());
    }
    Err(CommandError::bad_value(format!(
        "error processing query: ns={}.{collection} planner returned error :: caused by :: hint provided does not correspond to an existing index",
        call.database
    )))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn fields_of_an_operator_come_in_the_order_of_their_names() {
        let update =
            raw(&doc! { "$set": { "z": 1, "a.10": 1, "a.9": 1 }, "$unset": { "y": 1, "b": 1 } });
        assert_eq!(
            ordered(&update).expect("it is well-formed"),
            Some(Bson::Document(
                doc! { "$set": { "a.9": 1, "a.10": 1, "z": 1 }, "$unset": { "y": 1, "b": 1 } }
            ))
        );
        let already = raw(&doc! { "$set": { "a": 1, "b": 1 } });
        assert_eq!(ordered(&already).expect("it is well-formed"), None);
    }
}
