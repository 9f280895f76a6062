//! The keys of a sort that a later group goes by. The engine finds what is first and
//! last in a group by the keys of the sort before it, read from the documents as they
//! reach the group: keys that a stage in between leaves out or changes are carried
//! along in a helper field.

use bson::{Bson, Document, bson};

use super::accumulators::HELPER;
use super::expressions::only;
use crate::error::CommandError;

/// Accumulators that go by the order of a sort.
const ORDERED: [&str; 4] = ["$first", "$last", "$firstN", "$lastN"];
/// Stages that leave the fields of a document.
const LEAVING: [&str; 5] = ["$match", "$limit", "$skip", "$lookup", "$graphLookup"];
/// Stages behind which another sort counts, or none.
pub(super) const ENDING: [&str; 7] = [
    "$sort",
    "$group",
    "$bucket",
    "$bucketAuto",
    "$sortByCount",
    "$count",
    "$facet",
];

/// Returns a pipeline that carries sort keys along, if it has to.
///
/// # Errors
/// Where a stage in between makes other documents.
pub(super) fn with_keys(pipeline: &[Bson]) -> Result<Option<Vec<Bson>>, CommandError> {
    let parts: Vec<Option<(&str, &Bson)>> = pipeline
        .iter()
        .map(|stage| stage.as_document().and_then(only))
        .collect();
    for (group, part) in parts.iter().enumerate() {
        if !part.is_some_and(|(name, value)| is_ordered(name, value)) {
            continue;
        }
        let ends =
            |part: &Option<(&str, &Bson)>| part.is_none_or(|(name, _)| ENDING.contains(&name));
        let between = parts[..group].iter().rposition(ends);
        let Some((sort, Some(("$sort", Bson::Document(keys))))) =
            between.map(|sort| (sort, parts[sort]))
        else {
            continue;
        };
        let is_plain = |(path, order): (&String, &Bson)| {
            !path.starts_with('$') && crate::commands::whole(order).is_some()
        };
        let stages = &pipeline[sort + 1..group];
        if !keys.iter().all(is_plain) || stages.iter().all(|stage| leaves(stage, keys)) {
            continue;
        }
        let carried = carried(keys, stages, &pipeline[group])?;
        let before = pipeline[..=sort].iter().cloned();
        let after = &pipeline[group + 1..];
        let after = with_keys(after)?.unwrap_or_else(|| after.to_vec());
        return Ok(Some(before.chain(carried).chain(after).collect()));
    }
    Ok(None)
}

/// What stands behind a sort, up to and with the group.
fn carried(keys: &Document, stages: &[Bson], group: &Bson) -> Result<Vec<Bson>, CommandError> {
    let helper = format!("{HELPER}Keys");
    let (mut values, mut sort) = (Document::new(), Document::new());
    for (number, (path, order)) in keys.iter().enumerate() {
        values.insert(format!("k{number}"), format!("${path}"));
        sort.insert(format!("{helper}.k{number}"), order.clone());
    }
    let mut carried = vec![bson!({ "$set": { &helper: values } })];
    for stage in stages {
        let Some((name, value)) = stage.as_document().and_then(only) else {
            return Err(CommandError::internal());
        };
        match (name, value) {
            ("$project", Bson::Document(projection)) if includes(projection) => {
                let mut projection = projection.clone();
                projection.insert(&helper, 1);
                carried.push(without(&bson!({ "$project": projection }), &helper));
            }
            ("$project" | "$set" | "$addFields" | "$unset" | "$unwind", _) => {
                carried.push(without(stage, &helper));
            }
            ("$replaceRoot", Bson::Document(root)) if root.contains_key("newRoot") => {
                let kept = kept(root.get("newRoot").unwrap_or(&Bson::Null), &helper);
                carried.push(bson!({ "$replaceRoot": { "newRoot": kept } }));
            }
            ("$replaceWith", root) => {
                carried.push(bson!({ "$replaceWith": kept(root, &helper) }));
            }
            (name, _) if LEAVING.contains(&name) => carried.push(without(stage, &helper)),
            (name, _) => {
                return Err(CommandError::not_supported(format_args!(
                    "{name} between a $sort and a $group of what comes first or last"
                )));
            }
        }
    }
    carried.push(bson!({ "$sort": sort }));
    carried.push(without(group, &helper));
    Ok(carried)
}

/// A new root with the helper beside what it holds; what is no document fails as it does.
fn kept(root: &Bson, helper: &str) -> Bson {
    let root = without(root, helper);
    let is_document = bson!({ "$eq": [{ "$type": root.clone() }, "object"] });
    let both = bson!({ "$mergeObjects": [root.clone(), { helper: format!("${helper}") }] });
    bson!({ "$cond": [is_document, both, root] })
}

/// A stage that sees no helper in whole documents.
pub(crate) fn without(value: &Bson, helper: &str) -> Bson {
    match value {
        Bson::String(text) if text == "$$ROOT" || text == "$$CURRENT" => {
            bson!({ "$unsetField": { "field": helper, "input": "$$ROOT" } })
        }
        Bson::Document(inner) => {
            let fields = inner.iter();
            let fields = fields.map(|(name, value)| (name.clone(), without(value, helper)));
            Bson::Document(fields.collect())
        }
        Bson::Array(values) => values.iter().map(|value| without(value, helper)).collect(),
        other => other.clone(),
    }
}

