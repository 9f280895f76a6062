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
    let finds = matches!(call.name, "findAndModify" | "findandmodify");
    if finds && operation.get("hint")?.is_some() {
        // The engine takes none there; it changes how a document is found, not which.
        let mut without = Document::try_from(operation)?;
        without.remove("hint");
        whole = Some(without);
    }
    if operation.get("collation")?.is_some() {
        // The simple one, which is none.
        whole
            .get_or_insert(Document::try_from(operation)?)
            .remove("collation");
    }
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
            check_update(update)?;
            match with_pulled(update)? {
                Some(changed) => Ok(ordered(&raw(&changed))?.or(Some(Bson::Document(changed)))),
                None => ordered(update),
            }
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

/// `$pull` of what fits a pattern: the engine takes the pattern for a value.
fn with_pulled(update: &RawDocument) -> Result<Option<Document>, CommandError> {
    let Some(RawBsonRef::Document(pulled)) = update.get("$pull")? else {
        return Ok(None);
    };
    let mut has_pattern = false;
    for element in pulled {
        has_pattern |= matches!(element?.1, RawBsonRef::RegularExpression(_));
    }
    if !has_pattern {
        return Ok(None);
    }
    let mut update = Document::try_from(update)?;
    for (_, value) in update.get_document_mut("$pull")?.iter_mut() {
        if let Bson::RegularExpression(_) = value {
            *value = bson::bson!({ "$in": [value.clone()] });
        }
    }
    Ok(Some(update))
}

/// What MongoDB refuses in an update and the engine takes.
fn check_update(update: &RawDocument) -> Result<(), CommandError> {
    check_renames(update)?;
    let Some(RawBsonRef::Document(inserted)) = update.get("$setOnInsert")? else {
        return Ok(());
    };
    for element in update {
        let (operator, fields) = element?;
        let (true, RawBsonRef::Document(fields)) = (operator.as_str() != "$setOnInsert", fields)
        else {
            continue;
        };
        for field in fields {
            let (path, _) = field?;
            for element in inserted {
                let (other, _) = element?;
                check_conflict(path.as_str(), other.as_str())?;
            }
        }
    }
    Ok(())
}

fn check_conflict(path: &str, other: &str) -> Result<(), CommandError> {
    let is_above = |above: &str, below: &str| {
        below
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let at = if is_above(path, other) { path } else { other };
    if !is_above(path, other) && !is_above(other, path) {
        return Ok(());
    }
    Err(CommandError::new(
        40,
        "ConflictingUpdateOperators",
        format!("Updating the path '{other}' would create a conflict at '{at}'"),
    ))
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
        let inside = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'));
        if let Some(to) = to.as_str()
            && (inside(from.as_str(), to) || inside(to, from.as_str()))
        {
            return Err(CommandError::bad_value(format!(
                "The source and target field for $rename must not be on the same path: {from}: \"{to}\""
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
        let is_simple =
            |set: &RawDocument| set.get_str("locale").is_ok_and(|locale| locale == "simple");
        if matches!(operation.get(option)?, Some(RawBsonRef::Document(set)) if !set.is_empty() && !is_simple(set))
        {
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
