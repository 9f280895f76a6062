//! One update, delete or findAndModify before it runs: no code in it, only a few
//! stages in an update by pipeline, and written so that the engine does what
//! MongoDB does. What the engine would silently leave out is refused.

use std::cmp::Ordering;

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::{Call, hints, raw, reading};
use crate::error::CommandError;
use crate::pipeline::{Found, check_raw_expressions, check_raw_value, rewritten_fields};

/// Operators whose new fields MongoDB adds in the order of their names.
const ADDING: [&str; 11] = [
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
    "$rename",
];

/// How many documents one change with a collation may meet.
const COLLATED_MAX: i32 = 10_000;

/// Returns all operations one after the other if one of them has to run otherwise than it came.
pub(super) async fn prepared(
    call: &Call<'_>,
    collection: &str,
    operations: &[&RawDocument],
) -> Result<Vec<u8>, CommandError> {
    let mut changed = Vec::with_capacity(operations.len());
    for later in operations.iter().skip(1) {
        // What it meets is found before the first one runs.
        if has_collation(later)? {
            return Err(CommandError::not_supported(
                "a collation in a write behind another one of the same command",
            ));
        }
    }
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
    check_array_filters(operation)?;
    if let Some(hint) = operation.get("hint")? {
        hints::check(call, collection, hint).await?;
    }
    check_empty_each(call, collection, operation).await?;
    let mut changes: Vec<(&str, Option<RawBson>)> = Vec::new();
    if matches!(call.name, "findAndModify" | "findandmodify") {
        // The engine takes none there; it changes how a document is found, not which.
        changes.push(("hint", None));
    }
    // The simple one is none.
    changes.push(("collation", None));
    if let Some(found) = collated(call, collection, operation).await? {
        let finds = call.name.eq_ignore_ascii_case("findAndModify");
        let field = if finds { "query" } else { "q" };
        changes.push((field, Some(RawBson::Document(raw(&found)))));
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
        if !changes.iter().any(|(changed, _)| *changed == field)
            && let Some(value) = operation.get(field)?
            && let Some(changed) = prepared_part(call, field, value)?
        {
            changes.push((field, Some(changed)));
        }
    }
    with_changes(operation, &changes)
}

/// Returns a document with other values for some of its fields, or without them.
fn with_changes(
    document: &RawDocument,
    changes: &[(&str, Option<RawBson>)],
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut changed = RawDocumentBuf::new();
    let mut is_changed = false;
    for element in document {
        let (field, value) = element?;
        match changes.iter().find(|(name, _)| *name == field.as_str()) {
            Some((_, Some(other))) => changed.append(field, other.as_raw_bson_ref()),
            Some((_, None)) => {}
            None => {
                changed.append(field, value);
                continue;
            }
        }
        is_changed = true;
    }
    for (name, value) in changes {
        if let (None, Some(value)) = (document.get(name)?, value) {
            changed.append(
                bson::raw::CString::try_from(*name)?,
                value.as_raw_bson_ref(),
            );
            is_changed = true;
        }
    }
    Ok(is_changed.then_some(changed))
}

