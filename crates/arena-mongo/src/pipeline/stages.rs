//! Stages that the engine answers otherwise than MongoDB, written so that the
//! answer is MongoDB's. One stage may become several; fields that are only needed
//! on the way begin with [`HELPER`] and are gone at the end.

use bson::{Bson, Document, bson, doc};

use super::accumulators::{Accumulators, HELPER, has_operator};
use super::buckets;
use super::expressions::{only, rewritten};
use super::geo;
use super::paths::{check_expression, check_path, check_specification};
use super::windows;
use crate::error::CommandError;

/// Returns what runs in place of one stage whose value was checked.
pub(super) fn rewritten_stage(name: &str, value: Bson) -> Result<Vec<Bson>, CommandError> {
    Ok(match (name, value) {
        // The engine gives a count of 0 where MongoDB gives no document.
        ("$count", Bson::String(field)) if is_plain_field(&field) => vec![
            bson!({ "$group": { "_id": null, field: { "$sum": 1 } } }),
            bson!({ "$project": { "_id": 0 } }),
        ],
        ("$group", Bson::Document(group)) => grouped(group)?,
        ("$bucket", Bson::Document(bucket)) => {
            let (bucket, after) = with_output(bucket, "output")?;
            // MongoDB gives buckets in the order of their boundaries; the engine in any.
            let mut stages = vec![
                bson!({ "$bucket": bucket }),
                bson!({ "$sort": { "_id": 1 } }),
            ];
            stages.extend(after);
            stages
        }
        ("$bucketAuto", Bson::Document(bucket)) => {
            if let Some(stages) = buckets::rewritten_buckets(&bucket, grouped)? {
                return Ok(stages);
            }
            let is_of_powers = bucket
                .get_str("granularity")
                .is_ok_and(|granularity| granularity == "POWERSOF2");
            let (bucket, after) = with_output(bucket, "output")?;
            let mut stages = vec![bson!({ "$bucketAuto": bucket })];
            stages.extend(is_of_powers.then(whole_powers));
            stages.extend(after);
            stages
        }
        ("$geoNear", Bson::Document(near)) => geo::near(near),
        ("$setWindowFields", Bson::Document(windows)) => windows::rewritten_windows(windows)?,
        ("$graphLookup", Bson::Document(lookup)) => graph_looked_up(lookup)?,
        // Their pipelines have had the same walk.
        ("$facet" | "$out", value) => vec![bson!({ name: value })],
        ("$merge", Bson::Document(merge)) if merge.get_array("whenMatched").is_ok() => {
            merged(merge)?
        }
        ("$lookup" | "$unionWith" | "$merge", Bson::Document(mut stage)) => {
            if let Some(variables) = stage.get("let") {
                let variables = rewritten(variables)?;
                stage.insert("let", variables);
            }
            match stage.get_str("as").map(str::to_owned) {
                Ok(path) if name == "$lookup" && path.contains('.') => {
                    looked_up_inside(&path, stage)
                }
                _ => vec![bson!({ name: stage })],
            }
        }
        (name, value) => vec![bson!({ name: rewritten(&value)? })],
    })
}

/// What MongoDB refuses in a stage and the engine takes.
pub(super) fn check_plain(name: &str, value: &Bson) -> Result<(), CommandError> {
    match (name, value) {
        ("$count", Bson::String(field)) if field == "_id" => {
            let message = "a group's _id may only be specified once";
            Err(CommandError::new(15948, "Location15948", message))
        }
        ("$addFields" | "$set", Bson::Document(fields)) => {
            check_added(name, fields)?;
            check_specification(value)
        }
        ("$project", _) => check_specification(value),
        ("$replaceRoot" | "$replaceWith", _) => check_expression(value),
        ("$group", Bson::Document(group)) => check_group(group),
        ("$bucket" | "$bucketAuto", Bson::Document(bucket)) => {
            bucket.get("groupBy").map_or(Ok(()), check_expression)?;
            bucket.get_document("output").map_or(Ok(()), check_group)
        }
        ("$unwind", Bson::String(path)) => unwound(path),
        ("$unwind", Bson::Document(unwind)) => unwind.get_str("path").map_or(Ok(()), unwound),
        ("$fill", Bson::Document(fill))
            if fill.get_document("output").is_ok_and(Document::is_empty) =>
        {
            let message = "The output field to $fill must not be empty";
            Err(CommandError::new(6_050_203, "Location6050203", message))
        }
        ("$densify", Bson::Document(densify)) => check_densify(densify),
        ("$sort", Bson::Document(keys)) => check_sort(keys),
        _ => Ok(()),
    }
}

fn unwound(path: &str) -> Result<(), CommandError> {
    match path.strip_prefix('$') {
        Some(path) if !path.is_empty() && !path.starts_with('$') => check_path(path),
        _ => Ok(()),
    }
}

