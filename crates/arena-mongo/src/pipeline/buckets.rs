//! `$bucketAuto`. MongoDB fills each bucket with the rounded share of the documents
//! and the last one with the rest; the engine spreads the rest over the first ones.
//! The values are counted, the buckets' beginnings chosen as MongoDB does, rounded
//! where a granularity is asked for, and the documents grouped by them.

use std::collections::BTreeSet;

use bson::{Bson, Document, bson, doc};

use super::accumulators::{HELPER, has_operator};
use super::expressions::{only, rewritten};
use super::granularity::Granularity;
use crate::error::CommandError;

/// What a stage asks for.
#[derive(Debug)]
struct Buckets<'a> {
    key: &'a Bson,
    count: i32,
    granularity: Option<Granularity>,
    /// Its accumulators, if it has any.
    output: Option<&'a Document>,
}

/// Returns a stage and the accumulators of its buckets, if its buckets are chosen here; the engine says what is wrong
/// with others.
pub(super) fn rewritten_buckets(
    stage: &Document,
    grouped: impl Fn(Document) -> Result<Vec<Bson>, CommandError>,
) -> Result<Option<Vec<Bson>>, CommandError> {
    let Some(asked) = asked(stage) else {
        return Ok(None);
    };
    let key = rewritten(asked.key)?;
    let key = match asked.granularity {
        Some(granularity) => granularity.checked(&key),
        None => bson!({ "$ifNull": [key, Bson::Null] }),
    };
    let mut stages = beginnings(&key, &asked);
    let mut corrected = doc! { "_id": bounds() };
    let output = asked.output;
    let bucket = doc! { "place": "$place", "begins": "$begins.at", "last": "$last" };
    let helper = format!("{HELPER}Bucket");
    let (key, output) = match output {
        None => (
            Bson::Document(bucket),
            doc! { "count": { "$sum": "$keys.count" } },
        ),
        Some(output) => {
            let document = bson!({ "$mergeObjects": ["$keys.of", { &helper: bucket }] });
            stages.push(bson!({ "$unwind": "$keys.of" }));
            stages.push(bson!({ "$replaceWith": document }));
            let output = output.iter().map(|(name, value)| {
                let value = without(value, &helper);
                match extreme(&value) {
                    Some((order, operand)) => {
                        corrected.insert(name, furthest(order, &format!("${name}")));
                        (name.clone(), bson!({ "$push": operand }))
                    }
                    None => (name.clone(), value),
                }
            });
            (Bson::String(format!("${helper}")), output.collect())
        }
    };
    let mut group = doc! { "_id": key };
    group.extend(output);
    stages.extend(grouped(group)?);
    stages.push(bson!({ "$sort": { "_id.place": 1 } }));
    stages.push(bson!({ "$set": corrected }));
    Ok(Some(stages))
}

/// What orders the values of a bucket's `$max` or `$min`, and what they are.
fn extreme(accumulator: &Bson) -> Option<(&'static str, Bson)> {
    match only(accumulator.as_document()?)? {
        ("$max", operand) => Some(("$gt", operand.clone())),
        ("$min", operand) => Some(("$lt", operand.clone())),
        _ => None,
    }
}

/// The value furthest in an order: of those that are equal the first one; to the engine, as in a `$group`, the last.
fn furthest(order: &str, values: &str) -> Bson {
    let found = bson!({ "$filter": { "input": values, "cond": { "$ne": ["$$this", null] } } });
    let further = bson!({ "$cond": [{ order: ["$$this", "$$value"] }, "$$this", "$$value"] });
    let first = bson!({ "$arrayElemAt": ["$$arenaFound", 0] });
    let furthest =
        bson!({ "$reduce": { "input": "$$arenaFound", "initialValue": first, "in": further } });
    bson!({ "$let": { "vars": { "arenaFound": found }, "in": {
        "$cond": [{ "$eq": ["$$arenaFound", []] }, null, furthest],
    } } })
}