fn prepared_part(
    call: &Call<'_>,
    field: &str,
    value: RawBsonRef<'_>,
) -> Result<Option<RawBson>, CommandError> {
    let is_update = matches!(field, "u" | "update");
    match value {
        RawBsonRef::Document(update) if is_update => {
            // What `$pull` looks for is a query; everything else in an update is data.
            if let Some(pulled) = update.get("$pull")? {
                check_raw_value(pulled)?;
            }
            check_update(update)?;
            let changed = match with_pulled(update)? {
                Some(changed) => {
                    let changed = raw(&changed);
                    Some(ordered(&changed)?.unwrap_or(changed))
                }
                None => ordered(update)?,
            };
            Ok(changed.map(RawBson::Document))
        }
        RawBsonRef::Array(_) if is_update => {
            let Bson::Array(stages) = Bson::try_from(value)? else {
                return Err(CommandError::internal());
            };
            let checked = call.reader().check_update_pipeline(&stages)?;
            let changed = (checked != stages).then(|| RawBson::try_from(Bson::Array(checked)));
            Ok(changed.transpose()?)
        }
        RawBsonRef::Document(part) => match check_raw_expressions(part)? {
            Found::Nothing => Ok(None),
            Found::Rewritable => {
                let part = rewritten_fields(part)?;
                Ok(Some(RawBson::Document(raw(&part))))
            }
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

/// MongoDB adds new fields in the order of their names, whatever operators add them; the engine in the order
/// they are written. An operator may come more than once here, which only the engine sees.
fn ordered(update: &RawDocument) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut added = Vec::new();
    let mut others = RawDocumentBuf::new();
    for element in update {
        let (operator, value) = element?;
        let adds = ADDING.contains(&operator.as_str());
        match value {
            RawBsonRef::Document(fields) if adds && !fields.is_empty() => {
                for field in fields {
                    let (path, value) = field?;
                    let new = match (operator.as_str(), value.as_str()) {
                        ("$rename", Some(to)) => to,
                        _ => path.as_str(),
                    };
                    added.push((new, operator, path, value));
                }
            }
            _ => others.append(operator, value),
        }
    }
    if added.is_sorted_by(|(a, ..), (b, ..)| by_parts(a, b) != Ordering::Greater) {
        return Ok(None);
    }
    added.sort_by(|(a, ..), (b, ..)| by_parts(a, b));
    let mut whole = RawDocumentBuf::new();
    for same in added.chunk_by(|(_, a, ..), (_, b, ..)| a == b) {
        let mut fields = RawDocumentBuf::new();
        for (_, _, path, value) in same {
            fields.append(*path, *value);
        }
        if let Some((_, operator, ..)) = same.first() {
            whole.append(*operator, fields);
        }
    }
    for element in &others {
        let (operator, value) = element?;
        whole.append(operator, value);
    }
    Ok(Some(whole))
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
    if matches!(operation.get("c")?, Some(RawBsonRef::Document(set)) if !set.is_empty()) {
        return Err(CommandError::not_supported(
            "constants ('c') in an update or delete",
        ));
    }
    Ok(())
}

/// What MongoDB refuses of array filters and the engine takes.
fn check_array_filters(operation: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Array(filters)) = operation.get("arrayFilters")? else {
        return Ok(());
    };
    if filters.is_empty() {
        return Ok(());
    }
    if super::is_true(operation, "remove") {
        let message = "Cannot specify arrayFilters and remove=true";
        return Err(CommandError::failed_to_parse(message));
    }
    if let Some(RawBsonRef::Document(update)) = update_in(operation)? {
        let first = update.iter().next().transpose()?;
        if first.is_none_or(|(operator, _)| !operator.as_str().starts_with('$')) {
            return Err(CommandError::not_supported(
                "array filters in a replacement",
            ));
        }
    }
    for filter in filters {
        let RawBsonRef::Document(filter) = filter? else {
            continue;
        };
        for element in filter {
            let (path, _) = element?;
            let name = path.as_str().split('.').next().unwrap_or_default();
            let is_identifier = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|other| other.is_ascii_alphanumeric());
            if !name.starts_with('$') && !is_identifier {
                return Err(CommandError::bad_value(format!(
                    "Error parsing array filter :: caused by :: The top-level field name must be an alphanumeric string beginning with a lowercase letter, found '{name}'"
                )));
            }
        }
    }
    Ok(())
}

/// What an update does, whichever command it is of.
fn update_in(operation: &RawDocument) -> Result<Option<RawBsonRef<'_>>, CommandError> {
    match operation.get("u")? {
        None => Ok(operation.get("update")?),
        update => Ok(update),
    }
}

