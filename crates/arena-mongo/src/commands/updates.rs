//! One update, delete or findAndModify before it runs: no code in it, only a few
//! stages in an update by pipeline, and written so that the engine does what
//! MongoDB does. What the engine would silently leave out is refused.

mod arrays;
mod found;
mod parsed;
pub(super) mod stamps;

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::indexes::hashed;
use super::{
    Call, aggregated, collations, filtered, hints, modifiers, positions, projections, raw, reading,
    removals, replacing, shapes, ties,
};
use crate::error::CommandError;
use crate::pipeline::{
    Found, check_raw_expressions, check_raw_value, chosen, chosen_to_insert, rewritten_fields,
};

/// Errors that end a command and not only one of its operations: of rights, time, connections and transactions, and
/// of stages that do not exist.
const OF_THE_COMMAND: [i32; 18] = [
    1, 6, 13, 20, 26, 50, 89, 91, 112, 189, 251, 8000, 11600, 11601, 11602, 13435, 40323, 40324,
];

/// How many documents one change with a collation may meet.
const COLLATED_MAX: i32 = 10_000;

/// Operations as they have to run, and those that do not run.
pub(super) struct Prepared {
    /// Each operation that has to run otherwise than it came.
    pub(super) changed: Vec<Option<RawDocumentBuf>>,
    /// What is wrong with the others, by their places.
    pub(super) refused: Vec<(usize, CommandError)>,
}

/// Prepares all operations of a command. What is wrong with one of them is no error of the others.
pub(super) async fn prepared(
    call: &Call<'_>,
    collection: &str,
    operations: &[&RawDocument],
) -> Result<Prepared, CommandError> {
    let mut prepared = Prepared {
        changed: Vec::with_capacity(operations.len()),
        refused: Vec::new(),
    };
    let idle = replacing::idle(call, collection, operations).await?;
    for (place, operation) in operations.iter().enumerate() {
        if idle[place] {
            let without_effect = replacing::without_effect(operation)?;
            prepared.changed.push(Some(without_effect));
            continue;
        }
        let changed = match prepared_one(call, collection, operation).await {
            Ok(changed) => changed,
            Err(error) if OF_THE_COMMAND.contains(&error.code) => return Err(error),
            Err(error) => {
                prepared.refused.push((place, error));
                None
            }
        };
        prepared.changed.push(changed);
    }
    Ok(prepared)
}

/// Returns one operation as it has to run, if that is not as it came.
pub(super) async fn prepared_one(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    check_kind(operation)?;
    check_options(operation)?;
    check_array_filters(operation)?;
    parsed::check(call, operation).await?;
    let apart = filtered::apart(operation)?;
    let pinned = found::pinned(call, collection, apart.as_deref().unwrap_or(operation)).await?;
    let chosen = pinned.or(apart);
    let operation = chosen.as_deref().unwrap_or(operation);
    arrays::check(call, collection, operation).await?;
    let taken = removals::prepared(call, collection, operation).await?;
    let added = added(call, collection, taken.as_deref().unwrap_or(operation)).await?;
    let before = added.or(taken);
    let changed = rewritten(call, collection, before.as_deref().unwrap_or(operation)).await?;
    Ok(changed.or(before).or(chosen))
}

/// What is no update, no hint and no collation at all.
fn check_kind(operation: &RawDocument) -> Result<(), CommandError> {
    if let Some(collation) = operation.get("collation")? {
        collations::check_type(collation, "collation")?;
    }
    shapes::check_update(update_in(operation)?)?;
    shapes::check_hint(operation.get("hint")?)
}

