//! Finds as aggregations, where the engine's find does not do what MongoDB's does.

pub(super) mod spread;

use bson::{Bson, Document, RawDocument, doc};

use crate::error::CommandError;
use crate::pipeline::{as_stage, has_least, is_near_inside};

/// Where a distance is kept on the way.
const DISTANCE: &str = "arenaDistance";

/// Whether a projection is one that only a find knows.
pub(super) fn is_finds_own(projection: &Document) -> bool {
    projection.iter().any(|(path, value)| {
        let operators = value.as_document();
        path.ends_with(".$")
            || operators.is_some_and(|value| {
                value.contains_key("$elemMatch") || value.contains_key("$slice")
            })
    })
}

/// Returns a find as an aggregation whose first stages find its documents and sort them, and leave helpers that the
/// last ones take away; nothing where it projects in a way that only a find knows.
pub(super) fn of_find(
    find: &Document,
    mut stages: Vec<Document>,
    without_helpers: Vec<Document>,
) -> Option<Document> {
    let projection = find.get_document("projection").cloned().unwrap_or_default();
    if is_finds_own(&projection) {
        return None;
    }
    let number = |field: &str| {
        find.get(field)
            .and_then(super::whole)
            .filter(|number| *number > 0)
    };
    let is_single = find.get_bool("singleBatch").unwrap_or(false);
    let limit = number("limit").or_else(|| number("batchSize").filter(|_| is_single));
    stages.extend(number("skip").map(|skip| doc! { "$skip": skip }));
    stages.extend(limit.map(|limit| doc! { "$limit": limit }));
    stages.extend(without_helpers);
    if !projection.is_empty() {
        stages.push(doc! { "$project": projection });
    }
    let cursor = match find.get("batchSize") {
        Some(size) => doc! { "batchSize": size.clone() },
        None => Document::new(),
    };
    let mut spec =
        doc! { "aggregate": find.get("find").cloned(), "pipeline": stages, "cursor": cursor };
    for field in ["let", "collation"] {
        spec.extend(find.get(field).map(|part| (field.to_owned(), part.clone())));
    }
    Some(spec)
}

/// Returns a find of what is near as an aggregation, which may ask for anything else, and for what is not too near;
/// nothing for others, and where only the engine knows how it is written.
pub(super) fn of_near(find: &RawDocument) -> Result<Option<Document>, CommandError> {
    let Ok(filter) = find.get_document("filter") else {
        return Ok(None);
    };
    let Some((mut near, query)) = taken(&Document::try_from(filter)?) else {
        return Ok(None);
    };
    let find = Document::try_from(find)?;
    let sort = find.get_document("sort").cloned().unwrap_or_default();
    let is_plain =
        |(path, order): (&String, &Bson)| !path.starts_with('$') && super::whole(order).is_some();
    let projection = find.get_document("projection").into_iter().flatten();
    let mut meta = projection.filter_map(|(_, value)| value.as_document()?.get("$meta"));
    if !sort.iter().all(is_plain) || meta.next().is_some() || find.contains_key("hint") {
        return Ok(None);
    }
    near.insert("query", query);
    let mut stages = vec![doc! { "$geoNear": near }];
    stages.extend((!sort.is_empty()).then(|| doc! { "$sort": sort }));
    Ok(of_find(&find, stages, vec![doc! { "$unset": DISTANCE }]))
}

/// Takes what is near out of a filter: the stage that finds it, and the rest.
fn taken(filter: &Document) -> Option<(Document, Document)> {
    let mut rest = filter.clone();
    for (name, value) in filter {
        match (name.as_str(), value) {
            ("$and", Bson::Array(parts)) => {
                let found = parts.iter().enumerate().find_map(|(number, part)| {
                    let (stage, part) = taken(part.as_document()?)?;
                    Some((number, stage, part))
                });
                if let Some((number, stage, part)) = found {
                    let mut parts = parts.clone();
                    parts[number] = Bson::Document(part);
                    rest.insert(name, parts);
                    return Some((stage, rest));
                }
            }
            (path, Bson::Document(operators)) if !path.starts_with('$') => {
                if let Some((stage, others)) = as_stage(path, operators, DISTANCE) {
                    if others.is_empty() {
                        rest.remove(path);
                    } else {
                        rest.insert(path, others);
                    }
                    return Some((stage, rest));
                }
            }
            _ => {}
        }
    }
    None
}

/// What must not be too near is known to a `$geoNear` alone.
pub(super) fn check_near(name: &str, query: &RawDocument) -> Result<(), CommandError> {
    let filter = query
        .get_document("filter")
        .or_else(|_| query.get_document("query"));
    let Ok(filter) = filter else {
        return Ok(());
    };
    let filter = Document::try_from(filter)?;
    check_conditions(&filter)?;
    if !is_least(&filter) || (name == "find" && of_near(query)?.is_some()) {
        return Ok(());
    }
    Err(CommandError::not_supported(format_args!(
        "$minDistance in such a {name}"
    )))
}

/// Fails where a filter has what MongoDB refuses, as something near in a part of it.
pub(super) fn check_conditions(filter: &Document) -> Result<(), CommandError> {
    crate::pipeline::check_conditions(filter)?;
    if is_near_inside(filter) {
        return Err(CommandError::bad_value("geo $near must be top-level expr"));
    }
    Ok(())
}

fn is_least(filter: &Document) -> bool {
    filter.iter().any(|(name, value)| match value {
        Bson::Document(operators) => has_least(operators),
        Bson::Array(parts) if name == "$and" => {
            parts.iter().filter_map(Bson::as_document).any(is_least)
        }
        _ => false,
    })
}