/// The engine gives documents that it adds a field of that name.
fn check_densify(densify: &Document) -> Result<(), CommandError> {
    match densify.get_str("field") {
        Ok(field) if field.contains('.') && check_path(field).is_ok() => Err(
            CommandError::not_supported("$densify of a field inside another"),
        ),
        _ => Ok(()),
    }
}

fn check_group(group: &Document) -> Result<(), CommandError> {
    for (field, value) in group {
        let Bson::Document(fields) = value else {
            check_expression(value)?;
            continue;
        };
        match only(fields) {
            Some((operator, Bson::Array(_))) if field != "_id" => {
                let message = format!("The {operator} accumulator is a unary operator");
                return Err(CommandError::new(40237, "Location40237", message));
            }
            _ if field == "_id" && !has_operator(fields) => check_key(fields)?,
            // One operator too many is the engine's to tell.
            None if field != "_id" => {
                fields.values().try_for_each(check_expression)?;
                continue;
            }
            _ => {}
        }
        check_expression(value)?;
    }
    Ok(())
}

/// A key's fields are expressions; a number or a boolean looks like a projection's.
fn check_key(fields: &Document) -> Result<(), CommandError> {
    let is_inclusion = |value: &Bson| {
        matches!(
            value,
            Bson::Int32(_)
                | Bson::Int64(_)
                | Bson::Double(_)
                | Bson::Decimal128(_)
                | Bson::Boolean(_)
        )
    };
    if fields.values().any(is_inclusion) {
        let message = "$group does not support inclusion-style expressions";
        return Err(CommandError::new(17390, "Location17390", message));
    }
    Ok(())
}

fn check_added(stage: &str, fields: &Document) -> Result<(), CommandError> {
    let invalid = |code: i32, name: &'static str, why: String| {
        let message = format!("Invalid {stage} :: caused by :: {why}");
        Err(CommandError::new(code, name, message))
    };
    if fields.is_empty() {
        let why = "specification must have at least one field".to_owned();
        return invalid(40177, "Location40177", why);
    }
    for (position, path) in fields.keys().enumerate() {
        let is_above = |above: &str, below: &str| {
            below
                .strip_prefix(above)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let before = fields.keys().take(position);
        let mut conflicting = before.filter(|seen| is_above(seen, path) || is_above(path, seen));
        if let Some(seen) = conflicting.next() {
            let why = format!(
                "specification contains two conflicting paths. Cannot specify both '{path}' and '{seen}'"
            );
            return invalid(40176, "Location40176", why);
        }
    }
    Ok(())
}

/// A sort's keys are field paths.
pub(crate) fn check_sort(keys: &Document) -> Result<(), CommandError> {
    for (path, order) in keys {
        if path == "$natural" {
            continue;
        }
        check_path(path)?;
        if matches!(order, Bson::String(_) | Bson::Boolean(_) | Bson::Null) {
            let message = format!("Illegal key in $sort specification: {path}: {order}");
            return Err(CommandError::new(15974, "Location15974", message));
        }
    }
    Ok(())
}

/// `$merge` with a pipeline, which the engine lacks: the document that matches is looked up, the pipeline runs
/// over it, and what comes out replaces it.
fn merged(mut merge: Document) -> Result<Vec<Bson>, CommandError> {
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
    for stage in &update {
        let stage = stage.as_document().and_then(only);
        let may_move = match stage {
            Some(("$set" | "$addFields", Bson::Document(fields))) => fields.contains_key("_id"),
            Some(("$unset", Bson::String(field))) => field == "_id",
            Some(("$unset", Bson::Array(fields))) => fields.contains(&Bson::String("_id".into())),
            _ => true,
        };
        if may_move {
            return Err(unsupported("may change '_id' or replaces the document"));
        }
    }
    let on = match merge.get("on") {
        None => vec!["_id".to_owned()],
        Some(Bson::String(field)) => vec![field.clone()],
        Some(Bson::Array(fields)) => {
            let names = fields.iter().filter_map(Bson::as_str);
            names.map(str::to_owned).collect()
        }
        Some(_) => return Err(unsupported("matches on what is no field")),
    };
    let is_same = on
        .iter()
        .map(|field| bson!({ "$eq": [format!("${field}"), format!("$$new.{field}")] }));
    let is_same: Vec<Bson> = is_same.collect();
    let mut variables = match merge.remove("let") {
        Some(variables) => match rewritten(&variables)? {
            Bson::Document(variables) => variables,
            _ => {
                return Err(CommandError::type_mismatch(
                    "'let' of $merge must be an object",
                ));
            }
        },
        None => Document::new(),
    };
    variables.insert("new", "$$ROOT");
    let matched = format!("{HELPER}Matched");
    let mut pipeline = vec![bson!({ "$match": { "$expr": { "$and": is_same } } })];
    pipeline.extend(update);
    let lookup = bson!({ "$lookup": { "from": into, "let": variables, "pipeline": pipeline, "as": matched.clone() } });
    let field = format!("${matched}");
    let result = bson!({ "$replaceWith": { "$cond": [
        { "$eq": [field.clone(), []] },
        { "$unsetField": { "field": matched, "input": "$$ROOT" } },
        { "$first": field },
    ] } });
    merge.insert("whenMatched", "replace");
    Ok(vec![lookup, result, bson!({ "$merge": merge })])
}