/// Whether a stage groups by accumulators that go by an order.
fn is_ordered(name: &str, value: &Bson) -> bool {
    let made = match (name, value) {
        ("$group", Bson::Document(group)) => Some(group),
        ("$bucket", Bson::Document(bucket)) => bucket.get_document("output").ok(),
        _ => None,
    };
    made.into_iter()
        .flat_map(Document::values)
        .filter_map(|made| only(made.as_document()?))
        .any(|(operator, _)| ORDERED.contains(&operator))
}

/// Whether a stage leaves the fields that are sorted by as they are.
pub(super) fn leaves(stage: &Bson, keys: &Document) -> bool {
    let Some((name, value)) = stage.as_document().and_then(only) else {
        return true;
    };
    let touches = |path: &str| keys.keys().any(|key| root(key) == root(path));
    match (name, value) {
        ("$project", Bson::Document(projection)) if includes(projection) => {
            keys.keys().all(|key| is_kept(projection, key))
        }
        ("$project" | "$set" | "$addFields", Bson::Document(fields)) => {
            !fields.keys().any(|path| touches(path))
        }
        ("$unset", Bson::String(path)) => !touches(path),
        ("$unset", Bson::Array(paths)) => !paths.iter().filter_map(Bson::as_str).any(touches),
        ("$unwind", Bson::String(path)) => !touches(path.trim_start_matches('$')),
        ("$unwind", Bson::Document(unwind)) => {
            let path = unwind.get_str("path").unwrap_or_default();
            !touches(path.trim_start_matches('$'))
        }
        ("$lookup" | "$graphLookup", Bson::Document(lookup)) => {
            !lookup.get_str("as").is_ok_and(touches)
        }
        ("$replaceRoot" | "$replaceWith", _) => false,
        _ => true,
    }
}

fn root(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

fn is_kept(projection: &Document, key: &str) -> bool {
    let own = projection.get(key).or_else(|| projection.get(root(key)));
    match own {
        None => key == "_id",
        Some(Bson::Boolean(is_kept)) => *is_kept,
        Some(value) => crate::commands::whole(value).is_some_and(|number| number != 0),
    }
}

/// Whether a projection says what is kept: all others keep what they do not name.
fn includes(projection: &Document) -> bool {
    projection.values().any(|value| match value {
        Bson::Boolean(is_kept) => *is_kept,
        value => crate::commands::whole(value).is_none_or(|number| number != 0),
    })
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn of(stage: Bson) -> Result<Option<Vec<Bson>>, CommandError> {
        let group = doc! { "_id": null, "l": { "$last": "$_id" } };
        with_keys(&[
            bson!({ "$sort": { "k": 1 } }),
            stage,
            bson!({ "$group": group }),
        ])
    }

    #[test]
    fn keys_are_carried_past_what_takes_them_away() {
        for stage in [
            bson!({ "$project": { "z": 1 } }),
            bson!({ "$project": { "k": { "$add": ["$k", 1] } } }),
            bson!({ "$project": { "k": 0 } }),
            bson!({ "$set": { "k": 5 } }),
            bson!({ "$unset": ["k"] }),
            bson!({ "$unwind": "$k" }),
            bson!({ "$replaceRoot": { "newRoot": "$a" } }),
            bson!({ "$replaceWith": { "z": 1 } }),
        ] {
            let carried = of(stage.clone());
            assert_eq!(carried.unwrap().unwrap().len(), 5, "{stage}");
        }
        let other = of(bson!({ "$sample": { "size": 2 } }));
        assert_eq!(other, Ok(None));
        let sort = bson!({ "$sort": { "k": 1 } });
        let dropped = bson!({ "$project": { "z": 1 } });
        let last = bson!({ "$group": { "_id": null, "k": { "$last": "$z" } } });
        let pair = [sort.clone(), dropped.clone(), last.clone()];
        let twice = [pair.clone(), pair].concat();
        assert_eq!(with_keys(&twice).unwrap().unwrap().len(), 10);
        let buckets = bson!({ "$bucketAuto": { "groupBy": "$z", "buckets": 2 } });
        assert_eq!(with_keys(&[sort, dropped, buckets, last]), Ok(None));
    }

    #[test]
    fn keys_that_stay_need_no_help() {
        for stage in [
            bson!({ "$match": { "k": 1 } }),
            bson!({ "$limit": 5 }),
            bson!({ "$project": { "k": 1 } }),
            bson!({ "$project": { "z": 0 } }),
            bson!({ "$set": { "z": 5 } }),
            bson!({ "$unwind": { "path": "$z" } }),
        ] {
            assert_eq!(of(stage.clone()).unwrap(), None, "{stage}");
        }
        let pushed = [
            bson!({ "$sort": { "k": 1 } }),
            bson!({ "$project": { "z": 1 } }),
            bson!({ "$group": { "_id": null, "l": { "$push": "$z" } } }),
        ];
        assert_eq!(with_keys(&pushed).unwrap(), None);
    }
}
