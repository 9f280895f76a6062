//! Stages that the engine answers otherwise than MongoDB, written so that the
//! answer is MongoDB's. One stage may become several; fields that are only needed
//! on the way begin with [`HELPER`] and are gone at the end.

use bson::{Bson, Document, bson, doc};

use super::accumulators::{Accumulators, HELPER, has_operator};
use super::arithmetic::with_exact_constants;
use super::buckets;
use super::checks::{direction, reads};
use super::expressions::{only, rewritten};
use super::joins;
use super::merges;
use super::missing::{accumulated, or_null};
use super::near;
use super::raising::refuse;
use super::windows;
use crate::error::CommandError;

/// Returns what runs in place of one stage whose value was checked.
pub(super) fn rewritten_stage(name: &str, value: Bson) -> Result<Vec<Bson>, CommandError> {
    let value = told_from_filters(name, value);
    Ok(match (name, value) {
        // The engine gives a count of 0 where MongoDB gives no document.
        ("$count", Bson::String(field)) if is_plain_field(&field) => vec![
            bson!({ "$group": { "_id": null, field: { "$sum": 1 } } }),
            bson!({ "$project": { "_id": 0 } }),
        ],
        ("$group", Bson::Document(group)) => grouped(group)?,
        ("$sortByCount", key) if is_key(&key) => {
            let mut stages = grouped(doc! { "_id": key, "count": { "$sum": 1 } })?;
            stages.push(bson!({ "$sort": { "count": -1 } }));
            stages
        }
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
        ("$bucketAuto", Bson::Document(bucket)) => automatic(bucket)?,
        ("$geoNear", Bson::Document(near)) => near::stages(near),
        ("$setWindowFields", Bson::Document(windows)) => windows::rewritten_windows(windows)?,
        ("$graphLookup", Bson::Document(lookup)) => graph_looked_up(lookup)?,
        // Their pipelines have had the same walk.
        ("$facet", Bson::Document(facets)) => faceted(facets),
        ("$out", value) => vec![bson!({ name: value })],
        ("$addFields" | "$set", Bson::Document(fields)) => {
            vec![bson!({ name: rewritten(&added(fields))? })]
        }
        ("$unwind", unwind) => unwound(unwind)?,
        ("$densify", Bson::Document(densify)) => densified(densify)?,
        ("$sort", Bson::Document(keys)) => {
            vec![bson!({ "$sort": rewritten(&Bson::Document(directed(keys)))? })]
        }
        ("$limit" | "$skip", Bson::Decimal128(number)) => {
            let count = number
                .to_string()
                .parse()
                .map_or(Bson::Decimal128(number), Bson::Int64);
            vec![bson!({ name: count })]
        }
        // What is pruned is a document of nothing to the engine, which stages count.
        ("$redact", decision) => vec![
            bson!({ "$redact": rewritten(&decided(decision))? }),
            bson!({ "$match": { format!("{HELPER}Nothing"): { "$exists": false } } }),
        ],
        ("$merge", merge) => merges::stages(merge)?,
        ("$lookup", Bson::Document(lookup)) => joins::stages(lookup)?,
        ("$unionWith", Bson::Document(union)) => vec![bson!({ "$unionWith": union })],
        (name, value) => vec![bson!({ name: rewritten(&value)? })],
    })
}

/// A stage in which nothing is a filter.
fn told_from_filters(name: &str, value: Bson) -> Bson {
    match name {
        "$project" | "$addFields" | "$set" | "$group" | "$replaceRoot" | "$replaceWith" => {
            with_exact_constants(value)
        }
        _ => value,
    }
}

fn automatic(bucket: Document) -> Result<Vec<Bson>, CommandError> {
    if let Some(stages) = buckets::rewritten_buckets(&bucket, grouped)? {
        return Ok(stages);
    }
    let (bucket, after) = with_output(bucket, "output")?;
    let mut stages = vec![bson!({ "$bucketAuto": bucket })];
    stages.extend(after);
    Ok(stages)
}

/// The engine gives facets in an order of its own, and loses documents without fields in them: where there may be
/// some, documents are carried in a field.
fn faceted(mut facets: Document) -> Vec<Bson> {
    let carried = format!("{HELPER}Carried");
    let mut in_order = Document::new();
    for (name, stages) in facets.iter_mut() {
        let mut read = Bson::String(format!("${name}"));
        if let Some(stages) = stages.as_array_mut().filter(|stages| may_empty(stages)) {
            stages.push(bson!({ "$replaceWith": { &carried: "$$ROOT" } }));
            let document = format!("$$this.{carried}");
            read = bson!({ "$map": { "input": read, "in": document } });
        }
        in_order.insert(name, read);
    }
    let is_as_it_is =
        matches!(in_order.values().next(), Some(Bson::String(_)) if in_order.len() == 1);
    let mut stages = vec![bson!({ "$facet": facets })];
    stages.extend((!is_as_it_is).then(|| bson!({ "$replaceWith": in_order })));
    stages
}

