//! Updates by pipeline that replace the whole document. The engine writes the
//! document's own `_id` in front of what comes out, also where that has one: the
//! stored document would have two. So an `_id` that is the document's own is left out
//! on the way, and what the engine then could not tell apart is refused.

use bson::{Bson, Document, bson};

use super::expressions::only;
use crate::error::CommandError;

/// Returns an update's stages, checked before, so that the document keeps one `_id`.
pub(super) fn with_one_identity(mut stages: Vec<Bson>) -> Result<Vec<Bson>, CommandError> {
    let Some(last) = stages
        .iter()
        .rposition(|stage| replacement(stage).is_some())
    else {
        return Ok(stages);
    };
    let replacements = || stages[..=last].iter().filter_map(replacement);
    let are_several = replacements().count() > 1;
    if stages[..last].iter().any(writes_identity)
        || (are_several && !replacements().all(is_without_identity))
    {
        return Err(refused("changes '_id' and then replaces the document"));
    }
    if stages[last + 1..]
        .iter()
        .any(|stage| writes_identity(stage) || reads_identity(stage))
    {
        return Err(refused("replaces the document and then uses '_id'"));
    }
    if let Some(new) = replacement(&stages[last]) {
        stages[last] = bson!({ "$replaceWith": without_own_identity(new.clone()) });
    }
    Ok(stages)
}

fn refused(what: &str) -> CommandError {
    CommandError::not_supported(format_args!("an update by a pipeline that {what}"))
}

/// What a stage puts in the document's place.
fn replacement(stage: &Bson) -> Option<&Bson> {
    match stage.as_document().and_then(only)? {
        ("$replaceWith", new) => Some(new),
        ("$replaceRoot", Bson::Document(root)) => root.get("newRoot"),
        _ => None,
    }
}

/// Whether a new document has no `_id` but one that the document before it had.
fn is_without_identity(new: &Bson) -> bool {
    let is_literal = |fields: &Document| {
        fields
            .keys()
            .all(|name| name != "_id" && !name.starts_with('$'))
    };
    let Bson::Document(new) = new else {
        return false;
    };
    match only(new) {
        Some(("$mergeObjects", Bson::Array(parts))) => parts.iter().all(|part| match part {
            Bson::String(path) => path == "$$ROOT",
            Bson::Document(fields) => is_literal(fields),
            _ => false,
        }),
        _ => is_literal(new),
    }
}

/// The new document without an `_id` of the same type and value; another one stays, for the engine to refuse.
fn without_own_identity(new: Bson) -> Bson {
    let is_own = bson!({ "$and": [
        { "$eq": ["$$replaced._id", "$_id"] },
        { "$eq": [{ "$type": "$$replaced._id" }, { "$type": "$_id" }] },
    ] });
    bson!({ "$let": {
        "vars": { "replaced": new },
        "in": { "$cond": [
            is_own,
            { "$unsetField": { "field": "_id", "input": "$$replaced" } },
            "$$replaced",
        ] },
    } })
}

fn is_identity(path: &str) -> bool {
    path == "_id" || path.starts_with("_id.")
}

fn writes_identity(stage: &Bson) -> bool {
    let computes = |fields: &Document, is_projection: bool| {
        fields.iter().any(|(path, value)| {
            is_identity(path)
                && !(is_projection
                    && matches!(value, Bson::Int32(1) | Bson::Int64(1) | Bson::Boolean(true)))
        })
    };
    match stage.as_document().and_then(only) {
        Some(("$project", Bson::Document(fields))) => computes(fields, true),
        Some(("$set" | "$addFields", Bson::Document(fields))) => computes(fields, false),
        Some(("$unset", Bson::String(path))) => is_identity(path),
        Some(("$unset", Bson::Array(paths))) => {
            paths.iter().filter_map(Bson::as_str).any(is_identity)
        }
        _ => false,
    }
}

/// Whether a value may have the document's `_id` in it.
fn reads_identity(value: &Bson) -> bool {
    match value {
        Bson::String(text) => {
            is_identity(text.strip_prefix('$').unwrap_or(text))
                || ["$$ROOT", "$$CURRENT"]
                    .iter()
                    .any(|all| text.starts_with(all))
        }
        Bson::Document(fields) => fields.iter().any(|(_, value)| reads_identity(value)),
        Bson::Array(values) => values.iter().any(reads_identity),
        _ => false,
    }
}
