//! Places in arrays. MongoDB looks for each place of an array of GeoJSON objects; the
//! engine only where it has an index of them, which takes no such arrays. Whether a
//! collection holds some is looked up before.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocumentBuf, doc};

use crate::commands::{Answer, Call, parallel, raw, reading, without};
use crate::error::CommandError;

const OPERATORS: [&str; 2] = ["$geoWithin", "$geoIntersects"];

/// Returns a query that looks into arrays of places, if a collection has some.
pub(in crate::commands) async fn query(
    call: &Call<'_>,
    collection: &str,
    spec: RawDocumentBuf,
    field: &str,
) -> Answer {
    let Some(RawBsonRef::Document(filter)) = spec.get(field)? else {
        return Ok(spec);
    };
    let Some(filter) = spread(call, collection, &Document::try_from(filter)?).await? else {
        return Ok(spec);
    };
    let mut query = Document::try_from(spec)?;
    query.insert(field, filter);
    Ok(raw(&query))
}

/// Returns a pipeline whose first filters do.
pub(in crate::commands) async fn pipeline(call: &Call<'_>, spec: RawDocumentBuf) -> Answer {
    let (Ok(collection), Ok(stages)) = (spec.get_str("aggregate"), spec.get_array("pipeline"))
    else {
        return Ok(spec);
    };
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(stages))? else {
        return Ok(spec);
    };
    let mut is_changed = false;
    for stage in &mut stages {
        let Some(filter) = stage
            .as_document_mut()
            .and_then(|stage| stage.get_document_mut("$match").ok())
        else {
            break;
        };
        if let Some(spread) = spread(call, collection, filter).await? {
            *filter = spread;
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(spec);
    }
    let mut changed = without(&spec, &["pipeline"])?;
    changed.append(
        bson::cstr!("pipeline"),
        RawBson::try_from(Bson::Array(stages))?,
    );
    Ok(changed)
}

async fn spread(
    call: &Call<'_>,
    collection: &str,
    filter: &Document,
) -> Result<Option<Document>, CommandError> {
    let mut paths = Vec::new();
    collect(filter, &mut paths);
    if paths.is_empty() {
        return Ok(None);
    }
    let keys = parallel::known(call, collection).await;
    paths.retain(|path| {
        let is_of_places = |index: &Document| {
            let kind = index.get_document("key").and_then(|key| key.get_str(path));
            kind.is_ok_and(|kind| kind == "2dsphere")
        };
        !keys.indexes.iter().any(is_of_places)
    });
    if paths.is_empty() {
        return Ok(None);
    }
    let arrays = paths
        .iter()
        .map(|path| doc! { path: { "$elemMatch": { "$type": "object" } } });
    let arrays = doc! { "$or": arrays.collect::<Vec<Document>>() };
    let find =
        doc! { "find": collection, "filter": arrays, "projection": { "_id": 1 }, "limit": 1 };
    // Of a view nothing is known.
    let found = reading::ids_of(call, &raw(&find)).await.unwrap_or_default();
    Ok((!found.is_empty()).then(|| written(filter, &paths)))
}

fn parts(value: &Bson) -> impl Iterator<Item = &Document> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
}

/// The paths that are asked for places.
fn collect(filter: &Document, paths: &mut Vec<String>) {
    for (name, value) in filter {
        if matches!(name.as_str(), "$and" | "$or" | "$nor") {
            parts(value).for_each(|part| collect(part, paths));
            continue;
        }
        let Some(operators) = value.as_document().filter(|_| !name.starts_with('$')) else {
            continue;
        };
        let negated = operators.get_document("$not").ok();
        let asks = |operators: &Document| OPERATORS.iter().any(|one| operators.contains_key(one));
        if asks(operators) || negated.is_some_and(asks) {
            paths.push(name.clone());
        }
    }
}

fn written(filter: &Document, paths: &[String]) -> Document {
    let (mut written, mut conditions) = (Document::new(), Vec::new());
    for (name, value) in filter {
        match value {
            Bson::Array(_) if matches!(name.as_str(), "$and" | "$or" | "$nor") => {
                let parts = parts(value).map(|part| self::written(part, paths));
                written.insert(name, parts.collect::<Vec<Document>>());
            }
            Bson::Document(operators) if paths.contains(name) => {
                let mut others = Document::new();
                for (operator, value) in operators {
                    match value {
                        value if OPERATORS.contains(&operator.as_str()) => {
                            conditions.push(anywhere(name, &doc! { operator: value.clone() }));
                        }
                        Bson::Document(negated) if operator == "$not" => {
                            conditions.push(
                                doc! { "$nor": [self::written(&doc! { name: negated }, paths)] },
                            );
                        }
                        _ => drop(others.insert(operator, value.clone())),
                    }
                }
                if !others.is_empty() {
                    written.insert(name, others);
                }
            }
            _ => drop(written.insert(name, value.clone())),
        }
    }
    if !conditions.is_empty() {
        let mut all: Vec<Document> = written
            .get("$and")
            .map(|all| parts(all).cloned().collect())
            .unwrap_or_default();
        all.extend(conditions);
        written.insert("$and", all);
    }
    written
}

/// A condition on a place or on one of an array.
fn anywhere(path: &str, condition: &Document) -> Document {
    doc! { "$or": [{ path: condition }, { path: { "$elemMatch": condition } }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_looked_for_in_arrays_too() {
        let shape = doc! { "$geoWithin": { "$box": [[0, 0], [1, 1]] } };
        let mut asked = shape.clone();
        asked.insert("$exists", true);
        let filter = doc! { "a": asked, "$or": [{ "b": { "$not": shape.clone() } }, { "c": 1 }] };
        let mut paths = Vec::new();
        collect(&filter, &mut paths);
        assert_eq!(paths, ["a", "b"]);
        let negated = doc! { "$and": [{ "$nor": [{ "$and": [anywhere("b", &shape)] }] }] };
        assert_eq!(
            written(&filter, &paths),
            doc! {
                "a": { "$exists": true },
                "$or": [negated, { "c": 1 }],
                "$and": [anywhere("a", &shape)],
            }
        );
    }
}