/// Adding nothing to a field that is not there makes an empty array of it, which the engine leaves out.
async fn check_empty_each(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(update)) = update_in(operation)? else {
        return Ok(());
    };
    let mut missing = Vec::new();
    for operator in ["$push", "$addToSet"] {
        let Some(RawBsonRef::Document(fields)) = update.get(operator)? else {
            continue;
        };
        for field in fields {
            let (path, added) = field?;
            let each = added
                .as_document()
                .and_then(|added| added.get_array("$each").ok());
            if each.is_some_and(bson::RawArray::is_empty) && !path.as_str().contains(".$") {
                missing.push(bson::doc! { path.as_str(): { "$exists": false } });
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut found = bson::doc! { "$or": missing };
    for field in ["q", "query"] {
        if let Some(RawBsonRef::Document(filter)) = operation.get(field)? {
            found = bson::doc! { "$and": [Document::try_from(filter)?, found] };
        }
    }
    let mut find = bson::rawdoc! { "find": collection, "projection": { "_id": 1 }, "limit": 1 };
    find.append(bson::cstr!("filter"), raw(&found));
    if let Some(RawBsonRef::Document(variables)) = operation.get("let")? {
        find.append(bson::cstr!("let"), variables);
    }
    if reading::ids_of(call, &find).await?.is_empty() {
        return Ok(());
    }
    Err(CommandError::not_supported(
        "an empty $each for a field that is not there",
    ))
}

fn has_collation(operation: &RawDocument) -> Result<bool, CommandError> {
    let Some(RawBsonRef::Document(collation)) = operation.get("collation")? else {
        return Ok(false);
    };
    let locale = collation.get("locale")?.and_then(|locale| locale.as_str());
    Ok(!collation.is_empty() && locale != Some("simple"))
}

/// A collation, which the engine knows in reads only: what matches is found first, and then changed by its `_id`.
/// Returns the filter to change by; nothing where there is no collation or nothing to change.
async fn collated(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<Document>, CommandError> {
    if !has_collation(operation)? {
        return Ok(None);
    }
    let refused = |what: &str| {
        CommandError::not_supported(format_args!("a collation in a write with {what}"))
    };
    match update_in(operation)? {
        Some(RawBsonRef::Array(_)) => return Err(refused("an update by pipeline")),
        Some(RawBsonRef::Document(update)) if has_position(update)? => {
            return Err(refused("array filters or positions"));
        }
        _ => {}
    }
    if operation.get("arrayFilters")?.is_some() {
        return Err(refused("array filters or positions"));
    }
    let is_many = super::is_true(operation, "multi")
        || operation.get("limit")?.and_then(super::integer) == Some(0);
    let mut find = bson::rawdoc! { "find": collection, "projection": { "_id": 1 } };
    for (from, to) in [
        ("q", bson::cstr!("filter")),
        ("query", bson::cstr!("filter")),
        ("sort", bson::cstr!("sort")),
        ("let", bson::cstr!("let")),
        ("collation", bson::cstr!("collation")),
    ] {
        if let Some(RawBsonRef::Document(part)) = operation.get(from)? {
            find.append(to, part);
        }
    }
    let limit = if is_many { COLLATED_MAX + 1 } else { 1 };
    find.append(bson::cstr!("limit"), limit);
    let ids = reading::ids_of(call, &find).await?;
    if ids.len() > usize::try_from(COLLATED_MAX).unwrap_or(usize::MAX) {
        return Err(refused("more than ten thousand documents"));
    }
    let keeps_filter = ids.is_empty() && super::is_true(operation, "upsert");
    Ok((!keeps_filter).then(|| bson::doc! { "_id": { "$in": ids } }))
}

fn has_position(update: &RawDocument) -> Result<bool, CommandError> {
    for element in update {
        if let RawBsonRef::Document(fields) = element?.1 {
            for field in fields {
                if field?.0.as_str().contains(".$") {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn fields_come_in_the_order_of_their_names_over_all_operators() {
        let update = raw(
            &doc! { "$set": { "z": 1, "a.10": 1, "a.9": 1 }, "$unset": { "y": 1 }, "$inc": { "b": 2 } },
        );
        let ordered_update = ordered(&update)
            .expect("it is well-formed")
            .expect("it was not in order");
        let operators: Vec<String> = ordered_update
            .iter()
            .map(|element| {
                let (operator, fields) = element.expect("it is well-formed");
                let fields = fields.as_document().expect("operators hold documents");
                let names = fields.iter().flatten().map(|(name, _)| name.to_string());
                format!("{operator} {}", names.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(operators, ["$set a.9 a.10", "$inc b", "$set z", "$unset y"]);
        let already = raw(&doc! { "$set": { "a": 1 }, "$inc": { "b": 1 } });
        assert_eq!(ordered(&already).expect("it is well-formed"), None);
    }
}