/// `$lookup` with a pipeline into a field inside another: the engine finds nothing.
fn looked_up_inside(path: &str, mut lookup: Document) -> Vec<Bson> {
    if lookup.get_array("pipeline").map_or(true, Vec::is_empty) {
        return vec![bson!({ "$lookup": lookup })];
    }
    let found = format!("{HELPER}Found");
    lookup.insert("as", found.as_str());
    vec![
        bson!({ "$lookup": lookup }),
        bson!({ "$set": { path: format!("${found}") } }),
        bson!({ "$unset": found }),
    ]
}

/// `$bucketAuto` with powers of two: the engine writes all of them as doubles.
fn whole_powers() -> Bson {
    let whole = |bound: &str| {
        let is_other =
            bson!({ "$or": [{ "$ne": [{ "$type": bound }, "double"] }, { "$lt": [bound, 1] }] });
        bson!({ "$switch": {
            "branches": [
                { "case": is_other, "then": bound },
                { "case": { "$lt": [bound, 2_147_483_648.0] }, "then": { "$toInt": bound } },
                { "case": { "$lt": [bound, 9_223_372_036_854_775_808.0] }, "then": { "$toLong": bound } },
            ],
            "default": bound,
        } })
    };
    bson!({ "$set": { "_id": { "min": whole("$_id.min"), "max": whole("$_id.max") } } })
}

fn is_plain_field(name: &str) -> bool {
    !name.is_empty() && name != "_id" && !name.starts_with('$') && !name.contains(['.', '\0'])
}

/// A group's key that is a document keeps fields that are missing out, and its accumulators are MongoDB's.
fn grouped(mut group: Document) -> Result<Vec<Bson>, CommandError> {
    if let Some(key) = group.get("_id") {
        let key = rewritten(key)?;
        let key = match key {
            Bson::Document(fields) if !fields.is_empty() && !has_operator(&fields) => {
                object_key(fields)
            }
            other => other,
        };
        group.insert("_id", key);
    }
    let key = group.remove("_id");
    let accumulators = Accumulators::of(&group)?;
    let mut whole = Document::new();
    whole.extend(key.map(|key| ("_id".to_owned(), key)));
    whole.extend(accumulators.fields.clone());
    let mut stages = vec![bson!({ "$group": whole })];
    stages.extend(accumulators.after());
    Ok(stages)
}

/// The engine writes null for what is missing in a key of several fields, and takes both for one group. MongoDB
/// does so where the key has one field only.
fn object_key(fields: Document) -> Bson {
    match only(&fields) {
        Some((name, Bson::String(path))) => bson!({ name: { "$ifNull": [path, Bson::Null] } }),
        Some((name, Bson::Document(value))) if has_operator(value) => {
            bson!({ name: { "$ifNull": [value.clone(), Bson::Null] } })
        }
        _ => bson!({ "$mergeObjects": [fields] }),
    }
}

/// A stage whose accumulators stand in one of its fields.
fn with_output(mut stage: Document, field: &str) -> Result<(Document, Vec<Bson>), CommandError> {
    let output = stage.get_document(field).cloned().unwrap_or_default();
    for (name, value) in stage.iter_mut() {
        if name != field {
            *value = rewritten(value)?;
        }
    }
    if output.is_empty() {
        return Ok((stage, Vec::new()));
    }
    let accumulators = Accumulators::of(&output)?;
    stage.insert(field, accumulators.fields.clone());
    Ok((stage, accumulators.after()))
}

/// `$graphLookup`: the depth is a long at MongoDB, an int at the engine.
fn graph_looked_up(lookup: Document) -> Result<Vec<Bson>, CommandError> {
    let depth = lookup.get_str("depthField").ok().map(str::to_owned);
    let found = lookup.get_str("as").ok().map(str::to_owned);
    let stage = bson!({ "$graphLookup": rewritten(&Bson::Document(lookup))? });
    let (Some(depth), Some(found)) = (depth, found) else {
        return Ok(vec![stage]);
    };
    if !is_plain_field(&depth) {
        return Ok(vec![stage]);
    }
    let whole = doc! { depth.as_str(): { "$toLong": format!("$$this.{depth}") } };
    let documents = bson!({ "$map": { "input": format!("${found}"), "in": { "$mergeObjects": ["$$this", whole] } } });
    Ok(vec![stage, bson!({ "$set": { found: documents } })])
}
