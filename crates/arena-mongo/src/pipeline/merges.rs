//! `$merge`. MongoDB writes each document by an update: by `$set` or `$setOnInsert`, which
//! take the fields by their names, or by a pipeline, which the engine lacks.

use bson::{Bson, Document, bson, doc};

use super::accumulators::HELPER;
use super::expressions::{only, rewritten};
use super::joins;
use super::raising::raise;
use crate::error::CommandError;

/// Returns what runs in place of a `$merge` whose value was checked.
pub(super) fn stages(merge: Bson) -> Result<Vec<Bson>, CommandError> {
    let merge = match merge {
        Bson::Document(merge) if merge.get_array("whenMatched").is_ok() => {
            return by_pipeline(merge);
        }
        Bson::Document(mut merge) => {
            if let Some(variables) = merge.get("let") {
                let variables = rewritten(variables)?;
                merge.insert("let", variables);
            }
            Bson::Document(merge)
        }
        other => other,
    };
    let mode = merge
        .as_document()
        .map_or(Ok("merge"), |merge| match merge.get("whenMatched") {
            None => Ok("merge"),
            Some(mode) => mode.as_str().ok_or(()),
        });
    let mut stages = Vec::new();
    if let Ok("merge" | "keepExisting") = mode {
        stages.push(by_name(merge.as_document()));
    }
    stages.push(bson!({ "$merge": merge }));
    Ok(stages)
}

/// A document with its fields in the order in which an update of MongoDB sets them: what it is matched by, then all
/// others by name.
fn by_name(merge: Option<&Document>) -> Bson {
    let mut on = match merge.and_then(|merge| merge.get("on")) {
        Some(Bson::String(field)) => vec![field.as_str()],
        Some(Bson::Array(fields)) => fields.iter().filter_map(Bson::as_str).collect(),
        _ => Vec::new(),
    };
    on.retain(|field| *field != "_id" && !field.contains('.'));
    on.sort_unstable();
    let sorted =
        bson!({ "$sortArray": { "input": { "$objectToArray": "$$ROOT" }, "sortBy": { "k": 1 } } });
    let fields = if on.is_empty() {
        sorted
    } else {
        let part = |is_first: bool| {
            let is_on = bson!({ "$in": ["$$this.k", { "$literal": on.clone() }] });
            let cond = bson!({ "$eq": [is_on, is_first] });
            bson!({ "$filter": { "input": "$$arenaFields", "cond": cond } })
        };
        bson!({ "$let": { "vars": { "arenaFields": sorted }, "in": {
            "$concatArrays": [part(true), part(false)],
        } } })
    };
    bson!({ "$replaceWith": { "$arrayToObject": fields } })
}

/// `$merge` with a pipeline, which the engine lacks: the document that matches is looked up, the pipeline runs
/// over it, and what comes out replaces it.
fn by_pipeline(mut merge: Document) -> Result<Vec<Bson>, CommandError> {
    let unsupported =
        |what: &str| CommandError::not_supported(format_args!("$merge whose pipeline {what}"));
    let Some(Bson::Array(update)) = merge.remove("whenMatched") else {
        return Err(CommandError::internal());
    };
    let into = match merge.get("into") {
        Some(Bson::String(collection)) => collection.clone(),
        Some(Bson::Document(target)) if !target.contains_key("db") => {
            target.get_str("coll").unwrap_or_default().to_owned()
        }
        _ => return Err(unsupported("looks into another database")),
    };
    let on = match merge.get("on") {
        None => vec!["_id".to_owned()],
        Some(Bson::String(field)) => vec![field.clone()],
        Some(Bson::Array(fields)) => {
            let names = fields.iter().filter_map(Bson::as_str);
            names.map(str::to_owned).collect()
        }
        Some(_) => return Err(unsupported("matches on what is no field")),
    };
    let moves = update.iter().any(may_move);
    if moves && on != ["_id"] {
        return Err(unsupported("may change '_id' or replaces the document"));
    }
    let is_same = on
        .iter()
        .map(|field| bson!({ "$eq": [format!("${field}"), format!("$$new.{field}")] }));
    let is_same: Vec<Bson> = is_same.collect();
    let mut variables = match merge.remove("let") {
        Some(Bson::Document(variables)) => variables,
        Some(_) => {
            let message = "'let' of $merge must be an object";
            return Err(CommandError::type_mismatch(message));
        }
        None => Document::new(),
    };
    variables.insert("new", "$$ROOT");
    let matched = format!("{HELPER}Matched");
    let mut pipeline = vec![bson!({ "$match": { "$expr": { "$and": is_same } } })];
    pipeline.extend(update);
    pipeline.extend(moves.then(with_its_id));
    let lookup =
        doc! { "from": into, "let": variables, "pipeline": pipeline, "as": matched.clone() };
    let mut stages = joins::stages(lookup)?;
    let field = format!("${matched}");
    let result = bson!({ "$replaceWith": { "$cond": [
        { "$eq": [field.clone(), []] },
        { "$unsetField": { "field": matched, "input": "$$ROOT" } },
        { "$first": field },
    ] } });
    merge.insert("whenMatched", "replace");
    stages.extend([result, bson!({ "$merge": merge })]);
    Ok(stages)
}

/// Whether a stage of an update may give a document another `_id`, or none.
fn may_move(stage: &Bson) -> bool {
    match stage.as_document().and_then(only) {
        Some(("$set" | "$addFields", Bson::Document(fields))) => fields.contains_key("_id"),
        Some(("$unset", Bson::String(field))) => field == "_id",
        Some(("$unset", Bson::Array(fields))) => fields.contains(&Bson::String("_id".into())),
        _ => true,
    }
}

/// A document of a `$merge` with the `_id` that it matched by: none is given back, and another one is refused.
fn with_its_id() -> Bson {
    let message = "$merge failed to update the matching document, did you attempt to modify the _id or the shard key? :: caused by :: Performing an update on the path '_id' would modify the immutable field '_id', now a ";
    let other = raise(66, message, bson!({ "$type": "$_id" }));
    let id = bson!({ "$switch": {
        "branches": [
            { "case": { "$eq": [{ "$type": "$_id" }, "missing"] }, "then": "$$new._id" },
            { "case": { "$eq": ["$_id", "$$new._id"] }, "then": "$_id" },
        ],
        "default": other,
    } });
    bson!({ "$replaceWith": { "$mergeObjects": [{ "_id": id }, "$$ROOT"] } })
}