/// Whether stages may leave documents without any field.
fn may_empty(stages: &[Bson]) -> bool {
    let mut names = stages.iter().filter_map(|stage| only(stage.as_document()?));
    names.any(|(name, _)| {
        matches!(
            name,
            "$project" | "$unset" | "$replaceRoot" | "$replaceWith" | "$redact"
        )
    })
}

/// Fields that are added: an empty object is a value, into which the engine would merge what is there. Nothing may be
/// added, which the engine refuses.
fn added(fields: Document) -> Bson {
    if fields.is_empty() {
        return bson!({ format!("{HELPER}Nothing"): "$$REMOVE" });
    }
    fn with_values(fields: Document) -> Document {
        let value = |value: Bson| match value {
            Bson::Document(inner) if inner.is_empty() => bson!({ "$literal": {} }),
            Bson::Document(inner) if !has_operator(&inner) => Bson::Document(with_values(inner)),
            other => other,
        };
        let fields = fields.into_iter();
        fields.map(|(name, inner)| (name, value(inner))).collect()
    }
    Bson::Document(with_values(fields))
}

/// `$densify` between bounds: MongoDB adds documents to partitions in which one has the field, the engine to all. Those
/// without it are partitions of their own, to which nothing is added.
fn densified(mut densify: Document) -> Result<Vec<Bson>, CommandError> {
    let field = densify.get_str("field").unwrap_or_default().to_owned();
    let range = densify.get_document("range");
    let is_bounded = range.is_ok_and(|range| range.get_array("bounds").is_ok());
    let (nothing, own) = (format!("{HELPER}Nothing"), format!("{HELPER}Own"));
    match densify.get_array_mut("partitionByFields") {
        Ok(parts) if is_bounded && !parts.is_empty() && is_plain_field(&field) => {
            parts.push(Bson::String(nothing.clone()));
        }
        _ => return stepped(densify),
    }
    let value = bson!({ "$ifNull": [format!("${field}"), null] });
    let is_nothing = bson!({ "$eq": [value, null] });
    let mut stages = vec![bson!({ "$set": { &nothing: is_nothing, &own: true } })];
    stages.extend(stepped(densify)?);
    stages.push(bson!({ "$match": { "$or": [{ &nothing: false }, { &own: true }] } }));
    stages.push(bson!({ "$unset": [nothing, own] }));
    Ok(stages)
}

/// `$densify` of dates: the engine steps by seconds that have a fraction, and loses a millisecond now and then.
fn stepped(densify: Document) -> Result<Vec<Bson>, CommandError> {
    let what = "$densify of dates with milliseconds";
    let field = densify.get_str("field").unwrap_or_default().to_owned();
    let range = densify.get_document("range").cloned().unwrap_or_default();
    let stage = bson!({ "$densify": rewritten(&Bson::Document(densify))? });
    if !range.contains_key("unit") || !is_plain_field(&field) {
        return Ok(vec![stage]);
    }
    if let Ok(bounds) = range.get_array("bounds") {
        let has_fraction = |bound: &Bson| matches!(bound, Bson::DateTime(date) if date.timestamp_millis() % 1000 != 0);
        if bounds.first().is_some_and(has_fraction) {
            return Err(CommandError::not_supported(what));
        }
        return Ok(vec![stage]);
    }
    let value = format!("${field}");
    let has_fraction = bson!({ "$cond": [
        { "$eq": [{ "$type": &value }, "date"] }, { "$ne": [{ "$millisecond": &value }, 0] }, false,
    ] });
    let checked = bson!({ "$cond": [has_fraction, refuse(what, &value), &value] });
    Ok(vec![bson!({ "$set": { field: checked } }), stage])
}