fn asked(stage: &Document) -> Option<Buckets<'_>> {
    let is_known = |name: &String| {
        matches!(
            name.as_str(),
            "groupBy" | "buckets" | "output" | "granularity"
        )
    };
    let key = stage.get("groupBy")?;
    let is_key = match key {
        Bson::String(path) => path.len() > 1 && path.starts_with('$'),
        Bson::Document(fields) => has_operator(fields),
        _ => false,
    };
    let count = crate::commands::whole(stage.get("buckets")?)?;
    let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
    let granularity = match stage.get("granularity") {
        None => None,
        Some(name) => Some(Granularity::named(name.as_str()?)?),
    };
    let (output, are_accumulators) = match stage.get("output") {
        None => (None, true),
        Some(Bson::Document(output)) => {
            let is_one = |value: &Bson| value.as_document().is_some_and(|one| one.len() == 1);
            let are_accumulators = !output.contains_key("_id") && output.values().all(is_one);
            (Some(output), are_accumulators)
        }
        Some(_) => (None, false),
    };
    let asked = Buckets {
        key,
        count,
        granularity,
        output: output.filter(|output| !output.is_empty()),
    };
    (is_key && are_accumulators && stage.keys().all(is_known)).then_some(asked)
}

/// One document for each value, which knows the number of its bucket and where buckets begin.
fn beginnings(key: &Bson, asked: &Buckets<'_>) -> Vec<Bson> {
    let of = match asked.output {
        None => bson!({ "$sum": 0 }),
        Some(output) => bson!({ "$push": needed(output) }),
    };
    let share = bson!({ "$floor": { "$add": [{ "$divide": ["$all", asked.count] }, 0.5] } });
    let last = bson!({ "$last": "$keys.last" });
    let last = match asked.granularity {
        Some(granularity) => granularity.within(granularity.up(&last)),
        None => last,
    };
    let before = bson!({ "input": "$begins.at", "cond": { "$lte": ["$$this", "$keys.key"] } });
    vec![
        // Of values that are equal and of several types the last one ends a bucket.
        bson!({ "$group": {
            "_id": key.clone(), "count": { "$sum": 1 }, "last": { "$last": key.clone() }, "of": of,
        } }),
        bson!({ "$sort": { "_id": 1 } }),
        bson!({ "$group": {
            "_id": null,
            "keys": { "$push": { "key": "$_id", "count": "$count", "last": "$last", "of": "$of" } },
            "all": { "$sum": "$count" },
        } }),
        bson!({ "$set": { "share": { "$max": [1, { "$toInt": share }] }, "last": last } }),
        bson!({ "$set": { "begins": begun(asked) } }),
        bson!({ "$unwind": "$keys" }),
        bson!({ "$set": { "place": { "$size": { "$filter": before } } } }),
    ]
}

/// Where buckets begin, in `at`. A bucket that is full takes values up to its rounded end, `to`.
fn begun(asked: &Buckets<'_>) -> Bson {
    let is_full = bson!({ "$and": [
        { "$lte": ["$$value.left", 0] },
        { "$lt": [{ "$size": "$$value.at" }, asked.count] },
    ] });
    let left = |of: &str| bson!({ "$subtract": [of, "$$this.count"] });
    let with = |begin: &Bson| bson!({ "$concatArrays": ["$$value.at", [begin.clone()]] });
    let none: [Bson; 0] = [];
    let Some(granularity) = asked.granularity else {
        let next = bson!({ "$cond": [
            is_full,
            { "at": with(&"$$this.key".into()), "left": left("$share") },
            { "at": "$$value.at", "left": left("$$value.left") },
        ] });
        let begun = bson!({ "at": none.to_vec(), "left": 0 });
        return bson!({ "$reduce": { "input": "$keys", "initialValue": begun, "in": next } });
    };
    let key = Bson::from("$$this.key");
    // The end of zero is zero, which nothing begins with.
    let is_below = bson!({ "$in": ["$$value.to", [null, 0]] });
    let begin = bson!({ "$cond": [is_below, granularity.down(&key), "$$value.to"] });
    let to = |left: &Bson| bson!({ "$cond": [{ "$lte": [left.clone(), 0] }, granularity.up(&key), null] });
    let opened = left("$share");
    let filled = left("$$value.left");
    let next = bson!({ "$switch": {
        "branches": [
            {
                "case": { "$and": [is_full.clone(), { "$or": [
                    { "$eq": ["$$value.to", null] },
                    { "$gte": ["$$this.key", "$$value.to"] },
                ] }] },
                "then": { "at": with(&begin), "left": opened.clone(), "to": to(&opened) },
            },
            { "case": is_full, "then": "$$value" },
        ],
        "default": {
            "at": "$$value.at",
            "left": filled.clone(),
            "to": to(&filled),
        },
    } });
    let begun = bson!({ "at": none.to_vec(), "left": 0, "to": null });
    let ends = bson!({ "$reduce": { "input": "$keys", "initialValue": begun, "in": next } });
    granularity.within(ends)
}