async fn rewritten(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    if let Some(hint) = operation.get("hint")? {
        hints::check(call, collection, hint).await?;
    }
    let mut changes: Vec<(&str, Option<RawBson>)> = Vec::new();
    if let Some(meant) = operation
        .get("hint")?
        .map(hashed::meant)
        .transpose()?
        .flatten()
    {
        changes.push(("hint", Some(meant)));
    }
    if matches!(call.name, "findAndModify" | "findandmodify") {
        // The engine takes none there; it changes how a document is found, not which.
        changes.push(("hint", None));
    }
    // The simple one is none, and constants are refused where there are some.
    changes.push(("collation", None));
    changes.push(("c", None));
    if let Some(sort) = ties::in_operation(operation)? {
        changes.push(("sort", Some(sort)));
    }
    let finds = call.name.eq_ignore_ascii_case("findAndModify");
    let field = if finds { "query" } else { "q" };
    if let Some(found) = collated(call, collection, operation).await? {
        changes.push((field, Some(RawBson::Document(raw(&found)))));
    } else if let Some(RawBsonRef::Document(update)) = update_in(operation)?
        && let Some(RawBsonRef::Document(filter)) = operation.get(field)?
    {
        let arrays = positions::in_update(update)?;
        if let Some(located) = positions::located(call, collection, filter, &arrays).await? {
            let located =
                prepared_part(call, operation, field, RawBsonRef::Document(&raw(&located)))?
                    .unwrap_or_else(|| RawBson::Document(raw(&located)));
            changes.push((field, Some(located)));
        }
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
            && let Some(changed) = prepared_part(call, operation, field, value)?
        {
            changes.push((field, Some(changed)));
        }
    }
    with_changes(operation, &changes)
}