/// The engine goes into an array by a number, and puts no index where the array was.
fn unwound(unwind: Bson) -> Result<Vec<Bson>, CommandError> {
    let mut unwind = match unwind {
        Bson::String(path) => doc! { "path": path },
        Bson::Document(unwind) => unwind,
        other => return Ok(vec![bson!({ "$unwind": other })]),
    };
    let path = unwind.get_str("path").unwrap_or_default();
    let path = path.strip_prefix('$').unwrap_or(path).to_owned();
    let mut stages = Vec::new();
    let arrays = arrays_before_numbers(&path);
    if !arrays.is_empty() {
        if matches!(unwind.get_bool("preserveNullAndEmptyArrays"), Ok(true)) {
            return Err(CommandError::not_supported(
                "$unwind of a path with a number that keeps documents without an array",
            ));
        }
        let is_none = bson!({ "$not": [{ "$or": arrays }] });
        stages.push(bson!({ "$match": { "$expr": is_none } }));
    }
    let is_within = |path: &str, other: &str| {
        path.strip_prefix(other)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let index = unwind
        .get_str("includeArrayIndex")
        .unwrap_or_default()
        .to_owned();
    if index.is_empty() || !(is_within(&path, &index) || is_within(&index, &path)) {
        stages.push(bson!({ "$unwind": unwind }));
        return Ok(stages);
    }
    let helper = format!("{HELPER}Index");
    unwind.insert("includeArrayIndex", helper.as_str());
    stages.push(bson!({ "$unwind": unwind }));
    stages.push(bson!({ "$set": { index: format!("${helper}") } }));
    stages.push(bson!({ "$unset": helper }));
    Ok(stages)
}

/// Whether what stands before each number of a path is an array: there is nothing behind it at MongoDB.
fn arrays_before_numbers(path: &str) -> Vec<Bson> {
    let is_number =
        |part: &str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
    let points = path.match_indices('.').map(|(point, _)| point);
    let numbers = points.filter(|point| {
        let next = path[point + 1..].split('.').next();
        next.is_some_and(is_number)
    });
    numbers
        .map(|point| bson!({ "$isArray": [format!("${}", &path[..point])] }))
        .collect()
}

/// A sort's keys with the direction that a decimal is rounded to.
pub(super) fn directed(keys: Document) -> Document {
    let whole = |order: Bson| match (&order, direction(&order)) {
        (Bson::Decimal128(_), Some(1.0)) => Bson::Int32(1),
        (Bson::Decimal128(_), Some(-1.0)) => Bson::Int32(-1),
        _ => order,
    };
    keys.into_iter()
        .map(|(path, order)| (path, whole(order)))
        .collect()
}

const DECISIONS: [&str; 3] = ["$$KEEP", "$$PRUNE", "$$DESCEND"];

/// What `$redact` decides by: a text is no decision, whatever it says.
fn decided(decision: Bson) -> Bson {
    let all = |values: Vec<Bson>| values.into_iter().map(decided).collect::<Vec<Bson>>();
    let in_fields = |fields: Document, names: &[&str]| {
        let fields = fields.into_iter().map(|(name, value)| {
            let is_result = names.contains(&name.as_str());
            (name, if is_result { decided(value) } else { value })
        });
        fields.collect::<Document>()
    };
    if let Some((operator, operand)) = decision.as_document().and_then(only) {
        match (operator, operand.clone()) {
            ("$cond", Bson::Array(mut parts)) if parts.len() == 3 => {
                let results = all(parts.split_off(1));
                parts.extend(results);
                return bson!({ "$cond": parts });
            }
            ("$cond", Bson::Document(parts)) => {
                return bson!({ "$cond": in_fields(parts, &["then", "else"]) });
            }
            ("$ifNull", Bson::Array(values)) => return bson!({ "$ifNull": all(values) }),
            ("$let", Bson::Document(parts)) => return bson!({ "$let": in_fields(parts, &["in"]) }),
            ("$switch", Bson::Document(parts)) => {
                let mut parts = in_fields(parts, &["default"]);
                if let Ok(branches) = parts.get_array_mut("branches") {
                    for branch in branches.iter_mut().filter_map(Bson::as_document_mut) {
                        *branch = in_fields(std::mem::take(branch), &["then"]);
                    }
                }
                return bson!({ "$switch": parts });
            }
            _ => {}
        }
    }
    let is_variable = |text: &str| text.starts_with("$$") && !text.contains('.');
    if reads(&decision, &is_variable) {
        return decision;
    }
    let is_text = bson!({ "$in": [decision.clone(), { "$literal": DECISIONS.to_vec() }] });
    bson!({ "$cond": [is_text, 0, decision] })
}

/// Whether it is what `$sortByCount` takes; the engine says what is wrong with others.
fn is_key(key: &Bson) -> bool {
    match key {
        Bson::String(path) => path.starts_with('$'),
        Bson::Document(fields) => only(fields).is_some_and(|(name, _)| name.starts_with('$')),
        _ => false,
    }
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
            other => or_null(other),
        };
        group.insert("_id", key);
    }
    let key = group.remove("_id");
    let accumulators = Accumulators::of(&accumulated(&group))?;
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
    let accumulators = Accumulators::of(&accumulated(&output))?;
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