/// A bucket ends where the next one begins, the last one with its last value.
fn bounds() -> Bson {
    let begin = bson!({ "$arrayElemAt": ["$_id.begins", { "$subtract": ["$_id.place", 1] }] });
    let end = bson!({ "$cond": [
        { "$lt": ["$_id.place", { "$size": "$_id.begins" }] },
        { "$arrayElemAt": ["$_id.begins", "$_id.place"] },
        "$_id.last",
    ] });
    bson!({ "$mergeObjects": [{ "min": begin, "max": end }] })
}

/// What of a document its accumulators look at; all of it, where they do not say what.
fn needed(output: &Document) -> Bson {
    let mut fields = BTreeSet::new();
    if !output.values().all(|value| collect(value, &mut fields)) {
        return Bson::String("$$ROOT".to_owned());
    }
    if fields.is_empty() {
        return bson!({ "$literal": {} });
    }
    let field = |name: String| (name.clone(), Bson::String(format!("${name}")));
    Bson::Document(fields.into_iter().map(field).collect())
}

/// An expression that does not see the field in which a document knows its bucket.
fn without(value: &Bson, helper: &str) -> Bson {
    match value {
        Bson::String(text) => {
            let rest = ["$$ROOT", "$$CURRENT"]
                .iter()
                .find_map(|all| text.strip_prefix(all));
            match rest {
                Some("") => bson!({ "$unsetField": { "field": helper, "input": text } }),
                Some(path) if path.starts_with('.') => Bson::String(format!("${}", &path[1..])),
                _ => value.clone(),
            }
        }
        Bson::Document(fields) => {
            let fields = fields.iter();
            Bson::Document(
                fields
                    .map(|(name, value)| (name.clone(), without(value, helper)))
                    .collect(),
            )
        }
        Bson::Array(values) => {
            Bson::Array(values.iter().map(|value| without(value, helper)).collect())
        }
        other => other.clone(),
    }
}

/// Collects the fields that an expression names; false where it may look at others.
pub(super) fn collect(value: &Bson, fields: &mut BTreeSet<String>) -> bool {
    match value {
        Bson::String(text) if text.starts_with("$$ROOT") || text.starts_with("$$CURRENT") => false,
        Bson::String(text) if text.starts_with('$') && !text.starts_with("$$") => {
            let path = text.trim_start_matches('$');
            fields.insert(path.split('.').next().unwrap_or(path).to_owned());
            true
        }
        Bson::Document(inner) => inner.iter().all(|(name, value)| {
            let may_be_path = name == "sortBy";
            !matches!(name.as_str(), "$getField" | "$meta")
                && !may_be_path
                && collect(value, fields)
        }),
        Bson::Array(values) => values.iter().all(|value| collect(value, fields)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accumulators_need_what_they_name() {
        assert_eq!(
            needed(&doc! { "n": { "$sum": 1 } }),
            bson!({ "$literal": {} })
        );
        let named =
            doc! { "t": { "$push": "$title" }, "s": { "$sum": { "$add": ["$a.b", "$$x.y"] } } };
        assert_eq!(needed(&named), bson!({ "a": "$a", "title": "$title" }));
        let top = doc! { "t": { "$top": { "sortBy": { "year": 1 }, "output": "$title" } } };
        for whole in [doc! { "d": { "$push": "$$ROOT" } }, top] {
            assert_eq!(needed(&whole), Bson::String("$$ROOT".to_owned()), "{whole}");
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_the_engine() {
        for stage in [
            doc! { "groupBy": "$a" },
            doc! { "groupBy": 5, "buckets": 2 },
            doc! { "groupBy": "$a", "buckets": 0 },
            doc! { "groupBy": "$a", "buckets": 2.5 },
            doc! { "groupBy": "$a", "buckets": 2, "granularity": "R6" },
            doc! { "groupBy": "$a", "buckets": 2, "output": { "n": 1 } },
        ] {
            assert!(asked(&stage).is_none(), "{stage}");
        }
    }
}