/// Returns a document with other values for some of its fields, or without them.
pub(super) fn with_changes(
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
    operation: &RawDocument,
    field: &str,
    value: RawBsonRef<'_>,
) -> Result<Option<RawBson>, CommandError> {
    let is_update = matches!(field, "u" | "update");
    match value {
        RawBsonRef::Document(update) if is_update => {
            let way = modifiers::Way {
                is_upsert: super::is_true(operation, "upsert"),
                finds: call.name.eq_ignore_ascii_case("findAndModify"),
                keeps_empty: stamps::keeps_empty(call.body()),
            };
            Ok(modifiers::prepared(update, way)?.map(RawBson::Document))
        }
        RawBsonRef::Array(_) if is_update => {
            let Bson::Array(stages) = Bson::try_from(value)? else {
                return Err(CommandError::internal());
            };
            let checked = call.reader().check_update_pipeline(&stages)?;
            let changed = (checked != stages).then(|| RawBson::try_from(Bson::Array(checked)));
            Ok(changed.transpose()?)
        }
        RawBsonRef::Document(part)
            if matches!(field, "q" | "query") && !asks_position(operation)? =>
        {
            if super::is_true(operation, "upsert") {
                check_last_names(part)?;
            }
            let found = check_raw_expressions(part)?;
            let filter = Document::try_from(part)?;
            aggregated::check_conditions(&filter)?;
            let chosen = if super::is_true(operation, "upsert") {
                chosen_to_insert(&filter)
            } else {
                chosen(&filter)
            };
            let chosen = chosen.map(|chosen| raw(&chosen));
            match (found, chosen) {
                (Found::Nothing, chosen) => Ok(chosen.map(RawBson::Document)),
                (Found::Rewritable, chosen) => {
                    let part = rewritten_fields(chosen.as_deref().unwrap_or(part))?;
                    Ok(Some(RawBson::Document(raw(&part))))
                }
            }
        }
        RawBsonRef::Document(part) if field == "fields" => {
            let found = check_raw_expressions(part)?;
            let read = projections::read(&Document::try_from(part)?)?.map(|read| raw(&read));
            match (found, read) {
                (Found::Nothing, read) => Ok(read.map(RawBson::Document)),
                (Found::Rewritable, read) => {
                    let part = rewritten_fields(read.as_deref().unwrap_or(part))?;
                    Ok(Some(RawBson::Document(raw(&part))))
                }
            }
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

/// The engine leaves an empty last name of a path out of the document that an upsert makes of its query.
fn check_last_names(query: &RawDocument) -> Result<(), CommandError> {
    for element in query {
        let (path, _) = element?;
        if path
            .as_str()
            .strip_suffix('.')
            .is_some_and(|rest| !rest.is_empty())
        {
            return Err(CommandError::not_supported(format_args!(
                "an upsert by the path '{path}', which ends with an empty name,"
            )));
        }
    }
    Ok(())
}

/// Options that the engine does not know, or knows and leaves out.
fn check_options(operation: &RawDocument) -> Result<(), CommandError> {
    if matches!(operation.get("c")?, Some(RawBsonRef::Document(set)) if !set.is_empty()) {
        if matches!(update_in(operation)?, Some(RawBsonRef::Document(_))) {
            return Err(CommandError::new(
                51198,
                "Location51198",
                "Constant values may only be specified for pipeline updates",
            ));
        }
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
    let update = update_in(operation)?;
    if matches!(update, Some(RawBsonRef::Array(_))) {
        let message = "arrayFilters may not be specified for pipeline-syle updates";
        return Err(CommandError::failed_to_parse(message));
    }
    if let Some(RawBsonRef::Document(update)) = update {
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
            modifiers::check_allowed(path.as_str())?;
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
pub(super) fn update_in(operation: &RawDocument) -> Result<Option<RawBsonRef<'_>>, CommandError> {
    match operation.get("u")? {
        None => Ok(operation.get("update")?),
        update => Ok(update),
    }
}

/// An update that changes nothing.
pub(super) fn nothing() -> Document {
    bson::doc! { "$unset": { "arenaNothing": "" } }
}

/// Adding nothing to a field that is not there makes an empty array of it, which the engine leaves out: the larger
/// one of what is there and an empty array is the same. Returns the operation so, if it adds nothing to a field that
/// may not be there.
async fn added(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let Some(RawBsonRef::Document(update)) = update_in(operation)? else {
        return Ok(None);
    };
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    let mut changed = Document::try_from(update)?;
    let (mut largest, mut has_more) = (Document::new(), false);
    for operator in ["$push", "$addToSet"] {
        let Some(RawBsonRef::Document(fields)) = update.get(operator)? else {
            continue;
        };
        for field in fields {
            let (path, added) = field?;
            let path = path.as_str();
            let each = added
                .as_document()
                .and_then(|added| added.get_array("$each").ok());
            let is_cut = added.as_document().is_some_and(|added| {
                let slice = added.get("$slice").ok().flatten();
                slice.and_then(super::integer) == Some(0)
            });
            if each.is_none_or(|each| !each.is_empty() && !is_cut) || path.contains(".$") {
                continue;
            }
            missing.push(bson::doc! { path: { "$exists": false } });
            others.push(bson::doc! { path: { "$exists": true, "$not": { "$type": "array" } } });
            has_more |= added
                .as_document()
                .is_some_and(|added| added.iter().count() > 1);
            largest.insert(path, Bson::Array(Vec::new()));
            let others = changed.get_document_mut(operator)?;
            others.remove(path);
            if others.is_empty() {
                changed.remove(operator);
            }
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let is_upsert = super::is_true(operation, "upsert");
    if !is_upsert && !is_met(call, collection, operation, missing).await? {
        return Ok(None);
    }
    if has_more
        || changed.contains_key("$max")
        || is_met(call, collection, operation, others).await?
    {
        return Err(CommandError::not_supported(
            "an empty $each for a field that is not there",
        ));
    }
    changed.insert("$max", largest);
    let field = if operation.get("u")?.is_some() {
        "u"
    } else {
        "update"
    };
    with_changes(
        operation,
        &[(field, Some(RawBson::Document(raw(&changed))))],
    )
}

/// Returns whether an operation meets a document that fits one of the conditions.
async fn is_met(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
    conditions: Vec<Document>,
) -> Result<bool, CommandError> {
    let mut found = bson::doc! { "$or": conditions };
    for field in ["q", "query"] {
        if let Some(RawBsonRef::Document(filter)) = operation.get(field)? {
            found = bson::doc! { "$and": [Document::try_from(filter)?, found] };
        }
    }
    let mut find = bson::rawdoc! { "find": collection, "projection": { "_id": 1 }, "limit": 1 };
    find.append(bson::cstr!("filter"), raw(&found));
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        find.append(bson::cstr!("let"), variables);
    }
    Ok(!reading::ids_of(call, &find).await?.is_empty())
}

pub(super) fn has_collation(operation: &RawDocument) -> Result<bool, CommandError> {
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
        Some(RawBsonRef::Document(update)) => collations::check_update(update)?,
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
        ("collation", bson::cstr!("collation")),
    ] {
        if let Some(RawBsonRef::Document(part)) = operation.get(from)? {
            find.append(to, part);
        }
    }
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        find.append(bson::cstr!("let"), variables);
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

fn asks_position(operation: &RawDocument) -> Result<bool, CommandError> {
    match update_in(operation)? {
        Some(RawBsonRef::Document(update)) => has_position(update),
        _ => Ok(false),
    }
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
